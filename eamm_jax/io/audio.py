"""Sound from any file: decoded, averaged to one channel and resampled to 16 kHz.

The steps are those behind the published MFCC (librosa's `load`): channels are averaged in
floating point, then soxr resamples at high quality. Decoding and resampling go block by block,
so that only the 16 kHz result is ever held whole.
"""

from __future__ import annotations

import os
import wave
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from eamm_jax.errors import UserError
from eamm_jax.io.decoding import decoded, opened
from eamm_jax.io.files import check_readable
from eamm_jax.types import SAMPLE_RATE

if TYPE_CHECKING:
    import av

MIN_SPEECH_SAMPLES = 27 * 160 + 400
"""0.295 s, the sound behind the 28 MFCC rows that one video frame hears: less than that never
fills a window."""

SILENCE_PEAK = 1e-4
"""Sound that never exceeds this (-80 dB, three steps of 16-bit sound) says nothing."""


class Block(NamedTuple):
    """A stretch of decoded sound.

    Attributes:
        samples: one row a channel, nominally within [-1, 1].
        rate: samples a second.
    """

    samples: Float32[np.ndarray, "channels n"]
    rate: int


class SoundInfo(NamedTuple):
    """What a file's sound track is, according to its header."""

    codec: str
    rate: int
    channels: int


def sound_info(path: str | os.PathLike[str]) -> SoundInfo:
    """Codec, rate and channels of a file's sound track.

    Raises:
        UserError: the file cannot be read or has no sound track.
    """
    with opened(check_readable(path, "sound file"), "audio") as (_, stream):
        return SoundInfo(stream.codec_context.name, stream.rate, stream.channels)


def _as_planar_float(frame: av.AudioFrame) -> Float32[np.ndarray, "channels n"]:
    """Samples of any format as floats in [-1, 1], one row a channel."""
    samples = frame.to_ndarray()
    if frame.format.is_packed:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    half = np.float32(2 ** (8 * samples.itemsize - 1))
    middle = half if samples.dtype.kind == "u" else np.float32(0)
    return (samples.astype(np.float32) - middle) / half


def sound_blocks(path: str | os.PathLike[str]) -> Iterator[Block]:
    """Decodes a file's sound at its own rate and channels, block by block.

    Raises:
        UserError: the file cannot be read or has no sound track, or a sample is not a number.
    """
    path = check_readable(path, "sound file")
    with opened(path, "audio") as (container, stream):
        for frame in decoded(path, container, stream):
            samples = _as_planar_float(frame)
            if not np.isfinite(samples).all():
                raise UserError(f"The sound of {path} holds NaN or infinite samples")
            yield Block(samples, frame.rate)


def read_audio(path: str | os.PathLike[str]) -> Float32[np.ndarray, " n"]:
    """Reads the sound of any sound or video file as one channel at `SAMPLE_RATE`.

    Args:
        path: anything FFmpeg decodes (wav, mp3, m4a, mov, mp4, flac, ogg ...), of any rate,
            channel layout and sample format. The file's best sound track is taken.

    Returns:
        Samples, nominally within [-1, 1]; none if the track is empty.

    Raises:
        UserError: the file cannot be read or has no sound track, or a sample is not a number.
    """
    import soxr

    pieces = [np.zeros(0, np.float32)]
    # A stream may change its rate on the way (joined recordings); each stretch has its own
    # resampler.
    for rate, blocks in groupby(sound_blocks(path), key=lambda block: block.rate):
        mono = (block.samples.mean(axis=0) for block in blocks)
        if rate == SAMPLE_RATE:
            pieces.extend(mono)
            continue
        resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        pieces.extend(resampler.resample_chunk(samples) for samples in mono)
        pieces.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.concatenate(pieces)


def read_speech(path: str | os.PathLike[str]) -> Float32[np.ndarray, " n"]:
    """Reads speech as `read_audio` does, and makes sure that there is something to hear.

    Raises:
        UserError: as `read_audio`; also when the sound is shorter than 0.3 s or all silent.
    """
    path = check_readable(path, "speech")
    samples = read_audio(path)
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
