"""Who is heard: voices of eSpeak NG, of Flite, a neural voice, or recordings of real people.

eSpeak NG knows when it says what; of the others the aligner finds it. A voice that is not
eSpeak's is shifted in pitch (its formants go along) and pace, so that few speakers sound like
many people, men and women, in the moods of the takes.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from data.synthetic import cast, recordings, script
from data.synthetic.alignment import align
from data.synthetic.recordings import Recordings, Utterance
from data.synthetic.script import Script, Take
from eamm_jax.constants import SAMPLE_RATE
from eamm_jax.errors import UserError
from eamm_jax.io.audio import read_speech
from eamm_jax.io.speech import Phoneme, synthesise

if TYPE_CHECKING:
    from hibari import Hibari

ESPEAK, FLITE, HIBARI, RECORDED = "espeak", "flite", "hibari", "recorded"
VOICES = (ESPEAK, FLITE, HIBARI, RECORDED)

_STREAM = 7  # of random numbers; `cast`, `script`, `clip`, `album` and `actor` have others

_ENGLISH = "en-us"
_PACE = 170
"""Words a minute that voices are taken to speak at, unhurried."""

_FLITE_VOICES = ("awb", "kal16", "rms", "slt")
"""Those of 16 kHz."""

_WOMEN = (HIBARI, "slt")
"""Who lent their voices; the others' are men's."""

_FLITE_TIMEOUT = 60  # seconds; a sentence takes a tenth of one

_OCTAVE = 120
"""Steps of the script's pitch in an octave: the moods' 5 to 20 are up to two semitones."""

_HIGHER, _LOWER = (0.92, 1.12), (0.76, 0.88)
"""Factors on the pitch of a woman's voice for a woman, and for a man."""

_MALE = (0.88, 1.06), (1.15, 1.32)
"""Factors on the pitch of a man's voice for a man, and for a woman."""

_STILL = 0.02
"""A change of pitch or pace that is left out."""

_WINDOW = 512
"""Samples of a window when time is stretched: 32 ms, so that stops stay sharp."""

_SHORTEST, _LONGEST = 2.2, 7.0
"""Seconds of recorded speech in a clip."""


class Voices(NamedTuple):
    """Which voices are heard.

    Attributes:
        kinds: some of `VOICES`; each take draws one of them.
        recordings: file for `RECORDED`; None looks in the cache folder.
    """

    kinds: tuple[str, ...] = (ESPEAK,)
    recordings: str | None = None


ESPEAK_ALONE = Voices()
"""Needs no file, and no extra beyond `speech`."""


class Spoken(NamedTuple):
    """What is said in a take.

    Attributes:
        script: text and voice.
        samples: mono, 16 kHz.
        phonemes: in order, without gaps, from 0 to the end of the samples.
    """

    script: Script
    samples: Float32[np.ndarray, " n"]
    phonemes: tuple[Phoneme, ...]


def check_available(voices: Voices) -> None:
    """Makes sure that the voices can speak.

    Raises:
        UserError: an extra or the recordings are missing.
    """
    aligned = ("pocketsphinx", "librosa")
    needed = {FLITE: aligned, HIBARI: ("hibari", *aligned), RECORDED: ("librosa",)}
    for kind in voices.kinds:
        for module in needed.get(kind, ()):
            if importlib.util.find_spec(module) is None:
                raise UserError(
                    f"the voice {kind!r} needs the optional package {module}: "
                    'install the extra, pip install -e ".[voices]"'
                )
    if FLITE in voices.kinds and shutil.which("flite") is None:
        raise UserError(f"the voice {FLITE!r} needs the program flite: apt-get install flite")
    if RECORDED in voices.kinds:
        recordings.load(voices.recordings)


def speak(voices: Voices, seed: int, take: Take) -> Spoken:
    """Speaks what a person says in a take; the same arguments always give the same sound.

    Raises:
        UserError: an extra or the recordings are missing.
    """
    words = script.script(seed, take)
    rng = np.random.default_rng([seed, *take.key, _STREAM])
    kind = voices.kinds[int(rng.integers(len(voices.kinds)))]
    if kind == ESPEAK:
        return _espeak(words)
    person = cast.person(seed, take.number)
    mood = 2 ** ((words.pitch - person.voice.pitch) / _OCTAVE)
    pace = words.rate / person.voice.rate
    if kind != RECORDED:
        voice = HIBARI
        if kind == FLITE:
            voice = _FLITE_VOICES[int(rng.integers(len(_FLITE_VOICES)))]
        return _read_aloud(rng, words, person, mood, voice)
    return _recorded(rng, recordings.load(voices.recordings), words, person, mood, pace)


def _espeak(words: Script) -> Spoken:
    speech = synthesise(
        words.text, words.voice, rate=words.rate, pitch=words.pitch, pitch_range=words.pitch_range
    )
    return Spoken(words, speech.samples, speech.phonemes)


