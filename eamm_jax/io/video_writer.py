"""Writes frames, and the sound under them, as H.264 and AAC in mp4.

Frames are encoded in a thread of their own, so that writing costs the caller, who computes the
next frames meanwhile, next to nothing; memory does not grow with the length.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from eamm_jax.constants import FRAME_RATE
from eamm_jax.io.audio import Block, sound_blocks
from eamm_jax.io.files import atomic_output, cannot_write
from eamm_jax.io.marking import Mark

LARGEST_SIDE = 16384
"""Pixels, of what x264 encodes."""

_CRF = 18
"""x264's constant quality: 18 is near what the eye can tell from the original."""
_PRESET = "veryfast"
_LARGE = 12_000_000
"""Pixels from which on the encoder holds few frames at once: a photo of 48 megapixels takes 72 MB
a frame."""
_SMALL_MEMORY = (
    "rc-lookahead=0:sync-lookahead=0:bframes=0:ref=1:sliced-threads=1:subme=0:weightp=0:"
    "scenecut=0:aq-mode=0:mbtree=0"
)
_FRAGMENTED = {
    "movflags": "frag_keyframe+delay_moov+default_base_moof",
    "frag_duration": "500000",  # microseconds
    "flush_packets": "1",
}
_QUEUE_FRAMES, _QUEUE_BYTES = 16, 256 * 2**20
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_AAC_BITS_PER_SAMPLE = 3  # 144 kbit/s a channel at 48 kHz: transparent; 48 at 16 kHz

# H.273 code points. The matrix is BT.601's, which players that ignore the tags assume for
# pictures of this size; primaries and transfer are sRGB's.
_MATRIX_BT601, _PRIMARIES_BT709, _TRANSFER_SRGB, _LIMITED_RANGE = 6, 1, 13, 1


@contextmanager
def video_writer(
    path: str | os.PathLike[str],
    width: int,
    height: int,
    frame_rate: int = FRAME_RATE,
    sound: str | os.PathLike[str] | None = None,
    metadata: Mapping[str, str] | None = None,
    crf: int = _CRF,
    mark: Mark | None = None,
    fragments: Path | None = None,
) -> Iterator[VideoWriter]:
    """Writes an mp4 file that appears when the block ends.

        with video_writer("out.mp4", 256, 256, sound="speech.wav") as video:
            video.write(frame)

    The file holds H.264 (yuv420p) at a constant rate and AAC at the sound's own rate, in mono
    or stereo; it plays in browsers while it loads. The sound is cut or filled with silence to
    the length of the frames. An odd width or height grows by one pixel, as H.264 needs it even.

    Args:
        path: the file to be made; an existing one is replaced when the new one is complete.
        width: of every frame, in pixels.
        height: of every frame, in pixels.
        frame_rate: frames a second.
        sound: a file with a sound track, or None for a silent video.
        metadata: title, artist, comment, description, copyright, date or genre.
        crf: x264's constant rate factor: 0 (lossless) to 51; lower is better and larger.
        mark: says of the video what it is.
        fragments: a second file with the same pictures and sound, of which everything written so
            far can be played while it grows. It is the caller's to delete.

    Raises:
        UserError: on entering, writing or leaving: the sound cannot be read, the file cannot
            be written, or the disk is full. Whatever the `with` block raises, nothing is left.
        ValueError: no frame was written, or one of another shape.
    """
    path = Path(path)
    with ExitStack() as stack:
        temporary = stack.enter_context(atomic_output(path))
        even = width + width % 2, height + height % 2
        with _named(path):
            encoder = Encoder(temporary, *even, frame_rate, sound, metadata or {}, crf, fragments)
        stack.callback(encoder.close)
        thread = ThreadPoolExecutor(1, thread_name_prefix="video encoder")
        # Twice, as an interrupt may end the first: what the thread uses is closed next.
        for _ in range(2):
            stack.callback(thread.shutdown, cancel_futures=True)
        writer = VideoWriter(path, encoder, thread, (height, width, 3), frame_rate, mark)
        yield writer
        writer.wait()
        with _named(path):
            encoder.finish()
            if mark is not None:
                mark.finish(temporary)


