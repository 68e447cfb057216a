"""Clips of a data set and folders of pairs, as cases; and what is wrong with bad ones."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from eamm_jax import features
from eamm_jax.constants import EMOTIONS
from eamm_jax.errors import UserError
from eamm_jax.evaluation.cases import DataSet, Pairs, mfcc_rows, read_pair, silent_frames
from eamm_jax.input_pipeline.clips import ClipName, Labels
from eamm_jax.input_pipeline.sources import Source
from eamm_jax.io.audio import write_wav
from eamm_jax.io.video_writer import video_writer
from tests.evaluation.faces import write_rendered
from tests.published_layout import write_lrw

FRAMES, SIZE = 26, 32
OPTIONS = {"size": SIZE, "split": "all", "validation_fraction": 0.05, "with_motion": True}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    return write_rendered(tmp_path_factory.mktemp("rendered"), people=("s0", "s1"), frames=FRAMES)


@pytest.fixture
def data(rendered):
    return DataSet(Source("synthetic", str(rendered)), **OPTIONS)


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


def test_cases_are_read_from_clips(data, rendered):
    name = ClipName("s1", "happy_level_2_001")
    case = data.case(name)
    assert case.name == "s1/happy_level_2_001"
    assert case.identity == "s1"
    assert EMOTIONS[case.emotion] == "happy"
    assert case.level == 2
    assert case.truth.shape == (FRAMES, SIZE, SIZE, 3)
    stored = np.load(rendered / "landmarks" / "s1" / "happy_level_2_001.npy")
    np.testing.assert_array_equal(case.landmarks, stored)
    windows = np.load(rendered / "MFCC" / "s1" / "happy_level_2_001.npy")
    assert features.num_frames(len(case.sound.mfcc)) == FRAMES == len(case.sound.pose)
    np.testing.assert_allclose(case.sound.mfcc[:4], windows[0, :4], rtol=1e-6)
    # The portrait is the first frame of the first neutral clip.
    neutral = data.case(ClipName("s1", "neutral_level_1_001"))
    np.testing.assert_array_equal(case.portrait, neutral.truth[0])
    assert (neutral.portrait != neutral.truth[0]).any()  # which has its own from another


def test_source_image_can_be_the_first_frame(rendered):
    source = Source("synthetic", str(rendered))
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


def test_splits_are_those_of_training(rendered):
    source = Source("synthetic", str(rendered))
    with pytest.raises(UserError, match="validation fraction"):
        DataSet(source, **{**OPTIONS, "split": "validation", "validation_fraction": 0.0})
    everybody = {**OPTIONS, "split": "validation", "validation_fraction": 1.0}
    assert len(DataSet(source, **everybody).names) == 8


def test_a_bad_clip_is_named(tmp_path):
    write_rendered(tmp_path, people=("s0",), frames=FRAMES)
    data = DataSet(Source("synthetic", str(tmp_path)), **OPTIONS)
    (tmp_path / "fomm_crop" / "s0" / "angry_level_2_001" / "4.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="s0/angry_level_2_001: frame 4"):
        data.case(ClipName("s0", "angry_level_2_001"))


def test_a_missing_second_neutral_clip_is_an_error(tmp_path):
    write_rendered(tmp_path, people=("s0",), frames=FRAMES, neutral=1)
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
    assert found.size() == SIZE
    case = read_pair(found.files("a_happy_level_3_001"), SIZE)
    assert case.faults == case.heard == {}
    np.testing.assert_array_equal(case.truth, frames[:11])  # as many as all have
    np.testing.assert_array_equal(case.made["ours"], 255 - frames[:11])
    assert np.abs(case.made["theirs"].astype(int) - frames[:11]).mean() < 4
    assert case.labels == Labels("a", EMOTIONS.index("happy"), 3)
    np.testing.assert_array_equal(case.portrait, frames[0])
    other = read_pair(found.files("b"), SIZE)
    assert other.emotion == -1
    assert np.abs(other.portrait.astype(int) - frames[5]).mean() < 4
    assert read_pair(found.files("b"), 16, max_frames=3).truth.shape == (3, 16, 16, 3)


def test_what_a_mac_leaves_is_no_video_and_no_picture(pairs):
    root, frames = pairs
    for path in ("truth/.DS_Store", "theirs/._b.mp4", "portrait/._b.jpg", "truth/b/._0.png"):
        (root / path).write_bytes(b"left by a Mac")
    found = Pairs(root)
    assert found.names == ["a_happy_level_3_001", "b"]
    np.testing.assert_array_equal(read_pair(found.files("b"), SIZE).truth, frames[:11])


def test_other_files_are_passed_over(pairs):
    root, frames = pairs
    for path in ("truth/notes.txt", "truth/docs.pdf", "truth/b/0.txt", "theirs/b.wav", "ours/log"):
        (root / path).write_bytes(b"no video")
    found = Pairs(root)
    assert found.names == ["a_happy_level_3_001", "b"]
    case = read_pair(found.files("b"), SIZE)
    assert case.faults == {}
    np.testing.assert_array_equal(case.truth, frames[:11])


def test_names_may_be_numbers(tmp_path, rng):
    """A person's folder of numbered videos is no folder of frames."""
    frame = rng.integers(0, 255, (SIZE, SIZE, 3), np.uint8)
    for method in ("truth", "ours"):
        (tmp_path / method / "anna").mkdir(parents=True)
        for name in ("001", "002"):
            with video_writer(tmp_path / method / "anna" / f"{name}.mp4", SIZE, SIZE) as video:
                video.write(frame)
    (tmp_path / "portrait" / "anna").mkdir(parents=True)
    Image.fromarray(frame).save(tmp_path / "portrait" / "anna" / "002.png")
    found = Pairs(tmp_path)
    assert found.names == ["anna/001", "anna/002"]
    np.testing.assert_array_equal(read_pair(found.files("anna/002"), SIZE).portrait, frame)


