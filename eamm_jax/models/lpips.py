"""Networks whose features tell how alike two images look (Zhang et al. 2018).

The distance LPIPS of two images is the sum over feature maps of the mean over pixels of the squared
distance of their features (`training.losses.lpips`). Each network is one of ImageNet and, for each
of its maps, how much each channel matters to people. `AlexNet` and `VGG16` are those of LPIPS 0.1;
`VGG16(blurred=True)` is that of shift-tolerant LPIPS (Ghildyal & Liu 2022).
"""

from __future__ import annotations

from collections.abc import Iterable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from eamm_jax.models.layers import Dtype, conv
from eamm_jax.ops.precision import at_least_float32
from eamm_jax.types import Array

Maps = tuple[Float[Array, "b _ _ _"], ...]

# Of images in [-1, 1].
MEAN = (-0.030, -0.088, -0.188)
STD = (0.458, 0.448, 0.450)

STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
"""Convolutions of each stage of VGG-16, and their width."""

FLOOR = 1e-10
"""Least length of a feature vector."""


class ChannelShares(nn.Module):
    """How much each channel of a stage matters."""

    channels: int

    @nn.compact
    def __call__(self) -> Float[Array, "1 1 n"]:
        """The shares, stored as the 1x1 convolution that they were trained as."""
        shape = (1, 1, self.channels, 1)
        return self.param("kernel", nn.initializers.ones_init(), shape)[..., 0]


class AlexNet(nn.Module):
    """The five maps after each ReLU, of unit length at every pixel, scaled."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> Maps:
        """Image in [0, 1], at least 31x31, to five feature maps."""
        x = nn.relu(conv(64, 11, self.dtype, strides=4, padding=2, name="conv_0")(_scaled(image)))
        maps = [x]
        for n, (width, kernel) in enumerate(((192, 5), (384, 3), (256, 3), (256, 3)), start=1):
            if n < 3:
                x = nn.max_pool(x, (3, 3), strides=(2, 2))
            x = nn.relu(conv(width, kernel, self.dtype, name=f"conv_{n}")(x))
            maps.append(x)
        return _weighed(maps)


class VGG16(nn.Module):
    """relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3, of unit length at every pixel, scaled.

    Attributes:
        blurred: whether poolings are anti-aliased.
        dtype: of the convolutions.
    """

    blurred: bool
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> Maps:
        """Image in [0, 1] to five feature maps, each about half the size of the one before."""
        x, maps = _scaled(image), []
        for stage, (convolutions, width) in enumerate(STAGES, start=1):
            if stage > 1:
                x = blurred_pool(x) if self.blurred else nn.max_pool(x, (2, 2), strides=(2, 2))
            for index in range(1, convolutions + 1):
                x = nn.relu(conv(width, 3, self.dtype, name=f"conv{stage}_{index}")(x))
            maps.append(x)
        return _weighed(maps)


def _scaled(image: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    return (2.0 * image - 1.0 - jnp.array(MEAN)) / jnp.array(STD)


def _weighed(maps: Iterable[Float[Array, "b _ _ _"]]) -> Maps:
    """Unit vectors times the roots of the shares; in a module's `__call__`."""
    return tuple(
        unit_length(at_least_float32(x))
        * jnp.sqrt(ChannelShares(x.shape[-1], name=f"shares_{n}")())
        for n, x in enumerate(maps, start=1)
    )


def blurred_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ c"]:
    """The largest of each 2x2 pixels, blurred by (1, 2, 1) / 4 both ways; every second is kept."""
    x = nn.max_pool(x, (2, 2), strides=(1, 1))
    x = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    x = 0.25 * (x[:, :-2:2] + 2.0 * x[:, 1:-1:2] + x[:, 2::2])
    return 0.25 * (x[:, :, :-2:2] + 2.0 * x[:, :, 1:-1:2] + x[:, :, 2::2])


def unit_length(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Each pixel's vector divided by its length; differentiable where that is 0."""
    squares = jnp.sum(x**2, axis=-1, keepdims=True)
    return x / (jnp.sqrt(jnp.maximum(squares, FLOOR**2)) + FLOOR)
