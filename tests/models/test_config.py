"""Model configurations: JSON, limits, and what does not go together."""

import json
import math

import pytest

from eamm_jax.errors import UserError
from eamm_jax.models.config import ModelConfig, published
from eamm_jax.models.presets import demo, tiny

PRESETS = {"published": published, "demo": demo, "tiny": tiny}


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_configurations_survive_json(preset):
    assert ModelConfig.from_dict(json.loads(json.dumps(preset().to_dict()))) == preset()
    assert preset().replace(preset().flat()) == preset()


def test_absent_fields_have_published_values_and_whole_numbers_become_floats():
    config = ModelConfig.from_dict({"inference": {"audio_weight": 2, "lid_keypoints": [0, 1]}})
    assert config.inference.audio_weight == 2.0
    assert type(config.inference.audio_weight) is float
    assert config == published().replace(
        {"inference.audio_weight": 2.0, "inference.lid_keypoints": (0, 1)}
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_size": 100}, "image_size is 100; it must be a power of two"),
        ({"image_size": 4096}, "image_size is 4096; it must be in the whole numbers from 32 to"),
        ({"image_size": 256.0}, "image_size is 256.0; it must be in the whole numbers"),
        ({"num_keypoints": True}, "num_keypoints is True"),
        ({"keypoint_detector.blocks": 7}, "6 at most: a 64x64 map can be halved no further"),
        ({"keypoint_detector.scale": 0.3}, "keypoint_detector.scale is 0.3"),
        ({"keypoint_detector.temperature": math.nan}, "temperature is nan"),
        ({"generator.kernel": 4}, "generator.kernel is 4; it must be odd"),
        ({"generator.pixel_block": 3}, "generator.pixel_block is 3"),
        ({"generator.motion_skip": 1}, "generator.motion_skip is 1; it must be true or false"),
        ({"generator.motion_skip": True}, "256x256, but generator.dense_motion.scale is 0.25"),
        ({"generator.dense_motion.width": -1}, r"dense_motion.width is -1; .* 1 to 8192"),
        ({"audio_to_motion.lstm_width": "wide"}, "audio_to_motion.lstm_width is 'wide'"),
        ({"audio_to_motion.deconv_widths": (1, 2, 3)}, "deconv_widths is .* it must be 2 whole"),
        ({"audio_to_motion.pose_widths": 7}, "pose_widths is 7; it must be 1 to 16 whole numbers"),
        ({"emotion.head": "linear_5"}, "emotion.head is 'linear_5'; it must be one of linear_4"),
        ({"emotion.keypoints": (1, 4, 6, 10)}, r"emotion.keypoints is .* in 0\.\.9"),
        ({"emotion.rigid": (0, 1)}, "emotion.rigid is .* with the head dense, or none"),
        ({"emotion.rigid": (0, 4), "emotion.head": "dense"}, r"two at least in 0\.\.3"),
        ({"emotion.depths": (0.0, 0.1, 0.2, 0.3)}, "4 numbers with four or more rigid keypoints"),
        ({"emotion.rigid": (0,), "emotion.head": "dense"}, r"two at least in 0\.\.3"),
        ({"inference.lid_keypoints": (1, 2, 3)}, "must be pairs"),
        ({"inference.pupil_keypoints": (1, 10)}, r"must be two in 0\.\.9, or none"),
        ({"inference.emotion_shares": (1.0,)}, "4 numbers, one for each of emotion.keypoints"),
        ({"emotion.colour": 1}, "unknown model configuration field: emotion.colour"),
        ({"colour.red": 1}, "unknown model configuration field: colour.red"),
    ],
)
def test_impossible_values_are_refused_by_name(changes, words):
    with pytest.raises(UserError, match=words):
        published().replace(changes)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "it must be a dictionary"),
        ({"emotion": 3}, "emotion is 3; it must be a dictionary"),
        ({"emotion": {"head": {}}}, "emotion.head is {}"),
        ({"image_size": 10**400}, "image_size is 1000"),
        ({"audio_to_motion": {"pose_widths": [[1]]}}, "pose_widths"),
        ({1: 2}, "unknown model configuration field: 1"),
    ],
)
def test_misshapen_files_are_refused_in_one_line(values, words):
    with pytest.raises(UserError, match=words) as caught:
        ModelConfig.from_dict(values)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_maps_that_would_fill_the_memory_are_refused():
    with pytest.raises(UserError, match=r"generator.width is 512.* largest feature map would hold"):
        published().replace({"image_size": 1024, "generator.width": 512})
    with pytest.raises(UserError, match=r"dense_motion.scale is 1.0; it must be smaller"):
        published().replace({"image_size": 1024, "generator.dense_motion.scale": 1})
