"""Pastes a generated face back into the image it was cropped from, without a visible seam.

`Patch` resizes a square to the image, shifts its colours to meet those of the image where the two
join, and fades it in from its edges.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from scipy import ndimage

from eamm_jax.faces.similarity import Similarity, corners, resized

_FEATHER = {"left": 0.15, "top": 0.12, "right": 0.15, "bottom": 0.10}
"""Over which part of its side a square fades in; the chin is near the lower edge."""

_SEAM_BLUR = 0.1
"""Standard deviation, in sides, of the Gaussian that spreads a difference at the seam."""

_SEAM_LIMIT = 24.0
"""Levels by which colours are shifted at most; more is something that moved."""

_SEAM_FAR = 0.05
"""Weight of the seam below which a place is far from it, and takes its mean difference."""

_SEAM_STEP = 4
"""The shift is smooth: it is worked out for every so many pixels."""


def feather(
    u: Float[np.ndarray, "*shape"], v: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """How much of a square is seen at places in it: 0 at its edges and beyond, 1 in the middle.

    Args:
        u: to the right, 0 at the left edge and 1 at the right one.
        v: downwards.
    """
    edges = {"left": u, "top": v, "right": 1 - u, "bottom": 1 - v}
    seen = np.ones_like(u)
    for side, distance in edges.items():
        t = np.clip(distance / _FEATHER[side], 0, 1)
        seen = seen * t * t * (3 - 2 * t)
    return seen


_STRIP_ROWS = 128


class Patch:
    """A place in a picture that squares are pasted to, one after the other.

    Attributes:
        place: rows and columns of the picture that they change.

    Args:
        picture: RGB; it stays as it is.
        still: what was cut out there, by `crop` or resized.
        to_picture: from pixels of the square to those of the picture.
    """

    def __init__(
        self,
        picture: UInt8[np.ndarray, "h w 3"],
        still: UInt8[np.ndarray, "size size 3"],
        to_picture: Similarity,
    ):
        self._picture = picture
        size = len(still)
        height, width = picture.shape[:2]
        ends = to_picture(corners(size))
        # Half a pixel of the square lies around the centres of its corners.
        margin = math.ceil(to_picture.scale) + 1
        left, top = np.maximum(np.floor(ends.min(axis=0)).astype(int) - margin, 0).tolist()
        right, bottom = np.ceil(ends.max(axis=0)).astype(int) + margin + 1
        self.place = slice(top, min(bottom, height)), slice(left, min(right, width))
        self._below = picture[self.place]

        place = Similarity(1, -complex(left, top)).after(to_picture)
        from_place = place.inverse()
        self._seen = np.empty((*self._below.shape[:2], 1), np.float32)
        for rows in self._strips():
            y, x = np.mgrid[rows, : self._below.shape[1]]
            z = from_place.factor * (x + 1j * y) + from_place.shift
            seen = feather((z.real + 0.5) / size, (z.imag + 0.5) / size)
            self._seen[rows] = seen[..., None]

        # Where the picture has fewer pixels than the square, the square shrinks first.
        self._size = min(size, max(1, round(size * to_picture.scale)))
        shrunk = resized(self._size / size).after(from_place)
        # Pillow counts from the corners of pixels.
        corner = shrunk.shift + (0.5 + 0.5j) * (1 - shrunk.factor)
        a, b = shrunk.factor.real, shrunk.factor.imag
        self._affine = (a, -b, corner.real, b, a, corner.imag)

        self._still = still.astype(np.float32)
        middle = (np.arange(size) + 0.5) / size
        weight = feather(*np.meshgrid(middle, middle))
        self._seam = (4 * weight * (1 - weight)).astype(np.float32)[..., None]
        self._spread_seam = self._spread(self._seam)

    def paste(self, square: UInt8[np.ndarray, "size size 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The picture with a square in it."""
        matched = square + self._shift(square)
        image = Image.fromarray(np.round(np.clip(matched, 0, 255)).astype(np.uint8))
        if self._size != len(square):
            image = image.resize((self._size, self._size), Image.Resampling.LANCZOS)
        result = self._picture.copy()
        width = self._below.shape[1]
        a, b, c, d, e, f = self._affine
        for rows in self._strips():
            below = self._below[rows].astype(np.float32)
            affine = (a, b, c + b * rows.start, d, e, f + e * rows.start)
            over = image.transform(
                (width, len(below)), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC
            )
            blended = below + self._seen[rows] * (np.asarray(over) - below)
            result[self.place][rows] = np.round(blended)
        return result

    def _strips(self) -> Iterator[slice]:
        """Rows of the place that are worked on at once, so that memory stays small."""
        height = self._below.shape[0]
        for start in range(0, height, _STRIP_ROWS):
            yield slice(start, min(start + _STRIP_ROWS, height))

    def _shift(
        self, square: UInt8[np.ndarray, "size size 3"]
    ) -> Float32[np.ndarray, "size size 3"]:
        """What is added to colours: the difference at the seam nearby, and far from it its mean."""
        difference = self._seam * (self._still - square)
        mean = difference.sum(axis=(0, 1)) / self._seam.sum()
        nearby = (self._spread(difference) + _SEAM_FAR * mean) / (self._spread_seam + _SEAM_FAR)
        coarse = np.clip(nearby, -_SEAM_LIMIT, _SEAM_LIMIT)
        size = len(square)
        return np.stack(
            [
                np.asarray(
                    Image.fromarray(coarse[..., channel]).resize(
                        (size, size), Image.Resampling.BICUBIC
                    )
                )
                for channel in range(coarse.shape[-1])
            ],
            axis=-1,
        )

    def _spread(self, field: Float32[np.ndarray, "size size c"]) -> Float32[np.ndarray, "n n c"]:
        """Means of blocks, blurred."""
        size, step = len(field), _SEAM_STEP
        count = size // step
        blocks = field[: count * step, : count * step]
        means = blocks.reshape(count, step, count, step, -1).mean(axis=(1, 3))
        sigma = _SEAM_BLUR * size / step
        return ndimage.gaussian_filter(means, (sigma, sigma, 0), mode="constant")
