"""Losses and gradients of a stage, to be compared with those of the published code.

The goldens were made with stored batch statistics and without augmentation, so the objectives
are applied so here.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from eamm_jax.constants import CLIP_FRAMES, POSE_NUMBERS
from eamm_jax.conversion import tables
from eamm_jax.models import build
from eamm_jax.ops.thin_plate import Warp
from eamm_jax.training.config import model_config
from eamm_jax.training.objectives import OBJECTIVES, Forward
from eamm_jax.training.objectives.base import to_float
from eamm_jax.training.objectives.emotion import EmotionInputs
from eamm_jax.training.objectives.first_order_motion import PairInputs
from eamm_jax.types import Clips
from tests.conftest import FLOAT64_COMPILE, Goldens

KEYPOINT_LOSSES = {name: f"loss_{name}" for name in ("value", "heatmap", "jacobian")}


class Stage(NamedTuple):
    """A configuration, its variant, the file of its goldens, and their losses by our names."""

    config: str
    variant: str
    file: str
    losses: dict[str, str]


STAGES = {
    "part 1": Stage("stage1", "", "loss_part1.npz", KEYPOINT_LOSSES),
    "part 1 fine-tune": Stage(
        "stage1_finetune",
        "",
        "loss_part1_fine_tune.npz",
        {**KEYPOINT_LOSSES, "perceptual": "perceptual"},
    ),
    "part 2": Stage(
        "stage2",
        "",
        "loss_part2.npz",
        {"value": "loss_value", "jacobian": "loss_jacobian", "classification": "loss_classify"},
    ),
    "first-order motion": Stage(
        "stage0",
        "gan",
        "loss_first_order_motion.npz",
        {
            "perceptual": "perceptual",
            "equivariance_value": "equivariance_value",
            "equivariance_jacobian": "equivariance_jacobian",
            "generator_gan": "gen_gan",
            "feature_matching": "feature_matching",
            "discriminator_gan": "disc_gan",
        },
    ),
}

# Biases whose gradient is zero but for rounding, because a softmax over the map or an instance
# norm takes every constant away. Beside each its kernel, for a measure of how small is small.
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
VANISHING_SHARE = 1e-4


class Found(NamedTuple):
    """Terms by our names; gradients by the published ones, in the published layout, flattened."""

    terms: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]


class FrameByFrame(Forward):
    """Applies VGG-19 to one image at a time, to need less memory."""

    def __call__(self, name: str, *inputs: Any, method: Callable[..., Any] | None = None) -> Any:
        if name != "vgg19":
            return super().__call__(name, *inputs, method=method)

        @jax.checkpoint
        def one(image):
            features = Forward.__call__(self, name, image[None])
            return jax.tree.map(lambda x: x[0], features)

        return jax.lax.map(one, *inputs)


def losses_and_gradients(
    stage: Stage, goldens: Goldens, variables: dict[str, Any], forward: type[Forward] = Forward
) -> Found:
    """Of the losses that `goldens` hold, in the precision of JAX."""
    config = importlib.import_module(f"configs.{stage.config}").get_config(stage.variant)
    networks_config = model_config(config)
    objective = OBJECTIVES[config.stage](config, networks_config)
    networks = build(networks_config, jnp.zeros(()).dtype)
    names = objective.trained + ((objective.adversary,) if objective.adversary else ())
    widened = jax.tree.map(lambda x: np.asarray(x, float), variables)
    learned = {name: widened[name] for name in names}
    frozen = {name: widened[name] for name in objective.frozen}

    def compute(learned, frozen, inputs):
        params = {name: learned[name]["params"] for name in learned}

        def apply(params):
            ours = {name: {**learned[name], "params": params[name]} for name in learned}
            return forward(networks, {**frozen, **ours})

        def loss(params):
            terms, _, outputs = objective.losses(apply(params), inputs)
            return sum(terms.values()), (terms, outputs)

        def adversary_loss(theirs, outputs):
            name = objective.adversary
            terms = objective.adversary_losses(apply({**params, name: theirs}), outputs)
            return sum(terms.values()), terms

        gradients, (terms, outputs) = jax.grad(loss, has_aux=True)(params)
        if objective.adversary:
            gradients[objective.adversary], their_terms = jax.grad(adversary_loss, has_aux=True)(
                params[objective.adversary], outputs
            )
            terms |= their_terms
        return terms, gradients

    inputs = stage_inputs(stage, goldens, objective)
    options = FLOAT64_COMPILE if jax.config.jax_enable_x64 else None
    compute = jax.jit(compute, compiler_options=options)
    terms, gradients = jax.device_get(compute(learned, frozen, inputs))
    return Found(terms, published_layout(gradients, networks_config))


def stage_inputs(stage: Stage, goldens: Goldens, objective: Any) -> Any:
    golden = goldens.load(stage.file)
    if stage.config != "stage0":
        inputs = objective.inputs(training_clips(goldens, golden))
        if stage.config == "stage2":  # the goldens' emotion frames are mirrored
            inputs = EmotionInputs(inputs.clips, inputs.clips.frames[:, :, :, ::-1])
        return inputs
    frames = to_float(training_frames(goldens))
    source, driving = (
        frames[np.atleast_1d(golden[f"{name}_frame"])] for name in ("source", "driving")
    )
    return PairInputs(source, driving, golden_warp(golden))


def golden_warp(golden: dict[str, np.ndarray]) -> Warp:
    """The warp of the goldens, in the precision of JAX."""
    numbers = golden["transform_theta"], golden["transform_control_params"][:, 0]
    return Warp(*(jnp.asarray(x, jnp.zeros(()).dtype) for x in numbers))


def training_frames(goldens: Goldens) -> np.ndarray:
    folder = goldens.media("training_clip") / "frames"
    paths = sorted(folder.glob("*.png"), key=lambda path: int(path.stem))
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])


def training_clips(goldens: Goldens, golden: dict[str, np.ndarray]) -> Clips:
    folder = goldens.media("training_clip")
    frames = training_frames(goldens)
    # Rounded to float32, as the published data loader does.
    audio, pose = (np.load(folder / f"{name}.npy").astype(np.float32) for name in ("mfcc", "pose"))
    windows = [slice(r + 1, r + 1 + CLIP_FRAMES) for r in golden["start_frames"]]
    return Clips(
        source=frames[golden["start_frames"]],
        frames=np.stack([frames[window] for window in windows]),
        audio=np.stack([audio[window, :, 1:] for window in windows]).astype(float),
        pose=np.stack([pose[window, :POSE_NUMBERS] for window in windows]).astype(float),
        emotion=golden["emotion"].astype(np.int32),
    )


def published_layout(gradients: dict[str, Any], config: Any) -> dict[str, np.ndarray]:
    found = {}
    for network, gradient in gradients.items():
        for entry in tables.table(network, config).entries:
            if entry.path.startswith("params."):
                leaf = gradient
                for key in entry.path.split(".")[1:]:
                    leaf = leaf[key]
                # A layout moves numbers; so moves their indices.
                size = leaf.size
                moved = entry.layout.convert(np.arange(size).reshape(entry.published_shape))
                flat = np.empty(size, leaf.dtype)
                flat[moved.ravel()] = np.ravel(leaf)
                found[f"{network}/{entry.name}"] = flat
    return found


def assert_parity(
    found: Found,
    stage: Stage,
    golden: dict[str, np.ndarray],
    *,
    losses: float,
    norms: float,
    directions: float,
) -> None:
    """Losses, gradient norms and directions agree, within relative tolerances."""
    assert set(found.terms) == set(stage.losses)
    for name, published in stage.losses.items():
        expected = golden[f"loss/{published}"]
        np.testing.assert_allclose(found.terms[name], expected, rtol=losses, err_msg=name)
    known = {key for key in golden if key.startswith("loss/")} - {"loss/total"}
    assert {f"loss/{name}" for name in stage.losses.values()} == known

    published = {key.removeprefix("grad_norm/") for key in golden if key.startswith("grad_norm/")}
    assert published <= found.gradients.keys()
    wrong = {}
    for name, gradient in found.gradients.items():
        norm = np.linalg.norm(gradient.astype(np.float64))
        if name in VANISHING:
            scale = np.linalg.norm(found.gradients[VANISHING[name]].astype(np.float64))
            assert max(norm, golden.get(f"grad_norm/{name}", 0.0)) < VANISHING_SHARE * scale
        elif name not in published:
            assert norm == 0, name
        else:
            expected = float(golden[f"grad_norm/{name}"])
            errors = {"norm": abs(norm / expected - 1) / norms}
            if f"grad_projection/{name}" in golden:
                projection = golden[f"grad_projection/{name}"]
                error = direction_error(gradient, name, projection) / expected
                errors["direction"] = error / directions
            if max(errors.values()) > 1:
                wrong[name] = errors
    assert not wrong


def direction_error(gradient: np.ndarray, name: str, projection: np.ndarray) -> float:
    """An estimate of |gradient - published| from four random projections."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    ours = [rng.standard_normal(gradient.size) @ gradient for _ in projection]
    return float(np.sqrt(np.mean((np.array(ours) - projection) ** 2)))
