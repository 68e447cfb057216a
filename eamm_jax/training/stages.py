"""Stages of training: an objective and an optimiser, joined to the functions of a `Stage`.

One step is: inputs from the batch (augmented), losses and gradients, and an update of
parameters, statistics and optimiser that is dropped as a whole where a number is not finite.

    stage 0            FirstOrderMotion
    stage 1            AudioKeypoints
    stage 1 fine-tune  AudioKeypointsFineTune
    stage 2            EmotionDisplacement
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PRNGKeyArray
from ml_collections import ConfigDict

from eamm_jax.errors import UserError
from eamm_jax.models import Networks, build, example_inputs
from eamm_jax.models.config import ModelConfig
from eamm_jax.training import optimizers
from eamm_jax.training.guidance import NUM_POINTS
from eamm_jax.training.objectives import (
    AudioKeypoints,
    AudioKeypointsFineTune,
    EmotionDisplacement,
    FirstOrderMotion,
    Forward,
    Objective,
    Terms,
)
from eamm_jax.training.panels import draw_panel
from eamm_jax.training.stage import Batch, Metrics, PyTree, Stage, TrainState
from eamm_jax.types import EMOTIONS, Array

OBJECTIVES: dict[str, type[Objective[Any, Any]]] = {
    "stage0": FirstOrderMotion,
    "stage1": AudioKeypoints,
    "stage1_finetune": AudioKeypointsFineTune,
    "stage2": EmotionDisplacement,
}

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

VGG_REDUCTION = 16
"""How much smaller than the image VGG-19's last features are."""

HOW_TO_GET_VGG = (
    "the perceptual loss needs VGG-19: fetch torchvision's vgg19-dcbb9e9d.pth from "
    "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth, convert it with "
    "`python convert_torch_weights.py --vgg vgg19-dcbb9e9d.pth --output DIR` and give "
    "--init_from=DIR, or train without it by --config.perceptual=pyramid"
)


def make_stage(config: ConfigDict, model_config: ModelConfig) -> Stage:
    """The stage that a configuration describes.

    Args:
        config: one of `configs/`, with `steps_per_epoch` filled in, and `num_steps` where the
            schedule is a cosine.
        model_config: the networks.

    Raises:
        UserError: a field has a value that is not allowed.
    """
    check_config(config, model_config)
    networks = build(model_config, DTYPES[config.dtype])
    objective = OBJECTIVES[config.stage](config, model_config)
    opponents = (objective.adversary,) if objective.adversary else ()
    learned = (*objective.trained, *opponents)
    schedule = (
        optimizers.cosine_schedule(config.learning_rate, config.warmup_steps, config.num_steps)
        if config.schedule == "cosine"
        else optimizers.learning_rate_schedule(
            config.learning_rate,
            config.milestones,
            config.learning_rate_factor,
            config.steps_per_epoch,
        )
    )
    optimizer = optimizers.make_optimizer(
        config.beta1,
        config.beta2,
        epsilon=config.epsilon,
        clip_norm=config.clip_norm,
        accumulate=config.accumulate,
        # The two sides of a GAN have gradients of their own size.
        groups={name: "adversary" if name in opponents else "main" for name in learned}
        if opponents
        else None,
    )

    def init(rng: Array, given: dict[str, PyTree]) -> TrainState:
        check_given(objective, given)
        # Drawing many small arrays from the default generator takes XLA minutes to compile.
        rng = jax.random.wrap_key_data(jax.random.bits(rng, (4,), "uint32"), impl="rbg")
        variables = {}
        for name in (*learned, *objective.frozen):
            fresh_rng = jax.random.fold_in(rng, Networks._fields.index(name))
            variables[name] = _initial_variables(networks, model_config, name, fresh_rng, given)
        params = {name: variables[name]["params"] for name in learned}
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            stats={
                name: {key: value for key, value in variables[name].items() if key != "params"}
                for name in learned
            },
            opt_state=optimizer.init(params),
            frozen={name: variables[name] for name in objective.frozen},
            bad_steps=jnp.zeros((), jnp.int32),
        )

    def forward(state: TrainState, params: PyTree, training: tuple[str, ...] = ()) -> Forward:
        variables = _variables(state, params)
        return Forward(networks, variables, training=training, remat=config.remat)

    def train_step(
        state: TrainState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        inputs = objective.inputs(batch, rng)
        main, adversary = _split(state.params, objective)

        def main_loss(main: PyTree) -> tuple[Array, Any]:
            apply = forward(state, {**main, **adversary}, training=objective.trained)
            terms, figures, outputs = objective.losses(apply, inputs)
            return _total(terms), (terms, figures, outputs, apply.stats)

        gradients, (terms, figures, outputs, stats) = jax.grad(main_loss, has_aux=True)(main)
        loss = _total(terms)
        metrics = {**terms, **figures, "loss": loss, "grad_norm": optax.tree.norm(gradients)}
        if opponents:
            outputs = jax.lax.stop_gradient(outputs)

            def adversary_loss(adversary: PyTree) -> tuple[Array, Any]:
                apply = forward(state, {**main, **adversary}, training=opponents)
                terms = objective.adversary_losses(apply, outputs)
                return _total(terms), (terms, apply.stats)

            # Against the same frames, as in the parent. As neither loss sees the other's
            # update, both are applied at once.
            theirs, (terms, their_stats) = jax.grad(adversary_loss, has_aux=True)(adversary)
            gradients, stats = {**gradients, **theirs}, {**stats, **their_stats}
            metrics |= {**terms, "adversary_grad_norm": optax.tree.norm(theirs)}

        rate = schedule(state.step)
        params, opt_state = optimizers.descend(
            optimizer, gradients, state.opt_state, state.params, rate
        )
        # A gradient that is not finite anywhere has no finite norm.
        finite = jnp.isfinite(jnp.stack(jax.tree.leaves(metrics))).all()
        updated = (params, {**state.stats, **stats}, opt_state)
        kept = (state.params, state.stats, state.opt_state)
        params, stats, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), updated, kept
        )
        metrics |= {"learning_rate": rate, "finite": finite}
        state = TrainState(
            step=state.step + 1,
            params=params,
            stats=stats,
            opt_state=opt_state,
            frozen=state.frozen,
            bad_steps=state.bad_steps + ~finite,
        )
        return state, {name: jnp.asarray(value, jnp.float32) for name, value in metrics.items()}

    def eval_step(state: TrainState, batch: Batch) -> Metrics:
        apply = forward(state, state.params)
        terms, figures, outputs = objective.losses(apply, objective.inputs(batch))
        metrics = {**terms, **figures, "loss": _total(terms)}
        if opponents:
            metrics |= objective.adversary_losses(apply, outputs)
        return metrics

    def panel(state: TrainState, batch: Batch) -> Array:
        return draw_panel(objective.panel(forward(state, state.params), batch))

    return Stage(
        name=config.stage,
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        panel=panel,
        required=objective.needed,
    )


