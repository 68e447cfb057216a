"""Cutting squares out of pictures and putting them back."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from eamm_jax.faces.pasting import Patch, feather
from eamm_jax.faces.similarity import Similarity, crop, resized

SIZE = 64


def turned(scale: float, degrees: float, x: float, y: float) -> Similarity:
    """A square of 64 whose middle lies at (x, y)."""
    turn = scale * np.exp(1j * np.radians(degrees))
    middle = (SIZE - 1) / 2 * (1 + 1j)
    return Similarity(complex(turn), complex(x, y) - complex(turn) * middle)


def smooth_picture(rng, height: int, width: int) -> np.ndarray:
    noise = ndimage.gaussian_filter(rng.normal(size=(height, width, 3)), (6, 6, 0), mode="wrap")
    return np.clip(128 + 20 * noise / noise.std(), 0, 255).astype(np.uint8)


def test_what_is_not_turned_keeps_its_exact_pixels(rng):
    picture = rng.integers(0, 256, (90, 100, 3), dtype=np.uint8)
    square = crop(picture, Similarity(1, 20 + 10j), SIZE)
    np.testing.assert_array_equal(square, picture[10:74, 20:84])


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.3, 3.9])
def test_a_crop_is_that_of_scikit_image(rng, scale):
    transform = pytest.importorskip("skimage.transform")
    picture = rng.integers(0, 256, (400, 500, 3), dtype=np.uint8)
    place = turned(scale, 17, 250, 200)
    square = crop(picture, place, SIZE)
    matrix = transform.SimilarityTransform(
        scale=place.scale, rotation=np.radians(place.degrees), translation=place(np.zeros(2))
    )
    expected = transform.warp(picture, matrix, output_shape=(SIZE, SIZE)) * 255
    assert np.abs(square - np.floor(expected + 1e-3)).max() <= 1
    assert (square == np.floor(expected + 1e-3)).mean() > 0.999


def test_large_pictures_are_averaged_and_not_sampled(rng):
    """Pixels of black and white that single samples would pick at random."""
    picture = np.kron(rng.integers(0, 2, (900, 900, 1)), np.ones((1, 1, 3))).astype(np.uint8) * 255
    square = crop(picture, turned(12, 10, 450, 450), SIZE)
    assert square.std() < 0.35 * picture.std()


@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_large_and_small_pictures_are_cut_at_the_same_place(rng, scale):
    small = smooth_picture(rng, 120, 160)
    large = np.kron(small, np.ones((int(scale), int(scale), 1), np.uint8))
    place = turned(1.1, -20, 80, 60)
    there = resized(scale).after(place)
    assert np.abs(crop(large, there, SIZE).astype(int) - crop(small, place, SIZE)).mean() < 1.5


def test_beyond_the_picture_its_edge_goes_on():
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[:, 39] = (10, 20, 30)
    square = crop(picture, Similarity(1, 30 + 0j), SIZE)
    np.testing.assert_array_equal(square[:, 9:], np.broadcast_to((10, 20, 30), (SIZE, 55, 3)))
    far = crop(picture, Similarity(1, 500 + 500j), SIZE)  # nothing but the corner
    np.testing.assert_array_equal(far, np.broadcast_to((10, 20, 30), far.shape))


def test_a_square_fades_in_from_its_edges():
    at = np.linspace(-0.2, 1.2, 141)
    u, v = np.meshgrid(at, at)
    seen = feather(u, v)
    outside = (u <= 0) | (u >= 1) | (v <= 0) | (v >= 1)
    assert (seen[outside] == 0).all()
    assert (seen[(abs(u - 0.5) < 0.3) & (abs(v - 0.5) < 0.3)] == 1).all()
    assert max(np.abs(np.diff(seen, axis=axis)).max() for axis in (0, 1)) < 0.2


placed = st.builds(
    turned, st.floats(0.3, 4), st.floats(-40, 40), st.floats(60, 240), st.floats(60, 140)
)


@settings(max_examples=25, deadline=None)
@given(placed)
def test_what_lies_outside_of_the_square_is_untouched(place):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)
    before = picture.copy()
    still = crop(picture, place, SIZE)
    pasted = Patch(picture, still, place).paste(rng.integers(0, 256, still.shape, dtype=np.uint8))
    y, x = np.mgrid[:200, :300]
    inside = place.inverse()(np.stack([x, y], axis=-1).astype(float))
    outside = (inside < -0.5).any(axis=-1) | (inside > SIZE - 0.5).any(axis=-1)
    np.testing.assert_array_equal(pasted[outside], picture[outside])
    np.testing.assert_array_equal(picture, before)
    assert pasted.shape == picture.shape
    assert pasted.dtype == np.uint8


@settings(max_examples=25, deadline=None)
@given(placed)
def test_things_are_put_where_they_were_cut_out(place):
    """A spot in the square is a spot at its place in the picture, to a tenth of a pixel."""
    picture = np.full((200, 300, 3), 100, np.uint8)
    spot = np.array([35.0, 30.0])
    y, x = np.mgrid[:SIZE, :SIZE]
    blob = 120 * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / 2 / 4**2)
    square = np.round(100 + blob[..., None] * np.ones(3)).astype(np.uint8)
    pasted = Patch(picture, np.full_like(square, 100), place).paste(square)
    light = np.clip(pasted[..., 0].astype(float) - 101, 0, None)
    y, x = np.mgrid[:200, :300]
    found = np.array([(light * x).sum(), (light * y).sum()]) / light.sum()
    expected = place(spot)
    if (expected > 12 * place.scale).all() and (
        expected < np.array([300, 200]) - 12 * place.scale
    ).all():
        assert np.abs(found - expected).max() < 0.12 * max(1, place.scale)


def test_a_square_that_shrinks_is_averaged_and_not_sampled():
    """Single pixels of black and white become grey."""
    y, x = np.mgrid[:SIZE, :SIZE]
    square = np.repeat(255 * ((x + y) % 2)[..., None], 3, axis=2).astype(np.uint8)
    place = turned(0.35, 10, 50, 50)
    pasted = Patch(np.full((100, 100, 3), 127, np.uint8), np.full_like(square, 127), place).paste(
        square
    )
    assert np.abs(pasted.astype(int) - 127).max() < 40


def test_memory_is_that_of_the_picture(rng):
    """A square of many megapixels is pasted a strip at a time."""
    picture = np.zeros((4000, 5000, 3), np.uint8)
    still = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    tracemalloc.start()
    try:
        Patch(picture, still, turned(60, 0, 2500, 2000)).paste(still)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The result, and the weight of each pixel in the square.
    assert peak < picture.nbytes + 4 * 4000 * 4000 + 30e6


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_a_square_that_did_not_change_cannot_be_seen(rng, scale):
    picture = smooth_picture(rng, 260, 300)
    place = turned(scale, 12, 150, 130)
    still = crop(picture, place, SIZE)
    change = np.abs(Patch(picture, still, place).paste(still).astype(int) - picture)
    assert change.max() <= 10
    assert change.mean() < 0.6  # the crop cuts off half a level


def test_there_is_no_step_at_the_seam_where_colours_differ(rng):
    picture = smooth_picture(rng, 260, 300)
    place = turned(3, 8, 150, 130)
    still = crop(picture, place, SIZE)
    square = np.clip(still + np.array([10, -12, -15]), 0, 255).astype(np.uint8)
    patch = Patch(picture, still, place)
    # Against the still pasted, as what a crop loses in detail is not colour.
    change = patch.paste(square).astype(float) - patch.paste(still)
    smooth = ndimage.gaussian_filter(change, (2, 2, 0))  # but for rounding
    steps = [np.abs(np.diff(smooth, axis=axis)).max() for axis in (0, 1)]
    assert max(steps) < 0.5  # levels from one pixel to the next; unmatched 1.1
    assert np.abs(change).mean() < 1  # unmatched, 12 in the square


def test_a_mouth_that_opens_changes_no_colours_elsewhere(rng):
    picture = smooth_picture(rng, 260, 300)
    place = turned(3, 8, 150, 130)
    still = crop(picture, place, SIZE)
    square = still.copy()
    square[44:52, 24:40] = 0
    patch = Patch(picture, still, place)
    change = np.abs(patch.paste(square).astype(int) - patch.paste(still)).max(axis=-1)
    y, x = np.mgrid[:260, :300]
    at = place.inverse()(np.stack([x, y], axis=-1).astype(float))
    mouth = (np.abs(at - [31.5, 47.5]) < [11, 7]).all(axis=-1)
    assert change[mouth].max() > 80
    assert change[~mouth].max() <= 2
