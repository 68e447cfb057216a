"""What accelerators get: plain convolutions, and coordinates at full precision.

Programs are lowered for platforms that are not here; shapes are abstract, so nothing is computed.
"""

import functools
import re
from collections import Counter

import jax
import jax.numpy as jnp
import pytest

from eamm_jax.models import build, example_inputs
from eamm_jax.models.config import published
from eamm_jax.models.dense_motion import sparse_motions
from eamm_jax.ops.convolution import keypoint_head
from eamm_jax.ops.keypoints import heatmap_to_value, relative_keypoints
from eamm_jax.ops.thin_plate import Warp, warp_jacobian, warp_points
from eamm_jax.types import Keypoints

CONFIG = published()

# Products other than those with kernels of rank 2: two for the antialiasing, soft-argmax and the
# Jacobians of a head; in the dense motion network J_source J_driving^-1, each keypoint's motion and
# their weighted sum; two for each spectral norm.
OTHER_PRODUCTS = {
    "kp_detector": 4,
    "kp_detector_a": 2,
    "generator": 5,
    "discriminator": 10,
    "audio_feature": 0,
    "emo_detector": 2,
    "vgg19": 0,
    "vgg16": 0,
}


def operations(text):
    return Counter(re.findall(r"stablehlo\.(\w+)", text))


@functools.cache
def abstract(network):
    """Variables and inputs, by shape: those of every dtype."""
    inputs = jax.eval_shape(lambda: example_inputs(CONFIG, network))
    init = getattr(build(CONFIG), network).init
    return jax.eval_shape(init, jax.random.key(0), *inputs), inputs


@functools.cache
def traced(network, dtype):
    """A network, traced once for all platforms."""
    variables, inputs = abstract(network)
    return jax.jit(getattr(build(CONFIG, dtype), network).apply).trace(variables, *inputs)


def text_for(trace, platform):
    return trace.lower(lowering_platforms=(platform,)).as_text()


def kernels(variables, rank):
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    names = [(path[-1].key, leaf.ndim) for path, leaf in leaves]
    return sum(name.endswith("kernel") and rank(ndim) for name, ndim in names)


def used(network, variables):
    """Parameters of layers: of the emotion network's heads one; LPIPS multiplies by its shares."""
    unused = {"emo_detector": ("keypoint_raw", "final_all"), "vgg16": ("shares",)}.get(network, ())
    params = {k: v for k, v in variables["params"].items() if not k.startswith(unused)}
    return {**variables, "params": params}


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("network", OTHER_PRODUCTS)
def test_networks_lower_to_plain_convolutions(network, dtype, platform):
    text = text_for(traced(network, dtype), platform)
    found, layers = operations(text), used(network, abstract(network)[0])
    assert found["convolution"] == kernels(layers, lambda ndim: ndim > 2)
    assert found["dot_general"] == kernels(layers, lambda ndim: ndim == 2) + OTHER_PRODUCTS[network]
    assert found["scatter"] == 0
    assert_no_unfolding(text)


@functools.cache
def traced_gradients(network, dtype):
    variables, inputs = abstract(network)
    stats = {name: tree for name, tree in variables.items() if name != "params"}
    module = getattr(build(CONFIG, dtype), network)

    def loss(params, stats, inputs):
        outputs = module.apply({"params": params, **stats}, *inputs)
        return sum(jnp.sum(x.astype(jnp.float32)) for x in jax.tree.leaves(outputs))

    return jax.jit(jax.grad(loss)).trace(variables["params"], stats, inputs)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("network", OTHER_PRODUCTS)
def test_gradients_lower_to_plain_convolutions(network, dtype, platform):
    text = text_for(traced_gradients(network, dtype), platform)
    layers = used(network, abstract(network)[0])
    found, count = operations(text), kernels(layers, lambda ndim: ndim > 2)
    # Each convolution, its kernel's gradient and, but for the first, its input's.
    assert 2 * count <= found["convolution"] <= 3 * count
    if network != "generator":  # whose sampling of the source features has scatters as gradients
        assert found["scatter"] == 0
    assert_no_unfolding(text)


def assert_no_unfolding(text):
    """No map is laid beside shifted copies of itself."""
    for line in text.splitlines():
        if "stablehlo.concatenate" in line:
            operands = line.split("concatenate")[1].split(",")
            maps = [part for part in operands if part.strip().startswith("%")]
            shape = re.findall(r"-> tensor<([\dx]+)x[a-z]", line)[0].split("x")
            assert len(maps) <= 2 or len(shape) < 4, line


def keypoints(batch, k=CONFIG.num_keypoints):
    return Keypoints(jnp.ones((batch, k, 2)), jnp.ones((batch, k, 2, 2)))


WARP = Warp(jnp.ones((1, 2, 3)), jnp.ones((1, 25)))

COORDINATES = {
    "soft-argmax": lambda: heatmap_to_value(jnp.ones((1, 5, 5, 3))),
    "keypoint head": lambda: keypoint_head(
        jnp.ones((1, 9, 9, 5)),
        jnp.ones((3, 3, 5, 2)),
        jnp.ones(2),
        jnp.ones((3, 3, 5, 8)),
        jnp.ones(8),
        0.1,
    ),
    "sampling grids": lambda: sparse_motions(keypoints(1), keypoints(1), 4, 4),
    "relative motion": lambda: relative_keypoints(keypoints(1), keypoints(1), keypoints(1)),
    "thin plate": lambda: warp_points(WARP, jnp.ones((1, 7, 2))),
    "its Jacobian": lambda: warp_jacobian(WARP, jnp.ones((1, 7, 2))),
}


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("function", COORDINATES.values(), ids=COORDINATES)
def test_coordinates_are_computed_at_full_precision(function, platform):
    text = text_for(jax.jit(function).trace(), platform)
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert products
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products), products


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_dense_motion_is_computed_at_full_precision(platform):
    text = text_for(traced("generator", "bfloat16"), platform)
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert len(products) == OTHER_PRODUCTS["generator"]
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products), products
