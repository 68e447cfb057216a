"""Freed memory is kept: using as much again costs no page faults."""

import platform
import subprocess
import sys

import pytest

from eamm_jax.io import memory
from tests.conftest import ROOT

COUNT_FAULTS = """
import resource, sys
import numpy as np
from eamm_jax.io.memory import keep_freed_memory

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
    assert not memory.keep_freed_memory()


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
    monkeypatch.setattr(memory, "entry_points", lambda group: plugins)
    monkeypatch.setattr(memory.importlib.util, "find_spec", lambda name: None)
    assert memory.runs_on_cpu() == expected
    if not expected:
        assert not memory.keep_freed_memory()
