"""Speech from text: sound, phonemes, and words for whatever is wrong."""

import importlib.util
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from eamm_jax.errors import UserError
from eamm_jax.io import speech
from eamm_jax.io.speech import Phoneme, synthesise

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs the extra 'speech'"
)

SENTENCE = "Maybe Bob plays the piano."


@pytest.fixture(scope="module")
def spoken() -> speech.Speech:
    return synthesise(SENTENCE)


def test_sound_is_speech_at_16_khz(spoken):
    assert spoken.samples.dtype == np.float32
    assert 1.0 < len(spoken.samples) / 16_000 < 3.5
    assert 0.2 < np.abs(spoken.samples).max() <= 1
    # Voices have a pitch between 60 and 400 Hz: find it by autocorrelation in the loudest part.
    loud = int(np.argmax(np.convolve(spoken.samples**2, np.ones(800), "same")))
    piece = spoken.samples[max(loud - 400, 0) : loud + 400]
    lags = np.arange(40, 267)
    correlation = [np.dot(piece[:-lag], piece[lag:]) for lag in lags]
    assert max(correlation) > 0.5 * np.dot(piece, piece)


def test_phonemes_cover_the_sound_without_gaps(spoken):
    phonemes = spoken.phonemes
    assert phonemes[0].start == 0
    assert phonemes[-1].end == pytest.approx(len(spoken.samples) / 16_000)
    assert all(a.end == b.start for a, b in pairwise(phonemes))
    assert all(p.end > p.start for p in phonemes)


def test_phonemes_are_those_of_the_sentence(spoken):
    said = "".join(p.symbol for p in spoken.phonemes)
    assert said.replace("ː", "").startswith("meɪbi")
    assert said.count("b") == 3
    assert any(p.stressed for p in spoken.phonemes)
    assert not any(mark in said for mark in "ˈˌ()")


def test_silence_is_where_the_phonemes_pause():
    spoken = synthesise("One. Two.")
    pause = next(p for p in spoken.phonemes[1:] if not p.symbol)
    middle = slice(int((pause.start + 0.03) * 16_000), int((pause.end - 0.03) * 16_000))
    assert np.abs(spoken.samples[middle]).max() < 0.02 * np.abs(spoken.samples).max()


def test_same_arguments_same_sound_whenever_and_whatever_is_said_meanwhile():
    # A breathy voice: its noise depends on the clock unless the engine is told otherwise.
    first = synthesise(SENTENCE, "en-us+f3")
    time.sleep(1.1)
    with ThreadPoolExecutor(4) as pool:
        again = [pool.submit(synthesise, SENTENCE, "en-us+f3") for _ in range(3)]
        pool.submit(synthesise, "Guten Tag, wie geht es dir?", "de+m2").result()
    for future in again:
        np.testing.assert_array_equal(future.result().samples, first.samples)
        assert future.result().phonemes == first.phonemes


def test_rate_and_voice_are_heard(spoken):
    slow = synthesise(SENTENCE, rate=100)
    assert len(slow.samples) > 1.3 * len(spoken.samples)
    assert len(synthesise(SENTENCE, "en-us+f3").samples) != len(spoken.samples)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            [("m", 0), ("ˈa", 100), ("", 200), ("", 250)],
            [("m", 0, 1, False), ("a", 1, 2, True), ("", 2, 3, False)],
            id="pauses merge, stress is told",
        ),
        pytest.param(
            [("", 50), ("(en)", 60), ("s", 100)],
            [("", 0, 1, False), ("s", 1, 3, False)],
            id="marks of language go, the beginning is a pause",
        ),
        pytest.param(
            [("a", 0), ("b", 0), ("c", 400)],
            [("b", 0, 3, False)],
            id="sounds of no length and beyond the end go",
        ),
    ],
)
def test_events_become_phonemes(events, expected):
    assert speech.to_phonemes(events, 100, 3.0) == tuple(Phoneme(*p) for p in expected)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"voice": "klingon-x"}, "unknown voice 'klingon-x'"),
        ({"text": ""}, "nothing to pronounce in the text ''"),
        ({"text": " ... "}, "nothing to pronounce"),
        ({"rate": 20}, "speech rate 20 is out of range: give a whole number from 80 to 450"),
        ({"pitch": 100}, "speech pitch 100 is out of range"),
        ({"pitch_range": -1}, "speech pitch range -1 is out of range"),
        ({"text": "a\0b"}, "zero character"),
        ({"text": "Gr\udcfc\udcdfe"}, "bytes that are no text"),
        ({"voice": "d\udcff"}, "bytes that are no text"),
    ],
)
def test_bad_requests_are_answered_in_one_line(arguments, words):
    with pytest.raises(UserError, match=words) as error:
        synthesise(**{"text": "Hello", **arguments})
    assert "\n" not in str(error.value)


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install \"eamm_jax\[speech\]\""):
        synthesise("Hello")


def test_broken_engine_is_told_in_words(monkeypatch, tmp_path):
    library = tmp_path / "libespeak-ng.so"
    library.write_bytes(b"not a library")
    monkeypatch.setattr(speech, "_engine_paths", lambda: (str(library), str(tmp_path)))
    with pytest.raises(UserError, match=r"the speech engine .* failed .*: reinstall"):
        synthesise("Hello")
