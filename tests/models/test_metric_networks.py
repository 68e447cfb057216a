"""Networks that measure against outputs of the published code on stand-in weights."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from eamm_jax import features
from eamm_jax.constants import METRIC_NETWORKS
from eamm_jax.conversion import tables
from eamm_jax.conversion.published import convert_network
from eamm_jax.evaluation.sync import as_published, mean_distances, sync_of
from eamm_jax.models import METRICS, emotion_fan
from eamm_jax.models.config import published
from eamm_jax.models.syncnet import FRAMES, ROWS
from eamm_jax.training.losses import lpips
from tests.models import metric_networks

# Of the published code's largest feature; float32 sums in another order.
PARITY = 1e-5


@pytest.fixture(scope="module")
def recorded():
    with np.load(metric_networks.RECORDED) as arrays:
        return dict(arrays)


def variables(network: str):
    entries = tables.table(network, published()).entries
    shapes = {entry.name: entry.published_shape for entry in entries}
    return convert_network(network, metric_networks.stand_ins(shapes), published())[0]


def apply(network: str, *inputs, method=None):
    module, _ = METRICS[network]
    return np.asarray(jax.jit(module.apply, static_argnames="method")(
        variables(network), *inputs, method=method
    ))  # fmt: skip


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=PARITY * np.abs(expected).max())


def test_networks_are_listed():
    assert tuple(METRICS) == METRIC_NETWORKS


@pytest.mark.slow
def test_syncnet(recorded):
    """Features within 1e-4, distances within 1e-3, and the same offset and confidence."""
    frames = metric_networks.pictures(metric_networks.FRAMES, 224, 224, seed=0) / np.float32(255)
    count = metric_networks.FRAMES - FRAMES
    lips = apply("syncnet", np.stack([frames[n : n + FRAMES] for n in range(count)]), method="lips")
    mfcc = as_published(features.speech_mfcc(metric_networks.sound() / 32768))
    rows = np.stack([mfcc[4 * n : 4 * n + ROWS] for n in range(count)]).astype(np.float32)
    sound = apply("syncnet", rows, method="sound")
    np.testing.assert_allclose(lips[:2], recorded["lips"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(sound[:2], recorded["sound"], rtol=0, atol=1e-4)
    distances = mean_distances(lips, sound, metric_networks.MAX_SHIFT)
    np.testing.assert_allclose(distances, recorded["mean_distances"], rtol=0, atol=1e-3)
    found = sync_of(distances)
    offset, distance, confidence = recorded["sync"]
    assert found.offset == offset
    assert found.distance == pytest.approx(distance, abs=1e-3)
    assert found.confidence == pytest.approx(confidence, abs=1e-3)


@pytest.mark.slow
def test_inception(recorded):
    images = metric_networks.pictures(2, 64, 80, seed=1) / np.float32(255)
    assert_close(apply("inception", images), recorded["inception"])


def test_emotion_fan(recorded):
    images = metric_networks.pictures(3, 224, 224, seed=2) / np.float32(255)
    found = apply("emotion_fan", images, method="frame_features")
    assert_close(found, recorded["fan_features"])
    assert_close(apply("emotion_fan", found, method="classify"), recorded["fan_logits"])
    assert len(emotion_fan.CLASSES) == len(recorded["fan_logits"])


@pytest.mark.parametrize(
    "network", ["lpips_alex", pytest.param("lpips_vgg", marks=pytest.mark.slow)]
)
def test_lpips(recorded, network):
    """Distances of each map, of different and of similar pictures."""
    module, values = METRICS[network][0], variables(network)
    features = [
        jax.jit(module.apply)(values, images / np.float32(255))
        for images in metric_networks.alike()
    ]
    by_map = np.stack([lpips(*([x] for x in pair)) for pair in zip(*features, strict=True)])
    np.testing.assert_allclose(by_map, recorded[network], rtol=PARITY)
