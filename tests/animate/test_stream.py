"""A stream gives the frames of the whole speech, whatever its pieces; what changes on the way."""

from __future__ import annotations

import gc
import itertools
import threading
import tracemalloc

import numpy as np
import pytest

from eamm_jax.animate import Animator, Settings
from eamm_jax.animate.emotion_bank import EmotionBank, Entry, LiveEmotion, parse_schedule
from eamm_jax.constants import SAMPLE_RATE
from eamm_jax.errors import UserError
from tests.tiny import tiny_variables

SIZE = 64
FACE = np.zeros((SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def animator() -> Animator:
    config, variables = tiny_variables()
    config = config.replace({"inference.lid_keypoints": (2, 3, 5, 6)})
    width = config.emotion.stage_widths[-1]
    tracks = np.random.default_rng(5).normal(size=(3, 6, width)).astype(np.float32)
    names = ("neutral", 1), ("happy", 2), ("sad", 2)
    bank = EmotionBank({k: Entry(t, FACE) for k, t in zip(names, tracks, strict=True)})
    return Animator(config, variables, bank=bank, chunk=1)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    rng = np.random.default_rng(1)
    return 0.1 * rng.normal(size=int(0.5 * SAMPLE_RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return np.random.default_rng(2).uniform(size=(SIZE, SIZE, 3)).astype(np.float32)


POSE = np.array([5, 2, 1, 5e-4, 60, 60, -66.7], np.float32)


def streamed(stream, speech, sizes) -> np.ndarray:
    """Images of a whole speech, pushed in pieces whose sizes are repeated."""
    frames, start = [], 0
    for size in itertools.cycle(sizes):
        stream.push(speech[start : start + size])
        frames += stream.pull()
        start += size
        if start >= len(speech):
            break
    frames += stream.finish()
    assert [frame.number for frame in frames] == list(range(len(frames)))
    return np.stack([frame.image for frame in frames])


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("sizes", [(10**6,), (640,), (1, 2000, 160)])
def test_the_frames_are_those_of_the_whole_speech(animator, speech, portrait, chunk, sizes):
    quiet = {"inference.relative_to_silence": True, "inference.loudness_range": 2.0}
    config = animator.config.replace(quiet)
    animator = Animator(config, animator.variables, bank=animator.bank, chunk=chunk)
    settings = Settings(relative=True, adapt_scale=True, seed=3)
    expected = animator.animate(
        portrait, speech, POSE[None], settings=settings, emotions=parse_schedule("happy"),
        as_uint8=False,
    )  # fmt: skip
    stream = animator.stream(portrait, POSE, settings, emotion="happy", as_uint8=False)
    for _ in range(2):  # after its end it starts anew
        found = streamed(stream, speech, sizes)
        np.testing.assert_allclose(found, [frame.image for frame in expected], atol=1e-5)
        expected = animator.animate(
            portrait, speech, POSE[None], settings=settings, emotions=parse_schedule("happy"),
            as_uint8=False,
        )  # fmt: skip


def test_a_track_of_poses_is_followed_and_its_end_held(animator, speech, portrait):
    track = POSE + np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    held = np.concatenate([track, np.repeat(track[-1:], 20, axis=0)])
    settings = Settings(smoothing=False)  # which would smooth a track that is known
    expected = animator.animate(portrait, speech, held, settings=settings, as_uint8=False)
    found = streamed(animator.stream(portrait, track, settings, as_uint8=False), speech, (640,))
    np.testing.assert_allclose(found, [frame.image for frame in expected], atol=1e-5)


def test_one_thread_may_push_while_another_pulls(animator, speech, portrait):
    expected = animator.animate(portrait, speech, POSE[None])
    stream = animator.stream(portrait, POSE)
    pieces = [speech[n : n + 100] for n in range(0, len(speech), 100)]
    pushing = threading.Thread(target=lambda: list(map(stream.push, pieces)))
    pushing.start()
    frames = []
    while pushing.is_alive():
        frames += stream.pull()
    frames += stream.finish()
    found = np.stack([frame.image for frame in frames])
    np.testing.assert_array_equal(found, np.stack([frame.image for frame in expected]))


def test_a_frame_comes_as_soon_as_its_sound_is_there(animator, speech, portrait):
    stream = animator.stream(portrait, POSE)
    stream.push(speech[:2799])
    assert (stream.waiting, list(stream.pull())) == (0, [])
    stream.push(speech[2799 : 2800 + 2 * 640])
    assert stream.waiting == 3
    assert [frame.number for frame in stream.pull()] == [0, 1, 2]
    assert stream.waiting == 0


def test_what_falls_behind_is_dropped_and_counted_but_moves_on(animator, speech, portrait):
    every = animator.stream(portrait, POSE, as_uint8=False)
    late = animator.stream(portrait, POSE, most_waiting=2, as_uint8=False)
    for stream in (every, late):
        stream.push(speech)
    whole = {frame.number: frame.image for frame in every.pull()}
    shown = {frame.number: frame.image for frame in late.pull()}
    assert sorted(shown) == sorted(whole)[-2:]
    assert (every.dropped, late.dropped) == (0, len(whole) - 2)
    for number, image in shown.items():
        np.testing.assert_allclose(image, whole[number], atol=1e-5)


def test_everything_can_be_changed_between_frames(animator, speech, portrait):
    def images(change) -> np.ndarray:
        stream = animator.stream(portrait, POSE, emotion="neutral", as_uint8=False)
        stream.push(speech[:4000])
        before = list(stream.pull())
        change(stream)
        stream.push(speech[4000:])
        return np.stack([frame.image for frame in [*before, *stream.finish()]])

    unchanged = images(lambda stream: None)
    changes = {
        "portrait": lambda stream: stream.show(portrait[::-1]),
        "pose": lambda stream: stream.set_pose(POSE + np.float32(8)),
        "emotion": lambda stream: stream.set_emotion("sad"),
        "strength": lambda stream: stream.set_strength(0.0),
    }
    for what, change in changes.items():
        changed = np.abs(images(change) - unchanged).max(axis=(1, 2, 3))
        assert changed[:2].max() == 0, what
        assert changed[4:].min() > 1e-6, what


def test_an_emotion_fades_over_and_ends_as_itself(animator):
    bank = animator.bank
    live = LiveEmotion(bank, "happy")
    before = live.next(7)
    np.testing.assert_array_equal(before, bank.features(parse_schedule("happy"), 7))
    live.change("sad")
    fading = live.next(20)
    np.testing.assert_allclose(fading[0], bank.features(parse_schedule("happy"), 8)[7], rtol=1e-6)
    np.testing.assert_allclose(fading[15:], bank.features(parse_schedule("sad"), 27)[22:])
    with pytest.raises(UserError, match="no 'fear'; it has happy, neutral, sad"):
        live.change("fear")


@pytest.mark.slow
def test_what_is_held_does_not_grow(animator, portrait):
    stream = animator.stream(portrait, POSE, emotion="happy", most_waiting=1)

    def held_after(seconds: int) -> int:
        for _ in range(seconds):
            stream.push(np.zeros(SAMPLE_RATE, np.float32))
            list(stream.pull())
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        early, late = held_after(5), held_after(20)
    finally:
        tracemalloc.stop()
    # 20 s of windows or of sound take 0.6 MB or more; JAX itself keeps some 66 bytes a frame.
    assert late < early + 200_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source_image": np.zeros((32, 32, 3), np.float32)}, "32, 32"),
        ({"pose": np.zeros(4, np.float32)}, r"\(4,\)"),
        ({"pose": np.full(6, np.nan, np.float32)}, "finite"),
        ({"emotion": "fear"}, "no 'fear'"),
    ],
)
def test_wrong_beginnings_are_named(animator, portrait, change, words):
    with pytest.raises(UserError, match=words):
        animator.stream(**{"source_image": portrait, "pose": POSE, **change})


def test_wrong_changes_are_named_and_change_nothing(animator, portrait, speech):
    stream = animator.stream(portrait, POSE)
    with pytest.raises(UserError, match="begin it with 'neutral'"):
        stream.set_emotion("sad")
    with pytest.raises(UserError, match="expected finite samples"):
        stream.push(np.array([0.0, np.inf]))
    with pytest.raises(UserError, match="32, 32"):
        stream.show(np.zeros((32, 32, 3), np.float32))
    expected = animator.animate(portrait, speech, POSE[None])
    np.testing.assert_array_equal(
        streamed(stream, speech, (999,)), np.stack([frame.image for frame in expected])
    )
