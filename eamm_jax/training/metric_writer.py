"""A run's metrics and images on disk: a JSON-lines file and TensorBoard's event files.

`<workdir>/metrics.jsonl` has one line per report: `step`, `split` ("train" or "validation") and
the metrics. TensorBoard reads `<workdir>/tensorboard`: the same metrics as scalars
`<split>/<name>`, and panels as images. A run that resumes from step n first removes what was
written after step n, so that each step is reported once however often the run was killed.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from eamm_jax.errors import UserError
from eamm_jax.io.files import atomic_output

JSONL_NAME = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


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


def read_metrics(workdir: str | os.PathLike[str], split: str) -> list[dict[str, float]]:
    """The reports of one split so far, in order; NaN where JSON has null."""
    lines = _complete_lines(Path(workdir) / JSONL_NAME)
    return [
        {k: math.nan if v is None else v for k, v in line.items() if k != "split"}
        for line in lines
        if line["split"] == split
    ]


def _complete_lines(path: Path) -> list[dict]:
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break  # the machine went down in the middle of a line; nothing follows it
    return lines
