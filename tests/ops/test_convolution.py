"""Convolutions, by the plain forms and by those for a CPU, and their derivatives in both modes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eamm_jax.ops import convolution
from eamm_jax.ops.cpu_convolution import (
    FEW_FEATURES,
    FEW_PIXELS,
    MANY_FEATURES,
    SMALL_MAP_PIXELS,
    conv3x3_winograd,
    conv_by_rows,
    plain_conv,
)
from eamm_jax.ops.platform import map_frames
from eamm_jax.ops.resizing import upsample_nearest

# Map, side of the kernel, padding and output channels: one for each algorithm on a CPU.
CONVOLUTIONS = {
    "small": ((2, 4, 6, 5), 3, 1, 7),
    "smaller than the kernel": ((1, 2, 1, 5), 3, 1, 7),
    "tiles": ((3, 16, 12, 5), 3, 1, 7),
    "tiles of one frame": ((1, 24, 24, MANY_FEATURES), 3, 1, MANY_FEATURES),
    "no tiles of one frame": ((1, 23, 25, MANY_FEATURES), 3, 1, MANY_FEATURES),
    "no tiles": ((2, 17, 18, 5), 3, 1, 7),
    "no tiles, few pixels": ((24, 5, 6, 5), 3, 1, 7),
    "no padding": ((2, 19, 17, 3), 4, 0, FEW_FEATURES),
    "no padding, few features": ((2, 19, 17, 3), 4, 0, 2),
    "large kernel": ((2, 19, 18, 3), 7, 3, FEW_FEATURES),
    "large kernel, few features": ((2, 19, 18, 3), 7, 3, FEW_FEATURES - 1),
    "less padding than keeps the size": ((2, 19, 18, 3), 5, 1, 4),
    "1x1": ((2, 5, 4, 3), 1, 0, 2),
}


def assert_same_derivatives(found, expected, *inputs, tolerance=1e-4, floor=0.0):
    """Values, tangents and gradients, of each input alone and of all together.

    The tolerance is relative to the root mean square of each. In float32 Winograd's transforms,
    whose numbers reach 8, round 2e-5 of it away, the others less.
    """
    rng = np.random.default_rng(1)
    draw = [jnp.asarray(rng.normal(size=x.shape), x.dtype) for x in inputs]
    zeros = [jnp.zeros_like(x) for x in inputs]
    one = [[*zeros[:i], draw[i], *zeros[i + 1 :]] for i in range(len(inputs))]

    def derivatives(function):
        out, backward = jax.vjp(function, *inputs)
        tangents = [jax.jvp(function, inputs, tuple(t))[1] for t in (draw, *one)]
        cotangent = np.random.default_rng(2).normal(size=out.shape)
        return out, tangents, backward(jnp.asarray(cotangent, out.dtype))

    ours, theirs = (jax.jit(derivatives, static_argnums=0)(f) for f in (found, expected))
    chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)
    for our, their in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        our, their = our.astype(np.float32), their.astype(np.float32)
        atol = max(floor, tolerance * np.sqrt(np.mean(their**2)))
        np.testing.assert_allclose(our, their, rtol=tolerance, atol=atol)


BFLOAT16 = {"tolerance": 2e-2}
"""Two or three roundings to 8 bits."""


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    ("shape", "size", "padding", "features"), CONVOLUTIONS.values(), ids=CONVOLUTIONS
)
def test_conv_equals_xlas(rng, shape, size, padding, features, dtype):
    x = jnp.asarray(rng.normal(size=shape), dtype)
    kernel = jnp.asarray(rng.normal(size=(size, size, shape[-1], features)) / size, dtype)
    assert_same_derivatives(
        lambda x, kernel: convolution.conv(x, kernel, padding),
        lambda x, kernel: plain_conv(x, kernel, padding=padding),
        x,
        kernel,
        **(BFLOAT16 if dtype == jnp.bfloat16 else {}),
    )


def test_convolutions_above_reach_every_algorithm():
    def pixels(name):
        b, h, w, _ = CONVOLUTIONS[name][0]
        return b * h * w

    frame = "tiles of one frame", "no tiles of one frame"
    large = *frame, "tiles", "no tiles", "no tiles, few pixels"
    assert pixels("small") <= SMALL_MAP_PIXELS < min(map(pixels, large))
    _, h, w, _ = CONVOLUTIONS["no tiles, few pixels"][0]
    assert h * w <= FEW_PIXELS < pixels("large kernel") // 2


@pytest.mark.parametrize("shape", [(1, 4, 4, 1), (2, 8, 12, 5), (3, 16, 4, 7), (2, 5, 7, 3)])
def test_winograd_equals_the_plain_convolution(rng, shape):
    x = rng.normal(size=shape).astype(np.float32)
    kernel = rng.normal(size=(3, 3, shape[-1], 6)).astype(np.float32)
    np.testing.assert_allclose(
        conv3x3_winograd(x, kernel), plain_conv(x, kernel, padding=1), atol=1e-4
    )


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_convolution_by_rows_sums_in_float32(rng, dtype):
    x = jnp.asarray(rng.normal(size=(2, 5, 4, 7)), dtype)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 7, 6)), dtype)
    found = conv_by_rows(x, kernel)
    assert found.dtype == jnp.float32
    exact = plain_conv(x.astype(jnp.float32), kernel.astype(jnp.float32), padding=0)
    np.testing.assert_allclose(found, exact, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 4), (1, 8, 8, 3), (2, 20, 16, 3)])
def test_conv_upsampled_equals_upsampling_first(rng, shape, dtype):
    x = jnp.asarray(rng.normal(size=shape), dtype)
    kernel = jnp.asarray(rng.normal(size=(3, 3, shape[-1], 2)) / 3, dtype)
    assert_same_derivatives(
        convolution.conv_upsampled,
        lambda x, kernel: plain_conv(upsample_nearest(x), kernel, padding=1),
        x,
        kernel,
        **(BFLOAT16 if dtype == jnp.bfloat16 else {}),
    )


@pytest.mark.parametrize(("side", "size"), [(1, 6), (4, 4), (3, 4), (2, 2)])
def test_conv_transpose_equals_the_dilated_one(rng, side, size):
    x = rng.normal(size=(2, side, side + 1, 5)).astype(np.float32)
    kernel = rng.normal(size=(size, size, 5, 3)).astype(np.float32)

    def dilated(x, kernel):
        padding = [(size - 2, size - 2)] * 2
        return jax.lax.conv_transpose(
            x, kernel, (2, 2), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    assert_same_derivatives(convolution.conv_transpose, dilated, x, kernel)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_keypoint_head_is_two_convolutions_and_a_mean_under_heatmaps(rng, size):
    k, channels = 3, 5
    inputs = [
        rng.normal(size=shape).astype(np.float32) / size**2
        for shape in (
            (2, 9, 8, channels),
            (size, size, channels, k),
            (k,),
            (size, size, channels, 4 * k),
            (4 * k,),
        )
    ]

    def joined(heatmap, jacobian):
        return jnp.concatenate([heatmap.ravel(), jacobian.ravel()])

    def found(*inputs):
        return joined(*convolution.keypoint_head(*inputs, temperature=0.1))

    def expected(features, kernel, bias, jacobian_kernel, jacobian_bias):
        scores = plain_conv(features, kernel, padding=0) + bias
        heatmap = jax.nn.softmax(scores / 0.1, axis=(1, 2))
        maps = plain_conv(features, jacobian_kernel, padding=0) + jacobian_bias
        maps = maps.reshape(*maps.shape[:3], k, 4)
        return joined(heatmap, jnp.einsum("bhwk,bhwkj->bkj", heatmap, maps))

    # A softmax takes the bias away: what is left of its derivatives is rounding.
    assert_same_derivatives(found, expected, *inputs, floor=1e-5)


def test_map_frames_computes_the_frames_that_are_wanted(rng):
    frames = {"a": rng.normal(size=(5, 3)).astype(np.float32), "b": np.arange(5, dtype=np.float32)}

    def function(frames):
        return frames["a"] * frames["b"][:, None]

    found = jax.jit(lambda count: map_frames(function, frames, count))(np.int32(3))
    assert found.shape == (5, 3)
    np.testing.assert_array_equal(found[:3], function(frames)[:3])
    np.testing.assert_array_equal(map_frames(function, frames, 5), function(frames))


FORMS = {
    "conv": (lambda x, kernel: convolution.conv(x, kernel, 1), (2, 32, 32, 8), (3, 3, 8, 8)),
    "upsampled": (convolution.conv_upsampled, (2, 32, 32, 8), (3, 3, 8, 8)),
    "transposed": (convolution.conv_transpose, (2, 8, 8, 8), (4, 4, 8, 8)),
}


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize(("function", "x", "kernel"), FORMS.values(), ids=FORMS)
def test_accelerators_get_plain_convolutions_and_their_gradients(function, x, kernel, platform):
    def gradients(x, kernel):
        return jax.grad(lambda *args: function(*args).sum(), (0, 1))(x, kernel)

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (x, kernel)]
    program = jax.jit(gradients).trace(*shapes).lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.convolution(") == 2
    assert "dot_general" not in program
    assert "concatenate" not in program
    assert "scatter" not in program


def test_a_kernels_gradient_is_products_on_a_cpu():
    x = jnp.ones((2, 32, 32, 8))

    def gradient(kernel):
        return jax.grad(lambda kernel: convolution.conv(x, kernel, 1).sum())(kernel)

    program = jax.jit(gradient).lower(jnp.ones((3, 3, 8, 8))).as_text()
    assert "stablehlo.convolution" not in program
    assert "dot_general" in program
