"""Measures a folder of pairs clip by clip: in parallel, resuming where it was stopped.

Each clip leaves its results in a folder beside the report, which goes when the report is complete.
They are used again if neither the clip's files nor the settings have changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from eamm_jax import __version__
from eamm_jax.errors import UserError
from eamm_jax.evaluation.cases import PairFiles, read_pair
from eamm_jax.evaluation.clip import ClipResult, file_name, measure_clip
from eamm_jax.evaluation.contestants import STILL, TRUTH, rendered
from eamm_jax.evaluation.tools import Protocol, Tools, make_tools
from eamm_jax.input_pipeline.clips import Labels, labels_in
from eamm_jax.io.files import atomic_output
from eamm_jax.io.parallel import run_parallel


@dataclass(frozen=True)
class PairTask:
    """A clip to measure, and all that a worker needs to know.

    Attributes:
        files: its files.
        size: width and height of the frames.
        max_frames: number of frames to use; 0: all.
        contestants: names of those to measure.
        faces: kind of faces.
        networks: converted networks that measure, or None.
        protocol: of comparison (`tools.Protocol`).
        embedder: network of identity in ONNX format, or None.
        folder: where its results are written.
        alone: whether no other worker runs; the others leave accelerators alone.
    """

    files: PairFiles
    size: int
    max_frames: int
    contestants: tuple[str, ...]
    faces: str
    networks: Path | None
    protocol: Protocol
    embedder: Path | None
    folder: Path
    alone: bool

    @property
    def path(self) -> Path:
        """The file of its results."""
        return self.folder / f"{file_name(self.files.name)}.json"

    @property
    def tools(self) -> Tools:
        """What is measured with, in this process."""
        return make_tools(self.faces, self.networks, self.protocol, self.embedder)

    def stamp(self) -> dict[str, Any]:
        """What the results depend on, as JSON."""
        paths = (self.files.truth, self.files.portrait, *self.files.made.values())
        return {
            "eamm_jax": __version__,
            "size": self.size,
            "max_frames": self.max_frames,
            "contestants": list(self.contestants),
            "tools": self.tools.names,
            "files": [_state(path) for path in paths if path is not None],
        }


def _state(path: Path) -> list[Any]:
    """Name, size and time of a file, or of the newest in a folder of frames."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    states = [file.stat() for file in files]
    newest = max((state.st_mtime_ns for state in states), default=0)
    return [str(path.absolute()), sum(state.st_size for state in states), newest]


def measure_pairs(tasks: list[PairTask], workers: int) -> Iterator[tuple[str, ClipResult]]:
    """Measures the clips that are not measured yet.

    Yields:
        Names and results; those of earlier runs first.
    """
    missing = []
    for task in tasks:
        result = _stored(task)
        if result is None:
            missing.append(task)
        else:
            yield task.files.name, result
    with closing(run_parallel(_measure, missing, workers)) as measured:
        for task, result in measured:
            yield task.files.name, result


def _stored(task: PairTask) -> ClipResult | None:
    try:
        found = json.loads(task.path.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("stamp") != task.stamp():
        return None
    result = found["result"]
    return ClipResult(Labels(**result["labels"]), result["values"], result["faults"])


def _measure(task: PairTask) -> ClipResult:
    if not task.alone:
        jax.config.update("jax_platforms", "cpu")
    known = {TRUTH.name: TRUTH, STILL.name: STILL}
    field = [known.get(name) or rendered(name) for name in task.contestants]
    try:
        case = read_pair(task.files, task.size, task.max_frames)
    except UserError as error:
        result = ClipResult(labels_in(task.files.name), {}, {TRUTH.name: str(error)})
    else:
        result = measure_clip(case, field, task.tools, task.folder)
    content = {
        "stamp": task.stamp(),
        "result": {**result._asdict(), "labels": result.labels._asdict()},
    }
    # Last, so that a clip that has it has everything.
    with atomic_output(task.path) as path:
        path.write_text(json.dumps(content))
    return result
