"""The random warp against a plain NumPy one, numerical derivatives and SciPy's interpolation."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from eamm_jax.ops.thin_plate import Warp, random_warp, warp_image, warp_jacobian, warp_points

NOISE = {"affine_noise": 0.05, "spline_noise": 0.005, "points": 5}


def oracle(warp, points):
    """The definition, point by point, in float64."""
    affine, weights = np.asarray(warp.affine, float), np.asarray(warp.weights, float)
    side = round(weights.shape[1] ** 0.5)
    axis = np.linspace(-1, 1, side)
    out = np.zeros(points.shape)
    for b, n in np.ndindex(points.shape[:2]):
        point = points[b, n].astype(float)
        bend = 0.0
        for m in range(side**2):
            row, column = divmod(m, side)
            r = abs(point[0] - axis[column]) + abs(point[1] - axis[row])
            bend += weights[b, m] * r**2 * np.log(r + 1e-6)
        out[b, n] = affine[b, :, :2] @ point + affine[b, :, 2] + bend
    return out


def test_points_go_where_the_definition_says(rng):
    warp = random_warp(jax.random.key(1), 3, affine_noise=0.3, spline_noise=0.1, points=5)
    points = rng.uniform(-1, 1, (3, 7, 2)).astype(np.float32)
    expected = oracle(warp, points)
    np.testing.assert_allclose(warp_points(warp, points), expected, atol=2e-6)
    np.testing.assert_allclose(jax.jit(warp_points)(warp, points), expected, atol=2e-6)


def test_jacobian_is_the_slope_of_the_definition(rng):
    warp = random_warp(jax.random.key(2), 2, affine_noise=0.2, spline_noise=0.1, points=4)
    # Away from the control points' rows and columns, where |x| has no slope.
    points = rng.choice([-0.6, -0.2, 0.1, 0.5], (2, 6, 2)) + rng.uniform(-0.05, 0.05, (2, 6, 2))
    step = 1e-6
    slopes = [
        (oracle(warp, points + step * axis) - oracle(warp, points - step * axis)) / (2 * step)
        for axis in np.eye(2)
    ]
    jacobian = jax.jit(warp_jacobian)(warp, points.astype(np.float32))
    np.testing.assert_allclose(jacobian, np.stack(slopes, axis=-1), atol=1e-4)


def test_jacobian_is_finite_on_a_control_point_and_differentiable():
    warp = random_warp(jax.random.key(3), 1, **NOISE)
    points = jnp.array([[[0.0, 0.0], [-1.0, 0.5], [1.0, 1.0]]])

    @jax.jit
    def steepness(points):
        jacobian = warp_jacobian(warp, points)
        return jnp.sum(jacobian**2), jacobian

    slope, jacobian = jax.grad(steepness, has_aux=True)(points)
    assert np.isfinite(jacobian).all()
    assert np.isfinite(slope).all()


def test_drawn_noise_has_the_deviations_asked_for():
    warp = random_warp(jax.random.key(4), 2000, affine_noise=0.05, spline_noise=0.005, points=5)
    assert warp.weights.shape == (2000, 25)
    noise = np.asarray(warp.affine) - np.eye(2, 3)
    np.testing.assert_allclose(noise.std(axis=0), 0.05, rtol=0.1)
    np.testing.assert_allclose(np.std(warp.weights, axis=0), 0.005, rtol=0.15)
    np.testing.assert_allclose(np.mean(noise, axis=0), 0.0, atol=0.005)


@settings(max_examples=10, deadline=None)
@given(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3))
def test_a_shift_samples_the_mirrored_image(dx, dy):
    rng = np.random.default_rng(0)
    image = rng.uniform(size=(1, 8, 12, 3)).astype(np.float32)
    affine = np.array([[[1, 0, dx], [0, 1, dy]]], np.float32)
    warped = jax.jit(warp_image)(Warp(affine, np.zeros((1, 25), np.float32)), image)
    # The corner-aligned grid, sampled where -1 and 1 are the image's edges.
    x = ((np.linspace(-1, 1, 12) + dx + 1) * 12 - 1) / 2
    y = ((np.linspace(-1, 1, 8) + dy + 1) * 8 - 1) / 2
    rows, columns = np.meshgrid(y, x, indexing="ij")
    for channel in range(3):
        # "reflect" mirrors at the pixels' edges in SciPy.
        expected = map_coordinates(
            image[0, :, :, channel].astype(float), [rows, columns], order=1, mode="reflect"
        )
        np.testing.assert_allclose(warped[0, :, :, channel], expected, atol=1e-5)


def test_without_noise_nothing_moves(rng):
    warp = random_warp(jax.random.key(0), 2, affine_noise=0.0, spline_noise=0.0, points=5)
    points = rng.uniform(-1, 1, (2, 5, 2)).astype(np.float32)
    np.testing.assert_allclose(jax.jit(warp_points)(warp, points), points, atol=1e-7)
    jacobian = jax.jit(warp_jacobian)(warp, points)
    np.testing.assert_allclose(jacobian, np.tile(np.eye(2), (2, 5, 1, 1)))
