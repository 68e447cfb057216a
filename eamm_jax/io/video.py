"""Videos in and out: any rate, shape and codec to 25 square frames a second, and H.264 with sound.

Reading goes by the time at which each frame is shown, never by a header's counts. Writing goes
through one encoder thread, so that it costs the caller, who computes the next frames meanwhile,
next to nothing; memory does not grow with the length.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from fractions import Fraction
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from eamm_jax.errors import UserError
from eamm_jax.io.audio import sound_blocks, sound_info
from eamm_jax.io.decoding import decoded, opened
from eamm_jax.io.files import atomic_output, cannot_write, check_readable
from eamm_jax.io.image import fit_inside, fit_square
from eamm_jax.types import FRAME_RATE

# --- Reading -------------------------------------------------------------------------------


class Shown(NamedTuple):
    """A frame and when it is shown, in seconds."""

    start: Fraction
    stop: Fraction
    frame: Any


def sample_in_time(
    shown: Iterable[Shown], frame_rate: int, origin: Fraction | None = None
) -> Iterator[Any]:
    """Picks the frames that make a constant rate out of frames shown at any times.

    A frame is held until the next one starts; each output takes the frame that is shown in the
    middle of its own 1/`frame_rate` seconds, so that rounded timestamps change nothing.

    Args:
        shown: frames with rising starts; of the last one the stop counts too.
        frame_rate: frames per second that are wanted.
        origin: when the output begins; None is the first start. Until the first start the first
            frame is held.

    Yields:
        Frames, some perhaps several times, some never; at least one if there was one.
    """
    count = 0

    def middle() -> Fraction:
        return start + Fraction(2 * count + 1, 2 * frame_rate)

    current = None
    for following in shown:
        if current is None:
            start = following.start if origin is None else origin
        else:
            while middle() < following.start:
                yield current.frame
                count += 1
        current = following
    if current is None:
        return
    while not count or middle() < current.stop:
        yield current.frame
        count += 1


def timed(frames: Iterable[Any], nominal_rate: Fraction | None) -> Iterator[Shown]:
    """Gives every frame a time, also where timestamps are missing, repeated or go back.

    Args:
        frames: PyAV's, of packets whose timestamps are continuous.
        nominal_rate: frames per second, where a frame does not say how long it lasts.
    """
    period = 1 / Fraction(nominal_rate or FRAME_RATE)
    previous: Shown | None = None
    shift = Fraction(0)
    for frame in frames:
        duration = (frame.duration or 0) * (frame.time_base or 0)
        if not 0 < duration <= _LONGEST_FRAME:
            duration = period
        expected = previous.stop if previous else Fraction(0)
        start = expected if frame.pts is None else frame.pts * frame.time_base + shift
        if previous and not previous.start < start <= previous.start + _LONGEST_PAUSE:
            shift += expected - start
            start = expected
        previous = Shown(start, start + duration, frame)
        yield previous


_LONGEST_FRAME = Fraction(10)
"""Seconds that a last frame is shown at most."""

_LONGEST_PAUSE = Fraction(3600)
"""Seconds between two frames; more is a broken timestamp."""

_PIXEL_ASPECT_RATIOS = (1 / 4, 4)
"""Others are damaged headers."""


class _Upright:
    """Turns decoded frames into RGB as a player shows them.

    Args:
        size: side of the square that is wanted; None keeps the whole frames, at the size of the
            first, with square pixels.
        pixel_aspect_ratio: width of a stored pixel divided by its height.
    """

    def __init__(self, size: int | None, pixel_aspect_ratio: float):
        least, most = _PIXEL_ASPECT_RATIOS
        self._ratio = pixel_aspect_ratio if least <= pixel_aspect_ratio <= most else 1.0
        self._size = size
        self._whole: tuple[int, int] | None = None

    def __call__(self, frame: Any) -> UInt8[np.ndarray, "h w 3"]:
        pixels = frame.to_ndarray(format="rgb24")
        ratio = self._ratio
        (a, b), (c, d) = _display_matrix(frame)
        if abs(b) + abs(c) > abs(a) + abs(d):
            pixels, ratio, a, d = pixels.swapaxes(0, 1), 1 / ratio, c, b
        pixels = np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
        if self._size is not None:
            return np.asarray(fit_square(Image.fromarray(pixels), self._size, ratio))
        height, width = pixels.shape[:2]
        # The shorter side of a pixel grows, so that nothing is lost.
        width, height = round(width * max(ratio, 1)), round(height * max(1 / ratio, 1))
        self._whole = self._whole or (width, height)
        return fit_inside(pixels, width, height, *self._whole)


def _display_matrix(frame: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """How a stored (x, y) is shown, at (a x + c y, b x + d y): ((a, b), (c, d)), in 16.16."""
    stored = frame.side_data.get("DISPLAYMATRIX")
    if stored is None:
        return (1, 0), (0, 1)
    a, b, _, c, d = np.frombuffer(stored, np.int32)[:5].tolist()
    return (a, b), (c, d)


def read_video(
    path: str | os.PathLike[str],
    size: int | None,
    frame_rate: int = FRAME_RATE,
    start: Fraction | None = None,
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Reads a video's frames at a constant rate, one by one, as a player shows them.

    Args:
        path: anything FFmpeg decodes, of any rate, also a variable one, any orientation and any
            shape of pixels.
        size: side of the square frames that are wanted: the middle of the picture, resized with
            antialiasing; frames that fit already keep their exact pixels. None gives whole
            frames, upright and with square pixels; frames of another size than the first are
            fitted into it.
        frame_rate: frames per second.
        start: second of the file's clock that the video begins at, for a picture that belongs
            to the sound in the same file (`decoding.start_time`); None is its first frame.

    Returns:
        An iterator of RGB frames, (size, size, 3) if a size was given. A file that is cut short
        gives the frames that are there, and a warning is logged. A frame that is shown longer
        comes several times as one array: copy before changing it.

    Raises:
        UserError: at once if the file cannot be read or has no video track; from the iterator
            if not one frame can be decoded.
    """
    path = check_readable(path, "video")
    with opened(path, "video"):
        pass
    return _frames(path, size, frame_rate, start)


