"""Work shared out to processes, with a bar that shows how far it is."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")
Result = TypeVar("Result")


def progress_bar(description: str) -> Progress:
    """A bar on standard error, with clips done and time left."""
    return Progress(
        TextColumn(description),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("clips"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
    )


def run_parallel(
    job: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Generator[tuple[Item, Result], None, None]:
    """Does a job for each item in a pool of processes.

    Args:
        job: what to do; it and the items go to other processes.
        items: in the order they are begun.
        workers: processes; with 1 (or one item) the work is done in this one.

    Yields:
        Item and result, as they are finished. After a failure, or when the caller closes
        this (`contextlib.closing`), what was not begun is dropped and what was begun is
        finished.
    """
    if min(workers, len(items)) <= 1:
        for item in items:
            yield item, job(item)
        return
    # Not forked: libraries with threads are loaded already.
    spawn = multiprocessing.get_context("spawn")
    count = min(workers, len(items))
    pool = ProcessPoolExecutor(count, mp_context=spawn, initializer=_leave_interrupts)
    try:
        futures = {pool.submit(job, item): item for item in items}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        # Said once: leaving the pool as a context would take the cancelling back.
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts() -> None:
    # Ctrl-C reaches all processes; the main one alone decides, and lets the others finish.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
