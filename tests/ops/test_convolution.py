"""The fast convolutions equal the plain ones."""

import jax
import numpy as np
import pytest

from eamm_jax.ops.convolution import (
    conv3x3_upsampled,
    conv3x3_winograd,
    upsampled_kernel,
    winograd_kernel,
)
from eamm_jax.ops.resizing import upsample_nearest


def plain(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("shape", [(1, 4, 4, 1), (2, 8, 12, 5), (3, 16, 4, 7)])
def test_winograd_equals_the_plain_convolution(rng, shape):
    x = rng.normal(size=shape).astype(np.float32)
    kernel = rng.normal(size=(3, 3, shape[-1], 6)).astype(np.float32)
    np.testing.assert_allclose(
        conv3x3_winograd(x, winograd_kernel(kernel)), plain(x, kernel), atol=1e-4
    )


def test_winograd_refuses_sizes_that_tiles_do_not_fill():
    with pytest.raises(ValueError, match="6x8"):
        conv3x3_winograd(np.ones((1, 6, 8, 1), np.float32), np.ones((36, 1, 1), np.float32))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 4), (1, 8, 8, 3)])
def test_convolution_of_the_doubled_map_from_the_small_one(rng, shape):
    x = rng.normal(size=shape).astype(np.float32)
    kernel = rng.normal(size=(3, 3, shape[-1], 2)).astype(np.float32)
    np.testing.assert_allclose(
        conv3x3_upsampled(x, upsampled_kernel(kernel)),
        plain(upsample_nearest(x), kernel),
        atol=1e-5,
    )
