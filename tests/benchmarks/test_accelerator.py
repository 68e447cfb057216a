"""The check of an accelerator, on a CPU with tiny networks; and that it invents nothing."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks import accelerator
from tests.conftest import ROOT

BARE = ("av", "grain", "orbax", "tensorboardX", "tensorflow_datasets", "librosa", "gradio", "soxr")
"""Packages that a bare machine does without, but for the input pipeline."""


@pytest.mark.exhaustive
def test_a_quick_check_needs_few_packages_and_finds_parity(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {BARE}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    words = [sys.executable, "benchmarks/accelerator.py", "--quick", "--minutes", "30"]
    words += ["--only", "parity", "inference", "training", "--json", str(tmp_path / "out.json")]
    done = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert all(row["pass"] for row in found["parity"].values())
    assert set(found["parity"]) == {"float32 by default", "float32", "bfloat16"}
    programs = found["inference"]["programs"]
    assert len(programs) == 2
    assert all(row["frames_a_second"] > 0 and row["gflop_a_frame"] > 0 for row in programs)
    assert found["inference"]["recompiled_after_first_chunk"] == 0
    assert found["training"]["stage1, bfloat16"]["seconds"] > 0
    assert found["left_out"] == ["sound to mp4 (PyAV is not installed)"]
    assert "not measured: sound to mp4" in done.stdout


def test_what_does_not_fit_is_said_and_not_measured():
    clock = accelerator.Clock(0.0)
    assert accelerator.measure_training(accelerator.FULL, clock) == {}
    assert accelerator.measure_input(accelerator.FULL, clock) == {}
    assert len(clock.left_out) == len(accelerator.FULL.steps) + 2
    assert "training stage1, bfloat16" in clock.left_out
    assert "training stage0, bfloat16, recomputed" in clock.left_out
