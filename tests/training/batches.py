"""Small random batches, and stages to train on them."""

from __future__ import annotations

import importlib
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from eamm_jax.models.presets import tiny
from eamm_jax.training.stage import Stage, TrainState, make_stage
from eamm_jax.types import Clips, Pairs
from tests.tiny import tiny_variables

SIZE = 64
FRAMES = 5  # so that part 1 fine-tune renders two


def smooth_images(rng: np.random.Generator, *leading: int) -> np.ndarray:
    """Random blobs: images with structure at every scale, uint8."""
    image = np.zeros((*leading, SIZE, SIZE, 3))
    for cells in (2, 4, 8):
        noise = rng.uniform(size=(*leading, cells, cells, 3))
        image += noise.repeat(SIZE // cells, axis=-3).repeat(SIZE // cells, axis=-2)
    return (image * 85).astype(np.uint8)


def make_pairs(batch: int = 2, seed: int = 0) -> Pairs:
    """Each driving frame is its source, shifted."""
    source = smooth_images(np.random.default_rng(seed), batch)
    return Pairs(source, np.roll(source, (3, 5), axis=(1, 2)))


def make_clips(batch: int = 2, seed: int = 0) -> Clips:
    rng = np.random.default_rng(seed)
    return Clips(
        source=smooth_images(rng, batch),
        frames=smooth_images(rng, batch, FRAMES),
        audio=rng.normal(size=(batch, FRAMES, 28, 12)).astype(np.float32),
        pose=rng.normal(size=(batch, FRAMES, 6)).astype(np.float32),
        emotion=rng.integers(8, size=batch, dtype=np.int32),
    )


def make_batch(stage: str, batch: int = 2, seed: int = 0) -> Pairs | Clips:
    return make_pairs(batch, seed) if stage.startswith("stage0") else make_clips(batch, seed)


MICRO = tiny().replace(
    {
        "keypoint_detector.blocks": 1,
        "generator.dense_motion.blocks": 1,
        "generator.res_blocks": 1,
        "audio_to_motion.lstm_layers": 1,
        "emotion.blocks": 1,
        "emotion.stage_widths": (8, 16),
    }
)
"""Networks that compile faster still, for what does not depend on their depth."""


def micro_stage(name: str, variant: str = "tiny", **fields: Any) -> Stage:
    """A stage with the smallest networks, with some fields of its configuration changed."""
    return make_stage(stage_config(name, variant, **fields), MICRO)


def stage_config(name: str, variant: str, **fields: Any) -> ConfigDict:
    """A configuration with some fields changed and the length of an epoch filled in."""
    config = importlib.import_module(f"configs.{name}").get_config(variant)
    config.steps_per_epoch = 10
    config.num_steps = 100
    with config.ignore_type():  # tuples of another length
        config.update(fields)
    return config


def start(stage: Stage) -> TrainState:
    """The state a stage starts from, with everything trained before."""
    variables = tiny_variables(config=MICRO)[1]
    given = {name: value for name, value in variables.items() if name in stage.required}
    fresh = jax.eval_shape(lambda rng: stage.init(rng, given), jax.random.key(0))
    learned = {name: variables[name] for name in fresh.params}
    return stage.init(jax.random.key(0), {**given, **learned})
