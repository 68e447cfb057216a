"""Speech, emotion and signs of life over time; the cast and its scripts."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.synthetic import cast, movement, recording, script, texts, visemes
from data.synthetic.actor import actor_of
from data.synthetic.clip import record_clip
from data.synthetic.controls import Control
from data.synthetic.emotion import EMOTION_LOOKS
from data.synthetic.performance import act
from data.synthetic.script import Take
from eamm_jax.constants import EMOTIONS, FRAME_RATE
from eamm_jax.features import num_frames, speech_mfcc
from eamm_jax.input_pipeline.clips import KINDS, ClipName
from eamm_jax.io.speech import Phoneme

needs_speech = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs the extra 'speech'"
)


def phonemes(*sounds: str, length: float = 0.12) -> list[Phoneme]:
    """Sounds of equal length between two pauses."""
    symbols = ["", "", *sounds, "", ""]
    return [
        Phoneme(s, n * length, (n + 1) * length, stressed=s in "aeiouɑ")
        for n, s in enumerate(symbols)
    ]


def at_frames(sounds: list[Phoneme]) -> np.ndarray:
    return (np.arange(int(sounds[-1].end * FRAME_RATE)) + 0.5) / FRAME_RATE


def during(sounds: list[Phoneme], symbol: str) -> float:
    """The middle of the first such sound."""
    sound = next(p for p in sounds if p.symbol == symbol)
    return (sound.start + sound.end) / 2


def value(sounds: list[Phoneme], symbol: str, control: Control) -> float:
    early = 0.0 if control in (Control.LIPS_CLOSED, Control.LIP_TUCK) else visemes.LEAD
    time = np.array([during(sounds, symbol) - early])
    return float(visemes.mouth_track(sounds, time)[0, control])


@pytest.mark.parametrize("bilabial", ["p", "b", "m"])
def test_lips_close_on_bilabials_and_open_on_vowels(bilabial):
    sounds = phonemes("ɑ", bilabial, "ɑ")
    assert value(sounds, bilabial, Control.LIPS_CLOSED) > 0.99
    assert value(sounds, "ɑ", Control.LIPS_CLOSED) < 0.1
    assert value(sounds, "ɑ", Control.JAW_OPEN) > 0.5


@settings(deadline=None, max_examples=40)
@given(st.floats(0, 0.04), st.sampled_from("pbm"), st.floats(0.012, 0.2))
def test_every_closure_is_seen_in_a_frame(renderer, offset, bilabial, length):
    before = [Phoneme("", 0.0, 0.1 + offset), Phoneme("ɑ", 0.1 + offset, 0.3 + offset)]
    start = 0.3 + offset
    sounds = [*before, Phoneme(bilabial, start, start + length), Phoneme("ɑ", start + length, 0.8)]
    track = visemes.mouth_track(sounds, at_frames(sounds))
    closed = track[:, Control.LIPS_CLOSED].argmax()
    assert track[closed, Control.LIPS_CLOSED] > 0.99
    assert actor_of(renderer, 0, 0).opening(track[closed]) < 2e-3


@pytest.mark.parametrize("labiodental", ["f", "v"])
def test_teeth_on_lip_for_f_and_v(labiodental):
    sounds = phonemes("ɑ", labiodental, "ɑ")
    assert value(sounds, labiodental, Control.LIP_TUCK) > 0.99
    assert value(sounds, labiodental, Control.LIPS_CLOSED) == 0


def test_lips_round_for_u_o_w_and_spread_for_i():
    for rounded in ("u", "o", "w"):
        sounds = phonemes("ɑ", rounded, "ɑ")
        assert value(sounds, rounded, Control.MOUTH_ROUND) > 0.45, rounded
    assert value(phonemes("ɑ", "i", "ɑ"), "i", Control.MOUTH_ROUND) < 0.1
    assert value(phonemes("ɑ", "i", "ɑ"), "i", Control.MOUTH_WIDTH) > 0.3


def test_jaw_opens_by_the_height_of_the_vowel():
    jaws = [value(phonemes("t", v, "t"), v, Control.JAW_OPEN) for v in ("u", "e", "ɛ", "ɑ")]
    assert np.all(np.diff(jaws) > 0.04)


def test_the_jaw_is_early_and_closed_lips_are_not():
    sounds = phonemes("s", "ɑ", "m", "s", length=0.2)
    times = np.linspace(0, sounds[-1].end, 1000)
    track = visemes.mouth_track(sounds, times)
    jaw = track[:, Control.JAW_OPEN]
    opened = times[jaw > 0.98 * jaw.max()].mean()
    assert opened == pytest.approx(during(sounds, "ɑ") - visemes.LEAD, abs=0.02)
    closed = times[track[:, Control.LIPS_CLOSED] > 0.99]
    (start, end) = visemes.closures(sounds)[0]
    assert closed.mean() == pytest.approx((start + end) / 2, abs=0.005)


def test_neighbours_colour_a_sound():
    """Coarticulation: the same consonant is rounded before u and not before i."""
    before_u = value(phonemes("i", "t", "u"), "t", Control.MOUTH_ROUND)
    before_i = value(phonemes("i", "t", "i"), "t", Control.MOUTH_ROUND)
    assert before_u > before_i + 0.2


def test_the_mouth_rests_in_silence_and_moves_smoothly():
    sounds = phonemes("h", "ɛ", "l", "o", "w", "ɑ", "n", "b", "i")
    fine = visemes.mouth_track(sounds, np.linspace(0, sounds[-1].end, 500))
    assert np.abs(np.diff(fine, axis=0)).max() < 0.13
    assert fine[[0, -1], Control.JAW_OPEN].max() < 0.06
    assert fine.min() >= 0
    assert fine.max() <= 1


def test_unknown_sounds_move_the_mouth_a_little():
    sounds = phonemes("ʘ")
    assert 0 < value(sounds, "ʘ", Control.JAW_OPEN) < 0.3


def test_blinks_happen_and_close_the_eyes():
    closed = movement.blinks(np.random.default_rng(0), 60 * FRAME_RATE, 20)
    starts = np.flatnonzero((closed[1:] > 0) & (closed[:-1] == 0))
    assert 12 <= len(starts) <= 30
    peaks = [closed[s : s + 8].max() for s in starts[:-1]]
    assert min(peaks) > 0.99
    assert (closed == 0).mean() > 0.8


def test_noise_has_unit_variance_and_is_smooth():
    noise = movement.smooth_noise(np.random.default_rng(1), 20_000, 1.0)
    assert noise.std() == pytest.approx(1, abs=0.1)
    assert np.abs(np.diff(noise)).std() < 0.1


def acted(emotion: str, strength: float = 1.0, seed: int = 0, count: int = 80):
    sounds = phonemes("m", "ɑ", "p", "i", "d", "o", "b", "ɛ", "n", length=0.15)
    rng = np.random.default_rng(seed)
    return act(rng, cast.person(0, 2), EMOTION_LOOKS[emotion], strength, sounds, count), sounds


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_bilabials_close_the_lips_in_every_emotion(renderer, emotion):
    acting, sounds = acted(emotion)
    openings = np.array([actor_of(renderer, 0, 2).opening(row) for row in acting.performance])
    times = (np.arange(len(openings)) + 0.5) / FRAME_RATE
    for start, end in visemes.closures(sounds):
        nearest = np.abs(times - (start + end) / 2).argmin()
        assert openings[nearest] < 0.004
    vowel = np.abs(times - during(sounds, "ɑ") + visemes.LEAD) < 0.075
    # The jaw, which is ahead, is past its lowest when the lips part: 0.049 in sad faces.
    assert openings[vowel].max() > 0.045


def test_emotion_comes_up_and_follows_its_strength():
    strong, _ = acted("happy", 1.0)
    weak, _ = acted("happy", 0.5)
    assert strong.strength[0] < 0.95 * strong.strength[40:].mean()
    assert weak.strength.mean() == pytest.approx(0.5 * strong.strength.mean(), rel=0.05)
    corner = Control.CORNER_LEFT
    assert strong.performance[:, corner].mean() > 1.5 * weak.performance[:, corner].mean()
    other, _ = acted("happy", 1.0, seed=1)
    assert np.abs(other.performance - strong.performance).max() > 0.05


def test_heads_move_a_little_and_face_the_viewer():
    poses = np.concatenate(
        [movement.pose_rows(acted("neutral", 1.0, s)[0].poses) for s in range(30)]
    )
    assert poses.shape[1] == 7
    assert np.abs(poses[:, :3]).max(0).tolist() < [25, 20, 15]
    clips = poses[:, :3].reshape(30, -1, 3)
    assert np.all(clips.std(1).mean(0) > 0.4)
    assert np.all(np.abs(np.diff(clips, axis=1)).max((0, 1)) < 3)
    assert 4e-4 < poses[:, 3].min() < poses[:, 3].max() < 5.5e-4


# The cast and its scripts.


def test_everybody_is_the_same_for_the_same_numbers_and_nobody_else():
    people = [cast.person(5, n) for n in range(40)]
    cast.person.cache_clear()
    assert [cast.person(5, n) for n in reversed(range(40))] == people[::-1]
    assert len({p.voice for p in people}) == 40
    assert cast.person(6, 0) != people[0]
    assert {p.voice.language for p in people} >= {"en-us", "en"}
    for p in people:
        assert p.voice.variant[0] == ("f" if p.feminine else "m")


def test_held_out_people_are_the_pipelines_validation_people():
    names = [cast.name_of(n) for n in range(50)]
    for name in names:
        expected = KINDS["mead"].validation_share(ClipName(name, "neutral_level_1_001"))
        assert cast.share(name) == expected


def test_held_out_people_say_what_nobody_else_says():
    said: dict[bool, set[str]] = {True: set(), False: set()}
    for number in range(120):
        for take in script.takes_of(number, 1)[::5]:
            said[cast.person(0, number).held_out].add(script.script(0, take).text)
    assert len(said[True]) > 5
    assert len(said[False]) > 100
    assert not said[True] & said[False]


def test_takes_are_those_of_mead():
    takes = script.takes_of(3, takes=2)
    names = [t.clip_name for t in takes]
    assert len(names) == len(set(names)) == 7 * 3 * 2 + 6
    for name in names:
        KINDS["mead"].emotion(ClipName("s00003", name))  # raises if the name is not MEAD's
    assert sum(n.startswith("neutral_level_1_") for n in names) == 6


def test_voice_follows_the_emotion():
    def mean(emotion: str, what: str) -> float:
        values = [
            getattr(script.script(0, Take(n, emotion, 3, 1)), what)
            - getattr(cast.person(0, n).voice, what)
            for n in range(20)
        ]
        return float(np.mean(values))

    assert mean("sad", "rate") < -15
    assert mean("angry", "rate") > 5
    assert mean("fear", "pitch") > 8
    assert mean("sad", "pitch") < 2
    assert mean("sad", "pitch_range") < -10
    assert mean("happy", "pitch_range") > 10


def test_sentences_are_many_and_pronounceable():
    for language, sentences in texts.SENTENCES.items():
        assert len(set(sentences)) == len(sentences) >= 6, language
        assert all(20 < len(s) < 80 and s[-1] in ".?" for s in sentences)
    rng = np.random.default_rng(0)
    assert len({texts.made_up(rng) for _ in range(200)}) > 195


def test_recordings_have_a_level_and_a_quiet_hiss():
    t = np.arange(16_000) / 16_000
    speech = (0.5 * np.sin(2 * np.pi * 150 * t)).astype(np.float32)
    levels = {}
    for energy in (0.8, 1.25):
        rng = np.random.default_rng(0)
        sound = recording.record(rng, speech, energy=energy, before=0.3, after=0.2)
        assert len(sound) == 16_000 + 4800 + 3200
        assert np.abs(sound).max() <= 1
        silence, voice = sound[:4000].std(), sound[6000:18_000].std()
        assert 0 < silence < 0.1 * voice
        levels[energy] = voice
    assert levels[1.25] / levels[0.8] == pytest.approx(1.25 / 0.8, rel=0.01)


# Whole clips.


@pytest.fixture(scope="module")
def clip(renderer):
    return record_clip(2, Take(1, "neutral", 1, 1), renderer)


@needs_speech
def test_tracks_of_a_clip_are_equally_long(clip):
    count = num_frames(len(speech_mfcc(clip.sound)))
    assert count > 25
    assert clip.num_frames == count == len(clip.acting.poses)
    assert clip.mfcc().shape == (count, 28, 13)
    assert clip.pose().shape == (count, 7)
    assert clip.landmarks().shape == (count, 68, 2)
    assert clip.mouth_opening().shape == (count,)
    assert clip.frame(0, 64).shape == (64, 64, 3)
    # The frames last about as long as the sound.
    assert abs(count / FRAME_RATE - len(clip.sound) / 16_000) < 0.1


@needs_speech
def test_phonemes_of_a_clip_are_where_its_sound_is(clip):
    assert clip.phonemes[0].start == 0
    assert clip.phonemes[-1].end == pytest.approx(len(clip.sound) / 16_000)
    loudness = {True: [], False: []}
    for p in clip.phonemes:
        piece = clip.sound[int(p.start * 16_000) : int(p.end * 16_000)]
        if len(piece) > 600:
            vowel = any(c in "aeiouæɑɐɛɪɔʊəʌ" for c in p.symbol)
            if vowel or not p.symbol:
                loudness[vowel].append(np.sqrt(np.mean(piece**2)))
    assert np.median(loudness[True]) > 5 * np.median(loudness[False])


@needs_speech
def test_the_mouth_moves_with_the_voice_and_rests_in_silence(clip):
    opening = clip.mouth_opening()
    first = next(p.start for p in clip.phonemes if p.symbol)
    quiet = opening[: int((first - visemes.LEAD - 0.05) * FRAME_RATE)]
    assert quiet.max() < 0.01
    assert opening.max() > 0.06
    # The speech is heard in the MFCC of the very frames in which the mouth is open.
    energy = np.array([window[12:16, 0].mean() for window in clip.mfcc()])
    speaking = opening > 0.02
    assert energy[speaking].mean() > energy[~speaking].mean() + 1
    marks = clip.landmarks()
    gap = np.linalg.norm(marks[:, 66] - marks[:, 62], axis=1)
    assert np.corrcoef(gap, opening)[0, 1] > 0.98


@needs_speech
def test_the_same_take_is_the_same_clip(clip, renderer):
    cast.person.cache_clear()
    record_clip(2, Take(3, "angry", 3, 1), renderer)
    again = record_clip(2, Take(1, "neutral", 1, 1), renderer)
    np.testing.assert_array_equal(again.sound, clip.sound)
    np.testing.assert_array_equal(again.acting.performance, clip.acting.performance)
    np.testing.assert_array_equal(again.frame(5, 64), clip.frame(5, 64))
    other = record_clip(3, Take(1, "neutral", 1, 1), renderer)
    assert other.num_frames != clip.num_frames or np.any(other.pose() != clip.pose())


@needs_speech
def test_consecutive_frames_change_little(clip):
    frames = np.stack([clip.frame(n, 64) for n in range(10, 22)]).astype(float)
    steps = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert steps.min() > 0
    assert steps.max() < 8
