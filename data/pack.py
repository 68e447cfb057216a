"""The command line of `python -m data.lrw`, `data.mead` and `data.voxceleb`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from data.beam import runner_options
from eamm_jax.cli.tool import run
from eamm_jax.errors import UserError


def main(kind: str, argv: Sequence[str] | None = None) -> None:
    """Packs a folder of this kind as the flags say.

    Args:
        kind: `lrw`, `mead` or `voxceleb`.
        argv: flags; None takes those of the process.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m data.{kind}",
        description=(
            f"Packs {kind} from the published folder layout into ArrayRecord. "
            "Run again after a stop, it goes on where it was."
        ),
    )
    parser.add_argument("--root", required=True, help="folder that holds fomm_crop/")
    parser.add_argument(
        "--data_dir", required=True, help=f"where to put {kind}/<version>/; train from there"
    )
    parser.add_argument(
        "--on_bad_clip",
        choices=("error", "skip"),
        default="error",
        help="stop at the first bad clip, or leave bad clips out and list them",
    )
    parser.add_argument(
        "--frames_only",
        action="store_true",
        help="pack no sound and pose (all that stage 0 needs)",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes that pack at once"
    )
    parser.add_argument("--clips_per_shard", type=int, help="clips in one file")
    parser.add_argument(
        "--restart", action="store_true", help="throw away an unfinished packing first"
    )
    parser.add_argument(
        "--beam_runner",
        help="pack by Apache Beam on this runner, for example DirectRunner or FlinkRunner; "
        "flags after -- are the runner's own",
    )
    parser.add_argument("beam_options", nargs="*", help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    run(lambda: _pack(kind, flags))


def _pack(kind: str, flags: argparse.Namespace) -> None:
    if flags.workers < 1 or (flags.clips_per_shard is not None and flags.clips_per_shard < 1):
        raise UserError("--workers and --clips_per_shard must be at least 1")
    # Here and not above: they take seconds to load, and flags may be wrong.
    import tensorflow_datasets as tfds

    from data.builder import Packing

    builder = importlib.import_module(f"data.{kind}.{kind}_dataset_builder").Builder(
        data_dir=flags.data_dir,
        packing=Packing(
            root=flags.root,
            frames_only=flags.frames_only,
            on_bad_clip=flags.on_bad_clip,
            clips_per_shard=flags.clips_per_shard,
            workers=flags.workers,
            restart=flags.restart,
        ),
    )
    if os.path.isdir(builder.data_dir):
        raise UserError(
            f"{builder.data_dir} is packed already: train from {flags.data_dir}, or remove it "
            "to pack anew"
        )
    options = runner_options(flags.beam_options) if flags.beam_runner else None
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                beam_runner=flags.beam_runner, beam_options=options
            )
        )
    except OSError as error:
        raise UserError(f"cannot write {builder.data_dir}: {error.strerror or error}") from error
    metadata = builder.info.metadata
    for name, fault in metadata["skipped"]:
        print(f"skipped {name}: {fault}", file=sys.stderr)
    print(
        f"packed {len(metadata['clips'])} clips into {builder.data_dir}, "
        f"skipped {len(metadata['skipped'])}"
    )
