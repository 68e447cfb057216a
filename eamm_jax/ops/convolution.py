"""Convolutions as matrix products, with fewer multiplications or quicker gradients.

All are exact algebra: they equal the plain convolution but for rounding.

- `conv`, the plain convolution of all networks. On a CPU its gradients, and the convolution of
  small maps, are products.
- 3x3 convolutions for inference on a CPU. The kernel is transformed once; the plain
  convolution is `jax.lax.conv_general_dilated` with padding 1.
- The transposed convolutions that draw maps from sound, and the large convolutions that find
  keypoints, which training goes through backwards: XLA's gradients of their kernels are slow
  on a CPU (`benchmarks/training.py`), and those of matrix products are not.
"""

from __future__ import annotations

import functools

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


SMALL_MAP_PIXELS = 2 * 16 * 16
"""Most pixels, of all maps of a batch, whose convolution is done sooner as one product
(`benchmarks/convolutions.py`)."""

FEW_PIXELS = 16 * 16
"""Of a map: XLA's gradient is quick over few pixels, if there are many examples."""

FEW_FEATURES = 16
"""Fewer output channels than this leave a product for each tap of a kernel too thin."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv(
    x: Float[Array, "b h w c"], kernel: Float[Array, "s s c o"], padding: int
) -> Float[Array, "b h2 w2 o"]:
    """The convolution of stride 1, with the same padding on all sides.

    Everywhere but on a CPU, and in bfloat16, this is `jax.lax.conv_general_dilated` and its
    gradients are XLA's. On a CPU XLA is slow with gradients of kernels, with maps smaller than
    the kernel and with convolutions that have no padding.
    """
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_conv_on_cpu, padding=padding),
        default=functools.partial(_conv, padding=padding),
    )


def _conv_forward(x: Array, kernel: Array, padding: int) -> tuple[Array, tuple[Array, Array]]:
    return conv(x, kernel, padding), (x, kernel)


def _conv_backward(padding: int, seen: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    return jax.lax.platform_dependent(
        *seen,
        grad,
        cpu=functools.partial(_conv_gradients_on_cpu, padding=padding),
        default=functools.partial(_conv_gradients, padding=padding),
    )


conv.defvjp(_conv_forward, _conv_backward)


def _conv(x: Array, kernel: Array, *, padding: int) -> Array:
    sides = ((padding, padding),) * 2
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), sides, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _conv_gradients(x: Array, kernel: Array, grad: Array, *, padding: int) -> tuple[Array, Array]:
    _, backward = jax.vjp(functools.partial(_conv, padding=padding), x, kernel)
    return backward(grad)


def _conv_on_cpu(x: Array, kernel: Array, *, padding: int) -> Array:
    if x.dtype != jnp.float32:
        return _conv(x, kernel, padding=padding)
    if _is_small(x, kernel, padding):
        return conv3x3_product(x, kernel)
    if not padding:
        # A row of padding that is dropped again: with any padding at all XLA takes another
        # path, three times as fast.
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), ((0, 1), (0, 0)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )[:, :-1]
    return _conv(x, kernel, padding=padding)


def _conv_gradients_on_cpu(
    x: Array, kernel: Array, grad: Array, *, padding: int
) -> tuple[Array, Array]:
    tiled = _keeps_size_3x3(kernel, padding) and fills_tiles(x)
    if x.dtype != jnp.float32:
        return _conv_gradients(x, kernel, grad, padding=padding)
    if _is_small(x, kernel, padding):
        return jax.vjp(conv3x3_product, x, kernel)[1](grad)
    if not tiled and x.shape[1] * x.shape[2] <= FEW_PIXELS:
        return _conv_gradients(x, kernel, grad, padding=padding)
    (x_grad,) = jax.vjp(lambda x: _conv(x, kernel, padding=padding), x)[1](grad)
    if tiled:
        return x_grad, _kernel_gradient_winograd(x, grad)
    size, features = len(kernel), kernel.shape[-1]
    if features < FEW_FEATURES and size == 2 * padding + 1 > 1:
        # The same sums with input and output in each other's place: XLA is quicker so.
        turned = jnp.zeros((size, size, features, x.shape[-1]))
        _, backward = jax.vjp(lambda kernel: _conv(grad, kernel, padding=padding), turned)
        return x_grad, backward(x)[0][::-1, ::-1].swapaxes(2, 3)
    return x_grad, _kernel_gradient_by_taps(x, grad, padding)


def _is_small(x: Array, kernel: Array, padding: int) -> bool:
    b, h, w, _ = x.shape
    if not isinstance(b, int):  # a batch of any size, in an export
        return False
    return _keeps_size_3x3(kernel, padding) and b * h * w <= SMALL_MAP_PIXELS


def _keeps_size_3x3(kernel: Array, padding: int) -> bool:
    return kernel.shape[:2] == (3, 3) and padding == 1


def _kernel_gradient_winograd(
    x: Float[Array, "b h w c"], grad: Float[Array, "b h w o"]
) -> Float[Array, "3 3 c o"]:
    """The gradient of a 3x3 kernel where a tile costs 36 products, not 144.

    `conv3x3_winograd` is A^T (B^T x * G k), so that the gradient of k is G^T (B^T x * A grad),
    summed over tiles.
    """
    b, h, w, features = grad.shape
    rows, columns = h // WINOGRAD_TILE, w // WINOGRAD_TILE
    places = grad.reshape(b, rows, WINOGRAD_TILE, columns, WINOGRAD_TILE, features)
    places = places.transpose(2, 4, 0, 1, 3, 5).reshape(WINOGRAD_TILE**2, -1)
    grads = jnp.matmul(np.kron(_OUTPUT_TRANSFORM, _OUTPUT_TRANSFORM).T, places)
    grads = grads.reshape(_INPUT_TILE**2, -1, features)
    sums = jnp.einsum("ptc,pto->pco", _winograd_inputs(x), grads)
    transform = np.kron(_KERNEL_TRANSFORM, _KERNEL_TRANSFORM)
    kernel = jnp.einsum("pq,pco->qco", transform, sums, precision=jax.lax.Precision.HIGHEST)
    return kernel.reshape(3, 3, x.shape[-1], features)


def _kernel_gradient_by_taps(
    x: Float[Array, "b h w c"], grad: Float[Array, "b h2 w2 o"], padding: int
) -> Float[Array, "s s c o"]:
    """The gradient of a kernel as a product for each of its taps."""
    height, width = grad.shape[1:3]
    sides = (padding, padding)
    x = jnp.pad(x, ((0, 0), sides, sides, (0, 0)))
    size = x.shape[1] - height + 1
    taps = [
        jnp.einsum("bhwc,bhwo->co", x[:, i : i + height, j : j + width], grad)
        for i in range(size)
        for j in range(size)
    ]
    return jnp.stack(taps).reshape(size, size, *taps[0].shape)


def winograd_kernel(kernel: Float[Array, "3 3 c o"]) -> Float[Array, "36 c o"]:
    """A 3x3 kernel in the domain where a 4x4 tile costs 36 products instead of 144."""
    transform = np.kron(_KERNEL_TRANSFORM, _KERNEL_TRANSFORM)
    flat = kernel.reshape(9, *kernel.shape[2:])
    return jnp.einsum("pq,qco->pco", transform, flat, precision=jax.lax.Precision.HIGHEST)


def fills_tiles(x: Float[Array, "b h w c"]) -> bool:
    """Whether a map can be split into tiles of 4x4."""
    return x.shape[1] % WINOGRAD_TILE == x.shape[2] % WINOGRAD_TILE == 0


def conv3x3_winograd(
    x: Float[Array, "b h w c"], kernel: Float[Array, "36 c o"]
) -> Float[Array, "b h w o"]:
    """The convolution of padding 1; height and width must be multiples of 4.

    The two-dimensional transforms are single products with Kronecker products of the
    one-dimensional ones, so that all the work is done by matrix multiplication.
    """
    b, h, w, _ = x.shape
    if not fills_tiles(x):
        raise ValueError(f"{h}x{w} is not a multiple of {WINOGRAD_TILE}")
    products = jnp.einsum("ptc,pco->pto", _winograd_inputs(x), kernel)
    products = products.reshape(_INPUT_TILE**2, -1)
    out = jnp.matmul(np.kron(_OUTPUT_TRANSFORM, _OUTPUT_TRANSFORM), products)
    rows, columns = h // WINOGRAD_TILE, w // WINOGRAD_TILE
    out = out.reshape(WINOGRAD_TILE, WINOGRAD_TILE, b, rows, columns, -1)
    return out.transpose(2, 3, 0, 4, 1, 5).reshape(b, h, w, -1)


def _winograd_inputs(x: Float[Array, "b h w c"]) -> Float[Array, "36 t c"]:
    """The 6x6 pixels in and around every tile of 4x4, transformed."""
    _, h, w, c = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # One strided slice for each of the 36 places in a tile: (36, tiles * c).
    places = [
        x[:, i : i + h - 3 : WINOGRAD_TILE, j : j + w - 3 : WINOGRAD_TILE]
        for i in range(_INPUT_TILE)
        for j in range(_INPUT_TILE)
    ]
    inputs = jnp.stack(places).reshape(_INPUT_TILE**2, -1)
    inputs = jnp.matmul(np.kron(_INPUT_TRANSFORM, _INPUT_TRANSFORM), inputs)
    return inputs.reshape(_INPUT_TILE**2, -1, c)


def conv3x3_product(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"]
) -> Float[Array, "b h w o"]:
    """The convolution of padding 1 as one product; for small maps of many channels."""
    b, h, w, _ = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    neighbours = [x[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]
    rows = jnp.concatenate(neighbours, axis=-1).reshape(b * h * w, -1)
    return (rows @ kernel.reshape(-1, kernel.shape[-1])).reshape(b, h, w, -1)


def conv_by_rows(
    x: Float[Array, "b h w c"], kernel: Float[Array, "s s c o"]
) -> Float[Array, "b h2 w2 o"]:
    """The convolution without padding as one product for each row of the kernel.

    Sums are float32. For bfloat16 on a CPU: processors with units for products of matrices in
    bfloat16 (AMX) are given them, which XLA's own convolutions do not do.
    """
    b, h, w, _ = x.shape
    size = kernel.shape[0]
    height, width = h - size + 1, w - size + 1
    rows = unfold_rows(x, size)
    total: Array | float = 0.0
    for i, taps in enumerate(kernel):
        total += jnp.matmul(
            rows[:, i : i + height].reshape(b * height * width, -1),
            taps.reshape(-1, taps.shape[-1]),
            preferred_element_type=jnp.float32,
        )
    return jnp.reshape(total, (b, height, width, -1))


def conv3x3_by_rows(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"]
) -> Float[Array, "b h w o"]:
    """The convolution of padding 1, by `conv_by_rows`."""
    return conv_by_rows(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), kernel)


def upsampled_kernel(kernel: Float[Array, "3 3 c o"]) -> Float[Array, "2 2 c 4*o"]:
    """The 2x2 kernels that a 3x3 kernel becomes at the four places of an enlarged pixel.

    After repetition, two of the three taps of each axis fall on the same small pixel: at an
    even place the last two, at an odd place the first two.
    """

    def even(taps: Array) -> Array:
        return jnp.stack([taps[0], taps[1] + taps[2]])

    def odd(taps: Array) -> Array:
        return jnp.stack([taps[0] + taps[1], taps[2]])

    places = [
        columns(rows(kernel).swapaxes(0, 1)).swapaxes(0, 1)
        for rows in (even, odd)
        for columns in (even, odd)
    ]
    return jnp.concatenate(places, axis=-1)


def conv3x3_upsampled(
    x: Float[Array, "b h w c"], kernel: Float[Array, "2 2 c 4*o"]
) -> Float[Array, "b 2*h 2*w o"]:
    """Nearest-neighbour doubling, then the convolution of padding 1, from the small map."""
    b, h, w, _ = x.shape
    # Row i of the result sees the small rows i - 1 and i: even places take it from row i,
    # odd ones from row i + 1.
    if x.dtype == jnp.bfloat16:
        y = conv_by_rows(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), kernel)
    else:
        y = _conv(x, kernel, padding=1)
    y = y.reshape(b, h + 1, w + 1, 2, 2, -1)
    rows = [jnp.stack([y[:, i : i + h, j : j + w, i, j] for j in (0, 1)], axis=3) for i in (0, 1)]
    return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, -1)


def transposed_conv(
    x: Float[Array, "b h w c"], kernel: Float[Array, "s s c o"]
) -> Float[Array, "b h2 w2 o"]:
    """A transposed convolution of stride 2 and (as PyTorch counts it) padding 1.

    The same as `jax.lax.conv_transpose(x, kernel, (2, 2), padding)` with s - 2 on all sides.

    Args:
        x: the small map.
        kernel: of even side s, oriented as that of `flax.linen.ConvTranspose`.

    Returns:
        The large map; height and width are 2 h + s - 4 and 2 w + s - 4.
    """
    b, h, w, c = x.shape
    size, _, _, o = kernel.shape
    taps = size // 2
    if size % 2:
        raise ValueError(f"the kernel is {size}x{size}; its side must be even")
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


def conv_unfolded(
    rows: Float[Array, "b h w2 sc"], kernel: Float[Array, "s s c o"]
) -> Float[Array, "b h2 w2 o"]:
    """The convolution without padding of a map that `unfold_rows` unfolded: one product."""
    b, h, w, _ = rows.shape
    size, _, _, o = kernel.shape
    flat = kernel.transpose(1, 2, 0, 3).reshape(-1, size * o)
    products = (rows.reshape(b * h * w, -1) @ flat).reshape(b, h, w, size, o)
    height = h - size + 1
    total = products[:, :height, :, 0]
    for i in range(1, size):
        total += products[:, i : i + height, :, i]
    return total


def pooled_conv(
    rows: Float[Array, "b h w2 sc"],
    weights: Float[Array, "b h2 w2 k"],
    kernel: Float[Array, "s s c k j"],
) -> Float[Array, "b k j"]:
    """Sums of a convolution without padding, each channel k weighted by a map of its own.

    sum_z weights_k(z) (kernel_k * x)(z), z over all places, without the convolution: as both
    are linear, x is summed first, under the weights as the kernel's taps see them.

    Args:
        rows: x, as `unfold_rows` unfolded it.
        weights: k maps, of the size that the convolution would have.
        kernel: j output channels for each of the k.

    Returns:
        float32.
    """
    b, h, w, _ = rows.shape
    size, _, _, k, j = kernel.shape
    maps = weights.astype(rows.dtype).transpose(0, 3, 1, 2)
    # Row i of the kernel sees x i rows further down.
    shifted = [
        jnp.pad(maps, ((0, 0), (0, 0), (i, h - maps.shape[2] - i), (0, 0))) for i in range(size)
    ]
    sums = jnp.matmul(
        jnp.stack(shifted, axis=1).reshape(b, size * k, h * w),
        rows.reshape(b, h * w, -1),
        preferred_element_type=jnp.float32,
    ).reshape(b, size, k, -1)
    flat = kernel.reshape(size, -1, k, j).astype(jnp.float32)
    return jnp.einsum("bikc,ickj->bkj", sums, flat)
