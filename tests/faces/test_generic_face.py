"""The generic face is a face, and stands as it is said to."""

import numpy as np

from data.synthetic import album
from eamm_jax.faces import generic_face
from eamm_jax.faces.pose_geometry import face_region, fit_pose

# A landmark and its mirror image, in dlib's order.
MIRRORED = {17: 26, 21: 22, 31: 35, 36: 45, 39: 42, 40: 47, 48: 54}


def test_it_is_the_same_on_both_sides():
    where = {int(n): p for n, p in zip(generic_face.LANDMARKS, generic_face.POINTS, strict=True)}
    for left, right in MIRRORED.items():
        np.testing.assert_allclose(where[left], where[right] * [-1, 1, 1])
        assert where[left][0] < 0
    assert max(where, key=lambda n: where[n][2]) == 30  # the tip of the nose stands out farthest
    assert where[48][1] < where[33][1] < where[39][1] < where[19][1]


def test_calibration_is_a_nod_a_size_and_a_shift():
    plain = generic_face.calibrated(1.0, 0.0, (0.0, 0.0))
    moved = generic_face.calibrated(1.1, 20.0, (30.0, 90.0))
    (nasion,) = moved[generic_face.LANDMARKS == 27]
    np.testing.assert_allclose(nasion, [0, 30e3, 90e3])
    distances = [np.linalg.norm(p - p[0], axis=1) for p in (plain, moved)]
    np.testing.assert_allclose(distances[1], 1.1 * distances[0])
    # Nodding down brings what stands out down.
    tip = np.flatnonzero(generic_face.LANDMARKS == 30)[0]
    upright = generic_face.calibrated(1.1, 0.0, (30.0, 90.0))
    assert moved[tip, 1] < upright[tip, 1]


def test_it_follows_drawn_faces_whose_pose_is_known():
    """They are another's heads, with features of their own: what is followed is the turning."""
    found, true = [], []
    for person in range(8):
        for still in album.stills(0, person, 3):
            pixels = 128 * (still.landmarks() + 1)
            region = face_region(pixels)
            seen = region.from_picture(pixels[generic_face.LANDMARKS])
            found.append(fit_pose(generic_face.POINTS, seen, generic_face.WEIGHTS)[:3])
            true.append(still.pose[:3])
    found, true = np.array(found), np.array(true)
    wrong = np.abs(found - true).mean(axis=0)
    assert wrong[0] < 1.5
    assert wrong[2] < 1.0
    # Their upright is another: a constant, and how they nod otherwise.
    assert np.corrcoef(found[:, 1], true[:, 1])[0, 1] > 0.6
    assert np.polyfit(true[:, 1], found[:, 1], 1)[0] > 0.7
