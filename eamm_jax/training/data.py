"""The batches that a stage's configuration asks for."""

from __future__ import annotations

from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from eamm_jax.input_pipeline import Batches, describe_skipped, make_dataset, parse_sources
from eamm_jax.input_pipeline.dataset import Split
from eamm_jax.training.config import check_stage
from eamm_jax.training.distributed import sum_over_processes
from eamm_jax.training.objectives import OBJECTIVES


def open_data(config: ConfigDict, split: Split) -> Batches:
    """This process's rows of the batches; one pass in order for validation.

    Raises:
        UserError: no data, or a field that makes no sense.
    """
    check_stage(config)
    objective = OBJECTIVES[config.stage]
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
