"""A gentle motion of the head, and blinks, for a source image that is given no other motion."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64
from scipy.ndimage import gaussian_filter1d

from eamm_jax.constants import FRAME_RATE, POSE_NUMBERS

_SWAY = (2.0, 1.3, 0.9)
"""Standard deviation of yaw, pitch and roll in degrees: a calm speaker's."""

_SWAY_TIMES, _TREMOR = (1.2, 0.4), 0.3
"""Time scales of the sway in seconds: a slow one, and a quick one of a smaller share."""

_DRIFT_SECONDS, _DRIFT_PIXELS, _DRIFT_SCALE = 1.0, 0.4, 2.8e-6
"""Of place (pixels of the pose's region) and scale."""

FOLLOWED = 0.43
"""Pixels of the region by which tx follows a degree of yaw, and ty one of pitch.

The published poses lie on such lines, as their crops follow the face.
"""

_BLINK = ((-0.10, 0.0), (-0.02, 1.0), (0.03, 1.0), (0.17, 0.0))
"""Course of a blink, and of the small nod with it: seconds from its middle, share closed."""

NOD_DEGREES = 0.8
"""Pitch of a head that nods with a blink."""

_BLINKS_A_MINUTE, _SHORTEST_GAP = 14.0, 0.7

_BEGIN_SECONDS = 1.0
"""Over which the motion grows from the still pose."""


class IdleMotion:
    """A gentle motion of a head, to be added to a still pose.

    The head sways, drifts a little, and nods slightly with each of the `Blinks` of the same seed
    (the eyes themselves do not follow the pose). It starts from the still pose.

    Args:
        strength: factor on all of it; 1 is a calm speaker.
        seed: of the motion.
    """

    def __init__(self, strength: float, seed: int):
        def noise(seconds: float, *stream: int) -> SmoothNoise:
            return SmoothNoise(np.random.default_rng([seed, *stream]), seconds)

        self._strength, self._frame, self._blinks = strength, 0, Blinks(seed)
        self._sway = [
            [noise(seconds, number, part) for part, seconds in enumerate(_SWAY_TIMES)]
            for number in range(len(_SWAY))
        ]
        self._drift = [noise(_DRIFT_SECONDS, number) for number in range(3, 6)]

    def set_strength(self, strength: float) -> None:
        """Changes the factor on the motion of the frames that follow."""
        self._strength = strength

    def next(self, frames: int) -> Float32[np.ndarray, "frames 6"]:
        """The frames that follow those of the calls before."""
        time = (self._frame + np.arange(frames)) / FRAME_RATE
        self._frame += frames
        motion = np.zeros((frames, POSE_NUMBERS))
        for number, (degrees, (slow, fast)) in enumerate(zip(_SWAY, self._sway, strict=True)):
            motion[:, number] = degrees * (slow.next(frames) + _TREMOR * fast.next(frames))
        motion[:, 1] += NOD_DEGREES * self._blinks.next(frames)
        amounts = _DRIFT_SCALE, _DRIFT_PIXELS, _DRIFT_PIXELS
        for number, (amount, noise) in enumerate(zip(amounts, self._drift, strict=True), 3):
            motion[:, number] = amount * noise.next(frames)
        motion[:, 4:6] += FOLLOWED * motion[:, :2]
        begun = np.clip(time / _BEGIN_SECONDS, 0, 1)
        eased = begun**2 * (3 - 2 * begun)
        return (self._strength * eased[:, None] * motion).astype(np.float32)


class SmoothNoise:
    """Noise of unit variance, one number per frame, correlated over about `seconds`."""

    def __init__(self, rng: np.random.Generator, seconds: float):
        self._rng, self._sigma = rng, seconds * FRAME_RATE / 2
        self._margin = int(4 * self._sigma) + 1  # beyond it the filter does not reach
        self._white = self._rng.standard_normal(2 * self._margin)

    def next(self, frames: int) -> Float64[np.ndarray, " frames"]:
        """The frames that follow those of the calls before."""
        white = np.concatenate([self._white, self._rng.standard_normal(frames)])
        self._white = white[frames:]
        # A smoothed unit white noise has the standard deviation (2 sigma sqrt(pi))^-1/2.
        smooth = gaussian_filter1d(white, self._sigma) * np.sqrt(2 * self._sigma * np.sqrt(np.pi))
        return smooth[self._margin : self._margin + frames]


class Blinks:
    """How far the eyes are closed, 0 to 1, by blinks at random times, about 14 per minute.

    Args:
        seed: of the times.
    """

    def __init__(self, seed: int):
        self._rng, self._frame = np.random.default_rng([seed, 1, 2]), 0
        self._times = [float(self._rng.uniform(_BEGIN_SECONDS, 60 / _BLINKS_A_MINUTE))]

    def next(self, frames: int) -> Float32[np.ndarray, " frames"]:
        """The frames that follow those of the calls before."""
        time = (self._frame + np.arange(frames)) / FRAME_RATE
        self._frame += frames
        end = self._frame / FRAME_RATE
        while self._times[-1] < end + 1:
            gap = self._rng.exponential(60 / _BLINKS_A_MINUTE - _SHORTEST_GAP)
            self._times.append(self._times[-1] + _SHORTEST_GAP + float(gap))
        offsets, shares = zip(*_BLINK, strict=True)
        closed = np.zeros(frames)
        for at in self._times:
            closed = np.maximum(closed, np.interp(time - at, offsets, shares))
        self._times = [at for at in self._times if at > end - 1]
        return closed.astype(np.float32)
