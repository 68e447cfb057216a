"""A stage of training with random networks and random data, to be timed or compiled.

The time of a step does not depend on what is seen or has been learned, so neither weights nor
a data set are needed.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from eamm_jax.constants import AUDIO_WINDOW, CLIP_FRAMES, EMOTIONS, POSE_NUMBERS
from eamm_jax.io.image import write_png
from eamm_jax.models import build, example_inputs
from eamm_jax.models.config import ModelConfig
from eamm_jax.training.compilation import compile_step
from eamm_jax.training.config import model_config
from eamm_jax.training.distributed import Placement, make_placement
from eamm_jax.training.objectives import OBJECTIVES
from eamm_jax.training.objectives.guided import NUM_POINTS
from eamm_jax.training.stage import Batch, Stage, TrainState, make_stage
from eamm_jax.types import Clips, FaceTruth, Pairs

PyTree = Any

IMAGES_AN_EXAMPLE = {"pairs": 2, "clips": 1 + CLIP_FRAMES}
"""Pictures that are decoded for an example: two frames, or the source image and its clip."""

KINDS = {
    "stage0": "voxceleb",
    "stage1": "lrw",
    "stage1_finetune": "lrw",
    "stage2": "mead",
    "bundled_keypoints": "voxceleb",
    "bundled_generator": "voxceleb",
    "bundled_stage1": "mead",
    "bundled_stage2": "mead",
}
"""The kind of data of each configuration."""


def stage_config(stage: str, variant: str, fields: dict[str, Any]) -> ConfigDict:
    """A stage's configuration with some fields changed."""
    config = importlib.import_module(f"configs.{stage}").get_config(variant)
    # Nothing here lasts long enough for an epoch to end.
    config.steps_per_epoch = 1000
    config.num_steps = 1000
    config.update(fields)
    return config


def batch_of(stage: str) -> str:
    """What the examples of a stage are: `pairs` or `clips`."""
    return "pairs" if KINDS[stage] == "voxceleb" else "clips"


@dataclasses.dataclass
class Workload:
    """A stage, and what its step takes: shapes (`abstract`) or arrays (`concrete`)."""

    stage: Stage
    placement: Placement
    state: TrainState
    batch: Batch
    rng: jax.Array | jax.ShapeDtypeStruct

    def compile(self) -> jax.stages.Compiled:
        """The step, as the training loop compiles it."""
        return compile_step(self.stage, self.placement, self.state, self.batch, self.rng)


def abstract(config: ConfigDict) -> Workload:
    """A stage on all devices, as shapes: enough to compile its step."""
    networks = model_config(config)
    stage, placement = make_stage(config, networks), make_placement()
    modules = build(networks)
    given = {
        name: jax.eval_shape(
            getattr(modules, name).init, jax.random.key(0), *example_inputs(networks, name)
        )
        for name in stage.required
    }
    state = jax.eval_shape(stage.init, jax.random.key(0), given)
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placement.by_example),
        random_batch(config),
    )
    rng = jax.eval_shape(lambda: jax.random.key(0))
    return Workload(stage, placement, placement.abstract(state), batch, placement.abstract(rng))


def concrete(config: ConfigDict) -> Workload:
    """A stage on all devices, with random networks and a random batch."""
    work = abstract(config)
    draw = np.random.default_rng(0)
    learned = {"params": work.state.params, "stats": work.state.stats, "frozen": work.state.frozen}
    random = jax.tree_util.tree_map_with_path(lambda *leaf: _random_leaf(draw, *leaf), learned)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), work.state)
    return dataclasses.replace(
        work,
        state=jax.device_put(zeros._replace(**random), work.placement.replicated),
        batch=work.placement.batch(random_batch(config)),
        rng=jax.jit(lambda: jax.random.key(0), out_shardings=work.placement.replicated)(),
    )


def random_variables(config: ModelConfig, names: Iterable[str]) -> dict[str, PyTree]:
    """Variables of networks with random parameters, by name."""
    modules, draw = build(config), np.random.default_rng(0)
    shapes = {
        name: jax.eval_shape(
            getattr(modules, name).init, jax.random.key(0), *example_inputs(config, name)
        )
        for name in names
    }
    return jax.tree_util.tree_map_with_path(lambda *leaf: _random_leaf(draw, *leaf), shapes)


