"""Blocks that several networks share (`docs/architecture.md` section 5).

Parameters, batch statistics and the arithmetic of normalization are float32 at least; `dtype`
is what convolutions and matrix products compute in. Padding is explicit and symmetric, as in
the published code.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from eamm_jax.models.config import HourglassConfig
from eamm_jax.ops import convolution
from eamm_jax.types import Array

Dtype = Any

_pytorch_default = partial(nn.initializers.variance_scaling, 1 / 3, distribution="uniform")

KERNEL_INIT = _pytorch_default("fan_in")
"""PyTorch's default, from which the published networks were trained: within 1 / sqrt(fan in)."""

TRANSPOSED_KERNEL_INIT = _pytorch_default("fan_out")
"""The same of a transposed kernel, whose fan-in PyTorch counts over its outputs."""

BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.9
"""Share of the old statistics that is kept; the published code calls this momentum 0.1."""


def conv(
    features: int, kernel: int, dtype: Dtype, *, name: str | None = None, **options: Any
) -> nn.Conv:
    """A square convolution that keeps the size of its input unless `padding` is given."""
    options.setdefault("padding", kernel // 2)
    options.setdefault("kernel_init", KERNEL_INIT)
    if "strides" not in options:
        options.setdefault("conv_general_dilated", _convolve)
    return nn.Conv(features, (kernel, kernel), dtype=dtype, name=name, **options)


def dense(features: int, dtype: Dtype, *, name: str | None = None) -> nn.Dense:
    """A fully connected layer."""
    return nn.Dense(features, kernel_init=KERNEL_INIT, dtype=dtype, name=name)


def _convolve(x: Array, kernel: Array, strides: Any, padding: Any, **_: Any) -> Array:
    """`ops.convolution.conv` with the signature of `jax.lax.conv_general_dilated`."""
    return convolution.conv(x, kernel, padding[0][0])


def _convolve_upsampled(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """`ops.convolution.conv_upsampled` with the same signature."""
    return convolution.conv_upsampled(x, kernel)


def batch_norm(train: bool, dtype: Dtype, *, name: str) -> nn.BatchNorm:
    """Batch norm; over the global batch when its input is sharded under jit."""
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=BATCH_NORM_MOMENTUM,
        epsilon=BATCH_NORM_EPSILON,
        dtype=dtype,
        # The two-pass variance: the fast one loses digits where a channel's mean is large.
        use_fast_variance=False,
        name=name,
    )


class SameBlock(nn.Module):
    """Convolution, batch norm, ReLU."""

    features: int
    kernel: int = 3
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool = False) -> Array:
        """(b, h, w, c) -> (b, h, w, features)."""
        x = conv(self.features, self.kernel, self.dtype, name="conv")(x)
        return nn.relu(batch_norm(train, self.dtype, name="norm")(x))


class DownBlock(nn.Module):
    """Convolution, batch norm, ReLU, 2x2 average pooling."""

    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool = False) -> Array:
        """(b, h, w, c) -> (b, h/2, w/2, features)."""
        x = conv(self.features, 3, self.dtype, name="conv")(x)
        x = nn.relu(batch_norm(train, self.dtype, name="norm")(x))
        return nn.avg_pool(x, (2, 2), strides=(2, 2))


class UpBlock(nn.Module):
    """Nearest-neighbor upsampling by 2, convolution, batch norm, ReLU."""

    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool = False) -> Array:
        """(b, h, w, c) -> (b, 2 h, 2 w, features)."""
        options = {"conv_general_dilated": _convolve_upsampled}
        x = conv(self.features, 3, self.dtype, name="conv", **options)(x)
        return nn.relu(batch_norm(train, self.dtype, name="norm")(x))


class ResBlock(nn.Module):
    """x + conv(relu(bn(conv(relu(bn(x))))))."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool = False) -> Array:
        """Keeps shape."""
        features = x.shape[-1]
        y = nn.relu(batch_norm(train, self.dtype, name="norm1")(x))
        y = conv(features, 3, self.dtype, name="conv1")(y)
        y = nn.relu(batch_norm(train, self.dtype, name="norm2")(y))
        return x + conv(features, 3, self.dtype, name="conv2")(y)


class Hourglass(nn.Module):
    """A U-Net: down to 1/2^blocks of the size and back, with a skip connection at each level."""

    config: HourglassConfig
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool = False) -> Array:
        """(b, h, w, c) -> (b, h, w, width + c)."""
        skips, config = [x], self.config
        widths = [min(config.max_width, config.width * 2**i) for i in range(config.blocks + 1)]
        for level, features in enumerate(widths[1:]):
            block = DownBlock(features, self.dtype, name=f"down_{level}")
            skips.append(block(skips[-1], train=train))
        out = skips.pop()
        for step, features in enumerate(reversed(widths[:-1])):
            out = UpBlock(features, self.dtype, name=f"up_{step}")(out, train=train)
            skip = skips.pop()
            out = jnp.concatenate([out, skip.astype(out.dtype)], axis=-1)
        return out


class DenseStack(nn.Module):
    """Linear layers with ReLU after each."""

    widths: tuple[int, ...]
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Array:
        """(..., c) -> (..., widths[-1])."""
        for index, width in enumerate(self.widths):
            x = nn.relu(dense(width, self.dtype, name=f"dense_{index}")(x))
        return x


class SpectralConv(nn.Module):
    """A convolution whose kernel is divided by its largest singular value (Miyato et al. 2018).

    The singular vectors are kept in the collection `spectral_stats` and improved by one
    power iteration at each training step.

    Attributes:
        features: output channels.
        kernel: side of the square kernel; no padding.
    """

    features: int
    kernel: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool = False) -> Array:
        """(b, h, w, c) -> (b, h - kernel + 1, w - kernel + 1, features)."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        weight = self.param("kernel", KERNEL_INIT, shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        matrix = weight.reshape(-1, self.features)

        def random_unit(size: int) -> Array:
            return _normalised(jax.random.normal(self.make_rng("params"), (size,)))

        left = self.variable("spectral_stats", "u", random_unit, self.features)
        right = self.variable("spectral_stats", "v", random_unit, matrix.shape[0])
        u, v = left.value, right.value
        if train:
            fixed = jax.lax.stop_gradient(matrix)
            v = _normalised(fixed @ u)
            u = _normalised(v @ fixed)
            if not self.is_initializing():
                left.value, right.value = u, v
        sigma = v @ matrix @ u
        x, weight, bias = nn.dtypes.promote_dtype(x, weight / sigma, bias, dtype=self.dtype)
        return convolution.conv(x, weight, 0) + bias


def _normalised(vector: Array) -> Array:
    return vector / (jnp.linalg.norm(vector) + 1e-12)
