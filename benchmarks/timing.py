"""Times compiled functions in turns, and measures the machine's peak."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

MATMUL_SIDE = 2048
CONV_SHAPE = (1, 64, 64, 256)
"""The shape of the published generator's residual blocks, its largest part."""

COPIED_BYTES = 1 << 28


def in_turns(jobs: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, np.ndarray]:
    """Times jobs in turns, so that all of them see the same state of the machine.

    Args:
        jobs: jobs by name; each is run once before timing.
        repeats: number of measurements per job.

    Returns:
        Seconds of each job, (repeats,).
    """
    for job in jobs.values():
        jax.block_until_ready(job())
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            start = time.perf_counter()
            jax.block_until_ready(job())
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(times) for name, times in seconds.items()}


def peaks(repeats: int = 10) -> dict[str, float]:
    """Measured peak of the device: FLOP/s of matrix products and convolutions, bytes/s of a copy.

    The best of several runs, to exclude other load on the machine.
    """
    x = jnp.ones(CONV_SHAPE)
    square = jnp.ones((MATMUL_SIDE, MATMUL_SIDE))
    half = square.astype(jnp.bfloat16)
    channels = CONV_SHAPE[-1]
    kernel = jnp.ones((3, 3, channels, channels))
    line = jnp.ones(COPIED_BYTES // 4)
    product = jax.jit(lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32))
    convolution = jax.jit(
        lambda x, k: jax.lax.conv_general_dilated(
            x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    )
    copy = jax.jit(lambda x: x + 1)
    times = in_turns(
        {
            "matmul": lambda: product(square, square),
            "matmul_bfloat16": lambda: product(half, half),
            "convolution": lambda: convolution(x, kernel),
            "copy": lambda: copy(line),
        },
        repeats,
    )
    work = {
        "matmul": 2 * MATMUL_SIDE**3,
        "matmul_bfloat16": 2 * MATMUL_SIDE**3,
        "convolution": 2 * x.size * 9 * channels,
        "copy": 2 * COPIED_BYTES,
    }
    return {name: work[name] / float(times[name].min()) for name in times}
