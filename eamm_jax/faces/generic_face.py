"""A generic face in three dimensions: the landmarks that bones hold, for the pose of a head.

This project's own, put together from plain proportions of adult faces (the usual anthropometric
distances, means of men and women, in millimetres):

    between the outer corners of the eyes 90, the inner 33; nasion to foot of the nose 50, of
    that the tip of the nose 38; the tip 19.5 before the nasion, the foot of the nose 9; wings of
    the nose 30 apart; mouth 51 wide, its corners 72 below the nasion; outer corners of the eyes
    21 behind the nasion, inner ones 10; brows 114 from end to end

Points are in dlib's order of 68 landmarks, from the nasion: x to picture right, y up, z to the
viewer. The mouth is there by its corners alone and the jaw not at all, since they speak; brows
count a quarter, since they move.

How this face stands in the coordinates of the published poses (whose head has its centre behind
the face, and an upright of its own) is four numbers, found by
`python benchmarks/head_pose.py --calibrate` on the published poses of the LRW clip and those of
the converted network on other films; none of the portraits that the estimate is measured on.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int

_MIDDLE = {
    27: (0.0, 0.0, 0.0),
    28: (0.0, -13.0, 5.5),
    29: (0.0, -25.0, 12.0),
    30: (0.0, -38.0, 19.5),
    33: (0.0, -50.0, 9.0),
}

_PAIRS = {
    (17, 26): (-57.0, 9.0, -26.0),
    (18, 25): (-48.0, 17.0, -14.0),
    (19, 24): (-37.0, 20.0, -4.0),
    (20, 23): (-25.0, 18.5, 2.0),
    (21, 22): (-13.0, 14.0, 4.0),
    (31, 35): (-15.0, -46.0, 1.5),
    (32, 34): (-7.5, -48.5, 7.5),
    (36, 45): (-45.0, -5.0, -21.0),
    (37, 44): (-36.0, 0.5, -14.0),
    (38, 43): (-25.5, 0.5, -9.0),
    (39, 42): (-16.5, -7.0, -10.0),
    (40, 47): (-25.5, -10.5, -11.0),
    (41, 46): (-36.0, -10.0, -15.5),
    (48, 54): (-25.5, -72.0, -4.0),
}
"""Points of the left half of the picture, and the landmarks they and their mirror images are."""

_BROWS = range(17, 27)
_BROW_WEIGHT = 0.25

SIZE = 1.010
"""Size of this face where the published head has its own: what the published scale counts."""

PITCH = -1.0
"""Degrees by which this face, upright, is nodded down in the published convention."""

NASION = (30.7, 100.6)
"""Height and depth of its nasion from the centre of the published head, millimetres."""


_TABLE = {
    **_MIDDLE,
    **{left: point for (left, _), point in _PAIRS.items()},
    **{right: (-x, y, z) for (_, right), (x, y, z) in _PAIRS.items()},
}

LANDMARKS: Int[np.ndarray, " n"] = np.array(sorted(_TABLE))
"""Which of dlib's 68 the points are."""

WEIGHTS: Float64[np.ndarray, " n"] = np.where(np.isin(LANDMARKS, _BROWS), _BROW_WEIGHT, 1.0)
"""How much each counts."""


def calibrated(
    size: float, pitch: float, nasion: tuple[float, float]
) -> Float64[np.ndarray, "n 3"]:
    """The points in the coordinates of the published poses, micrometres.

    Args:
        size: as `SIZE`.
        pitch: as `PITCH`.
        nasion: as `NASION`.
    """
    cosine, sine = np.cos(np.radians(pitch)), np.sin(np.radians(pitch))
    nod = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    points = np.array([_TABLE[landmark] for landmark in LANDMARKS])
    return 1000 * (size * points @ nod.T + [0.0, *nasion])


POINTS: Float64[np.ndarray, "n 3"] = calibrated(SIZE, PITCH, NASION)
