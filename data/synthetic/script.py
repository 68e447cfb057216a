"""Which clips a person has, and what is said in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data.synthetic import cast, texts
from data.synthetic.emotion import EMOTION_LOOKS, LEVEL_STRENGTH
from eamm_jax.constants import EMOTIONS

_TEXT_STREAM = 3  # of random numbers; `clip` and `cast` have others


@dataclass(frozen=True)
class Take:
    """One recording of a person: an emotion at a level, for the n-th time (from 1)."""

    number: int
    emotion: str
    level: int
    take: int

    @property
    def clip_name(self) -> str:
        """As in MEAD, whose names carry the label."""
        return f"{self.emotion}_level_{self.level}_{self.take:03d}"

    @property
    def key(self) -> tuple[int, int, int, int]:
        """The take in numbers."""
        return self.number, EMOTIONS.index(self.emotion), self.level, self.take


def takes_of(number: int, takes: int, emotions: Sequence[str] = EMOTIONS) -> list[Take]:
    """All recordings of a person: each emotion at each level, `takes` times.

    Neutral has level 1 only, and three times as many takes.
    """
    result = []
    for emotion in emotions:
        neutral = emotion == "neutral"
        for level in (1,) if neutral else tuple(LEVEL_STRENGTH):
            count = takes * len(LEVEL_STRENGTH) if neutral else takes
            result += [Take(number, emotion, level, n + 1) for n in range(count)]
    return result


class Script(NamedTuple):
    """What is said in a take, and how the voice follows the emotion."""

    text: str
    voice: str
    rate: int
    pitch: int
    pitch_range: int


def script(seed: int, take: Take) -> Script:
    """Chooses what a person says in a take."""
    person = cast.person(seed, take.number)
    rng = np.random.default_rng([seed, *take.key, _TEXT_STREAM])
    mood = EMOTION_LOOKS[take.emotion]
    strength = LEVEL_STRENGTH[take.level]
    voice = person.voice
    pace = 1 + (mood.rate - 1) * strength + float(rng.uniform(-0.05, 0.05))
    melody = 1 + (mood.pitch_range - 1) * strength
    return Script(
        text=sentence(rng, voice.language, person.held_out),
        voice=f"{voice.language}+{voice.variant}",
        rate=int(np.clip(voice.rate * pace, 100, 260)),
        pitch=int(np.clip(voice.pitch + mood.pitch * strength + rng.integers(-3, 4), 5, 95)),
        pitch_range=int(np.clip(voice.pitch_range * melody, 5, 99)),
    )


def sentence(rng: np.random.Generator, language: str, held_out: bool) -> str:
    """A sentence in a language; held-out people have sentences of their own."""
    sentences = texts.SENTENCES[language]
    reserved = max(1, len(sentences) // 5)
    if held_out:
        return sentences[int(rng.integers(reserved))]
    if language.startswith("en") and rng.random() < 0.6:
        return texts.made_up(rng)
    return sentences[reserved + int(rng.integers(len(sentences) - reserved))]
