"""Convolutions on a CPU: exact algebra, which equals the plain convolution but for rounding.

XLA's convolutions are slow on a CPU where maps are small, where nothing pads them, and in the
gradients of kernels; its matrix products are not (`benchmarks/convolutions.py`). So

- small maps are unfolded and multiplied by the kernel;
- 3x3 convolutions of one frame, and gradients of 3x3 kernels, are done by Winograd's algorithm;
- other gradients of kernels are one product for each tap;
- an upsampled map is convolved before it is upsampled;
- transposed convolutions and the keypoint head are products over unfolded maps;
- bfloat16 is multiplied row by row of the kernel, because processors with units for products
  of bfloat16 matrices have none for convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from eamm_jax.ops.precision import HIGHEST, at_least_float32
from eamm_jax.ops.resizing import upsample_nearest
from eamm_jax.types import Array

LAYOUT = ("NHWC", "HWIO", "NHWC")

SMALL_MAP_PIXELS = 2 * 16 * 16
"""Most pixels, of all maps of a batch, whose convolution is faster as one product."""

FEW_PIXELS = 16 * 16
"""Of a map: XLA's gradient is fast over few pixels, if there are many examples."""

FEW_FEATURES = 16
"""With fewer output channels the products for each tap of a kernel are too thin."""

MANY_FEATURES = 64
"""With fewer channels Winograd's transforms cost more than they save."""

TILE = 4
_INPUT_TILE = TILE + 2

# The transforms of F(4x4, 3x3) (Lavin & Gray 2016, section 4.3), for one dimension; those of
# two dimensions are their Kronecker products with themselves.
_INPUT_TRANSFORM = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_KERNEL_TRANSFORM: list[list[float]] = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
_OUTPUT_TRANSFORM = [
    [1, 1, 1, 1, 1, 0],
    [0, 1, -1, 2, -2, 0],
    [0, 1, 1, 4, 4, 0],
    [0, 1, -1, 8, -8, 1],
]


def plain_conv(x: Array, kernel: Array, *, padding: int) -> Array:
    """XLA's convolution of stride 1, with the same padding on all sides."""
    sides = ((padding, padding),) * 2
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), sides, dimension_numbers=LAYOUT)


def conv(x: Array, kernel: Array, *, padding: int) -> Array:
    """`plain_conv` by the fastest algorithm for its shapes."""
    b, h, w, _ = x.shape
    keeps_size = _is_3x3(len(kernel), padding)
    if x.dtype == jnp.bfloat16 and keeps_size:
        return conv_by_rows(_pad(x, 1), kernel).astype(x.dtype)
    if x.dtype == jnp.bfloat16:
        return plain_conv(x, kernel, padding=padding)
    if keeps_size and _is_small(b, h, w):
        return conv3x3_product(x, kernel)
    if keeps_size and b == 1 and min(kernel.shape[2:]) >= MANY_FEATURES:
        return conv3x3_winograd(x, kernel)
    if padding == 0:
        # With any padding at all XLA takes another path, three times as fast: a row of zeros,
        # whose results are dropped.
        sides = ((0, 1), (0, 0))
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), sides, dimension_numbers=LAYOUT)
        return y[:, :-1]
    return plain_conv(x, kernel, padding=padding)


def input_gradient(grad: Array, kernel: Array, *, padding: int) -> Array:
    """The gradient of the input of `conv`, given that of its output."""
    b, height, width, _ = grad.shape
    size, _, channels, _ = kernel.shape
    h, w = height + size - 1 - 2 * padding, width + size - 1 - 2 * padding
    x = jax.ShapeDtypeStruct((b, h, w, channels), grad.dtype)
    if grad.dtype != jnp.bfloat16 and _is_3x3(size, padding) and _is_small(b, h, w):
        return _transpose(lambda x: conv3x3_product(x, kernel), x, grad)
    return _transpose(lambda x: plain_conv(x, kernel, padding=padding), x, grad)


