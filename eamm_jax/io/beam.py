"""Runs jobs with Apache Beam, on many machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from eamm_jax.errors import UserError

Item = TypeVar("Item")

_MISSING = "a Beam runner needs Apache Beam: pip install 'eamm_jax[beam]'"


def runner_options(flags: Sequence[str]) -> Any:
    """Parses the options of a Beam runner.

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
    """Runs a job for each item on a Beam runner.

    Args:
        job: function of one item; both are sent to other machines. It should not raise: Beam
            would retry, bury the error in its own tracebacks, and lose its type.
        items: in any order.
        runner: name of the Beam runner.
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
