"""The fields that the configurations of all stages share (`configs/*.py`), and their checks.

They are part of the package so that a configuration can be loaded from any folder. Nothing
heavy is imported here, because configurations are read while flags are parsed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from eamm_jax.constants import DTYPES
from eamm_jax.errors import UserError

if TYPE_CHECKING:
    from eamm_jax.models.config import ModelConfig

TINY_SIZE = 64

MODEL_FIELDS = {
    "size": "image_size",
    "emotion_head": "emotion.head",
    "emotion_keypoints": "emotion.keypoints",
    "emotion_shares": "inference.emotion_shares",
}
"""Fields of a stage's configuration that are hyperparameters of networks, and which."""


VGG_REDUCTION = 16
"""Ratio of the image's size to that of VGG-19's last features."""

FIXED_FIELDS = ("stage", "model", "size", "batch_size", "seed")
"""Fields that cannot change when a run resumes; others may, and are reported."""


def base_config(stage: str) -> ConfigDict:
    """The shared fields at their published or customary values (docs/architecture.md, section 8).

    Args:
        stage: a key of `objectives.OBJECTIVES`.
    """
    config = ConfigDict()
    config.stage = stage

    # Networks: 'published', 'demo' (bundled) or 'tiny', and the side of the square images.
    config.model = "published"
    config.size = 256

    # Data: kind=path[@weight],... with kind one of lrw, mead, voxceleb, synthetic.
    config.data = ""
    config.emotions = ()  # those whose clips are used, where clips are labelled; (): all
    config.batch_size = 8
    config.validation_fraction = 0.05
    config.num_repeats = 1  # passes over the data that count as one epoch
    config.on_bad_clip = "error"  # or 'skip'
    config.workers = 4
    config.threads = 4

    # Augmentation, and the strength of each of four colour adjustments (0: none).
    config.augment = True
    config.jitter = 0.1

    # Optimization. Milestones are epochs at which the rate is multiplied by the factor.
    config.learning_rate = 2e-4
    config.milestones = (60, 90)
    config.learning_rate_factor = 0.1
    config.schedule = "steps"  # or 'cosine': to 0 at the last step, without milestones
    config.warmup_steps = 0  # of a cosine schedule: the rate rises linearly from 0
    config.beta1 = 0.5
    config.beta2 = 0.999
    config.epsilon = 1e-8
    config.clip_norm = 0.0  # 0: gradients are not clipped
    config.accumulate = 1  # steps whose gradients are averaged for one update
    config.dtype = "float32"  # or 'bfloat16', of the networks' arithmetic
    config.remat = ()  # networks whose activations are recomputed in the backward pass

    # Running.
    config.seed = 0
    config.num_epochs = 300
    config.num_steps = 0  # 0: as many as the epochs have
    config.steps_per_epoch = 0  # 0: as many as the data gives
    config.log_every = 50
    config.save_every = 1000
    config.keep = 3
    config.eval_every = 0  # steps; 0: at the end of every epoch
    config.panel_every = 1000
    config.max_bad_steps = 20
    return config


def add_perceptual_loss(
    config: ConfigDict, *, weight: float, pyramid_weight: float, pyramid_sigma: float
) -> None:
    """Adds the fields of the perceptual loss.

    Args:
        config: gets them.
        weight: of each of the five VGG-19 layers at every scale.
        pyramid_weight: of the loss without VGG-19.
        pyramid_sigma: standard deviation of the gaussian before an image is reduced, in
            pixels; 0 is that of the first-order motion model, (1/scale - 1) / 2.
    """
    config.perceptual = "vgg"  # or 'pyramid': images and their gradients, without VGG-19
    config.perceptual_weights = (weight,) * 5
    config.pyramid_weight = pyramid_weight
    config.scales = (1.0, 0.5, 0.25, 0.125)
    config.pyramid_sigma = pyramid_sigma


def parse_variants(config: ConfigDict, variant: str, allowed: tuple[str, ...]) -> set[str]:
    """The variants that were asked for; `tiny`, which every stage has, is applied.

    Args:
        config: changed in place.
        variant: what follows the colon of `--config=configs/stage1.py:tiny`; several are
            joined by commas.
        allowed: the variants of this stage.

    Raises:
        UserError: there is no such variant.
    """
    wanted = set(filter(None, variant.split(",")))
    unknown = sorted(wanted - set(allowed))
    if unknown:
        raise UserError(
            f"{config.stage} has no variant {unknown[0]!r}; allowed are {', '.join(allowed)}"
        )
    if "tiny" in wanted:
        config.model = "tiny"
        config.size = TINY_SIZE
        config.batch_size = 2
        config.workers = 0
        config.threads = 1
        config.num_epochs = 1
        config.num_repeats = 1
        config.log_every = 1
        if "perceptual" in config:
            config.perceptual = "pyramid"
    return wanted


