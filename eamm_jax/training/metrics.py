"""A run's metrics: collected step by step, and written to the work directory.

`<workdir>/metrics.jsonl` has one line per report: `step`, `split` ("train" or "validation") and
the metrics. TensorBoard reads `<workdir>/tensorboard`: the same metrics as scalars
`<split>/<name>`, and panels as images. A run that resumes from step n first removes what was
written after step n, so that each step is reported once however often the run was killed.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from eamm_jax.errors import UserError
from eamm_jax.io.files import atomic_output
from eamm_jax.training.display import format_number
from eamm_jax.training.distributed import to_host
from eamm_jax.training.stage import Batch, Metrics
from eamm_jax.types import Clips

JSONL_NAME = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


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
        per_example = batch.audio.shape[1] if isinstance(batch, Clips) else FRAMES_OF_A_PAIR
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


class MetricWriter:
    """Writes to the work directory, in the main process of a run alone."""

    def __init__(self, workdir: str | os.PathLike[str], *, first_step: int, active: bool = True):
        """Opens the files.

        Args:
            workdir: of the run; must exist.
            first_step: the first step that will be reported; reports of it and of later ones
                by an earlier writer are removed.
            active: False writes nothing.
        """
        self._active = active
        if not active:
            return
        from tensorboardX import SummaryWriter

        path = Path(workdir) / JSONL_NAME
        try:
            if path.exists():
                kept = [line for line in _complete_lines(path) if line["step"] < first_step]
                with atomic_output(path) as temporary:
                    temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
            # One write per line: a killed run leaves complete lines.
            self._lines = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise UserError(f"Cannot write {path}: {(error.strerror or '').lower()}") from None
        self._events = SummaryWriter(
            str(Path(workdir) / TENSORBOARD_FOLDER),
            purge_step=first_step,
            filename_suffix=f".from_{first_step}",  # two files of one second must differ
        )

    def scalars(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Reports metrics; NaN and infinity are null in JSON and gaps in TensorBoard."""
        if not self._active:
            return
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        for name, value in finite.items():
            self._events.add_scalar(f"{split}/{name}", value, step)
        line = {"step": step, "split": split, **{name: finite.get(name) for name in values}}
        self._lines.write(json.dumps(line) + "\n")
        self._events.flush()

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Reports an image to TensorBoard."""
        if self._active:
            self._events.add_image(name, image, step, dataformats="HWC")
            self._events.flush()

    def close(self) -> None:
        """Closes the files."""
        if self._active:
            self._lines.close()
            self._events.close()


def _complete_lines(path: Path) -> list[dict]:
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break  # the machine went down in the middle of a line; nothing follows it
    return lines
