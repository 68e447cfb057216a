"""What the audio-to-motion network hears and how the head is held (paper, section 3.1).

Stands between the readers of `io` and the networks: speech samples become mel-frequency
cepstral coefficients (MFCC), 100 rows a second; each video frame hears a window of 28 rows,
0.295 s of sound, four rows further for each frame. Head poses become one row of six numbers
a frame. Everything here is NumPy on the host, and made so that windows can be cut chunk by
chunk while the sound is as long as it likes.

The constants are those the published weights were trained with (ARCHITECTURE.md section 1).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.fft
from jaxtyping import Float, Float32, Float64, Shaped
from scipy.ndimage import gaussian_filter1d

from eamm_jax.types import AUDIO_WINDOW, FRAME_RATE, POSE_NUMBERS, SAMPLE_RATE

SILENCE_PADDING = 1920
"""Zeros (0.12 s) put before and after the speech, so that its ends fill a window too."""

MFCC_COEFFICIENTS = 13
WINDOW_LENGTH = 400
"""Samples (25 ms) behind one MFCC row; no window function is applied."""
WINDOW_STEP = 160
"""Samples (10 ms) from one MFCC row to the next."""
ROWS_PER_FRAME = 4
"""MFCC rows (100 a second) from one video frame (25 a second) to the next."""

_PRE_EMPHASIS = 0.97
_FFT_SIZE = 512
_FILTERS = 26
_LIFTER = 22
_TINY = np.finfo(np.float64).eps  # stands for zero energy before the logarithm
_BLOCK_ROWS = 4096  # rows computed at once: 41 s of sound, about 50 MB of intermediates


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
    rows = _rows(len(samples))
    result = np.empty((rows, MFCC_COEFFICIENTS))
    for first in range(0, rows, _BLOCK_ROWS):
        last = min(first + _BLOCK_ROWS, rows)
        start = first * WINDOW_STEP
        stop = (last - 1) * WINDOW_STEP + WINDOW_LENGTH
        sound = samples[start:stop].astype(np.float64)
        # The sample before the block, for the pre-emphasis; before the first there is silence.
        before = float(samples[start - 1]) if start else 0.0
        emphasised = np.zeros(stop - start)
        emphasised[: len(sound)] = sound - _PRE_EMPHASIS * np.concatenate(([before], sound[:-1]))
        windows = np.lib.stride_tricks.sliding_window_view(emphasised, WINDOW_LENGTH)
        result[first:last] = _mfcc_rows(windows[::WINDOW_STEP])
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
    """Video frames that `t_mfcc` rows of MFCC are enough for: floor(t_mfcc / 4) - 6, or 0.

    This is the published count (frames 0 .. floor(t_mfcc / 4) - 7).
    """
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


def audio_windows(
    mfcc: Float[np.ndarray, "t_mfcc 13"], start: int, stop: int
) -> Float32[np.ndarray, "t 28 12"]:
    """What the audio-to-motion network hears in frames `start` up to `stop`.

    Args:
        mfcc: from `speech_mfcc`.
        start: first video frame.
        stop: frame after the last, at most `num_frames(len(mfcc))`.

    Returns:
        Rows 4t .. 4t + 27 for each frame t, without column 0 (the log energy).

    Raises:
        ValueError: the frames are not all within the sound.
    """
    return _windows(mfcc, start, stop)[:, :, 1:].astype(np.float32)


def mfcc_windows(mfcc: Float[np.ndarray, "t_mfcc 13"]) -> Float[np.ndarray, "t 28 13"]:
    """All windows with all 13 columns: how the published data sets store a clip's MFCC."""
    return np.ascontiguousarray(_windows(mfcc, 0, num_frames(len(mfcc))))


def pose_track(pose: Float[np.ndarray, "m _"], length: int) -> Float32[np.ndarray, "length 6"]:
    """Makes a head pose last for `length` frames.

    A single pose is repeated; a track that is too short is continued forwards then backwards
    (each end is shown twice, as published); one that is too long is cut.

    Args:
        pose: rows of yaw, pitch, roll (degrees), scale, tx, ty and, unused, tz.
        length: number of video frames.

    Returns:
        One row a frame: the six numbers that the networks see.
    """
    turn = np.arange(length) % (2 * len(pose))
    rows = np.minimum(turn, 2 * len(pose) - 1 - turn)
    return pose[rows, :POSE_NUMBERS].astype(np.float32)


