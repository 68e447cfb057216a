"""Frechet inception distance: how the distribution of a method's frames differs from the truth's.

Heusel et al. 2017, with the features of pytorch-fid. It is a property of all clips together, and
it is biased: fewer frames give higher values. Compare only what was measured on the same clips.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, UInt8

from eamm_jax.checkpoint import Variables
from eamm_jax.models.inception import Inception
from eamm_jax.types import Array

REALISM_EVERY = 5
"""FID is measured on every fifth frame, because neighbours are alike and the network is slow."""


class InceptionFeatures:
    """Features of frames.

    Args:
        variables: of `models.inception.Inception`.
    """

    name = "Inception v3 of pytorch-fid"

    def __init__(self, variables: Variables) -> None:
        self._variables = jax.device_put(variables)

    def features(self, frames: UInt8[np.ndarray, "t h w 3"]) -> Float32[np.ndarray, "n 2048"]:
        """Those of every `REALISM_EVERY`-th RGB frame."""
        chosen = frames[::REALISM_EVERY]
        return np.concatenate([_features(self._variables, frame[None]) for frame in chosen])


@jax.jit
def _features(variables: Variables, frames: Array) -> Array:
    return Inception().apply(variables, frames.astype(jnp.float32) / 255)


def frechet_distance(first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m d"]) -> float:
    """|mu1 - mu2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)) of the means and covariances of two samples.

    The last trace is the sum of the singular values of R1 R2^T, where R^T R = S: it needs no root
    of a matrix, which is not exact where covariances are singular.

    Raises:
        ValueError: a sample has fewer than two rows.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError("a covariance needs two samples")
    means, roots = [], []
    for sample in (first.astype(np.float64), second.astype(np.float64)):
        means.append(sample.mean(axis=0))
        root = np.linalg.qr(sample - means[-1], mode="r")
        roots.append(root / np.sqrt(len(sample) - 1))
    traces = sum((root**2).sum() for root in roots)
    shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return float(((means[0] - means[1]) ** 2).sum() + traces - 2 * shared)
