"""Reads training examples from clips (EAMM, section 3; docs/architecture.md, section 8)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from eamm_jax.errors import UserError
from eamm_jax.input_pipeline.clips import (
    WINDOW_FRAMES,
    BadClip,
    Kind,
    decode_frames,
)
from eamm_jax.input_pipeline.sources import ClipFolder
from eamm_jax.ops.smoothing import TRAINING_POSE_FILTER, smooth_track
from eamm_jax.types import POSE_NUMBERS, Clips, Pairs

OnBadClip = Literal["error", "skip"]

MAX_BAD_IN_A_ROW = 100
"""Consecutive bad clips after which reading stops, even with `skip`."""


class Example(NamedTuple):
    """A training example and its clip.

    Attributes:
        data: a `Clips` or `Pairs` without the batch axis.
        name: `<kind>:<identity>/<clip>`.
        skipped: name and fault of every bad clip skipped before it.
    """

    data: Clips | Pairs
    name: str
    skipped: tuple[tuple[str, str], ...] = ()


class ExampleReader(ABC):
    """Reads examples of one folder.

    A skipped clip is replaced by the next good one, so that every process makes the same number
    of batches. An example depends only on its group and seed.
    """

    def __init__(
        self,
        folder: ClipFolder,
        kind: Kind,
        groups: Sequence[Sequence[int]],
        *,
        size: int,
        on_bad_clip: OnBadClip,
    ):
        """Initializes a reader without reading anything.

        Args:
            folder: the clips.
            kind: the rules of the data set.
            groups: groups of clips, as indices into `folder.names`: one clip each, or all clips
                of an identity.
            size: width and height of the images.
            on_bad_clip: `error` stops at the first bad clip, `skip` records it and continues.
        """
        self._folder = folder
        self._kind = kind
        self._groups = groups
        self._size = size
        self._on_bad_clip = on_bad_clip

    @abstractmethod
    def _cut(
        self, index: int, rng: np.random.Generator, skipped: list[tuple[str, str]]
    ) -> Clips | Pairs:
        """Reads an example from clip `index`, or raises `BadClip`."""

    def read(self, group: int, seed: int) -> Example:
        """Reads an example from group `group`, or from the next group with a good clip.

        Raises:
            UserError: a clip is bad and must not be skipped, or too many are bad.
        """
        rng = np.random.default_rng(seed)
        skipped: list[tuple[str, str]] = []
        for index in self._candidates(group, rng):
            try:
                return Example(self._cut(index, rng, skipped), self._name(index), tuple(skipped))
            except BadClip as fault:
                self._skip(index, fault, skipped)
            if len(skipped) >= MAX_BAD_IN_A_ROW:
                break
        first, fault_of_first = skipped[0]
        raise UserError(
            f"{len(skipped)} bad clips in a row; the first: "
            f"{first}: {fault_of_first} (find the cause with python -m data.check)"
        )

    def _candidates(self, group: int, rng: np.random.Generator) -> Iterator[int]:
        """Clips in the order in which they are tried."""
        for offset in range(len(self._groups)):
            clips = self._groups[(group + offset) % len(self._groups)]
            yield from _rotated(clips, rng)

    def _name(self, index: int) -> str:
        return f"{self._kind.name}:{self._folder.names[index]}"

    def _skip(self, index: int, fault: BadClip, skipped: list[tuple[str, str]]) -> None:
        if self._on_bad_clip == "error":
            raise UserError(
                f"bad clip {self._name(index)}: {fault} (repair or remove it, or set "
                "on_bad_clip to 'skip')"
            ) from fault
        skipped.append((self._name(index), str(fault)))


class PairReader(ExampleReader):
    """Two frames of a clip, the earlier one as the source image (stage 0).

    Both may be the same frame, as in the first-order motion model. If clips are opened with
    landmarks, the example includes them.
    """

    def _cut(self, index: int, rng: np.random.Generator, skipped: list[tuple[str, str]]) -> Pairs:
        clip = self._folder.open(index)
        first, second = sorted(rng.integers(clip.num_frames, size=2).tolist())
        return Pairs(
            source=decode_frames(clip, [first], self._size)[0],
            driving=decode_frames(clip, [second], self._size)[0],
            source_truth=None if clip.points is None else clip.truth(first),
            driving_truth=None if clip.points is None else clip.truth(second),
        )


class ClipReader(ExampleReader):
    """Sixteen consecutive frames with audio, pose and source image (stages 1, 1 fine-tune and 2).

    The source image is frame r and the clip frames r + 1 to r + 16; in a data set with emotions
    the source image is a random frame of a random neutral clip of the same person.
    """

    def __init__(
        self,
        folder: ClipFolder,
        kind: Kind,
        groups: Sequence[Sequence[int]],
        *,
        size: int,
        on_bad_clip: OnBadClip,
        frame_stride: int = 1,
    ):
        """Initializes a reader; see `ExampleReader`.

        Args:
            folder: the clips.
            kind: the rules of the data set.
            groups: groups of clips.
            size: width and height of the images.
            on_bad_clip: `error` or `skip`.
            frame_stride: a divisor n of 16; only the last of every n frames is decoded. Audio
                features and pose are complete.
        """
        super().__init__(folder, kind, groups, size=size, on_bad_clip=on_bad_clip)
        self._frame_stride = frame_stride
        self._neutral: dict[str, list[int]] = {}
        if kind.emotional:
            for index, (identity, clip) in enumerate(folder.names):
                if clip.startswith("neutral_"):
                    self._neutral.setdefault(identity, []).append(index)

    def _cut(self, index: int, rng: np.random.Generator, skipped: list[tuple[str, str]]) -> Clips:
        kind = self._kind
        emotion = kind.emotion(self._folder.names[index])
        clip = self._folder.open(index)
        pose, windows, length = clip.motion()
        starts = kind.starts(length)
        start = int(rng.integers(starts.start, starts.stop))
        stride = self._frame_stride
        frames = decode_frames(
            clip, range(start + stride, start + WINDOW_FRAMES, stride), self._size
        )
        if kind.emotional:
            source = self._neutral_source(index, rng, skipped)
            pose = smooth_track(pose, TRAINING_POSE_FILTER)
        else:
            source = decode_frames(clip, [start], self._size)[0]
        window = slice(start + 1, start + WINDOW_FRAMES)
        return Clips(
            source=source,
            frames=np.stack(frames),
            audio=windows[window, :, 1:],
            pose=pose[window, :POSE_NUMBERS],
            emotion=np.asarray(emotion, np.int32),
        )

    def _neutral_source(
        self, index: int, rng: np.random.Generator, skipped: list[tuple[str, str]]
    ) -> np.ndarray:
        identity = self._folder.names[index].identity
        for candidate in _rotated(self._neutral.get(identity, []), rng):
            try:
                clip = self._folder.open(candidate)
                frame = int(rng.integers(clip.num_frames))
                return decode_frames(clip, [frame], self._size)[0]
            except BadClip as fault:
                self._skip(candidate, fault, skipped)
        raise BadClip(f"{identity} has no usable neutral clip to take the source image from")


def _rotated(clips: Sequence[int], rng: np.random.Generator) -> Iterator[int]:
    """All clips, starting at a random one."""
    first = int(rng.integers(len(clips))) if len(clips) > 1 else 0
    yield from clips[first:]
    yield from clips[:first]
