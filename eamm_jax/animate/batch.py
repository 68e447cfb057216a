"""Many animations, with a model that is loaded once and compiled once per device.

In one process jobs wait in a queue, and each device takes the next when it has finished one
(`run_all`); on many machines Apache Beam deals them out (`run_with_beam`). A job that fails does
not stop the others.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from eamm_jax.animate.animator import Animator
from eamm_jax.animate.job import Job, Summary, run
from eamm_jax.errors import UserError, out_of_memory
from eamm_jax.io import beam
from eamm_jax.io.files import atomic_output

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        job: the job.
        device: that it ran on.
        summary: of a job that succeeded.
        error: why it failed, in words.
    """

    job: Job
    device: str
    summary: Summary | None = None
    error: str | None = None


def run_all(
    animators: Sequence[Animator],
    jobs: Sequence[Job],
    progress: Progress | None = None,
    failed: Callable[[int, str], None] | None = None,
) -> list[Outcome]:
    """Does jobs, one at a time on each device.

    Args:
        animators: one per device.
        jobs: what to do; `check` has passed.
        progress: called with (frames done, frames of all jobs) after each frame; jobs that have
            not started are assumed to be as long as the others.
        failed: called with a job's index and the reason, when it fails.

    Returns:
        How each ended, in the order of the jobs.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(jobs)):
        waiting.put(index)
    outcomes: dict[int, Outcome] = {}
    counts = _Counts(len(jobs), progress)
    stop = threading.Event()

    def serve(animator: Animator) -> None:
        while not stop.is_set():
            try:
                index = waiting.get_nowait()
            except queue.Empty:
                return

            def report(done: int, total: int, index: int = index) -> None:
                if stop.is_set():
                    raise _StoppedError
                counts.report(index, done, total)

            try:
                outcomes[index] = _attempt(animator, jobs[index], report)
            except _StoppedError:
                return
            error = outcomes[index].error
            if error is not None:
                counts.drop(index)
                if failed is not None:
                    failed(index, error)

    # This thread serves the first device, so that a signal ends its job at once; the others see
    # at their next frame that they should stop.
    threads = [threading.Thread(target=serve, args=(animator,)) for animator in animators[1:]]
    for thread in threads:
        thread.start()
    try:
        serve(animators[0])
        for thread in threads:
            thread.join()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return [outcomes[index] for index in range(len(jobs))]


def _attempt(animator: Animator, job: Job, report: Progress) -> Outcome:
    device = f"{animator.device.platform}:{animator.device.id}"
    try:
        return Outcome(job, device, summary=run(animator, job, report))
    except UserError as error:
        return Outcome(job, device, error=str(error))
    except _StoppedError:
        raise
    except Exception as error:  # whatever it is, the other jobs go on
        _log.debug("%s failed", job.output, exc_info=True)
        words = out_of_memory(error) or f"unexpected {type(error).__name__}: {error}"
        return Outcome(job, device, error=str(words))


class Model(NamedTuple):
    """What a worker of Beam loads, once in each process; arguments of `from_checkpoint`."""

    checkpoint: Path
    emotion: bool | None
    chunk: int
    dtype: str


def is_done(job: Job) -> bool:
    """Whether all that a job writes is there."""
    return all(path.exists() for path in job.outputs)


def run_with_beam(
    model: Model, jobs: Sequence[Job], runner: str, options: Any = None
) -> dict[int, str]:
    """Does jobs whose outputs are not there yet on a Beam runner.

    Workers need the paths of model, inputs and outputs, on storage that they share.

    Args:
        model: which one animates.
        jobs: what to do; `check` has passed.
        runner: name of the Beam runner.
        options: from `io.beam.runner_options`.

    Returns:
        Why jobs failed, by their index.

    Raises:
        UserError: Beam is not installed or does not know the runner.
    """
    missing = [job for job in jobs if not is_done(job)]
    for job in missing:
        _fault(job).unlink(missing_ok=True)
    beam.run_with_beam(_make, [(model, job) for job in missing], runner, options)
    failed = {}
    for index, job in enumerate(jobs):
        fault = _fault(job)
        if fault.is_file():
            failed[index] = fault.read_text(encoding="utf-8")
            fault.unlink()
        elif not is_done(job):
            failed[index] = f"no worker wrote {job.output}; do they share its folder?"
    return failed


def _fault(job: Job) -> Path:
    """Written by a worker whose job fails: the reason."""
    return job.output.with_suffix(".fault")


def _make(task: tuple[Model, Job]) -> None:
    model, job = task
    if is_done(job):  # Beam may try again what has succeeded
        return
    try:
        error = _attempt(_loaded(model), job, lambda done, total: None).error
    except UserError as fault:
        error = str(fault)
    if error is not None:
        with atomic_output(_fault(job)) as temporary:
            temporary.write_text(error, encoding="utf-8", errors="replace")


@cache
def _loaded(model: Model) -> Animator:
    return Animator.from_checkpoint(
        model.checkpoint, emotion=model.emotion, chunk=model.chunk, dtype=model.dtype
    )


class _StoppedError(Exception):
    """Raised on a thread to abandon its job."""


class _Counts:
    """Adds up the frames of all jobs; from any thread."""

    def __init__(self, jobs: int, progress: Progress | None):
        self._jobs, self._progress = jobs, progress
        self._counts: dict[int, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def report(self, index: int, done: int, total: int) -> None:
        with self._lock:
            self._counts[index] = done, total
            if self._progress is not None:
                all_done = sum(done for done, _ in self._counts.values())
                known = sum(total for _, total in self._counts.values())
                self._progress(all_done, round(known * self._jobs / len(self._counts)))

    def drop(self, index: int) -> None:
        """Forgets a job that failed."""
        with self._lock:
            self._counts.pop(index, None)
            self._jobs -= 1
