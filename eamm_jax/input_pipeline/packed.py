"""Clips packed into ArrayRecord by the TFDS builders in `data/` (no TensorFlow).

A clip is one record with its audio features and pose, then records with `FRAMES_A_RECORD` frames
each. Frames stay encoded, so a reader fetches and decodes only what its window needs.
"""

from __future__ import annotations

import os
import re
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from eamm_jax.errors import UserError
from eamm_jax.input_pipeline.clips import BadClip, Clip, ClipName

SPLIT = "clips"
"""The only split of a packed data set; training and validation are split when it is read."""

FRAMES_A_RECORD = 16
"""A window of 17 frames touches two or three records, and reads few frames in excess."""


def records_of(num_frames: int) -> int:
    """The number of records of a clip."""
    return 1 + -(-num_frames // FRAMES_A_RECORD)


def find_packed(path: str | os.PathLike[str], kind: str) -> Path | None:
    """The folder of a packed data set: `path` itself, or its newest version below `path`."""
    root = Path(path)
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
    """

    def __init__(self, root: Path, kind: str, *, with_motion: bool):
        """Reads the list of clips without opening them.

        Args:
            root: from `find_packed`.
            kind: expected kind of the data set.
            with_motion: also read audio features and pose, which must have been packed.

        Raises:
            UserError: it was packed by another program, as another kind, or without motion.
        """
        self.root = root
        self._with_motion = with_motion
        metadata = self._builder.info.metadata or {}
        if "clips" not in metadata:
            raise UserError(f"{root} was not packed by the builders in data/; pack it again")
        if metadata["kind"] != kind:
            raise UserError(f"{root} was packed as {metadata['kind']}, but is read as {kind}")
        if with_motion and not metadata["with_motion"]:
            raise UserError(
                f"{root} was packed without audio and pose, for stage 0 only; "
                "pack a folder that has them"
            )
        self.names = [ClipName(identity, clip) for identity, clip, _ in metadata["clips"]]
        self._num_frames = [num_frames for _, _, num_frames in metadata["clips"]]
        self._first_record = [0, *accumulate(map(records_of, self._num_frames))]

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
        first = self._first_record[index]
        motion = self.read_record(first) if self._with_motion else {}
        pieces: dict[int, list[bytes]] = {}

        def encoded_frame(n: int) -> bytes:
            piece, place = divmod(n, FRAMES_A_RECORD)
            if piece not in pieces:
                pieces[piece] = self.read_record(first + 1 + piece)["frames"]
            return pieces[piece][place]

        return Clip(self._num_frames[index], encoded_frame, motion.get("pose"), motion.get("mfcc"))

    def read_record(self, record: int) -> dict[str, Any]:
        """The fields of a record.

        Raises:
            BadClip: it is damaged.
        """
        try:
            return self._records[record]
        except Exception as error:  # ArrayRecord's C++ code raises various exceptions
            raise BadClip(f"its record in {self.root} is unreadable ({error})") from error
