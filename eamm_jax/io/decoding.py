"""What the readers of sound and of video share: opening a file and decoding one of its streams.

Headers are not trusted: a stream is whatever can be decoded of it, and files that are cut short
or damaged give their good part.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from eamm_jax.errors import UserError

_log = logging.getLogger(__name__)

_TEXT_PROBE = 1024
"""Bytes; media files have something unprintable among so many."""


def _is_text(path: Path) -> bool:
    """Whether a file begins like text: FFmpeg would follow a playlist and film other text."""
    with path.open("rb") as file:
        head = file.read(_TEXT_PROBE)
    text = head.decode("utf-8", errors="ignore")
    whole = len(text.encode()) > len(head) - 4  # but for a character that is cut in two
    return whole and all(c.isprintable() or c in "\t\n\r\f\ufeff" for c in text)


def _lenient_tags() -> dict[str, Any]:
    """Makes titles in old encodings no reason to refuse a file; PyAV 19 does so by itself."""
    import av

    return {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


@contextmanager
def opened(path: Path, kind: Literal["audio", "video"]) -> Iterator[tuple[Any, Any]]:
    """Opens a media file at its best stream of a kind.

    Args:
        path: an existing file.
        kind: the stream that is wanted. Pictures attached to sound files are not video.

    Yields:
        PyAV's container, closed at the end of the block, and its stream.

    Raises:
        UserError: it is not a media file or has no such stream.
    """
    import av

    wanted = {"audio": "sound", "video": "video"}[kind]
    if _is_text(path):
        raise UserError(f"Cannot read the {wanted} of {path}: it is a text file")
    try:
        # What is in a file must not make us open another one, or the network.
        container = av.open(str(path), options={"protocol_whitelist": "file"}, **_lenient_tags())
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"Cannot read the {wanted} of {path}: it is not a media file that can be decoded "
            f"({reason.lower()})"
        ) from None
    with container:
        stream = container.streams.best(kind)
        still = av.stream.Disposition.attached_pic
        if stream is None or (stream.disposition & still):
            raise UserError(f"{path} has no {wanted} track; give a file with {wanted} in it")
        if stream.codec_context is None:
            raise UserError(
                f"Cannot read the {wanted} of {path}: its codec is not known; convert it to mp4"
            )
        yield container, stream


def decoded(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """Decodes a stream, passing over what is damaged, with one warning logged at the end.

    Args:
        path: the file, for the warning.
        container: from `opened`.
        stream: from `opened`.

    Yields:
        PyAV's frames, in the order in which they are shown or heard.
    """
    import av

    damaged = False
    count = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:  # the file ends or breaks within a packet
            damaged = True
            break
        if packet is None:
            break
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            damaged = True
            continue
        count += len(frames)
        yield from frames
    if stream.type == "video" and count < stream.frames:
        _log.warning(
            "%s is cut short: it announces %d frames, used the %d that are there",
            path,
            stream.frames,
            count,
        )
    elif damaged:
        _log.warning("%s is damaged or cut short: used what could be decoded", path)
