"""How close frames are to the ground truth: PSNR, SSIM, flicker; and to the source image.

Frames are RGB, uint8 or floats in [0, 1]; everything is computed in double precision on [0, 1].
A region is a mask of pixels in each frame, as `landmarks.mouth_region` makes it.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float64, Shaped
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.color import rgb2lab

from eamm_jax.evaluation.landmarks import EYES, MOUTH, Track
from eamm_jax.faces.similarity import fit_similarity

Frames = Shaped[np.ndarray, "t h w 3"]
Region = Bool[np.ndarray, "t h w"]

EIGHT_BITS = 10 * np.log10(12 * 255.0**2)
"""PSNR of rounding to 8 bits, 58.9 dB: what stands for infinity where values are averaged."""

# Of SSIM, on [0, 1].
_WINDOW, _SIGMA = (11, 11), 1.5
_C1, _C2 = 0.01**2, 0.03**2

STEADY = (27, 28, 29, 30, 31, 33, 35, 36, 39, 42, 45)
"""Landmarks that follow the head: bridge and base of the nose, corners of the eyes."""

_OUTLINE = (0, 1, 2, 3, 4, 12, 13, 14, 15, 16, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17)
"""Around the part of the face that is compared: its sides down to the mouth, and the brows."""

_BLUR = 1 / 64  # of the side of the frame, as the deviation of a gaussian
_MOUTH_MARGIN, _EYE_MARGIN = 0.2, 0.15  # of the width of the box that is left out


def as_floats(frame: Shaped[np.ndarray, "h w 3"]) -> Float64[np.ndarray, "h w 3"]:
    """A frame in [0, 1], in double precision."""
    return frame / 255 if frame.dtype == np.uint8 else frame.astype(np.float64)


def squared_error(frames: Frames, truth: Frames) -> Float64[np.ndarray, "t h w"]:
    """Squared difference at each pixel, mean of the three channels."""
    errors = (as_floats(frame) - as_floats(true) for frame, true in zip(frames, truth, strict=True))
    return np.stack([np.einsum("hwc,hwc->hw", error, error) / 3 for error in errors])


def psnr(
    error: Float64[np.ndarray, "t h w"], region: Region | None = None
) -> Float64[np.ndarray, " t"]:
    """Peak signal-to-noise ratio of each frame in dB: -10 log10 of the mean squared error.

    Args:
        error: from `squared_error`.
        region: pixels that count; all by default.

    Returns:
        Infinity for frames that are identical, or have no pixel in the region.
    """
    with np.errstate(divide="ignore"):
        return -10 * np.log10(_mean_within(error, region, empty=0.0))


def ssim_map(frames: Frames, truth: Frames) -> Float64[np.ndarray, "t h w"]:
    """Structural similarity around each pixel (Wang et al. 2004), mean of the three channels.

    The window is a Gaussian of standard deviation 1.5 in 11x11 pixels, mirrored at the border;
    variances are those of the population, as in the paper.
    """
    maps = []
    for frame, true in zip(frames, truth, strict=True):
        x, y = as_floats(frame), as_floats(true)
        mean_x, mean_y, squares, product = (
            cv2.GaussianBlur(z, _WINDOW, _SIGMA, borderType=cv2.BORDER_REFLECT)
            for z in (x, y, x * x + y * y, x * y)
        )
        both, each = 2 * mean_x * mean_y, mean_x**2 + mean_y**2
        similarity = (both + _C1) * (2 * product - both + _C2)
        similarity /= (each + _C1) * (squares - each + _C2)
        maps.append(np.einsum("hwc->hw", similarity) / 3)
    return np.stack(maps)


def ssim(
    similarity: Float64[np.ndarray, "t h w"], region: Region | None = None
) -> Float64[np.ndarray, " t"]:
    """Mean structural similarity of each frame.

    Args:
        similarity: from `ssim_map`.
        region: pixels that count; by default those whose window lies within the frame.

    Returns:
        At most 1; 1 also where the region is empty.
    """
    if region is None:
        border = _WINDOW[0] // 2
        inner = slice(border, -border)
        return similarity[:, inner, inner].mean(axis=(1, 2))
    return _mean_within(similarity, region, empty=1.0)


def flicker(frames: Frames, truth: Frames) -> float:
    """How restless the error is: root mean square of its second difference in time.

    Divided by the square root of 6, so that an error that is independent from frame to frame
    counts with its standard deviation; an error that stays, or changes steadily, counts 0.

    Returns:
        Grey levels of 255; 0 for fewer than three frames.
    """
    if len(frames) < 3:
        return 0.0
    errors = (as_floats(frame) - as_floats(true) for frame, true in zip(frames, truth, strict=True))
    before, now = next(errors), next(errors)
    squares = []
    for after in errors:
        squares.append(((before - 2 * now + after) ** 2).mean())
        before, now = now, after
    return float(255 * np.sqrt(np.mean(squares) / 6))


def _mean_within(
    values: Float64[np.ndarray, "t h w"], region: Region | None, *, empty: float
) -> Float64[np.ndarray, " t"]:
    if region is None:
        return values.mean(axis=(1, 2))
    chosen = (of_frame[inside] for of_frame, inside in zip(values, region, strict=True))
    return np.array([of_frame.mean() if of_frame.size else empty for of_frame in chosen])


def compared_region(
    landmarks: Float[np.ndarray, "68 2"], height: int, width: int
) -> Bool[np.ndarray, "h w"]:
    """The part of a portrait that is compared: its face without mouth, eyes and brows."""
    pixels = (landmarks.astype(np.float64) + 1) * np.array([width, height]) / 2
    canvas = Image.new("1", (width, height))
    draw = ImageDraw.Draw(canvas)
    draw.polygon([tuple(point) for point in pixels[list(_OUTLINE)] - 0.5], fill=1)
    left_half, right_half = slice(17, 22), slice(22, 27)
    for parts, margin in (
        ((pixels[MOUTH],), _MOUTH_MARGIN),
        ((pixels[left_half], pixels[EYES][:6]), _EYE_MARGIN),
        ((pixels[right_half], pixels[EYES][6:]), _EYE_MARGIN),
    ):
        points = np.concatenate(parts)
        low, high = points.min(axis=0), points.max(axis=0)
        around = margin * (high - low)[0]
        draw.rectangle([*(low - around - 0.5), *(high + around - 0.5)], fill=0)
    return np.asarray(canvas)


def identity_drift(
    portrait: Shaped[np.ndarray, "h w 3"],
    portrait_landmarks: Float[np.ndarray, "68 2"],
    frames: Shaped[np.ndarray, "t h w 3"],
    landmarks: Track,
) -> Float64[np.ndarray, " t"]:
    """How far the looks of each frame are from those of the portrait.

    No network is asked who it is. The parts of a face that neither speech nor emotion moves much,
    the cheeks, the nose and what lies between and beside them, are laid over each other by a
    similarity transform of steady landmarks; then colours are compared, in CIELAB after a blur
    that leaves skin tone, shading, glasses and the shapes of features, but forgives a misfit of a
    pixel. The unit is CIE 1976's colour difference: 2.3 is just noticeable (Mahy et al. 1994).
    Turning heads change their shading, so the true frames do not score 0: compare with them.

    Args:
        portrait: uint8, or floats in [0, 1].
        portrait_landmarks: of the portrait.
        frames: like the portrait.
        landmarks: of the frames.

    Returns:
        CIE 1976 colour differences; 0 where the portrait shows nothing to compare.
    """
    height, width = portrait.shape[:2]
    region = compared_region(portrait_landmarks, height, width)
    if not region.any():
        return np.zeros(len(frames))
    rows, columns = np.nonzero(region)
    places = np.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], -1)
    expected = rgb2lab(_blurred(portrait, _BLUR * height)[region])
    steady = list(STEADY)
    drift = []
    for frame, points in zip(frames, landmarks, strict=True):
        x, y = fit_similarity(portrait_landmarks[steady], points[steady])(places).T
        at = np.stack([((y + 1) * height - 1) / 2, ((x + 1) * width - 1) / 2])
        # Only as much is blurred as is looked at.
        margin = 1 + int(np.ceil(4 * _BLUR * height))
        last = np.array([[height - 1], [width - 1]])
        inside = np.clip(at.round(), 0, last).astype(int)
        low = np.maximum(inside.min(axis=1) - margin, 0)
        high = inside.max(axis=1) + margin
        part = frame[low[0] : high[0] + 1, low[1] : high[1] + 1]
        found = [
            ndimage.map_coordinates(channel, at - low[:, None], order=1, mode="nearest")
            for channel in np.moveaxis(_blurred(part, _BLUR * height), -1, 0)
        ]
        drift.append(np.linalg.norm(rgb2lab(np.stack(found, -1)) - expected, axis=-1).mean())
    return np.array(drift)


def _blurred(frame: Shaped[np.ndarray, "h w 3"], sigma: float) -> Float64[np.ndarray, "h w 3"]:
    return cv2.GaussianBlur(as_floats(frame), (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
