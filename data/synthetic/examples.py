"""Makes the examples of the studio: `python -m data.synthetic.examples`.

Invented people whom no model has been trained on, and a sentence for each, into the folder of what
comes with the package. `examples.json` lists them: caption, files, the emotion to show and what
is said.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from data.synthetic import cast
from data.synthetic.bundle import portrait, write_speech
from data.synthetic.renderer import Renderer, add_head_model_flag
from eamm_jax import bundled
from eamm_jax.cli.tool import OneLineParser, run

JPEG_QUALITY = 90


class Scene(NamedTuple):
    """Who says what, and how they feel."""

    name: str
    caption: str
    person: int
    emotion: str
    text: str


SCENES = (
    Scene(
        "welcome", "A warm welcome", 198, "happy", "¡Qué alegría verte! Hoy es un día estupendo."
    ),
    Scene("station", "Left waiting", 125, "sad", "I waited at the station, and you never came."),
    Scene(
        "umbrella", "My umbrella", 225, "angry", "Wer hat schon wieder meinen Regenschirm genommen?"
    ),
    Scene(
        "present",
        "For me?",
        20,
        "surprised",
        "Wait, all of this is for me? I can hardly believe it!",
    ),
    Scene(
        "train",
        "The train to Lyon",
        193,
        "neutral",
        "Bonjour. Le train pour Lyon part à huit heures.",
    ),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the examples as the flags say."""
    parser = OneLineParser(prog="python -m data.synthetic.examples", description=__doc__)
    parser.add_argument("--output", type=Path, default=bundled.EXAMPLES, help="folder")
    parser.add_argument("--seed", type=int, default=0, help="of the cast")
    add_head_model_flag(parser)
    flags = parser.parse_args(argv)
    run(lambda: make(flags.output, flags.seed, Renderer(flags.head_model)))


def make(folder: Path, seed: int, renderer: Renderer) -> None:
    """Renders and speaks all scenes."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for scene in SCENES:
        person = cast.person(seed, scene.person)
        assert person.held_out, scene
        voice = f"{person.voice.language}+{person.voice.variant}"
        picture, sound = folder / f"{person.name}.jpg", folder / f"{scene.name}.mp3"
        Image.fromarray(portrait(seed, scene.person, renderer)).save(
            picture, quality=JPEG_QUALITY, subsampling=0, optimize=True
        )
        write_speech(sound, scene.text, voice, person.voice.rate, person.voice.pitch)
        listed.append(
            {
                "caption": scene.caption,
                "portrait": picture.name,
                "speech": sound.name,
                "emotion": scene.emotion,
                "text": scene.text,
            }
        )
    text = json.dumps(listed, indent=1, ensure_ascii=False)
    (folder / "examples.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
