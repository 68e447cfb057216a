"""Training in processes of its own, as a user starts it, for tests that kill and signal it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from eamm_jax.training import checkpoint
from tests.conftest import QUICK_COMPILE, ROOT

TRAIN = ROOT / "train.py"
TOY_TRAIN = ROOT / "tests" / "training" / "toy_train.py"
PLAIN_TRAIN = ROOT / "tests" / "training" / "plain_train.py"

# For larger work: programs that run long are worth some optimization.
FAIR_COMPILE = QUICK_COMPILE.replace("--xla_backend_optimization_level=0 ", "")

START_SECONDS = 300
"""How long a process may take until it trains, on a machine that does much else."""


class Training:
    """A process that trains.

    Attributes:
        process: it.
        log: file with all it prints.
    """

    def __init__(
        self,
        script: Path,
        log: Path,
        *flags: str,
        devices: int = 1,
        compiler_flags: str = QUICK_COMPILE,
    ):
        self.log = log
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
            "XLA_FLAGS": compiler_flags,
        }
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(script), *flags],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=ROOT,
            )

    def __enter__(self) -> Training:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def finish(self, timeout: float = START_SECONDS) -> int:
        """Waits for its end and returns its exit code."""
        return self.process.wait(timeout)

    def wait_until(self, happened: Callable[[], bool], timeout: float = START_SECONDS) -> None:
        """Waits for something that it does."""
        deadline = time.monotonic() + timeout
        while not happened():
            assert self.process.poll() is None, f"ended too early:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"takes too long:\n{self.log.read_text()}"
            time.sleep(0.02)


def saved_steps(workdir: Path) -> list[int]:
    """Steps of complete checkpoints, from the names of their folders alone."""
    folder = workdir / checkpoint.FOLDER
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def peers(number: int) -> list[list[str]]:
    """The flags of each process of a run of many."""
    coordinator = f"--coordinator=127.0.0.1:{free_port()}"
    return [
        [coordinator, f"--num_processes={number}", f"--process_id={index}"]
        for index in range(number)
    ]
