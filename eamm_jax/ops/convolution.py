"""Convolutions of the networks; on GPUs and TPUs `jax.lax.conv_general_dilated` and no more.

On a CPU the same is computed by the algorithms of `ops/cpu_convolution.py`, which
`ops/platform.py` puts in its place. Maps are NHWC and kernels HWIO.
"""

from __future__ import annotations

import functools

import jax
from jaxtyping import Float

from eamm_jax.ops import cpu_convolution as on_cpu
from eamm_jax.ops.platform import Form, multilinear
from eamm_jax.ops.precision import at_least_float32, exact_einsum
from eamm_jax.ops.resizing import upsample_nearest
from eamm_jax.types import Array


def conv(
    x: Float[Array, "b h w c"], kernel: Float[Array, "s s c o"], padding: int
) -> Float[Array, "b h2 w2 o"]:
    """The convolution of stride 1, with the same padding on all sides."""
    return _conv(padding)(x, kernel)


@functools.cache
def _conv(padding: int) -> Form:
    gradients = {0: on_cpu.input_gradient, 1: on_cpu.kernel_gradient}
    padded = {
        place: functools.partial(gradient, padding=padding) for place, gradient in gradients.items()
    }
    on_other = functools.partial(on_cpu.plain_conv, padding=padding)
    return multilinear(functools.partial(on_cpu.conv, padding=padding), padded)(on_other)


@multilinear(
    on_cpu.conv_upsampled, {0: on_cpu.upsampled_input_gradient, 1: on_cpu.upsampled_kernel_gradient}
)
def conv_upsampled(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"]
) -> Float[Array, "b 2*h 2*w o"]:
    """Nearest-neighbor upsampling by 2, then the convolution of padding 1."""
    return on_cpu.plain_conv(upsample_nearest(x), kernel, padding=1)


@multilinear(on_cpu.conv_transpose)
def conv_transpose(
    x: Float[Array, "b h w c"], kernel: Float[Array, "s s c o"]
) -> Float[Array, "b h2 w2 o"]:
    """The transposed convolution of stride 2 and (as PyTorch counts it) padding 1.

    Args:
        x: the small map.
        kernel: of even side s, oriented as that of `flax.linen.ConvTranspose`.

    Returns:
        The large map; height and width are 2 h + s - 4 and 2 w + s - 4.
    """
    padding = [(len(kernel) - 2,) * 2] * 2
    return jax.lax.conv_transpose(x, kernel, (2, 2), padding, dimension_numbers=on_cpu.LAYOUT)


def keypoint_head(
    features: Float[Array, "b h w c"],
    heatmap_kernel: Float[Array, "s s c k"],
    heatmap_bias: Float[Array, " k"],
    jacobian_kernel: Float[Array, "s s c 4*k"],
    jacobian_bias: Float[Array, " 4*k"],
    temperature: float,
) -> tuple[Float[Array, "b h2 w2 k"], Float[Array, "b k 2 2"]]:
    """Heatmaps by a convolution, and Jacobians averaged under them (Siarohin et al. 2019, 3.1).

    Neither convolution pads. Heatmaps are a softmax over all places; the Jacobian of a keypoint
    is the mean of four channels of the second convolution under its heatmap.

    Returns:
        Heatmaps and Jacobians, float32 at least.
    """
    scores = at_least_float32(_conv_unpadded(features, heatmap_kernel) + heatmap_bias)
    b, h, w, k = scores.shape
    heatmap = jax.nn.softmax(scores.reshape(b, h * w, k) / temperature, axis=1)
    heatmap = heatmap.reshape(b, h, w, k)
    kernel = jacobian_kernel.reshape(*jacobian_kernel.shape[:3], k, 4)
    jacobian = _pooled_conv(features, heatmap, kernel)
    return heatmap, (jacobian + jacobian_bias.reshape(k, 4)).reshape(b, k, 2, 2)


@multilinear(on_cpu.unfolded_conv)
def _conv_unpadded(x: Array, kernel: Array) -> Array:
    return on_cpu.plain_conv(x, kernel, padding=0)


@multilinear(on_cpu.pooled_conv)
def _pooled_conv(x: Array, weights: Array, kernel: Array) -> Array:
    flat = kernel.reshape(*kernel.shape[:3], -1).astype(x.dtype)
    maps = on_cpu.plain_conv(x, flat, padding=0)
    maps = at_least_float32(maps).reshape(*maps.shape[:3], *kernel.shape[3:])
    return exact_einsum("bhwk,bhwkj->bkj", weights, maps)
