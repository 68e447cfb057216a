"""Painting primitives: coverage of a pixel by a shape, and mixing of colours.

A shape is known by the signed distance of each pixel's centre from its edge (negative inside,
in head coordinates). Half a pixel either side of the edge the coverage goes from 1 to 0, which
is what averaging over the pixel's area would give: edges are smooth at every resolution, and a
picture drawn small looks like one drawn large and reduced.

Pictures are kept as planes (colour, row, column) of float32; everything here is elementwise
NumPy on small arrays, so a frame costs a few thousand short calls and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

Plane = Float32[np.ndarray, "h w"]
Paint = Float32[np.ndarray, "3 h w"] | Sequence[Plane] | Sequence[float]
Locate = Callable[[float, float], tuple[float, float]]


def saturate(x: Plane) -> Plane:
    """Limits an array that nobody else needs to 0..1, in place."""
    np.maximum(x, 0, out=x)
    return np.minimum(x, 1, out=x)


def smoothstep(low: float, high: float, x: Plane) -> Plane:
    """0 at `low`, 1 at `high` (which may be the lesser), smooth between, constant beyond."""
    scale = 1 / (high - low)
    t = x * scale
    t -= low * scale
    t = saturate(t)
    smooth = 3 - 2 * t
    t *= t
    smooth *= t
    return smooth


def bump(x: Plane, y: Plane, sx: float, sy: float) -> Plane:
    """A round hill: exp(-(x/sx)^2 - (y/sy)^2)."""
    square = np.square(x * (1 / sx))
    square += np.square(y * (1 / sy))
    np.negative(square, out=square)
    return np.exp(square, out=square)


def ridge(d: Plane, s: float) -> Plane:
    """A soft line along d = 0: exp(-(d/s)^2)."""
    square = np.square(d * (1 / s))
    np.negative(square, out=square)
    return np.exp(square, out=square)


def norm(x: Plane, y: Plane) -> Plane:
    """Distance from the origin (`np.hypot` guards against overflow and is ten times slower)."""
    square = x * x
    square += y * y
    return np.sqrt(square, out=square)


def ellipse(x: Plane, y: Plane, rx: float, ry: float) -> Plane:
    """Signed distance (nearly) from an ellipse around the origin."""
    x, y = x * (1 / rx), y * (1 / ry)
    length = norm(x, y)
    slope = norm(x * (1 / rx), y * (1 / ry)) + 1e-6
    return (length - 1) * length / slope


def _bounds(middle: float, half: float, origin: int, length: int) -> tuple[int, int]:
    """First index and the one after the last that cover an interval, within a side."""
    low, high = math.floor(middle - half) - 1 - origin, math.ceil(middle + half) + 2 - origin
    return min(max(low, 0), length), min(max(high, 0), length)


@dataclass(frozen=True)
class Patch:
    """A rectangle of the picture that is being painted.

    Attributes:
        rgb: view of the picture's planes, red, green and blue; painting changes it. A fourth
            plane, if there is one, is the opacity of a sheet that starts out clear; colours
            are then premultiplied by it.
        x: head coordinates of what each pixel sees on the layer painted.
        y: the same, vertically.
        sharpness: pixels to a unit of length.
        locate: pixel column and row of a point of the layer, for `crop`.
        spread: columns and rows that a unit of x and of y span: (cx, cy), (rx, ry).
        slack: pixels by which a point may be off the linear estimate from `spread`.
        origin: column and row of the patch's first pixel.
    """

    rgb: Float32[np.ndarray, "c h w"]
    x: Plane
    y: Plane
    sharpness: float
    locate: Locate
    spread: tuple[tuple[float, float], tuple[float, float]]
    slack: float = 0.0
    origin: tuple[int, int] = (0, 0)

    def crop(self, left: float, right: float, top: float, bottom: float) -> Patch:
        """A small patch that shows all of a rectangle of the layer (perhaps an empty patch)."""
        column, row = self.locate((left + right) / 2, (top + bottom) / 2)
        half_x, half_y = (right - left) / 2, (bottom - top) / 2
        (cx, cy), (rx, ry) = self.spread
        height, width = self.x.shape
        first_column, first_row = self.origin
        c0, c1 = _bounds(column, cx * half_x + cy * half_y + self.slack, first_column, width)
        r0, r1 = _bounds(row, rx * half_x + ry * half_y + self.slack, first_row, height)
        return self.cut((slice(r0, r1), slice(c0, c1)))

    def cut(self, window: tuple[slice, slice]) -> Patch:
        """The patch of some rows and columns of this one."""
        rows, columns = window
        first_column, first_row = self.origin
        return Patch(
            self.rgb[:, rows, columns],
            self.x[window],
            self.y[window],
            self.sharpness,
            self.locate,
            self.spread,
            self.slack,
            (first_column + columns.start, first_row + rows.start),
        )

    def inside(self, distance: Plane, softness: float = 0.0) -> Plane:
        """Coverage of each pixel by the shape; `softness` blurs the edge by a length."""
        cover = distance * (-1 / (softness + 1 / self.sharpness))
        cover += 0.5
        return saturate(cover)

    def between(self, above: Plane, below: Plane) -> Plane:
        """Coverage by what lies below one line and above another (signed distances).

        Exact for slits thinner than a pixel as well.
        """
        cover = saturate(0.5 + above * self.sharpness)
        cover += saturate(0.5 - below * self.sharpness)
        cover -= 1
        return np.maximum(cover, 0, out=cover)

    def over(self, mask: Plane, paint: Paint) -> None:
        """Lays paint over the picture where the mask says."""
        for plane, colour in zip(self.rgb, (*paint, 1.0), strict=False):
            plane += (colour - plane) * mask

    def overlay(self, sheet: Float32[np.ndarray, "c h w"]) -> None:
        """Lays a premultiplied sheet, whose fourth plane is its opacity, over the picture."""
        clear = 1 - sheet[3]
        for plane, colour in zip(self.rgb, sheet, strict=False):
            plane *= clear
            plane += colour

    def darken(self, amount: Plane, tint: Sequence[float] = (1.0, 1.0, 1.0)) -> None:
        """Takes light away: amount 1 and tint 1 give black."""
        for plane, strength in zip(self.rgb, tint, strict=False):
            plane -= plane * (amount * strength if strength != 1 else amount)

    def lighten(self, amount: Plane, paint: Sequence[float] = (1.0, 1.0, 1.0)) -> None:
        """Adds light of a colour."""
        for plane, colour in zip(self.rgb, paint, strict=False):
            plane += amount * colour if colour != 1 else amount
