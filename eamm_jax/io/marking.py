"""What writers of videos and pictures ask of a mark; `eamm_jax.provenance` makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import UInt8


class Mark(Protocol):
    """Says of one output what it is.

    Attributes:
        xmp: packet of metadata for pictures.
    """

    xmp: str

    def picture(
        self,
        frame: UInt8[np.ndarray, "h w 3"],
        seconds: float | None,
        *,
        in_place: bool = False,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """The frame as it is written.

        Args:
            frame: RGB.
            seconds: since the beginning of the video; None is a picture that stands alone.
            in_place: overwrites the frame: a copy of a large photo takes much memory.
        """

    def finish(self, path: Path) -> None:
        """Adds metadata and credentials to a complete mp4 file."""
