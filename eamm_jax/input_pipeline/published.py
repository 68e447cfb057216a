"""Reads clips in the published folder layout.

<root>/fomm_crop/<identity>/<clip>/0.png, 1.png, ...    cropped frames; or 0.jpg, 1.jpg, ...
<root>/fomm_pose_crop/<identity>/<clip>.npy             (frames, 7)
<root>/MFCC/<identity>/<clip>.npy                       (frames, 28, 13)

and the ground truth of synthetic faces (`data.synthetic`):

<root>/landmarks/<identity>/<clip>.npy                  (frames, 68, 2)
<root>/pupils/<identity>/<clip>.npy                     (frames, 2, 2)
<root>/regions/<identity>/<clip>.npy                    (frames, 64, 64), of albums: `types.Region`
<root>/flows/<identity>/<clip>.npy                      (frames, frames, 64, 64, 2), of albums

and the image keypoints that a trained detector has found in the frames (`data.teach`):

<root>/keypoints/detector.json                          which detector, and whether with heatmaps
<root>/keypoints/<identity>/<clip>.npy                  (frames, keypoints, 6)
<root>/heatmaps/<identity>/<clip>.npy                   (frames, rows, columns, keypoints), float16
"""

from __future__ import annotations

import io
import json
import os
import re
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eamm_jax.errors import UserError
from eamm_jax.input_pipeline.clips import BadClip, Clip, ClipName, Tracks

FRAMES_FOLDER = "fomm_crop"
POSE_FOLDER = "fomm_pose_crop"
SOUND_FOLDER = "MFCC"
LANDMARKS_FOLDER = "landmarks"
PUPILS_FOLDER = "pupils"
REGIONS_FOLDER = "regions"
FLOWS_FOLDER = "flows"
KEYPOINTS_FOLDER = "keypoints"
HEATMAPS_FOLDER = "heatmaps"

STAMP_NAME = "detector.json"
"""In the folder of keypoints: a `Teacher`."""


class Teacher(NamedTuple):
    """The detector whose keypoints are kept with a data set.

    Attributes:
        detector: its fingerprint (`checkpoint.fingerprint`).
        heatmaps: whether its heatmaps are kept, too.
    """

    detector: str
    heatmaps: bool


