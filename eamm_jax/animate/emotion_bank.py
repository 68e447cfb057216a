"""Emotions without a video: tracks of emotion features, stored beside the weights.

The emotion network reads each emotion frame into features (EAMM section 3.2), and nothing else
of the video matters. So a bank of feature tracks, a few seconds for each emotion and level,
replaces emotion videos:

    <checkpoint>/emotion_bank.npz

    <emotion>_<level>/track   (t, n) float16, features at 25 frames a second
    <emotion>_<level>/face    (s, s, 3) uint8, the clip's mean picture, to look at

`eamm_jax/cli/emotion_bank.py` makes it from labelled clips.
"""

from __future__ import annotations

import itertools
import logging
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, UInt8

from eamm_jax.checkpoint import BANK_NAME
from eamm_jax.constants import EMOTIONS, FRAME_RATE, LEVELS
from eamm_jax.errors import UserError
from eamm_jax.io.files import atomic_output

MAX_BANK_BYTES = 64 << 20
"""A bank of all emotions and levels takes about half a megabyte."""

FADE_SECONDS = 0.6
"""Length of the crossfade from one emotion to the next."""

_log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """One emotion at one level: a track of features, and the clip's mean picture."""

    track: Float32[np.ndarray, "t n"]
    face: UInt8[np.ndarray, "s s 3"]


@dataclass(frozen=True)
class Span:
    """An emotion and when it is shown.

    Attributes:
        emotion: one of `EMOTIONS`.
        start: seconds.
        end: seconds; None lasts to the end.
    """

    emotion: str
    start: float = 0.0
    end: float | None = None


def parse_schedule(text: str) -> tuple[Span, ...]:
    """Reads `happy`, or `happy:0-2.5,sad:2.5-`: emotions and the seconds they are shown.

    The face is neutral between spans.

    Raises:
        UserError: it is not of this form, or spans overlap.
    """
    spans = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([a-z]+)(?::(\d+(?:\.\d*)?)-(\d+(?:\.\d*)?)?)?\s*", part)
        if not match:
            raise UserError(
                f"{text!r} is not an emotion, or emotions with their seconds such as "
                "'happy:0-2.5,sad:2.5-'"
            )
        if match[1] not in EMOTIONS:
            raise UserError(f"{match[1]!r} is no emotion; choose from {', '.join(EMOTIONS)}")
        end = None if match[3] is None else float(match[3])
        spans.append(Span(match[1], float(match[2] or 0), end))
    for span in spans:
        if span.end is not None and span.end <= span.start:
            raise UserError(f"{text!r}: {span.emotion} ends before it starts")
    for one, following in itertools.pairwise(spans):
        if one.end is None or following.start < one.end:
            raise UserError(
                f"{text!r}: {following.emotion} starts before {one.emotion} ends; give the "
                "seconds of each, in order, such as 'happy:0-2.5,sad:2.5-'"
            )
    return tuple(spans)


