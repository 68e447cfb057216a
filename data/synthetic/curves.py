"""Lines of the drawing, and how far each pixel is from them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int
from scipy.interpolate import CubicSpline

from data.synthetic.raster import Plane, norm, saturate

CURVE_T = np.linspace(-1.25, 1.25, 101)
"""Where a curve across an eye, a brow or the lips is sampled; its corners are at -1 and 1."""


class Places(NamedTuple):
    """Where pixels fall between the entries of a table."""

    below: Int[np.ndarray, "h w"]
    fraction: Plane


def _places(position: Plane) -> Places:
    index = position.astype(np.intp)
    return Places(index, position - index.astype(np.float32))


def _look_up(table: Float32[np.ndarray, " n"], places: Places) -> Plane:
    """Linear interpolation between an entry and the next."""
    below = table.take(places.below, mode="clip")
    step = table[1:].take(places.below, mode="clip")
    step -= below
    step *= places.fraction
    step += below
    return step


def along(t: Plane) -> Places:
    """Where pixels at positions `t` look up curves."""
    last = len(CURVE_T) - 1
    scale = last / (CURVE_T[-1] - CURVE_T[0])
    return _places(saturate((t - float(CURVE_T[0])) * float(scale / last)) * (last - 0.001))


class Curve:
    """A line y = f(t), sampled at `CURVE_T`."""

    def __init__(self, y: Float[np.ndarray, " n"], unit: float):
        """Takes the heights and the length of t = 1."""
        slope = np.diff(y, append=2 * y[-1] - y[-2]) * (1 / (unit * (CURVE_T[1] - CURVE_T[0])))
        self._y = y.astype(np.float32)
        self._tilt = (1 / np.sqrt(1 + slope * slope)).astype(np.float32)

    def at(self, t: float) -> float:
        """Height at one position."""
        return float(np.interp(t, CURVE_T, self._y))

    def height(self, places: Places) -> Plane:
        """Height at the pixels' positions."""
        return _look_up(self._y, places)

    def tilt(self, places: Places) -> Plane:
        """What a vertical distance is to be multiplied by where the line is steep."""
        return _look_up(self._tilt, places)

    def distance(self, places: Places, y: Plane) -> Plane:
        """Signed distance (nearly) from the line, positive below it (for greater y)."""
        return (y - self.height(places)) * self.tilt(places)


class Polar:
    """A closed outline around a centre on the middle line, its radius a function of the angle.

    Angles run from 0 at the top over picture right to pi at the bottom, negative on the left.
    """

    _SAMPLES = 512

    def __init__(self, centre_y: float, points: Float[np.ndarray, "n 2"]):
        """Passes a smooth outline through points given clockwise from the top, without repeats."""
        self._centre_y = centre_y
        dx, up = points[:, 0], centre_y - points[:, 1]
        angle = np.unwrap(np.arctan2(dx, up))
        radius = np.sqrt(dx * dx + up * up)
        spline = CubicSpline(
            np.append(angle, angle[0] + 2 * np.pi),
            np.append(radius, radius[0]),
            bc_type="periodic",
        )
        values = spline(np.linspace(-np.pi, np.pi, self._SAMPLES + 1))
        slope = np.diff(values, append=values[1]) * (self._SAMPLES / (2 * np.pi)) / values
        self._radius = values.astype(np.float32)
        self._tilt = (1 / np.sqrt(1 + slope**2)).astype(np.float32)

    def polar(self, x: Plane, y: Plane) -> tuple[Plane, Plane]:
        """Angle of pixels around the centre, and distance from it."""
        up = self._centre_y - y
        return np.arctan2(x, up), norm(x, up)

    def places(self, angle: Plane) -> Places:
        """Where pixels at an angle look up outlines."""
        scale = self._SAMPLES / (2 * np.pi)
        return _places(np.clip((angle + np.pi) * scale, 0, self._SAMPLES - 0.001))

    def radius(self, places: Places) -> Plane:
        """Distance of the outline from the centre in the pixels' directions."""
        return _look_up(self._radius, places)

    def distance(self, places: Places, radius: Plane) -> Plane:
        """Signed distance (nearly) of pixels from the outline, negative inside."""
        return (radius - self.radius(places)) * _look_up(self._tilt, places)

    def points(self, angle: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
        """Points of the outline at some angles."""
        grid = np.linspace(-np.pi, np.pi, self._SAMPLES + 1)
        r = np.interp(angle, grid, self._radius)
        return np.stack([r * np.sin(angle), self._centre_y - r * np.cos(angle)], -1)


def mirrored(right: list[tuple[float, float]]) -> Float[np.ndarray, "n 2"]:
    """Completes the right half of an outline, from the top to the bottom, by its mirror image."""
    half = np.array(right)
    return np.concatenate([half, half[1:-1][::-1] * (-1, 1)])
