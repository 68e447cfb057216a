"""`eamm-verify`, `python -m eamm_jax.provenance verify`: says whether a video says what it is."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from eamm_jax.cli.tool import OneLineParser, print_listing, program, run

EXIT_NOT_MARKED = 1

COMMAND = "verify"
"""After `python -m eamm_jax.provenance`."""

DESCRIPTION = """\
Reads what a video or picture says about how it was made: signed Content Credentials, IPTC
metadata, and an invisible watermark in moving pictures. Exit code 0: marked by eamm_jax; 1: not,
which does not mean that it is a recording; 2: unreadable."""

EXAMPLE = """\
examples:
  %(prog)s outputs/demo.mp4
  %(prog)s --json downloaded.webm
"""


def flag_parser() -> OneLineParser:
    """The flags of this command."""
    name = program()
    if name.startswith("python -m"):
        name = f"{name} {COMMAND}"
    parser = OneLineParser(prog=name, description=DESCRIPTION, epilog=EXAMPLE)
    parser.add_argument("file", type=Path, help="mp4, mov, webm, png, jpeg ...")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _verify(flags: argparse.Namespace) -> int:
    from eamm_jax.provenance.verify import verify

    report = verify(flags.file)
    if flags.json:
        print_listing(json.dumps(report.as_dict(), indent=2))
    else:
        print_listing("\n".join(f"{what:12} {line}" for what, line in report.lines().items()))
    return 0 if report.marked else EXIT_NOT_MARKED


def main() -> None:
    """Parses the flags and reads the file."""
    words = sys.argv[1:]
    if words[:1] == [COMMAND]:
        words = words[1:]
    flags = flag_parser().parse_args(words)
    run(lambda: _verify(flags))


if __name__ == "__main__":
    main()