def model_config(config: ConfigDict) -> ModelConfig:
    """The networks that a configuration asks for.

    Fields of a stage's configuration that name hyperparameters (`MODEL_FIELDS`) come from there.

    Raises:
        UserError: a value that is not allowed.
    """
    from eamm_jax.models.config import published
    from eamm_jax.models.presets import demo, tiny

    presets = {"published": published, "demo": demo, "tiny": tiny}
    _check_choice(config, "model", tuple(presets))
    changes = {there: config[here] for here, there in MODEL_FIELDS.items() if here in config}
    return presets[config.model]().replace(changes)


def check_stage(config: ConfigDict) -> None:
    """Refuses a `stage` that there is not."""
    from eamm_jax.training.objectives import OBJECTIVES

    _check_choice(config, "stage", tuple(OBJECTIVES))


def check_config(config: ConfigDict, model_config: ModelConfig) -> None:
    """Refuses values that would fail later, or quietly do something else.

    Args:
        config: one of `configs/`.
        model_config: the networks.

    Raises:
        UserError: the first such field, what was given and what is allowed.
    """
    import jax

    from eamm_jax.models import Networks
    from eamm_jax.training.objectives import OBJECTIVES
    from eamm_jax.training.objectives.base import PERCEPTUAL_NETWORKS

    check_stage(config)
    for name, value in config.items():
        numbers = [leaf for leaf in jax.tree.leaves(value) if isinstance(leaf, float)]
        if not all(map(math.isfinite, numbers)):
            raise UserError(f"config.{name} is {value}; give a number that is finite")
    objective = OBJECTIVES[config.stage]
    if config.get("taught", False) and config.augment and not objective.reads_frames:
        raise UserError(
            "config.augment changes the colours of frames, which keypoints that were found before "
            "do not follow; set config.augment or config.taught to False"
        )
    _check_choice(config, "dtype", DTYPES)
    _check_choice(config, "schedule", ("steps", "cosine"))
    for name in config.remat:
        if name not in Networks._fields:
            raise UserError(
                f"config.remat names {name!r}; allowed are {', '.join(Networks._fields)}"
            )
    if config.accumulate < 1:
        raise UserError(f"config.accumulate is {config.accumulate}; it must be at least 1")
    if not config.learning_rate > 0:
        raise UserError(f"config.learning_rate is {config.learning_rate}; it must be above 0")
    if config.schedule == "cosine" and config.milestones:
        raise UserError("config.schedule is cosine, which has no milestones; set milestones to ()")
    if config.schedule == "cosine" and not 0 <= config.warmup_steps < (config.num_steps or 1):
        raise UserError(
            f"config.warmup_steps is {config.warmup_steps}, but the run has {config.num_steps} "
            "steps; give fewer"
        )
    if "perceptual" in config:
        _check_choice(config, "perceptual", tuple(PERCEPTUAL_NETWORKS))
        smallest = int(model_config.image_size * min(config.scales))
        if config.perceptual == "vgg" and smallest < VGG_REDUCTION:
            raise UserError(
                f"config.scales go down to {smallest}x{smallest} pixels; VGG-19 needs "
                f"{VGG_REDUCTION}x{VGG_REDUCTION} (or set config.perceptual to 'pyramid')"
            )
    blocks = model_config.discriminator.blocks
    if config.stage == "stage0_gan" and len(config.feature_matching_weights) != blocks:
        raise UserError(
            f"config.feature_matching_weights are {len(config.feature_matching_weights)}; the "
            f"discriminator has {blocks} blocks"
        )


def as_json(config: ConfigDict) -> dict[str, Any]:
    """The values that JSON makes of a configuration: lists for tuples."""
    return json.loads(json.dumps(config.to_dict()))


def changes(saved: Mapping[str, Any], config: ConfigDict) -> list[str]:
    """The differences from the configuration of the run that is resumed, for people.

    Args:
        saved: from `as_json`.
        config: of now.

    Raises:
        UserError: a field that cannot change within a run.
    """
    now = as_json(config)
    # 0 stands for what the data gives, which was filled in before it was saved.
    names = [name for name in saved.keys() | now.keys() if name != "steps_per_epoch"]
    found = {
        name: f"{name} was {saved.get(name)!r} and is {now.get(name)!r}"
        for name in sorted(names)
        if saved.get(name) != now.get(name)
    }
    for name in FIXED_FIELDS:
        if name in found:
            raise UserError(
                f"the work directory holds another run: {found[name]}; resume it with the "
                "configuration it was started with, or start in another work directory (from "
                "its networks with init_from)"
            )
    return list(found.values())


def _check_choice(config: ConfigDict, name: str, allowed: tuple[str, ...]) -> None:
    if config[name] not in allowed:
        raise UserError(f"config.{name} is {config[name]!r}; allowed are {', '.join(allowed)}")
