"""From phonemes to the movement of the mouth.

Each sound has a mouth shape (viseme). Speech does not jump from shape to shape: every sound
pulls the mouth towards its own with a strength that fades with the distance in time, and where
several pull at once the mouth is in between (dominance functions, Cohen and Massaro 1993). What
a sound cannot do without is not blended but reached: lips closed in p, b, m, lip and teeth
together in f, v.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data.synthetic.controls import Control, Performance
from eamm_jax.io.speech import Phoneme


@dataclass(frozen=True)
class Viseme:
    """A mouth shape, and how strongly the sound insists on each part of it."""

    jaw: float = 0.0
    width: float = 0.0
    round: float = 0.0
    teeth: float = 0.0  # lips drawn off the teeth
    tongue: float = 0.0
    closed: bool = False
    tuck: bool = False
    vowel: bool = False
    jaw_pull: float = 1.0
    lip_pull: float = 1.0  # of width and rounding


def _vowel(jaw: float, width: float = 0.0, round: float = 0.0) -> Viseme:
    return Viseme(jaw=jaw, width=width, round=round, vowel=True, lip_pull=0.5 + abs(round))


_REST = Viseme(jaw_pull=1.2, lip_pull=0.8)
_BILABIAL = Viseme(jaw=0.04, closed=True, jaw_pull=1.2, lip_pull=0.3)
_LABIODENTAL = Viseme(jaw=0.10, tuck=True, jaw_pull=1.0, lip_pull=0.3)
_DENTAL = Viseme(jaw=0.20, tongue=1.0, teeth=0.25, jaw_pull=0.6, lip_pull=0.2)
_ALVEOLAR = Viseme(jaw=0.16, tongue=0.75, teeth=0.15, jaw_pull=0.45, lip_pull=0.15)
_SIBILANT = Viseme(jaw=0.05, width=0.25, teeth=0.60, jaw_pull=1.1, lip_pull=0.4)
_POSTALVEOLAR = Viseme(jaw=0.08, round=0.50, teeth=0.60, jaw_pull=1.0, lip_pull=1.2)
_VELAR = Viseme(jaw=0.24, jaw_pull=0.35, lip_pull=0.1)
_GLOTTAL = Viseme(jaw=0.25, jaw_pull=0.1, lip_pull=0.05)

_VISEMES: dict[str, Viseme] = {
    **dict.fromkeys("pbm", _BILABIAL),
    **dict.fromkeys("fvɱ", _LABIODENTAL),
    **dict.fromkeys("θð", _DENTAL),
    **dict.fromkeys("tdnlɫɬʈɖɳɭ", _ALVEOLAR),
    **dict.fromkeys("sz", _SIBILANT),
    **dict.fromkeys("ʃʒɕʑʂʐ", _POSTALVEOLAR),
    **dict.fromkeys("kɡgŋxɣqχ", _VELAR),
    **dict.fromkeys("hɦʔħʕ", _GLOTTAL),
    **dict.fromkeys("rɾɽ", Viseme(jaw=0.20, tongue=0.60, teeth=0.15, jaw_pull=0.5, lip_pull=0.2)),
    **dict.fromkeys("ɹɻ", Viseme(jaw=0.16, round=0.40, jaw_pull=0.6, lip_pull=0.9)),
    **dict.fromkeys("ʁʀ", Viseme(jaw=0.26, jaw_pull=0.4, lip_pull=0.1)),
    **dict.fromkeys("βɸ", Viseme(jaw=0.05, round=0.20, jaw_pull=1.2, lip_pull=0.6)),
    **dict.fromkeys("wɥ", Viseme(jaw=0.10, round=0.95, jaw_pull=1.0, lip_pull=1.6)),
    "ʋ": Viseme(jaw=0.12, tuck=True),
    **dict.fromkeys("jɲʎçʝ", Viseme(jaw=0.13, width=0.40, teeth=0.2, jaw_pull=0.6, lip_pull=0.5)),
    # Vowels: the jaw by height, the lips by rounding and spreading.
    "i": _vowel(0.16, width=0.75),
    "ɪ": _vowel(0.28, width=0.45),
    "ɨ": _vowel(0.24, width=0.30),
    "ᵻ": _vowel(0.24, width=0.30),
    "e": _vowel(0.38, width=0.55),
    "ɛ": _vowel(0.55, width=0.40),
    "æ": _vowel(0.75, width=0.45),
    "a": _vowel(0.85, width=0.12),
    "ɐ": _vowel(0.62),
    "ɑ": _vowel(0.90),
    "ʌ": _vowel(0.62),
    "ə": _vowel(0.34),
    "ɚ": _vowel(0.30, round=0.25),
    "ɜ": _vowel(0.42, round=0.15),
    "ɝ": _vowel(0.38, round=0.30),
    "ɒ": _vowel(0.72, round=0.35),
    "ɔ": _vowel(0.58, round=0.50),
    "o": _vowel(0.42, round=0.80),
    "ɤ": _vowel(0.40),
    "ʊ": _vowel(0.26, round=0.65),
    "u": _vowel(0.18, round=1.00),
    "ɯ": _vowel(0.20, width=0.20),
    "ʉ": _vowel(0.18, round=0.80),
    "ɵ": _vowel(0.36, round=0.65),
    "y": _vowel(0.16, round=0.85),
    "ʏ": _vowel(0.24, round=0.65),
    "ø": _vowel(0.36, round=0.70),
    "œ": _vowel(0.50, round=0.55),
}

_VOICELESS_STOP = "p"
_HOLD = 0.045
"""Seconds of silence before the burst of a p that its event does not cover."""

_TRANSITION = 0.042
"""Seconds the lips take to meet or part."""

_FADE = 0.060
"""Seconds over which a sound's pull falls to a third."""

