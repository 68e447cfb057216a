"""Names of raw videos, and the names of their clips.

    lrw       <WORD>/<split>/<WORD>_00001.mp4                      WORD/<WORD>_00001
    mead      <person>/video/<view>/<emotion>/level_<n>/<take>.mp4 person/<emotion>_level_<n>_<take>
              <person>_<emotion>_<n>_<take>.mp4                    the same
    voxceleb  <id>/<video>/<n>.mp4                                 id/<video>_<n>

Parent folders (`lipread_mp4`, `mp4`, `dev`) do not matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from eamm_jax.constants import EMOTIONS
from eamm_jax.errors import UserError
from eamm_jax.input_pipeline.clips import ClipName

ENDINGS = (".mp4", ".mpg", ".mpeg", ".avi", ".mov", ".mkv", ".webm")

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
    """

    split: str = "train"
    view: str = "front"


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


NAMERS: dict[str, Namer] = {"lrw": _lrw, "mead": _mead, "voxceleb": _voxceleb}

_GUESSED = 200
"""Number of videos from whose names the data set is guessed."""


def videos_in(folder: Path) -> list[Path]:
    """All video files below a folder, sorted.

    Raises:
        UserError: the folder does not exist or contains no video.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder of raw videos")
    found = sorted(
        path
        for path in folder.rglob("*")
        # A Mac leaves "._name" beside files on other disks.
        if path.suffix.lower() in ENDINGS and not path.name.startswith("._") and path.is_file()
    )
    if not found:
        raise UserError(f"no videos in {folder} ({', '.join(ENDINGS)})")
    return found


def guess_kind(folder: Path, videos: list[Path]) -> str:
    """Guesses the data set from the file names.

    Raises:
        UserError: no name matches any data set.
    """
    some = videos[:: max(1, len(videos) // _GUESSED)]
    fitting = dict.fromkeys(NAMERS, 0)
    for path in some:
        for kind, namer in NAMERS.items():
            selections = [Selection(split, view) for split in LRW_SPLITS for view in MEAD_VIEWS]
            fitting[kind] += any(isinstance(namer(_parts(path), s), ClipName) for s in selections)
    kind = max(fitting, key=fitting.__getitem__)
    if not fitting[kind]:
        raise UserError(
            f"the names in {folder} match no known data set (for example {some[0]}); see the "
            f"naming of {', '.join(NAMERS)} in docs/data.md"
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
