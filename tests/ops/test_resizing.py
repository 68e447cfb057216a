"""Changes of resolution, against SciPy."""

import numpy as np
import pytest
from scipy.ndimage import correlate1d

from eamm_jax.ops.resizing import (
    antialias_downsample,
    blocks_to_pixels,
    gaussian_kernel,
    pixels_to_blocks,
    resize_bilinear,
    scale_sigma,
    upsample_nearest,
)


@pytest.mark.parametrize(("scale", "sigma"), [(0.5, 1.5), (0.25, 1.5), (0.125, 3.5)])
def test_antialiasing_is_a_gaussian_blur_then_every_nth_pixel(rng, scale, sigma):
    image = rng.uniform(size=(2, 48, 32, 3)).astype(np.float32)
    kernel = gaussian_kernel(sigma)
    assert len(kernel) == 2 * round(4 * sigma) + 1
    blurred = image.astype(np.float64)
    for axis in (1, 2):
        blurred = correlate1d(blurred, kernel, axis=axis, mode="constant")
    step = int(1 / scale)
    expected = blurred[:, ::step, ::step]
    np.testing.assert_allclose(antialias_downsample(image, scale, sigma=sigma), expected, atol=1e-6)


def test_the_parent_models_sigma_grows_as_the_scale_shrinks():
    assert [scale_sigma(s) for s in (1, 0.5, 0.25, 0.125)] == [0, 0.5, 1.5, 3.5]


def test_full_size_is_the_image_itself(rng):
    image = rng.uniform(size=(1, 16, 16, 3)).astype(np.float32)
    assert antialias_downsample(image, 1) is image
    assert antialias_downsample(image, 0.5).shape == (1, 8, 8, 3)


def test_bilinear_enlargement_by_hand():
    line = np.array([0.0, 4.0], np.float32).reshape(1, 1, 2, 1)
    # Half-pixel aligned: centres at 1/4 and 3/4 of the small pixels, edges repeated.
    np.testing.assert_allclose(resize_bilinear(line, 1, 4).ravel(), [0, 1, 3, 4])
    assert resize_bilinear(line, 1, 2) is line


def test_nearest_doubling_repeats_every_pixel():
    image = np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1)
    expected = np.kron(image[0, :, :, 0], np.ones((2, 2)))
    np.testing.assert_array_equal(upsample_nearest(image)[0, :, :, 0], expected)


def test_blocks_of_pixels_and_back(rng):
    image = rng.uniform(size=(2, 6, 4, 3)).astype(np.float32)
    blocks = np.asarray(pixels_to_blocks(image, 2))
    assert blocks.shape == (2, 3, 2, 12)
    np.testing.assert_array_equal(blocks[1, 2, 1], image[1, 4:6, 2:4].ravel())
    np.testing.assert_array_equal(blocks_to_pixels(blocks, 2), image)
    np.testing.assert_array_equal(pixels_to_blocks(image, 1), image)
