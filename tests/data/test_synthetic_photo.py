"""Photographs as talking people: the first frame, truth, poses, folders, and bad photographs."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.synthetic import album, head_model, writer
from data.synthetic.camera import held
from data.synthetic.controls import expression
from data.synthetic.heads import looks
from data.synthetic.heads.person import Person
from data.synthetic.photo import portrait
from data.synthetic.photo.__main__ import main
from data.synthetic.photo.sitter import LARGEST_YAW, Sitter
from data.synthetic.renderer import Renderer
from eamm_jax.errors import UserError
from eamm_jax.faces import detection
from eamm_jax.input_pipeline.clips import Tracks, decode_frame
from eamm_jax.input_pipeline.published import PublishedFolder

SIZE = 64
REST, SPEECH, BLINK = expression(), expression(jaw_open=0.9), expression(blink=1)

needs_faces = pytest.mark.skipif(not detection.is_installed(), reason="needs the extra 'faces'")


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-6)))


def photograph(sitter: Sitter, size: int) -> np.ndarray:
    """The photograph itself at the size of a frame."""
    plate = portrait.develop(sitter.portrait, size)
    inner = slice(plate.border, len(plate.rgb) - plate.border)
    fine = plate.rgb[inner, inner]
    return fine.reshape(size, 2, size, 2, 3).mean((1, 3))


@pytest.fixture(scope="module")
def picture(small_head) -> tuple[np.ndarray, np.ndarray]:
    """A rendered person, to be taken for a photograph, and the landmarks in it."""
    model = head_model.load(small_head)
    person = Person(model, looks.sample(np.random.default_rng(3), True, 2))
    pose = held(3, 1, 2)
    marks = (person.landmarks(REST, pose) + 1) * 128 - 0.5
    return person.picture(REST, pose, 256, 0), marks


@pytest.fixture(scope="module")
def sitter(small_head, picture) -> Sitter:
    return sit(small_head, picture)


def sit(model: Path, picture: tuple[np.ndarray, np.ndarray]) -> Sitter:
    rng = np.random.default_rng(0)
    return Sitter(head_model.load(model), rng, portrait.framed(*picture, detection.make_finder()))


@pytest.mark.slow
@needs_faces
def test_in_its_own_pose_a_photograph_is_itself(sitter):
    assert psnr(sitter.original(SIZE), photograph(sitter, SIZE)) > 36


@needs_faces
def test_the_same_photograph_gives_the_same_frames(small_head, picture, sitter):
    (pose,) = sitter.limited([held(8, 3, 0)])
    again = sit(small_head, picture).picture(SPEECH, pose, SIZE, 0)
    np.testing.assert_array_equal(sitter.picture(SPEECH, pose, SIZE, 0), again)


@needs_faces
def test_the_mouth_opens_and_nothing_else_moves(sitter):
    pose = sitter.fit.pose
    rest, open_ = (sitter.picture(row, pose, SIZE, 0).astype(int) for row in (REST, SPEECH))
    changed = np.abs(rest - open_).sum(-1) > 30
    mouth = (sitter.landmarks(SPEECH, pose)[48:68] + 1) * SIZE / 2
    assert changed[int(mouth[:, 1].min()) : int(mouth[:, 1].max())].sum() > 20
    assert np.nonzero(changed)[0].min() > SIZE * 0.4
    assert sitter.opening(SPEECH) > 0.02
    assert sitter.opening(REST) < 1e-3


@needs_faces
def test_poses_stay_near_that_of_the_photograph(sitter):
    poses = sitter.limited([held(yaw, 3, 0) for yaw in (-40, -5, 0, 5, 40)])
    yaws = np.array([pose.yaw for pose in poses]) - sitter.fit.pose.yaw
    assert np.abs(yaws).max() <= LARGEST_YAW
    assert (np.diff(yaws) > 3).all()
    assert poses[2] == pytest.approx(sitter.fit.pose)
    left, right = (sitter.landmarks(REST, pose)[30, 0] for pose in (poses[-1], poses[0]))
    assert left < right - 0.02


# The packed head and a real portrait, in the public domain.


@pytest.fixture(scope="module")
def packed(shared) -> Path:
    return shared / "faces3d" / "ict_face_model.npz"


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    data = pytest.importorskip("skimage.data")
    return data.astronaut()


@pytest.fixture
def photos(astronaut, tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(astronaut).save(folder / "astronaut.png")
    return folder


@pytest.fixture(scope="module")
def real(packed, astronaut, tmp_path_factory) -> Sitter:
    path = tmp_path_factory.mktemp("photo") / "astronaut.png"
    Image.fromarray(astronaut).save(path)
    found = portrait.read_portrait(path)
    return Sitter(head_model.load(packed), np.random.default_rng(0), found)


@needs_faces
@pytest.mark.slow
def test_a_real_portrait_is_itself_too(real):
    assert psnr(real.original(256), photograph(real, 256)) > 42
    assert real.fit.error < 4


@needs_faces
@pytest.mark.slow
def test_truth_is_where_the_photograph_shows_it(real):
    finder = detection.make_finder()
    for row in (REST, SPEECH):
        for pose in real.limited([held(0, 3, 0), held(8, 3, 0)]):
            frame = real.picture(row, pose, 256, 0)
            (face,) = finder.find(frame)
            truth = (real.landmarks(row, pose) + 1) * 128 - 0.5
            away = np.linalg.norm(truth - face.landmarks, axis=1)
            # The finder itself is off by one or two pixels; its contour by more.
            assert np.median(away[17:]) < 3
            assert away[48:].mean() < 4


@needs_faces
@pytest.mark.slow
def test_closed_lids_are_skin(real):
    """A lid is nearly as bright as the skin below the eye, and no smudge."""
    pose = real.fit.pose
    open_, shut = (real.picture(row, pose, 256, 0).astype(float) for row in (REST, BLINK))
    for corners in (slice(36, 42), slice(42, 48)):
        marks = (real.landmarks(REST, pose)[corners] + 1) * 128
        x, y = marks.mean(0).astype(int)
        lid = shut[y - 3 : y + 1, x - 3 : x + 4].mean()
        below = shut[y + 8 : y + 12, x - 3 : x + 4].mean()
        assert lid > 0.75 * below
        assert open_[y - 3 : y + 1, x - 3 : x + 4].mean() < lid


@needs_faces
@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs the extra 'speech'"
)
def test_albums_of_photographs_are_written_and_read(packed, photos, tmp_path):
    root = tmp_path / "root"
    flags = [f"--photos={photos}", f"--output={root}", f"--head_model={packed}", "--workers=1"]
    with pytest.raises(SystemExit) as end:
        main([*flags, "--size=64", "--stills=2"])
    assert end.value.code == 0
    found = PublishedFolder(root, Tracks(motion=True, truth=True)).open(0)
    renderer = Renderer(str(packed), (str(photos / "astronaut.png"),))
    (stills,) = album.stills(0, 0, 2, renderer)
    for n, still in enumerate(stills):
        np.testing.assert_array_equal(decode_frame(found.encoded_frame(n)), still.shown(64).picture)
        np.testing.assert_array_equal(found.truth(n).points[:68], still.landmarks())
    recipe = writer.PhotoRecipe(0, 64, stills=2, photos="others")
    with pytest.raises(UserError, match="holds a synthetic data set made from"):
        writer.begin(root, recipe)


def side_by_side(picture: np.ndarray) -> np.ndarray:
    return np.concatenate([picture, picture], axis=1)


BAD = {
    "no_face": (lambda picture: np.full_like(picture, 128), "No face was found"),
    "two": (side_by_side, "faces; crop it to one of them"),
    "tiny": (lambda picture: picture[:220:2, 110:330:2], "at least"),
}


@needs_faces
@pytest.mark.parametrize("kind", [*BAD, "empty", "missing"])
def test_bad_photographs_are_told_in_one_line(kind, small_head, astronaut, tmp_path, capsys):
    folder = tmp_path / "photos"
    words = "holds no photographs"
    if kind == "missing":
        words = "is not a folder"
    else:
        folder.mkdir()
    if kind in BAD:
        change, words = BAD[kind]
        Image.fromarray(change(astronaut)).save(folder / "picture.png")
    with pytest.raises(SystemExit) as end:
        main([f"--photos={folder}", f"--output={tmp_path / 'x'}", f"--head_model={small_head}"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x").exists()
