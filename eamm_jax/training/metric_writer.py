"""Where a run's numbers and pictures go: a JSON-lines file and TensorBoard's event files.

`<workdir>/metrics.jsonl` has one line a report: `step`, `split` ("train" or "validation") and
the numbers. TensorBoard reads `<workdir>/tensorboard`, where the same numbers are scalars named
`<split>/<name>` and pictures are panels. A run that goes on from step n first removes what was
written after step n, so that a step is reported once however often the run was killed.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from eamm_jax.errors import UserError
from eamm_jax.io.files import atomic_output

JSONL_NAME = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


class MetricWriter(Protocol):
    """Takes numbers and pictures of a step."""

    def scalars(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Reports numbers by name."""

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Reports a picture."""

    def close(self) -> None:
        """Writes out what is still in memory."""


class FileMetricWriter:
    """Writes to the work directory."""

    def __init__(self, workdir: str | os.PathLike[str], *, first_step: int):
        """Opens the files.

        Args:
            workdir: of the run; must exist.
            first_step: the first step that this writer will report; what an earlier writer
                said of it and of later ones is removed.
        """
        from tensorboardX import SummaryWriter

        path = Path(workdir) / JSONL_NAME
        try:
            _drop_lines_from(path, first_step)
            # One write a line: a killed run leaves whole lines.
            self._lines = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise UserError(f"Cannot write {path}: {(error.strerror or '').lower()}") from None
        self._events = SummaryWriter(
            str(Path(workdir) / TENSORBOARD_FOLDER),
            purge_step=first_step,
            filename_suffix=f".from_{first_step}",  # two files of one second must not be one
        )

    def scalars(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Reports numbers by name; NaN and infinity are null in JSON and gaps in TensorBoard."""
        line: dict[str, int | str | float | None] = {"step": step, "split": split}
        for name, value in values.items():
            finite = math.isfinite(value)
            line[name] = value if finite else None
            if finite:
                self._events.add_scalar(f"{split}/{name}", value, step)
        self._lines.write(json.dumps(line) + "\n")
        self._events.flush()

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Reports a picture to TensorBoard."""
        self._events.add_image(name, image, step, dataformats="HWC")
        self._events.flush()

    def close(self) -> None:
        """Closes the files."""
        self._lines.close()
        self._events.close()


class NoMetricWriter:
    """Takes everything and writes nothing: for all processes of a run but the first."""

    def scalars(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Does nothing."""

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def read_metrics(workdir: str | os.PathLike[str], split: str) -> list[dict[str, float]]:
    """The lines of one split that a run has written so far, in order; NaN where JSON has null."""
    path = Path(workdir) / JSONL_NAME
    lines = [line for line in _whole_lines(path) if line["split"] == split]
    return [
        {k: math.nan if v is None else v for k, v in line.items() if k != "split"} for line in lines
    ]


def _whole_lines(path: Path) -> list[dict]:
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break  # the machine went down in the middle of a line; nothing follows it
    return lines


def _drop_lines_from(path: Path, first_step: int) -> None:
    if not path.exists():
        return
    kept = [line for line in _whole_lines(path) if line["step"] < first_step]
    with atomic_output(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
