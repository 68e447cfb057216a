"""From the published head pose to pixels and back: the camera of the drawn portraits.

The pose is 3DDFA_V2's: a weak perspective camera on an image of 120x120 pixels cut around the
face, y upwards, angles in the order roll * yaw * pitch:

    roi = scale * (R p)_xy + (tx, ty)

with p in micrometres from the centre of the head. Positive yaw turns the nose to picture left,
positive pitch nods it down, positive roll turns the picture of the head counter-clockwise
(checked against landmarks of the published portraits).

The published crops are aligned to a template of landmarks. The 3DDFA region around that
template spans 232 pixels of the 256 of the crop, so one of its pixels is 1.94 of the crop's;
with that, mean pose and template agree to a few pixels. It fixes where a pose puts the head in
our frame, and the unit of length of this package: half the frame at the usual scale, 142 mm.

Coordinates. Head: x to picture right, y down, z towards the viewer, in half frames, with the
origin at the middle of the frame of a face seen frontally at rest. Picture: (x, y) in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Float32

REST_SCALE = 4.65e-4
"""Scale of a face that fills the frame as the published crops do (their mean)."""

REST_TX, REST_TY = 60.6, 69.5
"""Translation of a head held straight (line through the published poses at 0 degrees)."""

TX_PER_YAW, TY_PER_PITCH = 0.43, 0.43
"""Translation, in region pixels a degree, that keeps a turning face inside its crop.

The published poses lie on these lines: the crop follows the face, so that the centre of the
head, 0.37 half frames behind it, swings the other way.
"""

REST_TZ = -66.67
"""Seventh number of the published poses; nothing reads it."""

ROI_PIXEL = 1.94 / 128
"""A pixel of the 120x120 region in half frames."""

CENTRE_Y = 0.14
"""Height of the centre of the head in the frame at rest."""

Coordinate = TypeVar("Coordinate", float, np.ndarray)

Depth = Callable[[Any, Any], Any]
"""Height z of a layer of the drawing above the plane through the centre of the head."""


class Pose(NamedTuple):
    """The published numbers; see the module's docstring for directions and units."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    scale: float = REST_SCALE
    tx: float = REST_TX
    ty: float = REST_TY


def held(
    yaw: float, pitch: float, roll: float, zoom: float = 1.0, dx: float = 0.0, dy: float = 0.0
) -> Pose:
    """The pose of a head that turns while its face stays where it is in the frame.

    Args:
        yaw: degrees.
        pitch: degrees.
        roll: degrees.
        zoom: size relative to the usual framing.
        dx: shift to picture right, half frames.
        dy: shift downwards, half frames.
    """
    return Pose(
        yaw,
        pitch,
        roll,
        REST_SCALE * zoom,
        REST_TX + TX_PER_YAW * yaw + dx / ROI_PIXEL,
        REST_TY + TY_PER_PITCH * pitch - dy / ROI_PIXEL,
    )


def rotation(yaw: float, pitch: float, roll: float) -> Float[np.ndarray, "3 3"]:
    """Rotation of head coordinates (y down) for angles in degrees."""
    (a, b, c), (i, j, k) = (f(np.radians([yaw, pitch, roll])) for f in (np.cos, np.sin))
    about_x = np.array([[1, 0, 0], [0, b, -j], [0, j, b]])
    about_y = np.array([[a, 0, -i], [0, 1, 0], [i, 0, a]])
    about_z = np.array([[c, -k, 0], [k, c, 0], [0, 0, 1]])
    flip = np.diag([1.0, -1.0, 1.0])
    return flip @ about_z @ about_y @ about_x @ flip


class Camera:
    """Where the points of a head in a given pose appear, and what each pixel sees."""

    _ITERATIONS = 4

    def __init__(self, pose: Pose):
        turn = rotation(pose.yaw, pose.pitch, pose.roll)
        self.zoom = float(pose.scale) / REST_SCALE
        self.turn = turn
        self._linear = (self.zoom * turn[:2, :2]).tolist()
        self._lift = (self.zoom * turn[:2, 2]).tolist()
        self._shift = (
            float(pose.tx - REST_TX) * ROI_PIXEL,
            CENTRE_Y - float(pose.ty - REST_TY) * ROI_PIXEL,
        )
        self._inverse = np.linalg.inv(self._linear).tolist()

    def project(self, x: Coordinate, y: Coordinate, z: Coordinate) -> tuple[Coordinate, Coordinate]:
        """Picture coordinates of a point of the head, or of arrays of points."""
        (a, b), (c, d) = self._linear
        (e, f), (g, h) = self._lift, self._shift
        y = y - CENTRE_Y
        return a * x + b * y + e * z + g, c * x + d * y + f * z + h

    def spread(self, half: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """Pixels that a unit of x and of y spans, across and down, in a picture 2 half wide."""
        (a, b), (c, d) = self._linear
        return (abs(a) * half, abs(b) * half), (abs(c) * half, abs(d) * half)

    def shift_by(self, depth: float) -> float:
        """How far a difference in depth moves a point of the picture."""
        return depth * max(abs(e) for e in self._lift)

    def unproject(
        self, u: Float32[np.ndarray, "h w"], v: Float32[np.ndarray, "h w"], depth: Depth | float
    ) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
        """Head coordinates (x, y) of what each pixel sees on the surface z = depth(x, y).

        Solved by fixed-point iteration, which converges while the surface is not seen edge on
        (up to 30 degrees for the surfaces of this package).
        """
        (a, b), (c, d) = self._inverse
        (e, f), (g, h) = self._lift, self._shift
        fx, fy = a * e + b * f, c * e + d * f
        u, v = u - g, v - h
        flat_x, flat_y = a * u + b * v, c * u + d * v + CENTRE_Y
        if not callable(depth):
            return flat_x - fx * depth, flat_y - fy * depth
        x, y = flat_x, flat_y
        for _ in range(self._ITERATIONS):
            z = depth(x, y)
            x, y = flat_x - fx * z, flat_y - fy * z
        return x, y
