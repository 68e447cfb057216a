"""Key frames of an animation: how the face feels, holds its head and looks, second by second.

A CSV with a row for each key frame, or a JSON list of objects, with the same names:

    time,happy,sad,strength,yaw,blink
    0,1,,1,0,
    2.5,0.3,0.7,,-8,1

`FIELDS` are what may be set. A field moves from one of its key frames to the next with a gentle
start and end, and keeps still before the first and after the last; an empty cell is none.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from eamm_jax.animate.emotion_bank import EmotionBank
from eamm_jax.constants import EMOTIONS, FRAME_RATE, POSE_NUMBERS
from eamm_jax.errors import UserError
from eamm_jax.faces.idle import FOLLOWED
from eamm_jax.io.files import check_readable
from eamm_jax.io.table import read_rows
from eamm_jax.models.config import ModelConfig

MAX_STRENGTH = 2.0
"""Of an emotion, at most."""

FIELDS = {
    **dict.fromkeys(EMOTIONS, (0.0, 1.0)),
    "strength": (0.0, MAX_STRENGTH),
    **dict.fromkeys(("yaw", "pitch", "roll"), (-90.0, 90.0)),
    **dict.fromkeys(("shift_x", "shift_y"), (-60.0, 60.0)),
    **dict.fromkeys(("gaze_x", "gaze_y"), (-1.0, 1.0)),
    "blink": (0.0, 1.0),
    "mouth": (0.0, 3.0),
}
"""What each may be: shares of emotions, which leave the rest of 1 to the neutral face; factors on
the emotion's displacement and on the sound's features, of which 0 is silence; degrees and pixels
of the pose's region, added to the pose; gaze to the right and upwards; how far eyes are closed."""

_NEUTRAL_ELEMENTS = {"strength": 1.0, "mouth": 1.0}

MAX_BYTES, MAX_KEYS = 1 << 20, 10_000
"""Of a file: far beyond what anybody writes."""

_TIME = "time"

_log = logging.getLogger(__name__)


class Track(NamedTuple):
    """The key frames of one field: seconds, rising, and values."""

    times: Float[np.ndarray, " k"]
    values: Float[np.ndarray, " k"]

    def at(self, time: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
        """The field's values at some seconds."""
        after = np.searchsorted(self.times, time, side="right")
        before, after = np.maximum(after - 1, 0), np.minimum(after, len(self.times) - 1)
        gap = np.maximum(self.times[after] - self.times[before], 1e-9)
        share = np.clip((time - self.times[before]) / gap, 0, 1)
        eased = share**2 * (3 - 2 * share)
        return (1 - eased) * self.values[before] + eased * self.values[after]


class Controls(NamedTuple):
    """How t frames differ from what sound, pose and emotion make of them.

    Attributes:
        strength: factor on the emotion's displacement.
        mouth: factor on the MFCC: 0 is silence.
        head: added to the pose.
        gaze: to the right and upwards, -1 to 1.
        closed: how far the eyes are closed, 0 to 1; None leaves that to blinks.
    """

    strength: Float32[np.ndarray, " t"]
    mouth: Float32[np.ndarray, " t"]
    head: Float32[np.ndarray, "t 6"]
    gaze: Float32[np.ndarray, "t 2"]
    closed: Float32[np.ndarray, " t"] | None


@dataclasses.dataclass(frozen=True)
class Timeline:
    """The key frames of all fields that have some; nothing by default."""

    tracks: Mapping[str, Track] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, keys: Mapping[str, Mapping[float, float]]) -> Timeline:
        """From values by seconds, by field: `Timeline.of({"happy": {0: 0, 2.5: 1}})`.

        Raises:
            UserError: a field is unknown, or a value out of its range.
        """
        tracks = {}
        for field, values in keys.items():
            times = sorted(values)
            tracks[_field(field)] = Track(
                np.array([_number(_TIME, time) for time in times]),
                np.array([_number(field, values[time]) for time in times]),
            )
        return cls({field: track for field, track in tracks.items() if len(track.times)})

    @property
    def emotions(self) -> tuple[str, ...]:
        """Those that are shown."""
        return tuple(field for field in self.tracks if field in EMOTIONS)

    def within(self, config: ModelConfig, bank: EmotionBank | None, *, strict: bool) -> Timeline:
        """The timeline without what a model cannot do, which is said.

        Raises:
            UserError: there is such, and `strict`.
        """
        inference = config.inference
        missing = {
            "it has no emotion bank": () if bank else self.emotions,
            "none of its keypoints are eyelids": () if inference.lid_keypoints else ("blink",),
            "none of its keypoints are pupils": (
                () if inference.pupil_keypoints else ("gaze_x", "gaze_y")
            ),
        }
        left_out = {
            why: asked
            for why, fields in missing.items()
            if (asked := [field for field in fields if field in self.tracks])
        }
        if not left_out:
            return self
        words = "; ".join(f"{', '.join(asked)} ({why})" for why, asked in left_out.items())
        if strict:
            raise UserError(f"this model cannot do all of the timeline: {words}")
        _log.warning("this model cannot do all of the timeline; left out: %s", words)
        gone = set(chain.from_iterable(left_out.values()))
        return Timeline({field: self.tracks[field] for field in self.tracks.keys() - gone})

    def controls(self, start: int, count: int) -> Controls:
        """Those of frames `start` to `start + count`."""
        time = (start + np.arange(count)) / FRAME_RATE

        def at(field: str) -> Float32[np.ndarray, " t"]:
            track = self.tracks.get(field)
            if track is None:
                return np.full(count, _NEUTRAL_ELEMENTS.get(field, 0.0), np.float32)
            return track.at(time).astype(np.float32)

        head = np.zeros((count, POSE_NUMBERS), np.float32)
        head[:, :3] = np.stack([at(angle) for angle in ("yaw", "pitch", "roll")], axis=1)
        head[:, 4:6] = np.stack([at("shift_x"), at("shift_y")], axis=1) + FOLLOWED * head[:, :2]
        return Controls(
            at("strength"),
            at("mouth"),
            head,
            np.stack([at("gaze_x"), at("gaze_y")], axis=1),
            at("blink") if "blink" in self.tracks else None,
        )

    def emotion_features(
        self, bank: EmotionBank, level: int | None, start: int, count: int
    ) -> Float32[np.ndarray, "t n"]:
        """Emotion features of frames `start` to `start + count`.

        Raises:
            UserError: the bank does not have one of the emotions.
        """
        time = (start + np.arange(count)) / FRAME_RATE
        shares = {emotion: self.tracks[emotion].at(time) for emotion in self.emotions}
        total = np.sum([*shares.values()], axis=0)
        shares["neutral"] = shares.get("neutral", 0) + np.maximum(1 - total, 0).round(6)
        return bank.mix(shares, level, start)


