"""What every stage's step promises, on tiny networks."""

from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from eamm_jax.errors import UserError
from eamm_jax.training.stage import HOW_TO_GET_VGG, make_stage
from tests.tiny import tiny_variables
from tests.training.batches import MICRO, make_batch, make_clips, micro_stage, start

pytestmark = pytest.mark.slow

STAGES = {
    "stage0 with GAN": ("stage0", "tiny,gan"),
    "stage1": ("stage1", "tiny"),
    "stage1_finetune": ("stage1_finetune", "tiny"),
    "stage2": ("stage2", "tiny"),
}
TERMS = {
    "stage0 with GAN": {
        "perceptual",
        "equivariance_value",
        "equivariance_jacobian",
        "generator_gan",
        "feature_matching",
    },
    "stage1": {"value", "heatmap", "jacobian"},
    "stage1_finetune": {"value", "heatmap", "jacobian", "perceptual"},
    "stage2": {"value", "jacobian", "classification"},
}
STEPS = 12


def same(a, b):
    """Whether two trees hold the same bits."""
    return jax.tree.all(jax.tree.map(lambda x, y: bool(np.array_equal(x, y)), a, b))


@pytest.fixture(scope="module", params=STAGES)
def run(request):
    """A stage, and its states and metrics over some steps on one batch."""
    name, variant = STAGES[request.param]
    stage = micro_stage(name, variant, learning_rate=1e-3)
    batch = make_batch(name)
    chex.clear_trace_counter()  # it counts by name, and every stage's step has the same
    step = jax.jit(chex.assert_max_traces(stage.train_step, 1))  # one compilation for all steps
    states, metrics = [start(stage)], []
    for _ in range(STEPS):
        # The same key, so that the augmentation does not hide the progress.
        state, figures = step(states[-1], batch, jax.random.key(1))
        states.append(state)
        metrics.append({key: float(value) for key, value in figures.items()})
    return SimpleNamespace(
        id=request.param, stage=stage, batch=batch, step=step, states=states, metrics=metrics
    )


def test_loss_falls(run):
    losses = [figures["loss"] for figures in run.metrics]
    assert losses[-1] < 0.95 * losses[0], losses


def test_metrics_hold_every_term_and_their_sum(run):
    first, terms = run.metrics[0], TERMS[run.id]
    common = {"loss", "grad_norm", "learning_rate", "finite"}
    own = set(first) - terms - common
    assert terms | common <= set(first)
    assert own <= {"psnr", "accuracy", "discriminator_gan", "adversary_grad_norm"}
    np.testing.assert_allclose(first["loss"], sum(first[term] for term in terms), rtol=1e-5)
    assert first["finite"] == 1
    np.testing.assert_allclose(first["learning_rate"], 1e-3, rtol=1e-5)


def test_every_trained_network_changes_and_no_frozen_one(run):
    before, after = run.states[0], run.states[-1]
    assert int(after.step) == STEPS
    assert int(after.bad_steps) == 0
    assert same(before.frozen, after.frozen)
    for name, params in before.params.items():
        moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), params, after.params[name])
        assert sum(value > 0 for value in jax.tree.leaves(moved)) > 0, name
        if before.stats[name]:
            assert not same(before.stats[name], after.stats[name]), name
    assert jax.tree.structure(before) == jax.tree.structure(after)


def test_what_is_not_finite_skips_the_step(run):
    state = run.states[0]
    # Images are bytes and cannot hold such a number; a parameter can.
    name = next(iter(state.params))
    leaves, structure = jax.tree.flatten(state.params[name])
    broken = jax.tree.unflatten(structure, [leaves[0].at[...].set(jnp.nan), *leaves[1:]])
    poisoned = state._replace(params={**state.params, name: broken})
    after, metrics = run.step(poisoned, run.batch, jax.random.key(1))
    assert metrics["finite"] == 0
    assert (int(after.step), int(after.bad_steps)) == (1, 1)
    assert same(after.opt_state, state.opt_state)
    assert same(after.stats, state.stats)
    for other in set(state.params) - {name}:
        assert same(after.params[other], state.params[other])


