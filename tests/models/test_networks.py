"""What the networks promise beyond their numbers: shapes, sizes, dtypes, state, speed-ups."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eamm_jax.models import build
from eamm_jax.models.config import EMOTION_HEADS, published
from eamm_jax.models.emotion import DenseHead
from eamm_jax.models.layers import SpectralConv
from eamm_jax.models.presets import tiny
from eamm_jax.ops.grids import grid_sample
from eamm_jax.ops.keypoints import expression_alone
from eamm_jax.types import Keypoints
from tests.tiny import tiny_variables


@pytest.fixture(scope="module")
def model():
    config, variables = tiny_variables()
    return config, build(config), variables


def keypoints_near(rng, config, batch):
    value = rng.uniform(-0.8, 0.8, size=(batch, config.num_keypoints, 2))
    jacobian = np.eye(2) + 0.1 * rng.normal(size=(batch, config.num_keypoints, 2, 2))
    return Keypoints(value.astype(np.float32), jacobian.astype(np.float32))


@pytest.mark.parametrize("size", [128, 512])
def test_published_widths_work_at_other_resolutions(size):
    config = published().replace({"image_size": size})
    networks, feature = build(config), size // 4

    def outputs(rng):
        image = jnp.zeros((1, size, size, 3))
        detector = networks.kp_detector
        points = detector.apply(detector.init(rng, image), image)
        maps, _ = networks.audio_feature.init_with_output(
            rng, image, jnp.zeros((1, 2, 28, 12)), jnp.zeros((1, 2, 6))
        )[0]
        heard, _ = networks.kp_detector_a.init_with_output(rng, maps[:, 0])
        felt, _ = networks.emo_detector.init_with_output(rng, image, heard)
        drawn, _ = networks.generator.init_with_output(rng, image, points, heard)
        return points, maps, felt, drawn

    points, maps, felt, drawn = jax.eval_shape(outputs, jax.random.key(0))
    assert points.heatmap.shape == (1, feature - 6, feature - 6, 10)
    assert maps.shape == (1, 2, feature, feature, 35)
    assert felt.displacement.jacobian.shape == (1, 4, 2, 2)
    assert felt.logits.shape == (1, 8)
    assert drawn.prediction.shape == (1, size, size, 3)


def test_heatmaps_sum_to_one_and_values_lie_inside(model, rng):
    config, networks, variables = model
    image = rng.uniform(size=(2, 64, 64, 3)).astype(np.float32)
    points = jax.jit(networks.kp_detector.apply)(variables["kp_detector"], image)
    np.testing.assert_allclose(points.heatmap.sum((1, 2)), 1, rtol=1e-5)
    assert np.abs(points.value).max() <= 1
    assert points.jacobian.shape == (2, config.num_keypoints, 2, 2)


def test_sound_in_pieces_equals_sound_at_once(model, rng):
    _, networks, variables = model
    net = networks.audio_feature
    image = rng.uniform(size=(1, 64, 64, 3)).astype(np.float32)
    audio = rng.normal(size=(1, 6, 28, 12)).astype(np.float32)
    pose = rng.normal(size=(1, 6, 6)).astype(np.float32)
    run = jax.jit(lambda *inputs: net.apply(variables["audio_feature"], *inputs))
    whole, end = run(image, audio, pose, net.initial_state(1))
    head, state = run(image, audio[:, :3], pose[:, :3], net.initial_state(1))
    tail, last = run(image, audio[:, 3:], pose[:, 3:], state)
    np.testing.assert_allclose(np.concatenate([head, tail], axis=1), whole, atol=1e-5)
    np.testing.assert_allclose(last.cell, end.cell, atol=1e-5)


def test_portrait_encoded_once_serves_many_frames(model, rng):
    config, networks, variables = model
    net, v = networks.generator, variables["generator"]
    image = rng.uniform(size=(1, 64, 64, 3)).astype(np.float32)
    portrait, driving = keypoints_near(rng, config, 1), keypoints_near(rng, config, 2)

    @jax.jit
    def both():
        together = net.apply(v, image.repeat(2, 0), portrait, driving).prediction
        code = net.apply(v, image, method="encode")
        moved, _ = net.apply(v, code, portrait, driving, method="warp")
        return together, net.apply(v, moved, method="decode")

    together, reused = both()
    assert together.min() >= 0
    assert together.max() <= 1
    np.testing.assert_allclose(reused, together, atol=1e-5)


def test_bfloat16_computes_near_float32_and_keeps_parameters(model, rng):
    config, networks, variables = model
    half = build(config, jnp.bfloat16)
    image = rng.uniform(size=(1, 64, 64, 3)).astype(np.float32)
    exact = jax.jit(networks.kp_detector.apply)(variables["kp_detector"], image)
    rough = jax.jit(half.kp_detector.apply)(variables["kp_detector"], image)
    assert rough.value.dtype == jnp.float32
    np.testing.assert_allclose(rough.value, exact.value, atol=0.05)
    params = jax.eval_shape(half.kp_detector.init, jax.random.key(0), image)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("head", EMOTION_HEADS)
def test_every_head_moves_the_keypoints_it_says(rng, head):
    config, variables = tiny_variables(config=tiny().replace({"emotion.head": head}))
    net = build(config).emo_detector
    code = rng.normal(size=(2, config.emotion.stage_widths[-1])).astype(np.float32)
    moved = jax.eval_shape(
        lambda points: net.apply(variables["emo_detector"], code, points, method="displace"),
        keypoints_near(rng, config, 2),
    )
    assert moved.value.shape == (2, len(config.moved_keypoints), 2)
    assert moved.jacobian.shape == (2, len(config.moved_keypoints), 2, 2)


def test_the_dense_head_says_nothing_before_it_has_learned(rng):
    code = rng.normal(size=(2, 64)).astype(np.float32)
    rows, variables = DenseHead(3).init_with_output(jax.random.key(0), code)
    assert rows.shape == (2, 3, 6)
    assert not rows.any()
    assert {leaf.size for leaf in jax.tree.leaves(variables)} == {64 * 18, 18}


def test_rigid_keypoints_are_chosen_by_the_configuration(rng):
    config = tiny().replace({"emotion.head": "dense"})
    networks = [build(c).emo_detector for c in (config, config.replace({"emotion.rigid": (0, 1)}))]
    keypoints = keypoints_near(rng, config, 2)
    image = rng.uniform(size=(2, 64, 64, 3)).astype(np.float32)
    variables = networks[0].init(jax.random.key(0), image, keypoints)
    rows = variables["params"]["final_dense"]["rows"]
    rows["kernel"] = rng.normal(size=rows["kernel"].shape).astype(np.float32)
    free, bound = (n.apply(variables, image, keypoints).displacement for n in networks)
    moved = keypoints.value[:, np.array(config.emotion.keypoints)]
    np.testing.assert_array_equal(bound.value, expression_alone(free, moved, (0, 1)).value)
    assert np.abs(bound.value - free.value).max() > 0.01


def test_training_updates_statistics_and_inference_does_not(model, rng):
    _, networks, variables = model
    image = rng.uniform(size=(4, 64, 64, 3)).astype(np.float32)
    net, v = networks.kp_detector, variables["kp_detector"]
    _, updated = jax.jit(lambda x: net.apply(v, x, train=True, mutable=["batch_stats"]))(image)
    changes = jax.tree.map(
        lambda a, b: float(np.abs(a - b).max()), updated["batch_stats"], v["batch_stats"]
    )
    assert min(jax.tree.leaves(changes)) > 0


def test_spectral_norm_finds_the_largest_singular_value(rng):
    layer = SpectralConv(features=5, kernel=2)
    x = rng.normal(size=(1, 6, 6, 3)).astype(np.float32)
    variables = layer.init(jax.random.key(0), x)
    step = jax.jit(lambda v: layer.apply(v, x, train=True, mutable=["spectral_stats"])[1])
    for _ in range(100):
        variables = {**variables, **step(variables)}
    kernel = np.asarray(variables["params"]["kernel"])
    sigma = np.linalg.svd(kernel.reshape(-1, 5), compute_uv=False)[0]
    scaled = {**variables, "params": {**variables["params"], "kernel": kernel / sigma}}
    plain = jax.lax.conv_general_dilated(
        x, scaled["params"]["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(layer.apply(variables, x), plain, rtol=1e-4, atol=1e-5)


def test_discriminator_takes_keypoints_where_it_was_trained_with_them(rng):
    config = tiny().replace({"discriminator.use_keypoints": True})
    net = build(config).discriminator
    image = rng.uniform(size=(1, 64, 64, 3)).astype(np.float32)
    points = rng.uniform(-1, 1, size=(1, config.num_keypoints, 2)).astype(np.float32)
    (judged,), variables = jax.eval_shape(net.init_with_output, jax.random.key(0), [image], points)
    kernel = variables["params"]["scale_0"]["conv_0"]["kernel"]
    assert kernel.shape[2] == 3 + config.num_keypoints
    assert judged.score.shape[-1] == 1


# What smaller models gain by.

ENHANCED = tiny().replace(
    {
        "generator.dense_motion.scale": 0.5,
        "generator.dense_motion.kernel": 3,
        "generator.dense_motion.half_pixel": True,
        "generator.dense_motion.mask_radius": 0.1,
        "generator.kernel": 3,
        "generator.downs": 1,
        "generator.pixel_block": 2,
        "generator.motion_skip": True,
        "generator.blend": True,
    }
)


@pytest.fixture(scope="module")
def enhanced():
    """The generator, compiled once, and its variables."""
    variables = tiny_variables(config=ENHANCED)[1]["generator"]
    return jax.jit(build(ENHANCED).generator.apply), variables


def with_parameters(variables, **changes):
    return {**variables, "params": {**variables["params"], **changes}}


def test_with_a_shared_jacobian_all_keypoints_have_the_mean(model, rng):
    config, networks, variables = model
    shared = build(config.replace({"keypoint_detector.shared_jacobian": True}))
    image = rng.uniform(size=(2, 64, 64, 3)).astype(np.float32)
    maps = rng.normal(size=(2, config.feature_size, config.feature_size, config.feature_channels))
    for name, given in (("kp_detector", image), ("kp_detector_a", maps.astype(np.float32))):
        own, same = (
            jax.jit(getattr(which, name).apply)(variables[name], given)
            for which in (networks, shared)
        )
        np.testing.assert_array_equal(same.value, own.value)
        assert np.ptp(own.jacobian, axis=1).min() > 1e-3
        mean = np.repeat(np.mean(own.jacobian, axis=1, keepdims=True), own.value.shape[1], axis=1)
        np.testing.assert_allclose(same.jacobian, mean, atol=1e-6)


def test_an_enhanced_generator_draws_frames_of_the_same_size(enhanced, rng):
    generator, variables = enhanced
    image = rng.uniform(size=(1, 64, 64, 3)).astype(np.float32)
    there, here = keypoints_near(rng, ENHANCED, 1), keypoints_near(rng, ENHANCED, 1)
    drawn = generator(variables, image, there, here)
    assert drawn.prediction.shape == image.shape
    assert drawn.motion.deformation.shape == (1, 32, 32, 2)
    assert ((drawn.prediction >= 0) & (drawn.prediction <= 1)).all()


def test_a_blending_generator_can_return_a_portrait_that_does_not_move(enhanced, rng):
    generator, variables = enhanced
    image = rng.uniform(size=(1, 64, 64, 3)).astype(np.float32)
    still = keypoints_near(rng, ENHANCED, 1)
    kernel = np.zeros_like(variables["params"]["final"]["kernel"])
    # Channel 3 of each pixel of a block is the share of what is drawn: none.
    bias = np.tile([0, 0, 0, -100.0], 4).astype(np.float32)
    changed = with_parameters(variables, final={"kernel": kernel, "bias": bias})
    drawn = generator(changed, image, still, still)
    # But for the outermost pixels, where the motion's map is enlarged by repeating its edge.
    np.testing.assert_allclose(drawn.prediction[:, 1:-1, 1:-1], image[:, 1:-1, 1:-1], atol=1e-4)


def test_near_a_keypoint_its_motion_is_preferred_and_far_away_the_backgrounds(enhanced, rng):
    generator, variables = enhanced
    image = rng.uniform(size=(1, 64, 64, 3)).astype(np.float32)
    value = np.full((1, ENHANCED.num_keypoints, 2), -0.8, np.float32)
    value[0, 3] = 0.5, 0.25
    points = Keypoints(value, np.tile(np.eye(2, dtype=np.float32), (1, len(value[0]), 1, 1)))
    dense = variables["params"]["dense_motion"]
    flat = {**dense, "mask": jax.tree.map(np.zeros_like, dense["mask"])}
    changed = with_parameters(variables, dense_motion=flat)
    mask = np.asarray(generator(changed, image, points, points).motion.mask[0])
    assert mask[20, 24].argmax() == 4
    assert mask[20, 24, 4] > 0.9
    assert mask[20, 8].argmax() == 0
    np.testing.assert_allclose(mask.sum(axis=-1), 1, rtol=1e-5)


def test_where_a_keypoint_lies_its_own_motion_prevails_over_near_neighbours(rng):
    """Lips that part: two keypoints that are closer than the preference's radius."""
    config = ENHANCED.replace({"generator.dense_motion.mask_peak": 4.0})
    image = rng.uniform(size=(1, 64, 64, 3)).astype(np.float32)
    there = np.full((1, config.num_keypoints, 2), -0.8, np.float32)
    there[0, 3:5] = (0.25, 0.2), (0.25, 0.24)
    here = there.copy()
    here[0, 3:5, 1] = 0.14, 0.3
    upright = np.tile(np.eye(2, dtype=np.float32), (1, len(there[0]), 1, 1))
    errors = {}
    for name, model_config in (("plain", ENHANCED), ("peaked", config)):
        variables = tiny_variables(config=model_config)[1]["generator"]
        dense = variables["params"]["dense_motion"]
        flat = {**dense, "mask": jax.tree.map(np.zeros_like, dense["mask"])}
        changed = with_parameters(variables, dense_motion=flat)
        found = build(model_config).generator.apply(
            changed, image, Keypoints(there, upright), Keypoints(here, upright)
        )
        flow = grid_sample(found.motion.deformation, jnp.asarray(here[:, None, 3:5]))[0, 0]
        errors[name] = np.abs(flow - there[0, 3:5])[:, 1].max()
    assert errors["peaked"] < errors["plain"] / 4, errors
