"""Clips packed into ArrayRecord by the TFDS builders in `data/` (no TensorFlow).

A clip is a record with its sound and pose, then records with `FRAMES_A_RECORD` frames each.
Frames stay encoded: a reader fetches the records its window touches and decodes no other
frames, however long the clip is.
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
"""The one split of a packed data set; training and validation are divided when it is read."""

FRAMES_A_RECORD = 16
"""Few enough to read little beside the window, many enough to read two or three records."""


def records_of(num_frames: int) -> int:
    """Records that a clip is packed into."""
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
    """The clips of a packed data set; the same as those of the folder it was packed from.

    Attributes:
        root: the folder with `dataset_info.json`.
        names: its clips, sorted.
    """

    def __init__(self, root: Path, kind: str, *, with_motion: bool):
        """Reads the list of clips; opens none.

        Args:
            root: from `find_packed`.
            kind: the kind of data set it should be.
            with_motion: sound and pose are wanted, and must have been packed.

        Raises:
            UserError: it was packed by something else, or as another kind, or without motion.
        """
        self.root = root
        self._with_motion = with_motion
        metadata = self._builder.info.metadata or {}
        if "clips" not in metadata:
            raise UserError(f"{root} was not packed by the builders in data/: pack it anew")
        if metadata["kind"] != kind:
            raise UserError(f"{root} was packed as {metadata['kind']}, but is read as {kind}")
        if with_motion and not metadata["with_motion"]:
            raise UserError(
                f"{root} was packed without sound and pose, which serves stage 0 only: "
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
        # Files are opened anew in each reader's process.
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
        except Exception as error:  # the reader raises whatever its C++ part met
            raise BadClip(f"its record in {self.root} is unreadable ({error})") from error
