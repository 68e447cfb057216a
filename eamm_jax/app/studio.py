"""A loaded model and the animations that visitors have it make.

Each visitor has at most one animation, waiting or running; a few run at a time. One that is
called off ends at the next frame and leaves nothing. Knows nothing of the page.
"""

from __future__ import annotations

import logging
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from eamm_jax import bundled
from eamm_jax.animate import Animator
from eamm_jax.animate import job as jobs
from eamm_jax.animate.emotion_bank import Span
from eamm_jax.animate.pace import Pace
from eamm_jax.app.form import NEUTRAL, TEXT, Choices, Form, check, choices_of, command, job_of
from eamm_jax.app.limits import Limits, check_speech
from eamm_jax.checkpoint import stored_networks
from eamm_jax.constants import SAMPLE_RATE
from eamm_jax.errors import UserError
from eamm_jax.faces.source import FramedSource, read_source
from eamm_jax.io.audio import write_wav
from eamm_jax.io.image import read_image, to_uint8
from eamm_jax.io.pose import read_pose
from eamm_jax.io.speech import synthesise

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
"""How soon somebody who waits notices that it was called off."""


class CalledOffError(Exception):
    """An animation was called off."""


class Progress(NamedTuple):
    """How far an animation is.

    Attributes:
        before: animations that come before it; 0 when it is its turn.
        done: frames made; 0 while inputs are read and networks compiled.
        total: frames in all; 0 while that is not known.
        seconds_left: None while that cannot be told.
    """

    before: int = 0
    done: int = 0
    total: int = 0
    seconds_left: float | None = None


class Result(NamedTuple):
    """A finished animation.

    Attributes:
        video: the file, in the studio's folder.
        summary: what it took.
        command: the words that have `eamm-infer` do the same.
    """

    video: Path
    summary: jobs.Summary
    command: list[str]


class Preview(NamedTuple):
    """What the model will see of a portrait.

    Attributes:
        crop: the square that is animated.
        picture: the whole.
        boxes: of the faces in it, the largest first; left, top, right, bottom as shares of its
            width and height.
        cut: whether the crop is less than the whole.
        message: how it was found, in a sentence.
    """

    crop: UInt8[np.ndarray, "s s 3"]
    picture: UInt8[np.ndarray, "h w 3"]
    boxes: list[tuple[float, float, float, float]]
    cut: bool
    message: str


class Ticket:
    """One visitor's animation, from the click to its end."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Calls it off; what runs ends soon after."""
        self._cancelled.set()

    def check(self) -> None:
        """Raises `CalledOffError` if it was called off."""
        if self._cancelled.is_set():
            raise CalledOffError


