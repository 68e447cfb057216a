"""A tiny model with parameters that differ from channel to channel, for any test."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eamm_jax.models import build
from eamm_jax.models.config import ModelConfig, tiny
from eamm_jax.types import Keypoints

TINY = tiny()


@functools.cache
def tiny_variables(seed: int = 0, config: ModelConfig = TINY) -> tuple[ModelConfig, dict[str, Any]]:
    """A configuration and variables of all its networks (VGG has one size only)."""
    networks = build(config)
    size, k = config.image_size, config.num_keypoints

    def init(rng):
        keys = iter(jax.random.split(rng, 8))
        image = jnp.zeros((1, size, size, 3))
        points = Keypoints(jnp.zeros((1, k, 2)), jnp.broadcast_to(jnp.eye(2), (1, k, 2, 2)))
        maps = jnp.zeros((1, config.feature_size, config.feature_size, config.feature_channels))
        sound, pose = jnp.zeros((1, 1, 28, 12)), jnp.zeros((1, 1, 6))
        return {
            "kp_detector": networks.kp_detector.init(next(keys), image),
            "generator": networks.generator.init(next(keys), image, points, points),
            "discriminator": networks.discriminator.init(next(keys), [image]),
            "audio_feature": networks.audio_feature.init(next(keys), image, sound, pose),
            "kp_detector_a": networks.kp_detector_a.init(next(keys), maps),
            "emo_detector": networks.emo_detector.init(next(keys), image, points),
        }

    noise = np.random.default_rng(seed)

    def fill(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        """As trained networks are: no bias zero, no scale one, no Jacobian the identity."""
        name = path[-1].key
        values = noise.normal(size=leaf.shape)
        if name == "var":
            values = np.exp(0.2 * values)
        elif name in ("u", "v"):
            values = values / np.linalg.norm(values)
        elif name.endswith("kernel"):
            values = values / np.sqrt(np.prod(leaf.shape[:-1]))
        else:
            values = 0.05 * values + (name == "scale")
        return values.astype(np.float32)

    # Only the shapes are Flax's: its random initialisation takes minutes to compile.
    shapes = jax.eval_shape(init, jax.random.key(seed))
    return config, jax.tree_util.tree_map_with_path(fill, shapes)
