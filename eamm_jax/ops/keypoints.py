"""Arithmetic on keypoints: gaussians, expectation, relative motion, emotion displacement."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.spatial import ConvexHull

from eamm_jax.ops.grids import coordinate_grid
from eamm_jax.ops.precision import exact_einsum, exact_matmul
from eamm_jax.types import Array, Keypoints

GAZE_REACH = (0.1, 0.06)
"""How far eyes turn at most, sideways and up or down, by the distance between the pupils: as
those of `data.synthetic` do."""


def inverse_2x2(matrix: Float[Array, "*b 2 2"]) -> Float[Array, "*b 2 2"]:
    """The inverse by the adjugate; not finite where the matrix is singular."""
    a, b = matrix[..., 0, 0], matrix[..., 0, 1]
    c, d = matrix[..., 1, 0], matrix[..., 1, 1]
    adjugate = jnp.stack([jnp.stack([d, -b], axis=-1), jnp.stack([-c, a], axis=-1)], axis=-2)
    return adjugate / (a * d - b * c)[..., None, None]


def heatmap_to_value(heatmap: Float[Array, "*b h w k"]) -> Float[Array, "*b k 2"]:
    """The expected position under each heatmap (Siarohin et al. 2019, eq. 10)."""
    height, width = heatmap.shape[-3:-1]
    grid = coordinate_grid(height, width, heatmap.dtype)
    return exact_einsum("...hwk,hwd->...kd", heatmap, grid)


def keypoint_gaussians(
    value: Float[Array, "b k 2"],
    height: int,
    width: int,
    variance: float,
    *,
    half_pixel: bool = False,
) -> Float[Array, "b h w k"]:
    """exp(-|z - value|^2 / (2 variance)) at every pixel z (Siarohin et al. 2019, eq. 6)."""
    distance = keypoint_distances(value, height, width, half_pixel=half_pixel)
    return jnp.exp(-0.5 * distance / variance)


def keypoint_distances(
    value: Float[Array, "b k 2"], height: int, width: int, *, half_pixel: bool = False
) -> Float[Array, "b h w k"]:
    """|z - value|^2 at every pixel z of a `coordinate_grid`."""
    grid = coordinate_grid(height, width, value.dtype, half_pixel=half_pixel)
    offset = grid[:, :, None, :] - value[:, None, None, :, :]
    return jnp.sum(offset**2, axis=-1)


def relative_keypoints(
    source: Keypoints, driving: Keypoints, initial: Keypoints, scale: float | Array = 1.0
) -> Keypoints:
    """The motion since the first driving frame, applied to the source keypoints.

    value = source + scale (driving - initial); jacobian = J_driving J_initial^-1 J_source
    (Siarohin et al. 2019, eq. 12; `docs/architecture.md` section 7).
    """
    return Keypoints(
        value=source.value + scale * (driving.value - initial.value),
        jacobian=exact_matmul(driving.jacobian, inverse_2x2(initial.jacobian), source.jacobian),
    )


def movement_scale(source: np.ndarray, initial: np.ndarray) -> float:
    """How much larger the face of the source image is than the driving one.

    Args:
        source: (k, 2) keypoint positions of the source image.
        initial: (k, 2) positions in the first driving frame.

    Returns:
        sqrt of the ratio of the areas of their convex hulls.
    """
    # In two dimensions scipy calls the area of a hull its volume.
    return float(np.sqrt(ConvexHull(source).volume) / np.sqrt(ConvexHull(initial).volume))


def add_displacement(
    keypoints: Keypoints,
    displacement: Keypoints,
    indices: Sequence[int],
    weights: Sequence[float] | Array,
) -> Keypoints:
    """Moves some keypoints by the emotion's displacement, value and jacobian alike.

    Args:
        keypoints: all keypoints.
        displacement: one displacement for each of `indices`.
        indices: which keypoints are moved (1, 4, 6, 8 in the published model).
        weights: how far each is moved, in all frames or in each; 1 in training; the published
            demo has weights of its own (`docs/architecture.md` section 7).
    """
    where = np.asarray(indices)
    weight = jnp.asarray(weights, displacement.value.dtype)[..., None]
    return Keypoints(
        value=jnp.asarray(keypoints.value).at[..., where, :].add(weight * displacement.value),
        jacobian=jnp.asarray(keypoints.jacobian)
        .at[..., where, :, :]
        .add(weight[..., None] * displacement.jacobian),
        heatmap=keypoints.heatmap,
    )


def expression_alone(
    displacement: Keypoints,
    keypoints: Float[Array, "*b k 2"],
    rigid: Sequence[int],
    depths: Sequence[float] = (),
) -> Keypoints:
    """A displacement without what moves, turns and scales the head.

    Where heads of different clips are in different places, a displacement learned from them has a
    part that is of the clip, not of the emotion.

    Args:
        displacement: of keypoints.
        keypoints: where they are.
        rigid: keypoints on parts of the head that expressions hardly move, two at least.
        depths: of each keypoint, towards the viewer, in any unit; with them, a head that turns to
            the side, nods or tilts is the head's as well, as far as small angles go. Then four
            rigid keypoints at least.
    """
    at = jnp.array(rigid)
    x, y = keypoints[..., 0], keypoints[..., 1]
    nothing, one = jnp.zeros_like(x), jnp.ones_like(x)
    ways = [(one, nothing), (nothing, one), (x, y), (-y, x)]
    if depths:
        depth = jnp.broadcast_to(jnp.asarray(depths, x.dtype), x.shape)
        ways += [(depth, nothing), (nothing, depth)]

    def product(a: Float[Array, "*b k 2"], b: Float[Array, "*b k 2"]) -> Float[Array, "*b 1 1"]:
        return jnp.sum(a[..., at, :] * b[..., at, :], axis=(-2, -1), keepdims=True)

    # Least squares at the rigid keypoints, by ways to move that are made orthogonal there.
    alone = displacement.value
    before: list[Float[Array, "*b k 2"]] = []
    for way in ways:
        rest = jnp.stack(way, axis=-1)
        for other in before:
            rest = rest - product(rest, other) * other
        rest = rest / jnp.sqrt(product(rest, rest))
        alone = alone - product(alone, rest) * rest
        before.append(rest)
    return Keypoints(alone, jnp.zeros_like(displacement.jacobian))


def close_lids(keypoints: Keypoints, lids: Sequence[int], closed: Float[Array, " b"]) -> Keypoints:
    """Moves upper lids down to the lower ones; for keypoints that are points of a face.

    Args:
        keypoints: of b frames.
        lids: indices: upper and lower lid of one eye, upper and lower of the other.
        closed: how far, 0 to 1, in each frame.
    """
    upper, lower = np.asarray(lids[::2]), np.asarray(lids[1::2])
    value = keypoints.value
    way = closed[:, None, None] * (value[:, lower] - value[:, upper])
    return keypoints._replace(value=value.at[:, upper].add(way))


def move_pupils(
    keypoints: Keypoints, pupils: Sequence[int], gaze: Float[Array, "b 2"]
) -> Keypoints:
    """Moves both pupils; for keypoints that are points of a face.

    Args:
        keypoints: of b frames.
        pupils: indices, picture left first.
        gaze: to the right and upwards in each frame, -1 to 1, along the line between the pupils
            and across it.
    """
    value = keypoints.value
    line = value[:, pupils[1]] - value[:, pupils[0]]
    across = jnp.stack([line[:, 1], -line[:, 0]], axis=-1)
    way = GAZE_REACH[0] * gaze[:, :1] * line + GAZE_REACH[1] * gaze[:, 1:] * across
    return keypoints._replace(value=value.at[:, np.asarray(pupils)].add(way[:, None]))
