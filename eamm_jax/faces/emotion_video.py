"""Videos of an emotional face, aligned frame by frame, as the published demo does.

Two passes over the file: the first finds the landmarks of every frame (68 points each is all that
is kept), the second crops the frames one by one. So memory does not grow with the length, and
what is wrong with a video is reported before anything is rendered.

Frames are laid on each other by the landmarks of jaw, brows and nose, so that the face stays where
it is while its expression changes; the mean of them is framed as a source image is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from scipy.signal import savgol_filter

from eamm_jax.constants import FRAME_RATE
from eamm_jax.errors import UserError
from eamm_jax.faces import detection
from eamm_jax.faces.face import FaceFinder
from eamm_jax.faces.framing import frame_face, is_framed, no_face, read_template
from eamm_jax.faces.similarity import Similarity, crop, fit_similarity
from eamm_jax.faces.tracking import Track, shots, track
from eamm_jax.io.video import read_video

_log = logging.getLogger(__name__)

VIDEO_POINTS = slice(0, 35)
"""Jaw, brows and nose: what an expression moves least (docs/architecture.md section 7)."""

_SMOOTHED = 9
"""Frames, about a third of a second, over which a place is fitted by a parabola: heads move
slower, the detector's jitter is faster."""

_SAMPLED = slice(0, 250, 10)
"""Frames that tell whether a video is aligned already."""

_VOTES = 3
"""Faces in these frames that suffice."""


class EmotionVideo:
    """The frames of a video at 25 per second, square and aligned; iterates anew every time.

    A square video whose faces are framed already is left alone; so is one that shows none, and
    any where `align` is False or no finder is installed: then frames are the square in the middle.

    Args:
        path: any video.
        size: of the frames.
        align: whether to look for the face.
        template: 68 landmarks, `.npy`, that the face is aligned to; None is the mean face.
        frames: how many are wanted at most; no more are looked at.
        start: second of the file's clock that the first frame is shown at; None is the video's
            first.

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
        start: Fraction | None = None,
    ):
        self._path, self._size, self._frames, self._start = path, size, frames, start
        height, width = next(self._read(None)).shape[:2]
        self.places: list[Similarity] | None = None
        if not align:
            return
        if template is None and not detection.is_installed():
            if height != width:
                _log.info(
                    "%s: its middle is used; faces are found with: %s", path, detection.INSTALL
                )
            return
        finder = detection.make_finder()
        points = read_template(template, finder)
        if height == width and self._is_aligned(finder, points):
            return
        found = track(finder, self._read(None))
        if found is None:
            raise UserError(f"{no_face(path, height, width)}; without cropping its middle is used")
        self._report(found)
        self.places = places(found, points, size)

    def _read(self, size: int | None) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        return islice(read_video(self._path, size, start=self._start), self._frames)

    def _is_aligned(self, finder: FaceFinder, template: Float[np.ndarray, "68 2"]) -> bool:
        """Whether a square video is to be left alone, by most of the faces in some frames."""
        votes: list[bool] = []
        sampled = islice(self._read(None), _SAMPLED.start, _SAMPLED.stop, _SAMPLED.step)
        for frame in sampled:
            height, width = frame.shape[:2]
            for face in finder.find(frame)[:1]:
                place = frame_face(face.landmarks, template, self._size)
                votes.append(is_framed(place, height, width, self._size))
            if len(votes) == _VOTES:
                break
        if not votes:
            _log.info("%s shows no face that is known as one: taken as it is", self._path)
        return 2 * sum(votes) >= len(votes)

    def _report(self, found: Track) -> None:
        if found.missing:
            _log.warning(
                "%s shows no face in %s of its %d frames (%s): its place was interpolated",
                self._path,
                len(found.missing),
                len(found.landmarks),
                ranges(found.missing),
            )
        if found.cuts:
            _log.warning(
                "%s has cuts at %s; a face should be seen in one shot",
                self._path,
                ", ".join(f"frame {n} ({n / FRAME_RATE:.2f} s)" for n in found.cuts),
            )

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "size size 3"]]:
        if self.places is None:
            yield from self._read(self._size)
            return
        for frame, place in zip(self._read(None), self.places, strict=False):
            yield crop(frame, place, self._size)


def places(
    found: Track, template: Float[np.ndarray, "68 2"], size: int, *, smoothed: bool = True
) -> list[Similarity]:
    """Where the crop lies in each frame: from its pixels to those of the frame.

    Args:
        found: where the face is.
        template: 68 points in a crop of 256 x 256; the mean of the frames is laid on it.
        size: of the crop.
        smoothed: whether the detector's jitter is removed.
    """
    first = found.landmarks[0]
    laid = [
        fit_similarity(points[VIDEO_POINTS], first[VIDEO_POINTS])(points)
        for points in found.landmarks
    ]
    mean = np.mean(laid, axis=0)
    wanted = frame_face(mean, template, size).inverse()(mean)[VIDEO_POINTS]
    fitted = [fit_similarity(wanted, landmarks[VIDEO_POINTS]) for landmarks in found.landmarks]
    turns = np.array([place.factor for place in fitted])
    # The middle of the face, as the corner of a crop swings with every turn.
    pivot = complex(*wanted.mean(axis=0))
    middles = turns * pivot + np.array([place.shift for place in fitted])
    for shot in shots(len(fitted), found.cuts) if smoothed else []:
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
