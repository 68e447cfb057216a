"""The perceptual loss over a pyramid of scales: with VGG-19, or without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import jax.numpy as jnp
from jaxtyping import Float
from ml_collections import ConfigDict

from eamm_jax.ops.resizing import antialias_downsample, scale_sigma
from eamm_jax.training import losses
from eamm_jax.training.objectives.base import Forward
from eamm_jax.types import Array

Images = Float[Array, "b h w 3"]


class Perceptual(Protocol):
    """A distance between images.

    Attributes:
        networks: those that it applies.
    """

    networks: tuple[str, ...]

    def __call__(self, forward: Forward, prediction: Images, target: Images) -> Array:
        """The weighted distance."""


class VggLoss:
    """L1 between VGG-19 features at every scale (Siarohin et al. 2019, eq. 8)."""

    networks: tuple[str, ...] = ("vgg19",)

    def __init__(self, config: ConfigDict):
        """Takes a stage's configuration."""
        self._config = config

    def __call__(self, forward: Forward, prediction: Images, target: Images) -> Array:
        """The weighted distance."""
        total = jnp.zeros(())
        pyramids = (image_pyramid(x, self._config) for x in (prediction, target))
        for ours, theirs in zip(*pyramids, strict=True):
            total += losses.weighted_feature_distance(
                forward("vgg19", ours), forward("vgg19", theirs), self._config.perceptual_weights
            )
        return total


class PyramidLoss:
    """L1 of images and of their gradients at every scale, for training without VGG-19."""

    networks: tuple[str, ...] = ()

    def __init__(self, config: ConfigDict):
        """Takes a stage's configuration."""
        self._config = config

    def __call__(
        self,
        forward: Forward,
        prediction: Images,
        target: Images,
        weight: Float[Array, "b h w 1"] | None = None,
    ) -> Array:
        """The weighted distance; `weight` says how much each pixel counts."""
        config = self._config
        return config.pyramid_weight * losses.pyramid_distance(
            image_pyramid(prediction, config),
            image_pyramid(target, config),
            None if weight is None else image_pyramid(weight, config),
        )


PERCEPTUAL_LOSSES: dict[str, Callable[[ConfigDict], Perceptual]] = {
    "vgg": VggLoss,
    "pyramid": PyramidLoss,
}


def image_pyramid(image: Float[Array, "b h w c"], config: ConfigDict) -> tuple[Array, ...]:
    """The image at each of the configuration's scales."""
    return tuple(
        antialias_downsample(image, scale, sigma=config.pyramid_sigma or scale_sigma(scale))
        for scale in config.scales
    )