def _frames(
    path: Path, size: int | None, frame_rate: int, start: Fraction | None
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    with opened(path, "video") as (container, stream):
        upright = _Upright(size, float(stream.sample_aspect_ratio or 1))
        shown = timed(decoded(path, container, stream), stream.average_rate)
        latest = None
        for frame in sample_in_time(shown, frame_rate, start):
            if frame is not latest:
                latest, pixels = frame, upright(frame)
            yield pixels
    if latest is None:
        raise UserError(f"Cannot read the video {path}: not one frame of it can be decoded")


def video_seconds(path: str | os.PathLike[str], at_most: float) -> float:
    """How long a video lasts, by the times at which its frames are shown.

    Args:
        path: as for `read_video`.
        at_most: seconds after which nobody wants to know; no more is decoded.

    Returns:
        Seconds; of a longer video some number above `at_most`.

    Raises:
        UserError: the file cannot be read, has no video track, or not one frame is good.
    """
    path = check_readable(path, "video")
    start, seconds = None, Fraction(0)
    with opened(path, "video") as (container, stream):
        for shown in timed(decoded(path, container, stream), stream.average_rate):
            start = shown.start if start is None else start
            seconds = shown.stop - start
            if seconds > at_most:
                break
    if start is None:
        raise UserError(f"Cannot read the video {path}: not one frame of it can be decoded")
    return float(seconds)


# --- Writing -------------------------------------------------------------------------------

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
_QUEUE_FRAMES, _QUEUE_BYTES = 16, 256 * 2**20
LARGEST_SIDE = 16384
"""Pixels, of what x264 encodes."""
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_AAC_BITS_PER_SAMPLE = 3  # 144 kbit/s a channel at 48 kHz: transparent; 48 at 16 kHz
METADATA_KEYS = {"title", "artist", "comment", "description", "copyright", "date", "genre"}
"""What an mp4 file has places for, and players show."""

# H.273 code points. The matrix is BT.601's, which players that ignore the tags assume for
# pictures of this size; primaries and transfer are sRGB's.
_MATRIX_BT601, _PRIMARIES_BT709, _TRANSFER_SRGB, _LIMITED_RANGE = 6, 1, 13, 1


class _SoundTrack:
    """A file's sound at a rate and layout that AAC knows, handed out by the sample."""

    def __init__(self, path: str | os.PathLike[str]):
        info = sound_info(path)
        self.rate = info.rate if info.rate in _AAC_RATES else 48_000
        self.layout = "mono" if info.channels == 1 else "stereo"
        self.channels = 1 if info.channels == 1 else 2
        self._blocks = self._converted(path)
        self._rest = np.zeros((self.channels, 0), np.float32)

    def _converted(
        self, path: str | os.PathLike[str]
    ) -> Generator[Float32[np.ndarray, "channels n"], None, None]:
        import av

        for (rate, layout), blocks in groupby(sound_blocks(path), key=lambda block: block[1:]):
            resampler = av.AudioResampler("fltp", self.layout, self.rate)
            for block in chain(blocks, [None]):
                frame = None
                if block is not None:
                    samples = np.ascontiguousarray(
                        np.nan_to_num(block.samples, posinf=1, neginf=-1)
                    )
                    frame = av.AudioFrame.from_ndarray(samples, "fltp", layout)
                    frame.rate = rate
                for converted in resampler.resample(frame):
                    yield converted.to_ndarray()

    def take(self, count: int) -> Float32[np.ndarray, "channels count"]:
        """The next `count` samples; zeros after the end."""
        pieces, missing = [self._rest], count - self._rest.shape[1]
        while missing > 0:
            block = next(self._blocks, None)
            if block is None:
                block = np.zeros((self.channels, missing), np.float32)
            pieces.append(block)
            missing -= block.shape[1]
        samples = np.concatenate(pieces, axis=1)
        self._rest = samples[:, count:]
        return np.ascontiguousarray(samples[:, :count])

    def close(self) -> None:
        self._blocks.close()


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
    ):
        import av

        self._frames = self._samples = 0
        self._sound = _SoundTrack(sound) if sound is not None else None
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
        self._video, self._frame_rate = video, frame_rate
        if self._sound:
            audio: Any = self._container.add_stream(
                "aac", rate=self._sound.rate, layout=self._sound.layout
            )
            audio.bit_rate = _AAC_BITS_PER_SAMPLE * self._sound.rate * self._sound.channels
            self._audio = audio

    def add(self, frame: Any) -> None:
        """Encodes an RGB frame (PyAV's) and as much sound as lasts until it ends."""
        converted = _as_yuv(frame)
        converted.pts = self._frames
        converted.time_base = Fraction(1, self._frame_rate)
        self._container.mux(self._video.encode(converted))
        self._frames += 1
        if self._sound:
            self._add_sound(self._sound)

    def _add_sound(self, sound: _SoundTrack) -> None:
        import av

        until = round(Fraction(self._frames * sound.rate, self._frame_rate))
        samples = av.AudioFrame.from_ndarray(
            sound.take(until - self._samples), format="fltp", layout=sound.layout
        )
        samples.rate = sound.rate
        samples.pts, samples.time_base = self._samples, Fraction(1, sound.rate)
        self._samples = until
        self._container.mux(self._audio.encode(samples))

    def finish(self) -> None:
        """Writes what the encoders still hold and completes the file."""
        if not self._frames:
            raise ValueError("a video needs at least one frame")
        self._container.mux(self._video.encode(None))
        if self._sound:
            self._container.mux(self._audio.encode(None))
        self._container.close()

    def close(self) -> None:
        """Lets go of the files; after a failure the file made is of no use."""
        import av

        if self._sound:
            self._sound.close()
        # Unless `finish` has done it, this writes what cannot be written, or need not be.
        with suppress(av.error.FFmpegError):
            self._container.close()


