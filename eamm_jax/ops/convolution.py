"""3x3 convolutions with fewer multiplications, for inference on a CPU.

Both are exact algebra: they equal the plain convolution but for rounding. The kernel is
transformed once; the plain convolution is `jax.lax.conv_general_dilated` with padding 1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from eamm_jax.types import Array

WINOGRAD_TILE = 4
_INPUT_TILE = WINOGRAD_TILE + 2

# The transforms of F(4x4, 3x3) (Lavin & Gray 2016, section 4.3), for one dimension.
_INPUT_TRANSFORM = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_KERNEL_TRANSFORM = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float32,
)
_OUTPUT_TRANSFORM = np.array(
    [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ],
    np.float32,
)


def winograd_kernel(kernel: Float[Array, "3 3 c o"]) -> Float[Array, "36 c o"]:
    """A 3x3 kernel in the domain where a 4x4 tile costs 36 products instead of 144."""
    transform = np.kron(_KERNEL_TRANSFORM, _KERNEL_TRANSFORM)
    flat = kernel.reshape(9, *kernel.shape[2:])
    return jnp.einsum("pq,qco->pco", transform, flat, precision=jax.lax.Precision.HIGHEST)


def conv3x3_winograd(
    x: Float[Array, "b h w c"], kernel: Float[Array, "36 c o"]
) -> Float[Array, "b h w o"]:
    """The convolution of padding 1; height and width must be multiples of 4.

    The two-dimensional transforms are single products with Kronecker products of the
    one-dimensional ones, so that all the work is done by matrix multiplication.
    """
    b, h, w, c = x.shape
    rows, columns = h // WINOGRAD_TILE, w // WINOGRAD_TILE
    if (rows * WINOGRAD_TILE, columns * WINOGRAD_TILE) != (h, w):
        raise ValueError(f"{h}x{w} is not a multiple of {WINOGRAD_TILE}")
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # One strided slice for each of the 36 places in a tile: (36, tiles * c).
    places = [
        x[:, i : i + h - 3 : WINOGRAD_TILE, j : j + w - 3 : WINOGRAD_TILE]
        for i in range(_INPUT_TILE)
        for j in range(_INPUT_TILE)
    ]
    tiles = jnp.stack(places).reshape(_INPUT_TILE**2, -1)
    tiles = jnp.matmul(np.kron(_INPUT_TRANSFORM, _INPUT_TRANSFORM), tiles)
    tiles = tiles.reshape(_INPUT_TILE**2, -1, c)
    products = jnp.einsum("ptc,pco->pto", tiles, kernel).reshape(_INPUT_TILE**2, -1)
    out = jnp.matmul(np.kron(_OUTPUT_TRANSFORM, _OUTPUT_TRANSFORM), products)
    out = out.reshape(WINOGRAD_TILE, WINOGRAD_TILE, b, rows, columns, -1)
    return out.transpose(2, 3, 0, 4, 1, 5).reshape(b, h, w, -1)


def upsampled_kernel(kernel: Float[Array, "3 3 c o"]) -> Float[Array, "2 2 c 4*o"]:
    """The 2x2 kernels that a 3x3 kernel becomes at the four places of an enlarged pixel.

    After repetition, two of the three taps of each axis fall on the same small pixel: at an
    even place the last two, at an odd place the first two.
    """
    even = np.array([[1, 0, 0], [0, 1, 1]], np.float32)
    odd = np.array([[1, 1, 0], [0, 0, 1]], np.float32)
    places = [
        jnp.einsum("rh,sw,hwco->rsco", y, x, kernel, precision=jax.lax.Precision.HIGHEST)
        for y in (even, odd)
        for x in (even, odd)
    ]
    return jnp.concatenate(places, axis=-1)


def conv3x3_upsampled(
    x: Float[Array, "b h w c"], kernel: Float[Array, "2 2 c 4*o"]
) -> Float[Array, "b 2*h 2*w o"]:
    """Nearest-neighbour doubling, then the convolution of padding 1, from the small map."""
    b, h, w, _ = x.shape
    # Row i of the result sees the small rows i - 1 and i: even places take it from row i,
    # odd ones from row i + 1.
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    ).reshape(b, h + 1, w + 1, 2, 2, -1)
    rows = [jnp.stack([y[:, i : i + h, j : j + w, i, j] for j in (0, 1)], axis=3) for i in (0, 1)]
    return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, -1)
