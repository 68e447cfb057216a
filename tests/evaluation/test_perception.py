"""LPIPS of frames."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from eamm_jax.evaluation import perception
from eamm_jax.evaluation.perception import Perception


@pytest.fixture(scope="module")
def measure():
    assert perception.is_installed()
    return Perception().distances


def test_distance_grows_with_blur_and_not_with_brightness(measure, rng):
    spots = ndimage.gaussian_filter(rng.normal(size=(64, 64, 3)), (2, 2, 0))
    sharp = (128 + 60 * spots / abs(spots).max()).astype(np.uint8)
    blurred = [ndimage.gaussian_filter(sharp, (sigma, sigma, 0)) for sigma in (1, 3)]
    frames = np.stack([sharp, sharp + 2, *blurred])
    same, brighter, slight, strong = measure(frames, np.stack([sharp] * 4))
    assert same == 0
    assert 0 < brighter < slight < strong
