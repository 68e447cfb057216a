"""Trains stage 1 in float64 on one device and on eight; prints by how much networks differ.

Run in a process of its own, with `JAX_NUM_CPU_DEVICES=8` and `JAX_ENABLE_X64=1`.
"""

from __future__ import annotations

import json
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.layers import plain_form
from eamm_jax.training import stage as stages
from eamm_jax.training.compilation import compile_step
from eamm_jax.training.distributed import make_placement
from tests.tiny import tiny_variables
from tests.training.batches import MICRO, make_clips, micro_stage

BATCH = 8
DEVICES = (1, 8)
EPSILON = 1e-2
"""As published (1e-8), Adam scales gradients that are zero but for rounding, such as that of a bias
before a batch norm, up to full steps."""


def main(seeds: int, steps: int) -> None:
    build = stages.build
    in_float64 = mock.patch.object(stages, "build", lambda c, _: build(c, jnp.dtype(jnp.float64)))
    with in_float64, mock.patch.object(jax.lax, "platform_dependent", plain_form):
        stage = micro_stage("stage1", batch_size=BATCH, epsilon=EPSILON)
        programs = {}
        for seed in range(seeds):
            batch = make_clips(BATCH, seed)
            given = jax.tree.map(
                lambda x: np.asarray(x, np.float64), tiny_variables(seed, MICRO)[1]
            )
            trained = {}
            for devices in DEVICES:
                where = make_placement(jax.devices()[:devices])
                rng = jax.device_put(jax.random.key(seed), where.replicated)
                rows = where.batch(batch)
                state = jax.device_put(stage.init(jax.random.key(seed), given), where.replicated)
                if devices not in programs:
                    programs[devices] = compile_step(stage, where, state, rows, rng)
                for _ in range(steps):
                    state, _ = programs[devices](state, rows, rng)
                trained[devices] = jax.device_get(state.params)
            moved = _difference(trained[1], {name: given[name]["params"] for name in trained[1]})
            apart = _difference(trained[8], trained[1])
            print(json.dumps({"seed": seed, "moved": moved, "apart": apart}), flush=True)


def _difference(a: object, b: object) -> float:
    """The largest, relative to the size of each parameter's values."""
    found = jax.tree.map(lambda x, y: np.abs(x - y).max() / max(np.abs(y).max(), 1e-3), a, b)
    return float(max(jax.tree.leaves(found)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
