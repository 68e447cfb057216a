"""eamm-studio's flags and how it ends; the page is tested in tests/app."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from eamm_jax.cli import studio as command
from tests.conftest import ROOT

needs_gradio = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="needs the extra 'app' (gradio)"
)


@pytest.fixture
def refusal(monkeypatch, capsys):
    """Runs the command with flags that it refuses; returns the line that says so."""

    def run(*flags: str) -> str:
        monkeypatch.setattr(sys, "argv", ["eamm-studio", *flags])
        with pytest.raises(SystemExit) as ended:
            command.main()
        out, err = capsys.readouterr()
        assert (ended.value.code, out) == (2, "")
        (line,) = err.splitlines()
        return line

    return run


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


@needs_gradio
def test_a_port_that_is_taken_is_answered_in_one_line(refusal):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert refusal("--port", port) == (
            f"error: Cannot serve on 127.0.0.1, port {port}: address already in use; give "
            "another port or host"
        )


@needs_gradio
def test_a_folder_that_is_no_model_is_answered_in_one_line(refusal, tmp_path):
    assert str(tmp_path) in refusal("--checkpoint", str(tmp_path), "--port", str(free_port()))


def test_without_the_extra_it_says_how_to_install_it(refusal, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "gradio" else find(name, *rest),
    )
    assert 'pip install "eamm_jax[app]"' in refusal()


def test_limits_that_let_nothing_through_are_refused(refusal):
    assert "jobs is 0" in refusal("--jobs", "0")


@needs_gradio
@pytest.mark.slow
def test_others_who_can_come_in_are_told_of_and_ctrl_c_ends_it(tmp_path):
    # What is started in a shell's background ignores Ctrl-C, and so would its children.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "eamm_jax.app", "--host", "0.0.0.0", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "TMPDIR": str(tmp_path)},
    )
    assert f"open at http://0.0.0.0:{port}" in process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    loading, warning, interrupted = said.splitlines()
    assert loading == "Loading the model ..."
    assert warning.startswith("warning: everybody who can reach 0.0.0.0")
    assert interrupted == "interrupted"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
