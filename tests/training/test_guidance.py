"""Guided keypoints against the geometry of the drawn faces."""

import jax
import numpy as np
import pytest

from configs.bundled_keypoints import KEYPOINTS
from data.synthetic import camera, landmarks
from eamm_jax.training import guidance
from eamm_jax.types import FaceTruth, Keypoints


def truth_of(points, poses=None):
    poses = np.zeros((len(points), 6)) if poses is None else poses
    return FaceTruth(np.asarray(points, np.float32), np.asarray(poses, np.float32))


def test_a_keypoint_is_at_the_mean_of_its_points(rng):
    points = rng.uniform(-1, 1, (3, 70, 2))
    found = guidance.guided_values(truth_of(points), [(4,), (1, 2, 69)])
    expected = np.stack([points[:, 4], points[:, [1, 2, 69]].mean(axis=1)], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_rotation_is_that_of_the_rendering_camera(rng):
    poses = [camera.held(*rng.uniform(-30, 30, 3), zoom=rng.uniform(0.8, 1.2)) for _ in range(20)]
    found = guidance.head_rotation(truth_of(np.zeros((20, 70, 2)), np.array(poses)))
    for pose, turn in zip(poses, found, strict=True):
        seen = camera.Camera(pose)
        origin = np.array(seen.project(0.0, 0.0, 0.0))
        columns = [np.array(seen.project(*axis, 0.0)) - origin for axis in ((1.0, 0.0), (0.0, 1.0))]
        expected = np.stack(columns, axis=1) * camera.REST_SCALE / guidance.USUAL_SCALE
        np.testing.assert_allclose(turn, expected, atol=1e-5)


def test_keypoints_that_are_where_they_should_be_are_at_no_distance(rng):
    truth = truth_of(rng.uniform(-1, 1, (2, 70, 2)), rng.uniform(5e-4, 1, (2, 6)))
    turn = np.repeat(np.asarray(guidance.head_rotation(truth))[:, None], len(KEYPOINTS), axis=1)
    exact = Keypoints(guidance.guided_values(truth, KEYPOINTS), turn)
    assert [float(d) for d in guidance.distances(exact, truth, KEYPOINTS)] == [0.0, 0.0]
    moved = exact._replace(value=exact.value + np.array([0.5, 0.0]))
    value, turned = guidance.distances(moved, truth, KEYPOINTS)
    assert value == pytest.approx(0.25)
    assert turned == 0


def test_regions_cover_the_mouth_and_the_eyes_and_little_else():
    points = np.zeros((1, 70, 2))
    points[0, landmarks.MOUTH] = np.linspace((-0.2, 0.5), (0.2, 0.6), 20)
    points[0, 36:42] = np.linspace((-0.4, -0.2), (-0.2, -0.15), 6)
    points[0, 42:48] = np.linspace((0.2, -0.2), (0.4, -0.15), 6)
    truth = truth_of(points)
    mouth, eyes = guidance.mouth_region(truth, 64), guidance.eyes_region(truth, 64)
    assert mouth.shape == eyes.shape == (1, 64, 64, 1)

    def at(region, x, y):
        return float(region[0, round((y + 1) * 31.5), round((x + 1) * 31.5), 0])

    assert at(mouth, 0, 0.55) == pytest.approx(1, abs=0.02)
    assert at(eyes, -0.3, -0.175) == pytest.approx(1, abs=0.02)
    assert at(eyes, 0.3, -0.175) == pytest.approx(1, abs=0.02)
    for region, x, y in ((mouth, 0.3, -0.175), (mouth, 0, 0), (eyes, 0, 0.55), (eyes, 0, 0.1)):
        assert at(region, x, y) < 0.01
    assert 0.01 < np.mean(mouth > 0.5) < 0.1
    assert 0.01 < np.mean(eyes > 0.5) < 0.1


def test_bundled_keypoints_name_existing_points():
    named = [point for group in KEYPOINTS for point in group]
    assert len(KEYPOINTS) == 20
    assert len(set(named)) == len(named)
    assert set(named) <= set(range(guidance.NUM_POINTS))


def test_distances_have_finite_gradients(rng):
    truth = truth_of(rng.uniform(-1, 1, (1, 70, 2)), rng.uniform(5e-4, 1, (1, 6)))
    value = rng.normal(size=(1, 20, 2)).astype(np.float32)
    turn = rng.normal(size=(1, 20, 2, 2)).astype(np.float32)
    gradient = jax.grad(lambda k: sum(guidance.distances(k, truth, KEYPOINTS)))(
        Keypoints(value, turn)
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
