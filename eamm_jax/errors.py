"""Bad input from outside, reported in one line, and how messages name what is in a file."""

from __future__ import annotations

from collections.abc import Sequence

MAX_NAMES = 5
"""How many names a message lists before it counts the rest."""

MAX_NAME_LENGTH = 100
"""Longer names, longer than any published one, are cut."""


class UserError(Exception):
    """Bad input from outside: a file, a flag, a checkpoint.

    The message is one line that says what was given, what is wrong with it and
    what to do. Command-line tools print it to standard error and exit with code 2;
    every other exception is a defect of ours and keeps its traceback.
    """


def out_of_memory(error: Exception) -> UserError | None:
    """The error in words where it says that the memory of the machine or of a device is used up."""
    # JAX's error for a device without memory is a RuntimeError that begins with this word.
    of_device = isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    if not (of_device or isinstance(error, MemoryError)):
        return None
    return UserError(f"out of memory: {' '.join(str(error).split())}")


def printable(name: str) -> str:
    """A name from a file, safe to show on a terminal."""
    short = name if len(name) <= MAX_NAME_LENGTH else f"{name[:MAX_NAME_LENGTH]}..."
    return short if short.isprintable() else repr(short)


def named(names: Sequence[str]) -> str:
    """Names for a message: the first few, and how many more."""
    shown = ", ".join(map(printable, names[:MAX_NAMES]))
    return shown if len(names) <= MAX_NAMES else f"{shown} and {len(names) - MAX_NAMES} more"


def shape_text(shape: Sequence[int]) -> str:
    """(64, 3, 7, 7) as "64x3x7x7"."""
    return "x".join(str(n) for n in shape) or "a scalar"
