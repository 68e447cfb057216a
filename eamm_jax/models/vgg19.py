"""The features of VGG-19 that the perceptual loss compares (Simonyan & Zisserman 2015)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from eamm_jax.models.layers import Dtype, conv
from eamm_jax.types import Array

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Convolutions of each stage up to the last one used, and their width.
STAGES = ((2, 64), (2, 128), (4, 256), (4, 512), (1, 512))


class VGG19(nn.Module):
    """relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Image in [0, 1] to five feature maps, each half the size of the one before."""
        x = (image - jnp.array(IMAGENET_MEAN)) / jnp.array(IMAGENET_STD)
        features = []
        for stage, (convolutions, width) in enumerate(STAGES, start=1):
            if stage > 1:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            for index in range(1, convolutions + 1):
                x = nn.relu(conv(width, 3, self.dtype, name=f"conv{stage}_{index}")(x))
                if index == 1:
                    features.append(x)
        return tuple(features)
