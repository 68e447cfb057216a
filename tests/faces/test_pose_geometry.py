"""Angles, cameras and regions follow the published convention, and undo each other."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eamm_jax.faces import generic_face
from eamm_jax.faces.pose_geometry import (
    Region,
    camera_pose,
    cut_region,
    face_region,
    fit_pose,
    project,
    rotation_angles,
    rotation_matrix,
)

ANGLES = st.tuples(*(st.floats(-80, 80) for _ in range(3))).map(np.array)
RIGHT, UP, NOSE = np.eye(3)


@given(ANGLES)
def test_angles_come_back_from_their_rotation(angles):
    matrix = rotation_matrix(angles)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(rotation_angles(matrix), angles, atol=1e-8)


def test_in_profile_the_rotation_comes_back_if_not_the_angles():
    for yaw in (89.9, -89.9, 90.0):
        matrix = rotation_matrix(np.array([yaw, 20.0, -30.0]))
        again = rotation_matrix(rotation_angles(matrix))
        np.testing.assert_allclose(again @ NOSE, matrix @ NOSE, atol=5e-3)
        np.testing.assert_allclose(again @ UP, matrix @ UP, atol=5e-3)


def test_directions_are_the_published_ones():
    """In the region y points upwards and z to the viewer."""
    turned = {name: rotation_matrix(row) for name, row in zip("ypr", 10 * np.eye(3), strict=True)}
    assert (turned["y"] @ NOSE)[0] < -0.1  # to picture left
    assert (turned["p"] @ NOSE)[1] < -0.1  # downwards
    assert (turned["r"] @ RIGHT)[1] > 0.1  # counter-clockwise


def test_a_camera_gives_its_pose_whatever_the_lengths_of_its_rows():
    rng = np.random.default_rng(0)
    angles = rng.uniform(-40, 40, (5, 3))
    shift = rng.uniform(-70, 70, (5, 3, 1))
    lengths = np.array([4e-4, 6e-4, 1e-3])[:, None]
    cameras = np.concatenate([lengths * rotation_matrix(angles), shift], axis=-1)
    poses = camera_pose(cameras)
    np.testing.assert_allclose(poses[:, :3], angles, atol=1e-9)
    np.testing.assert_allclose(poses[:, 3], 5e-4)
    np.testing.assert_allclose(poses[:, 4:], shift[..., 0])


POSES = st.tuples(
    st.floats(-35, 35),
    st.floats(-30, 30),
    st.floats(-35, 35),
    st.floats(2e-4, 9e-4),
    st.floats(0, 120),
    st.floats(0, 120),
).map(np.array)


@settings(max_examples=20, deadline=None)
@given(POSES)
def test_a_pose_is_found_from_where_the_face_is_seen(pose):
    found = fit_pose(generic_face.POINTS, project(generic_face.POINTS, pose))
    np.testing.assert_allclose(found[:3], pose[:3], atol=0.02)
    np.testing.assert_allclose(found[3], pose[3], rtol=0.001)
    np.testing.assert_allclose(found[4:], pose[4:], atol=0.05)


def test_a_landmark_that_is_elsewhere_counts_little_and_less_by_its_weight():
    pose = np.array([12.0, -8.0, 5.0, 4.7e-4, 60, 70])
    seen = project(generic_face.POINTS, pose)
    seen[5] += (0, 15)
    found = fit_pose(generic_face.POINTS, seen)
    weights = np.ones(len(seen))
    weights[5] = 1e-6
    weighted = fit_pose(generic_face.POINTS, seen, weights)
    assert 0.1 < np.abs(found[:3] - pose[:3]).max() < 5
    np.testing.assert_allclose(weighted[:3], pose[:3], atol=0.02)


def test_regions_go_there_and_back():
    region = Region(10.0, 20.0, 240.0)
    corners = np.array([[0.0, 0.0], [120, 120], [60, 60]])
    seen = region.to_picture(corners)
    np.testing.assert_allclose(seen, [[10, 260], [250, 20], [130, 140]])
    np.testing.assert_allclose(region.from_picture(seen), corners)
    np.testing.assert_allclose(region.scaled(2).to_picture(corners), 2 * seen)


def test_a_region_follows_its_face():
    landmarks = np.random.default_rng(0).uniform(50, 150, (68, 2))
    one, two = face_region(landmarks), face_region(2 * landmarks + [30, -10])
    np.testing.assert_allclose(two, [2 * one.left + 30, 2 * one.top - 10, 2 * one.side])
    assert one.side > 100
    assert one.top < landmarks[:, 1].min()


@pytest.mark.parametrize("side", [120, 180, 240])
def test_cutting_is_bilinear_as_opencv_has_it(rng, side):
    image = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    cut = cut_region(image, Region(7, 9, side))
    expected = cv2.resize(image[9 : 9 + side, 7 : 7 + side], (120, 120))
    inner = slice(1, -1)  # beyond the cut OpenCV repeats its edge, and we have more picture
    assert np.abs(cut * 255 - expected)[inner, inner].max() < 1.01


def test_beyond_the_picture_it_is_black():
    cut = cut_region(np.full((60, 60, 3), 255, np.uint8), Region(-60, 0, 120))
    assert (cut[:60, 61:] == 1).all()
    assert not cut[:, :59].any()
    assert not cut[61:].any()
