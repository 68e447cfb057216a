"""The tables against the networks they fill and the files they read."""

from __future__ import annotations

import json
import re
import zlib

import jax
import numpy as np
import pytest

from eamm_jax.conversion import tables
from eamm_jax.conversion.contents import NETWORKS
from eamm_jax.models import Networks, build, example_inputs
from eamm_jax.models.config import ModelConfig, published
from eamm_jax.models.presets import tiny

VARIANTS = {
    "tiny": tiny(),
    "larger": tiny().replace(
        {
            "image_size": 128,
            "num_keypoints": 12,
            "audio_to_motion.lstm_layers": 1,
            "generator.downs": 3,
        }
    ),
    "other discriminator": tiny().replace(
        {
            "discriminator.scales": (1.0, 0.5),
            "discriminator.spectral_norm": False,
            "discriminator.use_keypoints": True,
            "discriminator.blocks": 3,
        }
    ),
    "other depths": tiny().replace(
        {
            "audio_to_motion.dense_widths": (32,),
            "audio_to_motion.pose_widths": (8, 8, 16),
            "emotion.keypoints": (2, 3),
            "inference.emotion_shares": (1.0, 1.0),
            "emotion.code_widths": (16, 32),
        }
    ),
}


def initial_shapes(config: ModelConfig) -> dict:
    """Shapes of the variables that the networks make for themselves."""
    made = {
        name: jax.eval_shape(net.init, jax.random.key(0), *example_inputs(config, name))
        for name, net in build(config)._asdict().items()
    }
    return {name: jax.tree.map(lambda leaf: leaf.shape, tree) for name, tree in made.items()}


@pytest.mark.parametrize("config", VARIANTS.values(), ids=list(VARIANTS))
def test_tables_fill_the_networks_exactly(config):
    for network, expected in initial_shapes(config).items():
        found = tables.variable_shapes(network, config)
        assert dict(tables.flatten(found)) == dict(tables.flatten(expected)), network


def test_networks_are_those_of_the_models():
    assert set(NETWORKS) == set(Networks._fields)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_published_name_and_place_stands_once(network):
    entries = tables.table(network, published()).entries
    assert len({entry.name for entry in entries}) == len(entries)
    assert len({entry.path for entry in entries}) == len(entries)


@pytest.mark.parametrize("network", NETWORKS)
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


def test_nesting_and_flattening():
    leaves = {("a", "b"): 1, ("a", "c", "d"): 2, ("e",): 3}
    tree = tables.nest(leaves.items())
    assert tree == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert dict(tables.flatten(tree)) == leaves


def test_the_stored_gaussian_must_be_ours():
    (rule,) = (r for r in tables.table("kp_detector", tiny()).unused if r.check)
    row = np.exp(-((np.arange(13) - 6.0) ** 2) / (2 * 1.5**2))
    kernel = np.outer(row, row) / row.sum() ** 2
    stored = np.broadcast_to(kernel, (3, 1, 13, 13)).astype(np.float32)
    assert rule.check(stored) is None
    assert "not the gaussian" in rule.check(stored * 1.01)
    assert "shape" in rule.check(stored[:, :, 1:, 1:])
