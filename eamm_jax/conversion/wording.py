"""Names and shapes from a file in messages: short, on one line, fit for a terminal."""

from __future__ import annotations

MAX_NAMES = 5
"""How many tensors a message names before it counts the rest."""

MAX_NAME_LENGTH = 100
"""Longer names than any published one are cut."""


def printable(name: str) -> str:
    """A name from a file, fit for a terminal."""
    short = name if len(name) <= MAX_NAME_LENGTH else f"{name[:MAX_NAME_LENGTH]}..."
    return short if short.isprintable() else repr(short)


def named(names: list[str]) -> str:
    """Names for a message: the first few, and how many more."""
    shown = ", ".join(map(printable, names[:MAX_NAMES]))
    return shown if len(names) <= MAX_NAMES else f"{shown} and {len(names) - MAX_NAMES} more"


def shape_text(shape: tuple[int, ...]) -> str:
    """(64, 3, 7, 7) as "64x3x7x7"."""
    return "x".join(str(n) for n in shape) or "a scalar"