LEAD = 0.090
"""Seconds by which jaw and lips run ahead of the sound. Chosen on clips of MEAD and LRW: there a
model that learned from people without it was two frames late, and one frame with 0.05. Closed lips
are not ahead: their sound is heard while they are closed."""

_SHORTEST_HOLD = 0.024
"""Half a video frame and a little: lips that close are seen closed in one frame at least."""

_UNSTRESSED_JAW = 0.80


@dataclass(frozen=True)
class _Segment:
    viseme: Viseme
    start: float
    end: float
    jaw: float  # target, after stress


def _segments(phonemes: Sequence[Phoneme]) -> list[_Segment]:
    """One segment for each symbol; diphthongs and affricates have two."""
    result = []
    for phoneme in phonemes:
        shapes = [_VISEMES[c] for c in phoneme.symbol if c in _VISEMES] or [_REST]
        if phoneme.symbol and shapes == [_REST]:
            shapes = [_GLOTTAL]  # a sound this table does not know
        length = (phoneme.end - phoneme.start) / len(shapes)
        for n, shape in enumerate(shapes):
            stress = 1.0 if phoneme.stressed or not shape.vowel else _UNSTRESSED_JAW
            start = phoneme.start + n * length
            result.append(_Segment(shape, start, start + length, shape.jaw * stress))
    return result


def _pull(times: Float[np.ndarray, " t"], segment: _Segment) -> Float[np.ndarray, " t"]:
    """How strongly a segment pulls at each time: fully in its core, fading outside."""
    middle, core = (segment.start + segment.end) / 2, 0.25 * (segment.end - segment.start)
    return (
        np.exp(-np.maximum(np.abs(times - middle) - core, 0) / _FADE)
        * (segment.end - segment.start) ** 0.35
    )


def _reached(times: Float[np.ndarray, " t"], start: float, end: float) -> Float[np.ndarray, " t"]:
    """1 from `start` to `end`, and for one video frame at least; smooth to 0 before and after."""
    middle, half = (start + end) / 2, max((end - start) / 2, _SHORTEST_HOLD)
    beyond = np.clip((np.abs(times - middle) - half) / _TRANSITION, 0, 1)
    return 1 - beyond * beyond * (3 - 2 * beyond)


def closures(phonemes: Sequence[Phoneme]) -> list[tuple[float, float]]:
    """Intervals, in seconds, in which the lips are held together by p, b or m."""
    result = []
    for segment in _segments(phonemes):
        if segment.viseme.closed:
            start, end = segment.start, segment.end - 0.015
            if _VISEMES[_VOICELESS_STOP] is segment.viseme and end - start < _HOLD:
                # A stop's event may mark its burst; the closure came before.
                start, end = segment.start - _HOLD, segment.start + 0.010
            result.append((start, max(end, start)))
    return result


def mouth_track(phonemes: Sequence[Phoneme], times: Float[np.ndarray, " t"]) -> Performance:
    """The movement of the mouth in speech.

    Args:
        phonemes: what is said and when.
        times: seconds at which the mouth is wanted.

    Returns:
        Controls at these times; those that speech does not move are zero.
    """
    track = np.zeros((len(times), len(Control)), np.float32)
    segments = _segments(phonemes)
    jaw = np.zeros(len(times))
    width, rounding, teeth, tongue = (np.zeros(len(times)) for _ in range(4))
    jaw_total, lip_total, other_total = (np.full(len(times), 1e-6) for _ in range(3))
    for segment in segments:
        shape, pull = segment.viseme, _pull(times + LEAD, segment)
        jaw += pull * shape.jaw_pull * segment.jaw
        jaw_total += pull * shape.jaw_pull
        width += pull * shape.lip_pull * shape.width
        rounding += pull * shape.lip_pull * shape.round
        lip_total += pull * shape.lip_pull
        teeth += pull * shape.teeth
        tongue += pull * shape.tongue
        other_total += pull
    track[:, Control.JAW_OPEN] = jaw / jaw_total
    track[:, Control.MOUTH_WIDTH] = width / lip_total
    track[:, Control.MOUTH_ROUND] = rounding / lip_total
    track[:, Control.LIP_LOWER_DROP] = 0.55 * teeth / other_total
    track[:, Control.LIP_UPPER_RAISE] = 0.25 * teeth / other_total
    track[:, Control.TONGUE] = tongue / other_total
    for start, end in closures(phonemes):
        np.maximum(
            track[:, Control.LIPS_CLOSED],
            _reached(times, start, end),
            out=track[:, Control.LIPS_CLOSED],
        )
    for segment in segments:
        if segment.viseme.tuck:
            tuck = _reached(times, segment.start, segment.end - 0.01)
            np.maximum(track[:, Control.LIP_TUCK], tuck, out=track[:, Control.LIP_TUCK])
    return track
