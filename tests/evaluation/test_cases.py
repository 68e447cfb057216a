"""Clips of a data set and folders of pairs, as cases; and what is wrong with bad ones."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from eamm_jax import features
from eamm_jax.constants import EMOTIONS
from eamm_jax.errors import UserError
from eamm_jax.evaluation.cases import DataSet, Pairs, mfcc_rows, silent_frames
from eamm_jax.input_pipeline.clips import ClipName, Labels
from eamm_jax.input_pipeline.sources import Source
from eamm_jax.io.video_writer import video_writer
from tests.evaluation.faces import write_drawn
from tests.published_layout import write_lrw

FRAMES, SIZE = 26, 32
OPTIONS = {"size": SIZE, "split": "all", "validation_fraction": 0.05, "with_motion": True}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return write_drawn(tmp_path_factory.mktemp("drawn"), people=("s0", "s1"), frames=FRAMES)


@pytest.fixture
def data(drawn):
    return DataSet(Source("synthetic", str(drawn)), **OPTIONS)


def test_mfcc_rows_are_recovered_from_windows(rng):
    rows = rng.normal(size=(4 * 9 + 28, 13))
    windows = features.mfcc_windows(rows)
    assert len(windows) == 10
    np.testing.assert_array_equal(mfcc_rows(windows), rows)
    np.testing.assert_array_equal(mfcc_rows(windows[:1]), rows[:28])


def test_silence_is_long_and_quiet(rng):
    """Noise of 0.4 s, 0.12 s without, 0.4 s with, then 0.4 s that are 60 dB quieter."""
    loudness = np.repeat([1, 0, 1, 1e-3], [6400, 1920, 6400, 6400])
    mfcc = features.speech_mfcc(loudness * rng.normal(0, 0.1, len(loudness)))
    silent = silent_frames(mfcc)
    assert silent.shape == (features.num_frames(len(mfcc)),)
    np.testing.assert_array_equal(silent[:23], False)  # the pause of three frames is too short
    np.testing.assert_array_equal(silent[24:], True)


def test_cases_are_read_from_clips(data, drawn):
    name = ClipName("s1", "happy_level_2_001")
    case = data.case(name)
    assert case.name == "s1/happy_level_2_001"
    assert case.identity == "s1"
    assert EMOTIONS[case.emotion] == "happy"
    assert case.level == 2
    assert case.truth.shape == (FRAMES, SIZE, SIZE, 3)
    stored = np.load(drawn / "landmarks" / "s1" / "happy_level_2_001.npy")
    np.testing.assert_array_equal(case.landmarks, stored)
    windows = np.load(drawn / "MFCC" / "s1" / "happy_level_2_001.npy")
    assert features.num_frames(len(case.sound.mfcc)) == FRAMES == len(case.sound.pose)
    np.testing.assert_allclose(case.sound.mfcc[:4], windows[0, :4], rtol=1e-6)
    # The portrait is the first frame of the first neutral clip.
    neutral = data.case(ClipName("s1", "neutral_level_1_001"))
    np.testing.assert_array_equal(case.portrait, neutral.truth[0])
    assert (neutral.portrait != neutral.truth[0]).any()  # which has its own from another


def test_source_image_can_be_the_first_frame(drawn):
    source = Source("synthetic", str(drawn))
    data = DataSet(source, **OPTIONS, portrait_from="first", max_frames=20)
    case = data.case(data.names[0])
    np.testing.assert_array_equal(case.portrait, case.truth[0])
    assert len(case.truth) == len(case.landmarks) == len(case.sound.pose) == 20
    assert features.num_frames(len(case.sound.mfcc)) == 20


def test_data_without_labels_or_landmarks(tmp_path):
    write_lrw(tmp_path, clips=2, frames=FRAMES)
    data = DataSet(Source("lrw", str(tmp_path)), **{**OPTIONS, "with_motion": False})
    case = data.case(data.names[0])
    assert (case.emotion, case.level, case.landmarks, case.sound) == (-1, 0, None, None)
    np.testing.assert_array_equal(case.portrait, case.truth[0])


def test_selection_is_balanced_over_emotions_and_people(data):
    emotions = [data.emotion(name) for name in data.choose(6)]
    assert sorted(emotions.count(e) for e in set(emotions)) == [2, 2, 2]
    assert data.choose(0) == data.names == data.choose(100)
    assert data.choose(3) == data.choose(3)
    assert len(data.choose(3)) == 3


def test_splits_are_those_of_training(drawn):
    source = Source("synthetic", str(drawn))
    with pytest.raises(UserError, match="validation fraction"):
        DataSet(source, **{**OPTIONS, "split": "validation", "validation_fraction": 0.0})
    everybody = {**OPTIONS, "split": "validation", "validation_fraction": 1.0}
    assert len(DataSet(source, **everybody).names) == 8


def test_a_bad_clip_is_named(tmp_path):
    write_drawn(tmp_path, people=("s0",), frames=FRAMES)
    data = DataSet(Source("synthetic", str(tmp_path)), **OPTIONS)
    (tmp_path / "fomm_crop" / "s0" / "angry_level_2_001" / "4.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="s0/angry_level_2_001: frame 4"):
        data.case(ClipName("s0", "angry_level_2_001"))


def test_a_missing_second_neutral_clip_is_an_error(tmp_path):
    write_drawn(tmp_path, people=("s0",), frames=FRAMES, neutral=1)
    data = DataSet(Source("synthetic", str(tmp_path)), **OPTIONS)
    data.case(ClipName("s0", "angry_level_2_001"))
    with pytest.raises(UserError, match="no other neutral clip"):
        data.case(ClipName("s0", "neutral_level_1_001"))


def save_frames(folder, frames):
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number}.png")


@pytest.fixture
def pairs(tmp_path, rng):
    """Two videos by two methods: one as pictures, the other as mp4."""
    smooth = np.linspace(40, 200, SIZE)[:, None, None] + np.zeros((SIZE, SIZE, 3))
    frames = (smooth + rng.uniform(-20, 20, (12, 1, 1, 3))).astype(np.uint8)
    for name in ("a_happy_level_3_001", "b"):
        save_frames(tmp_path / "truth" / name, frames)
        save_frames(tmp_path / "ours" / name, 255 - frames)
        (tmp_path / "theirs").mkdir(exist_ok=True)
        with video_writer(tmp_path / "theirs" / f"{name}.mp4", SIZE, SIZE, 25) as video:
            for frame in frames[:11]:
                video.write(frame)
    (tmp_path / "portrait").mkdir()
    Image.fromarray(frames[5]).resize((64, 64)).save(tmp_path / "portrait" / "b.jpg")
    return tmp_path, frames


def test_pairs(pairs):
    root, frames = pairs
    found = Pairs(root)
    assert found.methods == ["ours", "theirs"]
    assert found.names == ["a_happy_level_3_001", "b"]
    case = found.case("a_happy_level_3_001")
    np.testing.assert_array_equal(case.truth, frames[:11])  # as many as all have
    np.testing.assert_array_equal(case.made["ours"], 255 - frames[:11])
    assert np.abs(case.made["theirs"].astype(int) - frames[:11]).mean() < 4
    assert case.labels == Labels("a", EMOTIONS.index("happy"), 3)
    np.testing.assert_array_equal(case.portrait, frames[0])
    other = found.case("b")
    assert other.emotion == -1
    assert np.abs(other.portrait.astype(int) - frames[5]).mean() < 4
    assert len(Pairs(root, max_frames=3).case("b").truth) == 3
    assert Pairs(root, size=16).case("b").truth.shape == (11, 16, 16, 3)


def test_what_a_mac_leaves_is_no_video_and_no_picture(pairs):
    root, frames = pairs
    for path in ("truth/.DS_Store", "theirs/._b.mp4", "portrait/._b.jpg", "truth/b/._0.png"):
        (root / path).write_bytes(b"left by a Mac")
    found = Pairs(root)
    assert found.names == ["a_happy_level_3_001", "b"]
    np.testing.assert_array_equal(found.case("b").truth, frames[:11])


def test_mismatched_pairs_are_named(pairs):
    root, frames = pairs
    save_frames(root / "truth" / "c", frames)
    with pytest.raises(UserError, match=r"ours has no video named c.*1 are missing"):
        Pairs(root)
    save_frames(root / "ours" / "c", frames[:9])
    save_frames(root / "theirs" / "c", frames)
    with pytest.raises(UserError, match="c: ours has 9 frames, the ground truth 12"):
        Pairs(root).case("c")
    (root / "theirs" / "d").mkdir()
    (root / "ours" / "d").mkdir()
    (root / "truth" / "d").mkdir()
    with pytest.raises(UserError, match="no images named 0"):
        Pairs(root).case("d")


def test_folders_with_another_layout_are_rejected(tmp_path):
    with pytest.raises(UserError, match="no folder truth"):
        Pairs(tmp_path)
    (tmp_path / "truth").mkdir()
    with pytest.raises(UserError, match="no folder of rendered videos"):
        Pairs(tmp_path)
    (tmp_path / "ours").mkdir()
    with pytest.raises(UserError, match="is empty"):
        Pairs(tmp_path)
