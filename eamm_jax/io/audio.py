"""Sound from any file: decoded, averaged to one channel and resampled to 16 kHz.

The steps are those behind the published MFCC (librosa's `load`): channels are averaged in
floating point, then soxr resamples at high quality. Decoding and resampling go block by block,
so that only the 16 kHz result is ever held whole.
"""

from __future__ import annotations

import logging
import os
import wave
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from eamm_jax.constants import SAMPLE_RATE
from eamm_jax.errors import UserError
from eamm_jax.io.decoding import LONGEST_PAUSE, decoded, opened
from eamm_jax.io.files import check_readable

_log = logging.getLogger(__name__)

MIN_SPEECH_SAMPLES = 27 * 160 + 400
"""0.295 s, the sound behind the 28 MFCC rows of a video frame's window; less fills none."""

SILENCE_PEAK = 1e-4
"""Sound that never exceeds this (-80 dB, three steps of 16-bit sound) counts as silent."""


class Block(NamedTuple):
    """A stretch of decoded sound.

    Attributes:
        samples: one row per channel, nominally within [-1, 1].
        rate: samples per second.
        layout: FFmpeg's name of the channels ("stereo").
    """

    samples: Float32[np.ndarray, "channels n"]
    rate: int
    layout: str


_JITTER = Fraction(1, 25)
"""Seconds, a video frame, by which timestamps may be off before sound is moved."""

_SILENT_SAMPLES = 1 << 16
"""Of silence, in one block."""

RATES = range(1_000, 1_000_001)
"""Samples per second that sound may have; others are damaged headers."""


def _as_floats(path: Path, frames: Iterable[Any]) -> Iterator[Any]:
    """Frames of any format as packed floats.

    Packed, because PyAV reads beyond the planes of a frame that has eight of them or more.
    """
    import av

    def kind(frame: Any) -> tuple[Any, ...]:
        return frame.format.name, frame.layout.name, frame.rate, frame.time_base

    for (_, _, rate, _), alike in groupby(frames, kind):
        if rate not in RATES:
            raise UserError(f"Cannot read the sound of {path}: it claims {rate} samples per second")
        converter = av.AudioResampler("flt")
        try:
            for frame in alike:
                yield from converter.resample(frame)
        except (av.error.FFmpegError, ValueError) as error:
            raise UserError(f"Cannot read the sound of {path}: {error}") from None


def sound_blocks(path: str | os.PathLike[str], start: Fraction | None = None) -> Iterator[Block]:
    """Decodes a file's sound at its own rate and channels, block by block.

    Samples stay where their timestamps put them: gaps are filled with silence, and what overlaps
    is cut.

    Args:
        path: any file with a sound track.
        start: second of the file's clock that the sound begins at; None is its first sample.

    Raises:
        UserError: the file cannot be read or has no sound track.
    """
    path = check_readable(path, "sound file")
    due, previous, shift = start, None, Fraction(0)
    with opened(path, "audio") as (container, stream):
        for frame in _as_floats(path, decoded(path, container, stream)):
            rate, layout = frame.rate, frame.layout.name
            samples = frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T
            begin = due if frame.pts is None else frame.pts * frame.time_base + shift
            begin = begin or Fraction(0)
            due = begin if due is None else due
            if previous is not None and not previous < begin <= due + LONGEST_PAUSE:
                shift, begin = shift + due - begin, due
            previous = begin
            gap = round((begin - due) * rate) if abs(begin - due) > _JITTER else 0
            for done in range(0, gap, _SILENT_SAMPLES):
                size = min(_SILENT_SAMPLES, gap - done)
                yield Block(np.zeros((len(samples), size), np.float32), rate, layout)
            samples = samples[:, max(0, -gap) :]
            due += Fraction(gap * (gap > 0) + samples.shape[1], rate)
            if samples.size:
                yield Block(samples, rate, layout)


_CANCELS = 0.1
"""Share of what its loudest channel alone would leave of a mix, below which channels cancel."""


def read_audio(
    path: str | os.PathLike[str], start: Fraction | None = None
) -> Float32[np.ndarray, " n"]:
    """Reads the sound of any sound or video file as one channel at `SAMPLE_RATE`.

    Channels are averaged. Where that would cancel them (one is the other inverted), the loudest
    is taken alone.

    Args:
        path: anything FFmpeg decodes (wav, mp3, m4a, mov, mp4, flac, ogg ...), of any rate,
            channel layout and sample format. The file's best sound track is taken.
        start: second of the file's clock that the sound begins at, for sound that belongs to the
            picture in the same file (`decoding.start_time`); None is its first sample.

    Returns:
        Samples, nominally within [-1, 1]; none if the track is empty.

    Raises:
        UserError: the file cannot be read or has no sound track, or a sample is not a number.
    """
    energy = np.zeros(0)  # of each channel
    mixed = 0.0

    def mix() -> Iterator[tuple[np.ndarray, int]]:
        nonlocal energy, mixed
        for block in sound_blocks(path, start):
            if not np.isfinite(block.samples).all():
                raise UserError(f"The sound of {path} holds NaN or infinite samples")
            mono = block.samples.mean(axis=0)
            channels = np.square(block.samples, dtype=np.float64).sum(axis=1)
            if len(energy) != len(channels):
                energy, mixed = np.zeros(len(channels)), 0.0
            energy += channels
            mixed += np.square(mono, dtype=np.float64).sum()
            yield mono, block.rate

    samples = _resampled(mix())
    if energy.any() and mixed < _CANCELS * energy.max() / len(energy) ** 2:
        _log.info("the channels of %s cancel: used the loudest", path)
        loudest = int(energy.argmax())
        blocks = sound_blocks(path, start)
        samples = _resampled((b.samples[min(loudest, len(b.samples) - 1)], b.rate) for b in blocks)
    return samples


def _resampled(pieces: Iterable[tuple[np.ndarray, int]]) -> Float32[np.ndarray, " n"]:
    """Joins pieces of one channel, each with its rate, at `SAMPLE_RATE`."""
    import soxr

    result = [np.zeros(0, np.float32)]
    # A stream may change its rate on the way (joined recordings); each stretch has its own
    # resampler.
    for rate, group in groupby(pieces, key=lambda piece: piece[1]):
        mono = (samples for samples, _ in group)
        if rate == SAMPLE_RATE:
            result.extend(mono)
            continue
        resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        result.extend(resampler.resample_chunk(np.ascontiguousarray(piece)) for piece in mono)
        result.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.concatenate(result)


def read_speech(
    path: str | os.PathLike[str], start: Fraction | None = None
) -> Float32[np.ndarray, " n"]:
    """Reads speech as `read_audio` does, and makes sure that there is something to hear.

    Raises:
        UserError: as `read_audio`; also when the sound is shorter than 0.3 s or all silent.
    """
    path = check_readable(path, "speech")
    samples = read_audio(path, start)
    if len(samples) < MIN_SPEECH_SAMPLES:
        raise UserError(
            f"The speech in {path} is {len(samples) / SAMPLE_RATE:.2f} s long; "
            f"at least {MIN_SPEECH_SAMPLES / SAMPLE_RATE:.1f} s are needed"
        )
    if np.abs(samples).max() < SILENCE_PEAK:
        raise UserError(f"The speech in {path} is silent from beginning to end")
    return samples


def write_wav(path: str | os.PathLike[str], samples: Float[np.ndarray, " n"]) -> None:
    """Writes mono samples in [-1, 1], 16 kHz, as 16-bit WAV."""
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())
