"""The bundled model's objectives: geometry of rendered faces, and what each stage learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.synthetic import camera
from data.synthetic.heads.figure import stance
from eamm_jax.constants import EMOTIONS
from eamm_jax.errors import UserError
from eamm_jax.evaluation.landmarks import MOUTH
from eamm_jax.models.dense_motion import DenseMotion
from eamm_jax.models.lpips import VGG16
from eamm_jax.ops.grids import coordinate_grid, grid_sample
from eamm_jax.training.bundled_config import KEYPOINTS
from eamm_jax.training.objectives import guided
from eamm_jax.training.stage import make_stage
from eamm_jax.types import FaceTruth, Keypoints, Region
from tests.tiny import tiny_variables
from tests.training.batches import (
    MICRO,
    make_clips,
    make_pairs,
    micro_stage,
    stage_config,
    start,
)


def truth_of(points, poses=None):
    poses = np.zeros((len(points), 6)) if poses is None else poses
    return FaceTruth(np.asarray(points, np.float32), np.asarray(poses, np.float32))


def test_a_keypoint_is_at_the_mean_of_its_points(rng):
    points = rng.uniform(-1, 1, (3, 70, 2))
    found = guided.guided_values(truth_of(points), [(4,), (1, 2, 69)])
    expected = np.stack([points[:, 4], points[:, [1, 2, 69]].mean(axis=1)], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_rotation_is_that_of_the_rendering_camera(rng):
    poses = [camera.held(*rng.uniform(-30, 30, 3), zoom=rng.uniform(0.8, 1.2)) for _ in range(20)]
    found = guided.head_rotation(truth_of(np.zeros((20, 70, 2)), np.array(poses)))
    for pose, turn in zip(poses, found, strict=True):
        stood, down = stance(pose), np.diag([1, -1])  # its y points upwards
        expected = stood.zoom * down @ stood.turn[:2, :2] @ down
        expected *= camera.REST_SCALE / guided.USUAL_SCALE
        np.testing.assert_allclose(turn, expected, atol=1e-5)


def test_keypoints_that_are_where_they_should_be_are_at_no_distance(rng):
    truth = truth_of(rng.uniform(-1, 1, (2, 70, 2)), rng.uniform(5e-4, 1, (2, 6)))
    turn = np.repeat(np.asarray(guided.head_rotation(truth))[:, None], len(KEYPOINTS), axis=1)
    exact = Keypoints(guided.guided_values(truth, KEYPOINTS), turn)
    assert [float(d) for d in guided.truth_distances(exact, truth, KEYPOINTS)] == [0.0, 0.0]
    moved = exact._replace(value=exact.value + np.array([0.5, 0.0]))
    value, turned = guided.truth_distances(moved, truth, KEYPOINTS)
    assert value == pytest.approx(0.25)
    assert turned == 0
    first = exact._replace(value=exact.value + np.eye(len(KEYPOINTS))[0][:, None])
    shares = (3.0,) + (1.0,) * (len(KEYPOINTS) - 1)
    value, _ = guided.truth_distances(first, truth, KEYPOINTS, shares)
    assert value == pytest.approx(3 / (len(KEYPOINTS) + 2))


@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_the_truth_follows_random_crops(rng, apart):
    points = rng.uniform(-0.4, 0.4, (6, 70, 2)).astype(np.float32)
    truth = truth_of(points, np.full((6, 6), 4e-4))
    grid = (2 * np.arange(64) + 1) / 64 - 1
    x, y = np.meshgrid(grid, grid)
    distance = (x - points[:, 4, 0, None, None]) ** 2 + (y - points[:, 4, 1, None, None]) ** 2
    spots = np.exp(-distance / 0.01)[..., None].repeat(3, axis=-1).astype(np.float32)
    frames = spots, spots[::-1]
    truths = truth, truth_of(points[::-1], truth.pose)
    truths = [one._replace(regions=frame) for one, frame in zip(truths, frames, strict=True)]
    # All moves as that landmark does; where x > 0.8, nobody knows.
    shift = (points - points[::-1])[:, 4, None, None]
    flow = np.where(x[..., None] > 0.8, np.nan, np.stack([x, y], axis=-1) + shift)
    truths[1] = truths[1]._replace(flow=flow.astype(np.float32))
    inputs = guided.GuidedInputs(*frames, *truths)
    cropped = guided.crop_at_random(jax.random.key(0), inputs, 0.6, apart)
    for image, moved, before in zip(cropped[:2], cropped[2:], inputs[2:], strict=True):
        np.testing.assert_array_equal(moved.regions, image)
        assert np.abs(moved.points).max() < 1 + 1e-5
        mass = np.asarray(image[..., 0])
        total = mass.sum(axis=(1, 2))
        found = [(mass * axis).sum(axis=(1, 2)) / total for axis in (x, y)]
        # A spot cut by the border is not centred on its landmark.
        whole = (np.abs(moved.points[:, 4]) < 0.75).all(axis=1)
        assert whole.sum() > 2
        np.testing.assert_allclose(
            np.stack(found, axis=1)[whole], moved.points[whole, 4], atol=2e-3
        )
        enlarged = np.asarray(moved.pose)[:, 3] / before.pose[:, 3]
        assert ((enlarged >= 1) & (enlarged <= 1 / 0.6)).all()
        spread = [np.ptp(np.asarray(t.points), axis=1) for t in (moved, before)]
        np.testing.assert_allclose(spread[0], spread[1] * enlarged[:, None], rtol=1e-4)
    flow, at = cropped.driving_truth.flow, cropped.driving_truth.points[:, None, None, 4]
    assert 0.4 < np.isfinite(flow).mean() < 1
    found = grid_sample(jnp.asarray(flow), at)[:, 0, 0]
    known = np.isfinite(found).all(axis=1) & (np.abs(at) < 0.98).all(axis=(1, 2, 3))
    assert known.sum() > 2
    source = np.asarray(cropped.source_truth.points)
    np.testing.assert_allclose(found[known], source[known, 4], atol=2e-3)
    sides = [np.asarray(truth.pose)[:, 3] / 4e-4 for truth in cropped[2:]]
    assert np.ptp(sides[0]) > 0.1
    assert np.allclose(*sides) == (not apart)


def test_crops_keep_faces_whole(rng):
    """Of faces in different places of the frames, however small the squares may be."""
    points = 0.2 * rng.uniform(-1, 1, (2, 16, 70, 2)) + rng.uniform(-0.7, 0.7, (2, 16, 1, 2))
    frames = np.zeros((16, 8, 8, 3), np.float32)
    inputs = guided.GuidedInputs(frames, frames, *map(truth_of, points))
    for apart in (0.0, 1.0):
        cropped = guided.crop_at_random(jax.random.key(1), inputs, 0.1, apart)
        found = np.stack([truth.points for truth in cropped[2:]])
        assert np.abs(found).max() < 1 + 1e-5
        spread = np.ptp(found, axis=2) / np.ptp(points, axis=2)
        assert spread.min() > 1 - 1e-4
        assert spread.mean() > (2 if apart else 1.2)


def test_regions_cover_the_mouth_and_the_eyes_and_little_else():
    points = np.zeros((1, 70, 2))
    points[0, MOUTH] = np.linspace((-0.2, 0.5), (0.2, 0.6), 20)
    points[0, 36:42] = np.linspace((-0.4, -0.2), (-0.2, -0.15), 6)
    points[0, 42:48] = np.linspace((0.2, -0.2), (0.4, -0.15), 6)
    truth = truth_of(points)
    mouth, eyes = (guided.face_region(truth, parts, 64) for parts in (guided.MOUTH, guided.EYES))
    assert mouth.shape == eyes.shape == (1, 64, 64, 1)

    def at(region, x, y):
        return float(region[0, round((y + 1) * 31.5), round((x + 1) * 31.5), 0])

    assert at(mouth, 0, 0.55) == pytest.approx(1, abs=0.02)
    assert at(eyes, -0.3, -0.175) == pytest.approx(1, abs=0.02)
    assert at(eyes, 0.3, -0.175) == pytest.approx(1, abs=0.02)
    for region, x, y in ((mouth, 0.3, -0.175), (mouth, 0, 0), (eyes, 0, 0.55), (eyes, 0, 0.1)):
        assert at(region, x, y) < 0.01
    assert 0.01 < np.mean(mouth > 0.5) < 0.1
    assert 0.01 < np.mean(eyes > 0.5) < 0.1


def motion_of(still, seen, deformation=None):
    """A dense motion with shares of the backdrop's motion and of what is seen."""
    mask = np.stack([still, 1 - np.asarray(still)], axis=-1)
    return DenseMotion(deformation, jnp.array(mask), jnp.array(seen)[..., None], None, None)


