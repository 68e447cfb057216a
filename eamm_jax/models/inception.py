"""Inception v3 of the Frechet inception distance (FID). A metric, not a part of EAMM.

Szegedy et al. 2016, in the version of Heusel et al. 2017 as ported by mseitzer/pytorch-fid
(`pt_inception-2015-12-05-6726825d.pth`): average poolings that ignore the padding, and a largest
value instead of a mean in the last block. Modules have the published names.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from eamm_jax.types import Array

SIZE = 299
"""Side that images are resized to."""

FEATURES = 2048

_EPSILON = 1e-3  # of batch norm


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU."""

    features: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: tuple[int, int] = (0, 0)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ n"]:
        """(b, h, w, c) -> (b, h', w', features)."""
        rows, columns = self.padding
        padding = ((rows, rows), (columns, columns))
        x = nn.Conv(self.features, self.kernel, self.stride, padding, use_bias=False, name="conv")(
            x
        )
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=_EPSILON, name="bn")(x))


def _conv(features: int, kernel: int, name: str, stride: int = 1, padding: int = 0) -> ConvNorm:
    return ConvNorm(features, (kernel, kernel), stride, (padding, padding), name=name)


def _row(features: int, length: int, name: str) -> ConvNorm:
    return ConvNorm(features, (1, length), padding=(0, length // 2), name=name)


def _column(features: int, length: int, name: str) -> ConvNorm:
    return ConvNorm(features, (length, 1), padding=(length // 2, 0), name=name)


_SAME = ((1, 1), (1, 1))
_mean_pool = partial(
    nn.avg_pool, window_shape=(3, 3), strides=(1, 1), padding=_SAME, count_include_pad=False
)
_largest_pool = partial(nn.max_pool, window_shape=(3, 3), strides=(1, 1), padding=_SAME)
_halve = partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2))


def _joined(*branches: Array) -> Array:
    return jnp.concatenate(branches, axis=-1)


class BlockA(nn.Module):
    """35x35 maps; `pool_features` channels come from the pooled branch."""

    pool_features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w n"]:
        """Branches of 1x1, 5x5, twice 3x3, and a pooling."""
        one = _conv(64, 1, "branch1x1")(x)
        five = _conv(48, 1, "branch5x5_1")(x)
        five = _conv(64, 5, "branch5x5_2", padding=2)(five)
        three = _conv(64, 1, "branch3x3dbl_1")(x)
        three = _conv(96, 3, "branch3x3dbl_2", padding=1)(three)
        three = _conv(96, 3, "branch3x3dbl_3", padding=1)(three)
        pooled = _conv(self.pool_features, 1, "branch_pool")(_mean_pool(x))
        return _joined(one, five, three, pooled)


class BlockB(nn.Module):
    """35x35 to 17x17."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ n"]:
        """Branches of 3x3, twice 3x3, and a pooling."""
        three = _conv(384, 3, "branch3x3", stride=2)(x)
        double = _conv(64, 1, "branch3x3dbl_1")(x)
        double = _conv(96, 3, "branch3x3dbl_2", padding=1)(double)
        double = _conv(96, 3, "branch3x3dbl_3", stride=2)(double)
        return _joined(three, double, _halve(x))


class BlockC(nn.Module):
    """17x17 maps; `width` channels inside the branches."""

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w n"]:
        """Branches of 1x1, 7x7, twice 7x7 (each as a row and a column), and a pooling."""
        n = self.width
        one = _conv(192, 1, "branch1x1")(x)
        seven = _conv(n, 1, "branch7x7_1")(x)
        seven = _row(n, 7, "branch7x7_2")(seven)
        seven = _column(192, 7, "branch7x7_3")(seven)
        double = _conv(n, 1, "branch7x7dbl_1")(x)
        double = _column(n, 7, "branch7x7dbl_2")(double)
        double = _row(n, 7, "branch7x7dbl_3")(double)
        double = _column(n, 7, "branch7x7dbl_4")(double)
        double = _row(192, 7, "branch7x7dbl_5")(double)
        pooled = _conv(192, 1, "branch_pool")(_mean_pool(x))
        return _joined(one, seven, double, pooled)


class BlockD(nn.Module):
    """17x17 to 8x8."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ n"]:
        """Branches of 3x3, 7x7 with 3x3, and a pooling."""
        three = _conv(192, 1, "branch3x3_1")(x)
        three = _conv(320, 3, "branch3x3_2", stride=2)(three)
        seven = _conv(192, 1, "branch7x7x3_1")(x)
        seven = _row(192, 7, "branch7x7x3_2")(seven)
        seven = _column(192, 7, "branch7x7x3_3")(seven)
        seven = _conv(192, 3, "branch7x7x3_4", stride=2)(seven)
        return _joined(three, seven, _halve(x))


class BlockE(nn.Module):
    """8x8 maps; `largest`: the pooled branch takes the largest value instead of the mean."""

    largest: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w 2048"]:
        """Branches of 1x1, 3x3 and twice 3x3 (split into a row and a column), and a pooling."""
        one = _conv(320, 1, "branch1x1")(x)
        three = _conv(384, 1, "branch3x3_1")(x)
        three = _joined(_row(384, 3, "branch3x3_2a")(three), _column(384, 3, "branch3x3_2b")(three))
        double = _conv(448, 1, "branch3x3dbl_1")(x)
        double = _conv(384, 3, "branch3x3dbl_2", padding=1)(double)
        double = _joined(
            _row(384, 3, "branch3x3dbl_3a")(double), _column(384, 3, "branch3x3dbl_3b")(double)
        )
        # Parity: the published network has this in its last block only.
        pooled = _largest_pool(x) if self.largest else _mean_pool(x)
        return _joined(one, three, double, _conv(192, 1, "branch_pool")(pooled))


class Inception(nn.Module):
    """Images of any size to the features whose distribution FID compares."""

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b 2048"]:
        """RGB in [0, 1]; resized bilinearly, without antialiasing, as published."""
        shape = (len(image), SIZE, SIZE, 3)
        x = 2 * jax.image.resize(image, shape, "bilinear", antialias=False) - 1
        x = _conv(32, 3, "Conv2d_1a_3x3", stride=2)(x)
        x = _conv(32, 3, "Conv2d_2a_3x3")(x)
        x = _halve(_conv(64, 3, "Conv2d_2b_3x3", padding=1)(x))
        x = _conv(80, 1, "Conv2d_3b_1x1")(x)
        x = _halve(_conv(192, 3, "Conv2d_4a_3x3")(x))
        for letter, pool_features in zip("bcd", (32, 64, 64), strict=True):
            x = BlockA(pool_features, name=f"Mixed_5{letter}")(x)
        x = BlockB(name="Mixed_6a")(x)
        for letter, width in zip("bcde", (128, 160, 160, 192), strict=True):
            x = BlockC(width, name=f"Mixed_6{letter}")(x)
        x = BlockD(name="Mixed_7a")(x)
        x = BlockE(largest=False, name="Mixed_7b")(x)
        x = BlockE(largest=True, name="Mixed_7c")(x)
        return x.mean(axis=(1, 2))
