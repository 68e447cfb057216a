"""Names of raw videos, and the names of their clips.

    lrw       <WORD>/<split>/<WORD>_00001.mp4                      WORD/<WORD>_00001
    mead      <person>/video/<view>/<emotion>/level_<n>/<take>.mp4 person/<emotion>_level_<n>_<take>
              <person>_<emotion>_<n>_<take>.mp4                    the same
    voxceleb  <id>/<video>/<n>.mp4                                 id/<video>_<n>
    any       <person>/<name>.mp4                                  person/<name>
              <name>.mp4                                           name/<name>
              the same with an emotion                             person/<emotion>_level_<n>_<take>

Parent folders (`lipread_mp4`, `mp4`, `dev`) do not matter, except for `any`, whose names are
relative to the input.
"""

from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from eamm_jax.constants import EMOTIONS
from eamm_jax.errors import UserError
from eamm_jax.input_pipeline.clips import EMOTION_NAMES, ClipName, Labels, labels_in
from eamm_jax.io.files import VIDEO_SUFFIXES, check_readable, is_file_of

LRW_SPLITS = ("train", "val", "test")
"""Every split numbers its clips from 1, so two splits must not share a folder."""

MEAD_VIEWS = ("front", "down", "left_30", "left_60", "right_30", "right_60", "top")

_SOUNDS = (".m4a", ".wav", ".mp3", ".aac")


@dataclass(frozen=True)
class RawClip:
    """A video to prepare.

    Attributes:
        name: name of its clip.
        video: the file.
        sound: a separate audio file, or None.
    """

    name: ClipName
    video: Path
    sound: Path | None = None


@dataclass(frozen=True)
class Selection:
    """Which videos to prepare.

    Attributes:
        split: split of LRW.
        view: camera of MEAD.
        folder: that names of the kind `any` are relative to.
        labels: of videos of the kind `any`, by their path in that folder without suffix; the others
            are labelled by their names.
    """

    split: str = "train"
    view: str = "front"
    folder: Path = Path()
    labels: Mapping[str, Labels] = field(default_factory=dict)


Namer = Callable[[tuple[str, ...], Selection], ClipName | str]
"""Maps the parts of a path without suffix to the name of the clip, or to a reason to skip it."""

_EMOTION = "|".join(EMOTIONS)


def _lrw(parts: tuple[str, ...], selection: Selection) -> ClipName | str:
    if len(parts) < 3 or not re.fullmatch(rf"{re.escape(parts[-3])}_\d+", parts[-1]):
        return "its name is not <WORD>/<split>/<WORD>_<number>"
    word, split, clip = parts[-3:]
    if split not in LRW_SPLITS:
        return f"{split!r} is not a split of LRW"
    return ClipName(word, clip) if split == selection.split else f"it is in the split {split!r}"


def _mead(parts: tuple[str, ...], selection: Selection) -> ClipName | str:
    flat = re.fullmatch(rf"([A-Za-z0-9]+)_({_EMOTION})_([1-3])_(\d+)", parts[-1])
    if flat:
        person, emotion, level, take = flat.groups()
    else:
        path = re.search(
            rf"(?:^|/)([^/]+)/video/([^/]+)/({_EMOTION})/level_([1-3])/(\d+)$", "/".join(parts)
        )
        if not path:
            return (
                "its name is neither <person>/video/<view>/<emotion>/level_<n>/<take> nor "
                "<person>_<emotion>_<n>_<take>"
            )
        person, view, emotion, level, take = path.groups()
        if view != selection.view:
            return f"its view is {view!r}"
    return ClipName(person, f"{emotion}_level_{level}_{take}")


def _voxceleb(parts: tuple[str, ...], _: Selection) -> ClipName | str:
    if len(parts) < 3 or not re.fullmatch(r"id\d+", parts[-3]):
        return "its name is not <id>/<video>/<number>"
    identity, video, number = parts[-3:]
    return ClipName(identity, f"{video}_{number}")


def _any(parts: tuple[str, ...], selection: Selection) -> ClipName | str:
    inner = parts[len(selection.folder.absolute().parts) :]
    name = "/".join(inner)
    labels = selection.labels.get(name) or labels_in(name)
    person = labels.identity or inner[0]
    if labels.emotion < 0:
        return ClipName(person, "_".join(inner[1:] or inner))
    # A number that stays when videos are added, unlike a count.
    take = inner[-1].rpartition("_")[2]
    if name in selection.labels or not take.isdecimal():
        take = str(zlib.crc32(name.encode(errors="surrogateescape")))
    level = 1 if EMOTIONS[labels.emotion] == "neutral" else labels.level
    return ClipName(person, f"{EMOTIONS[labels.emotion]}_level_{level}_{take}")


