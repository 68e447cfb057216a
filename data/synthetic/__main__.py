"""`python -m data.synthetic --output ROOT --identities N --seed S`: renders the data set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from data.synthetic.job import add_flags, write_all
from data.synthetic.renderer import Renderer
from eamm_jax.cli.tool import OneLineParser, run, whole_number


def main(argv: Sequence[str] | None = None) -> None:
    """Renders the data set as the flags say."""
    parser = OneLineParser(
        prog="python -m data.synthetic",
        description=(
            "Renders talking, emotional faces with ground truth and writes them in the published "
            "folder layout. Run again after a stop, it goes on where it was; with more "
            "identities it adds them."
        ),
    )
    parser.add_argument("--identities", type=whole_number(1), required=True, help="how many people")
    parser.add_argument("--seed", type=int, required=True, help="same seed, same data set")
    parser.add_argument(
        "--first_identity", type=int, default=0, help="number of the first person (default 0)"
    )
    add_flags(parser, size=128)
    flags = parser.parse_args(argv)
    run(lambda: _render(flags))


def _render(flags: argparse.Namespace) -> None:
    from eamm_jax.io import speech

    speech.check_available()
    # Here and not above: they take seconds to load, and flags may be wrong.
    from data.synthetic import head_model, writer

    head_model.load(flags.head_model)
    recipe = writer.Recipe(
        flags.seed,
        flags.size,
        flags.takes,
        flags.emotions,
        flags.stills,
        flags.hold,
        flags.voices,
    )
    numbers = range(flags.first_identity, flags.first_identity + flags.identities)
    renderer = Renderer(flags.head_model)
    write_all(flags.output, recipe, numbers, renderer, flags.workers, flags.recordings)


if __name__ == "__main__":
    main()