def test_heads_move_backdrops_do_not_and_are_hidden_behind_heads():
    """A head that goes from the left half to the upper half of a frame of 2 x 2 pixels."""
    backdrop, head, body, unknown = np.eye(4, dtype=np.float32)[:, :3]
    source = jnp.array([[[head, backdrop], [head, backdrop]]])
    driving = jnp.array([[[head, head], [backdrop, backdrop]]])
    right = motion_of([[[0.0, 0.0], [1.0, 1.0]]], [[[0.5, 0.5], [0.0, 1.0]]])
    assert abs(guided.region_distance(right, source, driving)) < 1e-5
    wrong = {
        "moves": motion_of([[[0.0, 0.0], [0.5, 1.0]]], [[[0.5, 0.5], [0.0, 1.0]]]),
        "stays": motion_of([[[0.0, 0.5], [1.0, 1.0]]], [[[0.5, 0.5], [0.0, 1.0]]]),
        "shown": motion_of([[[0.0, 0.0], [1.0, 1.0]]], [[[0.5, 0.5], [0.5, 1.0]]]),
        "hidden": motion_of([[[0.0, 0.0], [1.0, 1.0]]], [[[0.5, 0.5], [0.0, 0.5]]]),
    }
    for motion in wrong.values():
        distance = float(guided.region_distance(motion, source, driving))
        assert distance == pytest.approx(np.log(2) / 4, rel=1e-3)
    nowhere = jnp.broadcast_to(unknown, driving.shape)
    for motion in (right, *wrong.values()):
        assert guided.region_distance(motion, source, nowhere) == 0
    clothed = jnp.array([[[body, body], [body, backdrop]]])
    bared = jnp.array([[[body, backdrop], [body, head]]])
    dressed = motion_of([[[0.5, 1.0], [0.5, 0.0]]], [[[1.0, 0.0], [1.0, 0.5]]])
    assert abs(guided.region_distance(dressed, clothed, bared)) < 1e-5
    half = dressed._replace(occlusion=jnp.full_like(dressed.occlusion, 0.5))
    distance = guided.region_distance(half, clothed, bared)
    assert distance == pytest.approx(3 * np.log(2) / 4, rel=1e-3)
    certain = motion_of([[[1.0, 1.0], [0.0, 0.0]]], [[[0.0, 0.0], [1.0, 0.0]]])
    gradient = jax.grad(lambda m: guided.region_distance(m, source, driving), allow_int=True)
    found = gradient(certain)
    assert np.isfinite(found.mask).all()
    assert np.abs(found.mask).max() > 0.1


