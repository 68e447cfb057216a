"""Anti-aliased VGG-16, whose features tell how alike two images look (Ghildyal & Liu 2022).

The network of the shift-tolerant LPIPS metric: VGG-16 with blurred poolings, and for each stage how
much each of its channels matters to people.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from eamm_jax.models.layers import Dtype, conv
from eamm_jax.ops.precision import at_least_float32
from eamm_jax.types import Array

# Of images in [-1, 1].
MEAN = (-0.030, -0.088, -0.188)
STD = (0.458, 0.448, 0.450)

STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
"""Convolutions of each stage, and their width."""

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


class ShiftTolerantVGG16(nn.Module):
    """relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3, of unit length at every pixel, scaled.

    The distance LPIPS of two images is the sum over maps of the mean over pixels of the squared
    distance of their features.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Image in [0, 1] to five feature maps, each about half the size of the one before."""
        x = (2.0 * image - 1.0 - jnp.array(MEAN)) / jnp.array(STD)
        features = []
        for stage, (convolutions, width) in enumerate(STAGES, start=1):
            if stage > 1:
                x = blurred_pool(x)
            for index in range(1, convolutions + 1):
                x = nn.relu(conv(width, 3, self.dtype, name=f"conv{stage}_{index}")(x))
            shares = ChannelShares(width, name=f"shares_{stage}")()
            features.append(unit_length(at_least_float32(x)) * jnp.sqrt(shares))
        return tuple(features)


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
