"""Clips packed into ArrayRecord by the TFDS builders in `data/` (no TensorFlow).

A record is a whole clip; its frames stay encoded, so that a reader decodes only those of the
window it cuts.
"""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Any

from eamm_jax.errors import UserError
from eamm_jax.input_pipeline.clips import BadClip, Clip, ClipName

SPLIT = "clips"
"""The one split of a packed data set; training and validation are divided when it is read."""


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
        names: its clips, sorted, one record each.
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
        self.names = [ClipName(*clip) for clip in metadata["clips"]]

    @cached_property
    def _builder(self) -> Any:
        import tensorflow_datasets as tfds

        return tfds.builder_from_directory(self.root)

    @cached_property
    def _records(self) -> Any:
        return self._builder.as_data_source(SPLIT)

    def __getstate__(self) -> dict[str, Any]:
        # Files are opened anew in each reader's process.
        return {"root": self.root, "names": self.names}

    def open(self, index: int) -> Clip:
        """Clip number `index` of `names`.

        Raises:
            BadClip: the record is damaged.
        """
        try:
            record = self._records[index]
        except Exception as error:  # the reader raises whatever its C++ part met
            raise BadClip(f"its record in {self.root} is unreadable ({error})") from error
        frames = record["frames"]
        return Clip(len(frames), frames.__getitem__, record["pose"], record["mfcc"])
