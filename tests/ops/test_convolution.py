"""The convolutions by other algorithms equal the plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eamm_jax.ops.convolution import (
    FEW_FEATURES,
    FEW_PIXELS,
    SMALL_MAP_PIXELS,
    conv,
    conv3x3_by_rows,
    conv3x3_product,
    conv3x3_upsampled,
    conv3x3_winograd,
    conv_unfolded,
    pooled_conv,
    transposed_conv,
    unfold_rows,
    upsampled_kernel,
    winograd_kernel,
)
from eamm_jax.ops.resizing import upsample_nearest


def plain(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


# Map, side of the kernel, padding and output channels: one for each way it is done on a CPU.
CONVOLUTIONS = {
    "small": ((2, 4, 6, 5), 3, 1, 7),
    "smaller than the kernel": ((1, 2, 1, 5), 3, 1, 7),
    "tiles": ((3, 16, 12, 5), 3, 1, 7),
    "no tiles": ((2, 17, 18, 5), 3, 1, 7),
    "no tiles, few pixels": ((24, 5, 6, 5), 3, 1, 7),
    "no padding": ((2, 19, 17, 3), 4, 0, FEW_FEATURES),
    "no padding, few features": ((2, 19, 17, 3), 4, 0, 2),
    "large kernel": ((2, 19, 18, 3), 7, 3, FEW_FEATURES),
    "large kernel, few features": ((2, 19, 18, 3), 7, 3, FEW_FEATURES - 1),
    "less padding than keeps the size": ((2, 19, 18, 3), 5, 1, 4),
    "1x1": ((2, 5, 4, 3), 1, 0, 2),
}


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    ("shape", "size", "padding", "features"), CONVOLUTIONS.values(), ids=CONVOLUTIONS
)
def test_convolution_and_its_gradients_are_those_of_xla(rng, shape, size, padding, features, dtype):
    x = jnp.asarray(rng.normal(size=shape), dtype)
    kernel = jnp.asarray(rng.normal(size=(size, size, shape[-1], features)), dtype)

    def of_xla(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), ((padding,) * 2,) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    expected, backward = jax.vjp(of_xla, x, kernel)
    found, our_backward = jax.vjp(lambda x, kernel: conv(x, kernel, padding), x, kernel)
    assert found.dtype == dtype
    grad = jnp.asarray(rng.normal(size=expected.shape), dtype)
    for ours, theirs in zip((found, *our_backward(grad)), (expected, *backward(grad)), strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(
            ours.astype(np.float32), theirs.astype(np.float32), rtol=1e-4, atol=2e-4
        )


def test_convolutions_above_are_done_in_all_ways():
    def pixels(name):
        b, h, w, _ = CONVOLUTIONS[name][0]
        return b * h * w

    large = "tiles", "no tiles", "no tiles, few pixels"
    assert pixels("small") <= SMALL_MAP_PIXELS < min(map(pixels, large))
    _, h, w, _ = CONVOLUTIONS["no tiles, few pixels"][0]
    assert h * w <= FEW_PIXELS < pixels("large kernel") // 2


def test_gradient_of_a_convolution_is_no_convolution_of_the_whole_map_on_a_cpu():
    x = jnp.ones((2, 32, 32, 8))
    kernel = jnp.ones((3, 3, 8, 8))

    def gradient(kernel):
        return jax.grad(lambda kernel: conv(x, kernel, 1).sum())(kernel)

    program = jax.jit(gradient).lower(kernel).as_text()
    assert "stablehlo.convolution" not in program
    on_gpu = jax.jit(gradient).trace(kernel).lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.convolution" in on_gpu
    assert "dot_general" not in on_gpu


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


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 2, 2, 7), (3, 4, 5, 2)])
def test_one_product_equals_the_plain_convolution(rng, shape):
    x = rng.normal(size=shape).astype(np.float32)
    kernel = rng.normal(size=(3, 3, shape[-1], 6)).astype(np.float32)
    np.testing.assert_allclose(conv3x3_product(x, kernel), plain(x, kernel), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_convolution_by_rows_equals_the_plain_one_and_sums_in_float32(rng, dtype):
    x = jnp.asarray(rng.normal(size=(2, 5, 4, 7)), dtype)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 7, 6)), dtype)
    found = conv3x3_by_rows(x, kernel)
    assert found.dtype == jnp.float32
    exact = plain(x.astype(jnp.float32), kernel.astype(jnp.float32))
    np.testing.assert_allclose(found, exact, atol=1e-5)
    small = upsampled_kernel(kernel.astype(jnp.float32)).astype(dtype)
    doubled = conv3x3_upsampled(x, small)
    exact = conv3x3_upsampled(x.astype(jnp.float32), small.astype(jnp.float32))
    np.testing.assert_allclose(doubled, exact, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 4), (1, 8, 8, 3)])
def test_convolution_of_the_doubled_map_from_the_small_one(rng, shape):
    x = rng.normal(size=shape).astype(np.float32)
    kernel = rng.normal(size=(3, 3, shape[-1], 2)).astype(np.float32)
    np.testing.assert_allclose(
        conv3x3_upsampled(x, upsampled_kernel(kernel)),
        plain(upsample_nearest(x), kernel),
        atol=1e-5,
    )


@pytest.mark.parametrize(("side", "size"), [(1, 6), (4, 4), (3, 4), (2, 2)])
def test_transposed_convolution_equals_the_dilated_one(rng, side, size):
    x = rng.normal(size=(2, side, side + 1, 5)).astype(np.float32)
    kernel = rng.normal(size=(size, size, 5, 3)).astype(np.float32)

    def dilated(x, kernel):
        padding = [(size - 2, size - 2)] * 2
        return jax.lax.conv_transpose(
            x, kernel, (2, 2), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    np.testing.assert_allclose(transposed_conv(x, kernel), dilated(x, kernel), atol=1e-5)
    assert_same_gradients(transposed_conv, dilated, x, kernel)


def test_transposed_convolution_refuses_odd_kernels():
    with pytest.raises(ValueError, match="3x3"):
        transposed_conv(np.ones((1, 2, 2, 1), np.float32), np.ones((3, 3, 1, 1), np.float32))


def valid(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("size", [1, 3, 7])
def test_unfolded_convolution_equals_the_plain_one(rng, size):
    x = rng.normal(size=(2, 9, 8, 5)).astype(np.float32)
    kernel = rng.normal(size=(size, size, 5, 3)).astype(np.float32)

    def unfolded(x, kernel):
        return conv_unfolded(unfold_rows(x, size), kernel)

    np.testing.assert_allclose(unfolded(x, kernel), valid(x, kernel), atol=1e-4)
    assert_same_gradients(unfolded, valid, x, kernel)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_pooled_convolution_is_the_weighted_sum_of_the_plain_one(rng, size):
    x = rng.normal(size=(2, 9, 8, 5)).astype(np.float32)
    weights = rng.uniform(size=(2, 10 - size, 9 - size, 3)).astype(np.float32)
    kernel = (rng.normal(size=(size, size, 5, 3, 4)) / size**2).astype(np.float32)

    def pooled(x, weights, kernel):
        return pooled_conv(unfold_rows(x, size), weights, kernel)

    def summed(x, weights, kernel):
        maps = valid(x, kernel.reshape(size, size, 5, 12))
        return jnp.einsum("bhwk,bhwkj->bkj", weights, maps.reshape(*maps.shape[:3], 3, 4))

    inputs = (x, weights, kernel)
    np.testing.assert_allclose(pooled(*inputs), summed(*inputs), atol=1e-4)
    assert_same_gradients(pooled, summed, *inputs)


def assert_same_gradients(found, expected, *inputs):
    def gradients(function):
        everywhere = tuple(range(len(inputs)))
        return jax.grad(lambda *x: jnp.sum(jnp.sin(function(*x))), everywhere)(*inputs)

    for ours, theirs in zip(gradients(found), gradients(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)
