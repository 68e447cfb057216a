"""Packing and finding the head model."""

import json
from pathlib import Path

import numpy as np
import pytest

from data.synthetic import head_model
from data.synthetic.head_model import Part
from eamm_jax.errors import UserError

PARTS = {"face": (0, 4, 0, 1), "teeth": (4, 7, 1, 2)}
NEUTRAL = np.array(
    [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [5, 0, 0], [6, 0, 0], [5, 1, 0]], float
)
FACES = "f 1/1 2/2 3/3 4/4\nf 5/1 6/2 7/3\n"


def write_mesh(path: Path, vertices: np.ndarray) -> None:
    rows = "".join(f"v {x} {y} {z}\n" for x, y, z in vertices)
    path.write_text(f"# a comment\n{rows}vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n{FACES}")


@pytest.fixture
def face_kit(tmp_path) -> Path:
    """A clone with one quad, one triangle, two modes and one expression."""
    folder = tmp_path / "kit" / "FaceXModel"
    folder.mkdir(parents=True)
    facts = {"expressions": ["jawOpen"], "idx_to_landmark_verts": [3] * 68}
    (folder / "vertex_indices.json").write_text(json.dumps(facts))
    write_mesh(folder / "generic_neutral_mesh.obj", NEUTRAL)
    write_mesh(folder / "identity000.obj", NEUTRAL + np.array([0.5, 0, 0]))
    write_mesh(folder / "identity001.obj", NEUTRAL * 2)
    write_mesh(folder / "jawOpen.obj", NEUTRAL - [0, 0.25, 0])
    return tmp_path / "kit"


def test_a_packed_clone_is_loaded_again(face_kit, tmp_path):
    file = tmp_path / "new" / "head.npz"
    head_model.pack(face_kit, file, PARTS)
    model = head_model.load(file)
    np.testing.assert_array_equal(model.neutral, NEUTRAL)
    np.testing.assert_array_equal(model.identity, [np.tile([0.5, 0, 0], (7, 1)), NEUTRAL])
    np.testing.assert_array_equal(model.expression, [np.tile([0, -0.25, 0], (7, 1))])
    assert model.expression_names == ("jawOpen",)
    np.testing.assert_array_equal(model.triangles, [[0, 1, 2], [0, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(model.triangle_uv, [[0, 1, 2], [0, 2, 3], [0, 1, 2]])
    assert model.parts == {"face": Part(0, 4, 0, 2), "teeth": Part(4, 7, 2, 3)}
    assert model.parts["teeth"].triangles == slice(2, 3)
    assert head_model.load(file) is model


def test_packing_the_same_clone_gives_the_same_bytes(face_kit, tmp_path):
    files = [tmp_path / name for name in ("one.npz", "two.npz")]
    for file in files:
        head_model.pack(face_kit, file, PARTS)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_cache_folder_is_the_default(face_kit, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"no head model at .*cache.*clone https://github"):
        head_model.load()
    head_model.pack(face_kit, head_model.FILE.default_path(), PARTS)
    assert head_model.load().expression_names == ("jawOpen",)


def test_other_files_are_refused(tmp_path):
    file = tmp_path / "head.npz"
    file.write_bytes(b"PK not a zip")
    with pytest.raises(UserError, match="is not a packed head model"):
        head_model.load(file)
    np.savez(file, neutral=np.zeros(3))
    with pytest.raises(UserError, match="is not a packed head model"):
        head_model.load(file)


def test_a_folder_that_is_no_clone_is_told_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        head_model.main([f"--source={tmp_path}", f"--output={tmp_path / 'x.npz'}"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "is not a clone of ICT-FaceKit" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x.npz").exists()
