"""Coordinate grids and bilinear sampling.

Two conventions meet here, and the published weights were trained with both: grids are
corner-aligned (the first and last pixel *centres* are -1 and 1) while sampling is
half-pixel aligned (-1 and 1 are the image's outer *edges*).
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from eamm_jax.types import Array

Padding = Literal["zeros", "border", "reflection"]


def coordinate_grid(
    height: int, width: int, dtype: Any = jnp.float32, *, half_pixel: bool = False
) -> Float[Array, "h w 2"]:
    """The (x, y) of every pixel, corner-aligned: 2 i / (n - 1) - 1.

    Args:
        height: rows.
        width: columns.
        dtype: of the points.
        half_pixel: half-pixel aligned instead, as `grid_sample` is: (2 i + 1) / n - 1.
    """

    def centres(size: int) -> Array:
        index = jnp.arange(size, dtype=dtype)
        if half_pixel:
            return (2.0 * index + 1.0) / size - 1.0
        # Parity: corner-aligned although `grid_sample` is half-pixel aligned.
        return 2.0 * index / (size - 1) - 1.0

    x, y = centres(width), centres(height)
    return jnp.stack(jnp.meshgrid(x, y, indexing="xy"), axis=-1)


def grid_sample(
    image: Float[Array, "b h w c"], grid: Float[Array, "n i j 2"], *, padding: Padding = "zeros"
) -> Float[Array, "n i j c"]:
    """Samples an image bilinearly at the points of a grid, half-pixel aligned.

    Args:
        image: one image for each grid, or a single one (b = 1) that all grids share.
        grid: points (x, y); -1 and 1 are the outer edges of the image.
        padding: what lies beyond the edges: `zeros`, the nearest pixel (`border`), or the
            image mirrored at its edges (`reflection`).

    Returns:
        The sampled values, in the image's dtype.
    """
    batch, height, width, channels = image.shape
    x = _pixel_position(grid[..., 0], width, padding)
    y = _pixel_position(grid[..., 1], height, padding)
    left, top = jnp.floor(x), jnp.floor(y)
    right_weight, bottom_weight = x - left, y - top
    pixels = image.reshape(batch, height * width, channels)

    def corner(column: Array, row: Array, weight: Array) -> Array:
        if padding == "zeros":
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            weight = jnp.where(inside, weight, 0.0)
        column = jnp.clip(column, 0, width - 1).astype(jnp.int32)
        row = jnp.clip(row, 0, height - 1).astype(jnp.int32)
        values = _pick(pixels, row * width + column)
        return values * weight[..., None].astype(image.dtype)

    return (
        corner(left, top, (1 - right_weight) * (1 - bottom_weight))
        + corner(left + 1, top, right_weight * (1 - bottom_weight))
        + corner(left, top + 1, (1 - right_weight) * bottom_weight)
        + corner(left + 1, top + 1, right_weight * bottom_weight)
    )


def _pick(pixels: Float[Array, "b n c"], index: Int[Array, "g i j"]) -> Float[Array, "g i j c"]:
    """Pixels by their numbers: of each grid's own image, or all of the only one."""

    def pick(pixels: Array, index: Array) -> Array:
        return jnp.take(pixels, index, axis=0, mode="clip")

    if pixels.shape[0] == 1:
        return pick(pixels[0], index)
    # Not one list of all images' pixels: of a batch dealt out to many devices, every one of
    # them would need all of it.
    return jax.vmap(pick)(pixels, index)


def _pixel_position(coordinate: Array, size: int, padding: Padding) -> Array:
    """From [-1, 1] to pixel indices, folded into the image as the padding says."""
    position = ((coordinate + 1.0) * size - 1.0) / 2.0
    if padding == "reflection":
        # Mirrors lie at the outer edges, -1/2 and size - 1/2; a period is 2 size.
        distance = jnp.abs(position + 0.5) % (2 * size)
        position = jnp.minimum(distance, 2 * size - distance) - 0.5
    if padding != "zeros":
        position = jnp.clip(position, 0, size - 1)
    return position
