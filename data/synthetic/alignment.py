"""When each phoneme of a text is heard in a recording of it: forced alignment by PocketSphinx.

The text is pronounced by eSpeak NG, in its own symbols and stress, which `visemes` knows. For the
aligner each symbol becomes the nearest phones of its American English acoustic model; that is
close enough to find the boundaries in other European languages too. Between words there may be
pauses of any length. PocketSphinx (MIT, BSD) comes with the extra `voices`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float32

from eamm_jax.constants import SAMPLE_RATE
from eamm_jax.io.speech import Phoneme, Speech

if TYPE_CHECKING:
    from pocketsphinx import Decoder

_FRAME, _WINDOW = 0.01, 0.0256
"""Seconds between the aligner's frames, and seconds that each looks at."""

_PADDING, _HISS = 0.3, 1e-4
"""Seconds of quiet around a recording and how loud it is: the last word is found only if
something follows it.
"""

_PHONES = {
    **{c: c.upper() for c in "bdfklmnpstvz"},
    **dict.fromkeys("ɡg", "G"),
    **dict.fromkeys("ɱ", "M"),
    **dict.fromkeys("ɲɳ", "N"),
    **dict.fromkeys("ŋ", "NG"),
    **dict.fromkeys("θ", "TH"),
    **dict.fromkeys("ð", "DH"),
    **dict.fromkeys("β", "V"),
    **dict.fromkeys("ʋ", "V"),
    **dict.fromkeys("ɫɬɭ", "L"),
    **dict.fromkeys("ʃɕʂ", "SH"),
    **dict.fromkeys("ʒʑʐ", "ZH"),
    **dict.fromkeys("tʈ", "T"),
    **dict.fromkeys("ɖ", "D"),
    **dict.fromkeys("ɾɽ", "D"),
    **dict.fromkeys("ɹɻrʁʀ", "R"),
    **dict.fromkeys("hɦxçχħ", "HH"),
    **dict.fromkeys("ɣ", "G"),
    **dict.fromkeys("ɟ", "G"),
    **dict.fromkeys("cq", "K"),
    **dict.fromkeys("jʎʝ", "Y"),
    **dict.fromkeys("wɥ", "W"),
    **dict.fromkeys("iy", "IY"),
    **dict.fromkeys("ɪɨᵻʏ", "IH"),
    **dict.fromkeys("eø", "EY"),
    **dict.fromkeys("ɛœ", "EH"),
    **dict.fromkeys("æ", "AE"),
    **dict.fromkeys("aɑɒ", "AA"),
    **dict.fromkeys("ɐʌə", "AH"),
    **dict.fromkeys("ɚɜɝ", "ER"),
    **dict.fromkeys("ɔ", "AO"),
    **dict.fromkeys("oɤɵ", "OW"),
    **dict.fromkeys("ʊ", "UH"),
    **dict.fromkeys("uɯʉ", "UW"),
    "tʃ": "CH",
    "tɕ": "CH",
    "dʒ": "JH",
    "dʑ": "JH",
    "eɪ": "EY",
    "aɪ": "AY",
    "aʊ": "AW",
    "ɔɪ": "OY",
    "oʊ": "OW",
    "əʊ": "OW",
}
"""The aligner's phone for one or two characters of the International Phonetic Alphabet."""

_PHONE_NAMES = frozenset(_PHONES.values())
"""Other names are those of silence and noise."""


class Alignment(NamedTuple):
    """Where the phonemes of a text are.

    Attributes:
        phonemes: in order, without gaps, from 0 to the end of the recording.
        score: mean log likelihood of a frame of speech; the higher, the better it fits the text.
    """

    phonemes: tuple[Phoneme, ...]
    score: float


def phones(symbol: str) -> list[str]:
    """The aligner's phones for a phoneme; none for a pause."""
    result, n = [], 0
    while n < len(symbol):
        length = 2 if symbol[n : n + 2] in _PHONES else 1
        phone = _PHONES.get(symbol[n : n + length])
        result += [phone] if phone else []
        n += length
    return result


def align(samples: Float32[np.ndarray, " n"], said: Speech) -> Alignment | None:
    """Finds the phonemes of a text in a recording of it.

    Args:
        samples: the recording, mono, 16 kHz.
        said: the same text, spoken by the engine.

    Returns:
        The phonemes of the recording, or None if it is not of that text.
    """
    words = [word for word in _words(said) if word]
    names = ["_".join(phone for p in word for phone in phones(p.symbol)) for word in words]
    decoder = _decoder()
    for name in names:
        if decoder.lookup_word(name) is None:
            decoder.add_word(name, name.replace("_", " "), True)
    padded = np.pad(np.clip(samples, -1, 1), round(_PADDING * SAMPLE_RATE))
    padded += _HISS * np.random.default_rng(0).standard_normal(len(padded))
    sound = (padded * 32767).astype("<i2").tobytes()
    try:
        decoder.set_align_text(" ".join(names))
        _decode(decoder, sound)
        if decoder.hyp() is None:
            return None
        decoder.set_alignment()
        _decode(decoder, sound)
    except RuntimeError:  # the words end before the recording, or the other way round
        return None
    found = decoder.get_alignment()  # the spans below live as long as this
    spans = [
        (_time(span.start), _time(span.start + span.duration), span.score)
        for word in found
        for span in word
        if span.name in _PHONE_NAMES
    ]
    if len(spans) != sum(len(phones(p.symbol)) for word in words for p in word):
        return None
    end = len(samples) / SAMPLE_RATE
    timed, n = [], 0
    for phoneme in (p for word in words for p in word):
        first, n = n, n + len(phones(phoneme.symbol))
        start, stop = max(spans[first][0], 0.0), min(spans[n - 1][1], end)
        if stop <= start:
            return None
        timed.append(phoneme._replace(start=start, end=stop))
    score = sum(s for *_, s in spans) / sum(stop - start for start, stop, _ in spans) * _FRAME
    return Alignment(tuple(_with_pauses(timed, end)), score)


def _time(frame: int) -> float:
    """Seconds of the recording at which a frame of the padded sound begins.

    Frames overlap; each stands for the middle of its window.
    """
    return frame * _FRAME + (_WINDOW - _FRAME) / 2 - _PADDING


def _words(said: Speech) -> Iterator[list[Phoneme]]:
    """The phonemes of each word, without pauses and without what the aligner has no phone for."""
    starts = [*said.words, float("inf")]
    for start, stop in zip([-1.0, *starts], starts, strict=False):
        yield [p for p in said.phonemes if start <= p.start < stop and phones(p.symbol)]


def _with_pauses(phonemes: Sequence[Phoneme], end: float) -> Iterator[Phoneme]:
    """Fills the gaps."""
    time = 0.0
    for phoneme in phonemes:
        if phoneme.start > time:
            yield Phoneme("", time, phoneme.start)
        yield phoneme
        time = phoneme.end
    if end > time:
        yield Phoneme("", time, end)


def _decode(decoder: Decoder, sound: bytes) -> None:
    decoder.reinit_feat()  # or what it learned of the last sound would change this one's times
    decoder.start_utt()
    decoder.process_raw(sound, full_utt=True)
    decoder.end_utt()


@lru_cache(maxsize=1)
def _decoder() -> Decoder:
    from pocketsphinx import Decoder

    return Decoder(lm=None, loglevel="FATAL")
