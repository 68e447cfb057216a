"""Changing the resolution of images and maps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from eamm_jax.ops.precision import exact_einsum
from eamm_jax.types import Array

ANTIALIAS_SIGMA = 1.5
"""Standard deviation of the published anti-aliasing, in pixels, at every scale
(`docs/architecture.md` section 5)."""


def scale_sigma(scale: float) -> float:
    """The parent model's gaussian for a scale: (1/scale - 1) / 2 pixels."""
    return (1.0 / scale - 1.0) / 2.0


def gaussian_kernel(sigma: float) -> np.ndarray:
    """A normalized Gaussian of 2 round(4 sigma) + 1 taps."""
    radius = round(4 * sigma)
    offsets = np.arange(-radius, radius + 1, dtype=np.float64)
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    return kernel / kernel.sum()


def antialias_downsample(
    image: Float[Array, "b h w c"], scale: float, *, sigma: float = ANTIALIAS_SIGMA
) -> Float[Array, "b i j c"]:
    """Blurs with a gaussian (zeros beyond the edges), then keeps every (1/scale)-th pixel from 0.

    The gaussian is separable and the stride drops most of its results, so each axis is one
    product with a banded matrix.
    """
    if scale == 1:
        return image
    dtype = jnp.promote_types(image.dtype, jnp.float32)
    rows, columns = (_blur_matrix(size, scale, sigma).astype(dtype) for size in image.shape[1:3])
    return exact_einsum("ih,bhwc,jw->bijc", rows, image, columns).astype(image.dtype)


def _blur_matrix(size: int, scale: float, sigma: float) -> np.ndarray:
    """(size * scale, size): each row is the gaussian centred on one kept pixel."""
    kernel = gaussian_kernel(sigma)
    radius = len(kernel) // 2
    step = int(1 / scale)
    kept = np.arange(0, size, step)
    taps = np.arange(size)[None, :] - kept[:, None] + radius
    return np.where(
        (taps >= 0) & (taps < len(kernel)), kernel[np.clip(taps, 0, len(kernel) - 1)], 0.0
    )


def resize_bilinear(image: Float[Array, "b h w c"], height: int, width: int) -> Array:
    """Bilinear enlargement, half-pixel aligned, edges repeated."""
    if image.shape[1:3] == (height, width):
        return image
    shape = (image.shape[0], height, width, image.shape[3])
    return jax.image.resize(image, shape, "bilinear", antialias=False)


def upsample_nearest(image: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Twice the size, each pixel repeated."""
    return jnp.repeat(jnp.repeat(image, 2, axis=1), 2, axis=2)


def pixels_to_blocks(image: Float[Array, "b h w c"], side: int) -> Float[Array, "b h/s w/s ssc"]:
    """Square blocks of pixels as single ones with more channels; nothing is lost."""
    b, h, w, c = image.shape
    blocks = image.reshape(b, h // side, side, w // side, side, c).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(b, h // side, w // side, side * side * c)


def blocks_to_pixels(blocks: Float[Array, "b h w ssc"], side: int) -> Float[Array, "b hs ws c"]:
    """The inverse of `pixels_to_blocks`."""
    b, h, w, c = blocks.shape
    image = blocks.reshape(b, h, w, side, side, c // side**2).transpose(0, 1, 3, 2, 4, 5)
    return image.reshape(b, h * side, w * side, c // side**2)
