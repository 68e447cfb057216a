"""The 68 landmarks of a drawn face, in dlib's order.

They are points of the very curves that are painted, seen by the same camera. 0..16 run along
the jaw, 17..26 along the brows, 27..35 down the nose and along its base, 36..47 around the
eyes and 48..67 around the lips, always from picture left to right, then back below.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32

from data.synthetic.camera import Camera
from data.synthetic.face import Brow, Eye, Face, Mouth

JAW, BROWS, NOSE, EYES, MOUTH = (
    slice(0, 17),
    slice(17, 27),
    slice(27, 36),
    slice(36, 48),
    slice(48, 68),
)

_JAW_ANGLES = np.pi - np.radians([92, 80, 67, 54, 43, 33, 22, 11, 0])
"""Around the middle of the face, from beside the eye down to the chin."""

_ON_LID = 0.40  # of the half width of the eye
_ON_LIP_OUTER = (0.62, 0.24, 0.0)  # of the half width of the mouth
_ON_LIP_INNER = (0.86, 0.38, 0.0)


def _jaw(face: Face) -> Float[np.ndarray, "17 2"]:
    right = face.outline.points(_JAW_ANGLES)
    return np.concatenate([right * (-1, 1), right[-2::-1]])


def _brow(brow: Brow) -> list[tuple[float, float]]:
    ts = (0.92, 0.46, 0.0, -0.46, -0.92)
    return [brow.point(t) for t in (ts if brow.side < 0 else ts[::-1])]


def _nose(face: Face) -> list[tuple[float, float]]:
    top, base, width = face.identity.eyes.y, face.nose_base, face.nose_width
    bridge = [(0.0, top + (base - 0.062 - top) * n / 3) for n in range(4)]
    under = [(s * width, base - (0.012 if abs(s) > 0.5 else 0.0)) for s in (-0.8, -0.4)]
    return [*bridge, *under, (0.0, base + 0.010), *[(-x, y) for x, y in under[::-1]]]


def _eye(eye: Eye) -> list[tuple[float, float]]:
    outer, inner = eye.point(1.0, 0.0), eye.point(-1.0, 0.0)
    up = [eye.point(t, eye.upper.at(t)) for t in (_ON_LID, -_ON_LID)]
    low = [eye.point(t, eye.lower.at(t)) for t in (-_ON_LID, _ON_LID)]
    if eye.side < 0:
        return [outer, *up, inner, *low]
    return [inner, *up[::-1], outer, *low[::-1]]


def _mouth(mouth: Mouth) -> list[tuple[float, float]]:
    a, b, c = _ON_LIP_OUTER
    across = (-a, -b, c, b, a)
    outer = [
        mouth.point(-1.0, mouth.seam),
        *[mouth.point(t, mouth.upper_outer) for t in across],
        mouth.point(1.0, mouth.seam),
        *[mouth.point(t, mouth.lower_outer) for t in across[::-1]],
    ]
    a, b, c = _ON_LIP_INNER
    inner = [
        mouth.point(-a, mouth.seam),
        *[mouth.point(t, mouth.upper_inner) for t in (-b, c, b)],
        mouth.point(a, mouth.seam),
        *[mouth.point(t, mouth.lower_inner) for t in (b, c, -b)],
    ]
    return [*outer, *inner]


def points(face: Face) -> Float[np.ndarray, "68 3"]:
    """Landmarks in head coordinates."""
    left_eye, right_eye = face.eyes
    left_brow, right_brow = face.brows
    jaw = _jaw(face)
    front = np.array(
        [
            *_brow(left_brow),
            *_brow(right_brow),
            *_nose(face),
            *_eye(left_eye),
            *_eye(right_eye),
            *_mouth(face.mouth),
        ]
    )
    xy = np.concatenate([jaw, front])
    depth = np.concatenate(
        [face.outline_depth(jaw[:, 0], jaw[:, 1]), face.depth(front[:, 0], front[:, 1])]
    )
    return np.concatenate([xy, depth[:, None]], 1)


def landmarks(face: Face, camera: Camera) -> Float32[np.ndarray, "68 2"]:
    """Landmarks in picture coordinates, (x, y) in [-1, 1]."""
    x, y, z = points(face).T
    return np.stack(camera.project(x, y, z), -1).astype(np.float32)


def pupils(face: Face, camera: Camera) -> Float32[np.ndarray, "2 2"]:
    """Where the pupils are in the picture, lids open or not, in the units of `landmarks`."""
    x, y = np.array([eye.iris for eye in face.eyes]).T
    return np.stack(camera.project(x, y, face.depth(x, y)), -1).astype(np.float32)