def test_regions_are_shares_and_unknown_ones_are_neither():
    regions = np.array([[[Region.BACKDROP, Region.HEAD], [Region.BODY, Region.UNKNOWN]]])
    shares = guided.region_shares(truth_of(np.zeros((1, 70, 2)))._replace(regions=regions))
    np.testing.assert_array_equal(shares, [[[[1, 0, 0], [0, 1, 0]], [[0, 0, 1], [0, 0, 0]]]])
    assert guided.region_shares(truth_of(np.zeros((1, 70, 2)))) is None


def test_motion_at_points_of_the_face_is_known(rng):
    """(x, y) -> (x + 0.1, y - 0.2). The contour and points outside the frame do not count."""
    points = rng.uniform(-0.7, 0.7, (2, 70, 2)).astype(np.float32)
    moved = points + np.array([0.1, -0.2], np.float32)
    moved[:, :6] += 5
    points[1, 60], moved[1, 60] = (1.5, 0), (0, 0)
    grid = np.asarray(coordinate_grid(32, 32, half_pixel=True)) + np.array([0.1, -0.2], np.float32)
    motion = motion_of([[[0.0]]], [[[0.0]]], jnp.array([grid, grid]))
    source, driving = truth_of(moved), truth_of(points)
    assert guided.flow_distance(motion, source, driving) < 1e-6
    lips = moved.copy()
    lips[:, 62] += 0.3
    counted = 2 * len(guided.FIXED) - 1
    distance = guided.flow_distance(motion, truth_of(lips), driving)
    assert distance == pytest.approx(2 * 0.3 / counted, rel=1e-3)


