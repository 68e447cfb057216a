"""Metrics of the last steps: means, throughput, and steps that were not finite."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from eamm_jax.training.distributed import to_host
from eamm_jax.training.progress import format_number
from eamm_jax.training.stage import Batch, Metrics
from eamm_jax.types import Clips

FRAMES_OF_A_PAIR = 2

NOT_AVERAGED = ("learning_rate",)
"""Metrics of which the last value is reported."""


class DivergedError(Exception):
    """Losses or gradients were not finite too often; one line says when and on which clips."""


class Meter:
    """Collects the metrics of steps, one step late, so that it never waits for the devices."""

    def __init__(
        self, max_bad_steps: int, bad_steps: int, say: Callable[[str], None], batch_size: int
    ):
        """Starts the clock.

        Args:
            max_bad_steps: steps that may be skipped because a number was not finite.
            bad_steps: those that were skipped before.
            say: prints a line.
            batch_size: of the whole run.
        """
        self._max_bad_steps = max_bad_steps
        self._bad_steps = bad_steps
        self._say = say
        self._batch_size = batch_size
        self._pending: tuple[int, Metrics, Sequence[str]] | None = None
        self._clear()

    def _clear(self) -> None:
        self._sums: dict[str, float] = {}
        self._finite_steps = self._steps = self._frames = 0
        self._input_seconds = self._paused_seconds = 0.0
        self._started = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Times the wait for input."""
        started = time.monotonic()
        yield
        self._input_seconds += time.monotonic() - started

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Excludes something else (saving, validating) from the throughput."""
        self.flush()
        started = time.monotonic()
        yield
        self._paused_seconds += time.monotonic() - started

    def add(self, step: int, metrics: Metrics, names: Sequence[str], batch: Batch) -> None:
        """Takes the metrics of a step, and reads those of the step before.

        Args:
            step: its number, from 1.
            metrics: on the devices, perhaps not computed yet.
            names: of the clips of this process's rows of its batch.
            batch: the batch.

        Raises:
            DivergedError: the step before was not finite, and was one too many of its kind.
        """
        self.flush()
        self._pending = step, metrics, names
        self._steps += 1
        per_example = batch.frames.shape[1] if isinstance(batch, Clips) else FRAMES_OF_A_PAIR
        self._frames += self._batch_size * per_example

    def flush(self) -> None:
        """Reads the metrics of the last step, and so waits for it.

        Raises:
            DivergedError: as `add`.
        """
        if self._pending is None:
            return
        (step, metrics, names), self._pending = self._pending, None
        values = {name: float(value) for name, value in sorted(to_host(metrics).items())}
        values = {"loss": values.pop("loss"), **values}
        if not values.pop("finite"):
            self._count_bad(step, values, names)
            return
        self._finite_steps += 1
        for name, value in values.items():
            self._sums[name] = value + (0.0 if name in NOT_AVERAGED else self._sums.get(name, 0.0))

    def _count_bad(self, step: int, values: Mapping[str, float], names: Sequence[str]) -> None:
        self._bad_steps += 1
        terms = ", ".join(f"{name} {format_number(value)}" for name, value in values.items())
        what = f"step {step} is not finite ({terms}; clips: {', '.join(names)})"
        if self._bad_steps > self._max_bad_steps:
            raise DivergedError(
                f"{what}; stopped, as {self._bad_steps} steps were bad and max_bad_steps is "
                f"{self._max_bad_steps}"
            )
        self._say(f"{what}: skipped, {self._bad_steps} of {self._max_bad_steps} allowed")

    def report(self) -> tuple[dict[str, float], float]:
        """Means since the last report.

        Returns:
            By name: the metrics over the steps that were finite, `examples_per_second`,
            `frames_per_second`, `input_wait` (share of the time), `bad_steps` (so far); and
            the seconds per step.
        """
        self.flush()
        seconds = max(time.monotonic() - self._started - self._paused_seconds, 1e-9)
        values = {
            name: total if name in NOT_AVERAGED else total / self._finite_steps
            for name, total in self._sums.items()
        }
        values |= {
            "examples_per_second": self._steps * self._batch_size / seconds,
            "frames_per_second": self._frames / seconds,
            "input_wait": self._input_seconds / seconds,
            "bad_steps": float(self._bad_steps),
        }
        seconds_per_step = seconds / self._steps
        self._clear()
        return values, seconds_per_step