def test_randomness_follows_from_the_key_alone(run):
    def loss(seed):
        return run.step(run.states[0], run.batch, jax.random.key(seed))[1]["loss"]

    assert loss(3) == loss(3)
    assert loss(3) != loss(4)


def test_evaluation_and_panels_have_the_shapes_the_loop_expects(run):
    metrics = jax.eval_shape(run.stage.eval_step, run.states[0], run.batch)
    assert TERMS[run.id] | {"loss"} <= set(metrics)
    assert all(value.shape == () for value in metrics.values())
    panel = jax.eval_shape(run.stage.panel, run.states[0], run.batch)
    assert panel.shape == (2, 64, 6 * 64, 3)


def test_initialisation_has_the_shapes_of_what_was_given(run):
    given = {name: tiny_variables(config=MICRO)[1][name] for name in run.stage.required}
    fresh = jax.eval_shape(lambda rng: run.stage.init(rng, given), jax.random.key(0))
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), fresh)
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), run.states[0])


# One stage stands for all.


def test_frames_that_were_not_read_are_heard_all_the_same():
    stage = micro_stage("stage2", augment=False, value_weight=1.0)
    state, batch = start(stage), make_clips()
    last = jax.jit(stage.eval_step)(state, batch._replace(frames=batch.frames[:, 4:]))
    heard_last_alone = batch._replace(
        frames=batch.frames[:, 4:], audio=batch.audio[:, 4:], pose=batch.pose[:, 4:]
    )
    without_the_past = jax.jit(stage.eval_step)(state, heard_last_alone)
    np.testing.assert_allclose(
        last["classification"], without_the_past["classification"], rtol=1e-5
    )
    assert abs(last["value"] - without_the_past["value"]) > 1e-5


@pytest.fixture(scope="module")
def plain():
    """Stage 2 without augmentation, on two clips under two emotions each.

    Batch norm sees the same in either half of the batch as in the whole.
    """
    stage = micro_stage("stage2", augment=False)
    half = make_clips()
    other = half._replace(emotion=(half.emotion + 3) % 8)
    return SimpleNamespace(
        stage=stage,
        state=start(stage),
        step=jax.jit(stage.train_step),
        evaluate=jax.jit(stage.eval_step),
        halves=(half, other),
        batch=jax.tree.map(lambda a, b: np.concatenate([a, b]), half, other),
    )


def test_bad_data_is_skipped_and_training_goes_on(plain):
    broken = plain.batch._replace(audio=np.where(np.arange(12) == 3, np.nan, plain.batch.audio))
    state, metrics = plain.step(plain.state, broken, jax.random.key(0))
    assert metrics["finite"] == 0
    assert same(state.params, plain.state.params)
    state, metrics = plain.step(state, plain.batch, jax.random.key(0))
    assert metrics["finite"] == 1
    assert (int(state.step), int(state.bad_steps)) == (2, 1)
    expected, _ = plain.step(plain.state, plain.batch, jax.random.key(0))
    assert same(state.params, expected.params)


def test_rate_falls_at_its_epochs(plain):
    later = plain.state._replace(step=jnp.int32(10 * 60))
    _, metrics = plain.step(later, plain.batch, jax.random.key(0))
    np.testing.assert_allclose(metrics["learning_rate"], 2e-5, rtol=1e-5)


def test_accumulation_and_rematerialisation_give_the_gradient_of_the_whole_batch(plain):
    # Two steps on a half each, with activations computed again, are one step on the whole.
    frugal = micro_stage("stage2", augment=False, accumulate=2, remat=("emo_detector",))
    step, state = jax.jit(frugal.train_step), start(frugal)
    before = state.params
    state, _ = step(state, plain.halves[0], jax.random.key(0))
    assert same(state.params, before)
    state, _ = step(state, plain.halves[1], jax.random.key(0))
    assert not same(state.params, before)
    expected, _ = plain.step(plain.state, plain.batch, jax.random.key(0))
    # Adam's first mean is the gradient, without what Adam makes of its scale.
    found, wanted = (optax.tree.get(s.opt_state, "mu") for s in (state, expected))
    norm = optax.tree.norm(wanted)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        # Biases before a batch norm have no gradient but rounding.
        assert np.linalg.norm(x - y) <= 1e-3 * (np.linalg.norm(y) + 1e-3 * norm)


