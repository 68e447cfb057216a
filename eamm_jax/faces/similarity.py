"""Similarity transforms of the plane (rotation, scale, translation), and squares cut out by them.

A point (x, y) is written as the complex number x + iy, so that a similarity is

    z -> factor * z + shift

with two complex numbers: |factor| is the scale and its argument the angle (clockwise on the
screen, as y points downwards). Coordinates are in pixels with centres at integers.
"""

from __future__ import annotations

import cmath
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Num, UInt8
from PIL import Image
from scipy import ndimage


def as_complex(points: Num[np.ndarray, "*n 2"]) -> np.ndarray:
    """Points (x, y) as x + iy."""
    return points[..., 0] + 1j * points[..., 1]


def as_points(numbers: np.ndarray) -> Float[np.ndarray, "*n 2"]:
    """The numbers x + iy as (x, y)."""
    return np.stack([numbers.real, numbers.imag], axis=-1)


class Similarity(NamedTuple):
    """z -> factor * z + shift."""

    factor: complex
    shift: complex

    @property
    def scale(self) -> float:
        """Factor of lengths."""
        return abs(self.factor)

    @property
    def degrees(self) -> float:
        """Angle of rotation, in (-180, 180]."""
        return float(np.degrees(cmath.phase(self.factor)))

    def __call__(self, points: Num[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Transforms points."""
        return as_points(self.factor * as_complex(np.asarray(points)) + self.shift)

    def inverse(self) -> Similarity:
        """The inverse transform."""
        return Similarity(1 / self.factor, -self.shift / self.factor)

    def after(self, first: Similarity) -> Similarity:
        """The composition: `first`, then this."""
        return Similarity(self.factor * first.factor, self.factor * first.shift + self.shift)


def fit_similarity(source: Num[np.ndarray, "n 2"], target: Num[np.ndarray, "n 2"]) -> Similarity:
    """The least-squares similarity from points to others (Umeyama 1991).

    Args:
        source: points, not all the same.
        target: one for each of them.
    """
    z, w = as_complex(source.astype(np.float64)), as_complex(target.astype(np.float64))
    z_mean, w_mean = z.mean(), w.mean()
    factor = np.vdot(z - z_mean, w - w_mean) / np.vdot(z - z_mean, z - z_mean)
    return Similarity(complex(factor), complex(w_mean - factor * z_mean))


def resized(factor: float) -> Similarity:
    """From pixels of an image to those of the same image, `factor` times as large."""
    half = 0.5 + 0.5j  # corners, not centres, stay where they are
    return Similarity(complex(factor), half * factor - half)


# --- Squares of a picture, placed by a similarity from their pixels to those of the picture -------

_COARSE = 4.0
"""Pixels of the picture for one of the crop from which on the picture is averaged first."""


def corners(size: int) -> Float[np.ndarray, "4 2"]:
    """Centres of the corner pixels of a square, clockwise from the top left."""
    end = size - 1.0
    return np.array([(0, 0), (end, 0), (end, end), (0, end)])


def middle_square(height: int, width: int, size: int) -> Similarity:
    """Where the square in the middle of a picture lies, resized to a size (`fit_square`)."""
    side = min(height, width)
    corner = complex((width - side) / 2, (height - side) / 2)
    return Similarity(1, corner).after(resized(side / size))


def sample_square(
    picture: UInt8[np.ndarray, "h w 3"],
    to_picture: Similarity,
    size: int,
    beyond: str,
    factor: int = 1,
) -> Float32[np.ndarray, "size size 3"]:
    """Bilinear samples of a picture, 0 to 255.

    Args:
        picture: RGB.
        to_picture: from pixels of the square to those of the picture.
        size: of the square.
        beyond: what is beyond the picture; one of SciPy's modes.
        factor: side of the blocks over which the picture is averaged before.
    """
    ends = to_picture(corners(size))
    # Only that part is made into floats; a margin as samples lie between pixels.
    left, top = np.maximum(np.floor(ends.min(axis=0)).astype(int) - 2 * factor, 0)
    right, bottom = np.ceil(ends.max(axis=0)).astype(int) + 2 * factor + 1
    height, width = picture.shape[:2]
    left, top = min(left, width - 1), min(top, height - 1)
    part = picture[top : max(bottom, top + 1), left : max(right, left + 1)]
    place = Similarity(1, -complex(left, top)).after(to_picture)
    if factor > 1:
        part = np.asarray(Image.fromarray(part).reduce(factor))
        place = resized(1 / factor).after(place)
    y, x = np.mgrid[:size, :size]
    z = place.factor * (x + 1j * y) + place.shift
    at = z.imag, z.real
    channels = np.moveaxis(part, -1, 0)
    sampled = [ndimage.map_coordinates(c, at, np.float32, order=1, mode=beyond) for c in channels]
    return np.stack(sampled, axis=-1)


def crop(
    picture: UInt8[np.ndarray, "h w 3"], to_picture: Similarity, size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Cuts a turned square out of a picture.

    Each pixel is a bilinear sample, as in the published crops; only pictures that shrink by
    `_COARSE` or more are averaged over blocks before. Beyond the picture its edge goes on.

    Args:
        picture: RGB.
        to_picture: from pixels of the square to those of the picture.
        size: of the square.
    """
    factor = int(2 * to_picture.scale / _COARSE) if to_picture.scale >= _COARSE else 1
    square = sample_square(picture, to_picture, size, "nearest", factor)
    # Parity: the published code cuts fractions off. The sum keeps exact levels whole.
    return np.floor(square + 1e-3).astype(np.uint8)
