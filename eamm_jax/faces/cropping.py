"""Cuts a rotated square out of an image.

A square's place is a `Similarity` from its pixels to those of the image.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy import ndimage

from eamm_jax.faces.similarity import Similarity, resized

_COARSE = 4.0
"""Pixels of the picture for one of the crop from which on the picture is averaged first."""


def corners(size: int) -> Float[np.ndarray, "4 2"]:
    """Centres of the corner pixels of a square, clockwise from the top left."""
    end = size - 1.0
    return np.array([(0, 0), (end, 0), (end, end), (0, end)])


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
    square = np.stack(
        [
            ndimage.map_coordinates(
                part[..., channel], (z.imag, z.real), np.float32, order=1, mode="nearest"
            )
            for channel in range(3)
        ],
        axis=-1,
    )
    # Parity: the published code cuts fractions off. The sum keeps exact levels whole.
    return np.floor(square + 1e-3).astype(np.uint8)


def middle_square(height: int, width: int, size: int) -> Similarity:
    """Where the square in the middle of a picture lies, resized to a size (`fit_square`)."""
    side = min(height, width)
    corner = complex((width - side) / 2, (height - side) / 2)
    return Similarity(1, corner).after(resized(side / size))