def test_motion_of_all_that_is_seen_is_known_but_for_gaps(rng):
    flow = rng.uniform(-1, 1, (2, 8, 8, 2)).astype(np.float32)
    motion = motion_of([[[0.0]]], [[[0.0]]], jnp.asarray(flow))
    gaps = flow.copy()
    gaps[0, :4] = np.nan
    assert guided.dense_flow_distance(motion, jnp.asarray(gaps)) == 0
    distance = guided.dense_flow_distance(motion, jnp.asarray(gaps + np.float32([0.3, -0.1])))
    assert distance == pytest.approx(0.2, rel=1e-5)
    assert guided.dense_flow_distance(motion, jnp.full_like(flow, np.nan)) == 0
    gradient = jax.grad(
        lambda d: guided.dense_flow_distance(motion_of([[[0.0]]], [[[0.0]]], d), jnp.asarray(gaps))
    )
    found = np.asarray(gradient(jnp.asarray(flow + 0.1)))
    assert (found[np.isnan(gaps)] == 0).all()
    assert (found[~np.isnan(gaps)] > 0).all()


def test_bundled_keypoints_name_existing_points():
    named = [point for group in KEYPOINTS for point in group]
    assert len(KEYPOINTS) == 26
    assert len(set(named)) == len(named)
    assert set(named) <= set(range(guided.NUM_POINTS))


