"""Patch discriminator at several scales (Siarohin et al. 2019, supplement)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from eamm_jax.models.config import DiscriminatorConfig
from eamm_jax.models.layers import Dtype, SpectralConv, conv
from eamm_jax.ops.keypoints import keypoint_gaussians
from eamm_jax.types import Array

KERNEL = 4
LEAK = 0.2
INSTANCE_NORM_EPSILON = 1e-5


class Judgement(NamedTuple):
    """One scale's score per patch, near 1 where real, and the features below it."""

    features: tuple[Float[Array, "b _ _ _"], ...]
    score: Float[Array, "b _ _ 1"]


class ScaleDiscriminator(nn.Module):
    """Judges patches of one scale; block i has min(max_width, width 2^(i+1)) channels."""

    config: DiscriminatorConfig
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        image: Float[Array, "b h w c"],
        keypoints: Float[Array, "b k 2"] | None = None,
        *,
        train: bool = False,
    ) -> Judgement:
        """`keypoints` (positions) are given to models with `use_keypoints`."""
        config = self.config

        def convolve(x: Array, features: int, kernel: int, name: str) -> Array:
            if config.spectral_norm:
                return SpectralConv(features, kernel, self.dtype, name=name)(x, train=train)
            return conv(features, kernel, self.dtype, padding=0, name=name)(x)

        x, features = image, []
        if keypoints is not None:
            height, width = image.shape[1:3]
            heatmap = keypoint_gaussians(keypoints, height, width, config.keypoint_variance)
            x = jnp.concatenate([x, heatmap], axis=-1)
        for block in range(config.blocks):
            channels = min(config.max_width, config.width * 2 ** (block + 1))
            x = convolve(x, channels, KERNEL, f"conv_{block}")
            if block > 0:
                x = nn.InstanceNorm(
                    epsilon=INSTANCE_NORM_EPSILON, use_fast_variance=False, name=f"norm_{block}"
                )(x)
            x = nn.leaky_relu(x, LEAK)
            if block < config.blocks - 1:
                x = nn.avg_pool(x, (2, 2), strides=(2, 2))
            features.append(x)
        return Judgement(tuple(features), convolve(x, 1, 1, "score"))


class MultiScaleDiscriminator(nn.Module):
    """One `ScaleDiscriminator` for each scale (`discriminator` of the published code)."""

    config: DiscriminatorConfig
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        pyramid: Sequence[Float[Array, "b _ _ c"]],
        keypoints: Float[Array, "b k 2"] | None = None,
        *,
        train: bool = False,
    ) -> tuple[Judgement, ...]:
        """The image at each scale, in the order of the configuration."""
        images = pyramid[: len(self.config.scales)]
        return tuple(
            ScaleDiscriminator(self.config, self.dtype, name=f"scale_{index}")(
                image, keypoints, train=train
            )
            for index, image in enumerate(images)
        )
