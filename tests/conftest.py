"""Where tests find the shared reference material, their order, and the compilation cache."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Most of the tests' time is spent in the compiler, which is several times as fast so;
# convolutions and matrix products are library code either way. Set before JAX starts;
# subprocesses inherit it.
QUICK_COMPILE = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if version("jaxlib") < "0.11":  # later ones end at a flag they do not know
    QUICK_COMPILE += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", QUICK_COMPILE)

# Products of float64 matrices are no library code: without this they take five times as long.
FLOAT64_COMPILE = {"xla_backend_optimization_level": 2}

# Programs are compiled once, by whichever process or run needs them first; subprocesses inherit
# this too. Processes that a test kills can leave half a file, which JAX warns of and passes over.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import numpy as np
import pytest
from filelock import FileLock

LONG_FILES = {
    "animate/test_animator.py",
    "training/test_golden.py",
    "training/test_overfit.py",
    "training/test_runs.py",
}
"""Those that take more than a minute."""

# Roles as `conversion.published.ROLES` names them.
PUBLISHED_FILES = {
    "checkpoint": "124_52000.pth.tar",
    "audio": "1-6000.pth.tar",
    "emotion": "5-3000.pth.tar",
    "vgg": "vgg19.pth",
}


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


def convert_stand_ins(synthetic_weights, seed: int, folder: Path) -> Path:
    """A checkpoint of all stand-ins of a seed, converted as a user would."""
    from eamm_jax.conversion.published import convert_files

    paths = {}
    for role, name in PUBLISHED_FILES.items():
        state = synthetic_weights.build_state_dicts(seed, [name])[name]
        # A file that is one network stands there without a name.
        content = state.pop("", None) or dict(state)
        synthetic_weights.torch_save(content, folder / name)
        paths[role] = folder / name
    convert_files(paths, folder / "checkpoint")
    for path in paths.values():
        path.unlink()
    return folder / "checkpoint"


@pytest.fixture(scope="session")
def published_checkpoint(goldens: Goldens, synthetic_weights, tmp_path_factory) -> Path:
    """All stand-ins of the goldens' seed, converted; made once, by the first process."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which its processes share
    checkpoint = folder / "published" / "checkpoint"
    with FileLock(folder / "published.lock"):
        if not checkpoint.is_dir():
            checkpoint.parent.mkdir(exist_ok=True)
            convert_stand_ins(synthetic_weights, goldens.meta["seed"], checkpoint.parent)
    return checkpoint


@pytest.fixture(scope="session")
def published_variables(published_checkpoint: Path):
    """Variables of every network, by name, with the stand-ins' values."""
    from eamm_jax.checkpoint import load_networks

    return load_networks(published_checkpoint)[1]


@pytest.fixture(autouse=True, scope="session")
def own_configuration(tmp_path_factory) -> Iterator[None]:
    """The certificate that videos are signed with is made for the tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("configuration")))
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, so that most mistakes show within minutes; then the longest files.

    Processes that share the work get a file at a time: a long one must not be left for the end.
    """

    def order(item: pytest.Item) -> int:
        if item.get_closest_marker("slow") is None:
            return 0
        return 1 if item.path.relative_to(ROOT / "tests").as_posix() in LONG_FILES else 2

    items.sort(key=order)
