"""The animator on a tiny model: chunks, streaming, state, settings; and the published demo."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from eamm_jax import features
from eamm_jax.animate import Animator, Settings
from eamm_jax.animate.emotion_bank import EmotionBank, Entry, parse_schedule
from eamm_jax.animate.program import augment_video, displacement_weights
from eamm_jax.checkpoint import save_networks, stored_networks
from eamm_jax.constants import SAMPLE_RATE
from eamm_jax.errors import UserError
from eamm_jax.faces import idle
from eamm_jax.io.audio import read_speech
from eamm_jax.models.config import published
from tests.tiny import tiny_variables

SIZE = 64
PLAIN = Settings(mask_mouth=False)


@pytest.fixture(scope="module")
def animator():
    return Animator(*tiny_variables(), chunk=4)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(1)
    return {
        "source_image": rng.uniform(size=(SIZE, SIZE, 3)).astype(np.float32),
        "speech": 0.1 * rng.normal(size=int(0.48 * SAMPLE_RATE)).astype(np.float32),
        "pose": np.array([[5, 2, 1, 5e-4, 60, 60, -66.7]], np.float32),
    }


@pytest.fixture(scope="module")
def emotion_frames():
    return list(np.random.default_rng(2).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8))


def images(animation) -> np.ndarray:
    return np.stack([frame.image for frame in animation])


def test_there_are_as_many_frames_as_the_sound_has(animator, inputs):
    animation = animator.animate(**inputs)
    frames = list(animation)
    rows = len(features.speech_mfcc(inputs["speech"]))
    assert len(frames) == len(animation) == features.num_frames(rows) == 11
    assert frames[0].image.shape == (SIZE, SIZE, 3)
    assert frames[0].image.dtype == np.uint8
    assert frames[0].neutral is None


@pytest.mark.slow
def test_the_chunk_size_does_not_change_the_result(animator, inputs, emotion_frames):
    settings = dataclasses.replace(PLAIN, relative=True, adapt_scale=True, neutral=True)
    other = Animator(*tiny_variables(), chunk=1)
    expected = list(animator.animate(**inputs, emotion_frames=emotion_frames, settings=settings,
                                     as_uint8=False))  # fmt: skip
    found = list(other.animate(**inputs, emotion_frames=emotion_frames, settings=settings,
                               as_uint8=False))  # fmt: skip
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.image, b.image, atol=1e-5)
        np.testing.assert_allclose(a.neutral, b.neutral, atol=1e-5)


def test_bytes_are_the_rounded_floats(animator, inputs):
    floats = images(animator.animate(**inputs, as_uint8=False))
    assert floats.dtype == np.float32
    np.testing.assert_array_equal(images(animator.animate(**inputs)), np.round(floats * 255))


def test_frames_come_before_the_emotional_video_is_read_to_its_end(animator, inputs):
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield np.full((SIZE, SIZE, 3), read % 256, np.uint8)

    frames = iter(animator.animate(**inputs, emotion_frames=endless(), settings=PLAIN))
    next(frames)
    # The chunk that is used and the one that is computed meanwhile.
    assert read == 2 * animator.chunk
    list(frames)
    assert read == 12


def test_a_short_emotional_video_is_repeated_and_read_once(animator, inputs, emotion_frames):
    repeated = itertools.islice(itertools.cycle(emotion_frames), 12)
    short = images(animator.animate(**inputs, emotion_frames=emotion_frames, settings=PLAIN))
    long = images(animator.animate(**inputs, emotion_frames=repeated, settings=PLAIN))
    np.testing.assert_array_equal(short, long)


def test_emotion_shows_and_strength_zero_is_neutral(animator, inputs, emotion_frames):
    def strength(value):
        settings = dataclasses.replace(PLAIN, emotion_strength=value)
        return images(animator.animate(**inputs, emotion_frames=emotion_frames, settings=settings))

    neutral = images(animator.animate(**inputs))
    np.testing.assert_array_equal(strength(0.0), neutral)
    assert (strength(1.0) != neutral).any()
    assert (strength(1.0) != strength(2.0)).any()
    np.testing.assert_allclose(displacement_weights(animator.config), [0.2, 1, 1, 0])


def test_the_neutral_frames_beside_an_emotion_are_those_without_it(
    animator, inputs, emotion_frames
):
    settings = dataclasses.replace(PLAIN, neutral=True)
    both = list(animator.animate(**inputs, emotion_frames=emotion_frames, settings=settings))
    neutral = images(animator.animate(**inputs))
    np.testing.assert_array_equal(np.stack([f.neutral for f in both]), neutral)


def test_the_mouth_of_the_emotional_frames_is_hidden(animator, inputs, emotion_frames):
    chattering = [f.copy() for f in emotion_frames]
    for frame in chattering:
        frame[42:54, 24:42] = 255 - frame[42:54, 24:42]  # within the box at this size

    def animate(frames, settings):
        return images(animator.animate(**inputs, emotion_frames=frames, settings=settings))

    hidden, seen = Settings(), PLAIN
    np.testing.assert_array_equal(animate(emotion_frames, hidden), animate(chattering, hidden))
    assert (animate(emotion_frames, seen) != animate(chattering, seen)).any()


def compilations(job) -> list[str]:
    """The names of what JAX compiles while a job runs."""
    messages = []
    with jax.log_compiles(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "logging.Logger.handle", lambda _, record: messages.append(record.getMessage())
        )
        job()
    return [message for message in messages if "Compiling" in message]


def test_another_length_portrait_pose_and_emotion_compile_nothing_new(
    animator, inputs, emotion_frames
):
    settings = dataclasses.replace(PLAIN, neutral=True, relative=True, adapt_scale=True)
    first = {**inputs, "emotion_frames": emotion_frames, "settings": settings}
    first["pose"] = np.repeat(inputs["pose"], 5, axis=0)
    bank = {"settings": settings, "emotions": parse_schedule("happy")}

    def others():
        for seconds, video in ((0.7, 3), (0.3, 8), (1.0, 2)):
            other = dict(first)
            other["speech"] = np.tile(inputs["speech"], 3)[: int(seconds * SAMPLE_RATE)]
            other["source_image"] = inputs["source_image"][::-1] * np.float32(seconds)
            other["pose"] = np.repeat(inputs["pose"], int(100 * seconds), axis=0)
            other["emotion_frames"] = (emotion_frames * 2)[:video]
            other["settings"] = dataclasses.replace(
                settings, audio_weight=seconds, emotion_strength=2 * seconds, seed=video
            )
            list(animator.animate(**other))
        list(animator.animate(**{**inputs, **bank, "emotions": parse_schedule("sad"), "level": 2}))

    def train():
        list(animator.animate(**first))
        list(animator.animate(**{**inputs, **bank}))

    animator.bank = small_bank(animator)
    try:
        train()
        # That this would count what is compiled anew.
        static = {**first, "settings": dataclasses.replace(settings, smoothing=False)}
        assert any(
            "combine" in name for name in compilations(lambda: list(animator.animate(**static)))
        )
        assert not compilations(others)
    finally:
        animator.bank = None


def small_bank(animator) -> EmotionBank:
    rng = np.random.default_rng(0)
    face = np.zeros((8, 8, 3), np.uint8)
    width = animator.config.emotion.stage_widths[-1]
    return EmotionBank(
        {
            (emotion, level): Entry(rng.normal(size=(9, width)).astype(np.float32), face)
            for emotion, level in (("happy", 3), ("sad", 2))
        }
    )


def test_no_implicit_transfers_between_host_and_device(animator, inputs, emotion_frames):
    settings = Settings(neutral=True, relative=True, adapt_scale=True, augment_emotion=True)
    arguments = {**inputs, "emotion_frames": emotion_frames, "settings": settings}

    def after_the_first_frame():
        frames = iter(animator.animate(**arguments))
        next(frames)
        with jax.transfer_guard("disallow"):
            list(frames)

    after_the_first_frame()
    with pytest.MonkeyPatch.context() as patch:
        # That the animator itself would notice.
        patch.setattr(animator, "put", lambda tree: tree)
        with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
            list(animator.animate(**arguments))


def test_the_states_of_the_chunk_before_are_donated(animator, inputs):
    """The new states take their memory."""
    parts, variables = animator.parts, animator.variables
    lstm, motion = parts.initial_state()
    source = parts.encode_source(variables, inputs["source_image"][None])
    audio, pose = np.zeros((4, 28, 12), np.float32), np.zeros((4, 6), np.float32)
    raw, _ = parts.audio_to_keypoints(variables, source.embedding, audio, pose, lstm, 1.6)
    weights = displacement_weights(animator.config)
    parts.combine(
        variables, source.keypoints, raw, None, None, weights, 1.0, motion,
        smooth=True, relative=False,
    )  # fmt: skip
    assert all(x.is_deleted() for x in jax.tree.leaves((lstm, motion.keypoints)))


def test_motion_relative_to_silence_starts_where_silence_would(animator, inputs):
    config, variables = tiny_variables()
    config = config.replace({"inference.relative_to_silence": True})
    other = Animator(config, variables, chunk=4)
    settings = dataclasses.replace(PLAIN, relative=True, audio_weight=50.0)

    def first(animator: Animator, speech: np.ndarray) -> np.ndarray:
        frames = animator.animate(**inputs | {"speech": speech}, settings=settings, as_uint8=False)
        return next(iter(frames)).image

    loud, silent = inputs["speech"], np.zeros_like(inputs["speech"])
    for same in (first(animator, loud), first(other, silent)):
        np.testing.assert_allclose(same, first(animator, silent), atol=1e-5)
    assert np.abs(first(other, loud) - first(other, silent)).max() > 1e-3


def test_unset_settings_are_the_defaults_of_the_model(animator):
    config = animator.config.replace(
        {
            "inference.smooth_motion": False,
            "inference.relative_motion": True,
            "inference.audio_weight": 0.7,
        }
    )
    found = Settings().resolved(config)
    assert (found.smoothing, found.relative, found.audio_weight) == (False, True, 0.7)
    assert Settings().resolved(animator.config).smoothing
    chosen = Settings(smoothing=True, relative=False, audio_weight=2.0)
    assert chosen.resolved(config) == chosen


@pytest.mark.parametrize("kind", [np.stack, list, iter], ids=["array", "list", "generator"])
def test_emotion_features_are_read_from_any_iterable(animator, emotion_frames, kind):
    found = animator.read_emotion(kind(emotion_frames))
    parts, variables = animator.parts, animator.variables
    expected = [parts.read_emotion(variables, np.stack([f] * 4))[0] for f in emotion_frames]
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-5)


@pytest.mark.parametrize("nothing", [np.zeros((0, SIZE, SIZE, 3), np.uint8), [], iter(())])
def test_a_video_without_frames_has_no_emotion(animator, nothing):
    with pytest.raises(UserError, match="the emotion video has no frames"):
        animator.read_emotion(nothing)


def test_the_eyes_close_where_it_is_known_which_keypoints_are_lids(animator, inputs):
    config = animator.config.replace({"inference.lid_keypoints": (2, 3, 5, 6)})
    knowing = Animator(config, animator.variables, chunk=animator.chunk)
    rng = np.random.default_rng(4)
    inputs = {**inputs, "speech": 0.1 * rng.normal(size=2 * SAMPLE_RATE).astype(np.float32)}
    count = len(knowing.animate(**inputs))
    seed = next(n for n in range(99) if idle.Blinks(n).next(count).max() == 1)
    closed = idle.Blinks(seed).next(count) > 0
    assert not closed.all()
    awake = images(knowing.animate(**inputs, settings=Settings(seed=seed, blinks=False)))
    blinking = images(knowing.animate(**inputs, settings=Settings(seed=seed)))
    differ = (awake != blinking).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(differ, closed)


def test_smoothing_steadies_the_head(animator, inputs):
    track = np.repeat(inputs["pose"], 11, axis=0)
    track[:, 0] += np.random.default_rng(0).normal(scale=0.5, size=11)
    raw = images(animator.animate(**{**inputs, "pose": track}, settings=Settings(smoothing=False)))
    filtered = images(animator.animate(**{**inputs, "pose": track}))
    assert (raw != filtered).any()


def test_augmentation_is_random_by_seed_and_the_same_in_any_chunk(emotion_frames):
    frames = np.stack(emotion_frames[:4]).astype(np.float32) / 255
    augment = jax.jit(augment_video)
    rng = jax.random.key(3)
    whole = augment(rng, frames, 0)
    pieces = [augment(rng, frames[i : i + 1], i) for i in range(4)]
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5)
    assert not np.allclose(whole, augment(jax.random.key(4), frames, 0), atol=1e-2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source_image": np.zeros((32, 32, 3), np.float32)}, "32, 32"),
        ({"pose": np.zeros((3, 4), np.float32)}, r"\(3, 4\)"),
        ({"settings": Settings(audio_weight=float("nan"))}, "finite"),
        ({"settings": Settings(emotion_strength=1000.0)}, "is 1000; allowed is 0 to 2"),
        ({"settings": Settings(emotion_strength=-0.5)}, "is -0.5; allowed is 0 to 2"),
        ({"settings": Settings(emotion_strength=float("nan"))}, "is nan"),
        ({"emotion_frames": []}, "no frames"),
    ],
)
def test_wrong_inputs_are_named(animator, inputs, change, words):
    with pytest.raises(UserError, match=words):
        list(animator.animate(**{**inputs, **change}))


def test_what_a_checkpoint_lacks_is_named(inputs, emotion_frames):
    config, variables = tiny_variables()
    silent = {k: v for k, v in variables.items() if k != "audio_feature"}
    with pytest.raises(UserError, match="audio_feature"):
        Animator(config, silent)
    unfeeling = Animator(config, {k: v for k, v in variables.items() if k != "emo_detector"})
    with pytest.raises(UserError, match="no emotion network"):
        unfeeling.animate(**inputs, emotion_frames=emotion_frames)
    with pytest.raises(UserError, match="bfloat16"):
        Animator(config, variables, dtype="float16")
    with pytest.raises(UserError, match="chunk"):
        Animator(config, variables, chunk=0)


# The published demo.

FRAME_MAX, FRAME_MEAN = 3e-3, 2e-4


@pytest.fixture(scope="module")
def demo(goldens):
    return goldens.load("demo.npz")


@pytest.fixture(scope="module")
def published_animator(published_variables):
    return Animator(published(), published_variables, chunk=4)


def demo_frames(animator, demo, goldens, settings: Settings, count: int):
    """The demo's first frames, from its own sound, pose and emotional frames."""
    speech = read_speech(goldens.media("audio")[0])
    windows = features.audio_windows(features.speech_mfcc(speech), 0, 24)
    np.testing.assert_allclose(windows, demo["in_mfcc_windows"], atol=1e-4)
    animation = animator.animate(
        demo["in_source_u8"].astype(np.float32) / 255,
        speech,
        demo["in_pose"],
        demo["in_emotion_frames_u8"],
        settings,
        as_uint8=False,
    )
    assert len(animation) == demo["num_audio_frames"]
    return list(itertools.islice(animation, count))


