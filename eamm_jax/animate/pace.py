"""How fast frames are rendered, and how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Estimates the time left from the frames after the first chunk.

    The first frame comes with the time to read the inputs and to compile, which says nothing
    about the others; the rest of its chunk comes with it. So the clock starts at the first frame,
    and only whole chunks count.

    Args:
        chunk: frames that are rendered at a time.
        clock: in seconds.
    """

    def __init__(self, chunk: int, clock: Callable[[], float] = time.monotonic):
        self._chunk, self._clock = chunk, clock
        self._first = self._latest = 0.0
        self._chunks = -1
        self.rate: float | None = None
        """Frames per second; None before the second chunk."""

    def seconds_left(self, done: int, total: int) -> float | None:
        """The time until `total` frames are done, to be called after each frame.

        Returns:
            None before the second chunk.
        """
        chunks = (done - 1) // self._chunk
        if chunks > self._chunks:
            now = self._clock()
            if self._chunks < 0:
                self._first = now
            else:
                self.rate = chunks * self._chunk / max(now - self._first, 1e-6)
            self._chunks, self._latest = chunks, now
        if self.rate is None:
            return None
        # Frames up to the end of this chunk are rendered; the next chunk is on its way.
        passed = self._clock() - self._latest
        return max((total - chunks * self._chunk) / self.rate - passed, 0.0)
