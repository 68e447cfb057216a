"""What all commands share: numbers within limits, devices that are not there, signals."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eamm_jax.cli import convert, evaluate, infer, studio
from eamm_jax.cli.tool import LARGEST_WHOLE_NUMBER, run
from eamm_jax.errors import UserError
from tests.conftest import ROOT

PARSERS = {
    module.__name__.rpartition(".")[2]: module.flag_parser()
    for module in (convert, evaluate, infer, studio)
}

NUMERIC = [
    (tool, name)
    for tool, parser in PARSERS.items()
    for name, action in parser.flags.items()
    if action.type is not None and action.type not in (str, infer.Path)
]

NOT_NUMBERS = ["nan", "inf", "-inf", "1e999", "-1e300", "1" * 30, "", "x", "1" * 5000]


def words_with(tool: str, name: str, value: str) -> list[str]:
    required = {"evaluate": ["--output=o"]}
    return [*required.get(tool, []), f"--{name}={value}"]


def test_every_kind_of_number_is_among_them():
    assert ("infer", "seed") in NUMERIC
    assert ("infer", "emotion_strength") in NUMERIC
    assert ("studio", "keep_minutes") in NUMERIC
    assert len(NUMERIC) > 18


@pytest.mark.parametrize(("tool", "name"), NUMERIC)
def test_what_is_no_number_within_limits_is_refused(tool, name):
    for value in NOT_NUMBERS:
        with pytest.raises(UserError) as refusal:
            PARSERS[tool].parse_words(words_with(tool, name, value))
        assert f"--{name}" in str(refusal.value)
        assert "\n" not in str(refusal.value)
        assert str(LARGEST_WHOLE_NUMBER) not in str(refusal.value)


@pytest.mark.parametrize(
    ("tool", "name"),
    [(tool, name) for tool, name in NUMERIC if PARSERS[tool].flags[name].type is not float],
)
def test_whole_numbers_are_not_negative(tool, name):
    with pytest.raises(UserError, match=r"-1|invalid choice"):
        PARSERS[tool].parse_words(words_with(tool, name, "-1"))


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63 - 1])
def test_seeds_may_be_large(seed):
    assert PARSERS["infer"].parse_words([f"--seed={seed}"]).seed == seed


def ended(
    program: str, *words: str, cwd: Path = ROOT, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, **variables},
        check=False,
    )


SWALLOWED = """
import gc, os, signal, time
from eamm_jax.cli.tool import run

signal.signal(signal.SIGINT, signal.default_int_handler)
sent = []

def collecting(phase, info):
    if not sent:
        sent.append(phase)
        os.kill(os.getpid(), signal.{name})
        time.sleep(0.01)

def job():
    gc.callbacks.append(collecting)
    gc.collect()
    time.sleep(60)
    print("went on")

run(job)
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_during_garbage_collection_ends_the_process(name, code):
    done = ended(SWALLOWED.replace("{name}", name))
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr


def test_a_command_leaves_the_process_as_it_was():
    handler, hook = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    inside = []
    with pytest.raises(SystemExit) as ended:
        run(lambda: inside.append((signal.getsignal(signal.SIGTERM), sys.unraisablehook)))
    assert ended.value.code == 0
    assert inside[0][0] != handler
    assert inside[0][1] != hook
    assert (signal.getsignal(signal.SIGTERM), sys.unraisablehook) == (handler, hook)


DROPPED = """
from eamm_jax.cli.tool import run

class Ends:
    def __del__(self):
        raise SystemExit({code})

def job():
    Ends()
    import time
    time.sleep(0.3)
    print("went on")

run(job)
"""


def test_only_a_signal_that_was_dropped_is_sent_again():
    assert ended(DROPPED.replace("{code}", "0")).stdout == "went on\n"
    done = ended(DROPPED.replace("{code}", "143"))
    assert (done.returncode, done.stdout) == (143, "")


BACKENDS = """
import os, sys
import jax
from eamm_jax.cli.tool import start_jax
from eamm_jax.errors import UserError

for platform in sys.argv[1:]:
    os.environ["JAX_PLATFORMS"] = platform
    jax.config.update("jax_platforms", platform)
    try:
        start_jax()
    except UserError as error:
        print(error)
"""


def test_a_backend_that_is_not_there_is_named():
    platforms = ["cuda", "tpu", "rocm", "no_such"]
    done = ended(BACKENDS, *platforms)
    for platform, line in zip(platforms, done.stdout.splitlines(), strict=True):
        assert line.startswith(f"JAX finds no device for JAX_PLATFORMS={platform}: ")
        assert "JAX_PLATFORMS=cpu" in line


@pytest.mark.parametrize(
    "error", [MemoryError("no room"), RuntimeError("RESOURCE_EXHAUSTED: Out of\nmemory")]
)
def test_memory_that_ends_is_named(error, capsys):
    with pytest.raises(SystemExit) as end:
        run(raising(error))
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: out of memory")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_names_that_are_no_text_are_printed(encoding):
    program = (
        "import os; from eamm_jax.cli.tool import run\n"
        "run(lambda: print(os.fsdecode(bytes([120, 255]))))"
    )
    done = ended(program, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "x\\udcff\n"


def test_another_defect_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="a defect"):
        run(raising(RuntimeError("a defect")))


def raising(error: Exception):
    def job():
        raise error

    return job


COMMANDS = {
    "eamm_jax.cli.infer": [],
    "eamm_jax.cli.train": [f"--config={ROOT}/configs/stage1.py:tiny", "--workdir=w"],
    "eamm_jax.cli.evaluate": ["--pairs=.", "--output=o"],
    "eamm_jax.cli.export": ["--output=o"],
    "eamm_jax.cli.emotion_bank": ["--clips=.", "--checkpoint=c"],
    "data.prepare.__main__": ["--input=.", "--output=o", "--pose_network=p"],
    **({"eamm_jax.cli.studio": ["--port=8931"]} if importlib.util.find_spec("gradio") else {}),
    # Last, as it has JAX use the CPU: it computes nothing, and needs no GPU.
    "eamm_jax.cli.convert": ["--audio_checkpoint=missing.pth", "--output=o"],
}

WITHOUT_A_GPU = """
import importlib, json, sys
for tool, words in json.loads(sys.argv[1]).items():
    sys.argv[1:] = words
    try:
        importlib.import_module(tool).main()
    except SystemExit as ended:
        assert ended.code == 2, tool
"""


def test_every_command_says_that_there_is_no_gpu(tmp_path):
    (tmp_path / "happy.mp4").touch()
    variables = {"JAX_PLATFORMS": "cuda", "PYTHONPATH": str(ROOT)}
    done = ended(WITHOUT_A_GPU, json.dumps(COMMANDS), cwd=tmp_path, **variables)
    assert (done.returncode, done.stdout) == (0, "")
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for command, line in zip(COMMANDS, lines, strict=True):
        if command == "eamm_jax.cli.convert":
            assert line.startswith("error: No such file for the audio checkpoint")
        else:
            assert line.startswith("error: JAX finds no device for JAX_PLATFORMS=cuda: ")
