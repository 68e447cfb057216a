"""Ready-made forms from what comes with the package; they need no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from eamm_jax import bundled
from eamm_jax.app.form import NEUTRAL, Choices


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
