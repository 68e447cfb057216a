"""The interface between the training loop and a stage: its state and its pure functions.

The loop (`loop.py`) shards, jits, saves and reports; a stage (`stages.py`) defines networks,
losses and updates.
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
    """Everything that a step changes or needs.

    Attributes:
        step: steps taken (skipped ones included).
        params: float32 parameters of the trained networks, by network name.
        stats: their other collections (`batch_stats`, `spectral_stats`), by network name.
        opt_state: of the optimizer.
        frozen: variables (`params`, `batch_stats`) of the frozen networks, by network name.
        bad_steps: steps skipped so far because a loss or gradient was not finite.
    """

    step: Array
    params: PyTree
    stats: PyTree
    opt_state: optax.OptState
    frozen: PyTree
    bad_steps: Array

    def variables(self, params: PyTree) -> dict[str, PyTree]:
        """The collections of every network, with these parameters for the trained ones."""
        learned = {name: {"params": params[name], **self.stats[name]} for name in params}
        return {**self.frozen, **learned}


class Stage(NamedTuple):
    """One stage of training, as pure functions; none of them is jitted.

    Attributes:
        name: a key of `objectives.OBJECTIVES`.
        init: (rng, given) -> state, where `given` maps network names to variables that were
            trained before; networks absent from it are initialized.
        train_step: (state, batch, rng) -> (state, metrics), with the key of the run, which is
            folded with the step. Metrics are scalars: each loss term by name, `loss`,
            `grad_norm`, `learning_rate`, `finite` (0 where the step was skipped).
        eval_step: (state, batch) -> metrics, on stored statistics and without augmentation.
        panel: (state, batch) -> (n, height, width, 3) images in [0, 1], one row an example.
        required: networks that `given` must hold, because nothing trains them here.
    """

    name: str
    init: Callable[[Array, dict[str, PyTree]], TrainState]
    train_step: Callable[[TrainState, Batch, Array], tuple[TrainState, Metrics]]
    eval_step: Callable[[TrainState, Batch], Metrics]
    panel: Callable[[TrainState, Batch], Array]
    required: tuple[str, ...]
