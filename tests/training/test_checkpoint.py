"""Checkpoints: what was saved comes back, on other devices too, and bad ones are named."""

from __future__ import annotations

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from eamm_jax.errors import UserError
from eamm_jax.training.checkpoint import FOLDER, Checkpoints, Saved
from eamm_jax.training.distributed import make_placement
from eamm_jax.training.stage import TrainState


def make_state(width: int = 3) -> TrainState:
    params = {"generator": {"kernel": jnp.arange(4.0 * width).reshape(4, width)}}
    return TrainState(
        step=jnp.int32(7),
        params=params,
        stats={"generator": {}},
        opt_state=optax.chain(optax.clip(1.0), optax.adam(1e-3)).init(params),
        frozen={"kp_detector": {"params": {"bias": jnp.ones(2)}}},
        bad_steps=jnp.int32(1),
    )


@pytest.fixture
def placement():
    return make_placement()


@pytest.fixture
def saved(placement):
    make = jax.jit(lambda: (make_state(), jax.random.key(3)), out_shardings=placement.replicated)
    state, rng = make()
    return Saved(state, rng, {"step": 7, "skipped": {"a": "b"}})


@pytest.fixture
def checkpoints(tmp_path):
    opened = Checkpoints(tmp_path, keep_last=2, keep_best=1)
    yield opened
    opened.close()


def restore(checkpoints, placement, step, state=None) -> Saved:
    abstract = placement.abstract(jax.eval_shape(lambda: state or make_state()))
    key = placement.abstract(jax.eval_shape(lambda: jax.random.key(0)))
    frozen = jax.device_put(make_state().frozen, placement.replicated)
    return checkpoints.restore(step, abstract, key, frozen)


def test_what_was_saved_comes_back(checkpoints, placement, saved):
    assert checkpoints.latest is None
    checkpoints.save(7, saved, {"stage": "stage1", "scales": [1, 0.5]})
    checkpoints.wait()
    assert checkpoints.latest == 7
    assert checkpoints.config(7) == {"stage": "stage1", "scales": [1, 0.5]}
    restored = restore(checkpoints, placement, 7)
    assert restored.position == saved.position
    assert jax.tree.structure(restored.state) == jax.tree.structure(saved.state)
    jax.tree.map(np.testing.assert_array_equal, restored.state, saved.state)
    assert jnp.all(jax.random.key_data(restored.rng) == jax.random.key_data(saved.rng))
    assert all(x.sharding == placement.replicated for x in jax.tree.leaves(restored.state))


def test_frozen_networks_are_not_written(checkpoints, saved, tmp_path):
    large = {"vgg19": {"params": {"kernel": jax.random.normal(jax.random.key(0), (1000, 1000))}}}
    checkpoints.save(7, saved._replace(state=saved.state._replace(frozen=large)), {})
    checkpoints.wait()
    written = sum(path.stat().st_size for path in (tmp_path / FOLDER).rglob("*") if path.is_file())
    assert written < 1_000_000


def test_saving_does_not_wait_for_the_disk_yet_keeps_what_is_donated_afterwards(
    checkpoints, placement, saved
):
    double = jax.jit(lambda state: jax.tree.map(lambda x: 2 * x, state), donate_argnums=0)
    expected = np.array(saved.state.params["generator"]["kernel"])
    checkpoints.save(1, saved, {})
    state = double(saved.state)
    jax.block_until_ready(state)
    checkpoints.wait()
    np.testing.assert_array_equal(
        restore(checkpoints, placement, 1).state.params["generator"]["kernel"], expected
    )


def test_the_newest_and_the_best_are_kept(checkpoints, saved):
    losses = {1: None, 2: 3.0, 3: None, 4: 1.0, 5: float("nan"), 6: 2.0, 7: None, 8: 4.0}
    for step, loss in losses.items():
        checkpoints.save(step, saved, {}, None if loss is None else {"loss": loss, "psnr": step})
    checkpoints.wait()
    assert checkpoints.steps == [4, 7, 8]
    assert checkpoints.best_metrics == {"loss": 1.0, "psnr": 4}


def test_the_best_is_known_after_a_restart(checkpoints, saved, tmp_path):
    checkpoints.save(1, saved, {}, {"loss": 1.0})
    checkpoints.close()
    again = Checkpoints(tmp_path, keep_last=1, keep_best=1)
    for step in (2, 3):
        again.save(step, saved, {}, {"loss": 5.0})
    again.wait()
    assert again.steps == [1, 3]
    again.close()


def test_saving_a_step_twice_changes_nothing(checkpoints, placement, saved):
    checkpoints.save(1, saved, {"first": True})
    checkpoints.save(1, saved, {"first": False})
    checkpoints.wait()
    assert checkpoints.config(1) == {"first": True}


def test_what_a_kill_left_unfinished_is_not_a_checkpoint(checkpoints, saved, tmp_path):
    checkpoints.save(3, saved, {})
    checkpoints.close()
    (complete,) = (tmp_path / FOLDER).iterdir()
    unfinished = tmp_path / FOLDER / "4.orbax-checkpoint-tmp"
    shutil.copytree(complete, unfinished)
    shutil.rmtree(unfinished / "state")
    again = Checkpoints(tmp_path, keep_last=2, keep_best=1)
    assert again.steps == [3]
    assert not unfinished.exists()
    again.close()


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (make_state(width=5), r"params/generator/kernel is float32 \[4, 3\] there and .*\[4, 5\]"),
        (
            make_state()._replace(stats={"generator": {"mean": jnp.zeros(2)}}),
            "stats/generator/mean is absent there",
        ),
    ],
)
def test_another_structure_is_said_in_words(checkpoints, placement, saved, state, words):
    checkpoints.save(1, saved, {})
    checkpoints.wait()
    with pytest.raises(UserError, match=words) as refusal:
        restore(checkpoints, placement, 1, state)
    assert "\n" not in str(refusal.value)
