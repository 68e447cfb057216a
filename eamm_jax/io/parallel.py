"""Runs jobs in a pool of processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_parallel(
    job: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Generator[tuple[Item, Result], None, None]:
    """Runs a job for each item in a pool of processes.

    Args:
        job: function of one item; both are sent to other processes.
        items: in the order in which they start.
        workers: number of processes; with 1 (or one item) this process does the work.

    Yields:
        Item and result, in order of completion. After a failure, items that have not started
        are dropped and running ones are finished. After a signal, or when the caller closes this
        (`contextlib.closing`), their processes are ended: it is for jobs that leave no harm
        when they are killed.
    """
    if min(workers, len(items)) <= 1:
        for item in items:
            yield item, job(item)
        return
    # Spawned, not forked: libraries with threads are already loaded.
    spawn = multiprocessing.get_context("spawn")
    count = min(workers, len(items))
    pool = ProcessPoolExecutor(count, mp_context=spawn, initializer=_leave_interrupts)
    try:
        futures = {pool.submit(job, item): item for item in items}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        # Not a context manager: its exit would not cancel the futures.
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts() -> None:
    # Ctrl-C reaches all processes; the main process alone handles it, and ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
