"""Audio features and pose tracks: the inputs of the audio-to-motion network (paper, section 3.1).

Stands between the readers of `io` and the networks. Speech samples become mel-frequency cepstral
coefficients (MFCC), 100 rows per second; each video frame gets a window of 28 rows, 0.295 s of
sound, and the next frame's window starts four rows later. Head poses become one row of six numbers
per frame. Everything here is NumPy on the host; windows are cut chunk by chunk.

The constants are those of the published weights (docs/architecture.md, section 6).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.fft
from jaxtyping import Float, Float32, Float64, Shaped

from eamm_jax.constants import AUDIO_WINDOW, POSE_NUMBERS, SAMPLE_RATE

SILENCE_PADDING = 1920
"""Zeros (0.12 s) before and after the speech, so that its ends fill a window too."""

MFCC_COEFFICIENTS = 13
WINDOW_LENGTH = 400
"""Samples (25 ms) behind one MFCC row; no window function is applied."""
WINDOW_STEP = 160
"""Samples (10 ms) from one MFCC row to the next."""
ROWS_PER_FRAME = 4
"""MFCC rows (100 a second) from one video frame (25 a second) to the next."""

SPEECH_LEVEL = -4.0
"""Log energy of loud rows of speech that is recorded well: the level until there is louder."""
_LEVEL_FALL = 0.005
"""Of a row: by 4.3 dB a second."""

_PRE_EMPHASIS = 0.97
_FFT_SIZE = 512
_FILTERS = 26
_LIFTER = 22
_TINY = np.finfo(np.float64).eps  # stands for zero energy before the logarithm
BLOCK_ROWS = 4096
"""Rows computed at once: 41 s of sound, about 50 MB of intermediates."""


@cache
def _mel_filters() -> Float64[np.ndarray, "filters bins"]:
    """Triangular filters, evenly spaced on the mel scale from 0 Hz to half the sample rate.

    The corners lie on whole FFT bins, floor((nfft + 1) f / rate), as in training.
    """
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, _FILTERS + 2) / 2595) - 1)
    corners = np.floor((_FFT_SIZE + 1) * hertz / SAMPLE_RATE)[:, None]
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    bins = np.arange(_FFT_SIZE // 2 + 1)
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    return np.where(bins < centre, rising, falling) * ((bins >= left) & (bins < right))


@cache
def _lifter() -> Float64[np.ndarray, " coefficients"]:
    return 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(MFCC_COEFFICIENTS) / _LIFTER)


def _mfcc_rows(
    windows: Float64[np.ndarray, "rows 400"],
) -> Float64[np.ndarray, "rows 13"]:
    """MFCC of pre-emphasised windows, one row each."""
    power = np.abs(np.fft.rfft(windows, _FFT_SIZE)) ** 2 / _FFT_SIZE
    energy = power.sum(axis=1)
    bands = power @ _mel_filters().T
    bands = np.log(np.where(bands == 0, _TINY, bands))
    cepstrum = scipy.fft.dct(bands, type=2, norm="ortho", axis=1)[:, :MFCC_COEFFICIENTS]
    cepstrum *= _lifter()
    cepstrum[:, 0] = np.log(np.where(energy == 0, _TINY, energy))
    return cepstrum


class MfccStream:
    """Mel-frequency cepstral coefficients of a sound that comes in pieces, of any size.

    A row is given as soon as its 25 ms are complete. However the sound is cut, the rows are those
    of `mfcc`. Less than a row's samples are held from piece to piece.
    """

    def __init__(self) -> None:
        self._before = 0.0  # the last sample, for the pre-emphasis; at first there is silence
        self._rest = np.zeros(0)  # pre-emphasised, from the start of the next row
        self._started = False

    def push(self, samples: Float[np.ndarray, " n"]) -> Float64[np.ndarray, "rows 13"]:
        """The rows that these samples complete."""
        sound = np.concatenate(([self._before], samples))
        self._before = float(sound[-1])
        self._rest = np.concatenate([self._rest, sound[1:] - _PRE_EMPHASIS * sound[:-1]])
        count = (len(self._rest) - WINDOW_LENGTH) // WINDOW_STEP + 1
        if count <= 0:
            return np.zeros((0, MFCC_COEFFICIENTS))
        self._started = True
        windows = np.lib.stride_tricks.sliding_window_view(self._rest, WINDOW_LENGTH)
        rows = _mfcc_rows(windows[::WINDOW_STEP])
        self._rest = self._rest[count * WINDOW_STEP :]
        return rows

    def finish(self) -> Float64[np.ndarray, "rows 13"]:
        """The row that the end of the sound begins, filled up with zeros, if there is one."""
        if self._started and len(self._rest) <= WINDOW_LENGTH - WINDOW_STEP:
            return np.zeros((0, MFCC_COEFFICIENTS))
        return _mfcc_rows(np.pad(self._rest, (0, WINDOW_LENGTH - len(self._rest)))[None])


def mfcc(samples: Float[np.ndarray, " n"]) -> Float64[np.ndarray, "t_mfcc 13"]:
    """Mel-frequency cepstral coefficients of a sound, 100 rows a second.

    The same numbers as python_speech_features 0.6 gives with a step of 0.01 s and its other
    parameters at their defaults. Computed in double precision and in blocks of rows, so that
    memory beyond the result does not grow with the sound.

    Args:
        samples: mono sound at `SAMPLE_RATE`, nominally within [-1, 1].

    Returns:
        1 + ceil((n - 400) / 160) rows (at least one; the last is filled up with zeros).
        Column 0 is the log energy, columns 1..12 the liftered cepstrum.

    Raises:
        ValueError: `samples` is empty or not one-dimensional.
    """
    if samples.ndim != 1 or not len(samples):
        raise ValueError(f"expected samples of shape (n,), n > 0, got {samples.shape}")
    stream, result, done = MfccStream(), np.empty((_rows(len(samples)), MFCC_COEFFICIENTS)), 0
    block = BLOCK_ROWS * WINDOW_STEP
    for first in range(0, len(samples), block):
        rows = stream.push(samples[first : first + block])
        result[done : done + len(rows)] = rows
        done += len(rows)
    result[done:] = stream.finish()
    return result


def _rows(samples: int) -> int:
    return 1 + max(0, -(-(samples - WINDOW_LENGTH) // WINDOW_STEP))


def mfcc_rows(samples: int) -> int:
    """Rows that `speech_mfcc` gives for so many samples."""
    return _rows(samples + 2 * SILENCE_PADDING)


def speech_mfcc(samples: Float[np.ndarray, " n"]) -> Float64[np.ndarray, "t_mfcc 13"]:
    """MFCC of speech with `SILENCE_PADDING` zeros before and after it, as the networks expect."""
    return mfcc(np.pad(samples, SILENCE_PADDING))


def num_frames(t_mfcc: int) -> int:
    """Video frames that `t_mfcc` rows of MFCC suffice for: floor(t_mfcc / 4) - 6, or 0."""
    return max(0, t_mfcc // ROWS_PER_FRAME - AUDIO_WINDOW[0] // ROWS_PER_FRAME + 1)


def _windows(
    rows: Shaped[np.ndarray, "t_mfcc c"], start: int, stop: int
) -> Shaped[np.ndarray, "t 28 c"]:
    """A view of the windows of frames `start` to `stop`: rows 4t .. 4t + 27 each."""
    if not 0 <= start <= stop <= num_frames(len(rows)):
        raise ValueError(
            f"frames {start}:{stop} are outside the {num_frames(len(rows))} frames "
            f"that {len(rows)} MFCC rows give"
        )
    if start == stop:
        return rows[:0].reshape(0, 1, rows.shape[1]).repeat(AUDIO_WINDOW[0], axis=1)
    views = np.lib.stride_tricks.sliding_window_view(rows, AUDIO_WINDOW[0], axis=0)
    return views[start * ROWS_PER_FRAME : (stop - 1) * ROWS_PER_FRAME + 1 : ROWS_PER_FRAME].mT


def silenced(
    mfcc: Float[np.ndarray, "t_mfcc 13"], loudness_range: float, level: float = SPEECH_LEVEL
) -> tuple[Float[np.ndarray, "t_mfcc 13"], float]:
    """Sets rows of silence to 0: the cepstrum of a quiet room is as that of some loud noise.

    Args:
        mfcc: from `speech_mfcc`, or some of its rows, in order.
        loudness_range: log energy below the level of the speech from which on a row is silence.
        level: of the speech before these rows. It rises to that of each louder row, and falls by
            `_LEVEL_FALL` a row.

    Returns:
        The rows, and the level after them.
    """
    fall = _LEVEL_FALL * np.arange(len(mfcc) + 1)
    levels = np.maximum.accumulate(np.append(level, mfcc[:, 0]) + fall) - fall
    quiet = mfcc[:, :1] < levels[1:, None] - loudness_range
    return np.where(quiet, 0, mfcc), float(levels[-1])


def audio_windows(
    mfcc: Float[np.ndarray, "t_mfcc 13"], start: int, stop: int
) -> Float32[np.ndarray, "t 28 12"]:
    """The input of the audio-to-motion network for frames `start` up to `stop`.

    Args:
        mfcc: from `speech_mfcc`.
        start: first video frame.
        stop: one past the last, at most `num_frames(len(mfcc))`.

    Returns:
        Rows 4t .. 4t + 27 for each frame t, without column 0 (the log energy).

    Raises:
        ValueError: some of the frames are outside of the sound.
    """
    return _windows(mfcc, start, stop)[:, :, 1:].astype(np.float32)


class SpeechStream:
    """What `audio_windows` cuts out of speech, of speech that comes in pieces of any size.

    A frame's window is complete 0.175 s (2,800 samples) after the frame's time.

    Args:
        loudness_range: as in `silenced`.
    """

    def __init__(self, loudness_range: float = np.inf) -> None:
        self._mfcc, self._range, self._level = MfccStream(), loudness_range, SPEECH_LEVEL
        self._rows = np.zeros((0, MFCC_COEFFICIENTS))
        self._add(self._mfcc.push(np.zeros(SILENCE_PADDING)))

    def push(self, samples: Float[np.ndarray, " n"]) -> Float32[np.ndarray, "t 28 12"]:
        """The windows of the frames that these samples complete."""
        return self._add(self._mfcc.push(samples))

    def finish(self) -> Float32[np.ndarray, "t 28 12"]:
        """Those that the end of the speech completes; the stream is of no use afterwards."""
        last = self._mfcc.push(np.zeros(SILENCE_PADDING))
        return self._add(np.concatenate([last, self._mfcc.finish()]))

    def _add(self, rows: Float64[np.ndarray, "n 13"]) -> Float32[np.ndarray, "t 28 12"]:
        heard, self._level = silenced(rows, self._range, self._level)
        known = np.concatenate([self._rows, heard])
        count = num_frames(len(known))
        self._rows = known[count * ROWS_PER_FRAME :]
        return audio_windows(known, 0, count)


def mfcc_windows(mfcc: Float[np.ndarray, "t_mfcc 13"]) -> Float[np.ndarray, "t 28 13"]:
    """All windows with all 13 columns: how the published data sets store a clip's MFCC."""
    return np.ascontiguousarray(_windows(mfcc, 0, num_frames(len(mfcc))))


def pose_track(pose: Float[np.ndarray, "m _"], length: int) -> Float32[np.ndarray, "length 6"]:
    """Makes a head pose last for `length` frames.

    A single pose is repeated. A track that is too short is played forwards and backwards (each
    end is shown twice, as published), one that is too long is cut.

    Args:
        pose: rows of yaw, pitch, roll (degrees), scale, tx, ty and, unused, tz.
        length: number of video frames.

    Returns:
        One row per frame: the six numbers that the networks take.
    """
    turn = np.arange(length) % (2 * len(pose))
    rows = np.minimum(turn, 2 * len(pose) - 1 - turn)
    return pose[rows, :POSE_NUMBERS].astype(np.float32)


def add_motion(
    still: Float[np.ndarray, "1 6"], track: Float[np.ndarray, "length 6"]
) -> Float32[np.ndarray, "length 6"]:
    """Moves a still pose as a track moves: still + (track - track[0])."""
    return (still + (track - track[:1])).astype(np.float32)
