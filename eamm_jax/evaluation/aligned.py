"""Pixels and landmarks of aligned faces, as yuangan/evaluation_eat measures them.

Every frame of either video is turned and scaled until nose and eyes lie where a template has them,
and 128x128 pixels are compared. So position, size and rotation of the head do not count, and
neither does the background.

The template is dlib's mean face, placed so that the 18 landmarks used lie within 0.6 pixels, on
average, of the published one. Faces are cropped from the frame in one step instead of by way of a
163x163 picture, and the landmarks are those of the whole frame.
"""

from __future__ import annotations

import cmath
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, UInt8
from skimage.metrics import structural_similarity

from eamm_jax.evaluation import landmarks as metrics
from eamm_jax.evaluation.landmarks import MOUTH, PIXELS, Track
from eamm_jax.evaluation.pictures import EIGHT_BITS, psnr, squared_error
from eamm_jax.faces.dlib_finder import mean_face
from eamm_jax.faces.similarity import Similarity, crop, fit_similarity

SIZE = 128

STEADY = slice(27, 45)
"""Nose, the left eye and half of the right one: the landmarks that are aligned."""

_PLACE = Similarity(125.783 * cmath.exp(-1j * math.radians(1.398)), 0.799 + 0.235j)
"""Of the mean face, which is about 0 to 1, in pixels."""

_BORDER = 1 + 1j  # pixels of the template beyond the crop


class Aligned(NamedTuple):
    """Aligned faces.

    Attributes:
        frames: RGB.
        landmarks: in [-1, 1] of these frames.
    """

    frames: UInt8[np.ndarray, "t 128 128 3"]
    landmarks: Track


class Similarities(NamedTuple):
    """How alike aligned faces are, means over the frames.

    Attributes:
        psnr: in dB.
        ssim: scikit-image's default, uniform windows of 7x7 pixels with sample covariance.
        m_lmd: landmark distance of the mouth, in pixels of the 128x128 frame.
        f_lmd: that of the face.
    """

    psnr: float
    ssim: float
    m_lmd: float
    f_lmd: float


class Aligner:
    """Aligns faces.

    Raises:
        UserError: the mean face is not installed.
    """

    name = "evaluation_eat"

    def __init__(self) -> None:
        self._template = _PLACE(mean_face().astype(np.float64))[STEADY]

    def align(self, frames: UInt8[np.ndarray, "t h w 3"], landmarks: Track) -> Aligned:
        """Aligns the face with these landmarks, in [-1, 1], in each frame."""
        height, width = frames.shape[1:3]
        pixels = ((landmarks.astype(np.float64) + 1) * (width, height) - 1) / 2
        crops, moved = [], []
        for frame, points in zip(frames, pixels, strict=True):
            place = fit_similarity(self._template, points[STEADY]).after(Similarity(1, _BORDER))
            crops.append(crop(frame, place, SIZE))
            moved.append((2 * place.inverse()(points) + 1) / SIZE - 1)
        return Aligned(np.stack(crops), np.stack(moved))


def compare(found: Aligned, truth: Aligned) -> Similarities:
    """Compares aligned faces frame by frame."""
    decibels = np.minimum(psnr(squared_error(found.frames, truth.frames)), EIGHT_BITS)
    ssim: Float64[np.ndarray, " t"] = np.array(
        [
            structural_similarity(*pair, channel_axis=-1)
            for pair in zip(truth.frames, found.frames, strict=True)
        ]
    )
    scale = SIZE / (2 * PIXELS)
    tracks = found.landmarks, truth.landmarks
    return Similarities(
        float(decibels.mean()),
        float(ssim.mean()),
        float(scale * metrics.landmark_distance(*tracks, MOUTH).mean()),
        float(scale * metrics.landmark_distance(*tracks).mean()),
    )
