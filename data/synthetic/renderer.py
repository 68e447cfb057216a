"""Which renderer shows the people."""

from __future__ import annotations

import argparse
from typing import NamedTuple

DRAWN, HEADS, PHOTOS = "drawn", "heads", "photos"


class Renderer(NamedTuple):
    """How people are shown.

    Attributes:
        kind: `DRAWN`, rendered `HEADS`, or people in `PHOTOS` by the head model.
        head_model: file for the last two; None looks in the cache folder.
        photos: one file for each person, for `PHOTOS`.
    """

    kind: str = DRAWN
    head_model: str | None = None
    photos: tuple[str, ...] = ()


DRAWING = Renderer()
"""Needs no file."""


def add_renderer_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--renderer` and `--head_model`."""
    parser.add_argument(
        "--renderer",
        choices=(DRAWN, HEADS),
        default=DRAWN,
        help="people drawn, or rendered from a head model (default drawn)",
    )
    parser.add_argument(
        "--head_model",
        metavar="FILE",
        help="made by `python -m data.synthetic.head_model` (default: in the cache folder)",
    )