def _random_leaf(draw: np.random.Generator, path: tuple[Any, ...], leaf: Any) -> np.ndarray:
    """Values that keep activations of order one, as in trained networks."""
    name = path[-1].key
    values = draw.standard_normal(leaf.shape, np.float32)
    if name == "var":
        return np.exp(0.2 * values)
    if name in ("u", "v"):
        return values / np.linalg.norm(values)
    if name.endswith("kernel"):
        return values / np.sqrt(np.float32(np.prod(leaf.shape[:-1])))
    return np.float32(0.05) * values + np.float32(name == "scale")


def random_batch(config: ConfigDict) -> Batch:
    """Noise, in the shapes of a batch of the whole run."""
    draw, b, size = np.random.default_rng(1), config.batch_size, config.size

    def images(*leading: int) -> np.ndarray:
        return draw.integers(0, 256, (*leading, size, size, 3), np.uint8)

    def normal(*shape: int) -> np.ndarray:
        return draw.standard_normal(shape, np.float32)

    if OBJECTIVES[config.stage].batch_of == "clips":
        return Clips(
            source=images(b),
            frames=images(b, CLIP_FRAMES),
            audio=normal(b, CLIP_FRAMES, *AUDIO_WINDOW),
            pose=normal(b, CLIP_FRAMES, POSE_NUMBERS),
            emotion=draw.integers(0, len(EMOTIONS), b, np.int32),
        )
    truths = [
        FaceTruth(normal(b, NUM_POINTS, 2), normal(b, POSE_NUMBERS))
        if OBJECTIVES[config.stage].with_truth
        else None
        for _ in range(2)
    ]
    return Pairs(images(b), images(b), *truths)


# A data set.

CLIP_LENGTH = 29
"""Frames of a clip, as in LRW."""

BLOB_SIZES = (4, 16, 64)
"""Rows and columns of the random patterns that a picture is made of."""

NOISE = 2.0
"""Deviation of the noise in a picture, of 255: its PNG is then as large as that of a face."""


def write_data_set(root: Path, kind: str, *, clips: int, size: int) -> None:
    """Writes clips of random pictures, poses and sound in the published layout.

    Args:
        root: of the data set.
        kind: `lrw`, `mead` or `voxceleb`, for the names.
        clips: how many.
        size: rows and columns of the frames.
    """
    from eamm_jax.input_pipeline.clips import STORED_POSE_NUMBERS, STORED_WINDOW

    draw = np.random.default_rng(2)
    for number in range(clips):
        # MEAD needs neutral clips of everyone.
        emotion = ("neutral_level_1", "happy_level_2")[number % 2]
        identity = {"lrw": "WORD", "mead": f"M{number // 2:03d}"}.get(kind, f"id{number:05d}")
        clip = {"mead": f"{emotion}_{number:03d}"}.get(kind, f"WORD_{number:05d}")
        folder = root / "fomm_crop" / identity / clip
        folder.mkdir(parents=True)
        for index, frame in enumerate(random_pictures(draw, CLIP_LENGTH, size)):
            write_png(folder / f"{index}.png", frame)
        for name, numbers in (("fomm_pose_crop", (STORED_POSE_NUMBERS,)), ("MFCC", STORED_WINDOW)):
            track = draw.standard_normal((CLIP_LENGTH, *numbers), np.float32)
            (root / name / identity).mkdir(parents=True, exist_ok=True)
            np.save(root / name / identity / f"{clip}.npy", track)


def random_pictures(draw: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Soft blobs with a little noise, (count, size, size, 3) uint8."""
    picture = np.zeros((size, size, 3))
    for cells in BLOB_SIZES:
        coarse = draw.uniform(0, 255, (cells, cells, 3))
        where = np.linspace(0, cells - 1, size)
        low = np.clip(where.astype(int), 0, cells - 2)
        part = (where - low)[:, None]
        for _ in range(2):  # rows, then columns: each transposes
            between = coarse[low] * (1 - part[..., None]) + coarse[low + 1] * part[..., None]
            coarse = between.swapaxes(0, 1)
        picture += coarse / len(BLOB_SIZES)
    noise = NOISE * draw.standard_normal((count, size, size, 3), np.float32)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)
