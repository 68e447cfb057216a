"""MFCC against their definition and the published numbers; windows and poses by their rules."""

import itertools
import tracemalloc
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from eamm_jax import features
from eamm_jax.constants import SAMPLE_RATE
from eamm_jax.io.arrays import read_pose
from eamm_jax.io.audio import read_audio


def speech_like(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise whose loudness comes and goes, with a stretch of digital silence."""
    rng = np.random.default_rng(seed)
    n = int(seconds * SAMPLE_RATE)
    sound = 0.1 * rng.standard_normal(n) * np.sin(np.arange(n) / 3000) ** 2
    sound[n // 2 : n // 2 + 1000] = 0
    return sound


def mfcc_by_definition(samples: np.ndarray) -> np.ndarray:
    """One row, one filter, one coefficient at a time, from docs/architecture.md section 6."""
    emphasised = [samples[0]] + [samples[i] - 0.97 * samples[i - 1] for i in range(1, len(samples))]

    def mel(hertz):
        return 2595 * np.log10(1 + hertz / 700)

    edges = np.interp(np.linspace(0, mel(8000), 28), mel(np.arange(8001)), np.arange(8001))
    edges = np.floor(513 * edges / 16000 + 1e-9)
    rows = []
    start = 0
    while True:
        window = np.zeros(512)
        part = emphasised[start : start + 400]
        window[: len(part)] = part
        turns = np.outer(np.arange(257), np.arange(512)) / 512
        power = np.abs(np.exp(-2j * np.pi * turns) @ window) ** 2 / 512
        filters = [
            np.interp(np.arange(257), edges[j : j + 3], [0, 1, 0], left=0, right=0)
            for j in range(26)
        ]
        bands = np.log([max(f @ power, 2.0**-52) for f in filters])
        cepstrum = []
        for k in range(13):
            wave = np.cos(np.pi * k * (np.arange(26) + 0.5) / 26)
            scale = np.sqrt((1 if k == 0 else 2) / 26)
            cepstrum.append((1 + 11 * np.sin(np.pi * k / 22)) * scale * (wave @ bands))
        cepstrum[0] = np.log(max(power.sum(), 2.0**-52))
        rows.append(cepstrum)
        if start + 400 >= len(samples):
            return np.array(rows)
        start += 160


@pytest.mark.parametrize("n", [1, 2, 399, 400, 401, 560, 561, 3000])
def test_mfcc_follow_their_definition(n):
    samples = speech_like(1)[-n:]
    expected = mfcc_by_definition(samples)
    np.testing.assert_allclose(features.mfcc(samples), expected, rtol=1e-9, atol=1e-9)


def test_silence_is_the_logarithm_of_epsilon_not_infinite():
    rows = features.mfcc(np.zeros(1000))
    np.testing.assert_allclose(rows[:, 0], np.log(np.finfo(float).eps))
    np.testing.assert_allclose(rows[:, 1:], 0, atol=1e-10)


def test_blocks_do_not_show(monkeypatch):
    samples = speech_like(2)
    whole = features.mfcc(samples)
    for rows in (1, 7, len(whole) - 1, len(whole)):
        monkeypatch.setattr(features, "BLOCK_ROWS", rows)
        np.testing.assert_allclose(features.mfcc(samples), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("samples", [1, 399, 400, 401, 560, 561, 16_000, 16_159])
@pytest.mark.parametrize("piece", [1, 137, 160, 640, 99_999])
def test_pieces_of_a_sound_give_the_rows_and_windows_of_the_whole(rng, samples, piece):
    loudness = np.exp(-np.arange(samples) / 4000)  # falls faster than the level of the speech
    sound = (rng.normal(size=samples) * loudness).astype(np.float32)
    pieces = [sound[n : n + piece] for n in range(0, samples, piece)]
    stream, speech = features.MfccStream(), features.SpeechStream(loudness_range=0.5)
    rows = [*map(stream.push, pieces), stream.finish()]
    np.testing.assert_allclose(np.concatenate(rows), features.mfcc(sound), atol=1e-12, rtol=1e-12)
    windows = np.concatenate([*map(speech.push, pieces), speech.finish()])
    whole, _ = features.silenced(features.speech_mfcc(sound), 0.5)
    expected = features.audio_windows(whole, 0, features.num_frames(len(whole)))
    np.testing.assert_allclose(windows, expected, atol=1e-6, rtol=1e-6)


def test_a_window_is_given_as_soon_as_its_sound_is_there():
    stream = features.SpeechStream()
    counts = [len(stream.push(np.zeros(1))) for _ in range(2 * 640 + 2800)]
    assert np.flatnonzero(counts).tolist() == [2800 - 1 + 640 * n for n in range(3)]


def test_memory_does_not_grow_with_the_sound():
    def peak(samples):
        tracemalloc.start()
        result = features.mfcc(samples)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest - result.nbytes

    two, eight = (peak(np.zeros(minutes * 60 * SAMPLE_RATE, np.float32)) for minutes in (2, 8))
    assert eight < 1.05 * two
    assert eight < 1e8


@pytest.mark.parametrize("shape", [(0,), (16000, 2)])
def test_mfcc_wants_one_channel_with_samples(shape):
    with pytest.raises(ValueError, match="expected samples of shape"):
        features.mfcc(np.zeros(shape))


# --- Against the published numbers ---------------------------------------------------------


def test_golden_mfcc_from_the_same_samples(goldens):
    arrays = goldens.load("mfcc.npz")
    for path in goldens.media("audio"):
        samples = arrays[f"{path.name}_first_samples"]
        golden = arrays[f"{path.name}_mfcc"]
        # Rows that hear these samples and the silence before them, and nothing later.
        known = features.SILENCE_PADDING + len(samples)
        rows = min(len(golden), (known - features.WINDOW_LENGTH) // features.WINDOW_STEP + 1)
        ours = features.speech_mfcc(samples)[:rows]
        # Silence has coefficients of 1e-14, hence the absolute term.
        np.testing.assert_allclose(ours, golden[:rows], rtol=1e-6, atol=1e-9)


def assert_same_but_for_silence(ours: np.ndarray, golden: np.ndarray) -> None:
    """Another mp3 decoder rounds otherwise (6e-7): the logarithm shows it near silence."""
    assert ours.shape == golden.shape
    difference = np.abs(ours - golden)
    assert difference.mean() < 1e-3
    assert np.quantile(difference, 0.95) < 2e-3


def test_golden_mfcc_from_the_files(goldens):
    arrays = goldens.load("mfcc.npz")
    for path in goldens.media("audio"):
        samples = read_audio(path)
        assert len(samples) == arrays[f"{path.name}_num_samples"]
        ours = features.speech_mfcc(samples)
        assert len(ours) == arrays[f"{path.name}_num_mfcc"]
        golden = arrays[f"{path.name}_mfcc"]
        assert_same_but_for_silence(ours[: len(golden)], golden)


def test_golden_windows_of_the_demo(goldens):
    arrays = goldens.load("demo.npz")
    path: Path = goldens.media("audio")[0]
    mfcc = features.speech_mfcc(read_audio(path))
    assert features.num_frames(len(mfcc)) == arrays["num_audio_frames"]
    golden = arrays["in_mfcc_windows"]
    assert_same_but_for_silence(features.audio_windows(mfcc, 0, len(golden)), golden)
    pose = features.pose_track(read_pose(goldens.media("pose")), len(golden))
    np.testing.assert_array_equal(pose, np.repeat(arrays["in_pose"], len(golden), axis=0))


def test_windows_are_laid_out_as_in_the_published_data_sets(shared):
    stored = np.load(shared / "media" / "lrw_clip" / "mfcc.npy")
    rows = np.concatenate([stored[0], *stored[1:, -features.ROWS_PER_FRAME :]])
    ours = features.mfcc_windows(rows)
    assert ours.dtype == stored.dtype
    np.testing.assert_array_equal(ours, stored)
    np.testing.assert_array_equal(
        features.audio_windows(rows, 0, len(stored)), stored[:, :, 1:].astype(np.float32)
    )


# --- Windows -------------------------------------------------------------------------------


def test_a_window_is_28_rows_from_4t_without_the_energy():
    mfcc = np.random.default_rng(0).standard_normal((61, 13))
    assert features.num_frames(61) == 9
    windows = features.audio_windows(mfcc, 0, 9)
    assert windows.dtype == np.float32
    for t, window in enumerate(windows):
        np.testing.assert_array_equal(window, mfcc[4 * t : 4 * t + 28, 1:].astype(np.float32))
    np.testing.assert_array_equal(features.mfcc_windows(mfcc)[3], mfcc[12:40])


@pytest.mark.parametrize(("rows", "frames"), [(0, 0), (27, 0), (28, 1), (31, 1), (32, 2), (36, 3)])
def test_frames_that_rows_are_enough_for(rows, frames):
    assert features.num_frames(rows) == frames
    assert features.mfcc_windows(np.zeros((rows, 13))).shape == (frames, 28, 13)
    # The rule of the published code: frames 0 .. floor(rows / 4) - 7.
    assert frames == len(range(rows // 4 - 7 + 1))


def test_rows_that_are_much_quieter_than_speech_are_silence(rng):
    mfcc = rng.normal(size=(400, 13))
    loud = features.SPEECH_LEVEL + 3
    mfcc[:, 0] = np.repeat([-20.0, loud, loud - 6, loud - 8, loud - 6], 80)
    found, level = features.silenced(mfcc, 7.0)
    silent = np.repeat([True, False, False, True, False], 80)
    assert not found[silent].any()
    np.testing.assert_array_equal(found[~silent], mfcc[~silent])
    assert loud - 2 < level < loud  # falls slowly
    # After some time that is quieter, quieter speech is heard.
    later, _ = features.silenced(np.tile(mfcc[-150:], (5, 1)), 7.0, level)
    assert later[-90:].all()
    np.testing.assert_array_equal(features.silenced(mfcc, 100.0)[0], mfcc)
    silence = features.audio_windows(features.mfcc(np.zeros(9_600)), 0, 8)
    np.testing.assert_allclose(silence, 0, atol=1e-5)


@given(rows=st.integers(28, 200), data=st.data())
@settings(max_examples=50, deadline=None)
def test_windows_in_chunks_are_the_windows(rows, data):
    mfcc = np.random.default_rng(rows).standard_normal((rows, 13))
    frames = features.num_frames(rows)
    cuts = sorted(data.draw(st.lists(st.integers(0, frames), max_size=5)))
    bounds = [0, *cuts, frames]
    chunks = [
        features.audio_windows(mfcc, start, stop) for start, stop in itertools.pairwise(bounds)
    ]
    np.testing.assert_array_equal(np.concatenate(chunks), features.audio_windows(mfcc, 0, frames))


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 4), (4, 4)])
def test_windows_outside_the_sound_are_refused(start, stop):
    with pytest.raises(ValueError, match="outside the 3 frames"):
        features.audio_windows(np.zeros((36, 13)), start, stop)


# --- Poses ---------------------------------------------------------------------------------


@given(m=st.integers(1, 12), length=st.integers(0, 60), columns=st.sampled_from([6, 7]))
@settings(max_examples=100, deadline=None)
def test_pose_track_goes_forwards_then_backwards(m, length, columns):
    pose = np.random.default_rng(m).standard_normal((m, columns))
    there_and_back = np.concatenate((pose, pose[::-1]))
    repeats = length // (2 * m) + 1
    expected = np.tile(there_and_back, (repeats, 1))[:length, :6].astype(np.float32)
    track = features.pose_track(pose, length)
    assert track.dtype == np.float32
    np.testing.assert_array_equal(track, expected)


def test_single_pose_is_repeated_and_a_long_track_is_cut():
    still = np.arange(7.0)[None]
    np.testing.assert_array_equal(features.pose_track(still, 3), np.tile(np.arange(6), (3, 1)))
    long = np.random.default_rng(0).standard_normal((9, 6)).astype(np.float32)
    np.testing.assert_array_equal(features.pose_track(long, 4), long[:4])


def test_motion_is_added_to_a_still_pose():
    rng = np.random.default_rng(0)
    still, track = rng.standard_normal((1, 6)), rng.standard_normal((5, 6))
    moved = features.add_motion(still, track)
    np.testing.assert_allclose(moved[0], still[0], rtol=1e-6)
    np.testing.assert_allclose(np.diff(moved, axis=0), np.diff(track, axis=0), atol=1e-6)
    assert moved.dtype == np.float32


def test_rows_of_mfcc_are_known_before(rng):
    for samples in (1, 399, 400, 401, 16_000, 16_159):
        sound = rng.normal(size=samples)
        assert features.mfcc_rows(samples) == len(features.speech_mfcc(sound))
