"""MediaPipe's networks as MediaPipe runs them, faces of all sizes, and other files."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eamm_jax.cli import face_landmarker
from eamm_jax.errors import UserError
from eamm_jax.faces import mediapipe_finder
from eamm_jax.faces.mediapipe_finder import POINTS, MediaPipeFinder
from eamm_jax.faces.pose_geometry import rotation_angles

needs_file = pytest.mark.skipif(
    not mediapipe_finder.is_installed(), reason="needs the extra 'faces'"
)


@pytest.fixture(scope="module")
def finder() -> MediaPipeFinder:
    return MediaPipeFinder()


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return pytest.importorskip("skimage.data").astronaut()


@needs_file
def test_the_package_mediapipe_sees_the_same(finder, astronaut):
    """Pixels are sampled in another way, which moves points by a pixel of the mesh's input."""
    recorded = np.load(Path(__file__).with_name("mediapipe.npz"))
    (face,) = finder.find(astronaut)
    expected = recorded["points"][POINTS] - 0.5
    away = np.linalg.norm(face.landmarks - expected, axis=1)
    eyes = np.linalg.norm(expected[36] - expected[45])
    assert away.mean() < 0.01 * eyes
    assert away.max() < 0.03 * eyes
    # There with the perspective of a camera nearby.
    angles = rotation_angles(face.rotation) - rotation_angles(recorded["rotation"])
    assert np.abs(angles).max() < 5, angles


@needs_file
def test_the_rotation_is_that_of_the_head(finder, astronaut):
    (face,) = finder.find(astronaut)
    (mirrored,) = finder.find(np.ascontiguousarray(astronaut[:, ::-1]))
    leaning = Image.fromarray(astronaut).rotate(20, Image.Resampling.BICUBIC, center=(225, 120))
    (leaning,) = finder.find(np.asarray(leaning))
    yaw, pitch, roll = rotation_angles(face.rotation)
    np.testing.assert_allclose(rotation_angles(mirrored.rotation), (-yaw, pitch, -roll), atol=2)
    np.testing.assert_allclose(rotation_angles(leaning.rotation), (yaw, pitch, roll + 20), atol=2)


@needs_file
def test_faces_of_all_sizes_are_found_once_each(finder, astronaut):
    """One is 270 pixels wide, one 43, and one fills its picture."""
    small = np.asarray(Image.fromarray(astronaut).resize((240, 240), Image.Resampling.LANCZOS))
    large = Image.fromarray(astronaut[:300, 80:380]).resize((900, 900))
    picture = np.full((1000, 1400, 3), 90, np.uint8)
    picture[:900, :900] = np.asarray(large)
    picture[700:940, 1100:1340] = small
    faces = finder.find(picture)
    assert [face.width for face in faces] == pytest.approx([270, 43], rel=0.1)
    assert faces[1].box[0] > 1100
    close = np.ascontiguousarray(astronaut[50:190, 165:290])
    assert len(finder.find(close)) == 1
    assert finder.find(np.full((300, 200, 3), 128, np.uint8)) == []


@needs_file
def test_landmarks_of_a_known_box_are_those_of_the_face(finder, astronaut):
    (face,) = finder.find(astronaut)
    away = np.linalg.norm(finder.landmarks(astronaut, face.box) - face.landmarks, axis=1)
    assert away.mean() < 2


@pytest.mark.parametrize("missing", ["LiteRT", "the file"])
def test_what_is_missing_is_named(monkeypatch, tmp_path, missing):
    if missing == "LiteRT":
        monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    else:
        monkeypatch.setattr(mediapipe_finder, "packaged_file", lambda *name: None)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert not mediapipe_finder.is_installed()
    with pytest.raises(UserError, match=r"\[faces\].*eamm_jax\.cli\.face_landmarker"):
        MediaPipeFinder()


def test_another_file_is_not_run(tmp_path):
    pytest.importorskip("ai_edge_litert")
    path = tmp_path / "other.task"
    path.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"other\.task is not MediaPipe's face_landmarker\.task"):
        MediaPipeFinder(path)


def test_the_file_is_fetched_once_and_only_that_file(monkeypatch, tmp_path, capsys):
    """From a file in the place of the official address."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source, kept = tmp_path / "source", tmp_path / "cache" / "eamm_jax" / mediapipe_finder.FILE
    monkeypatch.setattr(mediapipe_finder, "URL", source.as_uri())
    for content, words in ((None, "cannot fetch file://"), (b"another", "its SHA-256 is another")):
        if content is not None:
            source.write_bytes(content)
        with pytest.raises(SystemExit) as ended:
            face_landmarker.main([])
        assert ended.value.code == 2
        assert words in capsys.readouterr().err
        assert not kept.exists()
    monkeypatch.setattr(mediapipe_finder, "SHA256", hashlib.sha256(b"another").hexdigest())
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            face_landmarker.main([])
        assert ended.value.code == 0
        assert capsys.readouterr().out == f"{kept}\n"
        source.unlink(missing_ok=True)
    assert kept.read_bytes() == b"another"
