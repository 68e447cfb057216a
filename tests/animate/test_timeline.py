"""Key frames: what a file may hold, how fields move between them, and that frames obey."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from eamm_jax.animate import Animator, Settings
from eamm_jax.animate.emotion_bank import EmotionBank, Entry, parse_schedule
from eamm_jax.animate.timeline import Timeline, read_timeline
from eamm_jax.constants import SAMPLE_RATE
from eamm_jax.errors import UserError
from eamm_jax.faces.idle import FOLLOWED
from tests.tiny import TINY, tiny_variables

SIZE, FRAMES = 64, 10
RAW = {"relative": True, "smoothing": False}  # or the tiny model's keypoints leave the picture


def write(folder, text: str, name: str = "keys.csv"):
    (folder / name).write_text(text)
    return folder / name


KEYS = [{"time": 0, "happy": 1, "yaw": -5}, {"time": 1, "happy": 0.5}, {"time": 3, "yaw": 5}]


def test_a_table_and_json_say_the_same(tmp_path):
    table = write(tmp_path, "time;happy;yaw\n0;1;-5\n1;0.5;\n\n3;;5\n")
    listed = write(tmp_path, json.dumps(KEYS, indent=1), "keys.json")
    for path in (table, listed):
        tracks = read_timeline(path).tracks
        assert {name: [t.tolist() for t in track] for name, track in tracks.items()} == {
            "happy": [[0, 1], [1, 0.5]],
            "yaw": [[0, 3], [-5, 5]],
        }


def test_a_field_is_eased_between_its_keys_and_held_outside():
    track = Timeline.of({"yaw": {1: 2, 3: 6}}).tracks["yaw"]
    found = track.at(np.array([0, 1, 1.02, 2, 2.98, 3, 9]))
    np.testing.assert_allclose(found, [2, 2, 2, 4, 6, 6, 6], atol=2e-3)
    middle = track.at(np.linspace(1, 3, 21))
    assert (np.diff(middle) > 0).all()
    np.testing.assert_allclose(Timeline.of({"yaw": {1: 2}}).tracks["yaw"].at(np.arange(3)), 2)


WRONG = {
    "a field": ("time,hapy\n0,1\n", "line 1: 'hapy' is no field of a timeline"),
    "two of one": ("time,yaw,yaw\n0,1,1\n", "line 1: there are two columns 'yaw'"),
    "a number": ("time,yaw\n0,1\n1,left\n", "line 3: yaw is 'left'; give a number from -90 to 90"),
    "a range": ("time,happy\n0,1.5\n", "line 2: happy is '1.5'; give a number from 0 to 1"),
    "not a number": ("time,blink\n0,nan\n", "line 2: blink is 'nan'"),
    "no time": ("yaw\n3\n", "line 2: it has no time"),
    "a time": ("time,yaw\n-1,3\n", "line 2: time is '-1'"),
    "not rising": ("time,yaw\n1,3\n1,4\n", "line 3: time is 1, but the key frame before has 1"),
    "cells": ("time,yaw\n1,2,3\n", "line 2: 3 cells, but there are 2 columns"),
    "nothing": ("time,yaw\n", "holds no key frames"),
    "no keys": ("time,yaw\n1,\n", "holds no key frames"),
    "no text": ("time\0,", "is not a table|is no field|no key frames"),
}


@pytest.mark.parametrize("case", WRONG)
def test_line_and_field_at_fault_are_named(case, tmp_path):
    text, words = WRONG[case]
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=f"{re.escape(str(path))}.*({words})"):
        read_timeline(path)


WRONG_JSON = {
    "syntax": ('[{"time": 0,\n]', "is not JSON: .*line 2"),
    "no list": ('{"time": 0}', "is not a list of key frames"),
    "deep": ("[" * 10**5, "is not JSON"),
    "a value": ('[{"time": 0, "yaw": 1},\n\n {"time": 1, "yaw": [2]}]', r"line 3: yaw is \[2\]"),
    "a truth": ('[{"time": 0, "blink": true}]', "line 1: blink is True"),
    "a huge number": ('[{"time": 0, "yaw": 1e999}]', "line 1: yaw is inf"),
    "a brace in text": ('[{"time": 0, "}{": 1}]', "line 1: '}{' is no field"),
}


@pytest.mark.parametrize("case", WRONG_JSON)
def test_json_is_checked_alike(case, tmp_path):
    text, words = WRONG_JSON[case]
    with pytest.raises(UserError, match=words):
        read_timeline(write(tmp_path, text, "keys.json"))


def test_files_that_are_too_large_are_not_read(tmp_path):
    with pytest.raises(UserError, match="larger than 1 MB"):
        read_timeline(write(tmp_path, "x" * (1 << 20) + "x"))
    rows = "".join(f"{n},1\n" for n in range(10_001))
    with pytest.raises(UserError, match="line 10002: there are more than 10000"):
        read_timeline(write(tmp_path, "time,yaw\n" + rows))


def bank() -> EmotionBank:
    tracks = np.random.default_rng(5).normal(size=(3, 6, TINY.emotion.stage_widths[-1]))
    names = ("neutral", 1), ("happy", 2), ("sad", 2)
    face = np.zeros((SIZE, SIZE, 3), np.uint8)
    tracks = tracks.astype(np.float32)
    return EmotionBank({k: Entry(t, face) for k, t in zip(names, tracks, strict=True)})


def test_emotions_are_mixed_and_the_rest_is_neutral():
    emotions = bank()
    neutral, happy, sad = (emotions.entry(name).track[0] for name in ("neutral", "happy", "sad"))

    def first(**shares):
        keys = {name: {0: share} for name, share in shares.items()}
        return Timeline.of(keys).emotion_features(emotions, None, 0, 1)[0]

    np.testing.assert_allclose(first(happy=0.25), 0.75 * neutral + 0.25 * happy, atol=1e-6)
    np.testing.assert_allclose(first(happy=0.75, sad=0.75), (happy + sad) / 2, atol=1e-6)
    np.testing.assert_array_equal(first(sad=1), sad)
    with pytest.raises(UserError, match="has no 'angry'"):
        first(angry=1)


@pytest.fixture(scope="module")
def animator() -> Animator:
    eyes = {"inference.lid_keypoints": (2, 3, 5, 6), "inference.pupil_keypoints": (0, 4)}
    config, variables = tiny_variables()
    return Animator(config.replace(eyes), variables, bank=bank(), chunk=4)


@pytest.fixture(scope="module")
def inputs() -> dict:
    rng = np.random.default_rng(1)
    return {
        "source_image": rng.uniform(size=(SIZE, SIZE, 3)).astype(np.float32),
        "speech": 0.1 * rng.normal(size=int(FRAMES / 25 * SAMPLE_RATE)).astype(np.float32),
        "pose": np.array([[0.5, 0.2, 0.1, 5e-4, 0.6, 0.6]], np.float32),
    }


def images(animation) -> np.ndarray:
    return np.stack([frame.image for frame in animation])


def made(animator, inputs, keys=None, emotions=(), **settings) -> np.ndarray:
    chosen = Settings(timeline=Timeline.of(keys or {}), blinks=False, **RAW, **settings)
    return images(
        animator.animate(**inputs, settings=chosen, emotions=emotions, as_uint8=False)
    )  # fmt: skip


def test_key_frames_do_what_flags_do(animator, inputs):
    """Held from the first frame on, each is what the same number is for the whole video."""
    happy = parse_schedule("happy")
    found = made(animator, inputs, {"happy": {0: 1}, "strength": {0: 1.5}})
    np.testing.assert_allclose(
        found, made(animator, inputs, emotions=happy, emotion_strength=1.5), atol=1e-5
    )
    silent = {**inputs, "speech": np.zeros_like(inputs["speech"])}
    found = made(animator, inputs, {"mouth": {0: 0}})
    np.testing.assert_allclose(found, made(animator, silent), atol=1e-5)
    assert np.abs(found - made(animator, inputs)).max() > 1e-4


def test_a_head_that_is_turned_from_the_start_is_turned(animator, inputs):
    """Relative motion starts from the pose before the timeline, as if it had come to it."""
    keys = {"yaw": 1.0, "pitch": -0.4, "roll": 0.2, "shift_x": 0.3, "shift_y": -0.1}
    added = np.array([1, -0.4, 0.2, 0, 0.3 + FOLLOWED, -0.1 - 0.4 * FOLLOWED], np.float32)
    timeline = Timeline.of({name: {0: value} for name, value in keys.items()})
    np.testing.assert_allclose(timeline.controls(0, 2).head, [added] * 2, atol=1e-6)

    def keypoints(pose, timeline, relative) -> np.ndarray:
        settings = Settings(timeline=timeline, smoothing=False, relative=relative, blinks=False)
        return images(
            animator.animate(**{**inputs, "pose": pose}, settings=settings, as_uint8=False)
        )

    plain, turned = inputs["pose"], inputs["pose"] + added
    np.testing.assert_allclose(
        keypoints(plain, timeline, False), keypoints(turned, Timeline(), False), atol=1e-5
    )
    still, moved = keypoints(plain, Timeline(), True), keypoints(plain, timeline, True)
    assert np.abs(moved - still).max(axis=(1, 2, 3)).min() > 1e-5  # from the first frame on


@pytest.mark.parametrize("keys", [{"blink": {0.08: 0, 0.16: 1}}, {"gaze_x": {0.08: 0, 0.2: 1}}])
def test_frames_differ_from_where_a_key_begins(animator, inputs, keys):
    plain, found = made(animator, inputs), made(animator, inputs, keys)
    differ = (plain != found).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(differ, np.arange(len(plain)) > 2)


def test_a_blink_of_the_timeline_takes_the_place_of_random_ones(animator, inputs):
    settings = Settings(timeline=Timeline.of({"blink": {0: 0}}), **RAW)
    long = {**inputs, "speech": np.tile(inputs["speech"], 12)}
    awake = images(animator.animate(**long, settings=Settings(blinks=False, **RAW)))
    np.testing.assert_array_equal(images(animator.animate(**long, settings=settings)), awake)
    assert (images(animator.animate(**long, settings=Settings(**RAW))) != awake).any()


def test_a_stream_obeys_its_timeline_too(animator, inputs):
    timeline = Timeline.of(
        {"happy": {0: 0, 0.3: 1}, "yaw": {0: 0, 0.2: 9}, "blink": {0.1: 0, 0.2: 1}}
    )
    settings = Settings(timeline=timeline, **RAW)
    expected = images(animator.animate(**inputs, settings=settings, as_uint8=False))
    stream = animator.stream(
        inputs["source_image"], inputs["pose"][0], settings, as_uint8=False
    )  # fmt: skip
    stream.push(inputs["speech"])
    found = np.stack([frame.image for frame in [*stream.pull(), *stream.finish()]])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(UserError, match="the timeline has some"):
        animator.stream(inputs["source_image"], inputs["pose"][0], settings, emotion="sad")
    with pytest.raises(UserError, match="the timeline has emotions, and another"):
        animator.animate(**inputs, settings=settings, emotions=parse_schedule("sad"))


def test_what_a_model_cannot_do_is_said_once_or_refused(inputs, caplog):
    config, variables = tiny_variables()
    plain = Animator(config, variables, chunk=4)
    keys = {"happy": {0: 1}, "gaze_y": {0: 1}, "blink": {0: 1}, "yaw": {0: 4}}
    found = made(plain, inputs, keys)
    (record,) = caplog.records
    said = record.getMessage()
    for words in ("happy (it has no emotion bank)", "blink (none", "gaze_y (none"):
        assert words in said
    np.testing.assert_array_equal(found, made(plain, inputs, {"yaw": {0: 4}}))
    with pytest.raises(UserError, match="cannot do all of the timeline: happy"):
        made(plain, inputs, keys, strict=True)
