"""Where compiled programs are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

MIN_COMPILE_SECONDS = 0.3
"""Programs that compile faster than this are not worth a file."""


def cache_folder() -> Path:
    """The project's folder in the user's cache (`XDG_CACHE_HOME`, else `~/.cache`)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "eamm_jax"


def enable_compilation_cache() -> None:
    """Turns on JAX's persistent compilation cache, unless the user has set one up."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)
