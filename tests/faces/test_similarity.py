"""Similarity transforms: algebra, and the fit against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eamm_jax.faces.similarity import Similarity, as_complex, as_points, fit_similarity, resized

coordinates = st.floats(-1000, 1000)
similarities = st.builds(
    lambda scale, angle, x, y: Similarity(scale * np.exp(1j * angle), complex(x, y)),
    st.floats(0.01, 100),
    st.floats(-3, 3),
    coordinates,
    coordinates,
)
TRIANGLE = np.array([(0, 0), (10, 0), (3, 7)])


def test_a_quarter_turn_is_clockwise_on_the_screen():
    turn = Similarity(2j, 5 + 0j)
    np.testing.assert_allclose(turn(np.array([1, 0])), (5, 2))  # right becomes down
    assert turn.scale == 2
    assert turn.degrees == pytest.approx(90)


def test_points_and_numbers(rng):
    points = rng.normal(size=(4, 3, 2))
    np.testing.assert_array_equal(as_points(as_complex(points)), points)


@given(similarities)
def test_the_inverse_undoes(similarity):
    there = similarity(TRIANGLE)
    np.testing.assert_allclose(similarity.inverse()(there), TRIANGLE, atol=1e-6)


@given(similarities, similarities)
def test_one_after_the_other(first, second):
    both = second.after(first)(TRIANGLE)
    np.testing.assert_allclose(both, second(first(TRIANGLE)), rtol=1e-9, atol=1e-6)


@given(similarities)
def test_an_exact_fit_is_found(similarity):
    fitted = fit_similarity(TRIANGLE, similarity(TRIANGLE))
    np.testing.assert_allclose(fitted, similarity, rtol=1e-6, atol=1e-6)


def test_the_fit_is_that_of_scikit_image(rng):
    transform = pytest.importorskip("skimage.transform")
    source = rng.uniform(0, 256, (47, 2))
    target = 2.3 * source @ [[0.9, -0.3], [0.3, 0.9]] + rng.normal(scale=5, size=(47, 2))
    expected = transform.SimilarityTransform.from_estimate(source, target)
    fitted = fit_similarity(source, target)
    points = rng.uniform(0, 256, (9, 2))
    np.testing.assert_allclose(fitted(points), expected(points), atol=1e-9)


def test_no_other_similarity_is_nearer(rng):
    source, target = rng.normal(size=(2, 20, 2))
    turn, shift = fit_similarity(source, target)

    def error(turn, shift):
        return np.sum((Similarity(turn, shift)(source) - target) ** 2)

    best = error(turn, shift)
    for change in (0.01, -0.01, 0.01j, -0.01j):
        assert error(turn + change, shift) > best
        assert error(turn, shift + change) > best


def test_resizing_keeps_the_corners_of_a_picture():
    """Pixel centres are integers, so the left edge is at -0.5."""
    corners = np.array([(-0.5, -0.5), (7.5, 3.5)])
    np.testing.assert_allclose(resized(3)(corners), [(-0.5, -0.5), (23.5, 11.5)])
