"""Networks that a run starts from, and the model that it keeps up to date in the background."""

from __future__ import annotations

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eamm_jax import checkpoint
from eamm_jax.errors import UserError
from eamm_jax.models.presets import tiny
from eamm_jax.training import networks
from eamm_jax.training.networks import Given, ModelWriter
from eamm_jax.training.stage import TrainState


def make_state(value: float = 1.0) -> TrainState:
    frozen = {"kp_detector": {"params": {"bias": jnp.full(2, 5.0)}}}
    params = {"generator": {"kernel": jnp.full((2, 2), value)}}
    stats = {"generator": {"batch_stats": {"mean": jnp.full(2, -value)}}}
    return TrainState(jnp.int32(0), params, stats, (), frozen, jnp.int32(0))


GIVEN = {
    "kp_detector": {"params": {"bias": jnp.full(2, 5.0)}},
    "generator": {"params": {"kernel": jnp.zeros((2, 2))}},
    "emo_detector": {"params": {"bias": jnp.full(3, 7.0)}},
}


@pytest.fixture
def saved(monkeypatch):
    """What was written, in order; nothing touches the disk."""
    calls = []

    def record(folder, config, variables, **options):
        calls.append((folder, variables, options["provenance"]))

    monkeypatch.setattr(networks, "save_networks", record)
    return calls


@pytest.fixture
def writer(tmp_path, saved):
    opened = ModelWriter(tmp_path, tiny(), make_state(), GIVEN, {"stage": "stage0", "from": None})
    yield opened
    opened.close()


def test_every_network_is_written_with_its_provenance(writer, saved, tmp_path):
    writer.save(make_state(2.0), 3, {"loss": 0.5})
    writer.wait()
    ((folder, variables, provenance),) = saved
    assert folder == tmp_path / "model"
    assert variables.keys() == GIVEN.keys()
    np.testing.assert_array_equal(variables["generator"]["params"]["kernel"], np.full((2, 2), 2.0))
    np.testing.assert_array_equal(variables["generator"]["batch_stats"]["mean"], [-2.0, -2.0])
    np.testing.assert_array_equal(variables["emo_detector"]["params"]["bias"], np.full(3, 7.0))
    assert provenance["kind"] == "training"
    assert (provenance["stage"], provenance["step"]) == ("stage0", 3)
    assert provenance["validation"] == {"loss": 0.5}


def test_the_state_may_be_donated_while_it_is_written(writer, saved, monkeypatch):
    donated = threading.Event()

    def wait_then_record(folder, config, variables, **options):
        assert donated.wait(20)
        saved.append(np.array(variables["generator"]["params"]["kernel"]))

    monkeypatch.setattr(networks, "save_networks", wait_then_record)
    state = make_state(2.0)
    writer.save(state, 1)
    double = jax.jit(lambda s: jax.tree.map(lambda x: 2 * x, s), donate_argnums=0)
    jax.block_until_ready(double(state))
    donated.set()
    writer.wait()
    np.testing.assert_array_equal(saved[0], np.full((2, 2), 2.0))


def test_a_write_that_failed_is_reported_at_the_next_save(writer, monkeypatch):
    def fail(*_, **__):
        raise UserError("Cannot write model: no space left on device")

    monkeypatch.setattr(networks, "save_networks", fail)
    writer.save(make_state(), 1)
    with pytest.raises(UserError, match="no space left"):
        writer.save(make_state(), 2)
    writer.wait()  # it was reported once


def test_what_a_kill_left_is_removed_where_a_complete_model_is(tmp_path, saved):
    left_over = tmp_path / ".model.1234"
    left_over.mkdir()
    ModelWriter(tmp_path, tiny(), make_state(), GIVEN, {}).close()
    assert left_over.is_dir()  # the only copy there is, between two renames
    (tmp_path / "model").mkdir()
    ModelWriter(tmp_path, tiny(), make_state(), GIVEN, {}).close()
    assert not left_over.exists()


def test_nothing_given():
    given = Given(None)
    assert given.provenance == {}
    assert given.load(tiny(), (), jax.sharding.SingleDeviceSharding(jax.devices()[0])) == {}


def test_given_networks_are_placed_and_their_provenance_is_known(tmp_path):
    shapes = checkpoint.variable_shapes("kp_detector_a", tiny())
    head = checkpoint.nest({path: np.ones(shape, np.float32) for path, shape in shapes.items()})
    provenance = {"kind": "conversion"}
    checkpoint.save_networks(
        tmp_path / "model", tiny(), {"kp_detector_a": head}, provenance=provenance
    )
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    given = Given(tmp_path)  # a work directory
    assert given.provenance == provenance
    loaded = given.load(tiny(), (), sharding)
    for leaf in jax.tree.leaves(loaded):
        assert isinstance(leaf, jax.Array)
        assert leaf.sharding == sharding
