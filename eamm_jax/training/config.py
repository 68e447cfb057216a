"""The fields that the configurations of all stages share (`configs/*.py`).

They stand inside the package so that a configuration can be loaded from any folder; nothing
heavy is imported here, because configurations are read while flags are parsed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from eamm_jax.errors import UserError

if TYPE_CHECKING:
    from eamm_jax.models.config import ModelConfig

TINY_SIZE = 64
DEMO_SIZE = 128

MODEL_FIELDS = {
    "size": "image_size",
    "emotion_head": "emotion.head",
    "emotion_keypoints": "emotion.keypoints",
    "emotion_shares": "inference.emotion_shares",
}
"""Fields of a stage's configuration that are hyperparameters of networks, and which."""


def base_config(stage: str) -> ConfigDict:
    """The shared fields at their published or customary values (ARCHITECTURE.md section 5)."""
    config = ConfigDict()
    config.stage = stage

    # Networks: 'published', 'demo' or 'tiny', and the side of the square images.
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

    # Augmentation, and how far each of four colour adjustments goes (0: none).
    config.augment = True
    config.jitter = 0.1

    # Optimisation. Milestones are epochs at which the rate is multiplied by the factor.
    config.learning_rate = 2e-4
    config.milestones = (60, 90)
    config.learning_rate_factor = 0.1
    config.schedule = "steps"  # or 'cosine': down to nothing at the last step, no milestones
    config.warmup_steps = 0  # over which a cosine's rate first rises from nothing
    config.beta1 = 0.5
    config.beta2 = 0.999
    config.epsilon = 1e-8
    config.clip_norm = 0.0  # 0: gradients are not clipped
    config.accumulate = 1  # steps whose gradients are averaged for one update
    config.dtype = "float32"  # or 'bfloat16', of the networks' arithmetic
    config.remat = ()  # networks whose activations are computed again, not kept

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
        pyramid_weight: of the loss that stands in where there is no VGG-19.
        pyramid_sigma: of the gaussian before an image is reduced, in pixels; 0 is the
            parent's, (1/scale - 1) / 2.
    """
    config.perceptual = "vgg"  # or 'pyramid': images and their gradients, without VGG-19
    config.perceptual_weights = (weight,) * 5
    config.pyramid_weight = pyramid_weight
    config.scales = (1.0, 0.5, 0.25, 0.125)
    config.pyramid_sigma = pyramid_sigma


def apply_variant(config: ConfigDict, variant: str, allowed: tuple[str, ...] = ("tiny",)) -> set:
    """Applies the variants every stage has, and returns those that were asked for.

    Args:
        config: changed in place.
        variant: what stands behind the colon of `--config=configs/stage1.py:tiny`; several
            are joined by commas.
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
    if wanted & {"demo", "demo_keypoints"}:
        config.model = "demo"
        config.size = DEMO_SIZE
        config.augment = False
        config.warmup_steps = 50
        config.clip_norm = 5.0
        config.save_every = 200
        config.panel_every = 200
        config.workers = 0
        config.threads = 1
        config.num_epochs = 1
        config.milestones = ()
        config.schedule = "cosine"
        if "perceptual" in config:
            config.perceptual = "pyramid"
    if "tiny" in wanted:
        config.model = "tiny"
        config.size = TINY_SIZE
        config.batch_size = 2
        config.workers = 0
        config.threads = 1
        config.num_epochs = 1
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
    if config.model not in presets:
        raise UserError(f"--config.model is {config.model!r}; allowed are {', '.join(presets)}")
    changes = {there: config[here] for here, there in MODEL_FIELDS.items() if here in config}
    return presets[config.model]().replace(changes)
