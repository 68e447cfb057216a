"""Which renderer shows the people."""

from __future__ import annotations

import argparse
from typing import NamedTuple

DRAWN, HEADS = "drawn", "heads"
RENDERERS = (DRAWN, HEADS)


class Renderer(NamedTuple):
    """How people are shown.

    Attributes:
        kind: one of `RENDERERS`.
        head_model: file for `HEADS`; None looks in the cache folder.
    """

    kind: str = DRAWN
    head_model: str | None = None


DRAWING = Renderer()
"""Needs no file."""


def add_renderer_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--renderer` and `--head_model`, the fields of a `Renderer`."""
    parser.add_argument(
        "--renderer",
        choices=RENDERERS,
        default=DRAWN,
        help="people drawn, or rendered from a head model (default drawn)",
    )
    parser.add_argument(
        "--head_model",
        metavar="FILE",
        help="made by `python -m data.synthetic.head_model` (default: in the cache folder)",
    )
