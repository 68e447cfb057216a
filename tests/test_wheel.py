"""The built wheel in a fresh environment: every command works from any folder, without a clone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import wave
from pathlib import Path

import pytest

import eamm_jax
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """Its folder of commands. Dependencies are those of the environment that runs the tests."""
    pytest.importorskip("hatchling", reason="building a wheel needs hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True, timeout=120
    )
    python = folder / "env" / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (site,) = (folder / "env").glob(f"lib/{version}/site-packages")
    # Only folders that Python itself lists have their .pth files read, so a clone that the
    # tests run from stays out of sight.
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "dependencies.pth").write_text("\n".join(others) + "\n")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps"]
    install += ["--no-index", "--disable-pip-version-check", wheel]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    return python.parent


@pytest.fixture
def run(environment, tmp_path):
    """Runs a command in an empty folder."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run_command(name: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [environment / name, *words],
            cwd=tmp_path,
            env={**variables, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run_command


def test_the_package_is_the_installed_one_and_typed(run, environment):
    shown = run("python", "-c", "import eamm_jax; print(eamm_jax.__file__, eamm_jax.__version__)")
    file, version = shown.stdout.split()
    assert Path(file).is_relative_to(environment.parent)
    assert version == eamm_jax.__version__
    assert Path(file).with_name("py.typed").is_file()


def test_infer_makes_a_video_with_what_comes_with_the_package(run, tmp_path):
    with wave.open(str(tmp_path / "short.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(os.urandom(16000))
    done = run("eamm-infer", "--in_file", "short.wav", "--emotion", "happy")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outputs" / "portrait_short_happy.mp4").stat().st_size


def test_train_finds_configurations_by_name(run):
    known = run("eamm-train", "--config=stage1:tiny", "--workdir=run")
    assert (known.returncode, known.stdout) == (2, "")
    assert known.stderr.startswith("error: stage1 needs trained kp_detector, generator: give")
    unknown = run("eamm-train", "--config=stage9", "--workdir=run")
    assert unknown.returncode == 2
    assert "stage0, stage1, stage1_finetune, stage2" in unknown.stderr


@pytest.mark.parametrize("command", ["eamm-infer", "eamm-convert", "eamm-train", "eamm-studio"])
def test_help_names_the_command_as_it_was_typed(run, command):
    shown = run(command, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert command in shown.stdout
    assert ".py " not in shown.stdout


def test_convert_reads_a_published_file(run, tmp_path, synthetic_weights):
    state = synthetic_weights.build_state_dicts(0, ["1-6000.pth.tar"])["1-6000.pth.tar"]
    synthetic_weights.torch_save(dict(state), tmp_path / "1-6000.pth.tar")
    done = run("eamm-convert", "--audio_checkpoint", "1-6000.pth.tar", "--output", "weights")
    assert done.returncode == 0, done.stderr
    assert any((tmp_path / "weights").iterdir())


def test_studio_serves_its_page(environment, tmp_path):
    pytest.importorskip("gradio", reason="needs the extra 'app'")
    from tests.cli.test_studio import free_port

    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = subprocess.Popen(
        [environment / "eamm-studio", "--cpu", "--port", str(free_port())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=variables,
    )
    assert "The studio is open at" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (0, "Loading the model ...\n")