NAMERS: dict[str, Namer] = {"lrw": _lrw, "mead": _mead, "voxceleb": _voxceleb, "any": _any}

_COLUMNS = ("video", "emotion", "level", "person")


def read_labels(path: Path, folder: Path, videos: list[Path]) -> dict[str, Labels]:
    """Labels of videos from a CSV file with the columns video and emotion.

    Args:
        path: the file. The columns level (1 to 3; 1 where it is empty) and person may follow.
        folder: that its videos are relative to, with or without suffix.
        videos: those that there are.

    Returns:
        Labels by path without suffix.

    Raises:
        UserError: the file is something else, or a line is wrong; by number.
    """
    known = {video.relative_to(folder).with_suffix("").as_posix() for video in videos}
    labels = {}
    try:
        with check_readable(path, "labels").open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            columns = reader.fieldnames or []
            if not {"video", "emotion"} <= set(columns) or not set(columns) <= set(_COLUMNS):
                raise UserError(
                    f"{path}: its first line must name the columns video and emotion, and may name "
                    "level and person"
                )
            for number, row in enumerate(reader, start=2):
                name = row["video"].strip()
                name = name if name in known else Path(name).with_suffix("").as_posix()
                emotion = EMOTION_NAMES.get(row["emotion"].strip().lower())
                level = (row.get("level") or "1").strip()
                if name not in known:
                    raise UserError(f"{path}, line {number}: no video {row['video']!r} in {folder}")
                if emotion is None:
                    raise UserError(
                        f"{path}, line {number}: {row['emotion']!r} is none of the emotions "
                        f"{', '.join(EMOTIONS)}"
                    )
                if level not in ("1", "2", "3"):
                    raise UserError(f"{path}, line {number}: the level {level!r} is not 1, 2 or 3")
                person = (row.get("person") or "").strip() or name.partition("/")[0]
                labels[name] = Labels(person, emotion, int(level))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file in UTF-8: {error}") from error
    return labels


_GUESSED = 200
"""Number of videos from whose names the data set is guessed."""


def videos_in(folder: Path) -> list[Path]:
    """All video files below a folder, sorted.

    Raises:
        UserError: the folder does not exist or contains no video.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder of raw videos")
    found = sorted(path for path in folder.rglob("*") if is_file_of(path, VIDEO_SUFFIXES))
    if not found:
        raise UserError(f"no videos in {folder} ({', '.join(VIDEO_SUFFIXES)})")
    return found


def guess_kind(folder: Path, videos: list[Path]) -> str:
    """Guesses the data set from the file names.

    Raises:
        UserError: no name matches any data set.
    """
    some = videos[:: max(1, len(videos) // _GUESSED)]
    namers = {kind: namer for kind, namer in NAMERS.items() if kind != "any"}
    fitting = dict.fromkeys(namers, 0)
    for path in some:
        for kind, namer in namers.items():
            selections = [Selection(split, view) for split in LRW_SPLITS for view in MEAD_VIEWS]
            fitting[kind] += any(isinstance(namer(_parts(path), s), ClipName) for s in selections)
    kind = max(fitting, key=fitting.__getitem__)
    if not fitting[kind]:
        raise UserError(
            f"the names in {folder} match no known data set (for example {some[0]}); the kind "
            f"'any' takes all names, and docs/data.md has those of {', '.join(namers)}"
        )
    return kind


def _parts(path: Path) -> tuple[str, ...]:
    # Absolute, because the input itself may be the folder of a person, a word or a view.
    return path.absolute().with_suffix("").parts


def name_clips(
    videos: list[Path], kind: str, selection: Selection
) -> Iterator[tuple[Path, RawClip | str]]:
    """The clip of each video, or the reason to skip it.

    Args:
        videos: from `videos_in`.
        kind: kind of the data set.
        selection: which videos to prepare.
    """
    taken: dict[ClipName, Path] = {}
    for path in videos:
        name = NAMERS[kind](_parts(path), selection)
        if isinstance(name, str):
            yield path, name
        elif name in taken:
            yield path, f"its clip would have the same name as that of {taken[name]}"
        else:
            taken[name] = path
            yield path, RawClip(name, path, _separate_sound(path, kind))


def _separate_sound(video: Path, kind: str) -> Path | None:
    """MEAD's audio: `<person>/audio/<emotion>/level_<n>/<take>.m4a`, if it exists."""
    parts = video.parts
    if kind != "mead" or len(parts) < 6 or parts[-5] != "video":
        return None
    base = Path(*parts[:-5], "audio", *parts[-3:])
    return next((s for e in _SOUNDS if (s := base.with_suffix(e)).is_file()), None)
