"""Which of the finders finds faces."""

from __future__ import annotations

import pytest

from eamm_jax.errors import UserError
from eamm_jax.faces import detection, dlib_finder, mediapipe_finder


@pytest.fixture
def installed(monkeypatch):
    """Says which are installed, and puts names in their places."""

    def install(*names: str) -> None:
        for name, module in (("MediaPipe", mediapipe_finder), ("dlib", dlib_finder)):
            monkeypatch.setattr(module, "is_installed", lambda name=name: name in names)
        monkeypatch.setattr(detection, "DlibFinder", lambda: "dlib")
        monkeypatch.setattr(detection, "MediaPipeFinder", lambda *path: ("MediaPipe", *path))

    monkeypatch.delenv(detection.VARIABLE, raising=False)
    return install


@pytest.mark.parametrize(
    ("names", "asked", "expected"),
    [
        (["MediaPipe", "dlib"], "", ("MediaPipe",)),
        (["dlib"], "", "dlib"),
        ([], "", ("MediaPipe",)),  # which says what is missing
        (["MediaPipe", "dlib"], "dlib", "dlib"),
    ],
)
def test_what_may_be_used_for_any_purpose_comes_first(
    installed, monkeypatch, names, asked, expected
):
    installed(*names)
    monkeypatch.setenv(detection.VARIABLE, asked)
    assert detection.make_finder() == expected
    assert detection.is_installed() == bool(names)


def test_a_file_may_be_named(installed, monkeypatch, tmp_path):
    installed("dlib")
    path = tmp_path / "face_landmarker.task"
    monkeypatch.setenv(detection.VARIABLE, str(path))
    with pytest.raises(UserError, match=r"EAMM_FACES is .*no file; it must be 'dlib', or the path"):
        detection.make_finder()
    path.touch()
    assert detection.make_finder() == ("MediaPipe", path)
