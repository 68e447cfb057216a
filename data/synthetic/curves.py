"""Lines of the drawing, and how far each pixel is from them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int

from data.synthetic.raster import Plane, norm, saturate

CURVE_T = np.linspace(-1.25, 1.25, 101)
"""Where a curve across an eye, a brow or the lips is sampled; its corners are at -1 and 1."""

_STEP = float(CURVE_T[1] - CURVE_T[0])


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
        slope = np.empty(len(y))
        np.subtract(y[1:], y[:-1], out=slope[:-1])
        slope[-1] = slope[-2]
        slope *= 1 / (unit * _STEP)
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


_POLAR_SAMPLES = 512
_POLAR_GRID = np.linspace(-np.pi, np.pi, _POLAR_SAMPLES + 1)


def _periodic(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], at: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    """A smooth function of period 2 pi through points in the order of x (Catmull-Rom spline)."""
    turn = 2 * np.pi
    x = np.concatenate([x[-2:] - turn, x, x[:3] + turn])
    y = np.concatenate([y[-2:], y, y[:3]])
    slope = (y[2:] - y[:-2]) / (x[2:] - x[:-2])
    x, y = x[1:-1], y[1:-1]
    at = (at - x[0]) % turn + x[0]
    i = np.searchsorted(x, at, side="right") - 1
    width = x[i + 1] - x[i]
    t = (at - x[i]) / width
    rest = 1 - t
    return rest * rest * ((1 + 2 * t) * y[i] + t * width * slope[i]) + t * t * (
        (3 - 2 * t) * y[i + 1] - rest * width * slope[i + 1]
    )


class Polar:
    """A closed outline around a centre on the middle line, its radius a function of the angle.

    Angles run from 0 at the top over picture right to pi at the bottom, negative on the left.
    """

    def __init__(self, centre_y: float, points: Float[np.ndarray, "n 2"]):
        """Passes a smooth outline through points given clockwise from the top, without repeats."""
        self._centre_y = centre_y
        dx, up = points[:, 0], centre_y - points[:, 1]
        angle = np.arctan2(dx, up)
        angle[angle < angle[0]] += 2 * np.pi
        values = _periodic(angle, np.sqrt(dx * dx + up * up), _POLAR_GRID)
        slope = np.empty(len(values))
        np.subtract(values[1:], values[:-1], out=slope[:-1])
        slope[-1] = slope[0]
        slope *= 1 / (_POLAR_GRID[1] - _POLAR_GRID[0])
        slope /= values
        self._radius = values.astype(np.float32)
        self._tilt = (1 / np.sqrt(1 + slope * slope)).astype(np.float32)

    def polar(self, x: Plane, y: Plane) -> tuple[Plane, Plane]:
        """Angle of pixels around the centre, and distance from it."""
        up = self._centre_y - y
        return np.arctan2(x, up), norm(x, up)

    def places(self, angle: Plane) -> Places:
        """Where pixels at an angle look up outlines."""
        scale = _POLAR_SAMPLES / (2 * np.pi)
        return _places(np.clip((angle + np.pi) * scale, 0, _POLAR_SAMPLES - 0.001))

    def radius(self, places: Places) -> Plane:
        """Distance of the outline from the centre in the pixels' directions."""
        return _look_up(self._radius, places)

    def distance(self, places: Places, radius: Plane) -> Plane:
        """Signed distance (nearly) of pixels from the outline, negative inside."""
        return (radius - self.radius(places)) * _look_up(self._tilt, places)

    def points(self, angle: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
        """Points of the outline at some angles."""
        r = np.interp(angle, _POLAR_GRID, self._radius)
        return np.stack([r * np.sin(angle), self._centre_y - r * np.cos(angle)], -1)


def mirrored(right: list[tuple[float, float]]) -> Float[np.ndarray, "n 2"]:
    """Completes the right half of an outline, from the top to the bottom, by its mirror image."""
    half = np.array(right)
    return np.concatenate([half, half[1:-1][::-1] * (-1, 1)])
