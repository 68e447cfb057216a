"""What the page's fields are called and offer, and what they hold.

Fields come as Gradio received them, unread, so that a damaged file is answered by the project's
own words. Gradio has made sure by then that a file is one that was uploaded; `path_of` makes
sure again.
"""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from eamm_jax import bundled
from eamm_jax.app.form import (
    FROM_VIDEO,
    GENTLE,
    HEAD_FILE,
    HEAD_VIDEO,
    NEUTRAL,
    STILL,
    Choices,
    Form,
)
from eamm_jax.errors import UserError

Number = TypeVar("Number", int, float)

EMOTION_LABELS = {
    "angry": "Angry",
    "contempt": "Contempt",
    "disgusted": "Disgusted",
    "fear": "Afraid",
    "happy": "Happy",
    "neutral": "Neutral",
    "sad": "Sad",
    "surprised": "Surprised",
    FROM_VIDEO: "As in a video",
}

ACCENTS = (
    ("English (US), lower voice", "en-us+m3"),
    ("English (US), higher voice", "en-us+f3"),
    ("English (UK)", "en-gb"),
    ("Deutsch", "de"),
    ("Español", "es"),
    ("Français", "fr"),
    ("Italiano", "it"),
    ("Nederlands", "nl"),
    ("Polski", "pl"),
    ("Português", "pt"),
    ("Svenska", "sv"),
    ("Türkçe", "tr"),
)

HEAD_LABELS = {
    GENTLE: "Moves gently",
    STILL: "Stays still",
    HEAD_VIDEO: "Moves as in a video",
    HEAD_FILE: "Moves as in a file",
}

LAYOUT_LABELS = {"single": "The face", "side_by_side": "Side by side with the portrait"}


def offered_emotions(choices: Choices) -> list[tuple[str, str]]:
    """Labels and values, neutral first."""
    return [(EMOTION_LABELS[emotion], emotion) for emotion in choices.sources]


def offered_heads(choices: Choices) -> list[tuple[str, str]]:
    """Labels and values."""
    return [(HEAD_LABELS[head], head) for head in choices.heads]


def form_of(values: Sequence[Any], folder: Path) -> Form:
    """The form whose fields Gradio received, in the order of `Form`.

    Args:
        values: of the fields.
        folder: where uploaded files are.

    Raises:
        UserError: a number is none.
    """
    read: dict[str, Callable[[Any], Any]] = {
        "Path | None": lambda value: path_of(value, folder),
        "bool": bool,
        "int | None": face_number,
        "float": lambda value: _number("strength", float, value),
        "str": lambda value: str(value or ""),
    }
    fields = dataclasses.fields(Form)
    return Form(
        **{
            field.name: read[str(field.type)](value)
            for field, value in zip(fields, values, strict=True)
        }
    )


def face_number(value: Any) -> int | None:
    """Of the choice of a face; None if there is none.

    Raises:
        UserError: it is no number.
    """
    return None if value in (None, "") else _number("face", int, value)


def _number(what: str, kind: Callable[[Any], Number], value: Any) -> Number:
    try:
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"The {what} is {value!r}; a number is needed") from None


def path_of(value: Any, folder: Path) -> Path | None:
    """The uploaded file of a field; None if it is empty, or not one of the folder's files."""
    if isinstance(value, dict) and isinstance(value.get("path"), str):
        path = Path(value["path"]).resolve()
        if path.is_relative_to(folder):
            return path
    return None


def words_of(error: Exception, folder: Path) -> str:
    """An error for a visitor: files have names and no folders."""
    words = re.sub(rf"{re.escape(str(folder))}/(?:[^/\s]+/)*", "", str(error))
    return html.escape(words)


class Example(NamedTuple):
    """A portrait, what it says and how it feels."""

    caption: str
    portrait: Path
    speech: Path
    emotion: str


def examples(choices: Choices) -> list[Example]:
    """Those that come with the package; an emotion that the model does not know is left out."""
    listed = json.loads((bundled.EXAMPLES / "examples.json").read_text(encoding="utf-8"))
    found = [Example("Hello", bundled.PORTRAIT, bundled.SPEECH, "happy")]
    for entry in listed:
        portrait, speech = (bundled.EXAMPLES / entry[key] for key in ("portrait", "speech"))
        found.append(Example(entry["caption"], portrait, speech, entry["emotion"]))
    return [
        example if example.emotion in choices.emotions else example._replace(emotion=NEUTRAL)
        for example in found
    ]
