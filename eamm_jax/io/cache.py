"""Where compiled programs are kept between runs; a convenience, whose absence is no error."""

from __future__ import annotations

import logging
import os
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
