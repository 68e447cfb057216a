"""A tiny model with parameters that differ from channel to channel, for any test."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from eamm_jax.models import build, example_inputs
from eamm_jax.models.config import ModelConfig
from eamm_jax.models.presets import tiny

TINY = tiny()


@functools.cache
def tiny_variables(seed: int = 0, config: ModelConfig = TINY) -> tuple[ModelConfig, dict[str, Any]]:
    """A configuration and variables of all its networks (the two VGGs have one size only)."""
    networks = build(config)
    names = [name for name in networks._fields if not name.startswith("vgg")]

    def init(rng):
        return {
            name: getattr(networks, name).init(rng, *example_inputs(config, name)) for name in names
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
