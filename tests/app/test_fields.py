"""What is offered, and what becomes of fields, files and messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from eamm_jax.app.fields import (
    examples,
    form_of,
    offered_emotions,
    offered_heads,
    path_of,
    words_of,
)
from eamm_jax.app.form import Choices, Form
from eamm_jax.errors import UserError


def uploaded(folder: Path, name: str) -> dict:
    path = folder / "0f3a" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    return {"path": str(path), "orig_name": name, "meta": {"_type": "gradio.FileData"}}


def test_what_the_model_knows_is_offered():
    choices = Choices(("neutral", "happy", "sad"), video=True, text=True, faces=True)
    assert offered_emotions(choices) == [
        ("Neutral", "neutral"),
        ("Happy", "happy"),
        ("Sad", "sad"),
        ("As in a video", "video"),
    ]
    assert [key for _, key in offered_heads(choices)] == ["gentle", "still", "video", "file"]
    assert [example.emotion for example in examples(choices)][:2] == ["happy", "happy"]


def test_what_it_does_not_know_is_not():
    choices = Choices(("neutral",), video=False, text=False, faces=False)
    assert offered_emotions(choices) == [("Neutral", "neutral")]
    assert [key for _, key in offered_heads(choices)] == ["gentle", "still", "file"]
    found = examples(choices)
    assert {example.emotion for example in found} == {"neutral"}
    assert all(example.portrait.is_file() and example.speech.is_file() for example in found)


def test_fields_become_a_form(tmp_path):
    portrait, sound = uploaded(tmp_path, "me.png"), uploaded(tmp_path, "voice.wav")
    begin = (portrait, True, "2", True, "sound", sound, None, "de", "happy", None)
    end = ("still", None, None, "side_by_side", uploaded(tmp_path, "keys.csv"))
    assert form_of((*begin, 0.5, *end), tmp_path) == Form(
        portrait=Path(portrait["path"]),
        face=2,
        paste_back=True,
        sound=Path(sound["path"]),
        accent="de",
        emotion="happy",
        strength=0.5,
        head="still",
        layout="side_by_side",
        timeline=Path(end[-1]["path"]),
    )
    with pytest.raises(UserError, match="'much'; a number is needed"):
        form_of((*begin, "much", *end), tmp_path)
    with pytest.raises(UserError, match="face is 'x'; a number is needed"):
        form_of((portrait, True, "x", *begin[3:], 1, *end), tmp_path)


@pytest.mark.parametrize("path", ["/etc/passwd", "{}/../x", "https://example.com/x.png"])
def test_only_what_was_uploaded_is_a_file(path, tmp_path):
    assert path_of({"path": path.format(tmp_path)}, tmp_path) is None
    assert path_of(uploaded(tmp_path, "me.png"), tmp_path) is not None
    assert path_of(None, tmp_path) is None


def test_messages_name_files_without_folders_or_markup(tmp_path):
    path = tmp_path / "0f3a" / "my <b>face</b>.png"
    error = UserError(f"No face was found in {path}; without cropping its middle is used")
    assert words_of(error, tmp_path) == (
        "No face was found in my &lt;b&gt;face&lt;/b&gt;.png; without cropping its middle is used"
    )
