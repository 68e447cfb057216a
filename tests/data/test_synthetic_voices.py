"""Natural voices: recordings aligned with their transcripts, shifted voices, channels."""

import dataclasses
import gzip
import importlib.util
import io
import json
import os
import unicodedata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data.synthetic import recording, recordings, script, texts, voices, writer
from data.synthetic.__main__ import main
from data.synthetic.alignment import align, phones
from data.synthetic.clip import record_clip
from data.synthetic.script import Take
from data.synthetic.voices import Voices
from eamm_jax.constants import SAMPLE_RATE
from eamm_jax.errors import UserError
from eamm_jax.io.audio import write_wav
from eamm_jax.io.speech import Phoneme, Speech, synthesise

MODULES = ("espeakng_loader", "pocketsphinx", "librosa", "hibari")
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(module) is None for module in MODULES),
    reason="needs the extra 'voices'",
)

SENTENCES = ("Maybe Bob plays the piano.", "Please bring the blue map before we leave.")
TAKE = Take(1, "happy", 2, 1)


def sounding(phonemes) -> list[Phoneme]:
    return [p for p in phonemes if p.symbol]


@pytest.fixture(scope="module")
def spoken() -> list[Speech]:
    return [synthesise(text, "en-us+f2") for text in SENTENCES]


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        ("en-us", texts.SENTENCES["en-us"]),
        ("fr", texts.SENTENCES["fr"]),
        ("it", texts.SENTENCES["it"]),
        ("es-419", texts.SENTENCES["es"]),
        ("ru", ("Съешь ещё этих мягких французских булок, да выпей же чаю.",)),
    ],
)
def test_every_phoneme_has_phones(language, sentences):
    for phoneme in synthesise(" ".join(sentences), language).phonemes:
        # Marks that stand alone, such as of palatalization, are no sounds of their own.
        letters = [c for c in phoneme.symbol if unicodedata.category(c) == "Ll"]
        assert bool(phones(phoneme.symbol)) == bool(letters), phoneme


def test_phonemes_are_found_where_the_engine_put_them(spoken):
    late = 0.4
    for said in spoken:
        samples = np.pad(said.samples, round(late * SAMPLE_RATE))
        found = align(samples, said)
        assert found is not None
        assert found.phonemes[0] == Phoneme("", 0.0, found.phonemes[1].start)
        assert found.phonemes[-1].end == pytest.approx(len(samples) / SAMPLE_RATE)
        pairs = list(zip(sounding(said.phonemes), sounding(found.phonemes), strict=True))
        assert all(a.symbol == b.symbol and a.stressed == b.stressed for a, b in pairs)
        errors = [abs(b.start - late - a.start) for a, b in pairs]
        # Boundaries are seen every 10 ms; the engine's own are a matter of definition.
        assert np.median(errors) < 0.025
        assert np.mean(errors) < 0.045


def test_another_text_does_not_fit(spoken):
    right = align(spoken[0].samples, spoken[0])
    wrong = align(spoken[0].samples, spoken[1])
    assert right is not None
    assert wrong is None or wrong.score < right.score - 10


@pytest.mark.slow
def test_a_shifted_voice_takes_its_phonemes_along():
    # A tone with a click where the second phoneme begins.
    t = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    samples = (0.1 * np.sin(2 * np.pi * 200 * t)).astype(np.float32)
    samples[round(1.2 * SAMPLE_RATE)] = 1.0
    phonemes = (Phoneme("a", 0.0, 1.2), Phoneme("p", 1.2, 2.0, True))
    sound, moved = voices.shift(samples, phonemes, 1.25, 0.8)
    assert len(sound) / SAMPLE_RATE == pytest.approx(2 / 0.8, rel=0.02)
    spectrum = np.abs(np.fft.rfft(sound[:SAMPLE_RATE] * np.hanning(SAMPLE_RATE)))
    assert np.argmax(spectrum) == pytest.approx(250, abs=2)
    click = np.argmax(np.abs(np.diff(sound))) / SAMPLE_RATE
    assert moved[1].start == pytest.approx(click, abs=0.02)
    assert moved[0].end == moved[1].start
    assert moved[1].end == len(sound) / SAMPLE_RATE
    assert moved[1].stressed


