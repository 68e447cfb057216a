"""Writes clips in the published folder layout atomically: a clip is complete or absent.

The folder of frames is written last and renamed into place, so a clip that has frames has
everything else too. `eamm_jax.input_pipeline.published` names the folders.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from eamm_jax.input_pipeline.clips import ClipName
from eamm_jax.input_pipeline.published import FRAMES_FOLDER

UNFINISHED = ".unfinished"
"""Marks unfinished output: the name of a folder in the root, and the suffix of files."""

RECIPE_FILE = "prepare.json"
"""What `data.prepare` made the clips with."""

TIMING = {"timing": "presentation"}
"""In that file: sound and picture are matched by their presentation times."""


def frames_of(root: str | os.PathLike[str], name: ClipName) -> Path:
    """The folder of a complete clip's frames."""
    return Path(root, FRAMES_FOLDER, *name)


def parent(path: Path) -> Path:
    """Creates the parent folder of a path and returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file atomically."""
    unfinished = path.with_name(path.name + UNFINISHED)
    unfinished.write_bytes(content)
    unfinished.replace(path)


def track_of(root: Path, folder: str, name: ClipName) -> Path:
    """The file of a clip's per-frame values."""
    return root / folder / name.identity / f"{name.clip}.npy"


def write_track(root: Path, folder: str, name: ClipName, array: np.ndarray) -> None:
    """Writes per-frame values of a clip atomically."""
    path = parent(track_of(root, folder, name))
    with open(f"{path}{UNFINISHED}", "wb") as file:
        np.save(file, array, allow_pickle=False)
    os.replace(f"{path}{UNFINISHED}", path)


@contextmanager
def unfinished_frames(root: Path, name: ClipName) -> Iterator[Path]:
    """A temporary folder for a clip's frames; renamed into place if the block succeeds."""
    unfinished = root / UNFINISHED / name.identity / name.clip
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    os.replace(unfinished, parent(frames_of(root, name)))


def remove_unfinished(root: Path) -> None:
    """Removes the unfinished output of a killed run."""
    shutil.rmtree(root / UNFINISHED, ignore_errors=True)
