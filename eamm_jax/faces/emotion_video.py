"""Videos of an emotional face, each frame aligned to the first, as the published demo does.

Two passes over the file: the first finds the landmarks of every frame (68 points each is all that
is kept), the second cuts the frames out one by one. So memory does not grow with the length, and
what is wrong with a video is said before anything is drawn.

The first frame is framed as a portrait is; the others are laid on it by the landmarks of jaw,
brows and nose, so that the face stays where it is while its expression changes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy.signal import savgol_filter

from eamm_jax.errors import UserError
from eamm_jax.faces import detection
from eamm_jax.faces.cropping import crop
from eamm_jax.faces.detection import Face, FaceFinder
from eamm_jax.faces.framing import frame_face, is_framed, no_face, read_template
from eamm_jax.faces.similarity import Similarity, fit_similarity, resized
from eamm_jax.io.video import read_video
from eamm_jax.types import FRAME_RATE

_log = logging.getLogger(__name__)

VIDEO_POINTS = slice(0, 35)
"""Jaw, brows and nose: what an expression moves least (ARCHITECTURE.md section 4)."""

_SMOOTHED = 9
"""Frames, about a third of a second, over which a place is fitted by a parabola: heads move
slower, the detector's jitter is faster."""

_SEARCH = 1.8
"""Side, in faces, of the part of a frame in which the face of the frame before is looked for."""

_FACE_PIXELS = 120
"""Faces are looked for at once or twice this width; the crops' are 130 wide."""

_CUT_JUMP = 0.5
"""Widths of a face that it does not move from one frame to the next."""

_CUT_GROWTH = 1.3
"""Times that it does not grow."""

_CUT_LEVELS = 25.0
"""Mean difference, of 255, of two frames between which there was a cut."""

_THUMBNAIL = (32, 18)


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


class EmotionVideo:
    """The frames of a video at 25 a second, square and aligned; iterates anew every time.

    A video whose first frame is framed already is left alone; so is any where `align` is False
    or no finder is installed: then frames are the square in the middle.

    Args:
        path: any video.
        size: of the frames.
        align: whether to look for the face.
        template: of the first frame, `.npy`, or None for the mean face.
        frames: how many are wanted at most; no more are looked at.

    Raises:
        UserError: the video cannot be read or shows no face.
    """

    def __init__(
        self,
        path: Path,
        size: int,
        *,
        align: bool = True,
        template: Path | None = None,
        frames: int | None = None,
    ):
        self._path, self._size, self._frames = path, size, frames
        whole = read_video(path, None)
        self.places: list[Similarity] | None = None
        if not align:
            return
        if template is None and not detection.is_installed():
            height, width = next(whole).shape[:2]
            if height != width:
                _log.info(
                    "%s: its middle is used; faces are found with: %s", path, detection.INSTALL
                )
            return
        self._align(whole, read_template(template))

    def _align(
        self, whole: Iterator[UInt8[np.ndarray, "h w 3"]], template: Float[np.ndarray, "68 2"]
    ) -> None:
        finder = detection.make_finder()
        frames = islice(whole, self._frames)
        first = next(frames)
        height, width = first.shape[:2]
        if height == width:
            found = finder.find(first)
            if not found:
                _log.info(
                    "%s begins without a face that is known as one: taken as it is", self._path
                )
                return
            place = frame_face(found[0].landmarks, template, self._size)
            if is_framed(place, height, width, self._size):
                return
        track = follow(finder, chain([first], frames))
        if track is None:
            raise UserError(no_face(self._path, height, width) + "; --no_crop takes it as it is")
        self._report(track)
        self.places = places(track, template, self._size)

    def _report(self, track: Track) -> None:
        if track.missing:
            _log.warning(
                "%s shows no face in %s of its %d frames (%s): its place was interpolated",
                self._path,
                len(track.missing),
                len(track.landmarks),
                ranges(track.missing),
            )
        if track.cuts:
            _log.warning(
                "%s has cuts at %s; a face should be seen in one shot",
                self._path,
                ", ".join(f"frame {n} ({n / FRAME_RATE:.2f} s)" for n in track.cuts),
            )

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "size size 3"]]:
        if self.places is None:
            yield from islice(read_video(self._path, self._size), self._frames)
            return
        for frame, place in zip(read_video(self._path, None), self.places, strict=False):
            yield crop(frame, place, self._size)


