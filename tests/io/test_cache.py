"""The compilation cache is a convenience: without one everything works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eamm_jax.io import cache
from tests.conftest import ROOT


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
    assert cache.cache_folder() is None


def test_no_home_at_all(monkeypatch):
    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", fail)
    assert cache.cache_folder() is None


def test_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    assert cache.cache_folder() is None


@pytest.mark.parametrize("given", ["absolute", "relative"])
def test_the_users_folder_is_used(tmp_path, monkeypatch, given):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x") if given == "absolute" else "x")
    base = tmp_path / "x" if given == "absolute" else tmp_path / "home" / ".cache"
    assert cache.cache_folder() == base / "eamm_jax"
    assert (base / "eamm_jax").is_dir()


def test_without_a_cache_programs_still_compile(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    make_unusable("cache is a file", tmp_path, environment)
    code = (
        "from eamm_jax.io.cache import enable_compilation_cache as enable; enable(); import jax;"
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
