"""Tables against the files they read, and changes of layout against layers written in NumPy."""

from __future__ import annotations

import json
import re
import zlib

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from eamm_jax.checkpoint import variable_shapes
from eamm_jax.constants import METRIC_NETWORKS, NETWORKS
from eamm_jax.conversion import tables
from eamm_jax.conversion.tables import (
    AS_IS,
    CONVOLUTION,
    CONVOLUTION_1D,
    LINEAR,
    TRANSPOSED_CONVOLUTION,
    Layout,
)
from eamm_jax.models.config import published
from eamm_jax.models.presets import demo, tiny

OTHER_DISCRIMINATOR = tiny().replace(
    {
        "discriminator.scales": (1.0, 0.5),
        "discriminator.spectral_norm": False,
        "discriminator.use_keypoints": True,
        "discriminator.blocks": 3,
    }
)
OTHER_DEPTHS = tiny().replace(
    {
        "audio_to_motion.dense_widths": (32,),
        "audio_to_motion.pose_widths": (8, 8, 16),
        "emotion.keypoints": (2, 3),
        "inference.emotion_shares": (1.0, 1.0),
        "emotion.code_widths": (16, 32),
    }
)
# The bundled model has other heads and skip connections than the published one.
CASES = [
    *((published(), network) for network in NETWORKS),
    *((demo(), network) for network in ("generator", "emo_detector")),
    (OTHER_DISCRIMINATOR, "discriminator"),
    *((OTHER_DEPTHS, network) for network in ("audio_feature", "emo_detector")),
]


@pytest.mark.parametrize(("config", "network"), CASES)
def test_every_published_name_and_place_stands_once(config, network):
    entries = tables.table(network, config).entries
    assert len({entry.name for entry in entries}) == len(entries)
    assert {entry.path: entry.shape for entry in entries} == variable_shapes(network, config)


@pytest.mark.parametrize(
    "network", [n for n in NETWORKS if n not in ("head_pose", "vgg16", *METRIC_NETWORKS)]
)
def test_published_names_and_shapes(shared, network):
    manifest = json.loads(zlib.decompress((shared / "reference" / "manifest.json.z").read_bytes()))
    stored = {name: tuple(rule["shape"]) for name, rule in manifest["models"][network].items()}
    table = tables.table(network, published())
    converted = {entry.name: entry.published_shape for entry in table.entries}
    assert converted.items() <= stored.items()
    for name in stored.keys() - converted.keys():
        assert any(re.fullmatch(rule.pattern, name) for rule in table.unused), name


def test_unused_rules_leave_converted_tensors_alone():
    for network in NETWORKS:
        table = tables.table(network, published())
        for entry in table.entries:
            assert not any(re.fullmatch(rule.pattern, entry.name) for rule in table.unused)


@pytest.mark.parametrize(("scale", "name"), [(1.0, "1"), (0.5, "0-5"), (0.125, "0-125")])
def test_names_of_scales(scale, name):
    assert tables.scale_name(scale) == name


def test_the_stored_gaussian_must_be_ours():
    (rule,) = (u for u in tables.table("kp_detector", tiny()).unused if u.constant is not None)
    row = np.exp(-((np.arange(13) - 6.0) ** 2) / (2 * 1.5**2))
    kernel = np.outer(row, row) / row.sum() ** 2
    stored = np.broadcast_to(kernel, (3, 1, 13, 13)).astype(np.float32)
    assert rule.problem(stored) is None
    assert "not the gaussian" in rule.problem(stored * 1.01)
    assert "not the gaussian" in rule.problem(stored[:, :, 1:, 1:])


# --- layouts ------------------------------------------------------------------------------

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
        (Layout((1, 0), map=(2, 3, 4)), (7, 24)),
        (Layout((0,), map=(2, 3, 4)), (24,)),
    ],
)
def test_shapes_are_those_of_the_arrays(layout, shape):
    array = normal(*shape)
    converted = layout.convert(array)
    assert layout.published_shape(converted.shape) == shape
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
    kernel = Layout((1, 0), map=(2, 3, 4)).convert(weight)
    np.testing.assert_allclose(image.transpose(1, 2, 0).reshape(-1) @ kernel, expected, atol=1e-5)


def test_singular_vectors_follow_their_kernel():
    weight = normal(5, 2, 3, 3)
    u, s, v = np.linalg.svd(weight.reshape(5, -1), full_matrices=False)
    matrix = CONVOLUTION.convert(weight).reshape(-1, 5)  # as in SpectralConv
    right = Layout((0,), map=(2, 3, 3)).convert(v[0])
    np.testing.assert_allclose(right @ matrix @ u[:, 0], s[0], rtol=1e-5)