def read_timeline(path: Path) -> Timeline:
    """Reads a timeline, JSON by its name or else CSV.

    Raises:
        UserError: it is none; line and field are named.
    """
    if check_readable(path, "timeline").stat().st_size > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES >> 20} MB, which no timeline is")
    rows = _json_rows(path) if path.suffix.lower() == ".json" else _csv_rows(path)
    keys: dict[str, dict[float, float]] = {}
    last = -math.inf
    for count, (line, row) in enumerate(rows):
        try:
            if count == MAX_KEYS:
                raise UserError(f"there are more than {MAX_KEYS} key frames")
            if row.get(_TIME) in (None, ""):
                raise UserError(f"it has no {_TIME}; each key frame needs its seconds")
            time = _number(_TIME, row[_TIME])
            if time <= last:
                raise UserError(f"{_TIME} is {time:g}, but the key frame before has {last:g}; "
                                "they must rise")  # fmt: skip
            last = time
            for field, value in row.items():
                if field != _TIME and value not in (None, ""):
                    values = keys.setdefault(_field(field), {})
                    values[time] = _number(field, value)
        except UserError as error:
            raise UserError(f"{path}, line {line}: {error}") from None
    if not keys:
        raise UserError(f"{path} holds no key frames: a {_TIME} and a field in each are needed")
    return Timeline.of(keys)


def _field(name: str) -> str:
    if name not in FIELDS:
        raise UserError(f"{name!r} is no field of a timeline; allowed are {', '.join(FIELDS)}")
    return name


def _number(field: str, value: Any) -> float:
    low, high = (0.0, 86_400.0) if field == _TIME else FIELDS[field]
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not low <= number <= high:
        raise UserError(f"{field} is {value!r}; give a number from {low:g} to {high:g}")
    return number


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = read_rows(path, "timeline")
    line, header = next(rows, (1, []))
    for field in header:
        if field != _TIME:
            try:
                _field(field)
            except UserError as error:
                raise UserError(f"{path}, line {line}: {error}") from None
        if header.count(field) > 1:
            raise UserError(f"{path}, line {line}: there are two columns {field!r}")
    for line, cells in rows:
        if len(cells) > len(header):
            raise UserError(
                f"{path}, line {line}: {len(cells)} cells, but there are {len(header)} columns"
            )
        if any(cells):
            yield line, dict(zip(header, cells, strict=False))


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(whole, list) or not all(isinstance(row, dict) for row in whole):
        raise UserError(f'{path} is not a list of key frames such as {{"time": 0, "happy": 1}}')
    # Read again one by one, for their lines.
    place, decoder = 0, json.JSONDecoder()
    for row in whole:
        place = text.index("{", place)
        yield text.count("\n", 0, place) + 1, row
        place = decoder.raw_decode(text, place)[1]
