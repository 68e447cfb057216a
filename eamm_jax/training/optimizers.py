"""The optimizer of all stages: Adam and its learning rate (docs/architecture.md, section 8)."""

from __future__ import annotations

from collections.abc import Mapping

import optax
from ml_collections import ConfigDict


def make_schedule(config: ConfigDict) -> optax.Schedule:
    """The learning rate, by the number of training steps taken.

    It is multiplied by `learning_rate_factor` at the start of each milestone epoch, counted from
    0; or, where `schedule` is cosine, rises linearly and falls as a cosine to 0 at the last step.
    """
    rate = config.learning_rate
    if config.schedule == "cosine":
        first = 0.0 if config.warmup_steps else rate
        return optax.warmup_cosine_decay_schedule(
            first, rate, config.warmup_steps, config.num_steps
        )
    steps = {
        epoch * config.steps_per_epoch: config.learning_rate_factor for epoch in config.milestones
    }
    return optax.piecewise_constant_schedule(rate, steps)


def make_optimizer(
    config: ConfigDict, groups: Mapping[str, str] | None = None
) -> optax.GradientTransformation:
    """Adam without its learning rate: from gradients to a descent direction.

    The rate stays outside: it depends on the step, which also counts steps that are skipped or
    only accumulate, while Adam's own count does not. While gradients accumulate, the direction
    is zero.

    Args:
        config: `beta1`, `beta2`, `epsilon`, `clip_norm` and `accumulate` of a stage.
        groups: from top-level names of the parameters to the group whose gradients are
            clipped together; by default all are one group.
    """
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    adam = optax.scale_by_adam(config.beta1, config.beta2, config.epsilon)
    optimizer = optax.chain(clip, adam, optax.scale(-1.0))
    if groups is not None:
        transforms = dict.fromkeys(groups.values(), optimizer)
        optimizer = optax.partition(transforms, dict(groups))
    if config.accumulate > 1:
        optimizer = optax.MultiSteps(optimizer, config.accumulate).gradient_transformation()
    return optimizer
