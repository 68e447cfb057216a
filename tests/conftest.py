"""Where tests find the shared reference material, and the compilation cache they share."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared_folder() -> Path:
    return Path(os.environ.get("EAMM_SHARED", ROOT.parent / "shared")).resolve()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material and real media; tests that need it skip without it."""
    folder = shared_folder()
    if not (folder / "reference").is_dir():
        pytest.skip(f"no reference material in {folder} (set EAMM_SHARED)")
    return folder


class Goldens:
    """Outputs of the published code, and the seed and media they were made from."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.meta = json.loads((folder / "meta.json").read_text())
        self.media_root = (folder / self.meta["media_root"]).resolve()

    def load(self, name: str) -> dict[str, np.ndarray]:
        with np.load(self.folder / name) as arrays:
            return dict(arrays)

    def media(self, key: str) -> Path | list[Path]:
        value = self.meta[key]
        if isinstance(value, list):
            return [self.media_root / v for v in value]
        return self.media_root / value


@pytest.fixture(scope="session")
def goldens(shared: Path) -> Goldens:
    folder = Path(os.environ.get("EAMM_GOLDENS", shared / "reference" / "goldens")).resolve()
    if not (folder / "meta.json").is_file():
        pytest.skip(f"no goldens in {folder} (set EAMM_GOLDENS)")
    return Goldens(folder)


@pytest.fixture(scope="session")
def synthetic_weights(shared: Path):
    """The module that writes stand-ins of the published checkpoints."""
    path = shared / "reference" / "synthetic_weights.py"
    spec = importlib.util.spec_from_file_location("synthetic_weights", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def _compilation_cache() -> None:
    cache = os.environ.get("EAMM_TEST_CACHE")
    if cache:
        jax.config.update("jax_compilation_cache_dir", cache)
