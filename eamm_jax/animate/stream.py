"""Animates speech as it comes: sound in, in pieces of any size; frames out, as they are due.

    stream = animator.stream(source_image, pose)
    for piece in microphone:
        stream.push(piece)
        for frame in stream.pull():
            show(frame.image)

Every network is causal but for the sound's window, so a frame needs the 0.175 s of sound that
follow it, and the frames are those of `Animator.animate` for the same speech, whatever the pieces.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Float32

from eamm_jax import features
from eamm_jax.animate.emotion_bank import LiveEmotion
from eamm_jax.animate.session import Session, padded
from eamm_jax.constants import POSE_NUMBERS
from eamm_jax.errors import UserError

if TYPE_CHECKING:
    from eamm_jax.animate.animator import Animator, Settings


Pose = Float[np.ndarray, " _"] | Iterable[Float[np.ndarray, " _"]]


class StreamedFrame(NamedTuple):
    """A frame of a stream, RGB.

    Attributes:
        number: at 25 a second from the start of the speech; frames that were dropped are missing.
        image: with the emotion, if there is one.
        neutral: the same frame without emotion, where `Settings.neutral` asks for it.
    """

    number: int
    image: np.ndarray
    neutral: np.ndarray | None


class Stream:
    """An animation of speech that is not known yet; made by `Animator.stream`.

    Portrait, pose, emotion and strength can be changed between any two frames. What is held does
    not grow with the speech, as long as frames are pulled. One thread may push while another pulls.

    Attributes:
        dropped: frames that were not rendered so far.
    """

    def __init__(
        self,
        animator: Animator,
        source_image: Float32[np.ndarray, "s s 3"],
        pose: Pose,
        settings: Settings,
        *,
        emotion: str | None = None,
        level: int | None = None,
        most_waiting: int | None = None,
        as_uint8: bool = True,
    ):
        self._animator, self._most_waiting = animator, most_waiting
        self._timeline, self._level = settings.timeline, level
        self._session = Session(animator, settings, as_uint8=as_uint8)
        self._session.show(source_image)
        self.dropped = 0
        self._emotion = None
        if emotion is not None:
            if self._timeline.emotions:
                raise UserError("an emotion is given, and the timeline has some; leave one out")
            if animator.bank is None or not animator.has_emotion_network:
                raise UserError("this model has no emotion bank, so a stream of it stays neutral")
            self._emotion = LiveEmotion(animator.bank, emotion, level)
        self.set_pose(pose)
        self._begin()

    def _begin(self) -> None:
        self._speech = features.SpeechStream(self._animator.config.inference.loudness_range)
        self._windows: deque[np.ndarray] = deque()
        self._number = 0

    def show(self, source_image: Float32[np.ndarray, "s s 3"]) -> None:
        """Goes on with another portrait.

        Raises:
            UserError: it has another size than the model's.
        """
        self._session.show(source_image)

    def set_pose(self, pose: Pose) -> None:
        """Turns the head.

        Args:
            pose: yaw, pitch, roll in degrees, scale, tx, ty and, unused, tz, held until it is
                changed; or such a row for each frame, of which the last is held.

        Raises:
            UserError: there are not as many numbers, here or when a row is read.
        """
        if isinstance(pose, np.ndarray) and pose.ndim == 1:
            pose = (pose,)
        rows = map(_row, pose)
        self._pose = next(rows)
        self._poses = itertools.chain([self._pose], rows)

    def set_emotion(self, emotion: str, level: int | None = None) -> None:
        """Fades over to another emotion of the bank.

        Raises:
            UserError: the bank does not have it, or the stream was begun without any.
        """
        if self._emotion is None:
            raise UserError("the stream was begun without an emotion; begin it with 'neutral'")
        self._emotion.change(emotion, level)

    def set_strength(self, strength: float) -> None:
        """Sets the factor on the emotion's displacement; 0 is neutral."""
        self._session.strength = strength

    def set_gaze(self, right: float, up: float) -> None:
        """Turns the eyes, -1 to 1 each way, where the model's keypoints know its pupils."""
        self._session.gaze = right, up

    def set_blinking(self, blinking: bool) -> None:
        """Has the eyes blink, or keeps them open."""
        self._session.blinking = blinking

    @property
    def image_size(self) -> int:
        """Side of portraits and frames."""
        return self._animator.image_size

    @property
    def waiting(self) -> int:
        """Frames whose sound is there, and which have not been pulled."""
        return len(self._windows)

    def push(self, samples: Float[np.ndarray, " n"]) -> None:
        """Takes more of the speech: mono samples at 16 kHz. Computes no frame.

        Raises:
            UserError: it is of another shape, or a sample is not a number.
        """
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise UserError(f"expected finite samples of shape (n,), got {samples.shape}")
        self._windows.extend(self._speech.push(samples))

    def pull(self) -> Iterator[StreamedFrame]:
        """Renders what is due, in whole chunks.

        Where more than `most_waiting` frames are due, computing has fallen behind: the oldest
        are dropped, which costs a small part of rendering them, and counted. Sound never is.
        """
        while len(self._windows) >= self._animator.chunk:
            yield from self._step(self._animator.chunk)

    def finish(self) -> Iterator[StreamedFrame]:
        """The frames that are left at the end of the speech; then the stream starts anew."""
        self._windows.extend(self._speech.finish())
        while self._windows:
            yield from self._step(min(self._animator.chunk, len(self._windows)))
        self.reset()

    def reset(self) -> None:
        """Forgets speech and frames so far; portrait, pose, emotion and strength stay."""
        self._session.restart()
        if self._emotion is not None:
            self._emotion.restart()
        self._begin()

    def _next_pose(self) -> Float32[np.ndarray, " 6"]:
        self._pose = next(self._poses, self._pose)
        return self._pose

    def _next_emotion(self, count: int) -> Float32[np.ndarray, "count n"] | None:
        if self._emotion is not None:
            return self._emotion.next(count)
        if not self._timeline.emotions:
            return None
        bank = self._animator.bank
        assert bank is not None  # or the timeline would be without
        return self._timeline.emotion_features(bank, self._level, self._number, count)

    def _step(self, count: int) -> Iterator[StreamedFrame]:
        most = self._most_waiting
        rendered = most is None or len(self._windows) - count < max(most, 1)
        windows = np.stack([self._windows.popleft() for _ in range(count)])
        felt = self._next_emotion(count)
        images = self._session.step(
            windows,
            np.stack([self._next_pose() for _ in range(count)]),
            None if felt is None else self._animator.put(padded(felt, self._animator.chunk)),
            rendered=rendered,
        )
        first, self._number = self._number, self._number + count
        if images is None:
            self.dropped += count
            return
        image, neutral = jax.device_get(images)
        for index in range(count):
            yield StreamedFrame(
                first + index, image[index], None if neutral is None else neutral[index]
            )


def _row(pose: Float[np.ndarray, " _"]) -> Float32[np.ndarray, " 6"]:
    if pose.ndim != 1 or len(pose) < POSE_NUMBERS or not np.isfinite(pose).all():
        raise UserError(f"the pose has shape {pose.shape}; 6 or 7 finite numbers are needed")
    return pose[:POSE_NUMBERS].astype(np.float32)
