"""Joining a run of many processes, and where arrays live."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from eamm_jax.errors import UserError
from eamm_jax.training import distributed
from eamm_jax.types import Pairs
from tests.conftest import ROOT


@pytest.fixture
def joined(monkeypatch):
    """The arguments of every attempt to join other processes."""
    attempts = []
    monkeypatch.setattr(distributed, "_join", lambda **who: attempts.append(who))
    for name in (*distributed.LAUNCHERS, "KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(distributed.importlib.util, "find_spec", lambda name: None)
    return attempts


def test_flags_say_who_the_others_are(joined):
    distributed.initialize("host:1234", 4, 3)
    (who,) = joined
    assert (who["coordinator_address"], who["num_processes"], who["process_id"]) == (
        "host:1234",
        4,
        3,
    )


def test_one_process_joins_nobody(joined, monkeypatch):
    distributed.initialize("host:1234", 1, 0)
    distributed.initialize()
    monkeypatch.setenv("SLURM_NTASKS", "1")
    distributed.initialize()
    assert joined == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("host:1", None, 0), "num_processes is missing"),
        ((None, 2, None), "coordinator and process_id is missing"),
        (("host", 2, 0), "must be host:port"),
        (("host:port", 2, 0), "must be host:port"),
        (("host:1", 2, 2), "process_id is 2 and num_processes 2"),
        (("host:1", 0, 0), "num_processes 0"),
    ],
)
def test_flags_that_contradict_each_other(joined, given, words):
    with pytest.raises(UserError, match=words):
        distributed.initialize(*given)
    assert joined == []


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_NTASKS": "2"},
        {"OMPI_COMM_WORLD_SIZE": "8"},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"},
    ],
)
def test_the_environment_says_who_the_others_are(joined, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    distributed.initialize()
    assert joined == [{}]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"SLURM_NTASKS": "2"}, "SLURM_NTASKS=2 .*start this with srun"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "start this with mpirun"),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"},
            r"jax\[k8s\]",
        ),
    ],
)
def test_an_environment_that_says_too_little(joined, monkeypatch, environment, words):
    def unknown(**who):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(distributed, "_join", unknown)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=words):
        distributed.initialize()


def test_batches_are_dealt_out_and_states_copied():
    placement = distributed.make_placement()
    n = placement.num_devices
    assert n == jax.device_count()
    rows = Pairs(*(np.arange(n * 2 * 3, dtype=np.uint8).reshape(n * 2, 3) + i for i in range(2)))
    batch = placement.batch(rows)
    assert isinstance(batch, Pairs)
    for array, expected in zip(batch[:2], rows[:2], strict=True):
        assert array.sharding == placement.by_example
        assert array.addressable_shards[0].data.shape == (2, 3)
        np.testing.assert_array_equal(array, expected)
    state = jax.jit(lambda: {"a": jax.numpy.ones(3)}, out_shardings=placement.replicated)()
    np.testing.assert_array_equal(distributed.to_host(state)["a"], np.ones(3))
    assert placement.abstract(state)["a"].sharding == placement.replicated


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_that_no_device_count_divides(batch_size):
    with pytest.raises(UserError, match=f"batch_size is {batch_size};"):
        distributed.check_batch_size(batch_size, distributed.make_placement())


def test_a_failure_in_a_run_of_one_process_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), distributed.ends_with_its_peers():
        _ = 1 / 0


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("bad clip"), 2, "process 1: error: bad clip\n"),
        (SystemExit(3), 3, ""),
        (RuntimeError("collective failed"), 1, "RuntimeError: collective failed"),
    ],
)
def test_a_process_of_many_leaves_without_waiting_for_the_others(
    monkeypatch, capsys, error, code, words
):
    class LeftError(BaseException):
        pass

    def leave(code):
        raise LeftError(code)

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(distributed.os, "_exit", leave)
    with pytest.raises(LeftError) as left, distributed.ends_with_its_peers():
        raise error
    assert left.value.args == (code,)
    assert words in capsys.readouterr().err


def test_numbers_of_all_processes_are_added():
    assert distributed.sum_over_processes(3) == 3


@pytest.mark.exhaustive
def test_one_device_and_eight_train_alike_with_every_seed():
    """In float64, where no rounding moves the input of a ReLU across zero."""
    script = ROOT / "tests" / "training" / "many_devices.py"
    seeds, steps = 2, 2
    finished = subprocess.run(
        [sys.executable, str(script), str(seeds), str(steps)],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "8",
            "JAX_ENABLE_X64": "1",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [line["seed"] for line in lines] == list(range(seeds))
    for line in lines:
        assert line["moved"] > 1e-3
        assert line["apart"] < 1e-10  # 5e-15 was measured
