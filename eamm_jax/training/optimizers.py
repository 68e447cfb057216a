"""The optimizer of all stages: Adam and its learning rate (docs/architecture.md, section 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optax
from ml_collections import ConfigDict

from eamm_jax.training.stage import PyTree
from eamm_jax.types import Array


def make_schedule(config: ConfigDict) -> optax.Schedule:
    """The learning rate of a configuration, by the number of training steps taken."""
    if config.schedule == "cosine":
        return cosine_schedule(config.learning_rate, config.warmup_steps, config.num_steps)
    return learning_rate_schedule(
        config.learning_rate,
        config.milestones,
        config.learning_rate_factor,
        config.steps_per_epoch,
    )


def learning_rate_schedule(
    base: float, milestones: Sequence[int], factor: float, steps_per_epoch: int
) -> optax.Schedule:
    """A rate that is multiplied by `factor` at the start of each milestone epoch.

    Args:
        base: rate of the first epoch.
        milestones: epochs, counted from 0.
        factor: what the rate is multiplied by.
        steps_per_epoch: training steps in an epoch; not needed without milestones.

    Returns:
        From the number of training steps taken to the rate of the next.
    """
    if milestones and steps_per_epoch < 1:
        raise ValueError(
            f"steps_per_epoch is {steps_per_epoch}, but the rate falls at epochs {milestones}"
        )
    return optax.piecewise_constant_schedule(
        base, {epoch * steps_per_epoch: factor for epoch in milestones}
    )


def cosine_schedule(base: float, warmup_steps: int, num_steps: int) -> optax.Schedule:
    """A rate that rises linearly to `base`, then falls as a cosine to 0 at the last step."""
    if not 0 <= warmup_steps < num_steps:
        raise ValueError(f"there are {warmup_steps} warm-up steps of {num_steps}")
    return optax.warmup_cosine_decay_schedule(
        0.0 if warmup_steps else base, base, warmup_steps, num_steps
    )


def make_optimizer(
    beta1: float,
    beta2: float,
    *,
    epsilon: float = 1e-8,
    clip_norm: float = 0.0,
    accumulate: int = 1,
    groups: Mapping[str, str] | None = None,
) -> optax.GradientTransformation:
    """Adam without its learning rate: from gradients to a descent direction.

    The rate stays outside (`descend`): it depends on the step, which also counts steps that
    are skipped or only accumulate, while Adam's own count does not.

    Args:
        beta1: decay of the mean of gradients (published: 0.5).
        beta2: decay of the mean of their squares (published: 0.999).
        epsilon: added to the root of the mean of squares (published: 1e-8).
        clip_norm: largest global norm of the gradient of a group; 0 does not clip.
        accumulate: training steps whose gradients are averaged for one update.
        groups: from top-level names of the parameters to the group whose gradients are
            clipped together; by default all are one group.
    """
    clip = optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity()
    optimizer = optax.chain(clip, optax.scale_by_adam(beta1, beta2, epsilon), optax.scale(-1.0))
    if groups is not None:
        transforms = dict.fromkeys(groups.values(), optimizer)
        optimizer = optax.partition(transforms, dict(groups))
    if accumulate > 1:
        optimizer = optax.MultiSteps(optimizer, accumulate).gradient_transformation()
    return optimizer


def descend(
    optimizer: optax.GradientTransformation,
    gradients: PyTree,
    state: optax.OptState,
    params: PyTree,
    rate: Array | float,
) -> tuple[PyTree, optax.OptState]:
    """One update of the parameters: params + rate * direction.

    Returns:
        New parameters and optimizer state. While gradients accumulate, the parameters stay.
    """
    direction, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, optax.tree.scale(rate, direction)), state
