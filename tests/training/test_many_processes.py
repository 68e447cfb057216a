"""Runs of several processes: they end together, whatever ends one of them."""

from __future__ import annotations

import shutil
import signal
import time
from contextlib import ExitStack

import jax
import numpy as np
import pytest

from eamm_jax.checkpoint import load_networks
from tests.published_layout import write_voxceleb
from tests.training.processes import (
    TOY_TRAIN,
    Training,
    free_port,
    kubernetes,
    peers,
    saved_steps,
    slurm,
    tpu_slice,
)

pytestmark = pytest.mark.slow

PEER_SECONDS = 15
"""How long a process may outlive another of its run."""

MANY_STEPS = 10**9


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts a run of the toy stage in one process or two, of two devices each."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_voxceleb(folder / "data", people=4, clips=4, frames=3)
    with ExitStack() as stack:

        def start_run(
            workdir, steps: int, processes: int = 2, clusters=None, **fields
        ) -> list[Training]:
            flags = [
                "--config=tests/training/toy.py",
                f"--config.data=voxceleb={data}",
                "--config.batch_size=4",
                f"--config.num_steps={steps}",
                "--config.log_every=1000",
                f"--workdir={workdir}",
                *(f"--config.{name}={value}" for name, value in fields.items()),
            ]
            # Flags say who the others are, or the environment does.
            joined = peers(processes) if processes > 1 and not clusters else [[]] * processes
            known = clusters or [None] * processes
            return [
                stack.enter_context(
                    Training(
                        TOY_TRAIN,
                        folder / f"{workdir.name}_{index}.log",
                        *flags,
                        *peer,
                        devices=2,
                        cluster=cluster,
                    )
                )
                for index, (peer, cluster) in enumerate(zip(joined, known, strict=True))
            ]

        yield start_run


def networks_of(workdir) -> np.ndarray:
    leaves = jax.tree.leaves(load_networks(workdir / "model")[1])
    return np.concatenate([np.ravel(leaf) for leaf in leaves])


def test_one_is_told_to_end_and_all_save_and_end_well(start, tmp_path):
    first, second = start(tmp_path, MANY_STEPS, save_every=10, validation_fraction=0.3)
    first.wait_until(lambda: bool(saved_steps(tmp_path)))
    second.process.send_signal(signal.SIGTERM)
    assert (first.finish(60), second.finish(60)) == (0, 0)
    assert "Received SIGTERM" in first.log.read_text()
    assert "Received SIGTERM" not in second.log.read_text()  # one of them speaks for all


@pytest.mark.parametrize("victim", [0, 1])
def test_one_is_killed_and_the_others_end_soon(start, tmp_path, victim):
    trainings = start(tmp_path, MANY_STEPS, save_every=10, keep=10**6)
    trainings[0].wait_until(lambda: 20 in saved_steps(tmp_path))
    killed, survivor = trainings[victim], trainings[1 - victim]
    killed.process.kill()
    started = time.monotonic()
    assert survivor.finish(60) != 0
    assert time.monotonic() - started < PEER_SECONDS
    if victim:
        return
    # A restart goes on in one process instead of two, from a checkpoint before the killing.
    for step in saved_steps(tmp_path):
        if step > 20:
            shutil.rmtree(tmp_path / "checkpoints" / str(step))
    (restarted,), (whole,) = (
        start(workdir, 40, processes=1) for workdir in (tmp_path, tmp_path / "whole")
    )
    assert (restarted.finish(), whole.finish()) == (0, 0)
    assert "resumes from step 20" in restarted.log.read_text()
    np.testing.assert_allclose(networks_of(tmp_path), networks_of(tmp_path / "whole"), atol=1e-5)


@pytest.mark.parametrize("cluster", [slurm, kubernetes, tpu_slice])
def test_schedulers_say_who_the_others_are(start, tmp_path, cluster):
    port = {"JAX_COORDINATOR_PORT": str(free_port())}
    clusters = [variables | port for variables in cluster(2)]
    trainings = start(tmp_path, 3, clusters=clusters)
    assert [training.finish() for training in trainings] == [0, 0], trainings[0].log.read_text()
    assert "on 4 x cpu (2 processes)" in trainings[0].log.read_text()
    assert "done" not in trainings[1].log.read_text()
    assert saved_steps(tmp_path) == [3]


def test_bad_input_ends_all_with_its_code(start, tmp_path):
    trainings = start(tmp_path, 10, validation_fraction=2.0)
    assert [training.finish() for training in trainings] == [2, 2]


def test_numbers_that_are_not_finite_end_the_run_with_words_and_a_code(start, tmp_path):
    (training,) = start(tmp_path, 10, processes=1, bad_after=2, max_bad_steps=1)
    assert training.finish() == 3
    *_, last = training.log.read_text().splitlines()
    assert last.startswith("error: step 4 is not finite (loss nan")
    assert "clips: voxceleb:id1000" in last
    assert "max_bad_steps is 1" in last
