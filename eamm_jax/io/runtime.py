"""What is kept: compiled programs from run to run, and freed memory from step to step."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path

_log = logging.getLogger(__name__)

MIN_COMPILE_SECONDS = 0.3
"""Programs that compile faster than this are not worth a file."""


def cache_folder() -> Path | None:
    """The project's folder in the user's cache (`XDG_CACHE_HOME`, else `~/.cache`).

    Returns:
        A folder that can be written to, or None.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        folder = (base if base.is_absolute() else Path.home() / ".cache") / "eamm_jax"
        folder.mkdir(parents=True, exist_ok=True)
        usable = os.access(folder, os.W_OK | os.X_OK)
    except (OSError, RuntimeError, ValueError):  # no home, no permission, not a folder
        return None
    return folder if usable else None


def enable_compilation_cache() -> None:
    """Turns on JAX's persistent compilation cache, unless the user has set one up."""
    import jax

    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    folder = cache_folder()
    if folder is None:
        _log.info("no cache folder can be written to: programs are compiled anew in each run")
        return
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # malloc.h of glibc

_NEVER = -1
"""Threshold that never returns memory; the largest number would be 2 GB, which steps exceed."""

_GROWTH = 64 << 20
"""Minimum growth of the heap, in bytes."""


def keep_freed_memory() -> bool:
    """Makes the C library keep freed memory if JAX runs on CPUs; call it before threads start.

    A training step on a CPU allocates and frees hundreds of megabytes. By default the C library
    returns such blocks to the system at once, which has to clear their pages for the next step:
    a fifth of the CPU time.

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
