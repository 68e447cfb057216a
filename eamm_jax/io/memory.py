"""Keeps freed memory in the process, for the next training step.

A training step on a CPU allocates and frees hundreds of megabytes of intermediate results. By
default the C library returns such blocks to the system at once, which has to clear their pages for
the next step: a fifth of the CPU time.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from importlib.metadata import entry_points

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # malloc.h of glibc

_NEVER = -1
"""Threshold that never returns memory; the largest number would be 2 GB, which steps exceed."""

_GROWTH = 64 << 20
"""Minimum growth of the heap, in bytes."""


def keep_freed_memory() -> bool:
    """Makes the C library keep freed memory if JAX runs on CPUs; call it before threads start.

    Returns:
        Whether this is so, and supported (glibc on Linux); elsewhere nothing changes.
    """
    if not sys.platform.startswith("linux") or not runs_on_cpu():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    settings = (
        (_MMAP_MAX, 0),  # allocate large blocks from the heap, too
        (_TRIM_THRESHOLD, _NEVER),
        (_TOP_PAD, _GROWTH),
        (_ARENA_MAX, 1),  # the heaps of threads would be returned regardless
    )
    return all(mallopt(name, value) for name, value in settings)


def runs_on_cpu() -> bool:
    """Whether JAX will run on CPUs, as far as can be told before it starts.

    The first of `JAX_PLATFORMS` decides, or else whether a plugin for accelerators is installed.
    """
    chosen = os.environ.get("JAX_PLATFORMS")
    if chosen:
        return chosen.split(",")[0].strip().lower() == "cpu"
    return not entry_points(group="jax_plugins") and importlib.util.find_spec("libtpu") is None
