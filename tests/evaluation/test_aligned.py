"""Aligned faces: what does not count, and the metrics of scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from eamm_jax.errors import UserError
from eamm_jax.evaluation.aligned import SIZE, STEADY, Aligned, Aligner, compare
from eamm_jax.evaluation.tools import make_tools
from eamm_jax.faces.similarity import Similarity, crop
from tests.evaluation.faces import talking, template


@pytest.fixture
def smooth(rng) -> np.ndarray:
    spots = ndimage.gaussian_filter(rng.normal(size=(256, 256, 3)), (6, 6, 0))
    return (128 + 100 * spots / abs(spots).max()).astype(np.uint8)


def test_place_size_and_rotation_do_not_count(smooth):
    points = 0.7 * template()
    pixels = ((points + 1) * 256 - 1) / 2
    place = Similarity(1.1 * np.exp(0.2j), 10 - 30j)  # from the moved frame to the first
    moved = ((2 * place.inverse()(pixels) + 1) / 256 - 1)[None]
    aligner = Aligner()
    first = aligner.align(smooth[None], points[None])
    second = aligner.align(crop(smooth, place, 256)[None], moved)
    np.testing.assert_allclose(first.landmarks, second.landmarks, atol=1e-9)
    # Sampled twice instead of once.
    assert np.abs(first.frames[0].astype(int) - second.frames[0]).mean() < 2
    eyes = first.landmarks[0, STEADY]
    assert (abs(eyes) < 0.7).all()


def test_metrics_are_those_of_the_published_script(smooth, rng):
    frames = np.stack([smooth[n : n + SIZE, :SIZE] for n in (0, 20)])
    noisy = np.clip(frames + rng.normal(0, 10, frames.shape), 0, 255).astype(np.uint8)
    track, other = talking(2), talking(2, phase=1)
    found = compare(Aligned(noisy, track), Aligned(frames, other))
    pairs = list(zip(frames, noisy, strict=True))
    psnr = np.mean([peak_signal_noise_ratio(*pair) for pair in pairs])
    ssim = np.mean([structural_similarity(*pair, channel_axis=-1) for pair in pairs])
    assert found.psnr == pytest.approx(psnr, abs=1e-5)
    assert found.ssim == pytest.approx(ssim, abs=1e-5)
    pixels = (np.stack([track, other]) + 1) * SIZE / 2
    for part, distance in ((slice(48, 68), found.m_lmd), (slice(0, 68), found.f_lmd)):
        a, b = (x[:, part] - x[:, part].mean(1, keepdims=True) for x in pixels)
        assert distance == pytest.approx(np.sqrt(((a - b) ** 2).sum(-1)).mean(), abs=1e-9)


def test_without_a_reader_there_is_no_such_protocol():
    with pytest.raises(UserError, match="evaluation_eat needs faces 'real', not 'none'"):
        make_tools("none", None, "evaluation_eat")
