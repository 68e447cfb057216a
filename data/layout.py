"""Writes clips in the published folder layout so that each is there complete or not at all.

Tracks come first and the folder of frames last, by renaming: where there are frames, everything
else is there too (`eamm_jax.input_pipeline.published` names the folders).
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
"""What is being written: a folder in the root, and the end of files' names."""


def frames_of(root: str | os.PathLike[str], name: ClipName) -> Path:
    """Where a clip's frames are when it is complete."""
    return Path(root, FRAMES_FOLDER, *name)


def parent(path: Path) -> Path:
    """The path, with the folder it stands in made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that it is never seen half-written."""
    unfinished = path.with_name(path.name + UNFINISHED)
    unfinished.write_bytes(content)
    unfinished.replace(path)


def write_track(root: Path, folder: str, name: ClipName, array: np.ndarray) -> None:
    """Writes numbers of a clip's frames."""
    path = parent(root / folder / name.identity / f"{name.clip}.npy")
    with open(f"{path}{UNFINISHED}", "wb") as file:
        np.save(file, array, allow_pickle=False)
    os.replace(f"{path}{UNFINISHED}", path)


@contextmanager
def unfinished_frames(root: Path, name: ClipName) -> Iterator[Path]:
    """A folder for a clip's frames that is renamed to its place when the block ends well."""
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
    """Removes what a killed run was writing."""
    shutil.rmtree(root / UNFINISHED, ignore_errors=True)