def assert_frame(found: np.ndarray, expected: np.ndarray) -> None:
    error = np.abs(np.moveaxis(found, -1, 0) - expected / 65535)
    assert error.max() <= FRAME_MAX
    assert error.mean() <= FRAME_MEAN


@pytest.mark.slow
@pytest.mark.parametrize("count", [12, pytest.param(24, marks=pytest.mark.exhaustive)])
def test_golden_demo(published_animator, demo, goldens, count):
    settings = dataclasses.replace(PLAIN, neutral=True)
    frames = demo_frames(published_animator, demo, goldens, settings, count)
    wanted = [index for index in demo["frames"] if index < count]
    assert len(wanted) > 1
    for row, index in enumerate(wanted):
        assert_frame(frames[index].image, demo["prediction_emotion_u16"][row])
        assert_frame(frames[index].neutral, demo["prediction_neutral_u16"][row])


@pytest.mark.slow
def test_golden_demo_relative(published_animator, demo, goldens):
    settings = dataclasses.replace(PLAIN, relative=True, adapt_scale=True)
    frames = demo_frames(published_animator, demo, goldens, settings, 12)
    assert_frame(frames[11].image, demo["relative_prediction_u16"][0])


@pytest.mark.slow
def test_golden_demo_tracks(published_animator, demo, goldens):
    """The keypoint tracks on the way, raw and smoothed."""
    animator = published_animator
    frames = demo["in_emotion_frames_u8"]
    parts, variables = animator.parts, animator.variables
    source = parts.encode_source(variables, demo["in_source_u8"][None].astype(np.float32) / 255)
    lstm, motion = parts.initial_state()
    tracks = {"raw": [], "smooth": [], "displaced": []}
    for start in range(0, len(frames), animator.chunk):
        piece = slice(start, start + animator.chunk)
        pose = features.pose_track(demo["in_pose"], len(frames))[piece]
        windows = demo["in_mfcc_windows"][piece]
        raw, lstm = parts.audio_to_keypoints(variables, source.embedding, windows, pose, lstm, 1.6)
        emotion = parts.read_emotion(variables, frames[piece], mask_mouth=False)
        (smooth, displaced), motion = parts.combine(
            variables, source.keypoints, raw, emotion, None, np.ones(4, np.float32), 1.0, motion,
            smooth=True, relative=False,
        )  # fmt: skip
        for name, keypoints in (("raw", raw), ("smooth", smooth), ("displaced", displaced)):
            tracks[name].append(keypoints)
    tracks = {
        name: jax.tree.map(lambda *x: np.concatenate(x), *pieces) for name, pieces in tracks.items()
    }
    moved = list(animator.config.moved_keypoints)
    for part in ("value", "jacobian"):
        raw, smooth, displaced = (getattr(tracks[n], part) for n in ("raw", "smooth", "displaced"))
        np.testing.assert_allclose(raw, demo[f"kp_audio_raw_{part}"], atol=2e-4)
        np.testing.assert_allclose(smooth, demo[f"kp_audio_smooth_{part}"], atol=2e-4)
        emotion = displaced[:, moved] - smooth[:, moved]
        np.testing.assert_allclose(emotion, demo[f"emotion_smooth_{part}"], atol=2e-4)


@pytest.mark.parametrize("emotional", [False, True])
def test_the_emotion_network_is_loaded_where_there_is_one(emotional, tmp_path):
    config, variables = tiny_variables()
    networks = {n: v for n, v in variables.items() if emotional or n != "emo_detector"}
    save_networks(tmp_path / "weights", config, networks)
    animator = Animator.from_checkpoint(tmp_path / "weights", emotion=None)
    assert animator.has_emotion_network == emotional
    assert ("emo_detector" in stored_networks(tmp_path / "weights")) == emotional