def test_distances_have_finite_gradients(rng):
    truth = truth_of(rng.uniform(-1, 1, (1, 70, 2)), rng.uniform(5e-4, 1, (1, 6)))
    value = rng.normal(size=(1, 26, 2)).astype(np.float32)
    turn = rng.normal(size=(1, 26, 2, 2)).astype(np.float32)
    gradient = jax.grad(lambda k: sum(guided.truth_distances(k, truth, KEYPOINTS)))(
        Keypoints(value, turn)
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_motion_is_apart_from_position(rng):
    found, wanted = (rng.normal(size=(2, 5, 10, 2)).astype(np.float32) for _ in range(2))
    weight = np.arange(10, dtype=np.float32)
    distance = jax.jit(guided.motion_distance)(found, wanted, weight)
    moved, target = (x - x.mean(axis=1)[:, None] for x in (found, wanted))
    expected = np.average(np.abs(moved - target).mean(axis=(0, 1, 3)), weights=weight)
    np.testing.assert_allclose(distance, expected, rtol=1e-5)
    elsewhere = found + rng.normal(size=(2, 1, 10, 2)).astype(np.float32)
    distance = guided.motion_distance(elsewhere, wanted, jnp.asarray(weight))
    np.testing.assert_allclose(distance, expected, rtol=1e-4)


@pytest.mark.parametrize("rigid", [(), (0, 1, 2, 3)])
def test_emotion_is_what_the_neutral_face_lacks(rng, rigid):
    config = stage_config("bundled_stage2", "tiny", num_steps=100)
    changes = {
        "emotion.head": "dense",
        "emotion.keypoints": tuple(range(10)),
        "inference.emotion_shares": (1.0,) * 10,
        "emotion.rigid": rigid,
    }
    objective = guided.GuidedEmotion(config, MICRO.replace(changes))
    calm = rng.uniform(-0.8, 0.8, size=(2, 10, 2)).astype(np.float32)
    upright = np.tile(np.eye(2, dtype=np.float32), (2, 3, 10, 1, 1))
    felt = np.zeros((2, 3, 10, 2), np.float32)
    felt[:, :, 6:] = 0.05 * rng.normal(size=(2, 1, 4, 2))
    said = np.zeros_like(felt)  # no emotion, for it comes and goes within a clip
    said[:, :, 9, 1] = np.array([-0.02, -0.01, 0.03])
    scale, place = (1.2, (0.1, -0.3)) if rigid else (1.0, (0, 0))
    seen = scale * (calm[:, None] + felt + said) + place
    clips = make_clips()._replace(keypoints=Keypoints(seen.astype(np.float32), upright))
    inputs = guided.ClipInputs(**clips._asdict())

    def forward(name, images):
        assert name == "kp_detector"
        return Keypoints(jnp.asarray(calm), jnp.asarray(upright[:, 0]))

    shown = Keypoints((scale * felt).astype(np.float32), 0 * upright)
    audio = Keypoints(jnp.asarray(rng.normal(size=seen.shape)), jnp.asarray(upright))
    found = objective.distances(forward, inputs, shown, audio)
    np.testing.assert_allclose([found["value"], found["jacobian"]], 0, atol=1e-6)
    other = objective.distances(forward, inputs, shown._replace(value=0 * shown.value), audio)
    assert other["value"] > 0.01


POINTS = tuple((point, point + 30) for point in range(10))
FIELDS = {"learning_rate": 2e-3, "schedule": "steps", "augment": False}


def pairs_with_truth():
    rng = np.random.default_rng(3)

    def truth():
        points = 0.3 * rng.normal(size=(2, 70, 2)).astype(np.float32)
        pose = np.array([[10, 5, -5, 5e-4, 60, 60], [0, 0, 0, 4e-4, 60, 60]], np.float32)
        return FaceTruth(points, pose, rng.integers(3, size=(2, 64, 64)).astype(np.float32))

    flow = rng.uniform(-1, 1, (2, 64, 64, 2)).astype(np.float32)
    return make_pairs()._replace(source_truth=truth(), driving_truth=truth()._replace(flow=flow))


def run(stage, given, steps=12):
    batch, step = pairs_with_truth(), jax.jit(stage.train_step)
    states, metrics = [start(stage)], []
    assert set(given) == set(states[0].frozen)
    for _ in range(steps):
        state, found = step(states[-1], batch, jax.random.key(1))
        states.append(state)
        metrics.append({name: float(value) for name, value in found.items()})
    return states, metrics


@pytest.mark.slow
def test_the_detector_alone_learns_from_landmarks():
    stage = micro_stage("bundled_keypoints", keypoint_points=POINTS, **FIELDS)
    assert stage.required == ()
    states, metrics = run(stage, {})
    assert set(states[0].params) == {"kp_detector"}
    assert {"landmarks", "rotation"} <= set(metrics[0])
    assert "perceptual" not in metrics[0]
    assert metrics[-1]["landmarks"] < 0.8 * metrics[0]["landmarks"]
    panel = jax.eval_shape(stage.panel, states[0], pairs_with_truth())
    assert panel.shape == (2, 64, 3 * 64, 3)


@pytest.mark.slow
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
    assert metrics[-1]["regions"] < metrics[0]["regions"]
    assert metrics[-1]["flow"] < metrics[0]["flow"]
    assert metrics[-1]["dense_flow"] < metrics[0]["dense_flow"]
    pairs = pairs_with_truth()
    for missing in ("regions", "flow"):
        unknown = pairs._replace(
            source_truth=pairs.source_truth._replace(**{missing: None}),
            driving_truth=pairs.driving_truth._replace(**{missing: None}),
        )
        with pytest.raises(UserError, match=f"{missing}.*_weight needs data that say"):
            jax.eval_shape(stage.train_step, states[0], unknown, jax.random.key(1))
    assert metrics[-1]["perceptual"] < metrics[0]["perceptual"]


def test_the_patch_of_the_face_follows_it_and_stays_inside():
    image = np.arange(32 * 32, dtype=np.float32).reshape(1, 32, 32, 1)
    middle = guided.face_patch(image, truth_of(np.zeros((1, 70, 2))))
    np.testing.assert_array_equal(middle, image[:, 8:24, 8:24])
    shift = np.broadcast_to(np.array([-4 / 16, 2 / 16]), (1, 70, 2))
    np.testing.assert_array_equal(guided.face_patch(image, truth_of(shift)), image[:, 10:26, 4:20])
    np.testing.assert_array_equal(
        guided.face_patch(image, truth_of(np.ones((1, 70, 2)))), image[:, 16:, 16:]
    )


@pytest.mark.slow
def test_the_generator_learns_from_perceptual_distances_too():
    shapes = jax.eval_shape(VGG16(blurred=True).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    rng = np.random.default_rng(0)
    vgg16 = jax.tree.map(
        lambda x: rng.random(x.shape, np.float32) / np.prod(x.shape[:-1], dtype=np.float32), shapes
    )
    given = {"kp_detector": tiny_variables(config=MICRO)[1]["kp_detector"], "vgg16": vgg16}
    distances = []
    for scale in (1.0, 0.5):
        stage = micro_stage("bundled_generator", lpips_weight=2.0, lpips_scale=scale, **FIELDS)
        assert stage.required == ("kp_detector", "vgg16")
        state = jax.jit(stage.init)(jax.random.key(0), given)
        _, metrics = jax.jit(stage.train_step)(state, pairs_with_truth(), jax.random.key(1))
        assert metrics["finite"]
        distances.append(float(metrics["lpips"]))
    assert min(distances) > 0
    assert distances[0] != distances[1]


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        (
            "bundled_keypoints",
            {"keypoint_points": POINTS[:3]},
            "has 3 groups; the networks have 10 keypoints",
        ),
        ("bundled_keypoints", {"keypoint_points": ((70,),) * 10}, "must name points 0 to 69"),
        ("bundled_keypoints", {"milestones": (3,)}, "has no milestones"),
        ("bundled_keypoints", {"warmup_steps": 9, "num_steps": 9}, "give fewer"),
        ("bundled_stage1", {"motion_shares": (1.0, 2.0)}, "2 numbers; the networks have 10"),
        ("bundled_keypoints", {"landmark_shares": (1.0,) * 3}, "landmark_shares has 3 numbers"),
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


@pytest.mark.slow
def test_clips_of_other_emotions_teach_motion_only():
    fields = {**FIELDS, "motion_shares": (1.0,) * 9 + (5.0,)}
    everywhere = micro_stage("bundled_stage1", place_emotions=(), **fields)
    neutral = micro_stage("bundled_stage1", **fields)
    state, clips = start(everywhere), make_clips()
    label = EMOTIONS.index("neutral")
    batch = clips._replace(emotion=np.array([label, 4], np.int32))
    first = jax.tree.map(lambda x: np.repeat(x[:1], 2, axis=0), batch)
    evaluate = jax.jit(neutral.eval_step)
    found, of_first = evaluate(state, batch), evaluate(state, first)
    of_both = jax.jit(everywhere.eval_step)(state, batch)
    for place in ("value", "jacobian"):
        np.testing.assert_allclose(found[place], of_first[place], rtol=1e-5)
        assert abs(found[place] - of_both[place]) > 1e-3 * of_both[place]
    np.testing.assert_allclose(found["motion"], of_both["motion"], rtol=1e-5)
