"""No output of a command takes the place of one of the user's files, whatever it is called."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eamm_jax.animate.job import Job, check
from eamm_jax.cli import convert, evaluate, export
from eamm_jax.errors import UserError
from eamm_jax.faces.head_pose import HeadPose
from eamm_jax.io.files import InputFiles, joined_name, make_folder, temporary_folder

INPUTS = {
    "source_image": "face.png",
    "speech": "voice.mp4",
    "emotion_video": "happy.mp4",
    "template": "template.npy",
    "file": "pose.npy",
    "motion": "motion.npy",
    "video": "head.mp4",
}
OUTPUTS = {
    "output": ".mp4",
    "neutral_output": ".mp4",
    "contact_sheet": ".png",
    "report": ".json",
    "frames": "",
}


def as_it_is(path: Path) -> Path:
    return path


def relative(path: Path) -> Path:
    return Path(os.path.relpath(path))


def roundabout(path: Path) -> Path:
    return path.parent / ".." / path.parent.name / path.name


def symbolic_link(path: Path) -> Path:
    link = path.with_name(f"link{path.suffix}")
    link.symlink_to(path.name)
    return link


def linked_folder(path: Path) -> Path:
    link = path.parent.with_name("linked")
    link.symlink_to(path.parent)
    return link / path.name


def hard_link(path: Path) -> Path:
    link = path.with_name(f"hard{path.suffix}")
    link.hardlink_to(path)
    return link


NAMES = (as_it_is, relative, roundabout, symbolic_link, linked_folder, hard_link)


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    return folder


def job_in(folder: Path, tag: str = "", **changes: Path) -> Job:
    """A job whose inputs are there; those of some kinds exclude each other only when it runs."""
    paths = {}
    for kind, name in INPUTS.items():
        paths[kind] = folder / f"{tag}{name}"
        paths[kind].write_bytes(b"content")
    paths.pop("motion" if "motion" not in changes else "video")
    paths |= {"output": folder.parent / f"{tag}new.mp4", **changes}
    head = {kind: paths.pop(kind) for kind in ("file", "motion", "video") if kind in paths}
    return Job(**paths, head=HeadPose(**head))


@pytest.mark.parametrize("named", NAMES)
@pytest.mark.parametrize(("kind", "where"), list(itertools.product(INPUTS, OUTPUTS)))
def test_an_output_is_no_input_by_any_name(folder, kind, where, named):
    path = folder / f"{kind}{OUTPUTS[where] or '.mp4'}"
    path.write_bytes(b"content")
    job = job_in(folder, **{kind: path, where: named(path)})
    with pytest.raises(UserError, match="it is the input"):
        InputFiles(path for _, path in job.inputs).check_kept(job.outputs)
    # The same is refused before anything is read; nothing here could be decoded.
    with pytest.raises(UserError):
        check({"": job})
    assert path.read_bytes() == b"content"


@pytest.mark.parametrize("named", NAMES)
def test_a_row_does_not_overwrite_the_input_of_another(folder, named):
    first = job_in(folder, "a", output=folder.parent / "a.mp4")
    second = job_in(folder, "b", output=named(first.speech))
    for rows in ({"row 2": first, "row 3": second}, {"row 3": second, "row 2": first}):
        with pytest.raises(UserError, match=r"row 3: Cannot write .*: it is the input"):
            check(rows)


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(OUTPUTS, 2)))
def test_two_outputs_of_a_job_are_two_files(folder, one, other):
    path = folder.parent / f"new{OUTPUTS[one] or OUTPUTS[other]}"
    job = job_in(folder, **{one: path, other: path})
    with pytest.raises(UserError, match=r"two outputs|give a name"):
        check({"": job})


def test_what_is_not_an_input_may_be_written(folder):
    old = folder.parent / "old.mp4"
    old.write_bytes(b"an earlier result")
    check({"": job_in(folder, output=old, contact_sheet=folder / "sheet.png")})


@pytest.mark.parametrize("content", ["folder", "file in it"])
@pytest.mark.parametrize(
    ("command", "flag"),
    [(convert, "--audio_checkpoint"), (evaluate, "--pairs"), (export, "--checkpoint")],
)
def test_a_folder_that_contains_an_input_is_not_replaced(tmp_path, capsys, command, flag, content):
    target = tmp_path / "folder"
    source = target / "truth" if content == "file in it" else target
    source.mkdir(parents=True)
    (source / "file").write_bytes(b"content")
    if command is convert:
        source = source / "file"
    words = [flag, str(source), "--output", str(target), "--overwrite"]
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == 2
    assert "name another output" in capsys.readouterr().err
    assert any(path.read_bytes() == b"content" for path in target.rglob("file"))


@settings(deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), max_size=400),
        min_size=1,
        max_size=4,
    )
)
def test_names_made_of_others_are_as_short_as_file_systems_want(parts):
    name = joined_name(parts, ".mp4")
    assert len(os.fsencode(name)) <= 240
    assert name.endswith(".mp4")
    if len("_".join(parts).encode()) < 40:
        assert name == "_".join(parts) + ".mp4"


def test_the_folder_for_results_is_checked_as_those_of_the_user_are(tmp_path):
    made = make_folder(tmp_path / "a" / "b")
    assert make_folder(made).is_dir()
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(UserError, match="there is a file of that name"):
        make_folder(tmp_path / "outputs")
    for path in (tmp_path / "outputs" / "below", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(UserError, match="Cannot make the folder"):
            make_folder(path)


def test_a_temporary_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(UserError, match=r"Cannot make a temporary folder: .*TMPDIR"):
        temporary_folder().__enter__()