def _as_yuv(frame: Any) -> Any:
    """A frame as it is encoded; one that is so already stays as it is."""
    return frame.reformat(
        format="yuv420p", dst_colorspace=_MATRIX_BT601, dst_color_range=_LIMITED_RANGE
    )


class VideoWriter:
    """Writes frames, and the sound under them, into an mp4 file that appears when complete.

        with VideoWriter("out.mp4", 256, 256, sound="speech.wav") as video:
            video.write(frame)

    The file holds H.264 (yuv420p) at a constant rate and AAC at the sound's own rate, in mono
    or stereo; it plays in browsers while it loads. The sound is cut or filled with silence to
    the length of the frames. An odd width or height grows by one pixel, as H.264 needs it even.

    Frames are encoded in another thread, at most a few behind; what fails there is raised by
    the next `write`, or on leaving.

    Args:
        path: the file to be made; an existing one is replaced when the new one is complete.
        width: of every frame, in pixels.
        height: of every frame, in pixels.
        frame_rate: frames a second.
        sound: a file with a sound track, or None for a silent video.
        metadata: title, comment, description and the like, to be read by players.
        crf: x264's constant rate factor: 0 (lossless) to 51; lower is better and larger.

    Raises:
        UserError: on entering, writing or leaving: the sound cannot be read, the file cannot
            be written, or the disk is full. Whatever the `with` block raises, nothing is left.
        ValueError: no frame was written, or one of another shape.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        width: int,
        height: int,
        frame_rate: int = FRAME_RATE,
        sound: str | os.PathLike[str] | None = None,
        metadata: Mapping[str, str] | None = None,
        crf: int = _CRF,
    ):
        unknown = set(metadata or {}) - METADATA_KEYS
        if unknown:
            raise ValueError(
                f"an mp4 file has no place for {sorted(unknown)}; it has for "
                f"{sorted(METADATA_KEYS)}"
            )
        self._path = Path(path)
        self._shape = (height, width, 3)
        self._padding = ((0, height % 2), (0, width % 2), (0, 0))
        self._encoder = partial(
            Encoder,
            width=width + width % 2,
            height=height + height % 2,
            frame_rate=frame_rate,
            sound=sound,
            metadata=metadata or {},
            crf=crf,
        )
        self._queue: queue.Queue[Any] = queue.Queue(
            max(1, min(_QUEUE_FRAMES, _QUEUE_BYTES // (height * width * 3)))
        )
        self._error: BaseException | None = None
        self._cancelled = False
        self._context: AbstractContextManager[None] | None = None

    def __enter__(self) -> Self:
        self._context = self._running()
        self._context.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._context is not None
        self._context.__exit__(kind, error, traceback)

    def write(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Adds an RGB frame. Waits only when the encoder is far behind."""
        import av

        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ValueError(
                f"expected uint8 of shape {self._shape}, got {frame.dtype} of {frame.shape}"
            )
        self._raise_error()
        if np.any(self._padding):
            frame = np.pad(frame, self._padding, "edge")
        if frame.size > 3 * _LARGE:
            # One at a time, and converted here without a copy: each takes a hundred megabytes.
            self._queue.join()
            self._raise_error()
            shared = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(frame), format="rgb24")
            self._queue.put(_as_yuv(shared))
            return
        self._queue.put(av.VideoFrame.from_ndarray(frame, format="rgb24"))

    @contextmanager
    def _running(self) -> Iterator[None]:
        with atomic_output(self._path) as temporary:
            try:
                encoder = self._encoder(temporary)
            except OSError as error:
                raise cannot_write(self._path, error) from error
            with closing(encoder):
                thread = threading.Thread(
                    target=self._encode, args=(encoder,), name="video encoder", daemon=True
                )
                thread.start()
                try:
                    yield
                except BaseException:
                    self._cancelled = True
                    raise
                finally:
                    self._stop(thread)
                self._raise_error()

    def _stop(self, thread: threading.Thread) -> None:
        """Waits for the thread, interrupted or not: the files it uses are closed next."""
        try:
            self._queue.put(None)
            thread.join()
        except BaseException:
            self._cancelled = True
            self._queue.put(None)  # the first may not have got in
            thread.join()
            raise

    def _encode(self, encoder: Encoder) -> None:
        """The thread: encodes what comes until None; after a failure it only empties the queue."""
        ended = False
        while not ended:
            frame = self._queue.get()
            ended = frame is None
            try:
                if self._error is None and not self._cancelled:
                    if frame is None:
                        encoder.finish()
                    else:
                        encoder.add(frame)
            except BaseException as error:
                self._error = error
            del frame  # a large one takes much memory while the next is awaited
            self._queue.task_done()

    def _raise_error(self) -> None:
        if self._error is not None:
            if isinstance(self._error, OSError):
                raise cannot_write(self._path, self._error) from self._error
            raise self._error