class Studio:
    """A model at work for any number of visitors.

    Args:
        animator: the model.
        checkpoint: where it is from; for the command that does the same.
        folder: for work and results; removed by whoever made it.
        limits: what is taken on.
    """

    def __init__(
        self, animator: Animator, checkpoint: Path, folder: Path, limits: Limits | None = None
    ):
        self.limits = limits or Limits()
        self.choices: Choices = choices_of(animator)
        self._animator = animator
        self._checkpoint = checkpoint
        self._pose_network = checkpoint if "head_pose" in stored_networks(checkpoint) else None
        self.folder = folder.resolve()
        self._work, self._results = self.folder / "work", self.folder / "results"
        for made in (self._work, self._results):
            made.mkdir()
        self._line: list[Ticket] = []
        self._turn = threading.Condition()
        self._tickets: dict[str, Ticket] = {}
        self._warming = Ticket()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    # Tickets.

    def admit(self, visitor: str) -> Ticket:
        """Gives a visitor a place in the queue; an earlier animation of theirs is called off.

        Raises:
            UserError: too many are waiting.
        """
        with self._lock:
            if visitor in self._tickets:
                self._tickets.pop(visitor).cancel()
            if len(self._tickets) >= self.limits.jobs + self.limits.waiting:
                raise UserError(
                    f"The studio is busy: {self.limits.waiting} others are waiting; "
                    "try again in a few minutes"
                )
            ticket = self._tickets[visitor] = Ticket()
            return ticket

    def ticket(self, visitor: str) -> Ticket:
        """The ticket that a visitor was given.

        Raises:
            CalledOffError: it was called off.
        """
        with self._lock:
            if visitor not in self._tickets:
                raise CalledOffError
            return self._tickets[visitor]

    def cancel(self, visitor: str) -> bool:
        """Calls a visitor's animation off; whether there was one."""
        with self._lock:
            ticket = self._tickets.pop(visitor, None)
        if ticket is not None:
            ticket.cancel()
        return ticket is not None

    def _finished(self, ticket: Ticket) -> None:
        with self._lock:
            for visitor, held in list(self._tickets.items()):
                if held is ticket:
                    del self._tickets[visitor]

    def close(self) -> None:
        """Calls everything off and waits until it has ended."""
        with self._lock:
            tickets, self._tickets = [self._warming, *self._tickets.values()], {}
        for ticket in tickets:
            ticket.cancel()
        for thread in list(self._threads):
            thread.join()

    # Work.

    def warm_up(self) -> None:
        """Has the networks compiled in another thread, so that the first visitor need not wait."""

        def compile_all() -> None:
            with suppress(CalledOffError), self._place(self._warming, lambda _: None):
                frames = self._animator.animate(
                    read_image(bundled.PORTRAIT, self._animator.image_size),
                    np.zeros(SAMPLE_RATE // 2, np.float32),
                    read_pose(bundled.POSE),
                    emotions=[Span(e) for e in self.choices.emotions if e != NEUTRAL][:1],
                )
                next(iter(frames))

        self._start(compile_all)

    def preview(self, portrait: Path, crop: bool = True, face: int | None = None) -> Preview:
        """What the model will see of a portrait.

        Args:
            portrait: the picture.
            crop: as in a form.
            face: as in a form.

        Raises:
            UserError: it cannot be read, or shows no face.
        """
        read = read_source(portrait, self._animator.image_size, align=crop, number=face)
        height, width = read.picture.shape[:2]
        shares = np.array([width, height, width, height])
        boxes = [tuple((np.array(found.box) / shares).tolist()) for found in read.faces]
        side = read.to_picture.scale * len(read.crop)
        cut = height != width or abs(side - width) > 1e-6 * width
        message = _how_found(read, cut, missed=crop and not self.choices.faces)
        return Preview(to_uint8(read.crop), read.picture, boxes, cut, message)

    def work(self, form: Form, ticket: Ticket) -> Iterator[Progress | Result]:
        """Makes an animation.

        Yields:
            How far it is, again and again, and at last the result. Closing the iterator calls
            the animation off.

        Raises:
            UserError: the form is not in order, or an input cannot be used.
            CalledOffError: it was called off.
        """
        news: queue.Queue[Progress | Result | BaseException] = queue.Queue()

        def waiting(before: int) -> None:
            news.put(Progress(before))

        def make() -> None:
            try:
                news.put(Progress())
                with self._place(ticket, waiting), self._folder() as folder:
                    news.put(self._make(form, ticket, folder, news))
            except BaseException as error:
                news.put(error)
            finally:
                self._finished(ticket)

        thread = self._start(make)
        try:
            while True:
                item = news.get()
                while not news.empty() and isinstance(item, Progress):
                    item = news.get()  # only the latest matters
                if isinstance(item, BaseException):
                    raise item
                yield item
                if isinstance(item, Result):
                    return
        finally:
            ticket.cancel()
            thread.join()

    def _make(
        self,
        form: Form,
        ticket: Ticket,
        folder: Path,
        news: queue.Queue[Progress | Result | BaseException],
    ) -> Result:
        ticket.check()
        check(form, self.choices, self.limits)
        news.put(Progress())
        sound = form.sound
        if form.voice == TEXT:
            sound = folder / "text.wav"
            write_wav(sound, synthesise(form.text, form.accent).samples)
            check_speech(sound, self.limits)
        assert sound is not None
        job = job_of(form, sound, folder, self._pose_network)
        jobs.check({"": job})
        pace = Pace(self._animator.chunk)

        def report(done: int, total: int) -> None:
            ticket.check()
            news.put(Progress(0, done, total, pace.seconds_left(done, total)))

        ticket.check()
        summary = jobs.run(self._animator, job, report)
        kept = Path(tempfile.mkdtemp(dir=self._results), job.output.name)
        job.output.replace(kept)
        return Result(kept, summary, command(form, self._checkpoint))

    @contextmanager
    def _place(self, ticket: Ticket, tell: Callable[[int], None]) -> Iterator[None]:
        """One of the places for animations that run, given in the order in which they came.

        Args:
            ticket: of the animation.
            tell: called with the number of those before it, whenever that changes.

        Raises:
            CalledOffError: it was called off while it waited.
        """
        with self._turn:
            self._line.append(ticket)
        try:
            self._wait(ticket, tell)
            yield
        finally:
            with self._turn:
                self._line.remove(ticket)
                self._turn.notify_all()

    def _wait(self, ticket: Ticket, tell: Callable[[int], None]) -> None:
        told = 0
        with self._turn:
            while (place := self._line.index(ticket)) >= self.limits.jobs:
                # That the networks are being compiled is nobody's turn.
                before = place - (self._warming in self._line[:place])
                if before != told:
                    told = before
                    tell(before)
                self._turn.wait(_POLL_SECONDS)
                ticket.check()

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(dir=self._work))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _start(self, target: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                target()
            finally:
                self._threads.discard(thread)

        thread = threading.Thread(target=run, name="animation")
        self._threads.add(thread)
        thread.start()
        return thread


def _how_found(portrait: FramedSource, cut: bool, missed: bool) -> str:
    """What was done to a portrait, in a sentence or two."""
    count = len(portrait.faces)
    if portrait.face is None:
        used = "the square in its middle is" if cut else "the picture is"
        if missed and cut:
            return (
                f"No face was looked for: {used} used. With the extra 'faces' installed they are "
                "found and cut out."
            )
        return f"{used[0].upper()}{used[1:]} used as it is."
    if not cut:
        return "The face is where it should be: the picture is used as it is."
    if count == 1:
        return "One face was found and cut out."
    number = 1 + [face is portrait.face for face in portrait.faces].index(True)
    return f"{count} faces were found; this is number {number}."
