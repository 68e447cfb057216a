"""Validation: means of the metrics over all examples that were held out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from eamm_jax.input_pipeline import Batches
from eamm_jax.training.distributed import Placement, to_host
from eamm_jax.training.stage import Batch, Metrics, PyTree, Stage, TrainState
from eamm_jax.types import Array


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