class VideoWriter:
    """Hands frames to the thread that encodes them; made by `video_writer`."""

    def __init__(
        self,
        path: Path,
        encoder: Encoder,
        thread: ThreadPoolExecutor,
        shape: tuple[int, int, int],
        frame_rate: int,
        mark: Mark | None,
    ):
        self._path, self._encoder, self._thread, self._shape = path, encoder, thread, shape
        self._frame_rate, self._mark, self._count = frame_rate, mark, 0
        self._padding = ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0))
        self._pending: deque[Future[None]] = deque()
        self._most = max(1, min(_QUEUE_FRAMES, _QUEUE_BYTES // int(np.prod(shape))))

    def write(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Adds an RGB frame. Waits only when the encoder is far behind.

        A frame of more than 12 megapixels is marked in place: a copy takes too much memory.

        Raises:
            UserError: this frame, or one of the last, cannot be written.
            ValueError: it has another shape or type.
        """
        import av

        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ValueError(
                f"expected uint8 of shape {self._shape}, got {frame.dtype} of {frame.shape}"
            )
        if self._mark is not None:
            seconds = self._count / self._frame_rate
            frame = self._mark.picture(frame, seconds, in_place=frame.size > 3 * _LARGE)
        self._count += 1
        if np.any(self._padding):
            frame = np.pad(frame, self._padding, "edge")
        if frame.size > 3 * _LARGE:
            # One at a time, and converted here without a copy: each takes a hundred megabytes.
            self.wait()
            shared = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(frame), format="rgb24")
            ready = _as_yuv(shared)
        else:
            self.wait(self._most)
            ready = av.VideoFrame.from_ndarray(frame, format="rgb24")
        self._pending.append(self._thread.submit(self._encoder.add, ready))

    def wait(self, most: int = 0) -> None:
        """Waits until at most so many frames are left to be encoded."""
        with _named(self._path):
            while self._pending and (len(self._pending) > most or self._pending[0].done()):
                self._pending.popleft().result()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Says which file an error of the operating system is about."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


class Encoder:
    """Encodes frames, and the sound under them, into an mp4 file. Used by one thread at a time."""

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        frame_rate: int,
        sound: str | os.PathLike[str] | None,
        metadata: Mapping[str, str],
        crf: int,
        fragments: Path | None,
    ):
        import av

        self._frames = 0
        self._fragments = None if fragments is None else Fragments(fragments)
        self._sound = None if sound is None else _sound_frames(sound, frame_rate)
        # The first frame tells the format; it is encoded with the first picture.
        self._next_sound = None if self._sound is None else next(self._sound)
        # faststart: the index goes to the front, so that browsers play before all is loaded.
        self._container: Any = av.open(
            str(path), "w", format="mp4", options={"movflags": "+faststart"}
        )
        # Names of files may hold bytes that are no text.
        self._container.metadata.update(
            {key: value.encode(errors="replace").decode() for key, value in metadata.items()}
        )
        options = {"crf": str(crf), "preset": _PRESET}
        if width * height > _LARGE:
            options = {"qp": str(crf), "preset": _PRESET, "x264-params": _SMALL_MEMORY}
        video: Any = self._container.add_stream("libx264", rate=frame_rate, options=options)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = Fraction(1, frame_rate)
        video.codec_context.colorspace = _MATRIX_BT601
        video.codec_context.color_primaries = _PRIMARIES_BT709
        video.codec_context.color_trc = _TRANSFER_SRGB
        video.codec_context.color_range = _LIMITED_RANGE
        self._video, self._time_base = video, Fraction(1, frame_rate)
        if self._next_sound is not None:
            rate, layout = self._next_sound.rate, self._next_sound.layout
            self._audio: Any = self._container.add_stream("aac", rate=rate, layout=layout.name)
            self._audio.bit_rate = _AAC_BITS_PER_SAMPLE * rate * layout.nb_channels

    def add(self, frame: Any) -> None:
        """Encodes an RGB frame (PyAV's) and as much sound as lasts until it ends."""
        converted = _as_yuv(frame)
        converted.pts, converted.time_base = self._frames, self._time_base
        self._mux(self._video.encode(converted))
        self._frames += 1
        if self._sound is not None:
            self._mux(self._audio.encode(self._next_sound))
            self._next_sound = next(self._sound)

    def finish(self) -> None:
        """Writes what the encoders still hold and completes the file."""
        if not self._frames:
            raise ValueError("a video needs at least one frame")
        self._mux(self._video.encode(None))
        if self._sound is not None:
            self._mux(self._audio.encode(None))
        self._container.close()
        if self._fragments is not None:
            self._fragments.close()

    def _mux(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            if self._fragments is None:
                self._container.mux(packet)
                continue
            copy = _copy(packet)  # muxing takes it
            index = packet.stream.index
            self._container.mux(packet)
            self._fragments.mux(index, copy, list(self._container.streams))

    def close(self) -> None:
        """Lets go of the files; after a failure the file made is of no use."""
        import av

        if self._sound is not None:
            self._sound.close()
        # Unless `finish` has done it, this writes what cannot be written, or need not be.
        with suppress(av.error.FFmpegError):
            self._container.close()
        if self._fragments is not None:
            with suppress(av.error.FFmpegError):
                self._fragments.close()


class Fragments:
    """An mp4 file of short pieces, each complete in itself, of packets that are encoded already."""

    def __init__(self, path: Path):
        self._path = path
        self._container: Any = None
        self._streams: dict[int, Any] = {}
        self._held: list[tuple[int, Any]] = []

    def mux(self, index: int, packet: Any, streams: list[Any]) -> None:
        """Writes a packet; all are held until each stream's encoder has told its parameters.

        Args:
            index: of the packet's stream.
            packet: which becomes this file's.
            streams: all that packets come from.
        """
        import av

        self._held.append((index, packet))
        if self._container is None:
            if not all(stream.codec_context.extradata for stream in streams):
                return
            self._container = av.open(str(self._path), "w", format="mp4", options=_FRAGMENTED)
            self._streams = {s.index: self._container.add_stream_from_template(s) for s in streams}
        for of_stream, held in self._held:
            held.stream = self._streams[of_stream]
            self._container.mux(held)
        self._held.clear()

    def close(self) -> None:
        """Completes the file."""
        if self._container is not None:
            self._container.close()


def _copy(packet: Any) -> Any:
    import av

    copy = av.Packet(bytes(packet))
    copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
    copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
    return copy


def _as_yuv(frame: Any) -> Any:
    """A frame as it is encoded; one that is so already stays as it is."""
    return frame.reformat(
        format="yuv420p", dst_colorspace=_MATRIX_BT601, dst_color_range=_LIMITED_RANGE
    )


def _sound_frames(path: str | os.PathLike[str], frame_rate: int) -> Generator[Any, None, None]:
    """The sound under each video frame, at a rate and layout that AAC knows; then silence."""
    import av

    blocks = sound_blocks(path)
    start = list(itertools.islice(blocks, 1))
    rate = start[0].rate if start and start[0].rate in _AAC_RATES else 48_000
    channels = min(len(start[0].samples), 2) if start else 1
    layout = ("mono", "stereo")[channels - 1]
    converted = _converted(itertools.chain(start, blocks), rate, layout)
    rest, silence = np.zeros((channels, 0), np.float32), np.zeros((channels, rate), np.float32)
    done = 0
    for number in itertools.count(1):
        count = round(Fraction(number * rate, frame_rate)) - done
        while rest.shape[1] < count:
            rest = np.concatenate([rest, next(converted, silence)], axis=1)
        piece, rest = np.ascontiguousarray(rest[:, :count]), rest[:, count:]
        frame = av.AudioFrame.from_ndarray(piece, "fltp", layout)
        frame.rate, frame.pts, frame.time_base = rate, done, Fraction(1, rate)
        yield frame
        done += count


def _converted(
    blocks: Iterator[Block], rate: int, layout: str
) -> Iterator[Float32[np.ndarray, "channels n"]]:
    """Sound at another rate and layout."""
    import av

    # A stream may change its rate or its channels on the way; each stretch has its own resampler.
    for (stretch_rate, stretch_layout), stretch in itertools.groupby(blocks, lambda b: b[1:]):
        resampler = av.AudioResampler("fltp", layout, rate)
        for block in itertools.chain(stretch, [None]):
            frame = None
            if block is not None:
                samples = np.nan_to_num(block.samples, posinf=1, neginf=-1)
                if len(samples) > 8:  # that FFmpeg does not know how to mix
                    samples, stretch_layout = samples.mean(axis=0, keepdims=True), "mono"
                packed = np.ascontiguousarray(samples.T).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(packed, "flt", stretch_layout)
                frame.rate = stretch_rate
            for converted in resampler.resample(frame):
                yield converted.to_ndarray()
