"""The bundled model's stages: the detector alone, the generator alone, part 1 with motion."""

import jax
import numpy as np
import pytest

from eamm_jax.errors import UserError
from eamm_jax.training.stages import make_stage
from eamm_jax.types import EMOTIONS, FaceTruth
from tests.tiny import tiny_variables
from tests.training.batches import (
    MICRO,
    make_clips,
    make_pairs,
    micro_stage,
    stage_config,
    start,
)

pytestmark = pytest.mark.slow

POINTS = tuple((point, point + 30) for point in range(10))
FIELDS = {"learning_rate": 2e-3, "schedule": "steps", "augment": False}


def pairs_with_truth():
    rng = np.random.default_rng(3)

    def truth():
        points = 0.3 * rng.normal(size=(2, 70, 2)).astype(np.float32)
        pose = np.array([[10, 5, -5, 5e-4, 60, 60], [0, 0, 0, 4e-4, 60, 60]], np.float32)
        return FaceTruth(points, pose)

    return make_pairs()._replace(source_truth=truth(), driving_truth=truth())


def run(stage, given, steps=20):
    batch, step = pairs_with_truth(), jax.jit(stage.train_step)
    states, metrics = [start(stage, MICRO)], []
    assert set(given) == set(states[0].frozen)
    for _ in range(steps):
        state, found = step(states[-1], batch, jax.random.key(1))
        states.append(state)
        metrics.append({name: float(value) for name, value in found.items()})
    return states, metrics


def test_the_detector_alone_learns_from_landmarks():
    stage = micro_stage("bundled_keypoints", keypoint_points=POINTS, **FIELDS)
    assert stage.required == ()
    states, metrics = run(stage, {})
    assert set(states[0].params) == {"kp_detector"}
    assert {"landmarks", "rotation"} <= set(metrics[0])
    assert "perceptual" not in metrics[0]
    assert metrics[-1]["landmarks"] < 0.8 * metrics[0]["landmarks"]
    panel = jax.eval_shape(stage.panel, states[0], pairs_with_truth())
    assert panel.shape == (2, 64, 6 * 64, 3)


def test_the_generator_alone_learns_from_given_keypoints():
    stage = micro_stage("bundled_generator", **FIELDS)
    assert stage.required == ("kp_detector",)
    detector = tiny_variables(config=MICRO)[1]["kp_detector"]
    states, metrics = run(stage, {"kp_detector": detector})
    assert set(states[0].params) == {"generator"}
    frozen = states[-1].frozen["kp_detector"]
    assert jax.tree.all(jax.tree.map(np.array_equal, frozen, detector))
    assert {"perceptual", "warped", "psnr", "psnr_mouth", "psnr_eyes"} <= set(metrics[0])
    assert "landmarks" not in metrics[0]
    assert metrics[-1]["perceptual"] < metrics[0]["perceptual"]


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("bundled_keypoints", {"augment": True}, "landmarks do not follow augmentation"),
        (
            "bundled_keypoints",
            {"keypoint_points": POINTS[:3]},
            "has 3 groups; the networks have 10 keypoints",
        ),
        ("bundled_keypoints", {"keypoint_points": ((70,),) * 10}, "must name points 0 to 69"),
        ("bundled_keypoints", {"milestones": (3,)}, "has no milestones"),
        ("bundled_keypoints", {"warmup_steps": 9, "num_steps": 9}, "give fewer"),
        ("bundled_stage1", {"motion_shares": (1.0, 2.0)}, "2 numbers; the networks have 10"),
        (
            "bundled_stage1",
            {"motion_shares": (), "place_emotions": ("joy",)},
            "place_emotions names 'joy'",
        ),
    ],
)
def test_inconsistent_fields_are_refused(name, fields, words):
    config = stage_config(name, "tiny", num_steps=100)
    with config.ignore_type():
        for field, value in fields.items():
            config[field] = value
    with pytest.raises(UserError, match=words) as caught:
        make_stage(config, MICRO)
    assert "\n" not in str(caught.value)


def test_clips_of_other_emotions_teach_motion_only():
    fields = {**FIELDS, "motion_shares": (1.0,) * 9 + (5.0,), "heatmap_weight": 1.0}
    everywhere = micro_stage("bundled_stage1", place_emotions=(), **fields)
    neutral = micro_stage("bundled_stage1", **fields)
    state = start(everywhere, MICRO)
    batch = make_clips()._replace(emotion=np.array([EMOTIONS.index("neutral"), 4], np.int32))
    first = jax.tree.map(lambda x: x[:1], batch)
    found = jax.jit(neutral.eval_step)(state, batch)
    of_first = jax.jit(everywhere.eval_step)(state, first)
    of_both = jax.jit(everywhere.eval_step)(state, batch)
    for place in ("value", "heatmap", "jacobian"):
        np.testing.assert_allclose(found[place], of_first[place], rtol=1e-5)
        assert abs(found[place] - of_both[place]) > 1e-3 * of_both[place]
    np.testing.assert_allclose(found["motion"], of_both["motion"], rtol=1e-5)
