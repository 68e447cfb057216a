"""Opens a media file and decodes one of its streams; shared by the readers of sound and of video.

Headers are not trusted: a stream is whatever can be decoded of it, and files that are truncated
or damaged give their good part.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from eamm_jax.errors import UserError

Kind = Literal["audio", "video"]

_log = logging.getLogger(__name__)

_NAMES = {"audio": "sound", "video": "video"}

_TEXT_PROBE = 1024
"""Bytes; media files have something unprintable among so many."""

_PROBE_PACKETS = 100
"""Packets of a stream of which one must decode, where a file has several streams of a kind."""


def _is_text(path: Path) -> bool:
    """Whether a file begins like text: FFmpeg would follow a playlist and film other text."""
    with path.open("rb") as file:
        head = file.read(_TEXT_PROBE)
    text = head.decode("utf-8", errors="ignore")
    whole = len(text.encode()) > len(head) - 4  # but for a character that is cut in two
    return whole and all(c.isprintable() or c in "\t\n\r\f\ufeff" for c in text)


def _open(path: Path, kind: Kind) -> Any:
    import av

    wanted = _NAMES[kind]
    if not path.is_file():
        raise UserError(
            f"Cannot read the {wanted} of {path}: it is a pipe or a device, and media files are "
            "read more than once; save it as a file first"
        )
    if _is_text(path):
        raise UserError(f"Cannot read the {wanted} of {path}: it is a text file")
    # PyAV 19 replaces titles in old encodings by itself.
    lenient: dict[str, Any] = {}
    if int(av.__version__.split(".")[0]) < 19:
        lenient["metadata_errors"] = "replace"
    try:
        # "file:", as a name with a colon would be taken for a URL. The whitelist: what is in a
        # file must not make us open another one, or the network.
        return av.open(f"file:{path}", options={"protocol_whitelist": "file"}, **lenient)
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"Cannot read the {wanted} of {path}: it is not a media file that can be decoded "
            f"({reason.lower()})"
        ) from None


def _candidates(container: Any, kind: Kind) -> list[Any]:
    """Streams of a kind, FFmpeg's choice first; pictures attached to sound files are none."""
    import av

    best = container.streams.best(kind)
    still = av.stream.Disposition.attached_pic
    found = [s for s in container.streams if s.type == kind and not s.disposition & still]
    return sorted(found, key=lambda stream: best is None or stream.index != best.index)


def _decodes(path: Path, kind: Kind, index: int) -> bool:
    """Whether something can be decoded of a stream."""
    import av

    with _open(path, kind) as container:
        packets = container.demux(container.streams[index])
        for _ in range(_PROBE_PACKETS):
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                return False
            if packet is None:
                return False
            with suppress(av.error.FFmpegError):
                if packet.decode():
                    return True
    return False


@contextmanager
def opened(path: Path, kind: Kind) -> Iterator[tuple[Any, Any]]:
    """Opens a media file at its best stream of a kind that can be decoded.

    Args:
        path: an existing file.
        kind: the stream that is wanted. Pictures attached to sound files are not video.

    Yields:
        PyAV's container, closed at the end of the block, and its stream.

    Raises:
        UserError: it is not a media file or has no such stream.
    """
    wanted = _NAMES[kind]
    with _open(path, kind) as container:
        streams = _candidates(container, kind)
        if not streams:
            raise UserError(f"{path} has no {wanted} track; give a file with {wanted} in it")
        known = [stream for stream in streams if stream.codec_context is not None]
        if not known:
            raise UserError(
                f"Cannot read the {wanted} of {path}: its codec is not known; convert it to mp4"
            )
        if len(known) > 1:
            known.sort(key=lambda stream: not _decodes(path, kind, stream.index))
        yield container, known[0]


LONGEST_PAUSE = Fraction(3600)
"""Seconds without a frame; more is a broken timestamp."""

_BREAK = Fraction(10)
"""Seconds by which timestamps jump only where recordings were joined."""

_STEP_BACK = Fraction(1)
"""Seconds by which decoding timestamps never go back within a recording."""


def continuous(packets: Iterable[Any]) -> Iterator[Any]:
    """Removes the jumps in timestamps where recordings were joined.

    All streams are shifted alike, so that sound and picture stay together. A pause in one stream,
    through which another one goes on, is kept.

    Args:
        packets: of the sound and the picture of one file, in the order of the file.

    Yields:
        The packets, with shifted `pts` and `dts`.
    """
    shift = Fraction(0)
    latest: dict[int, Fraction] = {}
    for packet in packets:
        stamp = packet.pts if packet.dts is None else packet.dts
        if stamp is not None:
            index = packet.stream_index
            time = stamp * packet.time_base + shift
            last = latest.get(index, time)
            others = [at for other, at in latest.items() if other != index]
            goes_on = any(abs(time - at) <= _BREAK for at in others)
            if time < last - _STEP_BACK or (time > last + _BREAK and not goes_on):
                following = last + (packet.duration or 0) * packet.time_base
                shift, time = shift + following - time, following
            latest[index] = time
        if shift:
            ticks = round(shift / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        yield packet


def decoded(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """Decodes a stream, skipping what is damaged; that is logged once for each file.

    Where nothing is left, there is nothing to log: the stream is empty.

    Args:
        path: the file, for the warning.
        container: from `opened`.
        stream: from `opened`.

    Yields:
        PyAV's frames, in the order in which they are shown or heard.
    """
    import av

    damaged = False
    read = used = 0
    # The other kind of stream is read along for its timestamps.
    along = [other for kind in ("audio", "video") for other in _candidates(container, kind)[:1]]
    along = [other for other in along if other.type != stream.type and other.codec_context]
    packets = continuous(container.demux(stream, *along))
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:  # the file ends or breaks within a packet
            damaged = True
            break
        if packet is None:
            break
        # The empty packet at the end, for which decoders give their last frames, has no index.
        if packet.stream.index != stream.index:
            continue
        read += packet.size > 0
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            damaged = True
            continue
        used += len(frames)
        yield from frames
    if not used:
        return  # which is an error of its own, for whoever reads
    # An edit list hides frames, but not the packets that hold them.
    if stream.type == "video" and stream.frames - read >= _MISSING_FRAMES:
        _warn_once(
            path,
            f"is cut short: it announces {stream.frames} frames, used the {used} that are there",
        )
    elif damaged:
        _warn_once(path, "is damaged or cut short: used what could be decoded")


_MISSING_FRAMES = 3
"""Frames from which on a video counts as cut short; many programs announce one too many."""


def _warn_once(path: Path, message: str) -> None:
    """Logs a warning the first time that a file is read."""
    _warn(path.resolve(), path.stat().st_mtime_ns, f"{path} {message}")


@lru_cache(maxsize=256)
def _warn(path: Path, modified: int, message: str) -> None:
    del path, modified
    _log.warning("%s", message)


def start_time(path: Path, kind: Kind) -> Fraction:
    """When the first frame of a stream is shown or heard, in seconds of the file's own clock.

    Raises:
        UserError: the file has no such stream, or nothing of it can be decoded.
    """
    with opened(path, kind) as (container, stream):
        first = next(decoded(path, container, stream), None)
    if first is None:
        raise UserError(f"Cannot read the {_NAMES[kind]} of {path}: nothing of it can be decoded")
    return Fraction(0) if first.pts is None else first.pts * first.time_base
