"""All metrics of a clip together, and their means."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from eamm_jax.constants import EMOTIONS
from eamm_jax.evaluation import landmarks, measurement, pictures, sharpness
from eamm_jax.evaluation.aligned import Aligned
from eamm_jax.evaluation.cases import Case, Sound
from eamm_jax.evaluation.measurement import RECOGNIZED, Values
from eamm_jax.evaluation.perception import LPIPS
from eamm_jax.evaluation.readers import Reading, named_emotion
from eamm_jax.evaluation.sync import Sync
from eamm_jax.evaluation.tools import Tools
from tests.evaluation.faces import talking, template

SIZE, FRAMES = 64, 20
HAPPY, NEUTRAL = EMOTIONS.index("happy"), EMOTIONS.index("neutral")


class Oracle:
    """Knows the landmarks of some frames by their top left pixel, and one emotion."""

    name = "an oracle"

    def __init__(self, emotion: int | None = HAPPY, late: int = 0):
        self.track = talking(2 * FRAMES)
        self.emotion, self.late = emotion, late

    def read(self, frames):
        numbers = frames[:, 0, 0, 0].astype(int)
        scores = None
        if self.emotion is not None:
            scores = np.log(np.full((len(frames), 8), 0.01))
            scores[:, self.emotion] = np.log(0.93)
        return Reading(self.track[np.maximum(numbers - self.late, 0)], scores)


@pytest.fixture
def case(rng) -> Case:
    spots = np.kron(rng.integers(40, 200, (8, 8, 3)), np.ones((8, 8, 1)))
    truth = np.repeat(spots[None], FRAMES, axis=0).astype(np.uint8)
    truth[:, 0, 0] = np.arange(FRAMES)[:, None]
    return Case(
        "s0/happy_level_2_001", "s0", truth[0], truth, emotion=HAPPY, level=2, sound=quiet_end()
    )


def quiet_end() -> Sound:
    """Sound whose last eight frames are silent."""
    mfcc = np.zeros((4 * FRAMES + 24, 13))
    mfcc[4 * (FRAMES - 8) + 12 :, 0] = -20
    return Sound(mfcc, np.zeros((FRAMES, 7)))


def measured(case: Case, frames: np.ndarray, tools: Tools) -> Values:
    mfcc = case.sound and case.sound.mfcc
    return measurement.measure(measurement.prepare(case, tools), frames, tools, mfcc)


class Angles:
    """An embedder whose vectors turn by a tenth of a radian from frame to frame."""

    name = "angles"

    def __init__(self):
        self.count = 0

    def embed(self, frames, landmarks):
        assert landmarks.shape == (len(frames), 68, 2)
        self.count += len(frames)
        angles = frames[:, 0, 0, 0] / 10
        return 3 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)


class Steps:
    """SyncNet that reads what it is given."""

    name = "steps"

    def measure(self, frames, landmarks, mfcc):
        return Sync(len(frames), landmarks.shape[1], len(mfcc)) if len(frames) > 5 else None


class Halves:
    """Aligns faces by taking a corner."""

    name = "halves"

    def align(self, frames, landmarks):
        return Aligned(frames[:, :32, :32], landmarks)


def test_ground_truth_has_the_best_scores(case):
    reader = Oracle()
    tools = Tools(reader, Angles(), sync=Steps(), aligner=Halves())
    values = measured(case, case.truth, tools)
    assert [*values] == [key for key in (*measurement.METRICS, RECOGNIZED) if key not in LPIPS]
    for key in ("psnr", "psnr_worst", "psnr_mouth", "psnr_eyes", "eat_psnr"):
        assert values[key] == pytest.approx(pictures.EIGHT_BITS)
    for key in (
        "ssim",
        "ssim_mouth",
        "ssim_eyes",
        "eat_ssim",
        "mouth_correlation",
        "mouth_amplitude",
        "emotion",
    ):
        assert values[key] == pytest.approx(1)
    for key in ("eat_m_lmd", "eat_f_lmd"):
        assert values[key] == pytest.approx(0, abs=1e-9)
    for key in ("m_lmd", "f_lmd", "mouth_lag", "flicker", "neutral", "blinks"):
        assert values[key] == pytest.approx(0, abs=1e-9)
    assert values["jitter"] == pytest.approx(landmarks.jitter(reader.track[:FRAMES]))
    opening = landmarks.mouth_opening(reader.track[:FRAMES])
    assert values["mouth_silence"] == pytest.approx(opening[-8:].mean())


def test_each_value_is_its_metric(case, rng):
    frames = case.truth.copy()
    frames[:, 8:, 8:] = np.clip(
        frames[:, 8:, 8:] + rng.normal(0, 12, frames[:, 8:, 8:].shape), 0, 255
    )
    truth = talking(FRAMES) + 0.01
    case = dataclasses.replace(case, landmarks=truth)
    reader = Oracle(emotion=NEUTRAL, late=2)
    values = measured(case, frames, Tools(reader))
    seen = reader.read(frames).landmarks
    mouth = landmarks.mouth_region(truth, SIZE, SIZE)
    eyes = landmarks.eyes_region(truth, SIZE, SIZE)
    similarity = pictures.ssim_map(frames, case.truth)
    error = pictures.squared_error(frames, case.truth)
    grey = sharpness.grey_levels(frames)
    drift = pictures.identity_drift(case.portrait, reader.track[0], frames, seen)
    opening, wanted = landmarks.mouth_opening(seen), landmarks.mouth_opening(truth)
    timing = landmarks.timing(opening, wanted, 5)
    expected = {
        "psnr": pictures.psnr(error).mean(),
        "psnr_worst": pictures.psnr(error).min(),
        "psnr_mouth": pictures.psnr(error, mouth).mean(),
        "psnr_eyes": pictures.psnr(error, eyes).mean(),
        "ssim": pictures.ssim(similarity).mean(),
        "ssim_mouth": pictures.ssim(similarity, mouth).mean(),
        "ssim_eyes": pictures.ssim(similarity, eyes).mean(),
        "m_lmd": landmarks.landmark_distance(seen, truth, landmarks.MOUTH).mean(),
        "f_lmd": landmarks.landmark_distance(seen, truth).mean(),
        "mouth_correlation": timing.correlation,
        "mouth_correlation_near": timing.near,
        "mouth_correlation_best": timing.best,
        "mouth_lag": 2,
        "mouth_amplitude": opening.std() / wanted.std(),
        "mouth_silence": opening[-8:].mean(),
        "cpbd": np.mean([sharpness.cpbd(grey[n]) for n in (0, 5, 10, 15)]),
        "jitter": landmarks.jitter(seen),
        "flicker": pictures.flicker(frames, case.truth),
        "blinks": 0,
        "identity": drift.mean(),
        "emotion": 0,
        "neutral": 1,
        RECOGNIZED: NEUTRAL,
    }
    assert values == pytest.approx(expected)
    assert values["mouth_correlation"] < values["mouth_correlation_near"] < 0.999
    assert values["mouth_correlation_best"] > 0.999


def test_unavailable_metrics_are_absent(case):
    pictures_only = {"psnr", "psnr_worst", "ssim", "cpbd", "flicker"}
    values = measured(case, case.truth, Tools())
    assert set(values) == pictures_only
    known = dataclasses.replace(case, landmarks=talking(FRAMES))
    values = measured(known, case.truth, Tools())
    regions = {f"{metric}_{part}" for metric in ("psnr", "ssim") for part in ("mouth", "eyes")}
    assert set(values) == pictures_only | regions
    reader = Oracle(emotion=None)
    values = measured(case, case.truth, Tools(reader))
    assert {"emotion", "neutral"}.isdisjoint(values)
    mute = dataclasses.replace(case, sound=None)
    values = measured(mute, case.truth, Tools(reader))
    assert "mouth_silence" not in values
    unlabelled, reader = dataclasses.replace(case, emotion=-1), Oracle()
    values = measured(unlabelled, case.truth, Tools(reader))
    assert "emotion" not in values
    assert values["neutral"] == 0


def test_identity_is_measured_on_some_frames(case):
    frames = np.roll(case.truth, -1, axis=0)  # 1, 2, .. 19, 0
    tools = Tools(Oracle(), Angles())
    values = measured(case, frames, tools)
    assert values["csim"] == pytest.approx(np.cos([0.1, 1.3]).mean())
    assert tools.names == {
        **{"reader": "an oracle", "embedder": "angles"},
        **{"perception": None, "sync": None, "inception": None, "aligner": None},
    }


def test_what_stands_still_is_measured_once(case, monkeypatch):
    """The same values as of each frame, from the frames that are new."""
    frames = case.truth[[0] * 11 + [15] * 9]
    reader, angles, seen = Oracle(), Angles(), []
    monkeypatch.setattr(sharpness, "cpbd", lambda grey: seen.append(grey) or float(len(seen)))
    values = measured(case, frames, Tools(reader, angles))
    # The source image, which is the first picture, and the other.
    assert (angles.count, len(seen)) == (2, 2)
    assert values["cpbd"] == pytest.approx((3 * 1 + 1 * 2) / 4)
    assert values["csim"] == pytest.approx(np.cos([0, 1.5]).mean())
    landmarks_of_all = reader.read(frames).landmarks
    drift = pictures.identity_drift(case.portrait, reader.track[0], frames, landmarks_of_all)
    assert values["identity"] == pytest.approx(drift.mean())


def test_lips_are_compared_with_the_sound(case):
    tools = Tools(Oracle(), sync=Steps())
    values = measured(case, case.truth, tools)
    expected = (FRAMES, 68, len(case.sound.mfcc))
    assert (values["lse_d"], values["lse_c"], values["sync_offset"]) == expected
    mute = dataclasses.replace(case, sound=None)
    assert "lse_d" not in measured(mute, case.truth, tools)
    short = dataclasses.replace(case, truth=case.truth[:5])
    assert "lse_d" not in measured(short, short.truth, tools)


def test_an_identical_frame_does_not_make_the_mean_infinite(case):
    frames = case.truth.copy()
    frames[1:] ^= 1
    values = measured(case, frames, Tools())
    one_level = 20 * np.log10(255)
    expected = (pictures.EIGHT_BITS + (FRAMES - 1) * one_level) / FRAMES
    assert values["psnr"] == pytest.approx(expected)


def test_frames_of_another_shape_are_rejected(case):
    with pytest.raises(ValueError, match="shape"):
        measured(case, case.truth[1:], Tools())


def test_clip_emotion_has_the_best_mean_score():
    scores = np.log([[0.6, 0.4], [0.1, 0.9], [0.6, 0.4]])
    assert named_emotion(scores) == 1


def test_the_plain_face_has_its_mouth_where_it_is_looked_for():
    region = landmarks.mouth_region(template()[None], SIZE, SIZE)[0]
    assert region[int(0.71 * SIZE), SIZE // 2]
    assert not region[SIZE // 2, SIZE // 2]
