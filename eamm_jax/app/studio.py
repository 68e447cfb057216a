"""A loaded model and the animations that it renders for visitors.

Turns, the queue and calling off are Gradio's: it runs `Studio.work` for a visitor, as many at a
time as the limits say, and closes it when the visitor stops it or leaves. Knows nothing of the
page.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from eamm_jax import bundled
from eamm_jax.animate import Animator, Settings, Stream
from eamm_jax.animate import job as jobs
from eamm_jax.animate.emotion_bank import Span
from eamm_jax.animate.pace import Pace
from eamm_jax.app.form import (
    NEUTRAL,
    TEXT,
    Choices,
    Form,
    check,
    check_choice,
    check_speech,
    choices_of,
    command,
    job_of,
)
from eamm_jax.app.limits import Limits
from eamm_jax.checkpoint import stored_networks
from eamm_jax.constants import SAMPLE_RATE
from eamm_jax.errors import UserError, out_of_memory
from eamm_jax.faces.head_pose import HeadPose
from eamm_jax.faces.idle import IdleMotion
from eamm_jax.faces.source import FramedSource, read_source
from eamm_jax.io.arrays import read_pose
from eamm_jax.io.audio import write_wav
from eamm_jax.io.image import read_image, to_uint8
from eamm_jax.io.marking import Mark
from eamm_jax.io.speech import synthesise
from eamm_jax.provenance.marking import Provenance
from eamm_jax.provenance.verify import Report, verify

_POLL_SECONDS = 0.1
"""How soon an animation that waits for the networks notices that the studio closes."""

_CLOSING_SECONDS = 60.0
"""How long closing waits for animations to end at their next frame."""

_MOST_WAITING = 2
"""Frames of a stream that may be due before the oldest are dropped: each is 0.04 s of latency."""

_PREVIEWS = 4
"""Previews and checks of files computed at a time."""


class Progress(NamedTuple):
    """How far an animation is.

    Attributes:
        done: frames rendered; 0 while inputs are read and networks compiled.
        total: frames in all; 0 while that is not known.
        seconds_left: None while that cannot be estimated.
    """

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


class Listening(NamedTuple):
    """A stream of speech that is animated.

    Attributes:
        stream: of its frames.
        motion: the gentle one of its head.
        still: the portrait as it is animated.
    """

    stream: Stream
    motion: IdleMotion
    still: UInt8[np.ndarray, "s s 3"]


class Studio:
    """A model at work for any number of visitors.

    Args:
        animator: the model.
        checkpoint: where it is from; for the command that does the same.
        folder: for work and results; removed by whoever made it.
        limits: what is accepted.
        provenance: how results are marked.
    """

    def __init__(
        self,
        animator: Animator,
        checkpoint: Path,
        folder: Path,
        limits: Limits | None = None,
        provenance: Provenance | None = None,
    ):
        self._provenance = provenance or Provenance()
        self.limits = limits or Limits()
        self.choices: Choices = choices_of(animator)
        self._animator = animator
        self._checkpoint = checkpoint
        self._pose_network = checkpoint if "head_pose" in stored_networks(checkpoint) else None
        self.folder = folder.resolve()
        self._work, self._results = self.folder / "work", self.folder / "results"
        for made in (self._work, self._results):
            made.mkdir()
        self._places = threading.Semaphore(self.limits.jobs)
        self._previews = threading.Semaphore(_PREVIEWS)
        self._listeners = threading.Semaphore(self.limits.listeners)
        self._closing = threading.Event()

    def close(self) -> None:
        """Ends all animations at their next frame and waits for that."""
        self._closing.set()
        ended = [self._places.acquire(timeout=_CLOSING_SECONDS) for _ in range(self.limits.jobs)]
        if any(ended):
            self._places.release(sum(ended))

    def warm_up(self, *, live: bool = False) -> None:
        """Compiles the networks in another thread, so that the first visitor need not wait.

        Args:
            live: those of streams, too.
        """

        def compile_all() -> None:
            for animator in (self._animator, self._live) if live else (self._animator,):
                with suppress(UserError), self._place():
                    frames = animator.animate(
                        read_image(bundled.PORTRAIT, animator.image_size),
                        np.zeros(SAMPLE_RATE // 2, np.float32),
                        read_pose(bundled.POSE),
                        emotions=[Span(e) for e in self.choices.emotions if e != NEUTRAL][:1],
                    )
                    next(iter(frames))

        threading.Thread(target=compile_all, name="warm-up").start()

    def preview(self, portrait: Path, crop: bool = True, face: int | None = None) -> Preview:
        """What the model will see of a portrait.

        Args:
            portrait: the picture.
            crop: as in a form.
            face: as in a form.

        Raises:
            UserError: it cannot be read, or shows no face.
        """
        with self._previews:
            read = read_source(portrait, self._animator.image_size, align=crop, number=face)
        height, width = read.picture.shape[:2]
        shares = np.array([width, height, width, height])
        boxes = [tuple((np.array(found.box) / shares).tolist()) for found in read.faces]
        side = read.to_picture.scale * len(read.crop)
        cut = height != width or abs(side - width) > 1e-6 * width
        message = _how_found(read, cut, missed=crop and not self.choices.faces)
        return Preview(to_uint8(read.crop), read.picture, boxes, cut, message)

    def mark(self) -> Mark:
        """What the frames of a stream carry."""
        return self._provenance.mark(model=self._animator.weights)

    def verify(self, path: Path) -> Report:
        """What a video or picture says about how it was made.

        Raises:
            UserError: it cannot be read.
        """
        with self._previews:
            return verify(path)

    def work(
        self, form: Form, fragments: Path | None = None
    ) -> Generator[Progress | Result, None, None]:
        """Renders an animation, a frame each time it is asked for the next.

        Args:
            form: what is asked for.
            fragments: where the video is written as well, to be played while it grows.

        Yields:
            How far it is, and at last the result. Closing the generator leaves nothing behind.

        Raises:
            UserError: the form is not in order, an input cannot be used, or the studio closes.
        """
        yield Progress()
        with self._place(), TemporaryDirectory(dir=self._work, ignore_cleanup_errors=True) as made:
            folder = Path(made)
            check(form, self.choices, self.limits)
            sound = form.sound
            if form.voice == TEXT:
                sound = folder / "text.wav"
                write_wav(sound, synthesise(form.text, form.accent).samples)
                check_speech(sound, self.limits)
            assert sound is not None
            job = job_of(form, sound, folder, self._pose_network)
            job = dataclasses.replace(job, provenance=self._provenance, fragments=fragments)
            jobs.check({"": job})
            summary = yield from self._animate(job)
            kept = Path(mkdtemp(dir=self._results), job.output.name)
            job.output.replace(kept)
        yield Result(kept, summary, command(form, self._checkpoint))

    @contextmanager
    def listening(self, portrait: Path, emotion: str, strength: float = 1.0) -> Iterator[Listening]:
        """Animates a stream of speech while the block lasts, by a head that moves gently.

        Args:
            portrait: picture of a face.
            emotion: of the model's, to begin with.
            strength: factor on the emotion.

        Raises:
            UserError: the picture or the emotion cannot be used, or too many are listened to.
        """
        check_choice("emotion of this model", emotion, self.choices.emotions)
        if not self._listeners.acquire(blocking=False):
            raise UserError(
                f"{self.limits.listeners} streams are animated already; wait until one ends"
            )
        try:
            self._check_open()
            source = read_source(portrait, self._animator.image_size)
            crop = to_uint8(source.crop)
            still = HeadPose(still=True).track(crop, 1)[0]
            motion = IdleMotion(1.0, seed=0)
            stream = self._live.stream(
                source.crop,
                (still + motion.next(1)[0] for _ in itertools.count()),
                Settings(emotion_strength=strength),
                emotion=emotion if len(self.choices.emotions) > 1 else None,
                most_waiting=_MOST_WAITING,
            )
            yield Listening(stream, motion, crop)
        finally:
            self._listeners.release()

    @cached_property
    def _live(self) -> Animator:
        """The model, a frame at a time."""
        return self._animator.replace(chunk=1)

    def _animate(self, job: jobs.Job) -> Generator[Progress, None, jobs.Summary]:
        pace = Pace(self._animator.chunk)
        with closing(jobs.steps(self._animator, job)) as steps:
            while True:
                try:
                    done, total = next(steps)
                except StopIteration as ended:
                    return ended.value
                except (MemoryError, RuntimeError) as error:
                    raise out_of_memory(error) or error from None
                yield Progress(done, total, pace.seconds_left(done, total))
                self._check_open()

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise UserError("The studio is closing")

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the places for animations; compiling the networks takes one, too."""
        while not self._places.acquire(timeout=_POLL_SECONDS):
            self._check_open()
        try:
            self._check_open()
            yield
        finally:
            self._places.release()


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
