"""Keeps the memory that one step frees for the next.

A step of training on a CPU takes hundreds of megabytes for what lies in between, and gives
them back. By default the C library returns such blocks to the system at once, which then has
to clear them, page by page, for the next step: a fifth of the processor's time.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # malloc.h of glibc

_NEVER = -1
"""As a threshold for giving memory back; the largest number would be 2 GB, which steps exceed."""

_GROWTH = 64 << 20
"""Bytes by which the heap grows at least."""


def keep_freed_memory() -> bool:
    """Has the C library keep what is freed; call it before threads start.

    Returns:
        Whether it could be done (glibc on Linux); elsewhere nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    settings = (
        (_MMAP_MAX, 0),  # large blocks too come from the heap
        (_TRIM_THRESHOLD, _NEVER),
        (_TOP_PAD, _GROWTH),
        (_ARENA_MAX, 1),  # the heaps of threads are given back whatever is set
    )
    return all(mallopt(name, value) for name, value in settings)
