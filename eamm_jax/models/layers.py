"""Blocks that several networks share (`docs/architecture.md` section 5).

Parameters, batch statistics and the normalisation's arithmetic are float32; `dtype` is
what convolutions compute in. Padding is explicit and symmetric, as in the published code.

Blocks with `fast` compute the same from the same parameters by the algorithms of
`ops/convolution.py`. What these derive from a kernel is read from the collection `prepared`
where it is given, and derived at every call otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from eamm_jax.models.config import HourglassConfig
from eamm_jax.ops import convolution
from eamm_jax.ops.convolution import (
    conv3x3_by_rows,
    conv3x3_upsampled,
    conv3x3_winograd,
    fills_tiles,
    upsampled_kernel,
    winograd_kernel,
)
from eamm_jax.ops.resizing import upsample_nearest
from eamm_jax.types import Array

Dtype = Any

BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.9
"""Share of the old statistics that is kept; the published code calls this momentum 0.1."""


def _is_half(dtype: Dtype) -> bool:
    return jnp.dtype(dtype) == jnp.bfloat16


def conv(
    features: int, kernel: int, dtype: Dtype, *, name: str | None = None, **options: Any
) -> nn.Conv:
    """A square convolution that keeps the size of its input unless `padding` is given."""
    options.setdefault("padding", kernel // 2)
    if "strides" not in options:
        options["conv_general_dilated"] = _convolve
    return nn.Conv(features, (kernel, kernel), dtype=dtype, name=name, **options)


def _convolve(x: Array, kernel: Array, strides: Any, padding: Any, **_: Any) -> Array:
    """`ops.convolution.conv` in the place of `jax.lax.conv_general_dilated`, for `conv`."""
    return convolution.conv(x, kernel, padding[0][0])


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


class TransformedConv(nn.Module):
    """A 3x3 convolution by another algorithm; parameters are those of `nn.Conv`.

    Attributes:
        features: output channels.
        transform: of the kernel, done once; None takes it as it is.
        apply_kernel: the convolution with the transformed kernel, without bias.
        dtype: of the input, the transformed kernel and the result.
    """

    features: int
    transform: Callable[[Array], Array] | None
    apply_kernel: Callable[[Array, Array], Array]
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Array:
        """As the algorithm says."""
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))

        def transformed(kernel: Array) -> Array:
            if self.transform is not None:
                kernel = self.transform(kernel)
            return kernel.astype(self.dtype)

        as_it_is = self.transform is None and kernel.dtype == self.dtype
        if not as_it_is and (
            self.has_variable("prepared", "kernel") or self.is_mutable_collection("prepared")
        ):
            kernel = self.variable("prepared", "kernel", transformed, kernel).value
        else:
            kernel = transformed(kernel)
        return (self.apply_kernel(x.astype(self.dtype), kernel) + bias).astype(self.dtype)


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
    """Convolution, batch norm, ReLU, then half the size by averaging."""

    features: int
    dtype: Dtype = jnp.float32
    fast: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool = False) -> Array:
        """(b, h, w, c) -> (b, h/2, w/2, features)."""
        if self.fast and _is_half(self.dtype):
            convolve: Any = TransformedConv(
                self.features, None, conv3x3_by_rows, self.dtype, name="conv"
            )
        else:
            convolve = conv(self.features, 3, self.dtype, name="conv")
        x = convolve(x)
        x = nn.relu(batch_norm(train, self.dtype, name="norm")(x))
        return nn.avg_pool(x, (2, 2), strides=(2, 2))


class UpBlock(nn.Module):
    """Twice the size by repetition, then convolution, batch norm, ReLU."""

    features: int
    dtype: Dtype = jnp.float32
    fast: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool = False) -> Array:
        """(b, h, w, c) -> (b, 2 h, 2 w, features)."""
        if self.fast:
            x = TransformedConv(
                self.features, upsampled_kernel, conv3x3_upsampled, self.dtype, name="conv"
            )(x)
        else:
            x = conv(self.features, 3, self.dtype, name="conv")(upsample_nearest(x))
        return nn.relu(batch_norm(train, self.dtype, name="norm")(x))


class ResBlock(nn.Module):
    """x + conv(relu(bn(conv(relu(bn(x))))))."""

    dtype: Dtype = jnp.float32
    fast: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool = False) -> Array:
        """Keeps shape."""
        features = x.shape[-1]

        def convolve(y: Array, name: str) -> Array:
            if self.fast and _is_half(self.dtype):
                return TransformedConv(features, None, conv3x3_by_rows, self.dtype, name=name)(y)
            if self.fast and fills_tiles(y):
                return TransformedConv(features, winograd_kernel, conv3x3_winograd, name=name)(y)
            return conv(features, 3, self.dtype, name=name)(y)

        y = nn.relu(batch_norm(train, self.dtype, name="norm1")(x))
        y = convolve(y, "conv1")
        y = nn.relu(batch_norm(train, self.dtype, name="norm2")(y))
        return x + convolve(y, "conv2")


class Hourglass(nn.Module):
    """A U-Net: down to 1/2^blocks of the size and back, with a skip connection at each level."""

    config: HourglassConfig
    dtype: Dtype = jnp.float32
    fast: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool = False) -> Array:
        """(b, h, w, c) -> (b, h, w, width + c)."""
        skips, config = [x], self.config
        widths = [min(config.max_width, config.width * 2**i) for i in range(config.blocks + 1)]
        for level, features in enumerate(widths[1:]):
            block = DownBlock(features, self.dtype, self.fast, name=f"down_{level}")
            skips.append(block(skips[-1], train=train))
        out = skips.pop()
        for step, features in enumerate(reversed(widths[:-1])):
            out = UpBlock(features, self.dtype, self.fast, name=f"up_{step}")(out, train=train)
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
            x = nn.relu(nn.Dense(width, dtype=self.dtype, name=f"dense_{index}")(x))
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
        weight = self.param("kernel", nn.initializers.lecun_normal(), shape)
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
