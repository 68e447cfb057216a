"""Work shared out by Apache Beam, for data sets that one machine is too small for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from eamm_jax.errors import UserError

Item = TypeVar("Item")

_MISSING = "--beam_runner needs Apache Beam: pip install 'eamm_jax[beam]'"


def runner_options(flags: Sequence[str]) -> Any:
    """A runner's own options.

    Raises:
        UserError: Beam is not installed.
    """
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError(_MISSING) from error
    return PipelineOptions(list(flags))


def run_with_beam(
    job: Callable[[Item], None], items: Sequence[Item], runner: str, options: Any
) -> None:
    """Does a job for each item, wherever the runner has it done.

    Args:
        job: what to do; it and the items go to other machines. It should raise nothing: Beam
            would try again, bury the error in its own tracebacks, and lose its type.
        items: in any order.
        runner: name of Beam's.
        options: from `runner_options`.

    Raises:
        UserError: Beam is not installed or does not know the runner.
    """
    try:
        import apache_beam as beam
    except ImportError as error:
        raise UserError(_MISSING) from error
    try:
        pipeline = beam.Pipeline(runner=runner, options=options)
    except ValueError as error:
        raise UserError(f"Apache Beam cannot use the runner {runner}: {error}") from error
    with pipeline:
        _ = (
            pipeline
            | "Items" >> beam.Create(list(items))
            | "Spread" >> beam.Reshuffle()
            | "Work" >> beam.Map(job)
        )
