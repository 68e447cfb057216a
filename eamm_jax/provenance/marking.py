"""How outputs are marked, and the mark of each: label, watermark, IPTC metadata, credentials."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from eamm_jax import __version__
from eamm_jax.errors import UserError
from eamm_jax.provenance import metadata
from eamm_jax.provenance.credentials import Identity, Signer, local_signer, signer_of
from eamm_jax.provenance.label import Label
from eamm_jax.provenance.watermark import PAYLOAD_BITS, Rectangle, Watermark

_log = logging.getLogger(__name__)

Picture = UInt8[np.ndarray, "h w 3"]
Files = Sequence[tuple[str, str | os.PathLike[str]]]
"""What each is, and where."""


@dataclasses.dataclass(frozen=True)
class Provenance:
    """How outputs are marked.

    Attributes:
        identity: who signs; None is a certificate made on this machine, if the extra
            `provenance` is installed.
        label: that everybody can see, or None.
        number: of 32 bits, that the first output carries; the next one carries the next. None
            draws one for each.
    """

    identity: Identity | None = None
    label: Label | None = None
    number: int | None = None

    def check(self) -> None:
        """Finds out whether outputs can be marked, before long work starts.

        Raises:
            UserError: they cannot.
        """
        if self.identity is not None:
            self.identity.check()
        if self.label is not None:
            self.label.check()

    def mark(
        self,
        inputs: Files = (),
        model: Path | None = None,
        *,
        composite: bool = False,
        region: Rectangle | None = None,
        output: int = 0,
    ) -> OutputMark:
        """The mark of a new output.

        Args:
            inputs: that it is made of; what is said of them is their SHA-256.
            model: file of the networks, likewise.
            composite: whether only a part of the picture was generated.
            region: that shows it, and carries the watermark; None is the whole picture.
            output: which one this is, of several.
        """
        number = secrets.randbits(PAYLOAD_BITS)
        if self.number is not None:
            number = (self.number + output) % 2**PAYLOAD_BITS
        files = (*inputs, *([("model", model)] if model is not None else []))
        return OutputMark(self, number, files, composite, region)


class OutputMark:
    """The mark of one output, for the writers of `io`.

    Args:
        provenance: how it is marked.
        number: that it carries.
        files: it was made of.
        composite: as in `Provenance.mark`.
        region: likewise.

    Attributes:
        identifier: the number as people see it.
        xmp: metadata.
    """

    def __init__(
        self,
        provenance: Provenance,
        number: int,
        files: Files,
        composite: bool,
        region: Rectangle | None,
    ):
        self.identifier = f"{number:08x}"
        source_type = metadata.COMPOSITE if composite else metadata.GENERATED
        self.xmp = metadata.packet(source_type, __version__, self.identifier)
        self._watermark = Watermark(number, region)
        self._label, self._identity = provenance.label, provenance.identity
        self._files = [(role, Path(path)) for role, path in files]
        self._source_type = source_type

    def picture(self, frame: Picture, seconds: float | None, *, in_place: bool = False) -> Picture:
        """The frame with its label, and its watermark if it is one of a video.

        Args:
            frame: RGB.
            seconds: since the beginning of the video; None is a picture that stands alone, in
                which a watermark could not be read.
            in_place: overwrites the frame.
        """
        if self._label is not None:
            frame, in_place = self._label.draw(frame), True
        if seconds is None:
            return frame
        return self._watermark(frame, seconds, frame if in_place else None)

    def finish(self, path: Path) -> None:
        """Adds metadata and credentials to a complete mp4 file.

        Raises:
            UserError: signing was asked for, and cannot be done.
        """
        metadata.append_to_mp4(path, self.xmp)
        signer: Signer | None
        if self._identity is not None:
            signer = signer_of(self._identity)
            signer.sign(path, self._manifest())
        elif (signer := local_signer()) is not None:
            try:
                signer.sign(path, self._manifest())
            except UserError as error:
                _log.warning("no Content Credentials are written: %s", error)

    def _manifest(self) -> dict[str, Any]:
        """As `c2pa-python` takes it."""
        program = {"name": metadata.SYSTEM, "version": __version__}
        made = {
            "action": "c2pa.created",
            "digitalSourceType": metadata.SOURCE_TYPES + self._source_type,
            "softwareAgent": program,
        }
        ingredients = [
            {
                "title": role,
                "format": "application/octet-stream",
                "instance_id": f"sha256:{sha256(path)}",
                "relationship": "inputTo",
            }
            for role, path in self._files
        ]
        return {
            "claim_generator_info": [program],
            "title": f"{self.identifier}.mp4",
            "assertions": [
                {"label": "c2pa.actions.v2", "data": {"actions": [made]}},
                {"label": "org.eamm-jax.made", "data": {"identifier": self.identifier}},
            ],
            "ingredients": ingredients,
        }


def sha256(path: Path) -> str:
    """Of a file's content; of the same file it is computed once."""
    found = path.stat()
    return _sha256(path, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, _size: int, _modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
