"""Many jobs: order, failures, progress, and an end that is asked for; with jobs that do nothing."""

from __future__ import annotations

import threading
import types
from pathlib import Path

import jax
import pytest

from eamm_jax.animate import batch
from eamm_jax.animate.job import Job, Summary
from eamm_jax.errors import UserError


def job(name: str) -> Job:
    return Job(Path("p.png"), Path("s.wav"), Path(f"{name}.mp4"))


def animators(count: int) -> list:
    devices = [types.SimpleNamespace(platform="cpu", id=index) for index in range(count)]
    return [types.SimpleNamespace(device=device) for device in devices]


def summary(output: Path) -> Summary:
    return Summary(output, frames=2)


@pytest.fixture
def with_run(monkeypatch):
    """Puts a function in the place of what does one job."""

    def put(run):
        monkeypatch.setattr(batch, "run", run)

    return put


def test_outcomes_stand_in_the_order_of_the_jobs_and_every_device_serves(with_run):
    both = threading.Barrier(2, timeout=10)

    def run(animator, job, progress):
        both.wait()  # two at a time, or it breaks
        progress(1, 2)
        progress(2, 2)
        return summary(job.output)

    with_run(run)
    seen = []
    jobs = [job(str(index)) for index in range(6)]
    outcomes = batch.run_all(animators(2), jobs, lambda *counts: seen.append(counts))
    assert [outcome.summary.output for outcome in outcomes] == [j.output for j in jobs]
    assert {outcome.device for outcome in outcomes} == {"cpu:0", "cpu:1"}
    # Jobs that were not begun are supposed to be as long as those that were.
    assert {total for _, total in seen} == {12}
    assert seen[-1] == (12, 12)


def test_failures_are_told_and_the_others_done(with_run):
    def run(animator, job, progress):
        progress(1, 2)
        if job.output.stem == "1":
            raise UserError("no face")
        if job.output.stem == "2":
            raise ZeroDivisionError("by zero")
        if job.output.stem == "3":
            raise RuntimeError("RESOURCE_EXHAUSTED: Out\nof memory")
        return summary(job.output)

    with_run(run)
    seen, told = [], []
    outcomes = batch.run_all(
        animators(1),
        [job(str(index)) for index in range(5)],
        lambda *counts: seen.append(counts),
        lambda *failure: told.append(failure),
    )
    memory = "out of memory: RESOURCE_EXHAUSTED: Out of memory"
    errors = [None, "no face", "unexpected ZeroDivisionError: by zero", memory, None]
    assert [outcome.error for outcome in outcomes] == errors
    assert [outcome.summary is None for outcome in outcomes] == [False, True, True, True, False]
    assert told == [(n, errors[n]) for n in (1, 2, 3)]
    assert seen[-1] == (2, 4)


def test_an_interrupt_ends_all_devices(with_run):
    started = threading.Event()
    given_up = threading.Event()

    def run(animator, job, progress):
        if animator.device.id == 0:
            assert started.wait(10)
            raise KeyboardInterrupt
        try:
            while True:
                progress(1, 2)
                started.set()
        finally:
            given_up.set()

    with_run(run)
    with pytest.raises(KeyboardInterrupt):
        batch.run_all(animators(2), [job("0"), job("1")])
    assert given_up.is_set()


def test_devices_are_those_of_jax():
    """What `Outcome.device` reads."""
    assert (jax.devices()[0].platform, jax.devices()[0].id) == ("cpu", 0)