def test_missing_and_mismatched_videos_are_named(pairs):
    root, frames = pairs
    save_frames(root / "truth" / "c", frames)
    save_frames(root / "ours" / "c", frames[:9])
    case = read_pair(Pairs(root).files("c"), SIZE)
    assert case.made == {}
    assert "ours has 9 frames, the ground truth 12" in case.faults["ours"]
    assert case.faults["theirs"] == "theirs has no video of this name"
    assert len(case.truth) == 12  # what is not compared does not cut it
    for method in ("truth", "ours", "theirs"):
        (root / method / "d").mkdir()
    with pytest.raises(UserError, match="no images named 0"):
        read_pair(Pairs(root).files("d"), SIZE)


def test_the_first_good_video_gives_the_size(pairs):
    root, _ = pairs
    (root / "truth" / "a.mp4").write_bytes(b"no video")
    assert Pairs(root).size() == SIZE
    for name in ("a_happy_level_3_001", "b"):
        for picture in (root / "truth" / name).iterdir():
            picture.write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"no ground-truth video can be read; the first: .*a\.mp4"):
        Pairs(root).size()


def test_videos_may_lie_in_folders(tmp_path, rng):
    frames = rng.integers(0, 255, (4, SIZE, SIZE, 3), np.uint8)
    for method in ("truth", "ours"):
        save_frames(tmp_path / method / "anna" / "sad_2_001", frames)
        save_frames(tmp_path / method / "bob" / "x" / "y", frames)
    found = Pairs(tmp_path)
    assert found.names == ["anna/sad_2_001", "bob/x/y"]
    case = read_pair(found.files("anna/sad_2_001"), SIZE)
    assert case.labels == Labels("anna", EMOTIONS.index("sad"), 2)
    assert read_pair(found.files("bob/x/y"), SIZE).labels == Labels("bob")


def test_sound_is_that_of_each_video_or_of_the_truth(tmp_path, rng):
    for method, level in (("truth", 0.1), ("ours", 0.2), ("mute", None)):
        sound = None
        if level is not None:
            sound = tmp_path / f"{method}.wav"
            write_wav(sound, level * rng.uniform(-1, 1, 16000))
        (tmp_path / "pairs" / method).mkdir(parents=True)
        path = tmp_path / "pairs" / method / "a.mp4"
        with video_writer(path, SIZE, SIZE, sound=sound) as video:
            for _ in range(25):
                video.write(np.zeros((SIZE, SIZE, 3), np.uint8))
    case = read_pair(Pairs(tmp_path / "pairs").files("a"), SIZE)
    assert sorted(case.heard) == ["ours"]
    own, truth, mute = (case.mfcc_under(method) for method in ("ours", "still", "mute"))
    np.testing.assert_array_equal(mute, truth)
    # Twice as loud: log 4 more energy.
    assert (own - truth)[30:80, 0].mean() == pytest.approx(np.log(4), abs=0.1)


def test_folders_with_another_layout_are_rejected(tmp_path):
    with pytest.raises(UserError, match="no folder truth"):
        Pairs(tmp_path)
    (tmp_path / "truth").mkdir()
    with pytest.raises(UserError, match="no folder of rendered videos"):
        Pairs(tmp_path)
    (tmp_path / "ours").mkdir()
    with pytest.raises(UserError, match=r"holds no videos .*mp4"):
        Pairs(tmp_path)
    (tmp_path / "truth" / "a.mp4").touch()
    (tmp_path / "ours" / "b.mp4").touch()
    with pytest.raises(UserError, match=r"ours has no video of the same name.*such as a"):
        Pairs(tmp_path)