def _read_aloud(
    rng: np.random.Generator, words: Script, person: cast.Person, mood: float, voice: str
) -> Spoken:
    """An American English voice; where the aligner does not follow it, eSpeak's."""
    said = words
    if not person.voice.language.startswith("en"):
        said = words._replace(text=script.sentence(rng, _ENGLISH, person.held_out))
    pitch = mood * _factor(rng, voice in _WOMEN, person)
    samples = _hibari(rng, said.text) if voice == HIBARI else _flite(voice, said.text)
    found = align(samples, synthesise(said.text, _ENGLISH))
    if found is None:
        return _espeak(words)
    shifted, phonemes = shift(samples, found.phonemes, pitch, words.rate / _PACE)
    return Spoken(said._replace(voice=voice), shifted, phonemes)


def _factor(rng: np.random.Generator, feminine: bool, person: cast.Person) -> float:
    """On the pitch of a woman's or a man's voice, so that it may be the person's."""
    higher, lower = (_HIGHER, _LOWER) if feminine else _MALE[::-1]
    return float(rng.uniform(*(higher if person.feminine else lower)))


def _flite(voice: str, text: str) -> Float32[np.ndarray, " n"]:
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder, "sound.wav")
        command = ["flite", "-voice", voice, "-t", text, "-o", str(sound)]
        subprocess.run(command, check=True, capture_output=True, timeout=_FLITE_TIMEOUT)
        return read_speech(sound)


def _hibari(rng: np.random.Generator, text: str) -> Float32[np.ndarray, " n"]:
    import soxr

    voice = _neural_voice()
    sound = voice(text, seed=int(rng.integers(2**31)))
    return soxr.resample(sound, voice.sample_rate, SAMPLE_RATE, "HQ").astype(np.float32)


@lru_cache(maxsize=1)
def _neural_voice() -> Hibari:
    from hibari import Hibari

    return Hibari(threads=1)


def _recorded(
    rng: np.random.Generator,
    source: Recordings,
    words: Script,
    person: cast.Person,
    mood: float,
    pace: float,
) -> Spoken:
    """Utterances of one speaker, one after the other."""
    speakers = sorted({u.speaker for u in source.utterances})
    speaker = speakers[int(rng.integers(len(speakers)))]
    mine = [u for u in source.utterances if u.speaker == speaker and u.held_out == person.held_out]
    chosen: list[Utterance] = []
    total = 0.0
    for n in rng.permutation(len(mine)):
        if total + mine[n].seconds <= _LONGEST or not chosen:
            chosen.append(mine[n])
            total += mine[n].seconds
        if total >= _SHORTEST:
            break
    samples, phonemes = joined([(source.samples(u), u.phonemes) for u in chosen])
    pitch = mood * _factor(rng, chosen[0].feminine, person)
    pace *= float(rng.uniform(0.92, 1.08))
    samples, phonemes = shift(samples, phonemes, pitch, pace)
    said = words._replace(text=" ".join(u.text for u in chosen), voice=speaker)
    return Spoken(said, samples, phonemes)


def joined(
    pieces: Sequence[tuple[Float32[np.ndarray, " n"], Sequence[Phoneme]]],
) -> tuple[Float32[np.ndarray, " m"], tuple[Phoneme, ...]]:
    """Joins pieces of speech, each with its phonemes."""
    phonemes: list[Phoneme] = []
    time = 0
    for samples, said in pieces:
        start = time / SAMPLE_RATE
        phonemes += [p._replace(start=p.start + start, end=p.end + start) for p in said]
        time += len(samples)
        phonemes[-1] = phonemes[-1]._replace(end=time / SAMPLE_RATE)
    return np.concatenate([samples for samples, _ in pieces]), tuple(phonemes)


def shift(
    samples: Float32[np.ndarray, " n"],
    phonemes: Sequence[Phoneme],
    pitch: float,
    pace: float,
) -> tuple[Float32[np.ndarray, " m"], tuple[Phoneme, ...]]:
    """Makes a voice higher or lower, as of a smaller or larger head, and quicker or slower.

    Args:
        samples: mono, 16 kHz.
        phonemes: of the samples.
        pitch: factor on all its frequencies, formants included.
        pace: factor on its speed.

    Returns:
        The sound and its phonemes, whose times move along.
    """
    import librosa
    import soxr

    sound: Any = samples
    # Played quicker, a voice is higher; what that does to its pace is undone first.
    if abs(pace / pitch - 1) > _STILL:
        sound = librosa.effects.time_stretch(sound, rate=pace / pitch, n_fft=_WINDOW)
    if abs(pitch - 1) > _STILL:
        sound = soxr.resample(sound, SAMPLE_RATE * pitch, SAMPLE_RATE, "HQ")
    scale = len(sound) / len(samples)
    moved = [p._replace(start=p.start * scale, end=p.end * scale) for p in phonemes]
    moved[-1] = moved[-1]._replace(end=len(sound) / SAMPLE_RATE)
    return np.asarray(sound, np.float32), tuple(moved)