def test_rematerialisation_is_of_the_networks_named(plain):
    arguments = (plain.state, plain.batch, jax.random.key(0))
    assert "remat" not in str(jax.make_jaxpr(plain.stage.train_step)(*arguments))
    remat = micro_stage("stage2", augment=False, remat=("emo_detector",))
    assert "remat" in str(jax.make_jaxpr(remat.train_step)(*arguments))


def test_evaluation_is_of_stored_statistics(plain):
    # So a clip's figures do not depend on its company.
    both = plain.evaluate(plain.state, plain.batch)
    halves = [
        plain.evaluate(plain.state, jax.tree.map(lambda x: np.concatenate([x, x]), half))
        for half in plain.halves
    ]
    for name, value in both.items():
        np.testing.assert_allclose(value, (halves[0][name] + halves[1][name]) / 2, rtol=1e-4)


def test_the_emotion_network_never_sees_the_mouth(plain):
    hidden = plain.batch.frames.copy()
    hidden[:, :, 45:52, 24:44] = 255  # well inside the box of the mouth
    seen, unseen = (
        plain.evaluate(plain.state, plain.batch._replace(frames=frames))
        for frames in (plain.batch.frames, hidden)
    )
    assert seen["classification"] == unseen["classification"]
    assert seen["value"] != unseen["value"]  # the teacher does


def test_bfloat16_gives_nearly_the_same_loss(plain):
    expected = plain.evaluate(plain.state, plain.batch)["loss"]
    stage = micro_stage("stage2", dtype="bfloat16")
    found = jax.jit(stage.eval_step)(plain.state, plain.batch)["loss"]
    assert found != expected
    np.testing.assert_allclose(found, expected, rtol=0.05)


@pytest.mark.parametrize(("name", "variant"), STAGES.values())
def test_bfloat16_is_computed_with_and_float32_kept(name, variant):
    stage = micro_stage(name, variant, dtype="bfloat16")
    state, batch = start(stage), make_batch(name)
    closed, shapes = jax.make_jaxpr(stage.train_step, return_shape=True)(
        state, batch, jax.random.key(0)
    )
    assert "bf16" in str(closed)
    new_state, metrics = shapes
    kept = jax.tree.leaves((new_state.params, new_state.stats, new_state.frozen, metrics))
    assert {leaf.dtype for leaf in kept} == {np.dtype(np.float32)}


# What a stage starts from.


def test_missing_networks_are_named():
    stage = micro_stage("stage2")
    given = {"kp_detector": tiny_variables(config=MICRO)[1]["kp_detector"]}
    with pytest.raises(UserError, match=r"audio_feature, kp_detector_a, generator.*init_from"):
        stage.init(jax.random.key(0), given)


def test_missing_vgg_is_answered_with_how_to_get_it():
    from configs import stage0
    from eamm_jax.training.config import model_config

    config = stage0.get_config()
    config.steps_per_epoch = 10
    stage = make_stage(config, model_config(config))
    assert stage.required == ("vgg19",)
    with pytest.raises(UserError) as caught:
        stage.init(jax.random.key(0), {})
    assert str(caught.value) == HOW_TO_GET_VGG
    assert "--vgg" in HOW_TO_GET_VGG
    assert "config.perceptual=pyramid" in HOW_TO_GET_VGG


def test_given_networks_are_used_and_others_are_fresh():
    stage = micro_stage("stage1")
    variables = tiny_variables(config=MICRO)[1]
    given = {name: variables[name] for name in (*stage.required, "kp_detector_a")}
    state = jax.jit(stage.init)(jax.random.key(0), given)
    assert same(state.params["kp_detector_a"], given["kp_detector_a"]["params"])
    kernel = state.params["audio_feature"]["decoder"]["deconv_0"]["kernel"]
    assert np.isfinite(kernel).all()
    # PyTorch's default: uniform within one over the root of its fan-in.
    height, width, _, outputs = kernel.shape
    bound = (height * width * outputs) ** -0.5
    assert 0.95 * bound < np.abs(kernel).max() < bound
    np.testing.assert_allclose(np.std(kernel), bound / np.sqrt(3), rtol=0.1)