def follow(finder: FaceFinder, frames: Iterable[UInt8[np.ndarray, "h w 3"]]) -> Track | None:
    """Finds one face in all frames: the largest of the first that shows any, and its nearest.

    Returns:
        None if no frame shows a face.
    """
    seen: list[Face | None] = []
    cuts: list[int] = []
    last: Face | None = None
    frame: np.ndarray | None = None
    thumbnail: np.ndarray | None = None
    for index, following in enumerate(frames):
        if following is frame:  # shown for longer
            seen.append(seen[-1])
            continue
        frame, before = following, thumbnail
        thumbnail = _thumbnail(frame)
        face = _find_again(finder, frame, last)
        jumped = index > 0 and face is not None and _has_jumped(seen[-1], face)
        changed = before is not None and np.abs(thumbnail - before).mean() > _CUT_LEVELS
        if jumped or changed:
            cuts.append(index)
        seen.append(face)
        last = face or last
    missing = [index for index, face in enumerate(seen) if face is None]
    if len(missing) == len(seen):
        return None
    return Track(_interpolated(seen, cuts), missing, cuts)


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
    return Face((left, top, right, bottom), to_frame(face.landmarks).astype(np.float32))


def _interpolated(seen: Sequence[Face | None], cuts: list[int]) -> Float[np.ndarray, "t 68 2"]:
    """Landmarks in all frames: between the nearest that are known, and not across a cut."""
    known = [index for index, face in enumerate(seen) if face is not None]
    landmarks = np.array([seen[index].landmarks for index in known], np.float64)  # type: ignore[union-attr]
    track = np.empty((len(seen), *landmarks.shape[1:]))
    for shot in shots(len(seen), cuts):
        of_shot = [n for n, index in enumerate(known) if shot.start <= index < shot.stop]
        if not of_shot:  # then those of the shot before, or after
            of_shot = [max(0, sum(index < shot.start for index in known) - 1)]
        at = np.array(known)[of_shot]
        for point in np.ndindex(*landmarks.shape[1:]):
            track[shot, *point] = np.interp(
                np.arange(shot.start, shot.stop), at, landmarks[of_shot, *point]
            )
    return track


def shots(length: int, cuts: list[int]) -> list[slice]:
    """The parts between cuts."""
    ends = [0, *cuts, length]
    return [slice(start, stop) for start, stop in pairwise(ends)]


def places(
    track: Track, template: Float[np.ndarray, "68 2"], size: int, *, smoothed: bool = True
) -> list[Similarity]:
    """Where the crop lies in each frame: from its pixels to those of the frame.

    Args:
        track: of a face.
        template: 68 points in a crop of 256 x 256; the first frame is laid on it.
        size: of the crop.
        smoothed: whether the detector's jitter is removed.
    """
    first = track.landmarks[0]
    wanted = frame_face(first, template, size).inverse()(first)[VIDEO_POINTS]
    fitted = [fit_similarity(wanted, landmarks[VIDEO_POINTS]) for landmarks in track.landmarks]
    turns = np.array([place.turn for place in fitted])
    # The middle of the face, as the corner of a crop swings with every turn.
    pivot = complex(*wanted.mean(axis=0))
    middles = turns * pivot + np.array([place.shift for place in fitted])
    for shot in shots(len(fitted), track.cuts) if smoothed else []:
        turns[shot], middles[shot] = _smoothed(turns[shot]), _smoothed(middles[shot])
    return [
        Similarity(complex(turn), complex(middle - turn * pivot))
        for turn, middle in zip(turns, middles, strict=True)
    ]


def _smoothed(track: np.ndarray) -> np.ndarray:
    window = min(_SMOOTHED, len(track) - 1 + len(track) % 2)  # an odd number
    if window < 5:
        return track
    return savgol_filter(track.real, window, 2) + 1j * savgol_filter(track.imag, window, 2)


def ranges(numbers: list[int]) -> str:
    """Rising numbers in words: "3, 7-9"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
