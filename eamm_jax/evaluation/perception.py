"""How alike frames look to people: LPIPS, shift-tolerant (Zhang et al. 2018, Ghildyal & Liu 2022).

The network is `models.vgg16` with the weights of the package `stlpips_pytorch` (BSD), which
PyTorch is not needed for. Other implementations of LPIPS use other weights and give other values.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64

from eamm_jax.checkpoint import Variables
from eamm_jax.conversion.installed import VGG16_FILE, VGG16_PACKAGE, load_vgg16
from eamm_jax.evaluation.cases import Frames
from eamm_jax.io.files import packaged_file
from eamm_jax.models.vgg16 import ShiftTolerantVGG16
from eamm_jax.training.losses import FeatureMaps, lpips
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
        self, made: Mapping[str, Frames], truth: Frames
    ) -> dict[str, Float64[np.ndarray, " t"]]:
        """LPIPS of each frame of each method and its ground truth; 0 for frames that are equal.

        Features are computed once of the ground truth, and of a frame that is shown again. Those of
        one moment are kept at a time, so that memory does not grow with the number of frames.
        """
        found: dict[str, list[float]] = {name: [] for name in made}
        kept: dict[str, FeatureMaps] = {}
        for n, true in enumerate(truth):
            target: FeatureMaps | None = None
            for name, frames in made.items():
                again = kept.pop(name, None)
                if np.array_equal(frames[n], true):
                    found[name].append(0.0)
                    continue
                target = target or features_of(self._variables, true)
                features = again or features_of(self._variables, frames[n])
                found[name].append(float(_distance(features, target)[0]))
                if n + 1 < len(truth) and np.array_equal(frames[n], frames[n + 1]):
                    kept[name] = features
        return {name: np.array(distances) for name, distances in found.items()}


@jax.jit
def features_of(variables: Variables, frame: Array) -> FeatureMaps:
    """Those of a uint8 RGB frame."""
    return ShiftTolerantVGG16().apply(variables, frame[None].astype(jnp.float32) / 255)


_distance = jax.jit(lpips)
