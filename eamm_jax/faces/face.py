"""A face as it is found in a picture, and what finds it.

Boxes and landmarks are in pixels of the whole picture, (x, y), pixel centres at integers.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8

LANDMARKS = 68

SMALLEST_FACE = 40
"""Pixels across that a face must have to be found, and twice that in pictures of more than
`MANY_PIXELS`."""

MANY_PIXELS = 1_500_000

Box = tuple[float, float, float, float]
"""Left, top, right, bottom: brows to chin."""


class Face(NamedTuple):
    """One face.

    Attributes:
        box: where it is.
        landmarks: in dlib's order: 0..16 jaw, 17..26 brows, 27..35 nose, 36..47 eyes, 48..67
            mouth.
        rotation: of the head in the convention of `pose_geometry`; None if it was not measured.
    """

    box: Box
    landmarks: Float32[np.ndarray, "68 2"]
    rotation: Float64[np.ndarray, "3 3"] | None = None

    @property
    def width(self) -> float:
        """Of the box."""
        return self.box[2] - self.box[0]

    @property
    def area(self) -> float:
        """Of the box."""
        return self.width * (self.box[3] - self.box[1])


class FaceFinder(Protocol):
    """Finds faces and their landmarks."""

    @property
    def name(self) -> str:
        """For messages and reports."""

    def find(self, image: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """All faces of an RGB picture, the largest first; empty if there is none."""

    def landmarks(self, image: UInt8[np.ndarray, "h w 3"], box: Box) -> Float32[np.ndarray, "68 2"]:
        """Those of a face that is known to be in a box."""

    def template(self) -> Float[np.ndarray, "68 2"]:
        """Landmarks of a mean face where the published crops of 256x256 pixels have them."""
