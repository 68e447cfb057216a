"""Reads training examples from clips (EAMM, section 3; docs/architecture.md, section 8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from eamm_jax.constants import POSE_NUMBERS
from eamm_jax.errors import UserError
from eamm_jax.input_pipeline.clips import WINDOW_FRAMES, BadClip, Kind, decode_frames
from eamm_jax.input_pipeline.sources import ClipFolder
from eamm_jax.ops.smoothing import TRAINING_POSE_FILTER, smooth_track
from eamm_jax.types import Clips, Pairs

BatchOf = Literal["clips", "pairs"]
OnBadClip = Literal["error", "skip"]

MAX_BAD_IN_A_ROW = 100
"""Consecutive bad clips after which reading stops, even with `skip`."""


class Example(NamedTuple):
    """A training example and its clip.

    Attributes:
        data: a `Clips` or `Pairs` without the batch axis.
        name: `<kind>:<identity>/<clip>`.
        skipped: fault of every bad clip skipped before it, by name.
    """

    data: Clips | Pairs
    name: str
    skipped: dict[str, str]


@dataclass(frozen=True)
class ExampleReader:
    """Reads examples of one folder.

    A skipped clip is replaced by the next good one, so that every process makes the same number
    of batches. An example depends only on its group and seed, and includes the image keypoints
    that were kept with the clips if these are opened with them.

    Attributes:
        folder: the clips.
        kind: the rules of the data set.
        groups: groups of clips, as indices into `folder.names`: one clip each, or all clips
            of an identity.
        size: width and height of the images.
        batch_of: `clips` or `pairs`.
        on_bad_clip: `error` stops at the first bad clip, `skip` records it and continues.
        frame_stride: a divisor n of 16; only the last of every n frames of a clip is decoded.
            Audio features and pose are complete.
        with_frames: decode the frames of clips; if not, only their source images are decoded.
    """

    folder: ClipFolder
    kind: Kind
    groups: Sequence[Sequence[int]]
    size: int
    batch_of: BatchOf = "clips"
    on_bad_clip: OnBadClip = "error"
    frame_stride: int = 1
    with_frames: bool = True

    def read(self, group: int, seed: int) -> Example:
        """Reads an example from group `group`, or from the next group with a good clip.

        Raises:
            UserError: a clip is bad and must not be skipped, or too many are bad.
        """
        rng = np.random.default_rng(seed)
        skipped: dict[str, str] = {}
        read = self._clip if self.batch_of == "clips" else self._pair
        for index in self._candidates(group, rng):
            try:
                return Example(read(index, rng, skipped), self._name(index), skipped)
            except BadClip as fault:
                self._skip(index, fault, skipped)
            if len(skipped) >= MAX_BAD_IN_A_ROW:
                break
        first, fault_of_first = next(iter(skipped.items()))
        raise UserError(
            f"{len(skipped)} bad clips in a row; the first: "
            f"{first}: {fault_of_first} (find the cause with python -m data.check)"
        )

    def _candidates(self, group: int, rng: np.random.Generator) -> Iterator[int]:
        """Clips in the order in which they are tried."""
        for offset in range(len(self.groups)):
            yield from _rotated(self.groups[(group + offset) % len(self.groups)], rng)

    def _name(self, index: int) -> str:
        return f"{self.kind.name}:{self.folder.names[index]}"

    def _skip(self, index: int, fault: BadClip, skipped: dict[str, str]) -> None:
        if self.on_bad_clip == "error":
            raise UserError(
                f"bad clip {self._name(index)}: {fault} (repair or remove it, or set "
                "on_bad_clip to 'skip')"
            ) from fault
        skipped[self._name(index)] = str(fault)

    def _pair(self, index: int, rng: np.random.Generator, skipped: dict[str, str]) -> Pairs:
        """Two frames of a clip, the earlier one as the source image (stage 0).

        Both may be the same frame, as in the first-order motion model; not in albums, which have
        few. If clips are opened with landmarks, the example includes them.
        """
        clip = self.folder.open(index)
        few = self.folder.names[index].is_album and clip.num_frames > 1
        numbers = sorted(rng.choice(clip.num_frames, 2, replace=not few).tolist())
        source, driving = (decode_frames(clip, [n], self.size)[0] for n in numbers)
        if clip.points is None:
            return Pairs(source, driving)
        of_source, of_driving = numbers
        truths = clip.truth(of_source), clip.truth(of_driving, of_source)
        return Pairs(source, driving, *truths)

    def _clip(self, index: int, rng: np.random.Generator, skipped: dict[str, str]) -> Clips:
        """Sixteen consecutive frames with audio, pose and source image (stages 1 and 2).

        The source image is frame r and the clip frames r + 1 to r + 16; in a data set with
        emotions the source image is a random frame of a random neutral clip of the same person.
        """
        emotion = self.kind.emotion(self.folder.names[index])
        clip = self.folder.open(index)
        pose, windows, length = clip.motion()
        starts, stride = self.kind.starts(length), self.frame_stride
        start = int(rng.integers(starts.start, starts.stop))
        window = range(start + 1, start + WINDOW_FRAMES)
        chosen = window[stride - 1 :: stride]
        frames = decode_frames(clip, chosen if self.with_frames else (), self.size)
        if self.kind.emotional:
            source = self._neutral_source(index, rng, skipped)
            pose = smooth_track(pose, TRAINING_POSE_FILTER)
        else:
            source = decode_frames(clip, [start], self.size)[0]
        return Clips(
            source=source,
            frames=np.asarray(frames, np.uint8).reshape(-1, *source.shape),
            audio=windows[window.start : window.stop, :, 1:],
            pose=pose[window.start : window.stop, :POSE_NUMBERS],
            emotion=np.asarray(emotion, np.int32),
            keypoints=None if clip.keypoints is None else clip.taught(chosen),
        )

    @cached_property
    def _neutral(self) -> dict[str, list[int]]:
        """Neutral clips by identity."""
        found: dict[str, list[int]] = {}
        for index, (identity, clip) in enumerate(self.folder.names):
            if clip.startswith("neutral_"):
                found.setdefault(identity, []).append(index)
        return found

    def _neutral_source(
        self, index: int, rng: np.random.Generator, skipped: dict[str, str]
    ) -> np.ndarray:
        identity = self.folder.names[index].identity
        for candidate in _rotated(self._neutral.get(identity, []), rng):
            try:
                clip = self.folder.open(candidate)
                frame = int(rng.integers(clip.num_frames))
                return decode_frames(clip, [frame], self.size)[0]
            except BadClip as fault:
                self._skip(candidate, fault, skipped)
        raise BadClip(f"{identity} has no usable neutral clip to take the source image from")


def _rotated(clips: Sequence[int], rng: np.random.Generator) -> Iterator[int]:
    """All clips, starting at a random one."""
    first = int(rng.integers(len(clips))) if len(clips) > 1 else 0
    yield from clips[first:]
    yield from clips[:first]
