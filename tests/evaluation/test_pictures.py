"""PSNR, SSIM and flicker against definitions, hand-computed cases and scikit-image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eamm_jax.evaluation import pictures


def psnr(frames, truth, region=None):
    return pictures.psnr(pictures.squared_error(frames, truth), region)


def wavy_pair() -> tuple[np.ndarray, np.ndarray]:
    """Two pictures of 40x48 that differ by ripples, bytes."""
    i, j = np.mgrid[:40, :48]
    first = np.stack(
        [0.5 + 0.4 * np.sin(i / 3 + j / 5), 0.5 + 0.3 * np.cos(i / 4 - j / 7),
         ((i * 7 + j * 13) % 32) / 31], -1,
    )  # fmt: skip
    second = np.clip(first + 0.1 * np.sin(i * j / 17)[..., None] * [1, 0.5, -0.7], 0, 1)
    return tuple(np.round(255 * picture).astype(np.uint8) for picture in (first, second))


# scikit-image 0.26: structural_similarity(x, y, data_range=255, channel_axis=2,
# gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True), and
# peak_signal_noise_ratio(x, y, data_range=255), on `wavy_pair`.
SKIMAGE_SSIM, SKIMAGE_SSIM_OF_ALL, SKIMAGE_PSNR = 0.9207971154544219, 0.9208220024748215, 25.5595993


def test_they_agree_with_other_implementations():
    first, second = wavy_pair()
    (found,) = psnr(second[None], first[None])
    assert found == pytest.approx(SKIMAGE_PSNR, abs=1e-6)
    assert found == pytest.approx(cv2.PSNR(first, second), abs=1e-6)
    similarity = pictures.ssim_map(second[None], first[None])
    assert pictures.ssim(similarity)[0] == pytest.approx(SKIMAGE_SSIM, abs=1e-6)
    assert similarity.mean() == pytest.approx(SKIMAGE_SSIM_OF_ALL, abs=1e-6)


def test_ssim_is_the_papers_formula():
    first, second = (picture / 255 for picture in wavy_pair())
    similarity = pictures.ssim_map(second[None], first[None])[0]
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()
    for row, column in ((5, 5), (20, 30), (34, 42)):
        of_channels = []
        for channel in range(3):
            window = np.s_[row - 5 : row + 6, column - 5 : column + 6, channel]
            x, y = first[window], second[window]
            mx, my = (weights * x).sum(), (weights * y).sum()
            vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
            cov = (weights * (x - mx) * (y - my)).sum()
            of_channels.append(
                (2 * mx * my + 1e-4) * (2 * cov + 9e-4)
                / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
            )  # fmt: skip
        assert similarity[row, column] == pytest.approx(np.mean(of_channels), abs=1e-9)


def test_psnr_of_a_known_error_in_each_frame():
    truth = np.full((3, 8, 8, 3), 100, np.uint8)
    frames = truth.copy()
    frames[1] += 51  # a fifth of the range: 13.98 dB
    frames[2, :4] += 51  # in half of the pixels: 3.01 dB more
    found = psnr(frames, truth)
    np.testing.assert_allclose(found, [np.inf, 20 * np.log10(5), 20 * np.log10(5 * 2**0.5)])
    np.testing.assert_allclose(psnr(frames / 255, truth / 255), found)


def test_only_the_region_counts():
    truth = np.full((2, 20, 20, 3), 100, np.uint8)
    frames = truth.copy()
    frames[:, 10:] = 151
    region = np.zeros((2, 20, 20), bool)
    region[0, :5] = True
    region[1, 15:] = True
    np.testing.assert_allclose(psnr(frames, truth, region), [np.inf, 20 * np.log10(5)])
    similarity = pictures.ssim_map(frames, truth)
    good, bad = pictures.ssim(similarity, region)
    assert good == pytest.approx(1)
    # Even grey against even grey: luminance is all there is.
    a, b = 100 / 255, 151 / 255
    assert bad == pytest.approx((2 * a * b + 1e-4) / (a * a + b * b + 1e-4))
    nowhere = np.zeros_like(region)
    np.testing.assert_array_equal(psnr(frames, truth, nowhere), np.inf)
    np.testing.assert_array_equal(pictures.ssim(similarity, nowhere), 1)


def test_the_noise_of_eight_bits(rng):
    exact = rng.uniform(size=(1, 64, 64, 3))
    rounded = np.round(255 * exact).astype(np.uint8)
    assert psnr(rounded, exact)[0] == pytest.approx(pictures.EIGHT_BITS, abs=0.1)


def test_flicker(rng):
    truth = rng.integers(60, 200, (40, 16, 16, 3)).astype(np.uint8)
    noise = rng.normal(0, 5, truth.shape)
    assert pictures.flicker(truth / 255 + noise / 255, truth) == pytest.approx(5, rel=0.05)
    drifting = truth / 255 + np.linspace(0, 0.2, 40)[:, None, None, None]
    assert pictures.flicker(drifting, truth) == pytest.approx(0, abs=1e-9)
    assert pictures.flicker(truth + np.uint8(9), truth) == pytest.approx(0, abs=1e-9)
    assert pictures.flicker(truth[:2], truth[:2]) == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.2), st.floats(1.2, 3))
def test_more_noise_is_worse(seed, amount, factor):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.2, 0.8, (1, 24, 24, 3))
    noise = rng.normal(0, amount, truth.shape)
    little, much = truth + noise, truth + factor * noise
    assert psnr(little, truth)[0] - psnr(much, truth)[0] == pytest.approx(20 * np.log10(factor))
    similar, less = (pictures.ssim(pictures.ssim_map(x, truth))[0] for x in (little, much))
    assert less < similar < 1
