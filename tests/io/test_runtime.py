"""What is kept: compiled programs, where there is a place for them, and freed runtime."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from eamm_jax.io import runtime
from tests.conftest import ROOT

# --- Compiled programs: a convenience, without which everything works -----------------------


def make_unusable(kind: str, folder: Path, environment: dict[str, str]) -> None:
    environment.pop("XDG_CACHE_HOME", None)
    environment["HOME"] = str(folder)
    if kind == "home is not there":
        environment["HOME"] = "/proc/nowhere"
    elif kind == "cache is a file":
        (folder / ".cache").touch()
    elif kind == "ours is a file":
        (folder / ".cache").mkdir()
        (folder / ".cache" / "eamm_jax").touch()
    elif kind == "a name too long":
        environment["XDG_CACHE_HOME"] = "/" + "x" * 5000
    elif kind == "a dangling link":
        (folder / ".cache").symlink_to(folder / "gone" / "away")


KINDS = [
    "home is not there",
    "cache is a file",
    "ours is a file",
    "a name too long",
    "a dangling link",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_cannot_be_used_is_no_folder(tmp_path, monkeypatch, kind):
    environment: dict[str, str] = {}
    make_unusable(kind, tmp_path, environment)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert runtime.cache_folder() is None


def test_no_home_at_all(monkeypatch):
    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", fail)
    assert runtime.cache_folder() is None


def test_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    assert runtime.cache_folder() is None


@pytest.mark.parametrize("given", ["absolute", "relative"])
def test_the_users_folder_is_used(tmp_path, monkeypatch, given):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x") if given == "absolute" else "x")
    base = tmp_path / "x" if given == "absolute" else tmp_path / "home" / ".cache"
    assert runtime.cache_folder() == base / "eamm_jax"
    assert (base / "eamm_jax").is_dir()


def test_without_a_cache_programs_still_compile(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    make_unusable("cache is a file", tmp_path, environment)
    code = (
        "from eamm_jax.io.runtime import enable_compilation_cache as enable; enable(); import jax;"
        "print(jax.config.jax_compilation_cache_dir, jax.jit(lambda x: x + 1)(1))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.split() == ["None", "2"]


# --- Freed memory: using as much again costs no page faults -----------------------------------

COUNT_FAULTS = """
import resource, sys
import numpy as np
from eamm_jax.io.runtime import keep_freed_memory

how, num_bytes, touched = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if how == "keep":
    assert keep_freed_memory()
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(num_bytes, np.uint8)[:: num_bytes // touched] = 1
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str, num_bytes: int, touched: int) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS, how, str(num_bytes), str(touched)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={"PATH": "", "NUMPY_MADVISE_HUGEPAGE": "0", "JAX_PLATFORMS": "cpu"},
        check=True,
    )
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of another C library")
@pytest.mark.parametrize("num_bytes", [100 << 20, 3 << 30])
def test_freed_memory_is_kept(num_bytes):
    pages = 20_000
    *_, last_without = page_faults("", num_bytes, pages)
    first, *_, last = page_faults("keep", num_bytes, pages)
    assert min(last_without, first) > pages / 2
    assert last < pages / 100


def test_other_systems_are_unchanged(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not runtime.keep_freed_memory()


@pytest.mark.parametrize(
    ("platforms", "plugins", "expected"),
    [
        ("cpu", ["cuda"], True),
        ("cuda,cpu", [], False),
        ("tpu", [], False),
        ("", ["cuda"], False),
        ("", [], True),
    ],
)
def test_allocation_changes_on_cpus_only(monkeypatch, platforms, plugins, expected):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.setattr(runtime, "entry_points", lambda group: plugins)
    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda name: None)
    assert runtime.runs_on_cpu() == expected
    if not expected:
        assert not runtime.keep_freed_memory()
