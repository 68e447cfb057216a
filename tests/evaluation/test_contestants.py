"""Who makes frames: baselines, keypoints of the true video, and the animated model."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from eamm_jax import features
from eamm_jax.animate import Animator, Settings
from eamm_jax.animate.emotion_bank import EmotionBank, Entry
from eamm_jax.constants import EMOTIONS
from eamm_jax.errors import UserError
from eamm_jax.evaluation import contestants
from eamm_jax.evaluation.cases import Case, DataSet, Sound
from eamm_jax.evaluation.contestants import Feeling, animated, from_bank, own_clips
from eamm_jax.input_pipeline.clips import ClipName
from eamm_jax.input_pipeline.sources import Source
from eamm_jax.models import build
from tests.evaluation.faces import write_rendered
from tests.tiny import TINY, tiny_variables

SIZE, FRAMES = TINY.image_size, 11


@pytest.fixture(scope="module")
def case() -> Case:
    rng = np.random.default_rng(3)
    return Case(
        name="s0/happy_level_2_001",
        identity="s0",
        portrait=rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
        truth=rng.integers(0, 256, (FRAMES, SIZE, SIZE, 3), dtype=np.uint8),
        emotion=EMOTIONS.index("happy"),
        level=2,
        sound=Sound(
            rng.normal(size=(4 * FRAMES + 24, 13)),
            np.repeat([[5, 2, 1, 5e-4, 60, 60, -66.7]], FRAMES, 0)
            + rng.normal(0, [1, 1, 1, 1e-6, 0.1, 0.1, 0], (FRAMES, 7)),
        ),
    )


@pytest.fixture(scope="module")
def animator() -> Animator:
    config, variables = tiny_variables()
    width = config.emotion.stage_widths[-1]
    track = np.random.default_rng(4).normal(size=(5, width)).astype(np.float32)
    face = np.zeros((8, 8, 3), np.uint8)
    bank = EmotionBank({("happy", level): Entry(level * track, face) for level in (1, 2, 3)})
    return Animator(config, variables, bank=bank)


def test_baselines(case):
    np.testing.assert_array_equal(contestants.TRUTH.frames(case), case.truth)
    still = contestants.STILL.frames(case)
    assert still.shape == case.truth.shape
    np.testing.assert_array_equal(still[7], case.portrait)
    made = dataclasses.replace(case, made={"theirs": 255 - case.truth})
    np.testing.assert_array_equal(contestants.rendered("theirs").frames(made), 255 - case.truth)


@pytest.mark.slow
def test_ground_truth_keypoints_drive_the_source_image(case):
    config, variables = tiny_variables()
    found = contestants.keypoints(config, variables).frames(case)
    assert found.shape == case.truth.shape
    networks = build(config)
    detector, generator = variables["kp_detector"], variables["generator"]
    portrait, frame = (
        x[None].astype(np.float32) / 255 for x in (case.portrait, case.truth[FRAMES - 1])
    )
    detect, render = jax.jit(networks.kp_detector.apply), jax.jit(networks.generator.apply)
    rendering = render(generator, portrait, detect(detector, portrait), detect(detector, frame))
    expected = np.round(255 * np.asarray(rendering.prediction[0]))
    assert np.abs(found[-1].astype(float) - expected).max() <= 1
    with pytest.raises(UserError, match="generator"):
        contestants.keypoints(config, {"kp_detector": detector})


def frames_of(animation) -> np.ndarray:
    return np.stack([frame.image for frame in animation])


def test_the_model_depends_on_audio_pose_and_emotion(case, animator):
    def shown(asked, emotion):
        assert (asked, emotion) == (case, "happy")
        return Feeling(asked.truth)

    settings = Settings(neutral=True)
    found = animated("model", animator, settings, shown).frames(case)
    portrait = case.portrait.astype(np.float32) / 255
    expected = animator.animate(portrait, case.sound.mfcc, case.sound.pose, case.truth)
    np.testing.assert_array_equal(found, frames_of(expected))
    neutral = animated("neutral", animator, settings, None).frames(case)
    without = animator.animate(portrait, case.sound.mfcc, case.sound.pose)
    np.testing.assert_array_equal(neutral, frames_of(without))
    assert (neutral != found).any()
    unlabelled = dataclasses.replace(case, emotion=-1)
    kept = animated("model", animator, settings, shown).frames(unlabelled)
    np.testing.assert_array_equal(kept, neutral)


def test_samples_and_mfcc_give_the_same_frames(case, animator):
    portrait = case.portrait.astype(np.float32) / 255
    speech = 0.1 * np.random.default_rng(1).normal(size=6000).astype(np.float32)
    pose = case.sound.pose[:1]
    np.testing.assert_array_equal(
        frames_of(animator.animate(portrait, features.speech_mfcc(speech), pose)),
        frames_of(animator.animate(portrait, speech, pose)),
    )


def test_the_bank_uses_the_level_of_the_case(case, animator):
    found = animated("model", animator, Settings(), from_bank).frames(case)
    portrait = case.portrait.astype(np.float32) / 255
    feeling = from_bank(case, "happy")
    assert feeling.level == 2
    expected = animator.animate(
        portrait, case.sound.mfcc, case.sound.pose, emotions=feeling.emotions, level=2
    )
    np.testing.assert_array_equal(found, frames_of(expected))
    assert from_bank(dataclasses.replace(case, emotion=5), "happy").level is None


def test_emotions_come_from_clips_of_the_person(tmp_path):
    root = write_rendered(tmp_path, people=("s0", "s1"), emotions=("happy",), frames=FRAMES + 15)
    for level in (1, 3):
        (root / "fomm_crop" / "s0" / f"happy_level_{level}_001").symlink_to(
            root / "fomm_crop" / "s1" / "happy_level_2_001"
        )
    data = DataSet(
        Source("synthetic", str(root)),
        size=SIZE, split="all", validation_fraction=0, with_motion=False,
    )  # fmt: skip
    own = data.case(ClipName("s1", "happy_level_2_001"))
    np.testing.assert_array_equal(own_clips(data)(own, "happy").emotion_frames, own.truth)
    calm = data.case(ClipName("s1", "neutral_level_1_001"))
    shown = np.stack(list(own_clips(data)(calm, "happy").emotion_frames))
    np.testing.assert_array_equal(shown, own.truth)
    with pytest.raises(UserError, match="s1 has no clip of the emotion sad"):
        own_clips(data)(calm, "sad")
    assert data.clips_of("s0", "happy")[-1].clip == "happy_level_3_001"
    assert max(data.clips_of("s0", "happy"), key=data.level).clip == "happy_level_3_001"


def test_silence_is_the_quietest_moment_of_the_audio(case, animator):
    mfcc = np.random.default_rng(0).normal(size=(100, 13))
    mfcc[40:68, 0] -= 20
    silent = contestants.quietest_moment(mfcc)
    assert silent.shape == mfcc.shape
    np.testing.assert_array_equal(silent[:28], mfcc[40:68])
    np.testing.assert_array_equal(silent[28:56], mfcc[40:68][::-1])
    np.testing.assert_array_equal(silent[56:84], mfcc[40:68])
    portrait = case.portrait.astype(np.float32) / 255
    found = animated("silence", animator, Settings(), None, silent=True).frames(case)
    expected = animator.animate(
        portrait, contestants.quietest_moment(case.sound.mfcc), case.sound.pose
    )
    np.testing.assert_array_equal(found, frames_of(expected))


def test_a_case_without_audio_cannot_be_animated(case, animator):
    with pytest.raises(ValueError, match="without audio"):
        animated("model", animator, Settings(), None).frames(dataclasses.replace(case, sound=None))
