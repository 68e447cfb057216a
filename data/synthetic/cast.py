"""The people of the data set: a voice and habits for every number."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

HELD_OUT = 0.1
"""Share of the people who say sentences that nobody else says (see `share`)."""

_LANGUAGES = {
    "en-us": 0.56,
    "en": 0.10,
    "de": 0.06,
    "fr": 0.06,
    "es": 0.06,
    "it": 0.04,
    "pt": 0.03,
    "nl": 0.03,
    "pl": 0.02,
    "sv": 0.02,
    "tr": 0.02,
}
_FEMININE_VOICES = ("f1", "f2", "f3", "f4", "f5")
_MASCULINE_VOICES = ("m1", "m2", "m3", "m4", "m5", "m6", "m7")

_SEX_STREAM, _HABIT_STREAM = 1, 2  # of random numbers; `script` and others have more


@dataclass(frozen=True)
class Voice:
    """How a person speaks when neutral; units are those of `eamm_jax.io.speech`."""

    language: str
    variant: str
    rate: int
    pitch: int
    pitch_range: int


@dataclass(frozen=True)
class Person:
    """Somebody of the cast.

    Attributes:
        number: position in the cast.
        name: the folder's name in the published layout.
        feminine: how they look and sound.
        voice: how they sound.
        articulation: factor on how far the mouth moves in speech.
        expressiveness: factor on expressions.
        restless: factor on movements of the head.
        held_out: whether they say the sentences that are kept for them.
    """

    number: int
    name: str
    feminine: bool
    voice: Voice
    articulation: float
    expressiveness: float
    restless: float
    held_out: bool


def name_of(number: int) -> str:
    """The folder's name of a person."""
    return f"s{number:05d}"


def share(name: str) -> float:
    """A number in [0, 1) that depends on the name alone.

    The input pipeline divides identities into training and validation by the same number, so
    the first of the held-out people are those it validates on.
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64


@lru_cache(maxsize=64)
def person(seed: int, number: int) -> Person:
    """A person of the cast, the same one for the same numbers."""
    feminine = bool(np.random.default_rng([seed, number, _SEX_STREAM]).random() < 0.5)
    rng = np.random.default_rng([seed, number, _HABIT_STREAM])
    chances = np.array(list(_LANGUAGES.values()))
    language = list(_LANGUAGES)[int(rng.choice(len(chances), p=chances / chances.sum()))]
    variants = _FEMININE_VOICES if feminine else _MASCULINE_VOICES
    name = name_of(number)
    return Person(
        number=number,
        name=name,
        feminine=feminine,
        voice=Voice(
            language=language,
            variant=variants[int(rng.integers(len(variants)))],
            rate=int(rng.integers(145, 186)),
            pitch=int(rng.integers(36, 64)),
            pitch_range=int(rng.integers(38, 66)),
        ),
        articulation=float(rng.uniform(0.95, 1.25)),
        expressiveness=float(rng.uniform(0.88, 1.08)),
        restless=float(rng.uniform(0.6, 1.2)),
        held_out=share(name) < HELD_OUT,
    )
