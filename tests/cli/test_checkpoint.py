"""python -m eamm_jax.checkpoint: what a model holds, or one line."""

from __future__ import annotations

import runpy
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.fixture
def listing(monkeypatch, capsys):
    """Runs the command; its exit code and what it said."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["checkpoint", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("eamm_jax.checkpoint", run_name="__main__", alter_sys=True)
        return ended.value.code, *capsys.readouterr()

    return run


def test_a_model_is_listed(listing, files):
    code, out, err = listing(files["weights"])
    assert (code, err) == (0, "")
    assert out.startswith(f"{files['weights']}: ")
    assert "\ngenerator: " in out


@pytest.mark.parametrize("words", [[], ["no"], ["a", "b"], ["--no_such_flag"]])
def test_what_is_wrong_is_said_in_one_line(listing, words):
    code, out, err = listing(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_reader_that_has_seen_enough(files):
    process = subprocess.Popen(
        [sys.executable, "-m", "eamm_jax.checkpoint", files["weights"]],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()  # as `head` does
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
