"""`eamm-studio`, `python -m eamm_jax.app`: animates portraits from a page in the browser."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from eamm_jax import bundled
from eamm_jax.cli.tool import (
    EXIT_TERMINATED,
    LARGEST_CHUNK,
    OneLineParser,
    run,
    start_jax,
    whole_number,
)
from eamm_jax.constants import DTYPES

if TYPE_CHECKING:
    from eamm_jax.animate import Animator

DESCRIPTION = """\
Serves a page on which a portrait, a voice and an emotion become a talking face. Only this
computer reaches it, nothing is sent anywhere, and it works without a network. Ctrl-C ends it;
all that was uploaded or made is deleted then, and some time after it was used."""

EXAMPLE = """\
examples:
  %(prog)s
  %(prog)s --checkpoint weights --port 8000
"""


def flag_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = OneLineParser(
        prog="eamm-studio",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=bundled.MODEL,
        metavar="DIR",
        help="model: folder written by eamm-convert or eamm-train; default: the one "
        "that comes with the package",
    )
    where = parser.add_argument_group("where")
    where.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to serve on; default: %(default)s, this "
        "computer alone; 0.0.0.0 is everybody who can reach it",
    )
    where.add_argument("--port", type=int, default=7860, help="default: %(default)s")

    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max_upload", type=int, default=50, metavar="MB", help="of a file; default: %(default)s"
    )
    limits.add_argument(
        "--max_seconds", type=float, default=60, help="of a voice; default: %(default)s"
    )
    limits.add_argument(
        "--max_video_seconds", type=float, default=30, help="of a video; default: %(default)s"
    )
    limits.add_argument(
        "--jobs", type=int, default=1, help="animations computed at a time; default: %(default)s"
    )
    limits.add_argument(
        "--max_waiting", type=int, default=8, help="animations that wait; default: %(default)s"
    )
    limits.add_argument(
        "--keep_minutes",
        type=float,
        default=60,
        help="how long uploads and results are kept; default: %(default)s",
    )

    running = parser.add_argument_group("running")
    running.add_argument(
        "--chunk",
        type=whole_number(1, LARGEST_CHUNK),
        default=8,
        metavar="N",
        help="frames computed at a time; default: %(default)s",
    )
    running.add_argument("--dtype", choices=DTYPES, default="float32", help="default: %(default)s")
    running.add_argument("--cpu", action="store_true", help="use the CPU even if there is a GPU")
    return parser


def _serve(flags: argparse.Namespace) -> None:
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    from eamm_jax.app import server
    from eamm_jax.app.limits import Limits

    limits = Limits(
        upload_megabytes=flags.max_upload,
        speech_seconds=flags.max_seconds,
        video_seconds=flags.max_video_seconds,
        jobs=flags.jobs,
        waiting=flags.max_waiting,
        keep_minutes=flags.keep_minutes,
    )

    def load() -> Animator:
        from eamm_jax.animate import Animator
        from eamm_jax.io.cache import enable_compilation_cache

        start_jax(cpu=flags.cpu)
        enable_compilation_cache()
        return Animator.from_checkpoint(
            flags.checkpoint, emotion=None, chunk=flags.chunk, dtype=flags.dtype
        )

    with server.serving(load, flags.checkpoint, flags.host, flags.port, limits) as address:
        if not server.is_loopback(flags.host):
            print(
                f"warning: everybody who can reach {flags.host} can use the studio and this "
                "computer's time; there is no password and no encryption",
                file=sys.stderr,
            )
        print(f"The studio is open at {address} (Ctrl-C ends it)", flush=True)
        try:
            server.wait()
        except SystemExit as ended:
            # To be told to end is how a server ends.
            if ended.code != EXIT_TERMINATED:
                raise


def main() -> None:
    """Parses the flags and serves."""
    flags = flag_parser().parse_args()
    run(lambda: _serve(flags))
