"""Training states on disk, by Orbax, so that a run can be killed at any moment and resumed.

A checkpoint holds what training changes: its state and the random key (arrays), the position in
the training data and the configuration (JSON), and the validation metrics where there are any.
Frozen networks stay in the run's `model/`. Orbax writes in the background under a temporary name
and renames a checkpoint when it is complete; what a killed run left is removed at the next start.
This is the only module that knows Orbax.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from eamm_jax.errors import UserError
from eamm_jax.training.stage import TrainState

PyTree = Any
Json = dict[str, Any]

FOLDER = "checkpoints"
"""Inside the work directory."""

_STATE = "state"

_UNFINISHED = ".orbax-checkpoint-tmp"
"""What Orbax puts behind the name of a checkpoint until it is complete."""


class Saved(NamedTuple):
    """What a run needs to go on.

    Attributes:
        state: of the training.
        rng: key of the run, which each step folds its number into.
        position: in the training data, for `Batches.set_state`.
    """

    state: TrainState
    rng: jax.Array
    position: Json


class Checkpoints:
    """The checkpoints of one work directory."""

    def __init__(self, workdir: str | os.PathLike[str], *, keep_last: int, keep_best: int):
        """Opens the folder, and removes what a killed run left unfinished in it.

        Args:
            workdir: of the run, absolute; all processes of a run must see the same.
            keep_last: newest checkpoints to keep.
            keep_best: checkpoints with the lowest validation loss to keep besides.
        """
        folder = epath.Path(workdir) / FOLDER
        if jax.process_index() == 0:
            # Orbax can do this, but in a thread that outlives a run which ends at once.
            for unfinished in folder.glob(f"*{_UNFINISHED}*"):
                unfinished.rmtree(missing_ok=True)
        policies, when = ocp.training.preservation_policies, ocp.training.save_decision_policies
        self._checkpointer = ocp.training.Checkpointer(
            folder,
            save_decision_policy=when.FixedIntervalPolicy(1),  # the loop decides
            preservation_policy=policies.AnyPreservationPolicy(
                [
                    policies.LatestN(keep_last),
                    policies.BestN(
                        get_metric_fn=_loss,
                        reverse=True,  # the last of the sorted ones are kept
                        n=keep_best,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
        )

    @property
    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        newest = self._checkpointer.latest
        return None if newest is None else newest.step

    @property
    def steps(self) -> list[int]:
        """Steps of all complete checkpoints, ascending."""
        return [checkpoint.step for checkpoint in self._checkpointer.checkpoints]

    @property
    def best_metrics(self) -> dict[str, float] | None:
        """Validation metrics of the kept checkpoint with the lowest loss."""
        checkpoints = self._checkpointer.checkpoints
        scored: list[dict[str, float]] = [c.metrics for c in checkpoints if c.metrics is not None]
        return min(scored, key=_loss) if scored else None

    def save(
        self,
        step: int,
        saved: Saved,
        config: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Starts saving, after waiting for the save before it; the arrays may be donated then.

        Args:
            step: number of the checkpoint: optimiser steps taken.
            saved: what to save.
            config: the run's, to be compared with another's when it wants to go on.
            metrics: of the validation at this step, if there was one; `loss` decides what is
                best.
        """
        if step in self.steps:
            return
        state = saved.state._replace(frozen={})
        self._checkpointer.save_checkpointables_async(
            step,
            {_STATE: {"train": state, "rng": saved.rng}},
            metrics=None if metrics is None else dict(metrics),
            custom_metadata={"position": saved.position, "config": dict(config)},
        )

    def config(self, step: int) -> Json:
        """The configuration that a checkpoint was saved with."""
        return self._checkpointer.checkpointables_metadata(step).custom_metadata["config"]

    def restore(
        self,
        step: int,
        abstract_state: TrainState,
        abstract_rng: PyTree,
        variables: Mapping[str, PyTree],
    ) -> Saved:
        """Loads a checkpoint onto the devices of this run, however many it was saved from.

        Args:
            step: one of `steps`.
            abstract_state: shapes, types and sharding of the state (`jax.ShapeDtypeStruct`).
            abstract_rng: the same of the key.
            variables: of the frozen networks, by name, and perhaps of others.

        Raises:
            UserError: what was saved is of another structure, shape or type; says where.
        """
        metadata = self._checkpointer.checkpointables_metadata(step)
        frozen = {name: variables[name] for name in abstract_state.frozen}
        wanted = {"train": abstract_state._replace(frozen={}), "rng": abstract_rng}
        self._check_structure(step, metadata.metadata[_STATE]["train"], wanted["train"])
        loaded = self._checkpointer.load_checkpointables(step, {_STATE: wanted})[_STATE]
        state = loaded["train"]._replace(frozen=frozen)
        return Saved(state, loaded["rng"], metadata.custom_metadata["position"])

    def _check_structure(self, step: int, there: PyTree, here: PyTree) -> None:
        saved, wanted = _shapes(there), _shapes(here)
        # Parameters before the optimiser's moments of them, which say the same less clearly.
        differing = sorted(
            (name for name in saved.keys() | wanted.keys() if saved.get(name) != wanted.get(name)),
            key=lambda name: (name.startswith("opt_state"), name),
        )
        if differing:
            name = differing[0]
            more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
            raise UserError(
                f"checkpoint {step} in {self._checkpointer.directory} does not fit this "
                f"configuration: {name} is {saved.get(name, 'absent')} there and "
                f"{wanted.get(name, 'absent')} here{more}; resume with the configuration it "
                "was saved with, or start a new work directory from its networks (init_from)"
            )

    def wait(self) -> None:
        """Returns when everything is on the disk."""
        self._checkpointer.wait()

    def close(self) -> None:
        """Waits, and ends the background threads."""
        self._checkpointer.close()


def _loss(metrics: Mapping[str, float]) -> float:
    loss = float(metrics["loss"])
    return loss if math.isfinite(loss) else math.inf


def _shapes(tree: PyTree) -> dict[str, str]:
    """Type and shape of each array by its path, which is alike for tuples and dictionaries."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype} {list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
