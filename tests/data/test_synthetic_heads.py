"""Rendered people: truth that belongs to the pictures, repeatability, expressions."""

from pathlib import Path

import numpy as np
import pytest

from data.synthetic import head_model
from data.synthetic.actor import actor_of
from data.synthetic.camera import held
from data.synthetic.controls import expression
from data.synthetic.emotion import EMOTION_LOOKS
from data.synthetic.heads import kernels, looks
from data.synthetic.heads.person import Person
from data.synthetic.renderer import HEADS, Renderer
from eamm_jax.faces import generic_face
from eamm_jax.faces.pose_geometry import face_region, fit_pose

pytestmark = pytest.mark.slow  # preparing the head model and a person

SIZE = 96
POSES = [held(0, 3, 0), held(14, -4, 5, 1.05, 0.03, -0.02), held(-18, 8, -4)]
SPEECH = expression(jaw_open=0.9)


@pytest.fixture(scope="module")
def packed(shared) -> Path:
    return shared / "faces3d" / "ict_face_model.npz"


@pytest.fixture(scope="module")
def person(packed) -> Person:
    return actor_of(Renderer(HEADS, str(packed)), 5, 1)


def pixels(points: np.ndarray) -> np.ndarray:
    return (points + 1) * SIZE / 2


def middle(mask: np.ndarray) -> np.ndarray:
    y, x = np.nonzero(mask)
    return np.array([x.mean() + 0.5, y.mean() + 0.5])


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


def test_the_published_pose_is_the_one_that_landmarks_tell(packed):
    """The pose that a generic face needs to match the landmarks is the pose that was asked for."""
    off = []
    for number in range(6):
        person = actor_of(Renderer(HEADS, str(packed)), 5, number)
        for pose in POSES:
            marks = (person.landmarks(expression(), pose) + 1) * 128
            region = face_region(marks)
            seen = region.from_picture(marks[generic_face.LANDMARKS])
            found = fit_pose(generic_face.POINTS, seen, generic_face.WEIGHTS)
            off.append(np.asarray(found[:3]) - pose[:3])
    # Faces differ from the generic one; its own authors' portraits are matched to 3 degrees.
    assert np.abs(np.mean(off, 0)).max() < 3, np.mean(off, 0)
    assert np.abs(off).mean() < 4, np.abs(off).mean(0)


def test_the_same_person_is_the_same_picture(packed):
    model = head_model.load(packed)
    look = looks.sample(np.random.default_rng(3), True)
    one, other = (Person(model, look).render(SPEECH, POSES[1], SIZE, 4) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_head_turns_the_published_way(person):
    nose = 30

    def moved(**pose):
        marks = person.landmarks(expression(), held(**{"yaw": 0, "pitch": 0, "roll": 0, **pose}))
        return marks[nose] - marks[[0, 16]].mean(0)

    straight = moved()
    assert moved(yaw=10)[0] < straight[0] - 0.03
    assert moved(pitch=10)[1] > straight[1] + 0.03


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


def test_closed_lips_meet_whatever_the_jaw_and_the_emotion_do(person):
    assert person.opening(SPEECH) > 0.05
    for mood in EMOTION_LOOKS.values():
        row = mood.face + expression(jaw_open=0.6, lips_closed=1)
        assert person.opening(row) < 0.004
        seen = person.render(row, POSES[0], SIZE)
        assert np.isin(seen.labels, [kernels.MOUTH, kernels.TOOTH]).sum() <= 6


def test_people_are_of_all_kinds(packed):
    people = [looks.sample(np.random.default_rng(n), n % 2 == 0) for n in range(300)]
    assert {p.style for p in people} == set(looks.FEMININE_STYLES) | set(looks.MASCULINE_STYLES)
    tones = np.histogram([p.tone for p in people], bins=6, range=(0, 6))[0]
    assert tones.min() > 25
    assert 20 < sum(p.glasses > 0 for p in people) < 110
    assert {p.beard_kind for p in people if p.beard} == {"full", "goatee", "moustache"}