class EmotionBank:
    """Feature tracks by emotion and level."""

    def __init__(self, entries: Mapping[tuple[str, int], Entry]):
        """Takes the entries; all tracks have the same width."""
        self.entries = dict(entries)

    @classmethod
    def of_clips(cls, clips: Iterable[tuple[str, int, Entry]]) -> EmotionBank:
        """Keeps the most typical clip of each emotion and level.

        That is the one whose mean features are nearest to the mean of all clips' means. Clips come
        as emotion, level and entry.
        """
        groups: dict[tuple[str, int], list[Entry]] = {}
        for emotion, level, entry in clips:
            groups.setdefault((emotion, level), []).append(entry)
        entries = {}
        for key, group in groups.items():
            means = np.stack([entry.track.mean(axis=0) for entry in group])
            distances = np.linalg.norm(means - means.mean(axis=0), axis=1)
            entries[key] = group[int(distances.argmin())]
        return cls(entries)

    @property
    def emotions(self) -> tuple[str, ...]:
        """The emotions it has, sorted."""
        return tuple(sorted({emotion for emotion, _ in self.entries}))

    def entry(self, emotion: str, level: int | None = None) -> Entry:
        """The track of an emotion.

        Args:
            emotion: one of `EMOTIONS`.
            level: the nearest that exists is taken; None is the strongest.

        Raises:
            UserError: the bank does not have this emotion.
        """
        levels = [found for name, found in self.entries if name == emotion]
        if not levels:
            raise UserError(
                f"the model's emotion bank has no {emotion!r}; it has {', '.join(self.emotions)}"
            )
        wanted = max(LEVELS) if level is None else level
        return self.entries[emotion, min(levels, key=lambda found: (abs(found - wanted), found))]

    def features(
        self, schedule: Sequence[Span], length: int, level: int | None = None
    ) -> Float32[np.ndarray, "t n"]:
        """Emotion features for each frame of an animation, with crossfades between emotions.

        A track that ends is walked back and forth, so that nothing jumps. What starts after the
        animation ends is warned of.

        Args:
            schedule: what is shown when; gaps are neutral.
            length: frames.
            level: of all emotions.

        Raises:
            UserError: the bank has no track of an emotion that is asked for.
        """
        time, seconds = np.arange(length) / FRAME_RATE, length / FRAME_RATE
        for span in schedule:
            if span.start >= seconds:
                _log.warning(
                    "%s is not shown: it starts at %g s, but the speech ends at %.1f s",
                    *(span.emotion, span.start, seconds),
                )
        filled = _without_gaps(schedule, seconds)
        shares: dict[str, np.ndarray] = {}
        for span in filled:
            share = np.ones(length, np.float32)
            if span is not filled[0]:
                share *= np.clip((time - span.start) / FADE_SECONDS + 0.5, 0, 1)
            if span is not filled[-1]:
                assert span.end is not None
                share *= np.clip((span.end - time) / FADE_SECONDS + 0.5, 0, 1)
            shares[span.emotion] = shares.get(span.emotion, 0) + share
        return self.mix(shares, level)

    def mix(
        self,
        shares: Mapping[str, Float[np.ndarray, " t"]],
        level: int | None = None,
        start: int = 0,
    ) -> Float32[np.ndarray, "t n"]:
        """Emotion features of several emotions at a time.

        Args:
            shares: of each emotion in each frame; divided by their sum.
            level: of all but neutral.
            start: number of the first of the frames.

        Raises:
            UserError: the bank has no track of an emotion that has a share.
        """
        total = np.sum([*shares.values()], axis=0)[:, None]
        mixed: np.ndarray | float = 0.0
        for emotion, share in shares.items():
            if share.any():
                track = self.entry(emotion, None if emotion == "neutral" else level).track
                mixed = mixed + share[:, None] * _back_and_forth(track, len(share), start)
        return (mixed / total).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Writes the bank into a checkpoint's folder, replacing the one that is there."""
        arrays = {}
        for (emotion, level), entry in sorted(self.entries.items()):
            arrays[f"{emotion}_{level}/track"] = entry.track.astype(np.float16)
            arrays[f"{emotion}_{level}/face"] = entry.face
        with atomic_output(folder / BANK_NAME) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, folder: Path, width: int) -> EmotionBank | None:
        """Reads the bank of a checkpoint, with features of its network's `width`; None without one.

        Raises:
            UserError: it is damaged, or of another model.
        """
        path = folder / BANK_NAME
        if not path.is_file():
            return None
        damaged = UserError(f"{path} is damaged; make it again from labelled clips")
        try:
            with zipfile.ZipFile(path) as archive:
                if sum(item.file_size for item in archive.infolist()) > MAX_BANK_BYTES:
                    raise damaged
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise damaged from error
        entries = {}
        for name in sorted(arrays):
            match = re.fullmatch(r"([a-z]+)_([1-3])/track", name)
            if not match:
                continue
            track, face = arrays[name], arrays.get(f"{match[1]}_{match[2]}/face")
            sound = track.ndim == 2 and len(track) and track.dtype.kind == "f"
            if match[1] not in EMOTIONS or face is None or not sound:
                raise damaged
            if track.shape[1] != width:
                raise UserError(
                    f"{path} was made with another model (features of {track.shape[1]} numbers, "
                    f"this one has {width}); make it again from labelled clips"
                )
            if not np.isfinite(track).all():
                raise damaged
            entries[match[1], int(match[2])] = Entry(track.astype(np.float32), face)
        if not entries:
            raise damaged
        return cls(entries)


class LiveEmotion:
    """Emotion features frame by frame, for as long as anybody asks.

    Raises:
        UserError: the bank has no track of the emotion.
    """

    def __init__(self, bank: EmotionBank, emotion: str, level: int | None = None):
        self._bank, self._track = bank, bank.entry(emotion, level).track
        self.restart()

    def restart(self) -> None:
        """Begins the emotion of now again."""
        self._before, self._frame, self._faded = self._track, 0, 0

    def change(self, emotion: str, level: int | None = None) -> None:
        """Fades over to another emotion, from the next frame on.

        Raises:
            UserError: the bank has no track of it; nothing changes.
        """
        track = self._bank.entry(emotion, level).track
        self._before = self.next(1, advance=False)  # as it looks now
        self._track, self._faded = track, 0

    def next(self, frames: int, *, advance: bool = True) -> Float32[np.ndarray, "frames n"]:
        """The features of the frames that follow those of the calls before."""
        fade = round(FADE_SECONDS * FRAME_RATE)
        share = np.clip((self._faded + np.arange(frames)) / fade, 0, 1)[:, None]
        before, now = (
            _back_and_forth(track, frames, self._frame) for track in (self._before, self._track)
        )
        if advance:
            self._frame += frames
            self._faded += frames
        return ((1 - share) * before + share * now).astype(np.float32)


def _without_gaps(schedule: Sequence[Span], seconds: float) -> list[Span]:
    """The schedule with neutral spans in its gaps."""
    filled: list[Span] = []
    position = 0.0
    for span in schedule:
        if span.start > position:
            filled.append(Span("neutral", position, span.start))
        filled.append(span)
        position = seconds if span.end is None else span.end
    if position < seconds:
        filled.append(Span("neutral", position))
    return filled


def _back_and_forth(
    track: Float32[np.ndarray, "t n"], length: int, start: int = 0
) -> Float32[np.ndarray, "_ n"]:
    period = max(2 * (len(track) - 1), 1)
    place = np.arange(start, start + length) % period
    return track[np.minimum(place, period - place)]
