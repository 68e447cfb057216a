"""Head poses: every shape that people have, and every file that is none."""

import io

import numpy as np
import pytest

from eamm_jax.errors import UserError
from eamm_jax.io.arrays import read_pose


@pytest.mark.parametrize(
    ("shape", "rows"),
    [((7,), (1, 7)), ((6,), (1, 6)), ((1, 7), (1, 7)), ((5, 7), (5, 7)), ((5, 6), (5, 6))],
)
@pytest.mark.parametrize("dtype", ["<f8", "<f4", ">f8", "<f2", "<i4"])
def test_shapes_and_number_formats(tmp_path, shape, rows, dtype):
    pose = np.random.default_rng(0).uniform(-20, 80, shape).astype(dtype)
    np.save(tmp_path / "pose.npy", pose)
    read = read_pose(tmp_path / "pose.npy")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, pose.reshape(rows).astype(np.float32))


def test_column_major_files(tmp_path):
    pose = np.asfortranarray(np.arange(21.0).reshape(3, 7))
    np.save(tmp_path / "pose.npy", pose)
    np.testing.assert_array_equal(read_pose(tmp_path / "pose.npy"), pose)


def test_real_poses(shared):
    for path in [*(shared / "media" / "pose").iterdir(), *(shared / "media").glob("pose_*/*")]:
        pose = read_pose(path)
        np.testing.assert_array_equal(pose, np.load(path).astype(np.float32))
        assert pose.shape[1] == 7
        assert np.abs(pose[:, :3]).max() < 90


@pytest.mark.parametrize("shape", [(), (3, 5), (3, 8), (0, 7), (2, 3, 7), (5,)])
def test_other_shapes_are_named(tmp_path, shape):
    np.save(tmp_path / "pose.npy", np.zeros(shape))
    with pytest.raises(UserError, match="holds float64 of shape") as error:
        read_pose(tmp_path / "pose.npy")
    message = str(error.value)
    assert f"{shape}" in message
    assert "expected a .npy file of shape (frames, 7) or (frames, 6)" in message
    assert "\n" not in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_poses_are_rejected(tmp_path, value):
    pose = np.zeros((9, 7))
    pose[4, 2] = pose[7, 6] = value
    np.save(tmp_path / "pose.npy", pose)
    with pytest.raises(UserError, match=r"2 of 9 frames hold NaN or infinite .* frame 4"):
        read_pose(tmp_path / "pose.npy")


def npy(array: np.ndarray, **kwargs) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **kwargs)
    return file.getvalue()


def archive() -> bytes:
    file = io.BytesIO()
    np.savez(file, pose=np.zeros((3, 7)))
    return file.getvalue()


class Hostile:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


HUGE = npy(np.zeros((3, 7))).replace(b"(3, 7)", b"(99999999999, 7)")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"12.5 2.9 0.9 0.0005 66 70 -66\n", "it is not a .npy file"),
        (archive(), "it is a .npz or zip archive"),
        (npy(np.array([Hostile()], object), allow_pickle=True), "objects"),
        (npy(np.array(["a"] * 7)), "holds <U1 of shape"),
        (npy(np.zeros(7, complex)), "holds complex128 of shape"),
        (npy(np.zeros((3, 7)))[:-8], "Cannot use the head pose"),
        (npy(np.zeros((3, 7)))[:20], "Cannot use the head pose"),
        (HUGE, "Cannot use the head pose"),
    ],
    ids=["text", "npz", "pickle", "strings", "complex", "cut", "header cut", "promises too much"],
)
def test_other_files_are_rejected_in_one_line(tmp_path, content, found):
    (tmp_path / "pose.npy").write_bytes(content)
    with pytest.raises(UserError, match=found) as error:
        read_pose(tmp_path / "pose.npy")
    assert "\n" not in str(error.value)
    assert "(frames, 7)" in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="No such head pose: "):
        read_pose(tmp_path / "none.npy")
