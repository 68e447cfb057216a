"""Parts of the drawing that keep their shape: painted once, then looked up in every frame."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from data.synthetic.raster import Patch, Plane, saturate

_DENSITY = 1.5
"""Samples to a pixel of the picture; more than one, so that looking up blurs little."""


class Decal:
    """Planes over a rectangle of a layer, clear beyond it."""

    def __init__(
        self,
        bounds: tuple[float, float, float, float],
        sharpness: float,
        paint: Callable[[Patch], None],
        planes: int = 4,
    ):
        """Paints the decal.

        Args:
            bounds: left, right, top and bottom in head coordinates.
            sharpness: pixels to a unit of length in the picture.
            paint: paints on a patch whose planes are all zero.
            planes: number of planes; four for a sheet with opacity.
        """
        left, right, top, bottom = bounds
        density = _DENSITY * sharpness
        columns = int(np.ceil((right - left) * density)) + 1
        rows = int(np.ceil((bottom - top) * density)) + 1
        x, y = np.meshgrid(
            (left + np.arange(columns) / density).astype(np.float32),
            (top + np.arange(rows) / density).astype(np.float32),
        )
        sheet = np.zeros((planes, rows, columns), np.float32)

        def locate(px: float, py: float) -> tuple[float, float]:
            return (px - left) * density, (py - top) * density

        paint(Patch(sheet, x, y, sharpness, locate, ((density, 0.0), (0.0, density))))
        # Clear on the margin, which stands for everything beyond the bounds.
        sheet[:, 0] = sheet[:, -1] = 0
        sheet[:, :, 0] = sheet[:, :, -1] = 0
        self.bounds = bounds
        self._density = density
        self._shape = rows, columns
        self._samples = np.ascontiguousarray(sheet.reshape(planes, -1).T)

    def look_up(self, x: Plane, y: Plane) -> Float32[np.ndarray, "c h w"]:
        """The planes where pixels see the given places, by bilinear interpolation."""
        rows, columns = self._shape
        left, _, top, _ = self.bounds
        column = saturate((x - left) * (self._density / (columns - 1.01))) * (columns - 1.01)
        row = saturate((y - top) * (self._density / (rows - 1.01))) * (rows - 1.01)
        first_column, first_row = column.astype(np.intp), row.astype(np.intp)
        column -= first_column.astype(np.float32)
        row -= first_row.astype(np.float32)
        right, down = column[..., None], row[..., None]
        index = first_row * columns + first_column

        def blend(index: np.ndarray) -> np.ndarray:
            here = self._samples.take(index, 0, mode="clip")
            step = self._samples.take(index + 1, 0, mode="clip")
            step -= here
            step *= right
            step += here
            return step

        above, below = blend(index), blend(index + columns)
        below -= above
        below *= down
        below += above
        return below.transpose(2, 0, 1)

    def lay_on(self, patch: Patch) -> tuple[Patch, Plane]:
        """Lays the decal, a sheet with opacity, over the picture.

        Returns:
            The part of the patch where it is, and its opacity there.
        """
        part = patch.crop(*self.bounds)
        sheet = self.look_up(part.x, part.y)
        part.overlay(sheet)
        return part, sheet[3]
