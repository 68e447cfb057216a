"""Which renderer shows the people."""

from __future__ import annotations

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
