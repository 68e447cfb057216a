"""A stage that compiles in no time, for tests of what surrounds a stage."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from eamm_jax.checkpoint import nest, variable_shapes
from eamm_jax.models.config import ModelConfig
from eamm_jax.training.config import base_config
from eamm_jax.training.stage import Batch, Metrics, Stage, TrainState
from eamm_jax.types import Array

NETWORK = "kp_detector_a"
"""Trained by the toy; any would do, as it is never applied."""

MANY = 10**9
"""Steps that nobody takes."""


def toy_config(data: str, **fields: Any) -> ConfigDict:
    """A configuration of pairs of frames for the toy."""
    config = base_config("stage0")
    config.data = f"voxceleb={data}"
    config.model = "tiny"
    config.size = 64
    config.batch_size = 2
    config.workers = 0
    config.threads = 1
    config.validation_fraction = 0.0
    config.log_every = 1
    config.panel_every = 0
    config.bad_after = MANY
    config.update(fields)
    return config


def zeros(network: str, config: ModelConfig) -> dict[str, Any]:
    """Variables of a network, all zero."""
    shapes = variable_shapes(network, config)
    return nest({path: np.zeros(shape, np.float32) for path, shape in shapes.items()})


def make_toy_stage(config: ConfigDict, model_config: ModelConfig) -> Stage:
    """Learns the mean brightness of frames, with noise from the step's key.

    Steps from number `config.bad_after` on are not finite.
    """
    optimizer = optax.adam(config.learning_rate)
    bad_after = config.bad_after

    def brightness(batch: Batch) -> Array:
        return jnp.float32(batch.source).mean(axis=(1, 2, 3)) / 255

    def init(rng: Array, given: dict[str, Any]) -> TrainState:
        variables = given.get(NETWORK) or zeros(NETWORK, model_config)
        params = {NETWORK: jax.tree.map(jnp.asarray, variables["params"])}
        stats = {NETWORK: {k: v for k, v in variables.items() if k != "params"}}
        return TrainState(jnp.int32(0), params, stats, optimizer.init(params), {}, jnp.int32(0))

    def loss(params: Any, target: Array) -> Array:
        return sum(jnp.mean((leaf - target.mean()) ** 2) for leaf in jax.tree.leaves(params))

    def train_step(state: TrainState, batch: Batch, rng: Array) -> tuple[TrainState, Metrics]:
        noise = jax.random.normal(jax.random.fold_in(rng, state.step), ())
        target = brightness(batch) + 0.1 * noise
        value, gradients = jax.value_and_grad(loss)(state.params, target)
        updates, opt_state = optimizer.update(gradients, state.opt_state)
        finite = state.step < bad_after
        value = jnp.where(finite, value, jnp.nan)
        params = optax.apply_updates(state.params, updates)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (params, opt_state),
            (state.params, state.opt_state),
        )
        state = state._replace(
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            bad_steps=state.bad_steps + ~finite,
        )
        metrics = {
            "brightness": target.mean(),
            "loss": value,
            "grad_norm": optax.tree.norm(gradients),
            "learning_rate": jnp.float32(config.learning_rate),
            "finite": jnp.float32(finite),
        }
        return state, metrics

    def eval_step(state: TrainState, batch: Batch) -> Metrics:
        target = brightness(batch)
        return {"loss": loss(state.params, target), "brightness": target.mean()}

    def panel(state: TrainState, batch: Batch) -> Array:
        return jnp.float32(batch.source[:2]) / 255

    return Stage("toy", init, train_step, eval_step, panel, ())


def get_config() -> ConfigDict:
    """For `--config=tests/training/toy.py`."""
    return toy_config("")
