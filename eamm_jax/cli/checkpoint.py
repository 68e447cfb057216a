"""`python -m eamm_jax.checkpoint DIR`: lists the networks of a model."""

from __future__ import annotations

from collections.abc import Sequence

from eamm_jax.cli.tool import OneLineParser, print_listing, run


def main(argv: Sequence[str] | None = None) -> None:
    """Lists the model that the command line names."""
    parser = OneLineParser(
        description="Lists the networks of a model: tensors with shapes and types, and where they "
        "came from.",
    )
    parser.add_argument("folder", metavar="DIR", help="a model, or a training work directory")
    folder = parser.parse_args(argv).folder

    def job() -> None:
        from eamm_jax.checkpoint import describe

        print_listing(describe(folder))

    run(job)


if __name__ == "__main__":
    main()
