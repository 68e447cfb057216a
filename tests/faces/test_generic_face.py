"""The generic face is a face, and stands as it is said to."""

import numpy as np

from eamm_jax.faces import generic_face

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