def check_config(config: ConfigDict, model_config: ModelConfig) -> None:
    """Refuses values of fields that would fail later, or quietly do something else.

    Args:
        config: one of `configs/`.
        model_config: the networks.

    Raises:
        UserError: the first such field, what is allowed and what was given.
    """
    choices = {
        "stage": tuple(OBJECTIVES),
        "dtype": tuple(DTYPES),
        "perceptual": ("vgg", "pyramid"),
        "schedule": ("steps", "cosine"),
    }
    for name, allowed in choices.items():
        if name in config and config[name] not in allowed:
            raise UserError(
                f"--config.{name} is {config[name]!r}; allowed are {', '.join(allowed)}"
            )
    unknown = [name for name in config.remat if name not in Networks._fields]
    if unknown:
        raise UserError(
            f"--config.remat names {unknown[0]!r}; allowed are {', '.join(Networks._fields)}"
        )
    if config.accumulate < 1:
        raise UserError(f"--config.accumulate is {config.accumulate}; it must be at least 1")
    if not config.learning_rate > 0:
        raise UserError(f"--config.learning_rate is {config.learning_rate}; it must be above 0")
    if config.schedule == "cosine" and config.milestones:
        raise UserError(
            "--config.schedule is cosine, which has no milestones: give --config.milestones=()"
        )
    if config.schedule == "cosine" and not 0 <= config.warmup_steps < (config.num_steps or 1):
        raise UserError(
            f"--config.warmup_steps is {config.warmup_steps}, but the run has {config.num_steps} "
            "steps; give fewer"
        )
    for emotion in config.get("place_emotions", ()):
        if emotion not in EMOTIONS:
            raise UserError(
                f"--config.place_emotions names {emotion!r}; allowed are {', '.join(EMOTIONS)}"
            )
    shares = config.get("motion_shares", ())
    if shares and len(shares) != model_config.num_keypoints:
        raise UserError(
            f"--config.motion_shares are {len(shares)}; the networks have "
            f"{model_config.num_keypoints} keypoints"
        )
    _check_guidance(config, model_config)
    if config.get("perceptual") == "vgg":
        smallest = int(model_config.image_size * min(config.scales))
        if smallest < VGG_REDUCTION:
            raise UserError(
                f"--config.scales go down to {smallest}x{smallest} pixels; VGG-19 needs "
                f"{VGG_REDUCTION}x{VGG_REDUCTION} (or set --config.perceptual=pyramid)"
            )
    blocks = model_config.discriminator.blocks
    if config.get("gan") and len(config.feature_matching_weights) != blocks:
        raise UserError(
            f"--config.feature_matching_weights are {len(config.feature_matching_weights)}; the "
            f"discriminator has {blocks} blocks"
        )


