"""The one-euro filter (Casiez et al. 2012): one step, run over a track on a device or on the host.

A low-pass filter whose cutoff rises with the speed of the signal: jitter is removed where the
signal rests, and fast motion is not delayed. The state is explicit, so that a long track can
be filtered in pieces with the same result.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32

from eamm_jax.types import Array


class OneEuro(NamedTuple):
    """Parameters of a filter."""

    gain: float  # the signal is multiplied by this before filtering and divided by it after
    mincutoff: float  # cutoff at rest, in Hz
    beta: float  # rise of the cutoff with speed
    dcutoff: float = 1.0  # cutoff of the speed estimate, in Hz
    # Parity: samples per second; the published filters run at 100 Hz on 25 Hz tracks.
    frequency: float = 100.0


# docs/architecture.md section 7.
EMOTION_FILTER = OneEuro(gain=100.0, mincutoff=1.0, beta=0.2)
KEYPOINT_FILTER = OneEuro(gain=10.0, mincutoff=0.05, beta=8.0)
POSE_FILTER = OneEuro(gain=1.0, mincutoff=0.004, beta=0.7)
TRAINING_POSE_FILTER = OneEuro(gain=1.0, mincutoff=0.01, beta=0.7)


class OneEuroState(NamedTuple):
    """What a filter keeps of the samples so far; zeros before the first."""

    started: Bool[Array, ""]
    raw: Float[Array, "*n"]
    filtered: Float[Array, "*n"]
    speed: Float[Array, "*n"]


def initial_state(shape: tuple[int, ...]) -> OneEuroState:
    """The state before the first sample of a signal of this shape."""
    zeros = jnp.zeros(shape, jnp.float32)
    return OneEuroState(jnp.zeros((), bool), zeros, zeros, zeros)


def one_euro_step(
    state: OneEuroState, sample: Any, parameters: OneEuro
) -> tuple[OneEuroState, Any]:
    """Filters one sample, multiplied by the gain; arrays of JAX or of NumPy.

    Algorithm 1 of the paper. The first sample passes unchanged.
    """

    def alpha(cutoff: Any) -> Any:
        return 1.0 / (1.0 + parameters.frequency / (2.0 * math.pi * cutoff))

    rate = state.started * (sample - state.raw) * parameters.frequency
    speed = state.speed + alpha(parameters.dcutoff) * (rate - state.speed)
    weight = alpha(parameters.mincutoff + parameters.beta * abs(speed))
    weight = state.started * weight + (1 - state.started)
    filtered = weight * sample + (1.0 - weight) * state.filtered
    return OneEuroState(state.started | True, sample, filtered, speed), filtered


def one_euro(
    track: Float[Array, "t *n"], parameters: OneEuro, state: OneEuroState
) -> tuple[Float[Array, "t *n"], OneEuroState]:
    """Filters a track along its first axis, each number on its own.

    Args:
        track: samples in time.
        parameters: of the filter.
        state: `initial_state(track.shape[1:])`, or what the piece before returned.

    Returns:
        The filtered track and the state after it.
    """
    state, filtered = jax.lax.scan(
        lambda state, sample: one_euro_step(state, sample, parameters),
        state,
        track * parameters.gain,
    )
    return filtered / parameters.gain, state


def smooth_track(
    track: Float[np.ndarray, "t *n"], parameters: OneEuro
) -> Float32[np.ndarray, "t *n"]:
    """Filters a whole track on the host, in float64: `one_euro` for where JAX is not to be used.

    Data workers must not touch JAX's devices, and there each length would be compiled anew.
    """
    zeros: Any = np.zeros(track.shape[1:])
    started: Any = np.False_
    state = OneEuroState(started, zeros, zeros, zeros)
    filtered = np.empty(track.shape)
    for index, sample in enumerate(track.astype(np.float64) * parameters.gain):
        state, filtered[index] = one_euro_step(state, sample, parameters)
    return (filtered / parameters.gain).astype(np.float32)
