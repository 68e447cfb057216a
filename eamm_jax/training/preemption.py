"""Preemption: SIGTERM is a request to save and exit, not a failure.

Schedulers send it some seconds before they take a machine away. In a run of many processes
one of them may get it first (or alone); then all agree on a step to save at, through JAX's
coordination service, which catches the signal itself.
"""

from __future__ import annotations

import signal
from types import FrameType

import jax
from jax.experimental import multihost_utils


class Preemption:
    """Catches SIGTERM while it is entered; must be entered in the main thread."""

    def __init__(self) -> None:
        self._noted = False
        self._previous: signal.Handlers | object | None = None

    def __enter__(self) -> Preemption:
        if jax.process_count() == 1:
            self._previous = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)  # type: ignore[arg-type]
            self._previous = None

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self._noted:  # asked twice: leave now, the last checkpoint stays
            raise SystemExit(128 + signum)
        self._noted = True

    def reached(self, step: int) -> bool:
        """Whether to save and leave now.

        Args:
            step: number of steps done; in a run of many processes each must ask at every
                step, and all get the same answer for the same step.
        """
        if jax.process_count() == 1:
            return self._noted
        return bool(multihost_utils.reached_preemption_sync_point(step))
