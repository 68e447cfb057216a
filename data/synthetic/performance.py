"""What face and head do in a take: speech over emotion, and the signs of life."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from data.synthetic import movement, visemes
from data.synthetic.camera import Pose
from data.synthetic.cast import Person
from data.synthetic.controls import Control, Performance
from data.synthetic.emotion import NEUTRAL_BLINK_RATE, Emotion
from data.synthetic.movement import Reach
from eamm_jax.constants import FRAME_RATE
from eamm_jax.io.speech import Phoneme

_YIELDS_TO_SPEECH = {
    Control.JAW_OPEN: 0.70,
    Control.MOUTH_ROUND: 0.60,
    Control.MOUTH_WIDTH: 0.30,
    Control.LIP_PRESS: 0.80,
    Control.LIP_UPPER_RAISE: 0.35,
    Control.LIP_LOWER_DROP: 0.40,
    Control.CHIN_RAISE: 0.55,
    Control.CORNER_LEFT: 0.15,
    Control.CORNER_RIGHT: 0.15,
}
"""How much of an emotion's hold on a part of the mouth is given up while speaking."""

_ACCENT_BROWS = 0.14  # how far brows rise with an accent
_ACCENT_NOD = 2.2  # degrees


class Acting(NamedTuple):
    """The course of a take.

    Attributes:
        performance: controls of the face in each frame.
        poses: of the head in each frame.
        strength: of the emotion in each frame, 0 to about 1.
    """

    performance: Performance
    poses: list[Pose]
    strength: Float32[np.ndarray, " t"]


def act(
    rng: np.random.Generator,
    person: Person,
    mood: Emotion,
    strength: float,
    phonemes: Sequence[Phoneme],
    count: int,
    reach: Reach | None = None,
) -> Acting:
    """Acts a take out.

    Args:
        rng: randomness.
        person: whose habits it follows.
        mood: the emotion.
        strength: of the emotion at its height, 0..1.
        phonemes: what is said and when.
        count: frames.
        reach: how widely poses vary between takes.
    """
    times = (np.arange(count) + 0.5) / FRAME_RATE
    felt = _course(rng, count) * strength * person.expressiveness
    speaking = _speaking(phonemes, times)
    accents = _accents(rng, phonemes, times)

    speech = visemes.mouth_track(phonemes, times)
    speech[:, Control.JAW_OPEN] *= person.articulation * (1 + (mood.energy - 1) * strength)
    total = speech + _emotion(rng, mood, felt, speaking)
    for control in (Control.BROW_INNER, Control.BROW_OUTER_LEFT, Control.BROW_OUTER_RIGHT):
        total[:, control] += _ACCENT_BROWS * accents
    rate = NEUTRAL_BLINK_RATE + (mood.blink_rate - NEUTRAL_BLINK_RATE) * strength
    total[:, Control.BLINK] = movement.blinks(rng, count, rate)
    total[:, (Control.GAZE_X, Control.GAZE_Y)] += movement.gaze(rng, count)

    lean = np.outer(felt, mood.head)
    lean[:, 1] += _ACCENT_NOD * accents * person.restless
    restless = person.restless * (1 + (mood.restless - 1) * strength)
    poses = movement.head(rng, count, restless, lean, reach)
    return Acting(total.astype(np.float32), poses, felt.astype(np.float32))


def _course(rng: np.random.Generator, count: int) -> Float[np.ndarray, " t"]:
    """How an emotion comes up and wavers: from 0.5..0.9 to about 1 in a second or less."""
    start, onset = float(rng.uniform(0.5, 0.9)), float(rng.uniform(0.3, 1.0)) * FRAME_RATE
    t = np.clip(np.arange(count) / onset, 0, 1)
    rise = start + (1 - start) * t * t * (3 - 2 * t)
    return np.clip(rise * (1 + 0.06 * movement.smooth_noise(rng, count, 0.8)), 0, 1.1)


def _speaking(
    phonemes: Sequence[Phoneme], times: Float[np.ndarray, " t"]
) -> Float[np.ndarray, " t"]:
    """1 while something is said, smooth to 0 in pauses of more than a quarter of a second."""
    margin = 0.12
    result = np.zeros(len(times))
    for phoneme in phonemes:
        if phoneme.symbol:
            away = np.maximum(phoneme.start - times, times - phoneme.end)
            result = np.maximum(result, np.clip(1 - away / margin, 0, 1))
    return result


def _accents(
    rng: np.random.Generator, phonemes: Sequence[Phoneme], times: Float[np.ndarray, " t"]
) -> Float[np.ndarray, " t"]:
    """Emphasis on some of the stressed sounds, 0..1."""
    result = np.zeros(len(times))
    for phoneme in phonemes:
        if phoneme.stressed and rng.random() < 0.45:
            middle = (phoneme.start + phoneme.end) / 2
            weight = float(rng.uniform(0.4, 1))
            result = np.maximum(result, weight * np.exp(-(((times - middle) / 0.13) ** 2)))
    return result


def _emotion(
    rng: np.random.Generator,
    mood: Emotion,
    felt: Float[np.ndarray, " t"],
    speaking: Float[np.ndarray, " t"],
) -> Float[np.ndarray, "t controls"]:
    """The face of an emotion, shown a little differently each time, as far as speech lets it."""
    held = mood.face * rng.normal(1, 0.08, len(Control))
    track = np.outer(felt, held)
    corners = 0.04 * movement.smooth_noise(rng, len(felt), 0.9)
    for control in (Control.CORNER_LEFT, Control.CORNER_RIGHT):
        track[:, control] += corners
    for control in (Control.BROW_INNER, Control.LID_UPPER):
        track[:, control] += 0.04 * movement.smooth_noise(rng, len(felt), 0.9)
    for control, share in _YIELDS_TO_SPEECH.items():
        track[:, control] *= 1 - share * speaking
    return track
