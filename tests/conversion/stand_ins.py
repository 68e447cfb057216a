"""Tiny stand-ins of the published files: real names and nesting, small shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eamm_jax.constants import NETWORKS
from eamm_jax.conversion import tables
from eamm_jax.models.config import ModelConfig
from eamm_jax.models.presets import tiny
from eamm_jax.ops.resizing import ANTIALIAS_SIGMA, gaussian_kernel
from tests.conversion import torch_files
from tests.conversion.torch_files import ORDERED_DICT, Call

FILES = {
    "checkpoint": ("generator", "discriminator", "kp_detector"),
    "audio": ("audio_feature", "kp_detector_a"),
    "emotion": ("audio_feature", "kp_detector_a", "emo_detector"),
}
NAMES = {
    "checkpoint": "124_52000.pth.tar",
    "audio": "1-6000.pth.tar",
    "emotion": "5-3000.pth.tar",
}


def gaussian() -> np.ndarray:
    row = gaussian_kernel(ANTIALIAS_SIGMA)
    return np.broadcast_to(np.outer(row, row), (3, 1, 13, 13)).copy()


UNUSED = {
    "kp_detector": {
        "down.weight": gaussian(),
        "predictor.encoder.down_blocks.0.norm.num_batches_tracked": np.array(7),
    },
    "generator": {
        "dense_motion_network.down.weight": gaussian(),
        "first.norm.num_batches_tracked": np.array(7),
    },
    "discriminator": {},
    "audio_feature": {
        "generator.convs.0.conv.weight": np.zeros((1, 2, 3, 3, 3), np.float32),
        "down_blocks.0.norm.num_batches_tracked": np.array(7),
    },
    "kp_detector_a": {
        "predictor.encoder.down_blocks.0.conv.weight": np.zeros((4, 3, 3, 3), np.float32),
        "down.weight": gaussian(),
    },
    "emo_detector": {
        "down.weight": gaussian(),
        "fc.weight": np.zeros((8, 512), np.float32),
        "fc.bias": np.zeros(8, np.float32),
        "final_4.0.weight": np.zeros((4, 4, 3), np.float32),
        "bn1.num_batches_tracked": np.array(7),
    },
}


def state_dict(network: str, config: ModelConfig | None = None, seed: int = 0) -> dict[str, Any]:
    """Random tensors of a network by their published names, unused ones among them."""
    rng = np.random.default_rng([seed, NETWORKS.index(network)])
    entries = tables.table(network, config or tiny()).entries
    tensors = {e.name: rng.normal(size=e.published_shape).astype(np.float32) for e in entries}
    return tensors | {name: array.copy() for name, array in UNUSED[network].items()}


def write_file(
    folder: Path,
    role: str,
    *,
    config: ModelConfig | None = None,
    seed: int = 0,
    layout: str = "zip",
    change: Any = lambda content: None,
    prefix: str = "",
    name: str | None = None,
) -> Path:
    """Writes one of the files; `change` may edit its content before."""
    content: dict[str, Any] = {
        network: {prefix + k: v for k, v in state_dict(network, config, seed).items()}
        for network in FILES[role]
    }
    content |= {"epoch": 3, "optimizer_x": {"state": {0: {"step": 1, "exp_avg": np.ones(3)}}}}
    change(content)
    pairs = {
        key: Call(ORDERED_DICT, ([[k, v] for k, v in value.items()],), {"_metadata": {}})
        if key in NETWORKS
        else value
        for key, value in content.items()
    }
    return torch_files.save(pairs, folder / (name or NAMES[role]), layout)


def write_all(folder: Path, **options: Any) -> dict[str, Path]:
    return {role: write_file(folder, role, **options) for role in FILES}
