"""How alike frames look to people: LPIPS (Zhang et al. 2018), shift-tolerant or as published.

The shift-tolerant one (Ghildyal & Liu 2022) works out of the box, by the weights of the package
`stlpips_pytorch` (BSD), which PyTorch is not needed for. Those of LPIPS 0.1 are converted.
Each network has values of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64

from eamm_jax.checkpoint import Variables
from eamm_jax.conversion.installed import VGG16_FILE, VGG16_PACKAGE
from eamm_jax.errors import UserError, shape_text
from eamm_jax.evaluation.cases import Frames
from eamm_jax.io.files import packaged_file
from eamm_jax.models.lpips import VGG16, AlexNet
from eamm_jax.training.losses import FeatureMaps, lpips
from eamm_jax.types import Array

PERCEPTION_EVERY = 25
"""LPIPS is measured on one frame a second, because it is slow."""

LPIPS: dict[str, tuple[str, AlexNet | VGG16]] = {
    "lpips": ("shift-tolerant LPIPS, VGG-16", VGG16(blurred=True)),
    "lpips_alex": ("LPIPS 0.1, AlexNet", AlexNet()),
    "lpips_vgg": ("LPIPS 0.1, VGG-16", VGG16(blurred=False)),
}
"""Names and networks, by metric."""

LEAST_SIDE = 32
"""Pixels of a frame's side, below which nothing is left for the networks' last layers."""


def is_installed() -> bool:
    """Whether the weights of shift-tolerant LPIPS are there; nothing is imported."""
    return packaged_file(VGG16_PACKAGE, VGG16_FILE) is not None


class Perception:
    """The distances LPIPS.

    Args:
        networks: variables by metric, of some of `LPIPS`.
    """

    def __init__(self, networks: Mapping[str, Variables]) -> None:
        self._networks = jax.device_put(dict(networks))

    @property
    def name(self) -> str:
        """The name in the report."""
        return " and ".join(LPIPS[metric][0] for metric in self._networks)

    def distances(
        self, made: Mapping[str, Frames], truth: Frames
    ) -> dict[str, dict[str, Float64[np.ndarray, " t"]]]:
        """By metric and method, those of each frame and its ground truth; 0 where they are equal.

        Features are computed once of the ground truth, and of a frame that is shown again at once.
        Those of one moment are kept at a time, so that memory does not grow with the number of
        frames.

        Raises:
            UserError: the frames are too small for the networks.
        """
        if min(truth.shape[1:3]) < LEAST_SIDE:
            raise UserError(
                f"LPIPS needs frames of at least {LEAST_SIDE} pixels a side, and these have "
                f"{shape_text(truth.shape[1:3])}; enlarge them, or measure without its networks"
            )
        return {metric: self._distances(metric, made, truth) for metric in self._networks}

    def _distances(
        self, metric: str, made: Mapping[str, Frames], truth: Frames
    ) -> dict[str, Float64[np.ndarray, " t"]]:
        found: dict[str, list[float]] = {name: [] for name in made}
        known: list[tuple[np.ndarray, FeatureMaps]] = []
        again: list[tuple[np.ndarray, FeatureMaps]] = []
        following: list[np.ndarray] = []

        def features(frame: np.ndarray) -> FeatureMaps:
            maps = next((maps for other, maps in known if np.array_equal(other, frame)), None)
            maps = maps or features_of(LPIPS[metric][1], self._networks[metric], frame)
            if any(np.array_equal(frame, other) for other in following):
                again.append((frame, maps))
            return maps

        for n, true in enumerate(truth):
            following[:] = [frames[n + 1] for frames in made.values() if n + 1 < len(truth)]
            target: FeatureMaps | None = None
            for name, frames in made.items():
                if np.array_equal(frames[n], true):
                    found[name].append(0.0)
                    continue
                target = target or features(true)
                found[name].append(float(_distance(features(frames[n]), target)[0]))
            known[:], again[:] = again, []
        return {name: np.array(distances) for name, distances in found.items()}


@partial(jax.jit, static_argnums=0)
def features_of(network: AlexNet | VGG16, variables: Variables, frame: Array) -> FeatureMaps:
    """Those of a uint8 RGB frame."""
    return network.apply(variables, frame[None].astype(jnp.float32) / 255)


_distance = jax.jit(lpips)
