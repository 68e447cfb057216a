"""Geometry of known faces, for the bundled model's objectives (`objectives/guided.py`).

A guided keypoint lies at the mean of some of dlib's 68 landmarks and the pupils; its Jacobian
is the rotation of the head.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from eamm_jax.ops.grids import coordinate_grid
from eamm_jax.training.losses import l1
from eamm_jax.types import Array, FaceTruth, Keypoints

NUM_POINTS = 70

MOUTH = tuple(range(48, 68))
EYES = (tuple(range(36, 42)), tuple(range(42, 48)))
"""Points of the mouth, and of the two eyes."""

REGION_WIDTH = 0.6
"""Half width of a region, relative to the width of its points."""

REGION_HEIGHT = 0.5
"""Least half height of a region, relative to its width: room for brows, and for open mouths."""

USUAL_SCALE = 4.65e-4
"""Scale of a head that fills the frame as the published crops do."""


def guided_values(truth: FaceTruth, groups: Sequence[Sequence[int]]) -> Float[Array, "b k 2"]:
    """The target positions: each at the mean of a group of points.

    Args:
        truth: of the faces.
        groups: for each keypoint, the points (0..67 landmarks, 68 and 69 pupils).
    """
    share = np.zeros((len(groups), NUM_POINTS), np.float32)
    for keypoint, group in enumerate(groups):
        share[keypoint, list(group)] = 1 / len(group)
    return jnp.einsum("kn,bnd->bkd", share, jnp.asarray(truth.points))


def distances(
    keypoints: Keypoints, truth: FaceTruth, groups: Sequence[Sequence[int]]
) -> tuple[Array, Array]:
    """L1 of positions from the points they follow, and of Jacobians from the head's rotation."""
    rotation = jnp.broadcast_to(head_rotation(truth)[:, None], keypoints.jacobian.shape)
    return l1(keypoints.value, guided_values(truth, groups)), l1(keypoints.jacobian, rotation)


def head_rotation(truth: FaceTruth) -> Float[Array, "b 2 2"]:
    """How the plane of a face is rotated and scaled into the image.

    The upper left of the scaled rotation (3DDFA_V2: roll * yaw * pitch, y upwards), for
    image coordinates with y downwards.
    """
    pose = jnp.asarray(truth.pose)
    yaw, pitch, roll = jnp.moveaxis(jnp.radians(pose[:, :3]), -1, 0)
    cy, sy, cp, sp = jnp.cos(yaw), jnp.sin(yaw), jnp.cos(pitch), jnp.sin(pitch)
    cr, sr = jnp.cos(roll), jnp.sin(roll)
    rows = [[cr * cy, cr * sy * sp + sr * cp], [-sr * cy, cr * cp - sr * sy * sp]]
    rotation = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
    return rotation * (pose[:, 3] / USUAL_SCALE)[:, None, None]


def mouth_region(truth: FaceTruth, size: int) -> Float[Array, "b h w 1"]:
    """1 at the mouth, fading to 0 around it."""
    return _region(truth, MOUTH, size)


def eyes_region(truth: FaceTruth, size: int) -> Float[Array, "b h w 1"]:
    """1 at both eyes, fading to 0 around them."""
    left, right = (_region(truth, eye, size) for eye in EYES)
    return jnp.maximum(left, right)


def _region(truth: FaceTruth, points: Sequence[int], size: int) -> Float[Array, "b h w 1"]:
    """A soft ellipse around some points: exp(-d^4 / 2), d = 1 on its border."""
    found = jnp.asarray(truth.points)[:, jnp.array(points)]
    low, high = found.min(axis=1), found.max(axis=1)
    width, height = jnp.moveaxis(high - low, -1, 0)
    radii = jnp.stack(
        [REGION_WIDTH * width, jnp.maximum(REGION_WIDTH * height, REGION_HEIGHT * width)], axis=-1
    )
    centre = (low + high) / 2
    offset = coordinate_grid(size, size, half_pixel=True) - centre[:, None, None, :]
    distance = jnp.sum((offset / radii[:, None, None, :]) ** 2, axis=-1, keepdims=True)
    return jnp.exp(-0.5 * distance**2)
