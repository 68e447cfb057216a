"""Stand-ins for the networks that measure: weights and inputs that NumPy makes alike anywhere.

Each tensor is made from its published name and shape alone, so that the published code
(`record_metric_networks`) and the tests fill the networks with the same numbers.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

RECORDED = Path(__file__).with_suffix(".npz")
"""What the published code computed."""

FRAMES, MAX_SHIFT = 13, 15
"""Of the clip that SyncNet measures."""


def stand_in(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor; activations keep their size from layer to layer."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.startswith("lin"):  # how much channels matter
        return rng.uniform(0, 0.2, shape).astype(np.float32)
    if len(shape) == 1:
        centre = 1.0 if name.endswith("weight") else 0.0
        return (centre + 0.2 * rng.normal(size=shape)).astype(np.float32)
    scale = math.sqrt(2 / math.prod(shape[1:]))
    if name in ("netcnnlip.0.weight", "netcnnaud.0.weight"):
        scale /= 100  # bytes and energies
    if name.startswith(("alpha", "beta", "netfclip.3", "netfcaud.3")):
        scale /= 20  # attention that does not saturate; features as long as the published ones
    return (scale * rng.normal(size=shape)).astype(np.float32)


def stand_ins(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    return {name: stand_in(name, shape) for name, shape in shapes.items()}


def pictures(count: int, height: int, width: int, seed: int) -> np.ndarray:
    """Smooth spots of colour, uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, height // 8, width // 8, 3))
    return np.kron(coarse, np.ones((1, 8, 8, 1), int)).astype(np.uint8)


def alike() -> tuple[np.ndarray, np.ndarray]:
    """Two pictures, each beside another one and beside one that is nearly the same."""
    one, other = pictures(2, 64, 80, seed=4).astype(int)
    return np.stack([one, one]).astype(np.uint8), np.stack([other, (7 * one + other) // 8]).astype(
        np.uint8
    )


def sound() -> np.ndarray:
    """Noise of changing loudness, 16-bit, a little longer than the clip."""
    rng = np.random.default_rng(3)
    length = 640 * FRAMES + 100
    loudness = 3000 * (1.2 + np.sin(np.arange(length) / 700))
    return (loudness * rng.uniform(-1, 1, length)).astype(np.int16)
