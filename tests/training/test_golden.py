"""Losses and gradients against those of the published code (`loss_*.npz`).

They were made with stored batch statistics and without augmentation, so the objectives are
applied so here. The tests read seed and media from the goldens' `meta.json`.
"""

import jax
import numpy as np
import pytest
from PIL import Image

from configs import stage0, stage1, stage1_finetune, stage2
from eamm_jax.conversion import tables
from eamm_jax.models import build
from eamm_jax.ops.thin_plate import Warp, warp_image
from eamm_jax.training.config import model_config
from eamm_jax.training.objectives import OBJECTIVES, Forward
from eamm_jax.training.objectives.base import to_float
from eamm_jax.training.objectives.emotion import EmotionInputs
from eamm_jax.training.objectives.first_order_motion import PairInputs
from eamm_jax.types import CLIP_FRAMES, POSE_NUMBERS, Clips

pytestmark = pytest.mark.slow

LOSS_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3
SMALLEST_GRADIENT = 1e-6
VANISHING_SHARE = 1e-4

# Gradients jump where the input of a ReLU changes its sign, and in millions of them some are zero
# but for rounding. What the audio network's encoders get through its decoder and LSTM moves by
# up to 6e-3 when every weight moves by its last bit; the published code in float32 differs from
# itself in float64, or on another machine, by as much. So where a norm is not the published one
# at once, the published one must lie among those that such nudges lead to.
LAST_BIT = 2.0**-23
NUDGES = 8

# Biases whose gradient is zero but for rounding, because a softmax over the map or an instance
# norm takes every constant away; what the published code computed for them says nothing. Beside
# each its kernel, for a measure of how small is small.
VANISHING = {
    "kp_detector/kp.bias": "kp_detector/kp.weight",
    "kp_detector_a/kp.bias": "kp_detector_a/kp.weight",
    **{
        f"discriminator/discs.1.down_blocks.{block}.conv.bias": (
            f"discriminator/discs.1.down_blocks.{block}.conv.weight_orig"
        )
        for block in (1, 2, 3)
    },
}


def training_frames(goldens):
    folder = goldens.media("training_clip") / "frames"
    paths = sorted(folder.glob("*.png"), key=lambda path: int(path.stem))
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])


def training_clips(goldens, golden):
    folder = goldens.media("training_clip")
    frames = training_frames(goldens)
    audio, pose = np.load(folder / "mfcc.npy"), np.load(folder / "pose.npy")
    windows = [slice(r + 1, r + 1 + CLIP_FRAMES) for r in golden["start_frames"]]
    return Clips(
        source=frames[golden["start_frames"]],
        frames=np.stack([frames[window] for window in windows]),
        audio=np.stack([audio[window, :, 1:] for window in windows]).astype(np.float32),
        pose=np.stack([pose[window, :POSE_NUMBERS] for window in windows]).astype(np.float32),
        emotion=golden["emotion"].astype(np.int32),
    )


def objective_of(config):
    networks_config = model_config(config)
    objective = OBJECTIVES[config.stage](config, networks_config)
    return objective, build(networks_config), networks_config


def losses_and_gradients(objective, networks, variables, inputs):
    """A function of the trained networks' variables, on stored statistics, and these.

    It returns the terms and gradients of the loss, and of that of the adversary.
    """
    names = objective.trained + ((objective.adversary,) if objective.adversary else ())
    frozen = {name: variables[name] for name in objective.frozen}

    @jax.jit
    def compute(learned, frozen, inputs):
        params = {name: learned[name]["params"] for name in learned}

        def forward(params):
            ours = {name: {**learned[name], "params": params[name]} for name in learned}
            return Forward(networks, {**frozen, **ours})

        def loss(params):
            terms, _, outputs = objective.losses(forward(params), inputs)
            return sum(terms.values()), (terms, outputs)

        def adversary_loss(theirs, outputs):
            name = objective.adversary
            terms = objective.adversary_losses(forward({**params, name: theirs}), outputs)
            return sum(terms.values()), terms

        gradients, (terms, outputs) = jax.grad(loss, has_aux=True)(params)
        if objective.adversary:
            gradients[objective.adversary], their_terms = jax.grad(adversary_loss, has_aux=True)(
                params[objective.adversary], outputs
            )
            terms |= their_terms
        return terms, gradients

    def of_variables(learned):
        return jax.device_get(compute(learned, frozen, inputs))

    return of_variables, {name: variables[name] for name in names}


def nudge(variables, rng):
    """Every number moved by about its last bit."""

    def move(x):
        return (np.asarray(x) * (1 + LAST_BIT * rng.normal(size=x.shape))).astype(np.float32)

    return jax.tree.map(move, variables)


def assert_losses(terms, golden, names):
    assert set(terms) == set(names)
    for name, published in names.items():
        expected = golden[f"loss/{published}"]
        np.testing.assert_allclose(terms[name], expected, rtol=LOSS_TOLERANCE, err_msg=name)
    assert {f"loss/{name}" for name in names.values()} == {k for k in golden if "loss/" in k}


