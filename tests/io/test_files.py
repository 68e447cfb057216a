"""Outputs appear when complete, or not at all; paths that cannot be used are named."""

import errno
import os
from pathlib import Path

import pytest

from eamm_jax.errors import UserError
from eamm_jax.io import files
from eamm_jax.io.files import atomic_output, atomic_output_dir, check_readable, check_writable


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


# --- Reading -------------------------------------------------------------------------------


def test_a_readable_file_passes(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"x")
    assert check_readable(str(path), "portrait") == path


def test_missing_files_are_named_by_role(tmp_path):
    for path in (tmp_path / "x.png", tmp_path / "none" / "x.png"):
        with pytest.raises(UserError, match=f"No such portrait: {path}") as error:
            check_readable(path, "portrait")
        one_line(error)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(UserError, match="No such portrait"):
        check_readable(tmp_path / "file" / "x.png", "portrait")


def test_folders_empty_files_and_invalid_names_are_rejected(tmp_path):
    (tmp_path / "empty").touch()
    for path, reason in [
        (tmp_path, "it is a folder"),
        (tmp_path / "empty", r"the file is empty \(0 bytes\)"),
        (tmp_path / ("x" * 300), "file name too long"),
        ("a\0b", "null byte|null character"),
    ]:
        with pytest.raises(UserError, match=reason) as error:
            check_readable(path, "portrait")
        one_line(error)


def test_files_without_permission_are_rejected(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    path.write_bytes(b"x")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read anything
    with pytest.raises(UserError, match=r"x\.png: permission denied"):
        check_readable(path, "portrait")
    with pytest.raises(UserError, match=f"permission denied in {tmp_path}"):
        check_writable(tmp_path / "y.png")


# --- Writing -------------------------------------------------------------------------------


def test_outputs_need_a_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for path, reason in [
        (tmp_path / "none" / "x.mp4", f"there is no folder {tmp_path / 'none'}; make it first"),
        (tmp_path / "file" / "x.mp4", "is not a folder|not a directory"),
        ("/dev/null", "neither a file nor a folder"),
        (tmp_path / ("x" * 300), "file name too long"),
    ]:
        with pytest.raises(UserError, match=reason) as error, atomic_output(path):
            pytest.fail("the block must not start")
        one_line(error)
    with pytest.raises(UserError, match="it is a folder"), atomic_output(tmp_path):
        pytest.fail("the block must not start")


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "x.mp4"
    path.write_text("old")
    with atomic_output(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".mp4"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed_not_replaced(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic_output(tmp_path / "link") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "x"


def test_long_names_in_any_script_leave_room_for_the_temporary_name(tmp_path):
    path = tmp_path / ("声" * 80 + ".mp4")
    with atomic_output(path) as temporary:
        temporary.write_text("x")
    assert path.read_text() == "x"


FAILURES = [ValueError("x"), KeyboardInterrupt(), SystemExit(143), UserError("x")]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda e: type(e).__name__)
def test_a_failed_file_leaves_nothing(tmp_path, failure):
    path = tmp_path / "x.mp4"
    path.write_text("old")
    with pytest.raises(type(failure)), atomic_output(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise failure
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda e: type(e).__name__)
def test_a_failed_folder_leaves_nothing(tmp_path, failure):
    with pytest.raises(type(failure)), atomic_output_dir(tmp_path / "x") as temporary:  # noqa: PT012
        (temporary / "a").mkdir()
        (temporary / "a" / "b").write_text("half")
        raise failure
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("make", [atomic_output, atomic_output_dir])
def test_a_full_disk_is_reported(tmp_path, make):
    with pytest.raises(UserError, match="no space left on device; nothing was kept") as error:  # noqa: PT012, SIM117
        with make(tmp_path / "x") as temporary:
            (temporary / "a" if temporary.is_dir() else temporary).write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))
    assert str(tmp_path / "x") in one_line(error)
    assert not list(tmp_path.iterdir())


def test_read_errors_in_the_block_are_unchanged(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_output(tmp_path / "x"):
        Path(tmp_path / "none").read_text()


def test_a_full_disk_at_flush_is_reported(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match="no space left"), atomic_output(tmp_path / "x") as out:
        out.write_text("all")
    assert not list(tmp_path.iterdir())


def test_a_folder_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "x"
    with atomic_output_dir(path) as temporary:
        (temporary / "a").write_text("new")
        assert not path.exists()
    assert (path / "a").read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_only_empty_folders_are_replaced_unless_told(tmp_path):
    path = tmp_path / "x"
    path.mkdir()
    with atomic_output_dir(path) as temporary:
        (temporary / "a").write_text("first")
    with pytest.raises(UserError, match="not empty"), atomic_output_dir(path):
        pytest.fail("the block must not start")
    for left_by_a_mac in (".DS_Store", "._a"):
        (path / left_by_a_mac).touch()
    with atomic_output_dir(path, {"a", "b"}) as temporary:
        (temporary / "b").write_text("second")
    assert [p.name for p in path.iterdir()] == ["b"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_not_replaced_with_what_else_is_in_it(tmp_path):
    path = tmp_path / "x"
    path.mkdir()
    for name in ("a", "holiday.jpg"):
        (path / name).touch()
    with pytest.raises(UserError, match=r"also holds holiday\.jpg"), atomic_output_dir(path, {"a"}):
        pytest.fail("the block must not start")
    assert {p.name for p in path.iterdir()} == {"a", "holiday.jpg"}


def test_a_folder_does_not_replace_a_file(tmp_path):
    (tmp_path / "x").write_text("x")
    with pytest.raises(UserError, match="there is a file of that name"):  # noqa: SIM117
        with atomic_output_dir(tmp_path / "x", {"x"}):
            pytest.fail("the block must not start")


def test_an_unwritable_folder_is_reported(tmp_path, monkeypatch):
    def refused(*_args, **_kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(UserError, match="read-only file system"), atomic_output_dir(tmp_path / "x"):
        pytest.fail("the block must not start")
