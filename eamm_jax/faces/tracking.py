"""Follows one face through the frames of a video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from eamm_jax.faces.face import Face, FaceFinder
from eamm_jax.faces.similarity import Similarity, resized

_SEARCH = 1.8
"""Side, in faces, of the part of a frame in which the face of the frame before is looked for."""

_FACE_PIXELS = 120
"""Faces are looked for at once or twice this width; those of crops are 130 wide."""

_CUT_JUMP = 0.5
"""Widths of a face that it does not move from one frame to the next."""

_CUT_GROWTH = 1.3
"""Factor that it does not grow by."""

_CUT_LEVELS = 25.0
"""Mean difference, of 255, of two frames with a cut between them."""

_THUMBNAIL = (32, 18)


class TrackedFrame(NamedTuple):
    """A frame, and the face that is followed.

    Attributes:
        frame: RGB.
        face: in pixels of the frame; None where it was not found.
        cut: whether another scene begins here.
    """

    frame: UInt8[np.ndarray, "h w 3"]
    face: Face | None
    cut: bool


def follow(
    finder: FaceFinder, frames: Iterable[UInt8[np.ndarray, "h w 3"]]
) -> Iterator[TrackedFrame]:
    """Finds one face in all frames: the largest of the first that shows any, and its nearest.

    Each frame is searched near the last place first. One that is shown for longer, the same array
    again, is searched once.
    """
    last: Face | None = None
    tracked: TrackedFrame | None = None
    thumbnail: np.ndarray | None = None
    for frame in frames:
        if tracked is not None and frame is tracked.frame:
            tracked = tracked._replace(cut=False)
            yield tracked
            continue
        before, thumbnail = thumbnail, _thumbnail(frame)
        face = _find_again(finder, frame, last)
        jumped = tracked is not None and face is not None and _has_jumped(tracked.face, face)
        changed = before is not None and np.abs(thumbnail - before).mean() > _CUT_LEVELS
        tracked = TrackedFrame(frame, face, bool(jumped or changed))
        yield tracked
        last = face or last


class Track(NamedTuple):
    """Where a face is in each frame of a video.

    Attributes:
        landmarks: in pixels of the frames; interpolated where the face was missing.
        missing: frames in which no face was found.
        cuts: frames that begin another scene.
    """

    landmarks: Float[np.ndarray, "t 68 2"]
    missing: list[int]
    cuts: list[int]


def track(finder: FaceFinder, frames: Iterable[UInt8[np.ndarray, "h w 3"]]) -> Track | None:
    """The landmarks of one face in all frames, as `follow` finds them.

    Returns:
        None if no frame shows a face.
    """
    followed = [(face, cut) for _, face, cut in follow(finder, frames)]
    seen = [face for face, _ in followed]
    missing = [index for index, face in enumerate(seen) if face is None]
    if len(missing) == len(seen):
        return None
    cuts = [index for index, (_, cut) in enumerate(followed) if cut]
    points = [None if face is None else face.landmarks for face in seen]
    return Track(fill_gaps(points, cuts), missing, cuts)


def _thumbnail(frame: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    image = Image.fromarray(frame).resize(_THUMBNAIL, Image.Resampling.BOX)
    return np.asarray(image, np.float32)


def _middle(face: Face) -> Float[np.ndarray, "2"]:
    left, top, right, bottom = face.box
    return np.array([left + right, top + bottom]) / 2


def _has_jumped(before: Face | None, face: Face) -> bool:
    if before is None:
        return False
    growth = max(face.width / before.width, before.width / face.width)
    moved = float(np.linalg.norm(_middle(face) - _middle(before)))
    return moved > _CUT_JUMP * before.width or growth > _CUT_GROWTH


def _find_again(
    finder: FaceFinder, frame: UInt8[np.ndarray, "h w 3"], last: Face | None
) -> Face | None:
    """The face nearest to where it was, in that part of the frame first; or the largest."""
    if last is None:
        return next(iter(finder.find(frame)), None)
    found = _find_near(finder, frame, last) or finder.find(frame)
    return min(found, key=lambda face: np.linalg.norm(_middle(face) - _middle(last)), default=None)


def _find_near(finder: FaceFinder, frame: UInt8[np.ndarray, "h w 3"], last: Face) -> list[Face]:
    reach = _SEARCH * last.width / 2
    start = np.maximum(_middle(last) - reach, 0).astype(int)
    left, top = start.tolist()
    right, bottom = np.ceil(_middle(last) + reach).astype(int)
    part = frame[top:bottom, left:right]
    factor = max(1, int(last.width / _FACE_PIXELS))
    if factor > 1:
        part = np.asarray(Image.fromarray(part).reduce(factor))
    to_frame = Similarity(1, complex(left, top)).after(resized(factor))
    return [_moved(face, to_frame) for face in finder.find(np.ascontiguousarray(part))]


def _moved(face: Face, to_frame: Similarity) -> Face:
    left, top, right, bottom = to_frame(np.array(face.box).reshape(2, 2)).ravel().tolist()
    landmarks = to_frame(face.landmarks).astype(np.float32)
    return face._replace(box=(left, top, right, bottom), landmarks=landmarks)


def fill_gaps(
    values: Sequence[np.ndarray | None], cuts: Sequence[int] = ()
) -> Float[np.ndarray, "t *n"]:
    """Interpolates what is None: between the nearest that are known, and not across a cut.

    Args:
        values: per frame; at least one must be known.
        cuts: frames that begin another scene.
    """
    known = np.array([index for index, value in enumerate(values) if value is not None])
    rows = np.stack([np.ravel(value) for value in values if value is not None])
    filled = np.empty((len(values), rows.shape[1]))
    for shot in shots(len(values), cuts):
        of_shot = np.flatnonzero((shot.start <= known) & (known < shot.stop))
        if not len(of_shot):  # then those of the shot before, or after
            of_shot = np.array([max(0, np.sum(known < shot.start) - 1)])
        at = np.arange(shot.start, shot.stop)
        for column in range(rows.shape[1]):
            filled[shot, column] = np.interp(at, known[of_shot], rows[of_shot, column])
    return filled.reshape(len(values), *np.shape(values[known[0]]))


def shots(length: int, cuts: Sequence[int]) -> list[slice]:
    """The parts between cuts."""
    ends = [0, *cuts, length]
    return [slice(start, stop) for start, stop in pairwise(ends)]
