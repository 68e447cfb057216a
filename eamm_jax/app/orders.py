"""Animations that were asked for over HTTP: who is next, how far each is, what came of it.

An order waits, runs, and is done or has failed. What was uploaded is deleted as soon as it ends,
its result some time after, or when it is cancelled.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from eamm_jax.app.form import Form
from eamm_jax.app.studio import Progress, Result, Studio
from eamm_jax.errors import UserError

_log = logging.getLogger(__name__)

_USUAL_SECONDS = 10.0
"""An animation is taken to last this long before the first is done."""

_SWEEP_SECONDS = 60.0


class Status(StrEnum):
    """Where an order stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass
class Order:
    """One animation.

    Attributes:
        form: what was asked for.
        uploads: folder with its files.
        name: that cannot be guessed; whoever knows it may see and cancel the order.
        status: where it stands.
        progress: of its frames.
        result: when it is done.
        error: when it has failed, a sentence for whoever asked.
        ended: seconds of `time.monotonic`; None while it waits or runs.
    """

    form: Form
    uploads: Path
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    status: Status = Status.WAITING
    progress: Progress = field(default_factory=Progress)
    result: Result | None = None
    error: str = ""
    ended: float | None = None

    @property
    def growing(self) -> Path:
        """The video while it is made, in fragments; deleted with the uploads."""
        return self.uploads / "growing.mp4"


class Busy(Exception):  # noqa: N818 - it is no fault
    """As many orders wait as may; `retry_after` are the seconds until one is likely to be done."""

    def __init__(self, retry_after: int):
        super().__init__(f"Too many animations are waiting; try again in {retry_after} s")
        self.retry_after = retry_after


class Orders:
    """Runs orders in their order, as many at a time as the limits say.

    Args:
        studio: renders them.
        clock: seconds that never go back.
    """

    def __init__(self, studio: Studio, clock: Callable[[], float] = time.monotonic):
        self._studio, self._clock = studio, clock
        self._orders: dict[str, Order] = {}
        self._waiting: deque[Order] = deque()
        self._seconds: deque[float] = deque(maxlen=16)
        self._changed = threading.Condition()
        self._closing = False
        self.ended: Counter[str] = Counter()
        """How many ended, by their status."""
        self._workers = [
            threading.Thread(target=self._serve, name=f"animation {n}")
            for n in range(studio.limits.jobs)
        ]
        for worker in self._workers:
            worker.start()

    def place(self, form: Form, uploads: Path) -> Order:
        """Takes an order; its uploads are deleted with it.

        Raises:
            Busy: too many wait already; nothing was taken, and the uploads are the caller's.
        """
        with self._changed:
            self._sweep()
            idle = self._studio.limits.jobs - self.count(Status.RUNNING)
            if len(self._waiting) >= self._studio.limits.waiting + idle:
                mean = sum(self._seconds) / len(self._seconds) if self._seconds else _USUAL_SECONDS
                raise Busy(max(1, round(mean)))
            order = Order(form, uploads)
            self._orders[order.name] = order
            self._waiting.append(order)
            self._changed.notify()
            return order

    def get(self, name: str) -> Order | None:
        """The order of a name, if there is one."""
        with self._changed:
            self._sweep()
            return self._orders.get(name)

    def count(self, status: Status) -> int:
        """How many there are of a status."""
        return sum(order.status is status for order in list(self._orders.values()))

    def cancel(self, order: Order) -> None:
        """Ends an order at its next frame, and forgets it and all that belongs to it."""
        with self._changed:
            if self._orders.pop(order.name, None) is None:
                return
            if order.status is Status.WAITING:
                self._waiting.remove(order)
                self._end(order, Status.CANCELLED)
            elif order.status is Status.RUNNING:
                order.status = Status.CANCELLED  # its worker notices, and ends it
            _remove_result(order)

    def close(self) -> None:
        """Ends everything; the studio is to be closed first, which ends what runs."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def _serve(self) -> None:
        while True:
            with self._changed:
                called = lambda: self._waiting or self._closing  # noqa: E731
                while not self._changed.wait_for(called, timeout=_SWEEP_SECONDS):
                    self._sweep()
                if self._closing:
                    return
                order = self._waiting.popleft()
                order.status = Status.RUNNING
            started = self._clock()
            status, result, error = self._run(order)
            with self._changed:
                order.result, order.error = result, error
                if order.status is Status.CANCELLED:
                    status = Status.CANCELLED
                    _remove_result(order)
                elif status is Status.DONE:
                    self._seconds.append(self._clock() - started)
                self._end(order, status)

    def _run(self, order: Order) -> tuple[Status, Result | None, str]:
        try:
            with closing(self._studio.work(order.form, order.growing)) as news:
                for item in news:
                    if isinstance(item, Result):
                        return Status.DONE, item, ""
                    order.progress = item
                    if order.status is Status.CANCELLED:
                        break
        except UserError as error:
            return Status.FAILED, None, str(without_folder(error, order.uploads))
        except Exception:
            _log.exception("an animation failed")
            return Status.FAILED, None, "The animation failed; the server's log says why"
        return Status.CANCELLED, None, ""

    def _end(self, order: Order, status: Status) -> None:
        order.status, order.ended = status, self._clock()
        self.ended[status] += 1
        shutil.rmtree(order.uploads, ignore_errors=True)

    def _sweep(self) -> None:
        """Forgets orders that ended long ago."""
        until = self._clock() - 60 * self._studio.limits.keep_minutes
        for order in list(self._orders.values()):
            if order.ended is not None and order.ended < until:
                del self._orders[order.name]
                _remove_result(order)


def without_folder(error: UserError, folder: Path) -> UserError:
    """An error that names files as whoever sent them knows them."""
    return UserError(str(error).replace(f"{folder}{os.sep}", ""))


def _remove_result(order: Order) -> None:
    if order.result is not None:
        shutil.rmtree(order.result.video.parent, ignore_errors=True)
