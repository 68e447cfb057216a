"""Random smooth warps of the plane, for the equivariance loss (Siarohin et al. 2019, 3.1).

A warp maps a point z to A z + a + sum_i w_i U(|z - c_i|), U(r) = r^2 log(r + 1e-6): an affine
map close to the identity, bent by one thin-plate spline over a regular grid of control points
c_i. Points are (x, y) in [-1, 1].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray

from eamm_jax.ops.grids import coordinate_grid, grid_sample
from eamm_jax.ops.precision import exact_einsum
from eamm_jax.types import Array

LOG_EPSILON = 1e-6
"""Keeps U differentiable where a point falls on a control point."""


class Warp(NamedTuple):
    """One warp for each example of a batch.

    Attributes:
        affine: [A | a].
        weights: of the control points, row by row; their number is a square.
    """

    affine: Float[Array, "b 2 3"]
    weights: Float[Array, "b n"]


def random_warp(
    rng: PRNGKeyArray, batch: int, *, affine_noise: float, spline_noise: float, points: int
) -> Warp:
    """Draws warps close to the identity.

    Args:
        rng: a key.
        batch: how many.
        affine_noise: standard deviation of the affine map's six numbers (published: 0.05).
        spline_noise: standard deviation of the control points' weights (published: 0.005).
        points: control points along each axis (published: 5).
    """
    noise = jax.random.normal(rng, (batch, 6 + points**2))
    affine = jnp.eye(2, 3) + affine_noise * noise[:, :6].reshape(batch, 2, 3)
    return Warp(affine, spline_noise * noise[:, 6:])


def warp_points(warp: Warp, points: Float[Array, "b n 2"]) -> Float[Array, "b n 2"]:
    """Where each point goes."""
    side = math.isqrt(warp.weights.shape[-1])
    controls = coordinate_grid(side, side, points.dtype).reshape(-1, 2)
    linear, shift = warp.affine[:, :, :2], warp.affine[:, :, 2]
    moved = exact_einsum("bij,bnj->bni", linear, points)
    # Parity: the distance is the sum of both differences rather than the length, and one
    # spline bends x and y alike.
    distance = jnp.abs(points[:, :, None, :] - controls).sum(axis=-1)
    spline = distance**2 * jnp.log(distance + LOG_EPSILON)
    bend = exact_einsum("bnm,bm->bn", spline, warp.weights)
    return moved + shift[:, None, :] + bend[:, :, None]


def warp_jacobian(warp: Warp, points: Float[Array, "b n 2"]) -> Float[Array, "b n 2 2"]:
    """The derivative of `warp_points` at each point: [..., i, j] is d out_i / d in_j."""

    def at_point(warp: Warp, point: Float[Array, " 2"]) -> Float[Array, " 2"]:
        one_warp = jax.tree.map(lambda x: x[None], warp)
        return warp_points(one_warp, point[None, None])[0, 0]

    over_points = jax.vmap(jax.jacfwd(at_point, argnums=1), in_axes=(None, 0))
    return jax.vmap(over_points)(warp, points)


def warp_image(warp: Warp, image: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Images whose pixel z shows what was at `warp_points(z)`; mirrored beyond the edges."""
    batch, height, width, _ = image.shape
    grid = coordinate_grid(height, width, warp.affine.dtype).reshape(1, height * width, 2)
    grid = jnp.broadcast_to(grid, (batch, height * width, 2))
    moved = warp_points(warp, grid).reshape(batch, height, width, 2)
    return grid_sample(image, moved, padding="reflection")
