"""Rendered people: truth that belongs to the pictures, repeatability, expressions."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.synthetic import album, head_model, writer
from data.synthetic.__main__ import main
from data.synthetic.actor import actor_of
from data.synthetic.camera import held
from data.synthetic.controls import expression
from data.synthetic.emotion import EMOTION_LOOKS
from data.synthetic.heads import hair, kernels, looks
from data.synthetic.heads.person import Person
from data.synthetic.renderer import HEADS, Renderer
from eamm_jax.errors import UserError
from eamm_jax.faces import generic_face
from eamm_jax.faces.pose_geometry import face_region, fit_pose
from eamm_jax.input_pipeline.clips import decode_frame
from eamm_jax.input_pipeline.published import PublishedFolder
from tests.data.formula_head import formula_head, save

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


def test_people_are_of_all_kinds():
    people = [looks.sample(np.random.default_rng(n), n % 2 == 0) for n in range(300)]
    assert {p.style for p in people} == set(looks.FEMININE_STYLES) | set(looks.MASCULINE_STYLES)
    tones = np.histogram([p.tone for p in people], bins=6, range=(0, 6))[0]
    assert tones.min() > 25
    assert 20 < sum(p.glasses > 0 for p in people) < 110
    assert {p.beard_kind for p in people if p.beard} == {"full", "goatee", "moustache"}


# A head made by formula: the whole way without the packed file.


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("head") / "small.npz"
    save(formula_head(), path)
    return path


def actor(path: Path, number: int = 0) -> Person:
    return actor_of(Renderer(HEADS, str(path)), 5, number)


@pytest.mark.slow
def test_the_same_person_is_the_same_picture(small):
    model = head_model.load(small)
    look = looks.sample(np.random.default_rng(3), True, 2)
    one, other = (Person(model, look).render(SPEECH, POSES[1], 64, 4) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.image.std() > 10
    assert set(np.unique(one.labels)) >= {kernels.BACKGROUND, kernels.SKIN, kernels.HAIR}


@pytest.mark.slow
def test_every_style_grows(small):
    model = head_model.load(small)
    base = looks.sample(np.random.default_rng(3), False, 2)
    covered = {}
    for style in hair.STYLES:
        look = replace(base, style=style, glasses=0.1, beard=0.5)
        seen = Person(model, look).render(expression(), POSES[0], 64)
        assert np.isfinite(seen.depth[seen.labels == kernels.SKIN]).all()
        covered[style] = (seen.labels == kernels.HAIR).mean()
    assert covered["bald"] < covered["buzz"] + 0.05 < covered["long"]


def test_frames_turn_with_the_pose_and_follow_the_controls(small):
    person = actor(small)
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


@pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs the extra 'speech'"
)
def test_albums_of_heads_are_written_and_read(small, tmp_path):
    recipe = writer.Recipe(5, 64, stills=2, renderer=HEADS)
    writer.begin(tmp_path, recipe)
    (job,) = writer.plan(tmp_path, recipe, [0], Renderer(HEADS, str(small)))
    assert writer.write(job) == 2
    found = PublishedFolder(tmp_path, with_motion=True, with_truth=True).open(0)
    for n, still in enumerate(album.stills(5, 0, 2, Renderer(HEADS, str(small)))):
        np.testing.assert_array_equal(decode_frame(found.encoded_frame(n)), still.draw(64))
        np.testing.assert_array_equal(found.truth(n).points[:68], still.landmarks())
    with pytest.raises(UserError, match="renderer heads"):
        writer.begin(tmp_path, replace(recipe, renderer="drawn"))


def test_without_a_head_model_one_line_says_what_to_do(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as end:
        main([f"--output={tmp_path / 'x'}", "--identities=1", "--seed=0", "--renderer=heads"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "python -m data.synthetic.head_model" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x").exists()
