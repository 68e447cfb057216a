"""The batches that a stage's configuration asks for, and validation on those held out."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from eamm_jax.input_pipeline import Batches, describe_skipped, make_dataset, parse_sources
from eamm_jax.input_pipeline.clips import Split
from eamm_jax.training.config import check_stage
from eamm_jax.training.distributed import Placement, sum_over_processes, to_host
from eamm_jax.training.objectives import OBJECTIVES
from eamm_jax.training.stage import Batch, Metrics, PyTree, Stage, TrainState
from eamm_jax.types import Array


def open_data(config: ConfigDict, split: Split) -> Batches:
    """This process's rows of the batches; one pass in order for validation.

    Raises:
        UserError: no data, or a field that makes no sense.
    """
    check_stage(config)
    objective, taught = OBJECTIVES[config.stage], config.get("taught", False)
    return make_dataset(
        parse_sources(config.data),
        batch_size=config.batch_size,
        size=config.size,
        batch_of=objective.batch_of,
        split=split,
        validation_fraction=config.validation_fraction,
        seed=config.seed,
        single_pass=split == "validation",
        per_identity=config.get("per_identity", False),
        emotions=config.emotions,
        frame_stride=config.get("frame_stride", 1),
        with_truth=objective.with_truth,
        with_frames=objective.reads_frames or not taught,
        with_keypoints=taught,
        with_heatmaps=taught and objective.reads_heatmaps,
        on_bad_clip=config.on_bad_clip,
        threads=config.threads,
        workers=config.workers if split == "train" else 0,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def report_skipped(batches: Batches, epoch: int, say: Callable[[str], None]) -> None:
    """Counts the bad clips of all processes; names the first few of this one."""
    skipped = batches.end_epoch()
    count = sum_over_processes(len(skipped))
    if count:
        say(f"epoch {epoch}: {count} bad clips; here: {describe_skipped(skipped)}")


class Validation:
    """A stage's `eval_step` over one pass of batches."""

    def __init__(self, stage: Stage, batches: Batches, placement: Placement):
        """Compiles nothing yet."""

        def evaluate(state: TrainState, batch: Batch, counts: Array) -> Metrics:
            def score(row: PyTree) -> Metrics:
                return stage.eval_step(state, jax.tree.map(lambda x: x[None], row))

            # Row by row, so that rows which only fill up the batch can be left out.
            metrics = jax.vmap(score)(batch)
            return {name: jnp.sum(jnp.where(counts, v, 0.0)) for name, v in metrics.items()}

        self._evaluate = jax.jit(evaluate, out_shardings=placement.replicated)
        self._batches = batches
        self._placement = placement

    def run(self, state: TrainState) -> tuple[dict[str, float], Batch]:
        """Means of the metrics over all examples, and the first batch for a panel."""
        self._batches.reset()
        totals: dict[str, float] = {}
        shown: Batch | None = None
        for rows, names in self._batches:
            batch = self._placement.batch(rows)
            shown = batch if shown is None else shown
            counts = self._placement.batch(np.array([bool(name) for name in names]))
            for name, value in to_host(self._evaluate(state, batch, counts)).items():
                totals[name] = totals.get(name, 0.0) + float(value)
        self._batches.close()
        assert shown is not None
        count = self._batches.num_examples
        return {name: value / count for name, value in totals.items()}, shown