def _check_guidance(config: ConfigDict, model_config: ModelConfig) -> None:
    """Refuses a guidance of keypoints that does not fit them, their pictures or what is trained."""
    if config.stage != "stage0":
        return
    both = ("kp_detector", "generator")
    if not config.trained or not set(config.trained) <= set(both):
        raise UserError(
            f"--config.trained is {tuple(config.trained)}; allowed are {both}, or one of them"
        )
    if not config.landmark_weight:
        if "generator" not in config.trained:
            raise UserError(
                "--config.trained is the detector alone, which only landmarks can teach: set "
                "--config.landmark_weight"
            )
        return
    groups = config.keypoint_points
    if len(groups) != model_config.num_keypoints:
        raise UserError(
            f"--config.keypoint_points guides {len(groups)} keypoints; the networks have "
            f"{model_config.num_keypoints}"
        )
    if any(not group or not set(group) <= set(range(NUM_POINTS)) for group in groups):
        raise UserError(
            f"--config.keypoint_points must name points 0 to {NUM_POINTS - 1}, at least one for "
            "each keypoint"
        )
    if config.augment:
        raise UserError(
            "--config.landmark_weight is set, but landmarks do not follow augmentation: give "
            "--config.augment=False"
        )


def check_given(objective: Objective[Any, Any], given: Mapping[str, PyTree]) -> None:
    """Refuses to start a stage without the networks that others must have trained.

    Raises:
        UserError: says which are missing and how to get them.
    """
    missing = [name for name in objective.needed if name not in given]
    if missing == ["vgg19"]:
        raise UserError(HOW_TO_GET_VGG)
    if missing:
        raise UserError(
            f"{objective.config.stage} needs trained {', '.join(missing)}: give --init_from a "
            "converted checkpoint or the work directory of the stage that trains them"
            + (f" ({HOW_TO_GET_VGG})" if "vgg19" in missing else "")
        )


def _split(params: PyTree, objective: Objective[Any, Any]) -> tuple[PyTree, PyTree]:
    """Parameters of the trained networks, and those of their adversary."""
    main = {name: params[name] for name in objective.trained}
    return main, {name: params[name] for name in params if name not in main}


def _variables(state: TrainState, params: PyTree) -> dict[str, PyTree]:
    """The collections of every network of a stage."""
    learned = {name: {"params": params[name], **state.stats[name]} for name in params}
    return {**state.frozen, **learned}


def _total(terms: Terms) -> Array:
    return sum(terms.values(), start=jnp.zeros(()))


def _initial_variables(
    networks: Networks,
    config: ModelConfig,
    name: str,
    rng: PRNGKeyArray,
    given: Mapping[str, PyTree],
) -> PyTree:
    """A network's given variables, checked, or fresh ones."""
    module, example = getattr(networks, name), example_inputs(config, name)
    if name not in given:
        return module.init(rng, *example)
    expected = jax.eval_shape(module.init, rng, *example)
    check_shapes(name, given[name], expected)
    return jax.tree.map(jnp.asarray, given[name])


def check_shapes(name: str, given: PyTree, expected: PyTree) -> None:
    """Compares given variables with what a network expects.

    Raises:
        UserError: the first array that is missing, left over or misshapen, by its path.
    """

    def by_path(tree: PyTree) -> dict[str, tuple[int, ...]]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {
            jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
            for path, leaf in leaves
        }

    have, want = by_path(given), by_path(expected)
    for path in sorted(have.keys() | want.keys()):
        if have.get(path) != want.get(path):
            raise UserError(
                f"the given {name} does not fit the configured networks: {path} has shape "
                f"{have.get(path, 'none (it is missing)')}, expected is "
                f"{want.get(path, 'none (there is no such array)')}"
            )
