"""Stages at `:tiny` as a user runs them: killed, resumed, and on other devices."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import jax
import numpy as np
import pytest

from eamm_jax.checkpoint import load_networks, save_networks
from tests.published_layout import write_lrw, write_voxceleb
from tests.tiny import tiny_variables
from tests.training.processes import PLAIN_TRAIN, TRAIN, Training, peers, saved_steps
from tests.training.reports import read_metrics

pytestmark = pytest.mark.slow

SAVE_EVERY = 3
STEPS = 2
"""After which runs on different devices are compared. In the third, rounding can move the input
of a ReLU or a difference in an L1 loss across zero; in float64 it does not (`test_distributed`)."""

TOLERANCE = 2e-5
"""Rounding, grown in those steps: measured, at most 1.13e-5 on an AMD EPYC (one number of the last
convolution of the audio encoder; the next is 8e-6), below 1e-5 on other processors. Anything a
device does on its own, such as batch norm of its own rows, changes far more."""

SEED = 1
"""Of weights, data order and augmentation."""

# As published (1e-8), Adam scales gradients that are nothing but rounding noise up to full
# steps in random directions: a bias before a batch norm has no gradient, but for rounding.
# Sums over devices round differently. This is still far below the gradients that matter.
EPSILON = 1e-2

MANY_STEPS = 10**6


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts `train.py`; every process is gone when the tests are over."""
    folder = tmp_path_factory.mktemp("runs")
    data = {
        "stage0": f"voxceleb={write_voxceleb(folder / 'vox', people=24, clips=1, frames=6)}",
        "stage1": f"lrw={write_lrw(folder / 'lrw', clips=16)}",
    }
    with ExitStack() as stack:

        def start_run(workdir: Path, *flags: str, stage: str = "stage0", **how) -> Training:
            fixed = [
                f"--config=configs/{stage}.py:tiny",
                f"--config.data={data[stage]}",
                "--config.batch_size=8",
                "--config.validation_fraction=0.0",
                "--config.panel_every=0",
                f"--config.save_every={SAVE_EVERY}",
                f"--config.num_steps={how.pop('steps')}",
                f"--workdir={workdir}",
            ]
            script = how.pop("script", TRAIN)
            log = folder / f"{workdir.name}{len(list(folder.glob('*.log')))}.log"
            return stack.enter_context(Training(script, log, *fixed, *flags, **how))

        yield start_run


def networks_of(workdir: Path) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(load_networks(workdir / "model")[1])
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in leaves
    }


def test_killed_resumed_preempted_is_bit_for_bit_the_straight_run(start, tmp_path):
    small = "--config.batch_size=2"
    training = start(tmp_path / "stopped", small, steps=MANY_STEPS)
    training.wait_until(lambda: SAVE_EVERY in saved_steps(tmp_path / "stopped"))
    training.process.kill()
    training.finish()
    assert saved_steps(tmp_path / "stopped") == [SAVE_EVERY]

    again = start(tmp_path / "stopped", small, "--config.save_every=0", steps=MANY_STEPS)
    again.wait_until(lambda: f"step {SAVE_EVERY + 2}/" in again.log.read_text())
    again.process.send_signal(signal.SIGTERM)
    assert again.finish(60) == 0
    last = saved_steps(tmp_path / "stopped")[-1]
    assert last >= SAVE_EVERY + 2
    assert f"resumes from step {SAVE_EVERY}" in again.log.read_text()
    assert f"Received SIGTERM at step {last}: checkpoint saved" in again.log.read_text()

    straight = start(tmp_path / "straight", small, "--config.save_every=0", steps=last)
    assert straight.finish() == 0, straight.log.read_text()
    expected, got = networks_of(tmp_path / "straight"), networks_of(tmp_path / "stopped")
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)
    losses = [
        [(line["step"], line["loss"], line["grad_norm"]) for line in read_metrics(run, "train")]
        for run in (tmp_path / "stopped", tmp_path / "straight")
    ]
    assert losses[0] == losses[1]


def test_one_device_eight_and_two_processes_of_two_give_the_same(start, tmp_path):
    """With the plain form of every operation: a CPU's own forms round more."""
    (tmp_path / "given").mkdir()
    save_networks(tmp_path / "given" / "model", *tiny_variables(SEED))
    flags = (
        f"--init_from={tmp_path / 'given'}",
        f"--config.epsilon={EPSILON}",
        f"--config.seed={SEED}",
    )

    def start_stage1(workdir: str, *more: str, **how):
        where = tmp_path / workdir
        return start(where, *flags, *more, script=PLAIN_TRAIN, stage="stage1", **how)

    alone = start_stage1("one", steps=STEPS)
    two = [start_stage1("many", *peer, steps=STEPS - 1, devices=2) for peer in peers(2)]
    for training in (alone, *two):
        assert training.finish() == 0, training.log.read_text()
    assert "on 4 x cpu (2 processes)" in two[0].log.read_text()
    # What two processes saved resumes on eight devices.
    eight = start_stage1("many", steps=STEPS, devices=8)
    assert eight.finish() == 0, eight.log.read_text()
    assert "batches of 8 on 8 x cpu" in eight.log.read_text()
    assert f"resumes from step {STEPS - 1}" in eight.log.read_text()

    given, one, many = (networks_of(tmp_path / name) for name in ("given", "one", "many"))
    assert max(np.abs(one[name] - given[name]).max() for name in one) > 50 * TOLERANCE
    assert many.keys() == one.keys()
    for name, value in one.items():
        np.testing.assert_allclose(many[name], value, rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)
