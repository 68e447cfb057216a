"""CPBD: widths of known edges, and what sharpness must do."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy import ndimage

from eamm_jax.evaluation import sharpness


def ramps(width: int, low: float, high: float, size: int = 64) -> np.ndarray:
    """An edge that rises and one that falls, each over `width` pixels, upright."""
    profile = np.full(size, low)
    rise = low + (high - low) * np.arange(1, width) / width
    profile[16 : 16 + width - 1] = rise
    profile[16 + width - 1 : 40] = high
    profile[40 : 40 + width - 1] = rise[::-1]
    return np.tile(profile, (size, 1))


@pytest.mark.parametrize("width", [3, 4, 6, 9])
def test_the_width_of_a_ramp_is_that_of_its_slope(width):
    widths = sharpness.edge_widths(ramps(width, 40, 200))
    assert set(np.unique(widths)) == {0, width}
    assert widths[20, :32].max() == widths[20, 32:].max() == width


def test_a_step_has_its_two_neighbours():
    assert set(np.unique(sharpness.edge_widths(ramps(1, 40, 200)))) == {0, 2}


def test_level_edges_have_no_width():
    assert not sharpness.edge_widths(ramps(4, 40, 200).T.copy()).any()


@pytest.mark.parametrize(
    ("width", "contrast", "sharp"),
    [(3, 160, 1), (4, 160, 0), (4, 50, 1), (5, 50, 1), (6, 50, 0), (5, 51, 0)],
)
def test_an_edge_is_sharp_up_to_the_just_noticeable_width(width, contrast, sharp):
    """3 pixels, or 5 where the contrast is at most 50."""
    assert sharpness.cpbd(ramps(width, 60, 60 + contrast)) == sharp


def test_the_share_of_sharp_edges_is_counted():
    one, two = ramps(2, 40, 200), ramps(7, 40, 200)
    half = np.concatenate([one, two])  # two blocks
    assert sharpness.cpbd(half) == pytest.approx(0.5, abs=0.02)
    beside = np.concatenate([one, one, two], axis=1)
    assert sharpness.cpbd(beside) == pytest.approx(2 / 3, abs=0.02)


def test_blur_lowers_it(rng):
    texture = 255 * (ndimage.gaussian_filter(rng.normal(size=(128, 128)), 2) > 0).astype(float)
    found = [
        sharpness.cpbd(np.round(ndimage.gaussian_filter(texture, sigma)))
        for sigma in (0, 0.8, 1.2, 2, 4)
    ]
    assert found[0] == 1
    assert found[-1] < 0.05
    assert (np.diff(found) <= 0).all()
    assert found[0] - found[2] > 0.1


def test_uniform_images_have_no_edges():
    assert sharpness.cpbd(np.full((64, 64), 128.0)) == 0
    assert not sharpness.canny_edges(np.full((64, 64), 128.0)).any()


def test_canny_finds_what_opencv_finds(rng):
    """The same ridges; OpenCV thins diagonals a little otherwise."""
    picture = 60 + 120 * (ndimage.gaussian_filter(rng.normal(size=(96, 96)), 5) > 0).astype(float)
    ours = sharpness.canny_edges(picture)
    smooth = ndimage.gaussian_filter(picture, 2**0.5)
    across, down = (ndimage.sobel(smooth, axis).round().astype(np.int16) for axis in (1, 0))
    strength = np.hypot(across, down)
    high = np.percentile(strength, 70)
    theirs = cv2.Canny(across, down, 0.4 * high, high, L2gradient=True) > 0
    near = ndimage.binary_dilation
    assert (ours & near(theirs)).sum() > 0.97 * ours.sum()
    assert (theirs & near(ours)).sum() > 0.97 * theirs.sum()
    assert ours.sum() > 200


def test_grey_levels_are_luma():
    colours = np.array([[[[255, 255, 255], [255, 0, 0], [0, 0, 255]]]], np.uint8)
    np.testing.assert_array_equal(sharpness.grey_levels(colours), [[[255, 76, 29]]])
