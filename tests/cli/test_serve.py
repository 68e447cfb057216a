"""`eamm-serve` as a user starts and ends it, and the client of docs/serving.md."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec

import pytest

from eamm_jax import bundled
from eamm_jax.cli.serve import TOKEN, token_of
from eamm_jax.constants import SAMPLE_RATE
from eamm_jax.errors import UserError
from eamm_jax.io.audio import read_speech, write_wav
from tests.conftest import ROOT

needs_fastapi = pytest.mark.skipif(find_spec("fastapi") is None, reason="needs eamm_jax[app]")


def test_the_token_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv(TOKEN, raising=False)
    assert token_of(None) is None
    monkeypatch.setenv(TOKEN, "known")
    assert token_of(None) == "known"
    (tmp_path / "token").write_text(" secret\n")
    assert token_of(tmp_path / "token") == "secret"
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(UserError, match="holds no token"):
        token_of(tmp_path / "empty")
    with pytest.raises(UserError, match="nowhere"):
        token_of(tmp_path / "nowhere")


def start(tmp_path, *flags: str) -> tuple[subprocess.Popen, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "eamm_jax.cli.serve", "--port", str(port), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "TMPDIR": str(tmp_path)},
    )
    said = process.stdout.readline()
    assert f"Serving at http://127.0.0.1:{port}" in said, process.stderr.read()
    return process, f"http://127.0.0.1:{port}"


@needs_fastapi
@pytest.mark.slow
def test_the_documented_client_gets_its_video_and_nothing_stays(tmp_path):
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "serving.md").read_text(), re.DOTALL)
    (tmp_path / "client.py").write_text(code[1])
    temporary = tmp_path / "tmp"
    temporary.mkdir()

    killed, _ = start(temporary)
    killed.kill()
    killed.communicate()
    assert len(list(temporary.glob("eamm_serve_*"))) == 1

    server, address = start(temporary)
    assert len(list(temporary.glob("eamm_serve_*"))) == 1
    write_wav(tmp_path / "voice.wav", read_speech(bundled.SPEECH)[:SAMPLE_RATE])
    words = [sys.executable, "client.py", address, bundled.PORTRAIT, "voice.wav", "out.mp4"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.mp4").stat().st_size > 10_000
    words[3] = "client.py"
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not an image file" in done.stderr

    server.send_signal(signal.SIGTERM)
    _, said = server.communicate(timeout=60)
    assert server.returncode == 0, said
    assert said == "Loading the model ...\n"
    assert not list(temporary.glob("eamm_*"))
