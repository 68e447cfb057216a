"""Text to speech with the time of every phoneme, by eSpeak NG.

Stands at the start of two pipelines: `infer.py --text` speaks a sentence that the portrait is
to say, and the synthetic data set moves mouths by the phonemes. The engine (GPL-3) comes with
the optional package `espeakng-loader` (extra `speech`), is loaded at run time and runs in a
process of its own; nothing of it is part of this package.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from eamm_jax.constants import SAMPLE_RATE
from eamm_jax.errors import UserError

RATES = range(80, 451)
"""Words a minute that the engine can speak at."""

PITCHES = range(100)
"""Settings of pitch and pitch range; 50 is a voice's own."""

_STRESS_MARKS = "ˈˌ"
_TIMEOUT = 120  # seconds; a minute of speech takes the engine a tenth of a second


class Phoneme(NamedTuple):
    """A sound of the language and when it is heard.

    Attributes:
        symbol: in the International Phonetic Alphabet without stress marks; empty for a pause.
        start: seconds from the beginning of the speech.
        end: seconds; the start of the next phoneme.
        stressed: whether its syllable carries primary or secondary stress.
    """

    symbol: str
    start: float
    end: float
    stressed: bool = False


class Speech(NamedTuple):
    """Spoken text.

    Attributes:
        samples: mono, 16 kHz, within [-1, 1].
        phonemes: in order, without gaps, from 0 to the end of the samples.
        words: seconds at which the first phoneme of each word begins.
    """

    samples: Float32[np.ndarray, " n"]
    phonemes: tuple[Phoneme, ...]
    words: tuple[float, ...]


def check_available() -> None:
    """Makes sure that the extra `speech` is installed.

    Raises:
        UserError: it is not.
    """
    if importlib.util.find_spec("espeakng_loader") is None:
        raise UserError(
            "speech from text needs the optional package espeakng-loader: "
            'install the extra, pip install "eamm_jax[speech]"'
        )


def _engine_paths() -> tuple[str, str]:
    """The engine's library and the folder that holds its `espeak-ng-data`."""
    check_available()
    import espeakng_loader

    return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()


def to_phonemes(events: list[tuple[str, int]], sample_rate: int, end: float) -> tuple[Phoneme, ...]:
    """Turns the engine's events (symbol, first sample) into phonemes that leave no gaps.

    Neighbouring pauses become one, and the marks of a change of language, such as "(en)", go.
    """
    result: list[Phoneme] = [Phoneme("", 0.0, end)]
    for mark, sample in events:
        if mark.startswith("("):
            continue
        symbol = mark.strip(_STRESS_MARKS)
        start = min(sample / sample_rate, end)
        last = result[-1]
        if not symbol and not last.symbol:
            continue
        if start > last.start:
            result[-1] = last._replace(end=start)
        else:
            result.pop()
        result.append(Phoneme(symbol, start, end, symbol != mark))
    return tuple(p for p in result if p.end > p.start)


def synthesise(
    text: str,
    voice: str = "en-us",
    *,
    rate: int = 170,
    pitch: int = 50,
    pitch_range: int = 50,
) -> Speech:
    """Speaks a text; the same arguments always give the same sound.

    Args:
        text: what to say, in the voice's language.
        voice: eSpeak NG's name of a language, optionally with a variant: "en-us", "de+f2".
        rate: words a minute, one of `RATES`.
        pitch: base pitch, one of `PITCHES`.
        pitch_range: liveliness of the melody, one of `PITCHES`; 0 is monotone.

    Returns:
        The sound at 16 kHz and its phonemes.

    Raises:
        UserError: the extra `speech` is not installed, the engine does not run, the voice is
            unknown, a number is out of range, or there is nothing to pronounce in the text.
    """
    import soxr

    library, data = _engine_paths()
    limits = {
        "rate": (rate, RATES),
        "pitch": (pitch, PITCHES),
        "pitch range": (pitch_range, PITCHES),
    }
    for name, (value, allowed) in limits.items():
        if value not in allowed:
            raise UserError(
                f"speech {name} {value} is out of range: give a whole number "
                f"from {allowed.start} to {allowed.stop - 1}"
            )
    if "\0" in text + voice:
        raise UserError("the text to speak holds a zero character: remove it")
    if (text + voice).encode(errors="ignore").decode() != text + voice:
        raise UserError("the text to speak holds bytes that are no text: write it in UTF-8")
    request = {
        "library": library,
        "data": data,
        "text": text,
        "voice": voice,
        "rate": rate,
        "pitch": pitch,
        "pitch_range": pitch_range,
    }
    script = Path(__file__).with_name("espeak.py")
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(script)],
        input=json.dumps(request).encode(),
        capture_output=True,
        timeout=_TIMEOUT,
        check=False,
    )
    header, _, sound = done.stdout.partition(b"\n")
    if done.returncode != 0 or not header:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["no output"])[-1]
        raise UserError(f"the speech engine {library} failed ({reason}): reinstall espeakng-loader")
    answer = json.loads(header)
    if "unknown_voice" in answer:
        raise UserError(
            f"unknown voice {voice!r}: give a language and, if you like, a variant, "
            "such as en-us, en-us+f3, de or fr+m2"
        )
    samples = np.frombuffer(sound, np.int16).astype(np.float32) / 32768
    if not len(samples) or not any(symbol for symbol, _ in answer["phonemes"]):
        raise UserError(f"nothing to pronounce in the text {text!r}: give words to speak")
    samples = soxr.resample(samples, answer["sample_rate"], SAMPLE_RATE, "HQ")
    end = len(samples) / SAMPLE_RATE
    events, sample_rate = answer["phonemes"], answer["sample_rate"]
    words = [events[n][1] / sample_rate for n in answer["words"] if n < len(events)]
    return Speech(np.clip(samples, -1, 1), to_phonemes(events, sample_rate, end), tuple(words))
