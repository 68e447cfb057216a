"""A stage's programs, compiled for where a run's arrays lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from eamm_jax.training.distributed import Placement
from eamm_jax.training.stage import Batch, Stage, TrainState

CPU_RUN_ONCE = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
"""Compiler options of XLA's CPU backend, which no other knows."""


def compile_step(
    stage: Stage, placement: Placement, state: TrainState, batch: Batch, rng: jax.Array
) -> jax.stages.Compiled:
    """The stage's step for sharded batches; it donates the state."""
    jitted = jax.jit(stage.train_step, donate_argnums=0, out_shardings=placement.replicated)
    return jitted.lower(state, batch, rng).compile()


def compile_panel(stage: Stage, placement: Placement) -> Callable[[TrainState, Batch], jax.Array]:
    """The stage's panel as one uint8 image; compiled when it is first wanted."""

    def image(state: TrainState, batch: Batch) -> jax.Array:
        rows = jnp.round(255 * stage.panel(state, batch)).astype(jnp.uint8)
        return rows.reshape(-1, *rows.shape[2:])

    return jax.jit(image, out_shardings=placement.replicated)


def jit_once(function: Callable[..., Any], placement: Placement) -> Callable[..., Any]:
    """Compiles a program that runs once: on a CPU without optimizations, which take longer."""
    options = CPU_RUN_ONCE if jax.default_backend() == "cpu" else None
    return jax.jit(function, out_shardings=placement.replicated, compiler_options=options)
