"""Similarity transforms of the plane: rotation, scale and translation.

A point (x, y) is written as the complex number x + iy, so that a similarity is

    z -> factor * z + shift

with two complex numbers: |factor| is the scale and its argument the angle (clockwise on the
screen, as y points downwards). Coordinates are in pixels with centres at integers.
"""

from __future__ import annotations

import cmath
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num


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
