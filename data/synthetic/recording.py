"""From clean speech to something like a recording: a room, a level, some noise, a channel."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32
from scipy.signal import butter, fftconvolve, lfilter, sosfilt

from eamm_jax.constants import SAMPLE_RATE

_SPEECH_LEVEL = 0.09
"""Root mean square of the speech at energy 1."""

_LOWEST, _HIGHEST = (30.0, 300.0), (3300.0, 7800.0)
"""Hz from which and up to which a channel carries sound: from a studio to a telephone."""

_NOISE_RATIO = (14.0, 50.0)
"""Decibels of speech over the noise of its surroundings."""

_NOISE_SLOPE = (0.0, 1.2)
"""Exponent by which noise falls with frequency: from white to lower than pink."""

_GAIN = (-12.0, 6.0)
"""Decibels."""


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


def carry(rng: np.random.Generator, sound: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """Makes a recording as different as those of the world: another place, another channel.

    Args:
        rng: randomness.
        sound: mono, 16 kHz.

    Returns:
        The sound with the noise of its surroundings, in half of all cases cut to the band of a
        poorer channel, at another level.
    """
    level = np.sqrt(np.mean(sound.astype(np.float64) ** 2)) + 1e-9
    spectrum = np.fft.rfft(rng.standard_normal(len(sound)))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1) ** -float(rng.uniform(*_NOISE_SLOPE))
    noise = np.fft.irfft(spectrum, len(sound))
    noise *= level * 10 ** (-float(rng.uniform(*_NOISE_RATIO)) / 20) / np.sqrt(np.mean(noise**2))
    heard = sound + noise
    poorer = rng.random() < 0.5
    band = [float(np.exp(rng.uniform(*np.log(limits)))) for limits in (_LOWEST, _HIGHEST)]
    if poorer:
        heard = sosfilt(butter(4, band, "bandpass", fs=SAMPLE_RATE, output="sos"), heard)
    heard *= 10 ** (float(rng.uniform(*_GAIN)) / 20)
    return np.clip(heard, -1, 1).astype(np.float32)
