"""The command line of `python -m data.lrw`, `data.mead` and `data.voxceleb`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from eamm_jax.cli.tool import OneLineParser, run, whole_number
from eamm_jax.errors import UserError
from eamm_jax.io.beam import runner_options


def main(kind: str, argv: Sequence[str] | None = None) -> None:
    """Parses the flags and packs a folder.

    Args:
        kind: `lrw`, `mead` or `voxceleb`.
        argv: flags; None reads `sys.argv`.
    """
    parser = OneLineParser(
        prog=f"python -m data.{kind}",
        description=(
            f"Packs {kind} from the published folder layout into ArrayRecord. "
            "Run the same command again to resume."
        ),
    )
    parser.add_argument("--root", required=True, help="folder that contains fomm_crop/")
    parser.add_argument(
        "--data_dir", required=True, help=f"output folder; {kind}/<version>/ is written below it"
    )
    parser.add_argument(
        "--on_bad_clip",
        choices=("error", "skip"),
        default="error",
        help="stop at the first bad clip, or skip bad clips and list them",
    )
    parser.add_argument(
        "--frames_only",
        action="store_true",
        help="pack frames only, for stage 0",
    )
    parser.add_argument(
        "--keypoints",
        action="store_true",
        help="also pack the image keypoints that data.teach has found",
    )
    parser.add_argument(
        "--encoding",
        choices=("original", "jpeg", "webp"),
        default="original",
        help="of the frames: the files as they are, or with some loss, smaller and read faster",
    )
    parser.add_argument(
        "--quality",
        type=whole_number(1, 100),
        help="of JPEG and WebP, from 1 to 100 (default: 95)",
    )
    parser.add_argument(
        "--workers", type=whole_number(1), default=os.cpu_count() or 1, help="number of processes"
    )
    parser.add_argument("--clips_per_shard", type=whole_number(1), help="number of clips per file")
    parser.add_argument("--restart", action="store_true", help="discard an unfinished run first")
    parser.add_argument(
        "--beam_runner",
        help="pack with Apache Beam on this runner, such as DirectRunner or FlinkRunner; "
        "flags after -- go to the runner",
    )
    parser.add_argument("beam_options", nargs="*", help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    if flags.quality and flags.encoding == "original":
        parser.error("--quality needs --encoding jpeg or webp")
    run(lambda: _pack(kind, flags))


def _pack(kind: str, flags: argparse.Namespace) -> None:
    # Imported here because it takes seconds and the flags may be wrong.
    import tensorflow_datasets as tfds

    from data.builder import DEFAULT_QUALITY, Packing

    builder = importlib.import_module(f"data.{kind}.{kind}_dataset_builder").Builder(
        data_dir=flags.data_dir,
        packing=Packing(
            root=flags.root,
            frames_only=flags.frames_only,
            keypoints=flags.keypoints,
            encoding=flags.encoding,
            quality=flags.quality or DEFAULT_QUALITY,
            on_bad_clip=flags.on_bad_clip,
            clips_per_shard=flags.clips_per_shard,
            workers=flags.workers,
            restart=flags.restart,
        ),
    )
    if os.path.isdir(builder.data_dir):
        raise UserError(
            f"{builder.data_dir} is already packed; train from {flags.data_dir}, or remove it "
            "to pack again"
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
    if "quality" in metadata:
        print(
            f"frames are {flags.encoding} of quality {metadata['quality']}: PSNR "
            f"{metadata['psnr']} dB, lowest {metadata['lowest_psnr']} dB"
        )
