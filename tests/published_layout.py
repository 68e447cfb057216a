"""Writes tiny data sets in the published folder layout, for any test that trains or reads."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

WINDOW = (28, 13)


def write_clip(
    root: Path,
    identity: str,
    clip: str,
    *,
    frames: int = 29,
    size: int = 64,
    seed: int | None = None,
) -> None:
    """Writes a clip of a bright square that wanders over a coloured gradient.

    Frame n of a clip tells which frame it is: its top left pixel is (n, n, n). So do pose
    and sound: the first number of pose n and of window n is n + 1/2.

    Args:
        root: the data set.
        identity: the folder of the clip.
        clip: its name.
        frames: its length.
        size: rows and columns of its frames.
        seed: of its looks and numbers; by default it follows from its name.
    """
    if seed is None:
        seed = zlib.crc32(f"{identity}/{clip}".encode())
    rng = np.random.default_rng(seed)
    folder = root / "fomm_crop" / identity / clip
    folder.mkdir(parents=True)
    ramp = np.linspace(0, 255, size)
    colour = rng.uniform(0.2, 1.0, 3)
    background = (ramp[:, None, None] * 0.5 + ramp[None, :, None] * 0.5) * colour
    phase, side = rng.uniform(0, 6), size // 4
    for n in range(frames):
        image = background.copy()
        row, column = (
            int((0.5 + 0.4 * wave(phase + n / 4)) * (size - side)) for wave in (np.sin, np.cos)
        )
        image[row : row + side, column : column + side] = 255 * (1 - colour / 2)
        image[0, 0] = n
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{n}.png")

    numbers = np.arange(frames) + 0.5
    pose = np.column_stack([numbers, rng.normal(0, [5, 5, 1e-5, 3, 3, 1], (frames, 6))])
    pose[:, 3] += 4.7e-4
    windows = rng.normal(0, 5, (frames, *WINDOW))
    windows[:, 0, 1] = numbers
    for name, track in (("fomm_pose_crop", pose), ("MFCC", windows)):
        (root / name / identity).mkdir(parents=True, exist_ok=True)
        np.save(root / name / identity / f"{clip}.npy", track)


def write_lrw(root: Path, *, clips: int = 6, **options: int) -> Path:
    """A data set of two words."""
    for n in range(clips):
        word = ("ABOUT", "WORLD")[n % 2]
        write_clip(root, word, f"{word}_{n:05d}", **options)
    return root


def write_mead(
    root: Path,
    *,
    people: tuple[str, ...] = ("M003", "M005", "W009"),
    emotions: tuple[str, ...] = ("angry", "happy"),
    neutral: int = 2,
    **options: int,
) -> Path:
    """A data set of people who show some emotions once and are neutral some times."""
    for person in people:
        for take in range(1, neutral + 1):
            write_clip(root, person, f"neutral_level_1_{take:03d}", **options)
        for emotion in emotions:
            write_clip(root, person, f"{emotion}_level_2_001", **options)
    return root


def write_voxceleb(root: Path, *, people: int = 3, clips: int = 2, **options: int) -> Path:
    """A data set of people with some clips each."""
    for person in range(people):
        for n in range(clips):
            write_clip(root, f"id1000{person}", f"video_{n}", **options)
    return root


def lay_out_lrw_clip(shared: Path, root: Path) -> Path:
    """The one real LRW clip of the shared media, in the published layout."""
    media = shared / "media" / "lrw_clip"
    folder = root / "fomm_crop" / "ABOUT" / "ABOUT_00001"
    shutil.copytree(media / "frames", folder)
    for name, track in (("fomm_pose_crop", "pose.npy"), ("MFCC", "mfcc.npy")):
        (root / name / "ABOUT").mkdir(parents=True)
        shutil.copy(media / track, root / name / "ABOUT" / "ABOUT_00001.npy")
    return root
