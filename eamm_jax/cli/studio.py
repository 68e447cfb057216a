"""`eamm-studio`, `python -m eamm_jax.app`: animates portraits from a page in the browser."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING

from eamm_jax.app.limits import Limits
from eamm_jax.cli.provenance import add_signer, identity_of
from eamm_jax.cli.tool import EXIT_TERMINATED, OneLineParser, add_shared, fields_of, run, start_jax

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
    parser = OneLineParser(description=DESCRIPTION, epilog=EXAMPLE)
    add_shared(parser, "checkpoint")
    add_server_flags(parser, port=7860)
    running = parser.add_argument_group("running")
    add_shared(running, "chunk", "dtype", "cpu")
    return parser


def load(flags: argparse.Namespace) -> Animator:
    """The model that the flags name."""
    from eamm_jax.animate import Animator
    from eamm_jax.checkpoint import load_config

    load_config(flags.checkpoint)  # that there is a model
    print("Loading the model ...", file=sys.stderr, flush=True)
    start_jax(cpu=flags.cpu)
    return Animator.from_checkpoint(
        flags.checkpoint, emotion=None, chunk=flags.chunk, dtype=flags.dtype
    )


def add_server_flags(parser: argparse.ArgumentParser, port: int) -> None:
    """Adds what all servers have: an address, and limits on their visitors."""
    where = parser.add_argument_group("where")
    where.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to serve on; default: %(default)s, this "
        "computer alone; 0.0.0.0 is everybody who can reach it",
    )
    where.add_argument("--port", type=int, default=port, help="default: %(default)s")

    limits = parser.add_argument_group("limits")
    for flag, field, kind, words in (
        ("max_upload", "upload_megabytes", int, "megabytes of a file"),
        ("max_seconds", "speech_seconds", float, "of a voice"),
        ("max_video_seconds", "video_seconds", float, "of a video"),
        ("jobs", "jobs", int, "animations computed at a time"),
        ("max_waiting", "waiting", int, "animations that wait"),
        ("listeners", "listeners", int, "streams of speech at a time"),
        ("keep_minutes", "keep_minutes", float, "how long uploads and results are kept"),
    ):
        default = getattr(Limits(), field)
        words = f"{words}; default: %(default)s"
        limits.add_argument(
            f"--{flag}", dest=field, type=kind, default=default, metavar="N", help=words
        )
    add_signer(parser.add_argument_group("who signs the videos"))


def _serve(flags: argparse.Namespace) -> None:
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    from eamm_jax.app import server
    from eamm_jax.provenance.marking import Provenance

    limits = Limits(**fields_of(Limits, vars(flags)))
    loading = partial(load, flags)
    provenance = Provenance(identity_of(flags))
    with server.serving(
        loading, flags.checkpoint, flags.host, flags.port, limits, provenance
    ) as address:
        if not server.is_loopback(flags.host):
            print(
                f"warning: everybody who can reach {flags.host} can use the studio and this "
                "computer's time; there is no password and no encryption",
                file=sys.stderr,
            )
        try:
            print(f"The studio is open at {address} (Ctrl-C ends it)", flush=True)
            threading.Event().wait()
        except SystemExit as ended:
            # To be told to end is how a server ends.
            if ended.code != EXIT_TERMINATED:
                raise


def main() -> None:
    """Parses the flags and serves."""
    flags = flag_parser().parse_args()
    run(lambda: _serve(flags))


if __name__ == "__main__":
    main()
