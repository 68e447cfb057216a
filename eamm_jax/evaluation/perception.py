"""How alike frames look to people: LPIPS, shift-tolerant (Zhang et al. 2018, Ghildyal & Liu 2022).

The network is `models.vgg16` with the weights of the package `stlpips_pytorch` (BSD), which
PyTorch is not needed for. Other implementations of LPIPS use other weights and give other values.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64, UInt8

from eamm_jax.checkpoint import Variables
from eamm_jax.conversion.installed import VGG16_FILE, VGG16_PACKAGE, load_vgg16
from eamm_jax.io.files import packaged_file
from eamm_jax.models.vgg16 import ShiftTolerantVGG16
from eamm_jax.training.losses import lpips
from eamm_jax.types import Array

PERCEPTION_EVERY = 25
"""LPIPS is measured on one frame a second, because it is slow."""


def is_installed() -> bool:
    """Whether the weights are there; nothing is imported."""
    return packaged_file(VGG16_PACKAGE, VGG16_FILE) is not None


class Perception:
    """The distance LPIPS.

    Raises:
        UserError: the weights are not installed.
    """

    name = "shift-tolerant LPIPS, VGG-16"

    def __init__(self) -> None:
        self._variables = jax.device_put(load_vgg16())

    def distances(
        self, frames: UInt8[np.ndarray, "t h w 3"], truth: UInt8[np.ndarray, "t h w 3"]
    ) -> Float64[np.ndarray, " t"]:
        """LPIPS of each frame and its ground truth; 0 for frames that are equal.

        One frame is computed at a time, so that memory does not grow with their number.
        """
        return np.array(
            [
                0.0 if (frame == true).all() else float(_distance(self._variables, frame, true)[0])
                for frame, true in zip(frames, truth, strict=True)
            ]
        )


@jax.jit
def _distance(variables: Variables, frame: Array, truth: Array) -> Array:
    pair = jnp.stack([frame, truth]).astype(jnp.float32) / 255
    features = ShiftTolerantVGG16().apply(variables, pair)
    return lpips([x[:1] for x in features], [x[1:] for x in features])
