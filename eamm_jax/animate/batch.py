"""Many animations in one process: a model that is loaded and compiled once, on every device.

Jobs wait in a queue, and each device takes the next when it is done with one. A job that
fails does not stop the others.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from eamm_jax.animate.animator import Animator
from eamm_jax.animate.job import Job, Summary, check, run
from eamm_jax.errors import UserError
from eamm_jax.io.files import InputFiles

_LOG = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: it.
        device: what it ran on.
        summary: what it took, if it was done.
        error: why not, in words, if it was not.
    """

    job: Job
    device: str
    summary: Summary | None = None
    error: str | None = None


def check_all(jobs: Mapping[str, Job]) -> None:
    """Finds what can be found wrong without loading a model or decoding anything.

    Args:
        jobs: by what the user calls each.

    Raises:
        UserError: something is wrong with one of them, two would write the same file, or one
            would replace an input of another.
    """
    writers: dict[Path, str] = {}
    inputs = InputFiles(path for job in jobs.values() for path in job.inputs)
    for name, job in jobs.items():
        try:
            check(job)
            inputs.check_kept(job.outputs)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        for path in job.outputs:
            other = writers.setdefault(path.resolve(), name)
            if other != name:
                raise UserError(f"{name}: {path} is written by {other} already; name another")


def run_all(
    animators: Sequence[Animator],
    jobs: Sequence[Job],
    progress: Progress | None = None,
    failed: Callable[[int, str], None] | None = None,
) -> list[Outcome]:
    """Does jobs, one at a time on each device.

    Args:
        animators: one a device.
        jobs: what to do.
        progress: called with (frames done, frames in all jobs) after each frame; jobs whose
            length is not known yet are supposed to be as long as the others.
        failed: called with a job's index and the words for what was wrong, when it fails.

    Returns:
        What became of each, in the order of the jobs.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(jobs)):
        waiting.put(index)
    outcomes: dict[int, Outcome] = {}
    board = _Board(len(jobs), progress)
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
                board.report(index, done, total)

            try:
                outcomes[index] = _attempt(animator, jobs[index], report)
            except _StoppedError:
                return
            error = outcomes[index].error
            if error is not None:
                board.drop(index)
                if failed is not None:
                    failed(index, error)

    # The first device is served here, so that signals end what it does at once; the others
    # see at their next frame that they should.
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
    except Exception as error:  # whatever it is, the other jobs are not to suffer from it
        _LOG.debug("%s failed", job.output, exc_info=True)
        return Outcome(job, device, error=f"unexpected {type(error).__name__}: {error}")


class _StoppedError(Exception):
    """Raised on a thread inside a job that is to be given up."""


class _Board:
    """Adds up the frames of all jobs; for any thread."""

    def __init__(self, jobs: int, progress: Progress | None):
        self._jobs, self._progress = jobs, progress
        self._counts: dict[int, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def report(self, index: int, done: int, total: int) -> None:
        with self._lock:
            self._counts[index] = done, total
            if self._progress is not None and self._counts:
                all_done = sum(done for done, _ in self._counts.values())
                known = sum(total for _, total in self._counts.values())
                self._progress(all_done, round(known * self._jobs / len(self._counts)))

    def drop(self, index: int) -> None:
        """Forgets a job that failed."""
        with self._lock:
            self._counts.pop(index, None)
            self._jobs -= 1
