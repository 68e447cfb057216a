"""From clean synthetic speech to something like a recording: a room, a level, some noise."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32
from scipy.signal import fftconvolve, lfilter

from eamm_jax.constants import SAMPLE_RATE

_SPEECH_LEVEL = 0.09
"""Root mean square of the speech at energy 1."""


def record(
    rng: np.random.Generator,
    speech: Float32[np.ndarray, " n"],
    *,
    energy: float,
    before: float,
    after: float,
) -> Float32[np.ndarray, " m"]:
    """Records speech.

    Args:
        rng: randomness.
        speech: mono, 16 kHz.
        energy: loudness relative to ordinary speech.
        before: seconds of silence put before it.
        after: seconds of silence put after it.

    Returns:
        Samples within [-1, 1]; silence is a quiet hiss, as in real recordings.
    """
    lead, tail = (round(s * SAMPLE_RATE) for s in (before, after))
    sound = np.pad(speech.astype(np.float64), (lead, tail))
    # A short echo that decays by 60 dB within `decay`.
    decay = float(rng.uniform(0.08, 0.30))
    length = int(decay * SAMPLE_RATE)
    echo = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    echo *= float(rng.uniform(0.02, 0.15)) / np.sqrt(np.sum(echo**2))
    echo[0] = 1.0
    sound = fftconvolve(sound, echo)[: len(sound)]
    # A microphone that prefers low or high notes.
    sound = lfilter([1.0, float(rng.uniform(-0.35, 0.25))], [1.0], sound)
    level = np.sqrt(np.mean(sound[lead : len(sound) - tail] ** 2)) + 1e-9
    sound *= _SPEECH_LEVEL * energy * float(rng.uniform(0.7, 1.3)) / level
    hiss = lfilter([1.0], [1.0, -float(rng.uniform(0.3, 0.9))], rng.standard_normal(len(sound)))
    quiet = 10 ** (float(rng.uniform(-68, -46)) / 20)
    sound += hiss * (quiet / np.sqrt(np.mean(hiss**2)))
    return np.clip(sound, -1, 1).astype(np.float32)
