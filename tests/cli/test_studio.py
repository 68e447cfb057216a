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

from tests.conftest import ROOT

needs_gradio = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="needs the extra 'app' (gradio)"
)


def studio(*flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "eamm_jax.app", *flags],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **variables},
        check=False,
    )


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


@needs_gradio
def test_a_port_that_is_taken_is_answered_in_one_line():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert one_line(studio("--port", port)) == (
            f"error: Cannot serve on 127.0.0.1, port {port}: address already in use; give "
            "another port or host"
        )


@needs_gradio
def test_a_folder_that_is_no_model_is_answered_in_one_line(tmp_path):
    flags = "--checkpoint", str(tmp_path), "--port", str(free_port())
    assert str(tmp_path) in one_line(studio(*flags))


def test_without_the_extra_it_says_how_to_install_it(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'gradio' else find(name, *a)\n"
    )
    assert 'pip install "eamm_jax[app]"' in one_line(studio(PYTHONPATH=str(tmp_path)))


def test_limits_that_let_nothing_through_are_refused():
    assert "jobs is 0" in one_line(studio("--jobs", "0"))


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
    warning, interrupted = said.splitlines()
    assert warning.startswith("warning: everybody who can reach 0.0.0.0")
    assert interrupted == "interrupted"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
