"""What a living face does besides speaking and feeling: it blinks, looks around and sways."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from data.synthetic import camera
from data.synthetic.camera import Pose
from eamm_jax.constants import FRAME_RATE
from eamm_jax.faces.idle import SmoothNoise

_BLINK = ((-0.10, 0.0), (-0.02, 1.0), (0.03, 1.0), (0.17, 0.0))
"""Course of a blink: seconds from its middle, and how far the lids are closed."""

_SHORTEST_GAP = 0.7  # seconds between blinks

MEAN_PITCH, _PITCH_SPREAD = 3.0, 3.5
_YAW_SPREAD, _LARGEST_YAW = 6.0, 14.0
_ROLL_SPREAD = 2.5
_ZOOM_SPREAD, _PLACE_SPREAD = 0.02, 0.015
"""Spread of the held pose between clips: that of the published ones, degrees and half frames."""

_TURN_SPREAD, _LEAN_SPREAD = (8.0, 6.0, 9.0, 0.10), (0.25, 0.16)
"""How people who move far while they talk turn: spread of yaw, pitch and roll, degrees, and the
logarithm of the size; and lean: across and up, half frames."""


class Reach(NamedTuple):
    """Factors on how widely the held pose varies: 1 is what the published clips show."""

    angles: float = 1.0
    zoom: float = 1.0
    place: float = 1.0


def smooth_noise(
    rng: np.random.Generator, length: int, seconds: float
) -> Float[np.ndarray, " length"]:
    """The first frames of `SmoothNoise`."""
    return SmoothNoise(rng, seconds).next(length)


def blinks(rng: np.random.Generator, count: int, rate: float) -> Float[np.ndarray, " t"]:
    """How far the lids are closed in each frame, 0..1.

    Args:
        rng: randomness.
        count: frames.
        rate: blinks a minute.
    """
    times = (np.arange(count) + 0.5) / FRAME_RATE
    closed = np.zeros(count)
    mean_gap = 60 / rate
    at = float(rng.uniform(0.15, mean_gap))
    while at < count / FRAME_RATE:
        # Centred on a frame, so that every blink is seen closed.
        middle = (int(at * FRAME_RATE) + 0.5) / FRAME_RATE
        offsets, depths = zip(*_BLINK, strict=True)
        closed = np.maximum(closed, np.interp(times - middle, offsets, depths))
        at += _SHORTEST_GAP + float(rng.exponential(max(mean_gap - _SHORTEST_GAP, 0.2)))
    return closed


def gaze(rng: np.random.Generator, count: int) -> Float[np.ndarray, "t 2"]:
    """Where the eyes look: mostly at the viewer, with quick jumps to elsewhere and back."""
    track = np.zeros((count, 2))
    start = 0
    while start < count:
        length = int(rng.uniform(0.5, 2.2) * FRAME_RATE)
        away = rng.random() < 0.35
        spread = (0.38, 0.22) if away else (0.07, 0.05)
        track[start : start + length] = rng.normal(0, spread)
        start += length
    # An eye needs about a frame and a half for a jump.
    return np.clip(gaussian_filter1d(track, 0.55, axis=0, mode="nearest"), -0.9, 0.9)


def head(
    rng: np.random.Generator,
    count: int,
    restless: float,
    lean: Float[np.ndarray, "t 3"],
    reach: Reach | None = None,
) -> list[Pose]:
    """The pose of the head in each frame.

    Args:
        rng: randomness.
        count: frames.
        restless: factor on the movements.
        lean: yaw, pitch and roll, degrees, that mood and speech add in each frame.
        reach: how widely the held pose varies between clips.
    """
    reach = reach or Reach()
    yaw = reach.angles * float(np.clip(rng.normal(0, _YAW_SPREAD), -_LARGEST_YAW, _LARGEST_YAW))
    pitch = float(rng.normal(MEAN_PITCH, reach.angles * _PITCH_SPREAD))
    roll = float(rng.normal(0, reach.angles * _ROLL_SPREAD))
    zoom = rng.normal(1, reach.zoom * _ZOOM_SPREAD)
    zoom = float(np.clip(zoom, 1 - 0.05 * reach.zoom, 1 + 0.05 * reach.zoom))
    place = reach.place * rng.normal(0, _PLACE_SPREAD, 2)
    sway = np.stack(
        [
            amount
            * restless
            * (smooth_noise(rng, count, 1.2) + 0.3 * smooth_noise(rng, count, 0.4))
            for amount in (2.0, 1.3, 0.9)
        ],
        1,
    )
    drift = np.stack([0.006 * smooth_noise(rng, count, 1.0) for _ in range(3)], 1)
    angles = np.array([yaw, pitch, roll]) + sway + lean
    return [
        camera.held(
            yaw=float(angles[t, 0]),
            pitch=float(angles[t, 1]),
            roll=float(angles[t, 2]),
            zoom=zoom * (1 + float(drift[t, 2])),
            dx=float(place[0] + drift[t, 0]),
            dy=float(place[1] + drift[t, 1]),
        )
        for t in range(count)
    ]


def turned(rng: np.random.Generator, pose: Pose, amount: float) -> Pose:
    """A pose after the person has turned, far at an amount of 1."""
    yaw, pitch, roll, nearer = amount * rng.normal(0, _TURN_SPREAD)
    return pose._replace(
        yaw=pose.yaw + yaw,
        pitch=pose.pitch + pitch,
        roll=pose.roll + roll,
        scale=pose.scale * float(np.exp(nearer)),
    )


def leant(rng: np.random.Generator, amount: float) -> Float[np.ndarray, " 2"]:
    """Where a person leans, right and up in half frames, far at an amount of 1."""
    return amount * rng.normal(0, _LEAN_SPREAD)


def pose_rows(poses: list[Pose]) -> Float[np.ndarray, "t 7"]:
    """Poses as the published files hold them."""
    return np.array([[*pose, camera.REST_TZ] for pose in poses])
