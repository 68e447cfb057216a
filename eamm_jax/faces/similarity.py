"""Similarity transforms of the plane: turn, scale and shift, without shear or mirroring.

A point (x, y) is written as the complex number x + iy, so that a similarity is

    z -> turn * z + shift

with two complex numbers: |turn| is the scale and its argument the angle (as y points downwards,
clockwise on the screen). Coordinates are pixels with centres at integers.
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
    """z -> turn * z + shift."""

    turn: complex
    shift: complex

    @property
    def scale(self) -> float:
        """By which lengths grow."""
        return abs(self.turn)

    @property
    def degrees(self) -> float:
        """By which directions turn, in (-180, 180]."""
        return float(np.degrees(cmath.phase(self.turn)))

    def __call__(self, points: Num[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Where points go."""
        return as_points(self.turn * as_complex(np.asarray(points)) + self.shift)

    def inverse(self) -> Similarity:
        """What undoes this."""
        return Similarity(1 / self.turn, -self.shift / self.turn)

    def after(self, first: Similarity) -> Similarity:
        """Both, `first` before this."""
        return Similarity(self.turn * first.turn, self.turn * first.shift + self.shift)


def fit_similarity(source: Num[np.ndarray, "n 2"], target: Num[np.ndarray, "n 2"]) -> Similarity:
    """The similarity that brings points nearest to others, by least squares (Umeyama 1991).

    Args:
        source: points, not all the same.
        target: where each is wanted.
    """
    z, w = as_complex(source.astype(np.float64)), as_complex(target.astype(np.float64))
    z_mean, w_mean = z.mean(), w.mean()
    turn = np.vdot(z - z_mean, w - w_mean) / np.vdot(z - z_mean, z - z_mean)
    return Similarity(complex(turn), complex(w_mean - turn * z_mean))


def resized(factor: float) -> Similarity:
    """From pixels of a picture to those of the same picture, `factor` times as large."""
    half = 0.5 + 0.5j  # corners, not centres, stay where they are
    return Similarity(complex(factor), half * factor - half)