def find_teacher(root: Path) -> Teacher | None:
    """Whose keypoints are kept in a folder, or None.

    Raises:
        UserError: they are there, but not by whom.
    """
    stamp = root / KEYPOINTS_FOLDER / STAMP_NAME
    if not stamp.is_file():
        return None
    try:
        return Teacher(**json.loads(stamp.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{stamp} does not tell whose keypoints those are; remove {stamp.parent} and run "
            "python -m data.teach again"
        ) from error


class PublishedFolder:
    """The clips of a folder in the published layout.

    Attributes:
        root: the folder.
        names: its clips, sorted.
        teacher: whose keypoints are read, or None.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        tracks: Tracks,
        *,
        names: Sequence[ClipName] | None = None,
    ):
        """Lists the clips without opening them.

        Args:
            root: the folder that contains `fomm_crop`.
            tracks: read beside the frames.
            names: the clips, if already known; None lists them.

        Raises:
            UserError: the folder does not exist or contains no clips.
        """
        self.root = Path(root)
        self._tracks = tracks
        wanted = [FRAMES_FOLDER]
        if tracks.motion or tracks.truth:
            wanted.append(POSE_FOLDER)
        if tracks.motion:
            wanted.append(SOUND_FOLDER)
        if tracks.truth:
            wanted += [LANDMARKS_FOLDER, PUPILS_FOLDER]
        missing = [folder for folder in wanted if not (self.root / folder).is_dir()]
        if missing:
            looked_for = " and ".join(str(self.root / folder) for folder in missing)
            raise UserError(
                f"{self.root} is not in the published layout: looked for {looked_for}, "
                f"{_found_instead(self.root)}"
            )
        self.teacher = find_teacher(self.root) if tracks.keypoints else None
        if tracks.keypoints:
            check_taught(self.teacher, self.root, with_heatmaps=tracks.heatmaps)
        if names is None:
            names = [
                ClipName(identity, clip)
                for identity in _folders(self.root / FRAMES_FOLDER)
                for clip in _folders(self.root / FRAMES_FOLDER / identity)
            ]
        self.names = list(names)
        if not self.names:
            raise UserError(
                f"{self.root} holds no clips: looked for "
                f"{self.root / FRAMES_FOLDER}/<identity>/<clip>/0.png, "
                f"{_found_instead(self.root / FRAMES_FOLDER)}"
            )

    def open(self, index: int) -> Clip:
        """Clip number `index` of `names`.

        Raises:
            BadClip: a frame or a track is missing or unreadable.
        """
        name, wanted = self.names[index], self._tracks
        folder = self.root / FRAMES_FOLDER / name.identity / name.clip

        def track(kind: str) -> np.ndarray:
            return _load_track(self.root / kind / name.identity / f"{name.clip}.npy")

        pose = track(POSE_FOLDER) if wanted.motion or wanted.truth else None
        windows = track(SOUND_FOLDER) if wanted.motion else None
        points = regions = flows = None
        if wanted.truth:
            if (self.root / REGIONS_FOLDER).is_dir():
                regions = track(REGIONS_FOLDER)
            if (self.root / FLOWS_FOLDER).is_dir():
                flows = track(FLOWS_FOLDER)
            found = track(LANDMARKS_FOLDER), track(PUPILS_FOLDER)
            if found[0].ndim != 3 or found[0].shape[::2] != found[1].shape[::2]:
                raise BadClip("its landmarks and pupils have different shapes")
            points = np.concatenate(found, axis=1)

        frames = frame_files(folder)

        @cache
        def heatmaps() -> np.ndarray:
            path = self.root / HEATMAPS_FOLDER / name.identity / f"{name.clip}.npy"
            return _map_heatmaps(path, len(frames))

        def encoded_frame(n: int) -> bytes:
            path = folder / frames[n]
            try:
                return path.read_bytes()
            except OSError as error:
                raise BadClip(f"frame {n} is unreadable ({path}: {error.strerror})") from error

        return Clip(
            len(frames),
            encoded_frame,
            pose,
            windows,
            points,
            track(KEYPOINTS_FOLDER) if wanted.keypoints else None,
            (lambda n: heatmaps()[n]) if wanted.heatmaps else None,
            regions,
            flows,
        )


def check_taught(teacher: Teacher | None, root: Path, *, with_heatmaps: bool) -> None:
    """Makes sure that a data set has the keypoints that are wanted.

    Raises:
        UserError: it has none, or none with heatmaps.
    """
    if teacher is None or (with_heatmaps and not teacher.heatmaps):
        what = "no image keypoints" if teacher is None else "no heatmaps of its image keypoints"
        raise UserError(
            f"{root} holds {what}; compute them with python -m data.teach (for a packed data "
            "set: in the folder it is packed from), or set taught to False, to detect them anew "
            "in every step"
        )


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _found_instead(folder: Path) -> str:
    if not folder.is_dir():
        return "but there is no such folder"
    found = sorted(entry.name for entry in folder.iterdir())
    if not found:
        return "but the folder is empty"
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return f"but found {', '.join(found[:5])}{more}"


FRAME_ENDINGS = (".png", ".jpg", ".jpeg")
"""Of frames, in upper or lower case."""


def frame_files(folder: Path) -> list[str]:
    """The files of the frames, which must be numbered from 0 without gaps."""
    try:
        # Hidden files are not frames: macOS writes ._0.png beside 0.png.
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise BadClip(f"its frames are unreadable ({folder}: {error.strerror})") from error
    frames: dict[int, str] = {}
    for name in names:
        stem, ending = os.path.splitext(name)
        if ending.lower() not in FRAME_ENDINGS:
            continue
        if not re.fullmatch("0|[1-9][0-9]*", stem):
            raise BadClip(f"frame {name} is not numbered as 0.png, 1.png, ...")
        number = int(stem)
        if number in frames:
            raise BadClip(f"frame {number} is there twice, as {frames[number]} and {name}")
        frames[number] = name
    last = max(frames, default=-1)
    gaps = set(range(last)) - frames.keys()
    if gaps:
        more = f" and {len(gaps) - 1} more are" if len(gaps) > 1 else " is"
        raise BadClip(f"frame {min(gaps)}{more} missing ({frames[last]} is the last)")
    if not frames:
        others = f", but found {names[0]}" if names else ""
        raise BadClip(f"it has no frames 0.png, 1.png, ...{others}")
    return [frames[number] for number in range(len(frames))]


_HEADERS = threading.Lock()
"""NumPy parses file headers as Python. Before Python 3.11.8 and 3.12.2 this is not thread-safe and
occasionally raises SystemError (CPython issue 106905)."""


def _map_heatmaps(path: Path, num_frames: int) -> np.ndarray:
    """The heatmaps of a clip on disk, of which a reader takes some."""
    try:
        with _HEADERS:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise BadClip(f"{path} is missing") from error
    except (OSError, ValueError, EOFError) as error:
        raise BadClip(f"{path} is not a readable .npy file of numbers") from error
    if array.dtype != np.float16 or array.ndim != 4 or len(array) != num_frames:
        raise BadClip(f"{path} does not hold {num_frames} heatmaps in float16")
    return array


def _load_track(path: Path) -> np.ndarray:
    try:
        content = io.BytesIO(path.read_bytes())
        with _HEADERS:
            track = np.lib.format.read_array(content, allow_pickle=False)
    except FileNotFoundError as error:
        raise BadClip(f"{path} is missing") from error
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise BadClip(f"{path} is not a readable .npy file of numbers") from error
    if track.dtype.kind not in "fiu":
        raise BadClip(f"{path} is not a readable .npy file of numbers")
    return track.astype(np.float32)
