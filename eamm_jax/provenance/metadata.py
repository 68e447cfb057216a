"""IPTC metadata that says how a picture or video was made, as XMP, in mp4 and PNG.

IPTC Photo Metadata Standard 2025.1 and IPTC Video Metadata Hub: DigitalSourceType, AISystemUsed,
AISystemVersionUsed.
"""

from __future__ import annotations

import mmap
import re
import struct
import uuid
from collections.abc import Mapping
from pathlib import Path

SYSTEM = "eamm_jax"
"""This program, in metadata and credentials."""

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED, COMPOSITE = "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"
"""IPTC's terms for what a model made, and for what it made a part of."""

_PACKET = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF \
xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" \
xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" \
xmlns:dc="http://purl.org/dc/elements/1.1/" {fields}/></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""

_FIELDS = {
    "DigitalSourceType": "Iptc4xmpExt:DigitalSourceType",
    "AISystemUsed": "Iptc4xmpExt:AISystemUsed",
    "AISystemVersionUsed": "Iptc4xmpExt:AISystemVersionUsed",
    "identifier": "dc:identifier",
}
"""XMP's names."""

_MP4_XMP = uuid.UUID("be7acfcb-97a9-42e8-9c71-999491e3afac").bytes
"""Type of the box that holds XMP (XMP specification, part 3)."""

_START, _END = b"<x:xmpmeta", b"</x:xmpmeta>"
_LARGEST_PACKET = 1 << 16
_MOST_PACKETS = 16


def packet(source_type: str, version: str, identifier: str) -> str:
    """An XMP packet.

    Args:
        source_type: `GENERATED` or `COMPOSITE`.
        version: of this program.
        identifier: of the video.
    """
    values = {
        "DigitalSourceType": SOURCE_TYPES + source_type,
        "AISystemUsed": SYSTEM,
        "AISystemVersionUsed": version,
        "identifier": identifier,
    }
    fields = " ".join(f'{_FIELDS[name]}="{value}"' for name, value in values.items())
    return _PACKET.format(fields=fields)


def append_to_mp4(path: Path, xmp: str) -> None:
    """Adds a box with a packet to the end of a complete file."""
    content = _MP4_XMP + xmp.encode()
    with path.open("ab") as file:
        file.write(struct.pack(">I4s", 8 + len(content), b"uuid") + content)


def read(path: Path) -> Mapping[str, str]:
    """The fields that a file has, of those that `packet` writes.

    Packets are made to be found without knowledge of the format around them.
    """
    if not path.stat().st_size:
        return {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(_START)
        for _ in range(_MOST_PACKETS):
            if start < 0:
                break
            end = content.find(_END, start, start + _LARGEST_PACKET)
            fields = _fields(content[start:end]) if end >= 0 else {}
            if fields:
                return fields
            start = content.find(_START, start + 1)
    return {}


def _fields(xmp: bytes) -> dict[str, str]:
    """Values that stand as attributes, or as elements."""
    text, fields = xmp.decode("utf-8", "replace"), {}
    for name, written in _FIELDS.items():
        found = re.search(rf"""{written}(?:\s*=\s*["']|>)([^"'<]*)""", text)
        if found:
            fields[name] = found[1].strip()
    return fields
