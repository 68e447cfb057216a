"""Dense motion network: from source and driving keypoints to a backward flow and an occlusion map.

That of the first-order motion model (Siarohin et al. 2019, 3.2).
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from eamm_jax.models.config import DenseMotionConfig
from eamm_jax.models.layers import Dtype, Hourglass, conv
from eamm_jax.ops.grids import coordinate_grid, grid_sample
from eamm_jax.ops.keypoints import inverse_2x2, keypoint_distances, keypoint_gaussians
from eamm_jax.ops.precision import at_least_float32, exact_einsum, exact_matmul
from eamm_jax.types import Array, Keypoints

BACKGROUND_RADII = 3.0
"""Beyond so many radii of every keypoint the background's motion is preferred."""

PEAK_RADIUS = 0.04
"""Standard deviation of `mask_peak`: less than the distance of lids, or of lips that part."""


class DenseMotion(NamedTuple):
    """Where each pixel of a driving frame comes from in the source image."""

    deformation: Float[Array, "b h w 2"]  # (x, y) in the source image for every pixel
    mask: Float[Array, "b h w m"]  # share of background (first) and keypoints; sums to 1
    occlusion: Float[Array, "b h w 1"]  # 0 where the source image must be inpainted, else 1
    warped: Float[Array, "b m h w c"]  # the source image warped by each motion
    features: Float[Array, "b h w n"]  # from which masks and occlusion are predicted


def sparse_motions(
    source: Keypoints,
    driving: Keypoints,
    height: int,
    width: int,
    *,
    half_pixel: bool = False,
) -> Float[Array, "b m h w 2"]:
    """Each keypoint's affine motion over the whole frame, background (identity) first.

    source + J_source J_driving^-1 (z - driving) (Siarohin et al. 2019, eq. 4).
    """
    grid = coordinate_grid(height, width, source.value.dtype, half_pixel=half_pixel)
    linear = exact_matmul(source.jacobian, inverse_2x2(driving.jacobian))
    offset = grid - driving.value[:, :, None, None, :]
    moved = exact_einsum("bkij,bkhwj->bkhwi", linear, offset)
    moved = moved + source.value[:, :, None, None, :]
    background = jnp.broadcast_to(grid, (moved.shape[0], 1, *grid.shape))
    return jnp.concatenate([background, moved], axis=1)


def log_preference(distance: Array | float) -> Array:
    """Logarithm of how much a motion is preferred, by squared distances in radii.

    It falls slowly: hair and shoulders are far from all keypoints, and move like several of them.
    """
    return -2.0 * jnp.log1p(distance / 2.0)


class DenseMotionNetwork(nn.Module):
    """Weighs the keypoints' motions at every pixel and predicts what is occluded."""

    config: DenseMotionConfig
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        thumbnail: Float[Array, "b h w c"],
        source: Keypoints,
        driving: Keypoints,
        *,
        train: bool = False,
    ) -> DenseMotion:
        """The reduced source image (one, or one per frame) and both sets of keypoints."""
        _, h, w, c = thumbnail.shape
        config, half_pixel = self.config, self.config.half_pixel
        motions = sparse_motions(source, driving, h, w, half_pixel=half_pixel)
        b, m = motions.shape[:2]
        warped = grid_sample(thumbnail, motions.reshape(b, m * h, w, 2)).reshape(b, m, h, w, c)
        there, here = (
            keypoint_gaussians(points.value, h, w, config.variance, half_pixel=half_pixel)
            for points in (driving, source)
        )
        heatmap = there - here
        heatmap = jnp.pad(heatmap, ((0, 0), (0, 0), (0, 0), (1, 0)))  # none for the background
        inputs = jnp.concatenate([heatmap[..., None], warped.transpose(0, 2, 3, 1, 4)], axis=-1)
        hourglass = Hourglass(config, self.dtype, name="hourglass")
        x = hourglass(inputs.reshape(b, h, w, m * (1 + c)), train=train)
        scores = at_least_float32(conv(m, config.kernel, self.dtype, name="mask")(x))
        if config.mask_radius:
            near = keypoint_distances(driving.value, h, w, half_pixel=half_pixel)
            prior = log_preference(near / config.mask_radius**2)
            if config.mask_peak:
                prior = prior + config.mask_peak * jnp.exp(-0.5 * near / PEAK_RADIUS**2)
            background = jnp.full((b, h, w, 1), log_preference(BACKGROUND_RADII**2), prior.dtype)
            scores = scores + jnp.concatenate([background, prior], axis=-1)
        mask = jax.nn.softmax(scores, axis=-1)
        deformation = exact_einsum("bmhwd,bhwm->bhwd", motions, mask)
        occlusion = at_least_float32(conv(1, config.kernel, self.dtype, name="occlusion")(x))
        return DenseMotion(deformation, mask, jax.nn.sigmoid(occlusion), warped, x)