def add_motion(
    still: Float[np.ndarray, "1 6"], track: Float[np.ndarray, "length 6"]
) -> Float32[np.ndarray, "length 6"]:
    """Moves a still pose as a track moves: still + (track - track[0])."""
    return (still + (track - track[:1])).astype(np.float32)


# --- A head that is alive -----------------------------------------------------------------

_SWAY = (2.0, 1.3, 0.9)
"""Standard deviation of yaw, pitch and roll in degrees: a calm speaker's."""

_SWAY_SECONDS, _TREMOR_SECONDS, _TREMOR = 1.2, 0.4, 0.3
"""How fast the head changes its mind, slowly and (by a smaller share) quickly."""

_DRIFT_SECONDS, _DRIFT_PIXELS, _DRIFT_SCALE = 1.0, 0.4, 2.8e-6
"""Of place (pixels of the pose's region) and scale."""

FOLLOWED = 0.43
"""Pixels of the region by which tx follows a degree of yaw, and ty one of pitch.

The published poses lie on such lines, as their crops follow the face.
"""

_BLINK = ((-0.10, 0.0), (-0.02, 1.0), (0.03, 1.0), (0.17, 0.0))
"""Course of a blink, and of the small nod that goes with it: seconds from its middle, share."""

_NOD_DEGREES = 0.8
_BLINKS_A_MINUTE, _SHORTEST_GAP = 14.0, 0.7

_BEGIN_SECONDS = 1.0
"""In which the motion grows from the still pose."""


def idle_motion(length: int, strength: float, seed: int) -> Float32[np.ndarray, "length 6"]:
    """A gentle motion of a head, to be added to a still pose.

    The head sways, drifts a little, and dips as heads do with a blink, when `blinks` of the same
    seed blinks (the eyes themselves do not follow the pose). It begins in the still pose, and
    a longer track begins as a shorter one does.

    Args:
        length: frames.
        strength: factor on all of it; 1 is a calm speaker.
        seed: of the motion.
    """
    time = np.arange(length) / FRAME_RATE
    motion = np.zeros((length, POSE_NUMBERS))
    for number, degrees in enumerate(_SWAY):
        slow, fast = (
            smooth_noise(np.random.default_rng([seed, number, part]), length, seconds)
            for part, seconds in enumerate((_SWAY_SECONDS, _TREMOR_SECONDS))
        )
        motion[:, number] = degrees * (slow + _TREMOR * fast)
    motion[:, 1] += _NOD_DEGREES * blinks(length, seed)
    for number, amount in ((3, _DRIFT_SCALE), (4, _DRIFT_PIXELS), (5, _DRIFT_PIXELS)):
        rng = np.random.default_rng([seed, number])
        motion[:, number] = amount * smooth_noise(rng, length, _DRIFT_SECONDS)
    motion[:, 4:6] += FOLLOWED * motion[:, :2]
    begun = np.clip(time / _BEGIN_SECONDS, 0, 1)
    return (strength * (begun**2 * (3 - 2 * begun))[:, None] * motion).astype(np.float32)


def smooth_noise(
    rng: np.random.Generator, length: int, seconds: float
) -> Float64[np.ndarray, " length"]:
    """Noise of unit variance, one number a frame, that takes `seconds` to change its mind."""
    sigma = seconds * FRAME_RATE / 2
    margin = int(4 * sigma) + 1
    white = rng.standard_normal(length + 2 * margin)
    # A smoothed unit white noise has the standard deviation (2 sigma sqrt(pi))^-1/2.
    smooth = gaussian_filter1d(white, sigma) * np.sqrt(2 * sigma * np.sqrt(np.pi))
    return smooth[margin : margin + length]


def blinks(length: int, seed: int) -> Float32[np.ndarray, " length"]:
    """How far the eyes are closed, 0 to 1, by blinks at random times, some 14 a minute.

    A longer track begins as a shorter one does.

    Args:
        length: frames.
        seed: of the times.
    """
    rng, time = np.random.default_rng([seed, 1, 2]), np.arange(length) / FRAME_RATE
    offsets, shares = zip(*_BLINK, strict=True)
    mean_gap = 60 / _BLINKS_A_MINUTE
    closed = np.zeros(length)
    at = float(rng.uniform(_BEGIN_SECONDS, mean_gap))
    while length and at < time[-1] + 1:
        closed = np.maximum(closed, np.interp(time - at, offsets, shares))
        at += _SHORTEST_GAP + float(rng.exponential(mean_gap - _SHORTEST_GAP))
    return closed.astype(np.float32)
