"""From two sets of keypoints to where every pixel came from.

The dense motion network of the first-order motion model (Siarohin et al. 2019, 3.2).
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from eamm_jax.models.layers import Dtype, Hourglass, conv
from eamm_jax.ops.grids import coordinate_grid, grid_sample
from eamm_jax.ops.keypoints import inverse_2x2, keypoint_distances, keypoint_gaussians
from eamm_jax.types import Array, Keypoints

BACKGROUND_RADII = 3.0
"""Beyond so many radii of every keypoint the background's motion is preferred."""


class DenseMotion(NamedTuple):
    """Where each pixel of a driving frame comes from in the portrait.

    Attributes:
        deformation: (x, y) in the portrait for every pixel.
        mask: share of the background (first) and of each keypoint's motion, sums to 1.
        occlusion: 1 where the portrait shows what is needed, 0 where it must be invented.
        warped: the portrait moved by each motion.
        features: what masks and occlusion were read from.
    """

    deformation: Float[Array, "b h w 2"]
    mask: Float[Array, "b h w m"]
    occlusion: Float[Array, "b h w 1"]
    warped: Float[Array, "b m h w c"]
    features: Float[Array, "b h w n"]


def sparse_motions(
    portrait: Keypoints,
    driving: Keypoints,
    height: int,
    width: int,
    *,
    half_pixel: bool = False,
) -> Float[Array, "b m h w 2"]:
    """Each keypoint's affine motion over the whole frame, background (identity) first.

    portrait + J_portrait J_driving^-1 (z - driving) (Siarohin et al. 2019, eq. 4).
    """
    grid = coordinate_grid(height, width, half_pixel=half_pixel)
    linear = portrait.jacobian @ inverse_2x2(driving.jacobian)
    offset = grid - driving.value[:, :, None, None, :]
    moved = jnp.einsum("bkij,bkhwj->bkhwi", linear, offset, precision=jax.lax.Precision.HIGHEST)
    moved = moved + portrait.value[:, :, None, None, :]
    background = jnp.broadcast_to(grid, (moved.shape[0], 1, *grid.shape))
    return jnp.concatenate([background, moved], axis=1)


class DenseMotionNetwork(nn.Module):
    """Weighs the keypoints' motions at every pixel and finds what is occluded.

    Attributes:
        num_keypoints: k.
        width, blocks, max_width: of the hourglass.
        variance: of the keypoints' gaussians.
        kernel: of the last convolutions.
        half_pixel, mask_radius: see `ModelConfig`.
    """

    num_keypoints: int
    width: int
    blocks: int
    max_width: int
    variance: float
    kernel: int
    half_pixel: bool
    mask_radius: float
    dtype: Dtype = jnp.float32
    fast: bool = False

    @nn.compact
    def __call__(
        self,
        thumbnail: Float[Array, "b h w c"],
        portrait: Keypoints,
        driving: Keypoints,
        *,
        train: bool = False,
    ) -> DenseMotion:
        """The portrait (reduced; one, or one for each frame) and both sets of keypoints."""
        _, h, w, c = thumbnail.shape
        half_pixel = self.half_pixel
        motions = sparse_motions(portrait, driving, h, w, half_pixel=half_pixel)
        b, m = motions.shape[:2]
        warped = grid_sample(thumbnail, motions.reshape(b, m * h, w, 2)).reshape(b, m, h, w, c)
        there, here = (
            keypoint_gaussians(points.value, h, w, self.variance, half_pixel=half_pixel)
            for points in (driving, portrait)
        )
        heatmap = there - here
        heatmap = jnp.pad(heatmap, ((0, 0), (0, 0), (0, 0), (1, 0)))  # none for the background
        inputs = jnp.concatenate([heatmap[..., None], warped.transpose(0, 2, 3, 1, 4)], axis=-1)
        hourglass = Hourglass(
            self.width, self.blocks, self.max_width, self.dtype, self.fast, name="hourglass"
        )
        x = hourglass(inputs.reshape(b, h, w, m * (1 + c)), train=train)
        scores = conv(m, self.kernel, self.dtype, name="mask")(x).astype(jnp.float32)
        if self.mask_radius:
            near = keypoint_distances(driving.value, h, w, half_pixel=half_pixel)
            prior = -0.5 * near / self.mask_radius**2
            background = jnp.full((b, h, w, 1), -0.5 * BACKGROUND_RADII**2)
            scores = scores + jnp.concatenate([background, prior], axis=-1)
        mask = jax.nn.softmax(scores, axis=-1)
        deformation = jnp.einsum(
            "bmhwd,bhwm->bhwd", motions, mask, precision=jax.lax.Precision.HIGHEST
        )
        occlusion = conv(1, self.kernel, self.dtype, name="occlusion")(x).astype(jnp.float32)
        return DenseMotion(deformation, mask, jax.nn.sigmoid(occlusion), warped, x)