def gradient_norms(gradients, networks_config):
    """By the names of the published files."""
    return {
        f"{network}/{entry.name}": np.linalg.norm(
            leaf_at(gradient, entry.path.split(".")[1:]).astype(np.float64)
        )
        for network, gradient in gradients.items()
        for entry in tables.table(network, networks_config).entries
        if entry.path.startswith("params.")
    }


def assert_gradients(ours, nudged, golden):
    """Every published gradient norm is ours, and every one of ours is published or zero.

    Args:
        ours: norms by name.
        nudged: further ones, from nudged variables; used as far as needed.
        golden: with the published norms.
    """
    published = {
        key.removeprefix("grad_norm/"): float(value)
        for key, value in golden.items()
        if key.startswith("grad_norm/")
    }
    assert published.keys() <= ours.keys()
    for name, kernel in VANISHING.items():
        if name in ours:
            assert max(ours[name], published.get(name, 0.0)) < VANISHING_SHARE * ours[kernel]

    seen = [ours]
    while wrong := {
        name: (expected, [norms[name] for norms in seen])
        for name in ours.keys() - VANISHING.keys()
        if not is_among([norms[name] for norms in seen], expected := published.get(name, 0.0))
    }:
        further = next(nudged, None)
        assert further is not None, wrong
        seen.append(further)


def is_among(norms, expected):
    """Whether a published norm lies among ours, within the tolerance."""
    low, high = min(norms) * (1 - GRADIENT_TOLERANCE), max(norms) * (1 + GRADIENT_TOLERANCE)
    return low <= expected <= high or max(expected, *norms) <= SMALLEST_GRADIENT


def assert_golden(config, golden, variables, inputs, names):
    """Losses and gradients of a stage are the published ones.

    Args:
        config: of the stage.
        golden: what was published.
        variables: of all networks.
        inputs: of the objective.
        names: of the published losses, by ours.
    """
    objective, networks, networks_config = objective_of(config)
    compute, learned = losses_and_gradients(objective, networks, variables, inputs)
    terms, gradients = compute(learned)
    assert_losses(terms, golden, names)
    rng = np.random.default_rng(0)
    nudged = (
        gradient_norms(compute(nudge(learned, rng))[1], networks_config) for _ in range(NUDGES)
    )
    assert_gradients(gradient_norms(gradients, networks_config), nudged, golden)


def leaf_at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


KEYPOINT_LOSSES = {name: f"loss_{name}" for name in ("value", "heatmap", "jacobian")}


def test_part1_is_the_golden(goldens, published_variables):
    golden = goldens.load("loss_part1.npz")
    config = stage1.get_config()
    inputs = objective_of(config)[0].inputs(training_clips(goldens, golden))
    assert_golden(config, golden, published_variables, inputs, KEYPOINT_LOSSES)


def test_part1_fine_tune_is_the_golden(goldens, published_variables):
    golden = goldens.load("loss_part1_fine_tune.npz")
    config = stage1_finetune.get_config()
    inputs = objective_of(config)[0].inputs(training_clips(goldens, golden))
    names = {**KEYPOINT_LOSSES, "perceptual": "perceptual"}
    assert_golden(config, golden, published_variables, inputs, names)


def test_part2_is_the_golden(goldens, published_variables):
    golden = goldens.load("loss_part2.npz")
    config = stage2.get_config()
    inputs = objective_of(config)[0].inputs(training_clips(goldens, golden))
    mirrored = inputs.clips.frames[:, :, :, ::-1]
    inputs = EmotionInputs(inputs.clips, mirrored)
    names = {"value": "loss_value", "jacobian": "loss_jacobian", "classification": "loss_classify"}
    assert_golden(config, golden, published_variables, inputs, names)


def test_first_order_motion_is_the_golden(goldens, published_variables):
    golden = goldens.load("loss_first_order_motion.npz")
    frames = to_float(training_frames(goldens))
    source, driving = (
        frames[np.atleast_1d(golden[f"{name}_frame"])] for name in ("source", "driving")
    )
    warp = Warp(golden["transform_theta"], golden["transform_control_params"][:, 0])
    inputs = PairInputs(source, driving, warp)
    warped = np.asarray(warp_image(warp, inputs.driving)).transpose(0, 3, 1, 2)
    expected = golden["transformed_frame_u16"] / 65535
    np.testing.assert_allclose(warped, expected, atol=2e-5)

    names = {
        "perceptual": "perceptual",
        "equivariance_value": "equivariance_value",
        "equivariance_jacobian": "equivariance_jacobian",
        "generator_gan": "gen_gan",
        "feature_matching": "feature_matching",
        "discriminator_gan": "disc_gan",
    }
    assert_golden(stage0.get_config("gan"), golden, published_variables, inputs, names)
