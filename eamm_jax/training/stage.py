"""What the training loop knows of a stage: its state and its pure functions.

The loop (`loop.py`) shards, jits, saves and reports; a stage (`stages.py`) says what is
learned and from what. Neither knows more of the other than what stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from eamm_jax.types import Array, Clips, Pairs

PyTree = Any
Metrics = dict[str, Array]
Batch = Clips | Pairs


class TrainState(NamedTuple):
    """All that a step changes or needs, and all that a checkpoint must hold of it.

    Attributes:
        step: optimiser steps taken (skipped ones included).
        params: float32 parameters of the trained networks, by network name.
        stats: their other collections (`batch_stats`, `spectral_stats`), by network name.
        opt_state: of the optimisers.
        frozen: variables (`params`, `batch_stats`) of the frozen networks, by network name.
        bad_steps: steps skipped so far because a loss or gradient was not finite.
    """

    step: Array
    params: PyTree
    stats: PyTree
    opt_state: optax.OptState
    frozen: PyTree
    bad_steps: Array


class Stage(NamedTuple):
    """One stage of training, as pure functions; none of them is jitted.

    Attributes:
        name: `stage0`, `stage1`, `stage1_finetune` or `stage2`.
        init: (rng, given) -> state, where `given` maps network names to variables that were
            trained before (`--init_from`); networks absent from it are initialised.
        train_step: (state, batch, rng) -> (state, metrics); `rng` is already folded with the
            step. Metrics are scalars: each loss term by name, `loss`, `grad_norm`,
            `learning_rate`, `finite` (0 where the step was skipped).
        eval_step: (state, batch) -> metrics, on stored statistics and without augmentation.
        panel: (state, batch) -> (n, height, width, 3) images in [0, 1] to look at: one row an
            example (portrait | driving | warped | prediction | occlusion | masks, keypoints
            drawn).
        required: networks that `given` must hold, because nothing trains them here.
    """

    name: str
    init: Callable[[Array, dict[str, PyTree]], TrainState]
    train_step: Callable[[TrainState, Batch, Array], tuple[TrainState, Metrics]]
    eval_step: Callable[[TrainState, Batch], Metrics]
    panel: Callable[[TrainState, Batch], Array]
    required: tuple[str, ...]
