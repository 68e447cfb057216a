"""Lip sync by SyncNet: LSE-D, LSE-C and the offset, as joonson/syncnet_python computes them.

A face is cropped as there, but around its landmarks instead of the boxes of the detector S3FD. Five
frames and the sound of the same 0.2 s are compared at every offset of at most 15 frames.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8
from scipy import ndimage

from eamm_jax import features
from eamm_jax.checkpoint import Variables
from eamm_jax.evaluation.landmarks import Track
from eamm_jax.faces.similarity import Similarity, crop
from eamm_jax.models.syncnet import FRAMES, ROWS, SIZE, SyncNet
from eamm_jax.types import Array

MAX_SHIFT = 15
"""Largest offset, in frames."""

_CROP_SCALE = 0.4
_SMOOTHING = 13  # frames of the median filters of place and size
_FOREHEAD = 0.3  # of the height from brows to chin; the published boxes reach the hair
_EPSILON = 1e-6  # added to each difference, as PyTorch does
_SIXTEEN_BITS = 2 * np.log(32768)
_SILENCE_ROWS = features.SILENCE_PADDING // features.WINDOW_STEP


class Sync(NamedTuple):
    """How well lips and sound fit.

    Attributes:
        distance: LSE-D, the mean distance of their features at the best offset; lower is better.
        confidence: LSE-C, the median over offsets of the mean distance, minus the least one.
        offset: the best offset, in frames; positive: the sound is ahead of the lips.
    """

    distance: float
    confidence: float
    offset: int


class SyncMeter:
    """Measures lip sync.

    Args:
        variables: of `models.syncnet.SyncNet`.
    """

    name = "SyncNet"

    def __init__(self, variables: Variables) -> None:
        self._variables = jax.device_put(variables)

    def measure(
        self,
        frames: UInt8[np.ndarray, "t h w 3"],
        landmarks: Track,
        mfcc: Float[np.ndarray, "n 13"],
    ) -> Sync | None:
        """Compares the lips in a clip with its sound.

        Args:
            frames: RGB, at 25 frames a second.
            landmarks: of the face in each frame, in [-1, 1].
            mfcc: of the sound, from `features.speech_mfcc`.

        Returns:
            None for clips that are too short to tell: fewer than six frames.
        """
        faces = face_crops(frames, landmarks)
        rows = as_published(mfcc)
        step = features.ROWS_PER_FRAME
        count = min(len(faces) - FRAMES, (len(rows) - ROWS) // step + 1)
        if count < 1:
            return None
        lips = np.concatenate(
            [_lips(self._variables, faces[n : n + FRAMES][None]) for n in range(count)]
        )
        windows = np.stack([rows[step * n : step * n + ROWS] for n in range(count)])
        sound = np.asarray(_sound(self._variables, windows.astype(np.float32)))
        return sync_of(mean_distances(lips, sound))


@jax.jit
def _lips(variables: Variables, frames: Array) -> Array:
    images = frames.astype(jnp.float32) / 255
    return SyncNet().apply(variables, images, method="lips")


@jax.jit
def _sound(variables: Variables, mfcc: Array) -> Array:
    return SyncNet().apply(variables, mfcc, method="sound")


def as_published(mfcc: Float[np.ndarray, "n 13"]) -> Float[np.ndarray, "m 13"]:
    """The MFCC of 16-bit sound without the silence that `features.speech_mfcc` puts around it."""
    rows = mfcc[_SILENCE_ROWS : len(mfcc) - _SILENCE_ROWS].copy()
    rows[:, 0] += _SIXTEEN_BITS  # the log energy; other coefficients do not know the scale
    return rows


def face_crops(
    frames: UInt8[np.ndarray, "t h w 3"], landmarks: Track
) -> UInt8[np.ndarray, "t 224 224 3"]:
    """Squares around the face, lower than its middle; place and size are smoothed in time."""
    height, width = frames.shape[1:3]
    pixels = ((landmarks.astype(np.float64) + 1) * (width, height) - 1) / 2
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    low[:, 1] -= _FOREHEAD * (high - low)[:, 1]
    track = np.concatenate([(low + high) / 2, (high - low).max(axis=1, keepdims=True) / 2], axis=1)
    # The published filter fills up with zeros, which pulls the ends of a clip to the top left.
    x, y, half = (ndimage.median_filter(values, _SMOOTHING, mode="nearest") for values in track.T)
    crops = []
    for frame, *place in zip(frames, x, y, half, strict=True):
        scale = 2 * place[2] * (1 + _CROP_SCALE) / SIZE
        middle = place[0] + 1j * (place[1] + _CROP_SCALE * place[2])
        corner = middle - scale * (SIZE - 1) / 2 * (1 + 1j)
        crops.append(crop(frame, Similarity(scale, corner), SIZE))
    return np.stack(crops)


def mean_distances(
    lips: Float32[np.ndarray, "t n"], sound: Float32[np.ndarray, "t n"], max_shift: int = MAX_SHIFT
) -> Float64[np.ndarray, " s"]:
    """Mean distance of lips and sound at each offset from -max_shift to max_shift.

    Beyond its ends the sound has features of zeros, as published.
    """
    padded = np.pad(sound.astype(np.float64), ((max_shift, max_shift), (0, 0)))
    count = len(lips)
    return np.array(
        [
            np.linalg.norm(lips - padded[shift : shift + count] + _EPSILON, axis=1).mean()
            for shift in range(2 * max_shift + 1)
        ]
    )


def sync_of(distances: Float64[np.ndarray, " s"]) -> Sync:
    """Distance, confidence and offset from the mean distances at all offsets."""
    best = int(distances.argmin())
    least = float(distances[best])
    return Sync(least, float(np.median(distances)) - least, len(distances) // 2 - best)
