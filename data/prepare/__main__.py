"""`python -m data.prepare --input RAW --output ROOT`: raw videos to the published layout."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.prepare.names import LRW_SPLITS, MEAD_VIEWS, NAMERS
from eamm_jax.cli.tool import OneLineParser, run, start_jax, whole_number
from eamm_jax.errors import UserError
from eamm_jax.io.beam import runner_options

if TYPE_CHECKING:
    from data.prepare.job import Report

SHOWN = 20
"""Skipped videos to print; the report lists all."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the flags and prepares a data set."""
    parser = OneLineParser(
        prog="python -m data.prepare",
        description=(
            "Converts raw videos with sound (mp4, mpg, avi, ...) of LRW, MEAD, VoxCeleb or your "
            "own to the published folder layout: frames at 25 fps, cropped by the alignment of the "
            "first frame; head poses; MFCC. Run the same command again to resume."
        ),
        allow_abbrev=False,
    )
    parser.add_argument("--input", required=True, type=Path, help="folder of raw videos")
    parser.add_argument("--output", required=True, type=Path, help="folder to write to")
    parser.add_argument(
        "--kind",
        choices=tuple(NAMERS),
        help="the data set; any: any videos, <person>/<name>.mp4 or all in one folder; default: "
        "one of the others, guessed from the file names",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="CSV",
        help="with --kind any: emotions of videos; columns video, emotion and, if you like, level "
        "and person; default: names as those of MEAD give the emotion",
    )
    parser.add_argument(
        "--split", choices=LRW_SPLITS, default="train", help="split of LRW; default: %(default)s"
    )
    parser.add_argument(
        "--view", choices=MEAD_VIEWS, default="front", help="camera of MEAD; default: %(default)s"
    )
    parser.add_argument(
        "--pose_network",
        type=Path,
        metavar="DIR",
        help="head pose network converted by convert_torch_weights.py; without it poses are "
        "estimated from the landmarks",
    )
    parser.add_argument(
        "--template",
        type=Path,
        metavar="NPY",
        help="68 landmarks to which the first frame of each video is aligned; default: the mean "
        "face",
    )
    parser.add_argument(
        "--size",
        type=whole_number(64, 512),
        default=256,
        help="width and height of the frames; default: %(default)s",
    )
    parser.add_argument(
        "--workers", type=whole_number(1), default=os.cpu_count() or 1, help="number of processes"
    )
    parser.add_argument(
        "--retry_skipped", action="store_true", help="retry videos that were skipped before"
    )
    parser.add_argument(
        "--beam_runner",
        help="prepare with Apache Beam on this runner, such as DirectRunner or FlinkRunner; "
        "flags after -- go to the runner",
    )
    parser.add_argument("beam_options", nargs="*", help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    run(lambda: _prepare(flags))


def _prepare(flags: argparse.Namespace) -> None:
    # An accelerator would not help, and every process would try to use it.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if flags.pose_network is not None:
        start_jax()
    # Imported here because it takes seconds and the flags may be wrong.
    from data.prepare import job
    from data.prepare.clip import Recipe
    from data.prepare.names import Selection

    options = runner_options(flags.beam_options) if flags.beam_runner else None
    report = job.run(
        flags.input,
        flags.output,
        Recipe(
            size=flags.size,
            pose_network=None if flags.pose_network is None else str(flags.pose_network.resolve()),
            template=None if flags.template is None else str(flags.template.resolve()),
        ),
        kind=flags.kind,
        labels=flags.labels,
        selection=Selection(flags.split, flags.view),
        workers=flags.workers,
        retry=flags.retry_skipped,
        beam_runner=flags.beam_runner,
        beam_options=options,
    )
    _print(report)


def _print(report: Report) -> None:
    from data.prepare.job import REPORT_FILE, reasons

    for path, why in list(report.skipped.items())[:SHOWN]:
        print(f"skipped {path}: {why}", file=sys.stderr)
    if len(report.skipped) > SHOWN:
        print(f"and {len(report.skipped) - SHOWN} more; all skipped videos:", file=sys.stderr)
        for why, count in reasons(report)[:SHOWN]:
            print(f"{count:8d}  {why}", file=sys.stderr)
    print(
        f"{report.output}: {report.clips} clips of {report.kind} ({report.made} new), poses "
        f"by {report.pose}, skipped videos: {len(report.skipped)}; {REPORT_FILE} lists them"
    )
    if not report.clips:
        raise UserError("no clip could be prepared; see the reasons above")


if __name__ == "__main__":
    main()
