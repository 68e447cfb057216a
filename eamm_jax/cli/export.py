"""`python -m eamm_jax.export`: the networks as compiled programs for CPUs, GPUs and TPUs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eamm_jax.cli.tool import OneLineParser, add_shared, run, start_jax
from eamm_jax.io.files import InputFiles

MEGABYTE = 1e6


def main(argv: Sequence[str] | None = None) -> None:
    """Exports as the flags say."""
    parser = OneLineParser(
        description=(
            "Lowers a model's networks with jax.export, for platforms that need not be there, and "
            "writes them with the weights. To run what is written takes JAX alone; see "
            "docs/export.md."
        ),
    )
    add_shared(parser, "checkpoint")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder to be made (required)"
    )
    parser.add_argument(
        "--platforms",
        default="cpu,cuda,tpu",
        help="of cpu, cuda, rocm, tpu, with commas; default: %(default)s",
    )
    parser.add_argument("--no_emotion", action="store_true", help="leave the emotion network out")
    add_shared(parser, "dtype", "overwrite")
    flags = parser.parse_args(argv)

    def job() -> None:
        from eamm_jax.animate.program import EMOTION_NETWORK, REQUIRED_NETWORKS
        from eamm_jax.checkpoint import load_networks
        from eamm_jax.export import write

        inputs = InputFiles([flags.checkpoint])
        inputs.check_kept([flags.output], replaces_folders=flags.overwrite)
        start_jax()
        networks = (*REQUIRED_NETWORKS, *([] if flags.no_emotion else [EMOTION_NETWORK]))
        sizes = write(
            flags.output,
            *load_networks(flags.checkpoint, networks),
            flags.platforms.split(","),
            dtype=flags.dtype,
            overwrite=flags.overwrite,
        )
        for name, size in sizes.items():
            print(f"{flags.output / name}: {size / MEGABYTE:.2f} MB")

    run(job)


if __name__ == "__main__":
    main()
