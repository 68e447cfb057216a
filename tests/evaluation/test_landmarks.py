"""Landmark distances, mouth opening, timing, jitter and regions: hand-computed cases."""

from __future__ import annotations

import numpy as np
import pytest

from eamm_jax.evaluation import landmarks
from tests.evaluation.faces import template


@pytest.fixture
def face(rng) -> np.ndarray:
    """Ten frames of 68 points that wander."""
    return rng.uniform(-0.5, 0.5, (1, 68, 2)) + 0.01 * rng.normal(size=(10, 68, 2)).cumsum(0)


def test_distance_ignores_position(face):
    np.testing.assert_allclose(
        landmarks.landmark_distance(face + np.array([0.3, -0.1]), face), 0, atol=1e-9
    )


def test_distance_of_one_displaced_point(face):
    moved = face.copy()
    moved[3, 50] += (0.03, 0.04)
    # 0.05 units are 6.4 pixels of 256, from which centring takes a share of 1/n for each point.
    for points, n in ((landmarks.FACE, 68), (landmarks.MOUTH, 20)):
        found = landmarks.landmark_distance(moved, face, points)
        expected = (6.4 * (1 - 1 / n) + (n - 1) * 6.4 / n) / n
        np.testing.assert_allclose(found, np.where(np.arange(10) == 3, expected, 0), atol=1e-9)


def test_mouth_distance_centres_the_mouth(face):
    moved = face.copy()
    moved[:, landmarks.MOUTH] += (0.0, 0.1)
    mouth = landmarks.landmark_distance(moved, face, landmarks.MOUTH)
    np.testing.assert_allclose(mouth, 0, atol=1e-9)
    assert landmarks.landmark_distance(moved, face).min() > 1


def test_opening_is_normalized_by_the_eye_distance():
    face = np.zeros((2, 68, 2))
    face[:, 36], face[:, 45] = (-0.4, 0.1), (0.4, 0.1)
    for upper, lower in ((61, 67), (62, 66), (63, 65)):
        face[:, upper, 1], face[:, lower, 1] = 0.5, [0.5, 0.7]
    np.testing.assert_allclose(landmarks.mouth_opening(face), [0, 0.25])
    # Not changed by the size of the face in the frame, nor by tilting it.
    turned = 0.5 * face @ np.array([[0.8, 0.6], [-0.6, 0.8]]) + 0.1
    np.testing.assert_allclose(landmarks.mouth_opening(turned), [0, 0.25])


def test_correlation_is_pearsons(rng):
    a, b = rng.normal(size=(2, 50))
    assert landmarks.correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert landmarks.correlation(a, 3 * a + 7) == pytest.approx(1)
    assert landmarks.correlation(a, -a) == pytest.approx(-1)
    assert landmarks.correlation(np.full(50, 0.3), a) == 0


@pytest.mark.parametrize("lag", [-3, 0, 2])
def test_lag_is_found(rng, lag):
    long = rng.normal(size=80).cumsum()
    truth, found = long[10:60], long[10 - lag : 60 - lag]  # late by `lag` frames
    timing = landmarks.timing(found, truth, 5)
    assert timing.lag == lag
    assert timing.best == pytest.approx(1)
    assert timing.correlation == pytest.approx(np.corrcoef(found, truth)[0, 1])
    # One frame away from lag 0 there are 49 frames in common.
    early, late = (
        np.corrcoef(a, b)[0, 1] for a, b in ((found[:-1], truth[1:]), (found[1:], truth[:-1]))
    )
    assert timing.near == pytest.approx(max(timing.correlation, early, late))


def test_lags_beyond_the_limit_are_ignored(rng):
    long = rng.normal(size=80)
    assert abs(landmarks.timing(long[2:50], long[10:58], 5).best) < 0.9
    assert landmarks.timing(long[2:50], long[10:58], 9).lag == 8
    assert abs(landmarks.timing(long[:6], long[2:8], 5).lag) <= 2
    assert landmarks.timing(np.ones(20), long[:20], 5) == (0, 0, 0, 0)
    with pytest.raises(ValueError, match="cannot be correlated"):
        landmarks.timing(long[:5], long[:6], 1)


def test_jitter_is_the_second_difference(face):
    steady = face[:1] + np.linspace(0, 1, 10)[:, None, None]
    assert landmarks.jitter(steady) == pytest.approx(0, abs=1e-9)
    shaking = face[:1] + 0.01 * np.array([1, -1] * 5)[:, None, None] * (1, 0)
    assert landmarks.jitter(shaking) == pytest.approx(4 * 1.28)  # 1 px: -1 + 2 * 1 ... = 4
    assert landmarks.jitter(face[:2]) == 0


def test_regions_are_boxes_around_mouth_and_eyes():
    face = np.zeros((1, 68, 2))
    face[0, landmarks.MOUTH] = (0, 0.5)
    face[0, 48], face[0, 54] = (-0.2, 0.5), (0.2, 0.5)  # 0.4 wide: 0.1 are added around
    mouth = landmarks.mouth_region(face, 40, 40)[0]
    rows, columns = np.nonzero(mouth)
    # Pixels of 0.05: those whose centres lie within 0.4..0.6 and -0.3..0.3.
    assert (rows.min(), rows.max()) == (28, 31)
    assert (columns.min(), columns.max()) == (14, 25)
    assert mouth.sum() == 4 * 12
    face[0, landmarks.LEFT_EYE] = (-0.5, -0.2)
    face[0, landmarks.RIGHT_EYE] = (0.5, -0.2)
    face[0, 36], face[0, 45] = (-0.6, -0.2), (0.6, -0.2)  # 0.1 wide: 0.04 are added
    eyes = landmarks.eyes_region(face, 100, 100)[0]
    assert eyes.sum() == 2 * 9 * 4
    np.testing.assert_array_equal(eyes, eyes[:, ::-1])
    assert not landmarks.mouth_region(face + 3, 40, 40).any()


def with_eyes(heights) -> np.ndarray:
    """A plain face whose eyes are so high, relative to the usual height, in each frame."""
    track = np.repeat(template()[None], len(heights), axis=0)
    for eye in (landmarks.LEFT_EYE, landmarks.RIGHT_EYE):
        middle = track[:, eye, 1].mean(axis=1, keepdims=True)
        track[:, eye, 1] = middle + (track[:, eye, 1] - middle) * np.array(heights)[:, None]
    return track


def test_eye_opening_is_height_over_width():
    # Landmarks 0.08 apart in eyes that are 0.2 wide.
    np.testing.assert_allclose(landmarks.eye_opening(with_eyes([1, 0.5])), [0.4, 0.2])


def test_blinks_are_short_and_whole():
    open_, shut = [1.0] * 20, [0.3] * 4
    assert landmarks.blinks(with_eyes(open_ + shut + open_ + shut + open_)) == 2
    assert landmarks.blinks(with_eyes(open_)) == 0
    assert landmarks.blinks(with_eyes([0.1] * 30)) == 0  # narrow eyes
    assert landmarks.blinks(with_eyes(shut + open_ + shut)) == 0  # begun before, or not ended
    assert landmarks.blinks(with_eyes(open_ + [0.3] * 13 + open_)) == 0  # closed eyes
    assert landmarks.blinks(with_eyes(open_ + [0.75] * 4 + open_)) == 0  # a squint
