"""Reads what a file says about how it was made."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from eamm_jax.constants import FRAME_RATE
from eamm_jax.errors import printable
from eamm_jax.io.files import check_readable
from eamm_jax.io.image import read_picture
from eamm_jax.io.video import read_video
from eamm_jax.provenance import credentials, metadata
from eamm_jax.provenance.credentials import Credentials
from eamm_jax.provenance.watermark import FEWEST_FRAMES, Found, detect

_READ_SECONDS = 60
"""Of a video, in search of a watermark."""


class Report(NamedTuple):
    """What was found in a file.

    Attributes:
        credentials: signed.
        fields: of IPTC, by their names.
        watermark: None if there is none.
        sought: whether there are pictures enough to look for one.
    """

    credentials: Credentials
    fields: Mapping[str, str]
    watermark: Found | None
    sought: bool

    @property
    def marked(self) -> bool:
        """Whether anything says that this program made it."""
        signed = self.credentials.state in (credentials.VALID, credentials.SELF_SIGNED)
        generator = self.credentials.generator or ""
        return (
            self.watermark is not None
            or self.fields.get("AISystemUsed") == metadata.SYSTEM
            or (signed and generator.split(" ")[0] == metadata.SYSTEM)
        )

    def lines(self) -> dict[str, str]:
        """A line for each kind of mark, and the result."""
        result = "made by eamm_jax: it shows what was generated, not recorded"
        if not self.marked:
            intact = " that is intact" if self.credentials.state == credentials.BROKEN else ""
            result = f"no mark of eamm_jax{intact}. That does not mean that it is a recording"
        return {
            "credentials": self._credentials_line(),
            "IPTC": self._fields_line(),
            "watermark": self._watermark_line(),
            "result": result,
        }

    def _credentials_line(self) -> str:
        found = self.credentials
        what = ", ".join(
            printable(value) for value in (found.generator, found.source_type) if value
        )
        about = f" ({what})" if what else ""
        if found.state == credentials.SELF_SIGNED:
            return f"self-signed: unchanged since it was made, but this proves not by whom{about}"
        if found.state == credentials.VALID:
            signer = printable(found.signer or "an unnamed signer")
            known = "" if found.trusted else ", whose certificate no list of trust confirms here"
            when = f" at {printable(found.time)}" if found.time else ""
            return f"valid: unchanged since it was signed by {signer}{when}{known}{about}"
        if found.state == credentials.BROKEN:
            problem = printable(found.problem or "the manifest is damaged")
            return f"broken: {problem}{about}"
        if found.state == credentials.UNREAD:
            return "not read: needs the extra 'provenance'"
        return "none"

    def _fields_line(self) -> str:
        values = {name: printable(value) for name, value in self.fields.items()}
        if not values:
            return "none"
        source = values.pop("DigitalSourceType", "").rpartition("/")[2]
        system = " ".join(
            values[name] for name in ("AISystemUsed", "AISystemVersionUsed") if name in values
        )
        identifier = f"identifier {values['identifier']}" if values.get("identifier") else ""
        return ", ".join(filter(None, (source, system, identifier)))

    def _watermark_line(self) -> str:
        if not self.sought:
            return "not read: takes half a second of video at least"
        if self.watermark is None:
            return "none found"
        identifier = self.watermark.identifier
        carried = f"identifier {identifier or 'damaged'}"
        if identifier and self.fields.get("identifier", identifier) != identifier:
            carried += " (another one: of a video that is shown in this one?)"
        chance = self.watermark.log10_chance
        return f"found, {carried}; a video without one looks so with probability 1e{chance:.0f}"

    def as_dict(self) -> dict[str, Any]:
        """The same for programs."""
        found = self.watermark
        watermark = None
        if found is not None:
            watermark = {
                "identifier": found.identifier,
                "log10_chance": round(found.log10_chance, 2),
                "place": {side: round(float(at), 1) for side, at in found.place._asdict().items()},
            }
        return {
            "marked": self.marked,
            "credentials": self.credentials._asdict(),
            "iptc": dict(self.fields),
            "watermark": watermark,
            "watermark_sought": self.sought,
        }


def verify(path: Path) -> Report:
    """Reads the marks of a video or picture.

    Raises:
        UserError: it is neither, or cannot be read.
    """
    check_readable(path, "file")
    watermark, count = None, itertools.count()
    if _is_still(path):
        read_picture(path)
    else:
        frames = itertools.islice(read_video(path, None), _READ_SECONDS * FRAME_RATE)
        watermark = detect((next(count) / FRAME_RATE, frame) for frame in frames)
    sought = next(count) >= FEWEST_FRAMES
    return Report(credentials.read(path), metadata.read(path), watermark, sought)


def _is_still(path: Path) -> bool:
    if not path.is_file():  # a pipe would be waited for
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return getattr(image, "n_frames", 1) == 1
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return True  # whoever reads it says that it is too large
    except Exception:  # Pillow raises anything on what is no picture, or damaged
        return False
