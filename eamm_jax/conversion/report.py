"""What a conversion did, for people and for programs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from eamm_jax import __version__


@dataclass
class SourceReport:
    """A file that was read.

    Attributes:
        role: what it was given as.
        name: of the file, without its folder.
        bytes: its size.
        layout: "zip" or "stream".
        values: numbers and text in it (epoch, step).
        skipped: optimizer states that were not read, with their numbers of tensors.
        sha256: of the whole file.
    """

    role: str
    name: str
    bytes: int
    layout: str
    values: dict[str, int | float | str] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    sha256: str = ""


@dataclass
class Copy:
    """A copy of a network in another file, which was not taken.

    Attributes:
        source: that file's name.
        differing: names of tensors that are not the same there; none if it is identical.
    """

    source: str
    differing: list[str]


@dataclass
class NetworkReport:
    """A network that was converted.

    Attributes:
        source: name of the file it came from.
        tensors: how many were converted.
        parameters: trained values in them (statistics are not counted).
        bytes: size of all its variables.
        dtypes: how many tensors were stored as what; all become float32.
        unused: names of tensors that were not converted, by the reason.
        copies: of the same network in other files.
    """

    source: str
    tensors: int
    parameters: int
    bytes: int
    dtypes: dict[str, int]
    unused: dict[str, list[str]]
    copies: list[Copy]


@dataclass
class Report:
    """A conversion.

    Attributes:
        sources: files read.
        networks: what was made of them.
        discriminator: which of the published ones it is, or None without one.
        seconds: how long it took; in the saved report without the writing.
    """

    sources: list[SourceReport]
    networks: dict[str, NetworkReport]
    discriminator: str | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"made_by": f"eamm_jax {__version__}", "kind": "conversion"} | dataclasses.asdict(
            self
        )
