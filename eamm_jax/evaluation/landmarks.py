"""Landmark metrics: distance, mouth opening and timing, blinks, jitter; and regions.

Landmarks are dlib's 68, (x, y) in [-1, 1] of the frame. Distances are in pixels of a 256x256 frame,
whatever the size of the frames, because published tables use that size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64

Track = Float[np.ndarray, "t 68 2"]
"""Landmarks of each frame."""

PIXELS = 128.0
"""Pixels of a 256x256 frame per unit of coordinates."""

JAW, BROWS, NOSE = slice(0, 17), slice(17, 27), slice(27, 36)
EYES, MOUTH, FACE = slice(36, 48), slice(48, 68), slice(0, 68)
LEFT_EYE, RIGHT_EYE = slice(36, 42), slice(42, 48)
"""Left and right in the image."""

_OUTER_CORNERS = (36, 45)
INNER_LIPS = ((61, 67), (62, 66), (63, 65))
"""Pairs of opposite landmarks on the upper and lower lip."""

_MOUTH_MARGIN = 0.25
_EYE_MARGIN = 0.40
"""Margin of a region around its landmarks, as a fraction of their width."""


def landmark_distance(
    found: Track, truth: Track, points: slice = FACE
) -> Float64[np.ndarray, " t"]:
    """Landmark distance of each frame: M-LMD for `MOUTH`, F-LMD for `FACE`.

    The mean distance of corresponding points after centring both sets on their mean, so that
    only the shape counts, not the position.

    Returns:
        Pixels of a 256x256 frame.
    """
    first, second = (track[:, points].astype(np.float64) for track in (found, truth))
    centred = [track - track.mean(axis=1, keepdims=True) for track in (first, second)]
    return PIXELS * np.linalg.norm(centred[0] - centred[1], axis=-1).mean(axis=-1)


def mouth_opening(track: Track) -> Float64[np.ndarray, " t"]:
    """Mouth opening of each frame, in units of the distance between the outer eye corners.

    The mean gap between the three pairs of inner lip landmarks.
    """
    track = track.astype(np.float64)
    upper, lower = np.array(INNER_LIPS).T
    gap = np.linalg.norm(track[:, upper] - track[:, lower], axis=-1).mean(axis=-1)
    left, right = _OUTER_CORNERS
    return gap / np.linalg.norm(track[:, left] - track[:, right], axis=-1)


class Timing(NamedTuple):
    """How well the motion of a mouth follows the ground truth.

    Attributes:
        correlation: Pearson correlation at lag 0.
        near: the largest correlation at a lag of at most one frame.
        best: the largest correlation within the allowed lags.
        lag: the lag of the best correlation, in frames; positive is late.
    """

    correlation: float
    near: float
    best: float
    lag: int


def correlation(found: Float[np.ndarray, " t"], truth: Float[np.ndarray, " t"]) -> float:
    """Pearson correlation; 0 if one of the two is constant."""
    a, b = (x.astype(np.float64) - x.mean(dtype=np.float64) for x in (found, truth))
    scale = np.sqrt((a @ a) * (b @ b))
    # A smaller variance is rounding error.
    return float(a @ b / scale) if scale > 1e-12 * len(a) else 0.0


def timing(found: Float[np.ndarray, " t"], truth: Float[np.ndarray, " t"], max_lag: int) -> Timing:
    """Correlation of a track with ground truth: at lag 0, near it, and at the best lag.

    Args:
        found: one number per frame, such as `mouth_opening`.
        truth: the same for the ground-truth frames.
        max_lag: in frames; at most a third of the clip.

    Raises:
        ValueError: the tracks differ in length, or are shorter than three frames.
    """
    if found.shape != truth.shape or len(found) < 3:
        raise ValueError(f"tracks of shapes {found.shape} and {truth.shape} cannot be correlated")
    max_lag = min(max_lag, len(found) // 3)
    at_lag = {
        lag: correlation(found[max(lag, 0) : len(found) + min(lag, 0)], _shifted(truth, lag))
        for lag in range(-max_lag, max_lag + 1)
    }
    # Ties go to the smallest lag.
    best = max(at_lag, key=lambda lag: (at_lag[lag], -abs(lag)))
    near = max(value for lag, value in at_lag.items() if abs(lag) <= 1)
    return Timing(at_lag[0], near, at_lag[best], best)


def _shifted(truth: np.ndarray, lag: int) -> np.ndarray:
    """The ground truth that overlaps a track which is late by `lag`."""
    return truth[max(-lag, 0) : len(truth) - max(lag, 0)]


def jitter(track: Track) -> float:
    """Mean length of the second temporal difference of the landmarks.

    Uniform motion has jitter 0. Talking faces do not move uniformly, so compare with the value of
    the ground-truth frames, read by the same reader.

    Returns:
        Pixels of a 256x256 frame; 0 for fewer than three frames.
    """
    if len(track) < 3:
        return 0.0
    second = np.diff(track.astype(np.float64), 2, axis=0)
    return float(PIXELS * np.linalg.norm(second, axis=-1).mean())


BLINK_OPENING = 0.7
"""Share of the usual eye opening below which an eye is shut."""

LONGEST_BLINK = 12
"""Frames (0.5 s); eyes that stay shut for longer do not blink."""


def eye_opening(track: Track) -> Float64[np.ndarray, " t"]:
    """Height of the eyes divided by their width, mean of both (Soukupova & Cech 2016, eq. 1)."""
    eyes = track[:, EYES].astype(np.float64).reshape(-1, 2, 6, 2)

    def apart(first: int, second: int) -> Float64[np.ndarray, "t 2"]:
        return np.linalg.norm(eyes[:, :, first] - eyes[:, :, second], axis=-1)

    return ((apart(1, 5) + apart(2, 4)) / (2 * apart(0, 3))).mean(axis=-1)


def blinks(track: Track) -> int:
    """Number of times that the eyes shut and open again.

    They are shut while their opening is below `BLINK_OPENING` times its median, for at most
    `LONGEST_BLINK` frames.
    """
    opening = eye_opening(track)
    shut = np.concatenate([[False], opening < BLINK_OPENING * np.median(opening), [False]])
    starts, ends = np.flatnonzero(np.diff(shut.astype(int))).reshape(-1, 2).T
    whole = (starts > 0) & (ends < len(opening)) & (ends - starts <= LONGEST_BLINK)
    return int(whole.sum())


def mouth_region(track: Track, height: int, width: int) -> Bool[np.ndarray, "t h w"]:
    """Pixels of the mouth, with a margin of a quarter of its width."""
    return _box(track[:, MOUTH], _MOUTH_MARGIN, height, width)


def eyes_region(track: Track, height: int, width: int) -> Bool[np.ndarray, "t h w"]:
    """Pixels of the two eyes, each with a margin of two fifths of its width."""
    left, right = (_box(track[:, eye], _EYE_MARGIN, height, width) for eye in (LEFT_EYE, RIGHT_EYE))
    return left | right


def _box(
    points: Float[np.ndarray, "t n 2"], margin: float, height: int, width: int
) -> Bool[np.ndarray, "t h w"]:
    """Pixels whose centres lie in the enlarged bounding box of the points."""
    low, high = points.min(axis=1), points.max(axis=1)
    around = margin * (high - low)[:, :1]
    low, high = low - around, high + around
    inside = []
    for axis, size in ((1, height), (0, width)):
        centres = (2 * np.arange(size) + 1) / size - 1
        inside.append((centres >= low[:, axis, None]) & (centres <= high[:, axis, None]))
    rows, columns = inside
    return rows[:, :, None] & columns[:, None, :]
