"""Arithmetic on keypoints, against NumPy and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eamm_jax.ops.grids import coordinate_grid
from eamm_jax.ops.keypoints import (
    GAZE_REACH,
    add_displacement,
    close_lids,
    expression_alone,
    heatmap_to_value,
    inverse_2x2,
    keypoint_gaussians,
    move_pupils,
    movement_scale,
    relative_keypoints,
)
from eamm_jax.types import Keypoints


def random_keypoints(rng: np.random.Generator, *shape: int) -> Keypoints:
    jacobian = np.eye(2) + 0.3 * rng.normal(size=(*shape, 2, 2))
    return Keypoints(
        rng.uniform(-1, 1, size=(*shape, 2)).astype(np.float32), jacobian.astype(np.float32)
    )


def test_inverse_is_numpys(rng):
    matrices = (np.eye(2) + 0.3 * rng.normal(size=(3, 5, 2, 2))).astype(np.float32)
    np.testing.assert_allclose(inverse_2x2(matrices), np.linalg.inv(matrices), rtol=2e-5, atol=1e-5)


def test_expectation_of_a_single_hot_pixel_is_its_coordinate():
    heatmap = np.zeros((5, 7, 2), np.float32)
    heatmap[1, 6, 0] = heatmap[4, 0, 1] = 1
    grid = np.asarray(coordinate_grid(5, 7))
    np.testing.assert_allclose(heatmap_to_value(heatmap), [grid[1, 6], grid[4, 0]], atol=1e-6)


def test_gaussians_peak_at_their_keypoints():
    value = np.array([[[0.0, 0.0], [1.0, -1.0]]], np.float32)
    maps = np.asarray(keypoint_gaussians(value, 9, 9, 0.01))
    assert maps.shape == (1, 9, 9, 2)
    assert maps[0, 4, 4, 0] == maps[0, 0, 8, 1] == 1
    # One pixel is a quarter: exp(-0.25^2 / 0.02).
    np.testing.assert_allclose(maps[0, 4, 5, 0], np.exp(-(0.25**2) / 0.02), rtol=1e-5)


def test_relative_motion_is_the_identity_at_the_first_frame(rng):
    portrait, first = random_keypoints(rng, 1, 10), random_keypoints(rng, 1, 10)
    still = relative_keypoints(portrait, first, first, 1.7)
    np.testing.assert_allclose(still.value, portrait.value, atol=1e-6)
    np.testing.assert_allclose(still.jacobian, portrait.jacobian, atol=1e-5)


def test_relative_motion_is_numpys(rng):
    portrait, first = random_keypoints(rng, 1, 10), random_keypoints(rng, 1, 10)
    driving = random_keypoints(rng, 4, 10)
    moved = jax.jit(relative_keypoints)(portrait, driving, first, 0.5)
    expected = driving.jacobian @ np.linalg.inv(first.jacobian) @ portrait.jacobian
    np.testing.assert_allclose(moved.jacobian, expected, rtol=1e-4, atol=1e-4)
    expected_value = portrait.value + 0.5 * (driving.value - first.value)
    np.testing.assert_allclose(moved.value, expected_value, atol=1e-6)


def test_movement_scale_is_the_ratio_of_sizes(rng):
    points = rng.uniform(-1, 1, size=(10, 2))
    assert movement_scale(3 * points, points) == pytest.approx(3)


def test_displacement_moves_only_the_named_keypoints(rng):
    keypoints, displacement = random_keypoints(rng, 2, 10), random_keypoints(rng, 2, 4)
    moved = add_displacement(keypoints, displacement, (1, 4, 6, 8), (0.2, 1.0, 1.0, 0.0))
    untouched = [0, 2, 3, 5, 7, 8, 9]
    np.testing.assert_array_equal(moved.value[:, untouched], keypoints.value[:, untouched])
    np.testing.assert_allclose(
        moved.value[:, 1], keypoints.value[:, 1] + 0.2 * displacement.value[:, 0], atol=1e-6
    )
    np.testing.assert_allclose(
        moved.jacobian[:, 6], keypoints.jacobian[:, 6] + displacement.jacobian[:, 2], atol=1e-6
    )


def test_lids_meet_when_an_eye_is_closed(rng):
    value = rng.normal(size=(3, 6, 2)).astype(np.float32)
    jacobian = np.tile(np.eye(2, dtype=np.float32), (3, 6, 1, 1))
    keypoints = Keypoints(jnp.asarray(value), jnp.asarray(jacobian))
    found = close_lids(keypoints, (1, 4, 2, 3), jnp.array([0.0, 0.5, 1.0])).value
    np.testing.assert_array_equal(found[0], value[0])
    np.testing.assert_allclose(found[1, 1], (value[1, 1] + value[1, 4]) / 2, atol=1e-6)
    np.testing.assert_allclose(found[2, [1, 2]], value[2, [4, 3]], atol=1e-6)
    np.testing.assert_array_equal(found[:, [0, 3, 4, 5]], value[:, [0, 3, 4, 5]])


def test_pupils_move_along_the_line_between_them_and_across_it():
    value = np.tile(np.float32([[-0.2, 0], [9, 9], [0.2, 0]]), (3, 1, 1))
    value[2, 2] = (-0.2, 0.4)  # a head on its side: the right is below
    jacobian = np.tile(np.eye(2, dtype=np.float32), (3, 3, 1, 1))
    gaze = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = move_pupils(Keypoints(jnp.asarray(value), jnp.asarray(jacobian)), (0, 2), gaze).value
    right, up = 0.4 * np.array(GAZE_REACH)
    moved = found - value
    np.testing.assert_allclose(moved[0, [0, 2]], [[right, 0]] * 2, atol=1e-6)
    np.testing.assert_allclose(moved[1, [0, 2]], [[0, -up]] * 2, atol=1e-6)
    np.testing.assert_allclose(moved[2, [0, 2]], [[up, 0]] * 2, atol=1e-6)
    np.testing.assert_array_equal(moved[:, 1], 0)


def test_an_expression_neither_moves_nor_turns_nor_scales_the_head(rng):
    points = rng.uniform(-0.8, 0.8, size=(3, 6, 2)).astype(np.float32)
    brows = np.zeros_like(points)
    brows[:, 4:, 1] = -0.05
    angle, scale = 0.2, 1.1
    turned = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    head = points @ turned.T + (0.1, -0.2) - points
    jacobian = rng.normal(size=(3, 6, 2, 2)).astype(np.float32)
    found = expression_alone(
        Keypoints((brows + head).astype(np.float32), jacobian), points, (0, 1, 2, 3)
    )
    np.testing.assert_allclose(found.value, brows, atol=1e-6)
    assert not found.jacobian.any()


def test_with_depths_an_expression_neither_nods_nor_turns_to_the_side(rng):
    points = rng.uniform(-0.8, 0.8, size=(2, 7, 2)).astype(np.float32)
    depths = rng.uniform(-0.4, 0.4, size=7).astype(np.float32)
    brows = np.zeros_like(points)
    brows[:, 5:, 1] = -0.05
    solid = np.concatenate([points, np.broadcast_to(depths[:, None], (2, 7, 1))], axis=-1)
    yaw, pitch = 0.01, -0.02  # radians
    turned = np.eye(3) + np.array([[0, 0, yaw], [0, 0, pitch], [-yaw, -pitch, 0]])
    head = (solid @ turned.T)[..., :2] + 0.1 - points
    jacobian = np.zeros((2, 7, 2, 2), np.float32)
    moved = Keypoints((brows + head).astype(np.float32), jacobian)
    rigid = range(5)
    found = expression_alone(moved, points, rigid, tuple(map(float, depths)))
    np.testing.assert_allclose(found.value, brows, atol=2e-6)
    assert np.abs(expression_alone(moved, points, rigid).value - brows).max() > 1e-3