def test_a_channel_adds_noise_and_cuts_bands():
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    sound = sum(0.05 * np.sin(2 * np.pi * f * t) for f in (60, 1000, 7000)).astype(np.float32)
    low, high, quiet = [], [], []
    for seed in range(40):
        heard = recording.carry(np.random.default_rng(seed), sound)
        assert np.abs(heard).max() <= 1
        spectrum = np.abs(np.fft.rfft(heard))
        low.append(spectrum[60] / spectrum[1000])
        high.append(spectrum[7000] / spectrum[1000])
        quiet.append(np.median(spectrum) / spectrum[1000])
    for ratios in (low, high):
        assert np.min(ratios) < 0.1
        assert np.mean(np.array(ratios) > 0.7) > 0.3  # half of the channels are good ones
    assert np.max(quiet) > 5 * np.min(quiet) > 0


# Recordings: what Debian's packages look like when they are unpacked.


def g722(samples: np.ndarray) -> bytes:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="g722") as container:
        stream = container.add_stream("g722", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            (samples[None] * 32767).astype(np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = SAMPLE_RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def source(tmp_path_factory, spoken) -> Path:
    root = tmp_path_factory.mktemp("unpacked")
    sounds = root / "usr/share/asterisk/sounds/en_US_f_Allison"
    listing = root / "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
    sounds.mkdir(parents=True)
    listing.parent.mkdir(parents=True)
    long = " ".join(3 * ["We never found out who opened the window."])
    lines = {
        "plays": (SENTENCES[0], spoken[0].samples),
        "map": (SENTENCES[1], spoken[1].samples),
        "long": (long, synthesise(long).samples),
        "other": (SENTENCES[0], spoken[1].samples),
        "tone": ("[a tone]", spoken[0].samples),
    }
    for name, (_, samples) in lines.items():
        (sounds / f"{name}.g722").write_bytes(g722(samples))
    text = "; Sounds\n\n" + "".join(f"{name}: {text}\n" for name, (text, _) in lines.items())
    listing.write_bytes(gzip.compress((text + "lost: Lost.\n").encode("utf-8-sig")))
    return root


@pytest.fixture(scope="module")
def pack(source, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "recordings.zip"
    recordings.pack(source, path)
    return path


def test_recordings_that_fit_their_transcript_are_packed(pack, spoken):
    kept = recordings.load(pack).utterances
    assert {Path(u.file).stem for u in kept} == {"plays", "map", "long"}
    for utterance in kept:
        assert utterance.phonemes[0].start == 0
        samples = recordings.load(pack).samples(utterance)
        assert len(samples) == pytest.approx(utterance.seconds * SAMPLE_RATE, abs=2)
        assert utterance.feminine
    pieces = [u for u in kept if u.file.endswith("long.g722")]
    assert len(pieces) > 1
    assert all(a.start + a.seconds <= b.start + 0.2 for a, b in pairwise(pieces))
    said = next(u for u in kept if u.text == SENTENCES[0])
    assert [p.symbol for p in sounding(said.phonemes)] == [
        p.symbol for p in sounding(spoken[0].phonemes)
    ]


@pytest.mark.slow
def test_clips_speak_with_recorded_and_neural_voices(pack, renderer, monkeypatch):
    monkeypatch.setattr(recordings.Utterance, "held_out", False)
    for kind, voice in ((voices.RECORDED, "en_US_f_Allison"), (voices.HIBARI, "hibari")):
        clips = [record_clip(0, TAKE, renderer, Voices((kind,), str(pack))) for _ in range(2)]
        clip = clips[0]
        assert clip.script.voice == voice
        assert clip.phonemes[-1].end == pytest.approx(len(clip.sound) / SAMPLE_RATE, abs=1e-3)
        assert all(a.end == pytest.approx(b.start) for a, b in pairwise(clip.phonemes))
        np.testing.assert_array_equal(clip.sound, clips[1].sound)
        assert clip.phonemes == clips[1].phonemes


def test_the_voices_of_flite_speak(tmp_path, monkeypatch):
    """A program in its place notes which voice it is asked for, and says what it is given."""
    for name, text in (("said", SENTENCES[0]), ("other", SENTENCES[1])):
        write_wav(tmp_path / f"{name}.wav", synthesise(text).samples)
    program = tmp_path / "flite"
    program.write_text(
        f'#!/bin/sh\necho "$2" >> {tmp_path}/asked\n'
        f'if [ "$4" = "{SENTENCES[0]}" ]; then cp {tmp_path}/said.wav "$6"\n'
        f'else cp {tmp_path}/other.wav "$6"; fi\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(script, "sentence", lambda rng, language, held_out: SENTENCES[0])
    flite = Voices((voices.FLITE,))
    voices.check_available(flite)
    takes = [dataclasses.replace(TAKE, take=n) for n in (1, 1, 2, 3, 4)]
    spoken = [voices.speak(flite, 0, take) for take in takes]
    np.testing.assert_array_equal(spoken[0].samples, spoken[1].samples)
    names = {said.script.voice for said in spoken}
    assert len(names) > 1
    assert names <= set((tmp_path / "asked").read_text().split())
    symbols = [p.symbol for p in sounding(synthesise(SENTENCES[0]).phonemes)]
    assert all([p.symbol for p in sounding(said.phonemes)] == symbols for said in spoken)


def test_what_is_missing_is_named(tmp_path, monkeypatch, capsys):
    with pytest.raises(UserError, match=r"no recordings at .*none.zip: unpack Debian's"):
        voices.check_available(Voices((voices.RECORDED,), str(tmp_path / "none.zip")))
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match="is no pack of recordings"):
        voices.check_available(Voices((voices.RECORDED,), str(tmp_path / "bad.zip")))
    with pytest.raises(UserError, match="holds no recordings with transcripts"):
        recordings.pack(tmp_path, tmp_path / "out.zip")
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "hibari" else found(name)
    )
    with pytest.raises(UserError, match=r"'hibari' needs .*pip install -e \"\.\[voices\]\""):
        voices.check_available(Voices((voices.HIBARI,)))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="'flite' needs the program flite: apt-get install"):
        voices.check_available(Voices((voices.FLITE,)))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--voices", "espeak,alien"],
            "'alien' is none; choose from espeak, flite, hibari, recorded",
        ),
        (["--voices", "hibari", "--stills", "4"], "--stills makes albums without sound"),
    ],
)
def test_bad_flags_are_answered_in_one_line(small_head, tmp_path, capsys, flags, words):
    arguments = [f"--output={tmp_path / 'set'}", f"--head_model={small_head}"]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--identities=1", "--seed=0", *flags])
    assert stop.value.code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def test_voices_are_part_of_the_recipe(tmp_path):
    recipe = writer.Recipe(0, 64, voices=(voices.ESPEAK, voices.HIBARI))
    writer.begin(tmp_path, recipe)
    writer.begin(tmp_path, recipe)
    with pytest.raises(UserError, match="voices"):
        writer.begin(tmp_path, writer.Recipe(0, 64))


def test_a_recipe_without_voices_has_the_default_ones(tmp_path):
    writer.begin(tmp_path, writer.Recipe(0, 64))
    path = tmp_path / writer.RECIPE_FILE
    facts = json.loads(path.read_text())
    del facts["voices"]
    path.write_text(json.dumps(facts))
    writer.begin(tmp_path, writer.Recipe(0, 64))
    with pytest.raises(UserError, match="voices"):
        writer.begin(tmp_path, writer.Recipe(0, 64, voices=(voices.HIBARI,)))
