"""The one-euro filter (Casiez et al. 2012), as a scan that carries its state.

A low-pass filter whose cutoff rises with the speed of the signal: still signals lose
their jitter, fast ones are not delayed. Carrying the state lets a long track be filtered
in pieces with the same result.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from eamm_jax.types import Array


class OneEuro(NamedTuple):
    """A filter's parameters.

    Attributes:
        gain: the signal is multiplied by this before and divided by it after filtering.
        mincutoff: cutoff at rest, in Hz.
        beta: rise of the cutoff with speed.
        dcutoff: cutoff of the speed estimate, in Hz.
        frequency: nominal samples a second.
    """

    gain: float
    mincutoff: float
    beta: float
    dcutoff: float = 1.0
    # Parity: the published filters run at a nominal 100 Hz on 25 Hz tracks.
    frequency: float = 100.0


# ARCHITECTURE.md section 4; the last is section 5.
EMOTION_FILTER = OneEuro(gain=100.0, mincutoff=1.0, beta=0.2)
KEYPOINT_FILTER = OneEuro(gain=10.0, mincutoff=0.05, beta=8.0)
POSE_FILTER = OneEuro(gain=1.0, mincutoff=0.004, beta=0.7)
TRAINING_POSE_FILTER = OneEuro(gain=1.0, mincutoff=0.01, beta=0.7)


class OneEuroState(NamedTuple):
    """What a filter remembers of the samples before."""

    started: Bool[Array, ""]
    raw: Float[Array, "*n"]
    filtered: Float[Array, "*n"]
    speed: Float[Array, "*n"]


def initial_state(shape: tuple[int, ...]) -> OneEuroState:
    """The state before the first sample of a signal of this shape."""
    zeros = jnp.zeros(shape, jnp.float32)
    return OneEuroState(jnp.zeros((), bool), zeros, zeros, zeros)


def one_euro(
    track: Float[Array, "t *n"], parameters: OneEuro, state: OneEuroState
) -> tuple[Float[Array, "t *n"], OneEuroState]:
    """Filters a track along its first axis, every number on its own.

    Args:
        track: samples in time.
        parameters: of the filter.
        state: `initial_state(track.shape[1:])`, or what the piece before returned.

    Returns:
        The filtered track and the state after it.
    """
    gain, mincutoff, beta, dcutoff, frequency = parameters

    def alpha(cutoff: Array) -> Array:
        return 1.0 / (1.0 + frequency / (2.0 * np.pi * cutoff))

    def step(state: OneEuroState, sample: Array) -> tuple[OneEuroState, Array]:
        rate = jnp.where(state.started, (sample - state.raw) * frequency, 0.0)
        speed = state.speed + alpha(jnp.float32(dcutoff)) * (rate - state.speed)
        weight = alpha(mincutoff + beta * jnp.abs(speed))
        filtered = weight * sample + (1.0 - weight) * state.filtered
        filtered = jnp.where(state.started, filtered, sample)
        return OneEuroState(jnp.ones((), bool), sample, filtered, speed), filtered

    state, filtered = jax.lax.scan(step, state, track * gain)
    return filtered / gain, state
