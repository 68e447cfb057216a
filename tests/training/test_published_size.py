"""All stages take steps at the published size, on the one real clip and the stand-in weights."""

import importlib
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from eamm_jax.checkpoint import load_networks
from eamm_jax.input_pipeline import Source, make_dataset
from eamm_jax.training.config import model_config
from eamm_jax.training.stage import make_stage
from tests.published_layout import lay_out_lrw_clip

pytestmark = pytest.mark.exhaustive

STEPS = 2
STAGES = {
    "stage0": ("stage0", "gan"),
    "stage1": ("stage1", ""),
    "stage1_finetune": ("stage1_finetune", ""),
    "stage2": ("stage2", ""),
}


@pytest.fixture(scope="module")
def clip(shared, tmp_path_factory):
    return lay_out_lrw_clip(shared, tmp_path_factory.mktemp("clip"))


def batches(clip, stage):
    dataset = make_dataset(
        [Source("lrw", str(clip))],
        batch_size=1,
        size=256,
        batch_of="pairs" if stage == "stage0" else "clips",
        validation_fraction=0.0,
        threads=1,
    )
    rows = [next(dataset)[0] for _ in range(STEPS)]
    dataset.close()
    if stage == "stage2":  # the clip has no label: it is taken to be of somebody happy
        rows = [row._replace(emotion=np.array([4], np.int32)) for row in rows]
    return rows


# The goldens check losses and gradients of all stages at this size.
@pytest.fixture(scope="module", params=STAGES)
def run(request, clip, published_checkpoint):
    name, variant = STAGES[request.param]
    config = importlib.import_module(f"configs.{name}").get_config(variant)
    config.update({"batch_size": 1, "steps_per_epoch": 1000})
    stage = make_stage(config, model_config(config))
    given = load_networks(published_checkpoint)[1]
    state = jax.jit(stage.init)(jax.random.key(0), given)
    before = {name: np.asarray(jax.tree.leaves(tree)[0]) for name, tree in state.params.items()}
    step = jax.jit(stage.train_step, donate_argnums=0)
    metrics = []
    for batch in batches(clip, name):
        state, figures = step(state, batch, jax.random.key(len(metrics)))
        metrics.append({key: float(value) for key, value in figures.items()})
    return SimpleNamespace(before=before, state=state, metrics=metrics, given=given)


def test_it_steps(run):
    assert int(run.state.step) == STEPS
    assert int(run.state.bad_steps) == 0
    for figures in run.metrics:
        assert all(np.isfinite(value) for value in figures.values())
        assert figures["loss"] > 0
        assert figures["grad_norm"] > 0
    for name, leaf in run.before.items():
        after = jax.tree.leaves(run.state.params[name])[0]
        assert np.abs(np.asarray(after) - leaf).max() > 0, name


def test_what_is_frozen_stays_as_it_was_given(run):
    for name, variables in run.state.frozen.items():
        same = jax.tree.map(np.array_equal, variables, run.given[name])
        assert jax.tree.all(same), name
