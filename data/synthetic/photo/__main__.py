"""`python -m data.synthetic.photo --photos DIR --output ROOT`: portraits as talking people."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from data.synthetic.job import add_flags, write_all
from data.synthetic.renderer import Renderer
from eamm_jax.cli.tool import OneLineParser, run
from eamm_jax.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    """Animates a folder of portraits as the flags say."""
    parser = OneLineParser(
        prog="python -m data.synthetic.photo",
        description=(
            "Fits a 3-D head to each portrait of a folder and renders the person talking, with "
            "ground truth, in the published folder layout. Run again after a stop, it goes on "
            "where it was."
        ),
    )
    parser.add_argument(
        "--photos", type=Path, required=True, help="folder of photographs, one person in each"
    )
    parser.add_argument("--seed", type=int, default=0, help="same seed, same data set (default 0)")
    add_flags(parser, size=256)
    flags = parser.parse_args(argv)
    run(lambda: _animate(flags))


def _animate(flags: argparse.Namespace) -> None:
    from eamm_jax.io import speech

    speech.check_available()
    if importlib.util.find_spec("cv2") is None:
        raise UserError("photographs need OpenCV: pip install 'eamm_jax[photos]'")
    # Here and not above: they take seconds to load, and flags may be wrong.
    from data.synthetic import head_model, writer
    from data.synthetic.photo import portrait

    paths = portrait.list_photos(flags.photos)
    head_model.load(flags.head_model)
    for path in paths:
        portrait.read_portrait(path)
    recipe = writer.PhotoRecipe(
        flags.seed,
        flags.size,
        flags.takes,
        flags.emotions,
        flags.stills,
        flags.hold,
        flags.voices,
        hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest(),
    )
    renderer = Renderer(flags.head_model, tuple(map(str, paths)))
    write_all(flags.output, recipe, range(len(paths)), renderer, flags.workers, flags.recordings)


if __name__ == "__main__":
    main()
