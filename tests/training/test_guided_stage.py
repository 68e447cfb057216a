"""Stage 0 with known landmarks: the detector alone, then the generator alone."""

import jax
import numpy as np
import pytest

from eamm_jax.errors import UserError
from eamm_jax.training.stages import make_stage
from eamm_jax.types import FaceTruth
from tests.tiny import tiny_variables
from tests.training.batches import MICRO, make_clips, make_pairs, micro_stage, stage_config

pytestmark = pytest.mark.slow

POINTS = tuple((point, point + 30) for point in range(10))
GUIDED = {
    "augment": False,
    "landmark_weight": 10.0,
    "turn_weight": 1.0,
    "keypoint_points": POINTS,
    "learning_rate": 2e-3,
}


def pairs_with_truth():
    rng = np.random.default_rng(3)

    def truth():
        points = 0.3 * rng.normal(size=(2, 70, 2)).astype(np.float32)
        pose = np.array([[10, 5, -5, 5e-4, 60, 60], [0, 0, 0, 4e-4, 60, 60]], np.float32)
        return FaceTruth(points, pose)

    return make_pairs()._replace(source_truth=truth(), driving_truth=truth())


def run(stage, given, steps=20):
    batch, step = pairs_with_truth(), jax.jit(stage.train_step)
    states, metrics = [jax.jit(stage.init)(jax.random.key(0), given)], []
    for _ in range(steps):
        state, figures = step(states[-1], batch, jax.random.key(1))
        states.append(state)
        metrics.append({name: float(value) for name, value in figures.items()})
    return states, metrics


def test_the_detector_alone_learns_where_keypoints_are():
    stage = micro_stage("stage0", trained=("kp_detector",), **GUIDED)
    assert stage.required == ()
    states, metrics = run(stage, {})
    assert set(states[0].params) == {"kp_detector"}
    assert set(metrics[0]) >= {"landmarks", "turn", "loss"}
    assert "perceptual" not in metrics[0]
    assert metrics[-1]["landmarks"] < 0.8 * metrics[0]["landmarks"]
    panel = jax.eval_shape(stage.panel, states[0], pairs_with_truth())
    assert panel.shape == (2, 64, 6 * 64, 3)


def test_the_generator_alone_learns_to_draw_from_given_keypoints():
    fields = {**GUIDED, "warped_weight": 1.0, "mouth_weight": 4.0, "eyes_weight": 8.0}
    stage = micro_stage("stage0", trained=("generator",), **fields)
    assert stage.required == ("kp_detector",)
    detector = tiny_variables(config=MICRO)[1]["kp_detector"]
    states, metrics = run(stage, {"kp_detector": detector})
    assert set(states[0].params) == {"generator"}
    frozen = states[-1].frozen["kp_detector"]
    assert jax.tree.all(jax.tree.map(np.array_equal, frozen, detector))
    assert set(metrics[0]) >= {"perceptual", "warped", "psnr", "psnr_mouth", "psnr_eyes"}
    assert "landmarks" not in metrics[0]
    assert metrics[-1]["perceptual"] < metrics[0]["perceptual"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"trained": ("generator", "vgg19")}, "allowed are"),
        ({"trained": ("kp_detector",)}, "only landmarks can teach"),
        ({**GUIDED, "augment": True}, "landmarks do not follow augmentation"),
        ({**GUIDED, "keypoint_points": POINTS[:3]}, "guides 3 keypoints; the networks have 10"),
        ({**GUIDED, "keypoint_points": ((70,),) * 10}, "must name points 0 to 69"),
        ({"schedule": "cosine"}, "has no milestones"),
        ({"schedule": "cosine", "milestones": (), "warmup_steps": 9, "num_steps": 9}, "give fewer"),
    ],
)
def test_what_does_not_go_together_is_refused_in_words(fields, words):
    config = stage_config("stage0", "tiny")
    with config.ignore_type():
        for name, value in fields.items():
            config[name] = value
    with pytest.raises(UserError, match=words) as caught:
        make_stage(config, MICRO)
    assert "\n" not in str(caught.value)


def test_motion_is_a_term_of_stage_1_where_it_is_asked_for():
    stage = micro_stage("stage1", motion_weight=3.0, motion_shares=(1.0,) * 9 + (5.0,))
    given = {name: tiny_variables(config=MICRO)[1][name] for name in stage.required}
    state = jax.eval_shape(stage.init, jax.random.key(0), given)
    metrics = jax.eval_shape(stage.eval_step, state, make_clips())
    assert "motion" in metrics
    with pytest.raises(UserError, match="motion_shares are 2; the networks have 10 keypoints"):
        micro_stage("stage1", motion_weight=3.0, motion_shares=(1.0, 2.0))