def kernel_gradient(grad: Array, x: Array, *, padding: int) -> Array:
    """The gradient of the kernel of `conv`, given that of its output."""
    b, h, w, channels = x.shape
    features = grad.shape[3]
    size = h + 2 * padding - grad.shape[1] + 1
    keeps_size = _is_3x3(size, padding)
    kernel = jax.ShapeDtypeStruct((size, size, channels, features), x.dtype)
    if x.dtype != jnp.bfloat16:
        if keeps_size and _is_small(b, h, w):
            return _transpose(lambda kernel: conv3x3_product(x, kernel), kernel, grad)
        if keeps_size and fills_tiles(h, w):
            return _transpose(lambda kernel: conv3x3_winograd(x, kernel), kernel, grad)
        if h * w > FEW_PIXELS:
            if features >= FEW_FEATURES or size != 2 * padding + 1 or size == 1:
                return _kernel_gradient_by_taps(x, grad, padding)
            # The same sums with input and output in each other's place: XLA is faster so.
            swapped = jax.ShapeDtypeStruct((size, size, features, channels), x.dtype)
            flipped = _transpose(lambda k: plain_conv(grad, k, padding=padding), swapped, x)
            return flipped[::-1, ::-1].swapaxes(2, 3)
    return _transpose(lambda kernel: plain_conv(x, kernel, padding=padding), kernel, grad)


def _transpose(linear: Any, shape: jax.ShapeDtypeStruct, cotangent: Array) -> Array:
    return jax.linear_transpose(linear, shape)(cotangent)[0]


def _is_3x3(size: int, padding: int) -> bool:
    """Whether a convolution of kernel 3 keeps the size of its map."""
    return size == 3 and padding == 1


def _is_small(b: int, h: int, w: int) -> bool:
    # The size of a batch may be symbolic, in an exported program.
    return isinstance(b, int) and b * h * w <= SMALL_MAP_PIXELS


def fills_tiles(height: int, width: int) -> bool:
    """Whether a map can be split into tiles of 4x4."""
    return height % TILE == width % TILE == 0


def _kernel_gradient_by_taps(
    x: Float[Array, "b h w c"], grad: Float[Array, "b h2 w2 o"], padding: int
) -> Float[Array, "s s c o"]:
    height, width = grad.shape[1:3]
    x = _pad(x, padding)
    size = x.shape[1] - height + 1
    taps = [
        jnp.einsum("bhwc,bhwo->co", x[:, i : i + height, j : j + width], grad)
        for i in range(size)
        for j in range(size)
    ]
    return jnp.stack(taps).reshape(size, size, *taps[0].shape)


