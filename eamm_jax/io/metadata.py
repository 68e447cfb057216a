"""Removes from image files what is not pixels, and reads the orientation on the way.

Cameras and editors write metadata in every state of damage, and none of it is a reason to refuse
a picture. So PNG text and JPEG application segments never reach the decoder. Colour profiles and
what decoders need to read the pixels stay.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_DROPPED = {b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME", b"pHYs"}
_PNG_EXIF_TEXT = b"Raw profile type exif"  # as ImageMagick writes it: three lines, then hex

_JPEG = b"\xff\xd8"
_SCAN, _COMMENT, _APPS = 0xDA, 0xFE, range(0xE0, 0xF0)
_EXIF = b"Exif\0\0"
_NEEDED = re.compile(rb"JFIF\0.{9}|ICC_PROFILE\0|Adobe", re.DOTALL)
"""How application segments begin that say what the colours mean."""

_ORIENTATION, _SHORT = 0x0112, 3
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')

_LARGEST_TEXT = 1 << 20
"""Bytes, unpacked, of a profile or of metadata; Pillow refuses more."""


def without_metadata(content: bytes) -> tuple[bytes, int]:
    """Removes the metadata of a PNG or JPEG file.

    Args:
        content: of the file. Files of other kinds stay as they are.

    Returns:
        The file without its metadata, and its orientation as EXIF has it, 1 to 8.
    """
    orientations: list[int | None] = []
    if content.startswith(_PNG):
        kept = list(_png_chunks(content, orientations))
    elif content.startswith(_JPEG):
        kept = list(_jpeg_segments(content, orientations))
    else:
        kept = [content]
    return b"".join(kept), next(filter(None, orientations), 1)


def _png_chunks(content: bytes, orientations: list[int | None]) -> Iterator[bytes]:
    yield _PNG
    at = len(_PNG)
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        name, end = content[at + 4 : at + 8], at + 12 + length
        keep = name not in _PNG_DROPPED
        if not keep or name == b"iCCP":
            key, _, text = content[at + 8 : end - 4].partition(b"\0")
            if name in (b"iCCP", b"zTXt"):
                text = _unpacked(text[1:])
            if name == b"iCCP":
                keep = bool(text)
            elif name == b"eXIf":
                orientations.insert(0, exif_orientation(content[at + 8 : end - 4]))
            elif key == _PNG_EXIF_TEXT:
                hexadecimal = b"".join(text.split(b"\n")[3:]).decode("ascii", "ignore")
                if re.fullmatch("(?:[0-9a-fA-F]{2})+", hexadecimal):
                    exif = bytes.fromhex(hexadecimal).removeprefix(_EXIF)
                    orientations.append(exif_orientation(exif))
            else:
                orientations.append(_xmp_orientation(text))
        if keep:
            yield content[at:end]
        at = end
    yield content[at:]


def _jpeg_segments(content: bytes, orientations: list[int | None]) -> Iterator[bytes]:
    yield _JPEG
    at = len(_JPEG)
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != _SCAN:
        marker = content[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        end = at + 2 + struct.unpack_from(">H", content, at + 2)[0]
        body = content[at + 4 : end]
        if body.startswith(_EXIF):
            orientations.insert(0, exif_orientation(body.removeprefix(_EXIF)))
        elif marker in _APPS:
            orientations.append(_xmp_orientation(body))
        if marker != _COMMENT and (marker not in _APPS or _NEEDED.match(body)):
            yield content[at:end]
        at = end
    yield content[at:]


def _unpacked(text: bytes) -> bytes:
    """What was compressed; empty if it is damaged or large."""
    unpacking = zlib.decompressobj()
    try:
        result = unpacking.decompress(text, _LARGEST_TEXT)
    except zlib.error:
        return b""
    return b"" if unpacking.unconsumed_tail else result


def _xmp_orientation(text: bytes) -> int | None:
    found = _XMP_ORIENTATION.search(text)
    return int(found[1]) if found else None


def exif_orientation(tiff: bytes) -> int | None:
    """The orientation in a block of EXIF; None where there is none or it is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    try:
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == _ORIENTATION:
                return value if kind == _SHORT and 1 <= value <= 8 else None
    except struct.error:
        pass
    return None
