"""Data sources: folders in the published layout, and packed data sets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from eamm_jax.errors import UserError
from eamm_jax.input_pipeline.clips import KINDS, Clip, ClipName
from eamm_jax.input_pipeline.packed import PackedFolder, find_packed
from eamm_jax.input_pipeline.published import PublishedFolder


class ClipFolder(Protocol):
    """Clips in a fixed order."""

    @property
    def names(self) -> list[ClipName]:
        """The clips, sorted."""

    def open(self, index: int) -> Clip:
        """Clip number `index`; raises `BadClip`."""


@dataclass(frozen=True)
class Source:
    """A data source and its weight in a mixture.

    Attributes:
        kind: a key of `KINDS`.
        path: a folder in the published layout, or one that contains a packed data set.
        weight: sampling weight, relative to the other sources.
    """

    kind: str
    path: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(
                f"{self.kind!r} is not a kind of data set: choose from {', '.join(KINDS)}"
            )
        if not self.weight > 0:
            raise UserError(f"the weight of {self.path} is {self.weight}; it must be above 0")


def parse_sources(text: str) -> tuple[Source, ...]:
    """Parses sources from a configuration field or flag: `kind=path[@weight],...`.

    `lrw=/data/LRW` is one source; `lrw=/data/LRW@3,voxceleb=/data/Vox@1` mixes two, with three
    clips of the first for each clip of the second.

    Raises:
        UserError: a part does not have this form.
    """
    sources = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(\w+)=(.+?)(?:@([0-9.]+))?", part)
        if not match:
            raise UserError(f"{part!r} is not a source of clips: write kind=path or kind=path@2.5")
        try:
            weight = float(match[3] or 1)
        except ValueError:
            raise UserError(f"the weight in {part!r} is not a number") from None
        sources.append(Source(match[1], match[2], weight))
    if not sources:
        raise UserError(
            "no training data was named; use kind=path, such as lrw=/data/LRW "
            f"(kinds: {', '.join(KINDS)})"
        )
    return tuple(sources)


def open_folder(source: Source, *, with_motion: bool, with_truth: bool = False) -> ClipFolder:
    """Opens a source, packed or not.

    Args:
        source: the source.
        with_motion: also read audio features and pose.
        with_truth: also read landmarks, pupils and pose.

    Raises:
        UserError: there are no clips of this kind; the message says which files are expected.
    """
    packed = find_packed(source.path, source.kind)
    if packed and with_truth:
        raise UserError(
            f"{packed} is packed, and packed data sets have no landmarks; give the folder it was "
            "packed from"
        )
    if packed:
        return PackedFolder(packed, source.kind, with_motion=with_motion)
    return PublishedFolder(source.path, with_motion=with_motion, with_truth=with_truth)