def conv3x3_product(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"]
) -> Float[Array, "b h w o"]:
    """The convolution of padding 1 as one product; for small maps of many channels."""
    b, h, w, _ = x.shape
    x = _pad(x, 1)
    neighbors = [x[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]
    rows = jnp.concatenate(neighbors, axis=-1).reshape(b * h * w, -1)
    return (rows @ kernel.reshape(-1, kernel.shape[-1])).reshape(b, h, w, -1)


def conv3x3_winograd(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"]
) -> Float[Array, "b h w o"]:
    """The convolution of padding 1 where a 4x4 tile costs 36 products instead of 144.

    A^T (B^T x * G k) for each tile; all the work is done by matrix products. Its transpose, the
    kernel's gradient G^T (B^T x * A grad) summed over tiles, costs as few.
    """
    b, height, width, channels = x.shape
    h, w = (-(-side // TILE) * TILE for side in (height, width))  # that tiles fill
    features = kernel.shape[3]
    flat = kernel.reshape(9, channels, features)
    kernels = jnp.einsum("pq,qco->pco", _transform(_KERNEL_TRANSFORM, x), flat, precision=HIGHEST)
    # The 6x6 pixels in and around every tile: one strided slice for each place in it.
    x = jnp.pad(x, ((0, 0), (1, 1 + h - height), (1, 1 + w - width), (0, 0)))
    places = [
        x[:, i : i + h - 3 : TILE, j : j + w - 3 : TILE]
        for i in range(_INPUT_TILE)
        for j in range(_INPUT_TILE)
    ]
    inputs = jnp.stack(places).reshape(_INPUT_TILE**2, -1)
    inputs = jnp.matmul(_transform(_INPUT_TRANSFORM, x), inputs)
    products = jnp.einsum("ptc,pco->pto", inputs.reshape(_INPUT_TILE**2, -1, channels), kernels)
    out = jnp.matmul(_transform(_OUTPUT_TRANSFORM, x), products.reshape(_INPUT_TILE**2, -1))
    out = out.reshape(TILE, TILE, b, h // TILE, w // TILE, features)
    return out.transpose(2, 3, 0, 4, 1, 5).reshape(b, h, w, features)[:, :height, :width]


def _transform(matrix: Sequence[Sequence[float]], x: Array) -> np.ndarray:
    """In two dimensions, in the type of x."""
    return np.kron(matrix, matrix).astype(x.dtype)


def conv_by_rows(
    x: Float[Array, "b h w c"], kernel: Float[Array, "s s c o"]
) -> Float[Array, "b h2 w2 o"]:
    """The convolution without padding as one product for each row of the kernel.

    Sums are float32.
    """
    b, h, w, _ = x.shape
    size = len(kernel)
    height, width = h - size + 1, w - size + 1
    rows = unfold_rows(x, size)
    products = [
        jnp.matmul(
            rows[:, i : i + height].reshape(b * height * width, -1),
            taps.reshape(-1, taps.shape[-1]),
            preferred_element_type=jnp.float32,
        )
        for i, taps in enumerate(kernel)
    ]
    return sum(products[1:], products[0]).reshape(b, height, width, -1)


def conv_upsampled(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"]
) -> Float[Array, "b 2*h 2*w o"]:
    """Nearest-neighbor upsampling by 2, then the convolution of padding 1, from the small map.

    After upsampling, two of the three taps of each axis fall on the same small pixel: at an
    even place the last two, at an odd place the first two. So the 3x3 kernel becomes four of
    2x2, one for each place of an upsampled pixel.
    """

    def even(taps: Array) -> Array:
        return jnp.stack([taps[0], taps[1] + taps[2]])

    def odd(taps: Array) -> Array:
        return jnp.stack([taps[0] + taps[1], taps[2]])

    b, h, w, _ = x.shape
    kernels = [
        columns(rows(at_least_float32(kernel)).swapaxes(0, 1)).swapaxes(0, 1)
        for rows in (even, odd)
        for columns in (even, odd)
    ]
    small = jnp.concatenate(kernels, axis=-1).astype(kernel.dtype)
    # Row i of the result sees the small rows i - 1 and i: even places take it from row i,
    # odd ones from row i + 1.
    if x.dtype == jnp.bfloat16:
        y = conv_by_rows(_pad(x, 1), small).astype(x.dtype)
    else:
        y = plain_conv(x, small, padding=1)
    y = y.reshape(b, h + 1, w + 1, 2, 2, -1)
    rows = [jnp.stack([y[:, i : i + h, j : j + w, i, j] for j in (0, 1)], axis=3) for i in (0, 1)]
    return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, -1)


def upsampled_input_gradient(grad: Array, kernel: Array) -> Array:
    """The gradient of the small map of `conv_upsampled`."""
    b, h, w, _ = grad.shape
    small = jax.ShapeDtypeStruct((b, h // 2, w // 2, kernel.shape[2]), grad.dtype)
    return _transpose(upsample_nearest, small, input_gradient(grad, kernel, padding=1))


def upsampled_kernel_gradient(grad: Array, x: Array) -> Array:
    """The gradient of the kernel of `conv_upsampled`."""
    return kernel_gradient(grad, upsample_nearest(x), padding=1)


def conv_transpose(
    x: Float[Array, "b h w c"], kernel: Float[Array, "s s c o"]
) -> Float[Array, "b h2 w2 o"]:
    """The transposed convolution of stride 2 and padding 1, of a kernel of even side s."""
    b, h, w, c = x.shape
    size, _, _, o = kernel.shape
    taps = size // 2
    # Each small pixel times the whole kernel: what it adds to the s x s pixels around it.
    stamps = x.reshape(-1, c) @ kernel[::-1, ::-1].transpose(2, 0, 1, 3).reshape(c, -1)
    stamps = stamps.reshape(b, h, w, taps, 2, taps, 2, o)
    # Tap i of the even (or odd) rows falls i rows further down among the even (or odd) rows.
    total = jnp.zeros((b, h + taps - 1, w + taps - 1, 2, 2, o), stamps.dtype)
    for i in range(taps):
        for j in range(taps):
            total = total.at[:, i : i + h, j : j + w].add(stamps[:, :, :, i, :, j])
    total = total.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * total.shape[1], -1, o)
    return total[:, 1:-1, 1:-1]


def unfold_rows(x: Float[Array, "b h w c"], size: int) -> Float[Array, "b h w2 sc"]:
    """Each pixel with the `size - 1` to its right: (b, h, w - size + 1, size * c)."""
    width = x.shape[2] - size + 1
    return jnp.concatenate([x[:, :, j : j + width] for j in range(size)], axis=-1)


def unfolded_conv(
    x: Float[Array, "b h w c"], kernel: Float[Array, "s s c o"]
) -> Float[Array, "b h2 w2 o"]:
    """The convolution without padding, for large kernels: one product of the unfolded map."""
    size, _, _, o = kernel.shape
    rows = unfold_rows(x, size)
    b, h, w, _ = rows.shape
    flat = kernel.transpose(1, 2, 0, 3).reshape(-1, size * o)
    products = (rows.reshape(b * h * w, -1) @ flat).reshape(b, h, w, size, o)
    height = h - size + 1
    shifted = [products[:, i : i + height, :, i] for i in range(size)]
    return sum(shifted[1:], shifted[0])


def pooled_conv(
    x: Float[Array, "b h w c"],
    weights: Float[Array, "b h2 w2 k"],
    kernel: Float[Array, "s s c k j"],
) -> Float[Array, "b k j"]:
    """Sums of a convolution without padding, each channel k weighted by a map of its own.

    sum_z weights_k(z) (kernel_k * x)(z), z over all places, without the convolution: as both
    are linear, x is summed first, under the weights as the kernel's taps see them.

    Args:
        x: the map.
        weights: k maps, of the size that the convolution would have.
        kernel: j output channels for each of the k.

    Returns:
        float32 at least.
    """
    size, _, _, k, j = kernel.shape
    rows = unfold_rows(x, size)
    b, h, w, _ = rows.shape
    maps = weights.astype(rows.dtype).transpose(0, 3, 1, 2)
    # Row i of the kernel sees x i rows further down.
    shifted = [
        jnp.pad(maps, ((0, 0), (0, 0), (i, h - maps.shape[2] - i), (0, 0))) for i in range(size)
    ]
    sums = jnp.matmul(
        jnp.stack(shifted, axis=1).reshape(b, size * k, h * w),
        rows.reshape(b, h * w, -1),
        preferred_element_type=jnp.promote_types(rows.dtype, jnp.float32),
    ).reshape(b, size, k, -1)
    flat = at_least_float32(kernel.reshape(size, -1, k, j))
    return jnp.einsum("bikc,ickj->bkj", sums, flat)


def _pad(x: Float[Array, "b h w c"], padding: int) -> Array:
    return jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
