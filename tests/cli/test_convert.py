"""The command `eamm-convert`: its flags, what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import eamm_jax
from eamm_jax.checkpoint import load_networks, load_provenance
from eamm_jax.cli.convert import main
from eamm_jax.conversion import published
from eamm_jax.models.presets import tiny
from tests.conversion import torch_files
from tests.conversion.stand_ins import write_all, write_file
from tests.conversion.torch_files import Call, Name

ROOT = Path(eamm_jax.__file__).parents[1]


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs the command; returns its exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments):
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        signal.signal(signal.SIGTERM, before)
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


@pytest.fixture
def tiny_models(monkeypatch):
    """Lets the command expect tiny networks instead of the published ones."""
    monkeypatch.setattr(published, "published", tiny)


def test_a_conversion(run, tmp_path, tiny_models):
    paths = write_all(tmp_path)
    code, out, err = run(
        *("--checkpoint", paths["checkpoint"]),
        *("--audio_checkpoint", paths["audio"]),
        *("--emotion_checkpoint", paths["emotion"]),
        *("--output", tmp_path / "model"),
    )
    assert code == 0, err
    config, loaded = load_networks(tmp_path / "model")
    assert config == tiny()
    for network, variables in loaded.items():
        assert network in out
        assert variables["params"]
    report = load_provenance(tmp_path / "model")
    for source in report["sources"]:
        assert source["sha256"] in out
    assert "skipped optimizer_x (1 tensors)" in out
    assert "the copy in 5-3000.pth.tar was left (identical)" in out
    assert "discriminator: with spectral norm; sees image" in out
    assert f"Wrote {tmp_path / 'model'} in " in out


def test_quiet_prints_nothing(run, tmp_path, tiny_models):
    path = write_file(tmp_path, "audio")
    ended = run("--audio_checkpoint", path, "--output", tmp_path / "model", "--quiet")
    assert ended == (0, "", "")
    assert (tmp_path / "model").is_dir()


def test_overwriting(run, tmp_path, tiny_models):
    arguments = ("--audio_checkpoint", write_file(tmp_path, "audio"), "--output", tmp_path / "m")
    assert run(*arguments)[0] == 0
    code, _, err = run(*arguments)
    assert code == 2
    assert "--overwrite" in err
    assert run(*arguments, "--overwrite")[0] == 0


def test_inspection(run, tmp_path):
    path = write_file(tmp_path, "audio", prefix="module.")
    code, out, err = run("--inspect", path)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(f"{path}: ")
    assert "zip format; it looks like the audio checkpoint" in lines[0]
    assert "epoch = 3" in lines
    assert "  lstm.bias_hh_l1  128  float32" in lines
    assert "  down_blocks.0.norm.num_batches_tracked  a scalar  int64" in lines
    assert "optimizer_x: 1 tensors, not converted" in lines


def test_inspection_of_an_unknown_file(run, tmp_path):
    content = {"net\x1b[2J": {"weight": np.ones(3)}}
    code, out, _ = run("--inspect", torch_files.save(content, tmp_path / "x.pth"))
    assert code == 0
    assert out.splitlines()[1:] == [
        r"'net\x1b[2J': not a known network",
        r"  'net\x1b[2J.weight'  3  float64",
    ]


# --- bad input: one line, exit code 2 -----------------------------------------------------


def assert_refused(ended, words: str) -> None:
    code, out, err = ended
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


def test_flags_that_are_missing_or_too_many(run, tmp_path):
    assert_refused(run(), "--output is missing")
    assert_refused(run("--output", tmp_path / "m"), "Nothing to convert: give at least one of")
    assert_refused(run("--inspect", "a", "--vgg", "b"), "--inspect stands alone")
    assert_refused(run("--inspect", "a", "--output", "b"), "--inspect stands alone")


def test_unknown_flags(run):
    assert_refused(run("--audio", "x"), "unrecognized arguments: --audio x")


def bad_files(folder: Path) -> dict[str, tuple[bytes, str]]:
    """What a file may hold, and what is said of it."""
    sound = write_file(folder, "checkpoint").read_bytes()
    hostile = {"generator": Call(Name("os", "system"), ("touch canary",))}
    return {
        "truncated": (sound[: len(sound) // 2], "truncated or damaged"),
        "text": (b"not weights at all\n", "is not a PyTorch checkpoint"),
        "empty": (b"", "the file is empty"),
        "web page": (b"<!DOCTYPE html><html></html>", "is a web page"),
        "hostile": (torch_files.zip_bytes(hostile), "refused: it asks for 'os.system'"),
        "hostile stream": (torch_files.stream_bytes(hostile), "refused: it asks for 'os.system'"),
    }


@pytest.mark.parametrize("flag", ["--checkpoint", "--inspect"])
def test_bad_files(run, tmp_path, flag, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = () if flag == "--inspect" else ("--output", tmp_path / "model")
    for name, (data, words) in bad_files(tmp_path).items():
        path = tmp_path / f"{name}.pth.tar"
        path.write_bytes(data)
        assert_refused(run(flag, path, *output), words)
    assert_refused(run(flag, tmp_path / "absent", *output), "No such")
    assert_refused(run(flag, tmp_path, *output), "folder")
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "canary").exists()


def test_a_file_in_anothers_place(run, tmp_path):
    path = write_file(tmp_path, "audio")
    ended = run("--checkpoint", path, "--output", tmp_path / "model")
    assert_refused(ended, "it looks like the audio checkpoint (1-6000.pth.tar)")


def test_networks_of_another_size(run, tmp_path):
    path = write_file(tmp_path, "audio")
    ended = run("--audio_checkpoint", path, "--output", tmp_path / "model")
    assert_refused(ended, "misshapen: ")
    assert not (tmp_path / "model").exists()


# --- the process --------------------------------------------------------------------------


def start(*arguments, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "convert_torch_weights.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_reader_that_has_seen_enough(tmp_path):
    path = write_file(tmp_path, "emotion")
    process = start("--inspect", path)
    process.stdout.close()  # as `head` does
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")


@pytest.fixture(scope="module")
def stand_ins(synthetic_weights, tmp_path_factory) -> dict[str, Path]:
    """Full-size stand-ins of all published files."""
    folder = tmp_path_factory.mktemp("stand_ins")
    paths = {}
    flags = ("--checkpoint", "--audio_checkpoint", "--emotion_checkpoint", "--vgg")
    names = ("124_52000.pth.tar", "1-6000.pth.tar", "5-3000.pth.tar", "vgg19.pth")
    for flag, name in zip(flags, names, strict=True):
        state = synthetic_weights.build_state_dicts(0, [name])[name]
        flat = state.pop("", None)
        synthetic_weights.torch_save(dict(state) if flat is None else flat, folder / name)
        paths[flag] = folder / name
    return paths


MEASURE = """
import json, resource, subprocess, sys
returncode = subprocess.run(sys.argv[1:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([returncode, used.ru_maxrss, used.ru_utime + used.ru_stime]))
"""


@pytest.mark.slow
def test_the_full_set_in_time_and_memory(stand_ins, tmp_path):
    flags = [part for pair in stand_ins.items() for part in pair]
    command = [sys.executable, ROOT / "convert_torch_weights.py", *flags]
    # A child's peak starts at what its parent holds, so a small process stands between.
    measured = [sys.executable, "-c", MEASURE, *command, "--output", tmp_path / "model"]
    done = subprocess.run(measured, capture_output=True, text=True, timeout=600, check=True)
    *printed, last = done.stdout.splitlines()
    returncode, kilobytes, seconds = json.loads(last)
    assert returncode == 0
    assert kilobytes * 1024 < 2e9
    # At most 60 s are wanted of an idle machine. A busy one takes longer by the clock, but
    # not of the processor's time.
    assert seconds < 60
    report = load_provenance(tmp_path / "model")
    assert sum(network["parameters"] for network in report["networks"].values()) == 138_754_591
    assert any("138,754,591" in line for line in printed)


@pytest.mark.slow
def test_a_signal_while_writing_leaves_nothing(stand_ins, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    process = start("--vgg", stand_ins["--vgg"], "--output", folder / "model")
    while process.poll() is None and not any(folder.iterdir()):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in err
    assert not list(folder.iterdir())
