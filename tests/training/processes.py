"""Training in processes of its own, as a user starts it, for tests that kill and signal it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from eamm_jax.training import checkpoint
from tests.conftest import QUICK_COMPILE, ROOT

TRAIN = ROOT / "train.py"
TOY_TRAIN = ROOT / "tests" / "training" / "toy_train.py"
PLAIN_TRAIN = ROOT / "tests" / "training" / "plain_train.py"

CLUSTERS = ROOT / "tests" / "training" / "clusters"
"""Packages that stand in for those of a cluster."""

# For larger work: programs that run long are worth some optimization.
FAIR_COMPILE = QUICK_COMPILE.replace("--xla_backend_optimization_level=0 ", "")

START_SECONDS = 300
"""How long a process may take until it trains, on a machine that does much else."""


class Training:
    """A process that trains.

    Attributes:
        process: it.
        log: file with all it prints.

    `cluster` are variables that a scheduler of many machines would set.
    """

    def __init__(
        self,
        script: Path,
        log: Path,
        *flags: str,
        devices: int = 1,
        compiler_flags: str = QUICK_COMPILE,
        cluster: Mapping[str, str] | None = None,
    ):
        self.log = log
        environment = {
            **os.environ,
            **(cluster or {}),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *([str(CLUSTERS)] if cluster else [])]),
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


def slurm(number: int) -> list[dict[str, str]]:
    """The variables that srun sets for each task of a job step on this machine."""
    job = {"SLURM_JOB_ID": "1234", "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": str(number)}
    return [
        {**job, "SLURM_PROCID": str(index), "SLURM_LOCALID": str(index)} for index in range(number)
    ]


def kubernetes(number: int) -> list[dict[str, str]]:
    """The variables of each pod of an indexed job."""
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "localhost"}
    return [{**pod, "JOB_COMPLETION_INDEX": str(index)} for index in range(number)]


def tpu_slice(number: int) -> list[dict[str, str]]:
    """The variables of each host of a TPU slice on Google Kubernetes Engine."""
    hosts = {"JAX_FORCE_TPU_INIT": "1", "TPU_WORKER_HOSTNAMES": ",".join(["127.0.0.1"] * number)}
    # Of one slice; without them JAX asks the metadata server of Google Cloud.
    hosts |= {
        "MEGASCALE_COORDINATOR_ADDRESS": "",
        "MEGASCALE_NUM_SLICES": "1",
        "MEGASCALE_SLICE_ID": "0",
    }
    return [{**hosts, "TPU_WORKER_ID": str(index)} for index in range(number)]


def peers(number: int) -> list[list[str]]:
    """The flags of each process of a run of many."""
    coordinator = f"--coordinator=127.0.0.1:{free_port()}"
    return [
        [coordinator, f"--num_processes={number}", f"--process_id={index}"]
        for index in range(number)
    ]
