"""Reads videos of any rate, shape and codec as 25 frames a second.

Reading goes by the time at which each frame is shown, never by a header's counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from eamm_jax.constants import FRAME_RATE
from eamm_jax.errors import UserError
from eamm_jax.io.decoding import LONGEST_PAUSE, decoded, opened
from eamm_jax.io.files import check_readable
from eamm_jax.io.image import fit_inside, fit_square


class Shown(NamedTuple):
    """A frame and when it is shown, in seconds."""

    start: Fraction
    stop: Fraction
    frame: Any


def sample_in_time(
    shown: Iterable[Shown], frame_rate: int, origin: Fraction | None = None
) -> Iterator[Any]:
    """Picks the frames that make a constant rate out of frames shown at any times.

    A frame is held until the next one starts; each output takes the frame that is shown in the
    middle of its own 1/`frame_rate` seconds, so that rounded timestamps change nothing.

    Args:
        shown: frames with rising starts; of the last one the stop counts too.
        frame_rate: frames per second that are wanted.
        origin: when the output begins; None is the first start. Until the first start the first
            frame is held.

    Yields:
        Frames, some perhaps several times, some never; at least one if there was one.
    """
    count = 0

    def middle() -> Fraction:
        return start + Fraction(2 * count + 1, 2 * frame_rate)

    current = None
    for following in shown:
        if current is None:
            start = following.start if origin is None else origin
        else:
            while middle() < following.start:
                yield current.frame
                count += 1
        current = following
    if current is None:
        return
    while not count or middle() < current.stop:
        yield current.frame
        count += 1


def timed(frames: Iterable[Any], nominal_rate: Fraction | None) -> Iterator[Shown]:
    """Gives every frame a time, also where timestamps are missing, repeated or go back.

    Args:
        frames: PyAV's, of packets whose timestamps are continuous.
        nominal_rate: frames per second, where a frame does not say how long it lasts.
    """
    period = 1 / Fraction(nominal_rate or FRAME_RATE)
    previous: Shown | None = None
    shift = Fraction(0)
    for frame in frames:
        duration = (frame.duration or 0) * (frame.time_base or 0)
        if not 0 < duration <= _LONGEST_FRAME:
            duration = period
        expected = previous.stop if previous else Fraction(0)
        start = expected if frame.pts is None else frame.pts * frame.time_base + shift
        if previous and not previous.start < start <= previous.start + LONGEST_PAUSE:
            shift += expected - start
            start = expected
        previous = Shown(start, start + duration, frame)
        yield previous


_LONGEST_FRAME = Fraction(10)
"""Seconds that a last frame is shown at most."""

_PIXEL_ASPECT_RATIOS = (1 / 4, 4)
"""Others are damaged headers."""


class _Upright:
    """Turns decoded frames into RGB as a player shows them.

    Args:
        size: side of the square that is wanted; None keeps the whole frames, at the size of the
            first, with square pixels.
        pixel_aspect_ratio: width of a stored pixel divided by its height.
        is_picture: whether the file is a picture, not a video.
    """

    def __init__(self, size: int | None, pixel_aspect_ratio: float, is_picture: bool):
        least, most = _PIXEL_ASPECT_RATIOS
        self._ratio = pixel_aspect_ratio if least <= pixel_aspect_ratio <= most else 1.0
        self._size = size
        self._matrix = _turn if is_picture else _display_matrix
        self._whole: tuple[int, int] | None = None

    def __call__(self, frame: Any) -> UInt8[np.ndarray, "h w 3"]:
        pixels = frame.to_ndarray(format="rgb24")
        ratio = self._ratio
        (a, b), (c, d) = self._matrix(frame)
        if abs(b) + abs(c) > abs(a) + abs(d):
            pixels, ratio, a, d = pixels.swapaxes(0, 1), 1 / ratio, c, b
        pixels = np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
        if self._size is not None:
            return np.asarray(fit_square(Image.fromarray(pixels), self._size, ratio))
        height, width = pixels.shape[:2]
        # The shorter side of a pixel grows, so that nothing is lost.
        width, height = round(width * max(ratio, 1)), round(height * max(1 / ratio, 1))
        self._whole = self._whole or (width, height)
        return fit_inside(pixels, width, height, *self._whole)


def _turn(frame: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """`_display_matrix` without mirroring, for pictures.

    To touch the side data of a picture with a colour profile crashes PyAV 18, and that of one with
    EXIF fails.
    """
    turns = {0: (1, 0), 90: (0, -1), 180: (-1, 0), 270: (0, 1)}
    x, y = turns.get(frame.rotation % 360, (1, 0))
    return (x, y), (-y, x)


def _display_matrix(frame: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """How a stored (x, y) is shown, at (a x + c y, b x + d y): ((a, b), (c, d)), in 16.16."""
    stored = frame.side_data.get("DISPLAYMATRIX")
    if stored is None:
        return (1, 0), (0, 1)
    a, b, _, c, d = np.frombuffer(stored, np.int32)[:5].tolist()
    return (a, b), (c, d)


def read_video(
    path: str | os.PathLike[str], size: int | None, start: Fraction | None = None
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Reads a video's frames, 25 a second, one by one, as a player shows them.

    Args:
        path: anything FFmpeg decodes, of any rate, also a variable one, any orientation and any
            shape of pixels.
        size: side of the square frames that are wanted: the middle of the picture, resized with
            antialiasing; frames that fit already keep their exact pixels. None gives whole
            frames, upright and with square pixels; frames of another size than the first are
            fitted into it.
        start: second of the file's clock that the video begins at, for a picture that belongs
            to the sound in the same file (`decoding.start_time`); None is its first frame.

    Returns:
        An iterator of RGB frames, (size, size, 3) if a size was given. A file that is cut short
        gives the frames that are there, and a warning is logged. A frame that is shown longer
        comes several times as one array: copy before changing it.

    Raises:
        UserError: at once if the file cannot be read or has no video track; from the iterator
            if not one frame can be decoded.
    """
    path = check_readable(path, "video")
    with opened(path, "video"):
        pass
    return _frames(path, size, start)


def _frames(
    path: Path, size: int | None, start: Fraction | None
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    with opened(path, "video") as (container, stream):
        is_picture = container.format.name.endswith("_pipe")
        upright = _Upright(size, float(stream.sample_aspect_ratio or 1), is_picture)
        shown = timed(decoded(path, container, stream), stream.average_rate)
        latest = None
        for frame in sample_in_time(shown, FRAME_RATE, start):
            if frame is not latest:
                latest, pixels = frame, upright(frame)
            yield pixels
    if latest is None:
        raise UserError(f"Cannot read the video {path}: not one frame of it can be decoded")


def video_seconds(path: str | os.PathLike[str], at_most: float) -> float:
    """How long a video lasts, by the times at which its frames are shown.

    Args:
        path: as for `read_video`.
        at_most: seconds after which nobody wants to know; no more is decoded.

    Returns:
        Seconds; of a longer video some number above `at_most`.

    Raises:
        UserError: the file cannot be read, has no video track, or not one frame is good.
    """
    path = check_readable(path, "video")
    start, seconds = None, Fraction(0)
    with opened(path, "video") as (container, stream):
        for shown in timed(decoded(path, container, stream), stream.average_rate):
            start = shown.start if start is None else start
            seconds = shown.stop - start
            if seconds > at_most:
                break
    if start is None:
        raise UserError(f"Cannot read the video {path}: not one frame of it can be decoded")
    return float(seconds)
