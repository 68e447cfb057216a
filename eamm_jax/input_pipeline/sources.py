"""Data sources: folders in the published layout, and data sets packed into ArrayRecord.

The TFDS builders in `data/` pack clips (no TensorFlow). A clip is one record with its audio
features and pose, then records with `FRAMES_A_RECORD` frames each, and perhaps as many with the
heatmaps of its image keypoints. Frames stay encoded, so a reader fetches and decodes only what its
window needs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from eamm_jax.errors import UserError
from eamm_jax.input_pipeline.clips import (
    KEYPOINT_NUMBERS,
    KINDS,
    BadClip,
    Clip,
    ClipName,
    Tracks,
)
from eamm_jax.input_pipeline.published import PublishedFolder, Teacher, check_taught

SPLIT = "clips"
"""The only split of a packed data set; training and validation are split when it is read."""

FRAMES_A_RECORD = 16
"""A window of 17 frames touches two or three records, and reads few frames in excess."""


def records_of(num_frames: int, *, heatmaps: bool = False) -> int:
    """The number of records of a clip, with those of heatmaps if it has any."""
    return 1 + (2 if heatmaps else 1) * -(-num_frames // FRAMES_A_RECORD)


class ClipFolder(Protocol):
    """Clips in a fixed order."""

    @property
    def names(self) -> list[ClipName]:
        """The clips, sorted."""

    @property
    def teacher(self) -> Teacher | None:
        """Whose keypoints are read, or None."""

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


def open_folder(source: Source, tracks: Tracks) -> ClipFolder:
    """Opens a source, packed or not.

    Raises:
        UserError: there are no clips of this kind; the message says which files are expected.
    """
    packed = find_packed(Path(source.path), source.kind)
    if packed:
        if tracks.truth:
            raise UserError(
                f"{packed} is packed, and packed data sets have no landmarks; give the folder it "
                "was packed from"
            )
        return PackedFolder(packed, source.kind, tracks)
    return PublishedFolder(source.path, tracks)


def find_packed(root: Path, kind: str) -> Path | None:
    """The folder of a packed data set: `root` itself, or its newest version below `root`."""
    for pattern in (".", "*", f"{kind}/*"):
        found = [f.parent for f in root.glob(f"{pattern}/dataset_info.json")]
        if found:
            return max(found, key=lambda f: [int(n) for n in re.findall(r"\d+", f.name)])
    return None


class PackedFolder:
    """The clips of a packed data set, equal to those of the folder it was packed from.

    Attributes:
        root: the folder with `dataset_info.json`.
        names: its clips, sorted.
        teacher: whose keypoints are read, or None.
    """

    def __init__(self, root: Path, kind: str, tracks: Tracks):
        """Reads the list of clips without opening them.

        Args:
            root: from `find_packed`.
            kind: expected kind of the data set.
            tracks: read beside the frames, which must have been packed; there is no truth.

        Raises:
            UserError: it was packed by another program, as another kind, or without what is
                wanted.
        """
        self.root = root
        self._tracks = tracks
        metadata = self._builder.info.metadata or {}
        if "clips" not in metadata:
            raise UserError(f"{root} was not packed by the builders in data/; pack it again")
        if metadata["kind"] != kind:
            raise UserError(f"{root} was packed as {metadata['kind']}, but is read as {kind}")
        if tracks.motion and not metadata["with_motion"]:
            raise UserError(
                f"{root} was packed without audio and pose, for stage 0 only; "
                "pack a folder that has them"
            )
        packed = Teacher(*metadata["teacher"]) if metadata.get("teacher") else None
        self.teacher = packed if tracks.keypoints else None
        if tracks.keypoints:
            check_taught(packed, root, with_heatmaps=tracks.heatmaps)
        self.names = [ClipName(identity, clip) for identity, clip, _ in metadata["clips"]]
        self._num_frames = [num_frames for _, _, num_frames in metadata["clips"]]
        heatmaps = packed is not None and packed.heatmaps
        counts = (records_of(n, heatmaps=heatmaps) for n in self._num_frames)
        self._first_record = [0, *accumulate(counts)]

    @cached_property
    def _builder(self) -> Any:
        import tensorflow_datasets as tfds

        return tfds.builder_from_directory(self.root)

    @cached_property
    def _records(self) -> Any:
        return self._builder.as_data_source(SPLIT)

    def __getstate__(self) -> dict[str, Any]:
        # Every reader process opens the files itself.
        opened_files = ("_builder", "_records")
        return {key: value for key, value in vars(self).items() if key not in opened_files}

    def open(self, index: int) -> Clip:
        """Clip number `index` of `names`.

        Raises:
            BadClip: the record is damaged.
        """
        first, num_frames = self._first_record[index], self._num_frames[index]
        tracks: dict[str, Any] = {}
        if self._tracks.motion or self._tracks.keypoints:
            record = self.read_record(first)
            if self._tracks.motion:
                tracks |= {"pose": record["pose"], "windows": record["mfcc"]}
            if self._tracks.keypoints:
                shape = num_frames, -1, KEYPOINT_NUMBERS
                tracks["keypoints"] = record["keypoints"].reshape(shape)
        encoded_frame = self._by_frame(first + 1, "frames")
        if self._tracks.heatmaps:
            encoded_heatmap = self._by_frame(first + records_of(num_frames), "heatmaps")
            k = tracks["keypoints"].shape[1]

            def heatmap(n: int) -> np.ndarray:
                values = np.frombuffer(encoded_heatmap(n), np.float16)
                side = math.isqrt(values.size // k)
                return values.reshape(side, side, k)

            tracks["heatmap"] = heatmap
        return Clip(num_frames, encoded_frame, **tracks)

    def _by_frame(self, first: int, field: str) -> Callable[[int], bytes]:
        """A function of the frame's number, which reads each record once."""
        pieces: dict[int, list[bytes]] = {}

        def encoded(n: int) -> bytes:
            piece, place = divmod(n, FRAMES_A_RECORD)
            if piece not in pieces:
                pieces[piece] = self.read_record(first + piece)[field]
            return pieces[piece][place]

        return encoded

    def read_record(self, record: int) -> dict[str, Any]:
        """The fields of a record.

        Raises:
            BadClip: it is damaged.
        """
        try:
            return self._records[record]
        except Exception as error:  # ArrayRecord's C++ code raises various exceptions
            raise BadClip(f"its record in {self.root} is unreadable ({error})") from error
