"""Changes of layout against the layers they are for, written out in NumPy."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from eamm_jax.conversion.layouts import (
    AS_IS,
    CONVOLUTION,
    CONVOLUTION_1D,
    LINEAR,
    TRANSPOSED_CONVOLUTION,
    FlattenedKernel,
    LinearOnMap,
)

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        (AS_IS, (5,)),
        (LINEAR, (3, 4)),
        (CONVOLUTION, (4, 3, 5, 2)),
        (CONVOLUTION_1D, (4, 3, 5)),
        (TRANSPOSED_CONVOLUTION, (4, 3, 5, 2)),
        (LinearOnMap(2, 3, 4), (7, 24)),
        (FlattenedKernel(2, 3, 4), (24,)),
    ],
)
def test_shapes_are_those_of_the_arrays(layout, shape):
    array = normal(*shape)
    converted = layout.convert(array)
    assert converted.shape == layout.shape(shape)
    assert sorted(converted.ravel()) == sorted(array.ravel())


def test_convolution():
    weight, image = normal(4, 3, 3, 3), normal(3, 7, 8)
    expected = [
        sum(signal.correlate2d(image[i], weight[o, i], "valid") for i in range(3)) for o in range(4)
    ]
    layer = nn.Conv(4, (3, 3), padding=0, use_bias=False)
    kernel = CONVOLUTION.convert(weight)
    found = layer.apply({"params": {"kernel": kernel}}, image.transpose(1, 2, 0)[None])
    np.testing.assert_allclose(found[0].transpose(2, 0, 1), expected, atol=1e-4)


def test_convolution_along_one_axis():
    weight, line = normal(4, 3, 3), normal(3, 9)
    expected = [
        sum(np.correlate(line[i], weight[o, i], "valid") for i in range(3)) for o in range(4)
    ]
    layer = nn.Conv(4, (3,), padding=0, use_bias=False)
    kernel = CONVOLUTION_1D.convert(weight)
    found = layer.apply({"params": {"kernel": kernel}}, line.T[None])
    np.testing.assert_allclose(found[0].T, expected, atol=1e-4)


def test_transposed_convolution():
    # The published layer, by its definition: every input adds its kernel, stride 2 apart.
    weight, image = normal(2, 3, 4, 4), normal(2, 5, 5)
    stride, padding = 2, 1
    full = np.zeros((3, 5 * stride + 2, 5 * stride + 2))
    for row in range(5):
        for column in range(5):
            patch = np.einsum("i,iohw->ohw", image[:, row, column], weight)
            full[:, row * 2 : row * 2 + 4, column * 2 : column * 2 + 4] += patch
    expected = full[:, padding:-padding, padding:-padding]
    layer = nn.ConvTranspose(
        3, (4, 4), strides=(2, 2), padding=((2, 2), (2, 2)), use_bias=False
    )  # as in MapDecoder
    kernel = TRANSPOSED_CONVOLUTION.convert(weight)
    found = layer.apply({"params": {"kernel": jnp.asarray(kernel)}}, image.transpose(1, 2, 0)[None])
    np.testing.assert_allclose(found[0].transpose(2, 0, 1), expected, atol=1e-4)


def test_linear_layer_on_a_map():
    weight, image = normal(7, 24), normal(2, 3, 4)
    expected = weight @ image.reshape(-1)
    kernel = LinearOnMap(2, 3, 4).convert(weight)
    np.testing.assert_allclose(image.transpose(1, 2, 0).reshape(-1) @ kernel, expected, atol=1e-5)


def test_singular_vectors_follow_their_kernel():
    weight = normal(5, 2, 3, 3)
    u, s, v = np.linalg.svd(weight.reshape(5, -1), full_matrices=False)
    matrix = CONVOLUTION.convert(weight).reshape(-1, 5)  # as in SpectralConv
    right = FlattenedKernel(2, 3, 3).convert(v[0])
    np.testing.assert_allclose(right @ matrix @ u[:, 0], s[0], rtol=1e-5)
