"""A stage: its state, its pure functions, and how a configuration becomes one.

The loop (`loop.py`) shards, jits, saves and reports; a stage joins an objective and an optimizer.
One step: inputs from the batch (augmented), losses and gradients, and an update of parameters,
statistics and optimizer state that is dropped as a whole where a number is not finite.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PRNGKeyArray
from ml_collections import ConfigDict

from eamm_jax.errors import UserError
from eamm_jax.models import Networks, build, example_inputs
from eamm_jax.models.config import ModelConfig
from eamm_jax.training.config import check_config, check_stage
from eamm_jax.training.objectives import OBJECTIVES, Forward, Terms
from eamm_jax.training.optimizers import make_optimizer, make_schedule
from eamm_jax.types import Array, Clips, Pairs

PyTree = Any
Metrics = dict[str, Array]
Batch = Clips | Pairs


class TrainState(NamedTuple):
    """Everything that a step changes or needs.

    Attributes:
        step: steps taken (skipped ones included).
        params: float32 parameters of the trained networks, by network name.
        stats: their other collections (`batch_stats`, `spectral_stats`), by network name.
        opt_state: of the optimizer.
        frozen: variables (`params`, `batch_stats`) of the frozen networks, by network name.
        bad_steps: steps skipped so far because a loss or gradient was not finite.
    """

    step: Array
    params: PyTree
    stats: PyTree
    opt_state: optax.OptState
    frozen: PyTree
    bad_steps: Array

    def trained(self, params: PyTree | None = None) -> dict[str, PyTree]:
        """The collections of the trained networks, with these parameters or those of the state."""
        params = self.params if params is None else params
        return {name: {"params": params[name], **self.stats[name]} for name in params}


class Stage(NamedTuple):
    """One stage of training, as pure functions; none of them is jitted.

    Attributes:
        name: a key of `objectives.OBJECTIVES`.
        init: (rng, given) -> state, where `given` maps network names to variables that were
            trained before; networks absent from it are initialized.
        train_step: (state, batch, rng) -> (state, metrics), with the key of the run, which is
            folded with the step. Metrics are scalars: each loss term by name, `loss`,
            `grad_norm`, `learning_rate`, `finite` (0 where the step was skipped).
        eval_step: (state, batch) -> metrics, on stored statistics and without augmentation.
        panel: (state, batch) -> images in [0, 1], one row an example.
        required: networks that `given` must hold, because nothing trains them here.
    """

    name: str
    init: Callable[[Array, dict[str, PyTree]], TrainState]
    train_step: Callable[[TrainState, Batch, Array], tuple[TrainState, Metrics]]
    eval_step: Callable[[TrainState, Batch], Metrics]
    panel: Callable[[TrainState, Batch], Array]
    required: tuple[str, ...]


HOW_TO_GET_VGG = (
    "the perceptual loss needs VGG-19: fetch torchvision's vgg19-dcbb9e9d.pth from "
    "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth, convert it with "
    "`eamm-convert --vgg vgg19-dcbb9e9d.pth --output DIR` and give DIR as "
    "init_from, or train without it: config.perceptual=pyramid"
)


def needed_networks(config: ConfigDict, model_config: ModelConfig) -> tuple[str, ...]:
    """The networks that a stage cannot begin without, known before its data is.

    Raises:
        UserError: there is no such stage.
    """
    check_stage(config)
    return OBJECTIVES[config.stage](config, model_config).needed


def check_needed(stage: str, needed: Collection[str], given: Collection[str]) -> None:
    """Makes sure that networks which must have been trained before are given.

    Raises:
        UserError: one is not; says where it comes from.
    """
    missing = [name for name in needed if name not in given]
    if missing == ["vgg19"]:
        raise UserError(HOW_TO_GET_VGG)
    if missing:
        raise UserError(
            f"{stage} needs trained {', '.join(missing)}: give as init_from a converted "
            "checkpoint or the work directory of the stage that trains them"
            + (f" ({HOW_TO_GET_VGG})" if "vgg19" in missing else "")
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
    networks = build(model_config, jnp.dtype(config.dtype))
    objective = OBJECTIVES[config.stage](config, model_config)
    adversaries = (objective.adversary,) if objective.adversary else ()
    learned = (*objective.trained, *adversaries)
    schedule = make_schedule(config)
    # The two sides of a GAN have gradients of their own scale: clipped apart.
    groups = {name: "adversary" if name in adversaries else "main" for name in learned}
    optimizer = make_optimizer(config, groups if adversaries else None)

    def fresh(rng: PRNGKeyArray, name: str) -> PyTree:
        rng = jax.random.fold_in(rng, Networks._fields.index(name))
        return getattr(networks, name).init(rng, *example_inputs(model_config, name))

    def init(rng: PRNGKeyArray, given: dict[str, PyTree]) -> TrainState:
        check_needed(config.stage, objective.needed, given)
        given = jax.tree.map(jnp.asarray, given)
        variables = {
            name: given[name] if name in given else fresh(rng, name)
            for name in (*learned, *objective.frozen)
        }
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
        variables = {**state.frozen, **state.trained(params)}
        return Forward(networks, variables, training=training, remat=tuple(config.remat))

    def train_step(
        state: TrainState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        inputs = objective.inputs(batch, jax.random.fold_in(rng, state.step))
        main = {name: state.params[name] for name in objective.trained}
        adversary = {name: state.params[name] for name in adversaries}

        def main_loss(main: PyTree) -> tuple[Array, Any]:
            apply = forward(state, {**main, **adversary}, training=objective.trained)
            found = objective.losses(apply, inputs)
            return _total(found.terms), (found, apply.stats)

        (loss, (found, stats)), gradients = jax.value_and_grad(main_loss, has_aux=True)(main)
        metrics = {
            **found.terms,
            **found.metrics,
            "loss": loss,
            "grad_norm": optax.tree.norm(gradients),
        }
        if adversaries:
            outputs = jax.lax.stop_gradient(found.outputs)

            def adversary_loss(adversary: PyTree) -> tuple[Array, Any]:
                apply = forward(state, {**main, **adversary}, training=adversaries)
                terms = objective.adversary_losses(apply, outputs)
                return _total(terms), (terms, apply.stats)

            # On the same frames, as in the published code of the first-order motion model.
            # Neither loss sees the other's update, so both are applied at once.
            theirs, (terms, their_stats) = jax.grad(adversary_loss, has_aux=True)(adversary)
            gradients, stats = {**gradients, **theirs}, {**stats, **their_stats}
            metrics |= {**terms, "adversary_grad_norm": optax.tree.norm(theirs)}

        rate = schedule(state.step)
        direction, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, optax.tree.scale(rate, direction))
        # A gradient that is not finite anywhere has no finite norm.
        finite = jnp.isfinite(jnp.stack(jax.tree.leaves(metrics))).all()
        params, stats, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (params, {**state.stats, **stats}, opt_state),
            (state.params, state.stats, state.opt_state),
        )
        metrics |= {"learning_rate": rate, "finite": finite}
        state = state._replace(
            step=state.step + 1,
            params=params,
            stats=stats,
            opt_state=opt_state,
            bad_steps=state.bad_steps + ~finite,
        )
        return state, {name: jnp.asarray(value, jnp.float32) for name, value in metrics.items()}

    def eval_step(state: TrainState, batch: Batch) -> Metrics:
        apply = forward(state, state.params)
        terms, metrics, outputs = objective.losses(apply, objective.inputs(batch))
        metrics = {**terms, **metrics, "loss": _total(terms)}
        if adversaries:
            metrics |= objective.adversary_losses(apply, outputs)
        return metrics

    def panel(state: TrainState, batch: Batch) -> Array:
        return objective.panel(forward(state, state.params), batch)

    return Stage(
        name=config.stage,
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        panel=panel,
        required=objective.needed,
    )


def _total(terms: Terms) -> Array:
    return sum(terms.values(), start=jnp.zeros(()))
