"""Rendered people: truth that belongs to the pictures, repeatability, expressions."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.synthetic import head_model
from data.synthetic.__main__ import main
from data.synthetic.actor import actor_of
from data.synthetic.camera import held
from data.synthetic.controls import Control, expression
from data.synthetic.emotion import EMOTION_LOOKS, LEVEL_STRENGTH
from data.synthetic.heads import hair, kernels, looks
from data.synthetic.heads.person import Person
from data.synthetic.renderer import Renderer
from eamm_jax.constants import EMOTIONS
from eamm_jax.faces import generic_face
from eamm_jax.faces.pose_geometry import face_region, fit_pose
from eamm_jax.types import Region

SIZE = 96
POSES = [held(0, 3, 0), held(14, -4, 5, 1.05, 0.03, -0.02), held(-18, 8, -4)]
SPEECH = expression(jaw_open=0.9)


@pytest.fixture(scope="module")
def packed(shared) -> Path:
    return shared / "faces3d" / "ict_face_model.npz"


@pytest.fixture(scope="module")
def person(packed) -> Person:
    return actor_of(Renderer(str(packed)), 5, 1)


def pixels(points: np.ndarray) -> np.ndarray:
    return (points + 1) * SIZE / 2


def middle(mask: np.ndarray) -> np.ndarray:
    y, x = np.nonzero(mask)
    return np.array([x.mean() + 0.5, y.mean() + 0.5])


@pytest.mark.parametrize("size", [32, 96])
def test_pictures_of_any_size_say_what_they_show(person, size):
    far = held(0, 3, 0, 0.6)
    picture, regions = person.shown(SPEECH, far, size, 0)
    assert picture.shape == (size, size, 3)
    x, y = ((person.landmarks(SPEECH, far)[33] + 1) * 32).astype(int)  # below the nose
    assert regions[y, x] == Region.HEAD
    assert regions[0, 0] == regions[0, -1] == Region.BACKDROP
    assert regions[-1, 32] == Region.BODY


@pytest.mark.slow
@pytest.mark.parametrize("pose", POSES)
def test_landmarks_lie_on_what_is_rendered(person, pose):
    seen = person.render(SPEECH, pose, SIZE)
    marks = pixels(person.landmarks(SPEECH, pose))
    # The inside of the mouth is between the inner lip landmarks, to half a pixel of sampling.
    inside = np.isin(seen.labels, [kernels.MOUTH, kernels.TOOTH])
    y, x = np.nonzero(inside)
    assert len(x) > 12
    inner = marks[60:68]
    assert x.min() + 0.5 > inner[:, 0].min() - 1.5
    assert x.max() + 0.5 < inner[:, 0].max() + 1.5
    assert y.min() + 0.5 > inner[:, 1].min() - 1.5
    assert y.max() + 0.5 < inner[:, 1].max() + 1.5
    np.testing.assert_allclose(middle(inside), inner.mean(0), atol=1.5)
    lips = seen.labels == kernels.LIPS
    outer = marks[48:60]
    assert abs(np.ptp(np.nonzero(lips)[1]) - np.ptp(outer[:, 0])) < 4
    eyes = seen.labels == kernels.EYEBALL
    for corners in (marks[36:42], marks[42:48]):
        near = np.zeros_like(eyes)
        low, high = (
            np.floor(corners.min(0)).astype(int) - 1,
            np.ceil(corners.max(0)).astype(int) + 1,
        )
        near[low[1] : high[1], low[0] : high[0]] = True
        np.testing.assert_allclose(middle(eyes & near), corners.mean(0), atol=1.5)
    # Most of the contour is at the edge of the face or on the skin.
    for x, y in marks[:17]:
        patch = seen.labels[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2]
        assert np.isin(patch, [kernels.SKIN, kernels.HAIR, kernels.BEARD, kernels.GLASSES]).any()


@pytest.mark.slow
@pytest.mark.parametrize("pose", POSES)
def test_positions_on_the_mean_head_project_where_they_are_seen(person, pose):
    """Dense correspondence: the tip of the nose is seen at its landmark."""
    seen = person.render(expression(), pose, SIZE)
    mesh = person.mesh
    tip = mesh.model.neutral[mesh.model.landmarks[30]]
    away = np.linalg.norm(seen.mean_shape - tip, axis=-1)
    row, column = np.unravel_index(np.nanargmin(away), away.shape)
    mark = pixels(person.landmarks(expression(), pose))[30]
    assert np.hypot(column + 0.5 - mark[0], row + 0.5 - mark[1]) < 2.5
    # The nose is nearer to the camera than the ears.
    assert seen.depth[row, column] > np.nanmedian(seen.depth) + 1
    covered = np.isfinite(seen.depth)
    assert (covered == np.isfinite(seen.mean_shape[..., 0])).mean() > 0.99


@pytest.mark.slow
def test_the_published_pose_is_the_one_that_landmarks_tell(packed):
    """The pose that a generic face needs to match the landmarks is the pose that was asked for."""
    off = []
    for number in range(6):
        person = actor_of(Renderer(str(packed)), 5, number)
        for pose in POSES:
            marks = (person.landmarks(expression(), pose) + 1) * 128
            region = face_region(marks)
            seen = region.from_picture(marks[generic_face.LANDMARKS])
            found = fit_pose(generic_face.POINTS, seen, generic_face.WEIGHTS)
            off.append(np.asarray(found[:3]) - pose[:3])
    # Faces differ from the generic one; its own authors' portraits are matched to 3 degrees.
    assert np.abs(np.mean(off, 0)).max() < 3, np.mean(off, 0)
    assert np.abs(off).mean() < 4, np.abs(off).mean(0)


@pytest.mark.slow
def test_the_head_turns_the_published_way(person):
    nose = 30

    def moved(**pose):
        marks = person.landmarks(expression(), held(**{"yaw": 0, "pitch": 0, "roll": 0, **pose}))
        return marks[nose] - marks[[0, 16]].mean(0)

    straight = moved()
    assert moved(yaw=10)[0] < straight[0] - 0.03
    assert moved(pitch=10)[1] > straight[1] + 0.03


@pytest.mark.slow
def test_gaze_moves_the_pupils_and_blinks_close_the_eyes(person):
    pose = POSES[0]
    rest = person.pupils(expression(), pose)
    aside = person.pupils(expression(gaze_x=1, gaze_y=0), pose)
    below = person.pupils(expression(gaze_y=1), pose)
    assert (aside[:, 0] > rest[:, 0] + 0.02).all()
    assert (below[:, 1] > rest[:, 1] + 0.02).all()
    assert rest[0, 0] < rest[1, 0]
    open_, shut = (
        (person.render(expression(blink=blink), pose, SIZE).labels == kernels.EYEBALL).sum()
        for blink in (0, 1)
    )
    assert open_ > 10
    assert shut <= 1


@pytest.mark.slow
def test_closed_lips_meet_whatever_the_jaw_and_the_emotion_do(person):
    assert person.opening(SPEECH) > 0.05
    for mood in EMOTION_LOOKS.values():
        row = mood.face + expression(jaw_open=0.6, lips_closed=1)
        assert person.opening(row) < 0.004
        seen = person.render(row, POSES[0], SIZE)
        assert np.isin(seen.labels, [kernels.MOUTH, kernels.TOOTH]).sum() <= 6


@pytest.mark.slow
def test_controls_move_the_landmarks_they_are_named_after(person):
    rest = person.landmarks(expression(), POSES[0])
    for channel, index, axis, sign in (
        ("brow_inner", 21, 1, -1),
        ("brow_outer_left", 18, 1, -1),
        ("brow_outer_right", 25, 1, -1),
        ("lid_upper", 37, 1, -1),
        ("lid_lower", 41, 1, -1),
        ("blink", 37, 1, 1),
        ("corner_left", 48, 1, -1),
        ("corner_right", 54, 1, -1),
        ("mouth_width", 54, 0, 1),
        ("mouth_round", 54, 0, -1),
        ("lip_upper_raise", 51, 1, -1),
        ("lip_lower_drop", 57, 1, 1),
        ("chin_raise", 57, 1, -1),
        ("jaw_open", 8, 1, 1),
        ("nose_wrinkle", 33, 1, -1),
    ):
        moved = person.landmarks(expression(**{channel: 1.0}), POSES[0])
        assert sign * (moved - rest)[index, axis] > 0.005, channel


@pytest.mark.slow
def test_frowns_can_be_twice_as_strong(person):
    rest = person.landmarks(expression(), POSES[0])
    for channel, index in (("brow_inner", 21), ("corner_left", 48)):
        usual, strong = (
            (person.landmarks(expression(**{channel: value}), POSES[0]) - rest)[index, 1]
            for value in (-0.9, -1.8)
        )
        assert strong > 1.7 * usual > 0, channel


@pytest.mark.slow
def test_emotions_are_those_of_the_system_and_differ_in_every_pair(person):
    assert tuple(EMOTION_LOOKS) == EMOTIONS
    for strength, apart in ((LEVEL_STRENGTH[1], 0.004), (LEVEL_STRENGTH[3], 0.009)):
        faces = [strength * look.face for look in EMOTION_LOOKS.values()]
        marks = [person.landmarks(face, POSES[0]) for face in faces]
        for (a, one), (b, other) in combinations(zip(EMOTIONS, marks, strict=True), 2):
            assert np.linalg.norm(one - other, axis=1).mean() > apart, (a, b)


@pytest.mark.slow
def test_faces_fill_the_frame_as_the_published_crops_do(shared, packed):
    template = np.load(shared / "media" / "alignment_landmarks.npy")
    people = [actor_of(Renderer(str(packed)), 5, number) for number in range(6)]
    mean = np.mean([(p.landmarks(expression(), POSES[0]) + 1) * 128 for p in people], 0)
    # Pixels of 256; the template is of a head turned a little.
    assert np.linalg.norm(mean - template, axis=1).mean() < 14
    np.testing.assert_allclose(np.ptp(mean, axis=0) / np.ptp(template, axis=0), 1, atol=0.1)


def test_people_are_of_all_kinds():
    people = [looks.sample(np.random.default_rng(n), n % 2 == 0) for n in range(300)]
    assert {p.style for p in people} == set(looks.FEMININE_STYLES) | set(looks.MASCULINE_STYLES)
    tones = np.histogram([p.tone for p in people], bins=6, range=(0, 6))[0]
    assert tones.min() > 25
    assert 20 < sum(p.glasses > 0 for p in people) < 110
    assert {p.beard_kind for p in people if p.beard} == {"full", "goatee", "moustache"}


def test_flows_lead_to_the_same_spot_of_the_head(person):
    """Another way: what the renderer says of positions on the mean head."""
    moments = [(expression(), POSES[0]), (SPEECH, POSES[1])]
    flows = person.flows(moments, 128).astype(np.float32)
    assert flows.shape == (2, 2, 64, 64, 2)
    middles = (2 * np.arange(64) + 1) / 64 - 1
    grid = np.stack(np.meshgrid(middles, middles), axis=-1)
    seen = [person.render(row, pose, 128) for row, pose in moments]
    for here, there in ((0, 1), (1, 0)):
        still, flow = flows[here, here], flows[here, there]
        known = np.isfinite(still[..., 0])
        np.testing.assert_allclose(still[known], grid[known], atol=1e-3)
        assert not known[:, 0].any()
        assert known[60, 28:40].all()  # clothes
        assert (np.isfinite(flow[..., 0]) == known).all()
        at = np.clip(((np.nan_to_num(flow) + 1) * 64).astype(int), 0, 127)
        labels = seen[here].labels[1::2, 1::2], seen[there].labels[at[..., 1], at[..., 0]]
        skin = known & (labels[0] == kernels.SKIN) & (labels[1] == kernels.SKIN)
        assert skin.sum() > 400
        a = seen[here].mean_shape[1::2, 1::2][skin]
        b = seen[there].mean_shape[at[..., 1], at[..., 0]][skin]
        away = np.linalg.norm(a - b, axis=-1)
        assert np.nanmedian(away) < 0.3  # centimetres; a pixel is 0.22
        assert np.nanmean(away > 1) < 0.06  # behind nose or chin
        moved = np.linalg.norm(flow - grid, axis=-1)
        hair_seen = known & (labels[0] == kernels.HAIR)
        assert hair_seen.sum() > 100
        assert np.abs(moved[hair_seen] - np.median(moved[skin])).max() < 0.3


# A head made by formula: the whole way without the packed file.


@pytest.mark.slow
def test_the_same_person_is_the_same_picture(small_head):
    model = head_model.load(small_head)
    look = looks.sample(np.random.default_rng(3), True, 2)
    one, other = (Person(model, look).render(SPEECH, POSES[1], 64, 4) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.image.std() > 10
    assert set(np.unique(one.labels)) >= {kernels.BACKGROUND, kernels.SKIN, kernels.HAIR}


@pytest.mark.slow
def test_every_style_grows(small_head):
    model = head_model.load(small_head)
    base = looks.sample(np.random.default_rng(3), False, 2)
    covered = {}
    for style in hair.STYLES:
        look = replace(base, style=style, glasses=0.1, beard=0.5)
        seen = Person(model, look).render(expression(), POSES[0], 64)
        assert np.isfinite(seen.depth[seen.labels == kernels.SKIN]).all()
        covered[style] = (seen.labels == kernels.HAIR).mean()
    assert covered["bald"] < covered["buzz"] + 0.05 < covered["long"]


def test_frames_turn_with_the_pose_and_follow_the_controls(renderer):
    person = actor_of(renderer, 5, 0)
    marks = person.landmarks(expression(), POSES[0])
    turned = person.landmarks(expression(), held(12, 3, 0))
    assert turned[30, 0] < marks[30, 0] - 0.02
    assert person.opening(expression()) < 1e-3
    assert person.opening(SPEECH) > 0.02
    assert person.opening(SPEECH + expression(lips_closed=1)) < 1e-3
    one, other = (
        person.picture(row, POSES[0], 64, 0).astype(int) for row in (expression(), SPEECH)
    )
    changed = np.abs(one - other).sum(-1) > 30
    assert changed.any()
    assert np.nonzero(changed)[0].min() > 24  # nothing above the nose


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.floats(-1.3, 1.3), min_size=len(Control), max_size=len(Control)),
    st.floats(-30, 30),
    st.floats(-25, 25),
)
def test_no_expression_or_pose_breaks_the_rendering(renderer, controls, yaw, pitch):
    person, row, pose = (
        actor_of(renderer, 5, 0),
        np.array(controls, np.float32),
        held(yaw, pitch, 10),
    )
    assert np.isfinite(person.landmarks(row, pose)).all()
    seen = person.render(row, pose, 64)
    assert (seen.labels == kernels.SKIN).mean() > 0.05


def test_without_a_head_model_one_line_says_what_to_do(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as end:
        main([f"--output={tmp_path / 'x'}", "--identities=1", "--seed=0"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "python -m data.synthetic.head_model" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x").exists()
