"""What people are rendered from."""

from __future__ import annotations

import argparse
from typing import NamedTuple


class Renderer(NamedTuple):
    """What people are rendered from.

    Attributes:
        head_model: file of the head model; None looks in the cache folder.
        photos: one file for each person; without, the people are invented.
    """

    head_model: str | None = None
    photos: tuple[str, ...] = ()


HEADS = Renderer()
"""Invented people, by the head model in the cache folder."""


def add_head_model_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--head_model`."""
    parser.add_argument(
        "--head_model",
        metavar="FILE",
        help="made by `python -m data.synthetic.head_model` (default: in the cache folder)",
    )
