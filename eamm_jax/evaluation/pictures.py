"""How close frames are to the true ones, pixel by pixel: PSNR, SSIM and flicker.

Frames are RGB, uint8 or floats in [0, 1]; everything is computed in double precision on [0, 1].
A region is a mask of pixels in each frame, as `landmarks.mouth_region` makes it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, Shaped
from skimage.metrics import structural_similarity

Frames = Shaped[np.ndarray, "t h w 3"]
Region = Bool[np.ndarray, "t h w"]

EIGHT_BITS = 10 * np.log10(12 * 255.0**2)
"""PSNR of rounding to 8 bits, 58.9 dB: what stands for infinity where values are averaged."""

_WINDOW_RADIUS = 5  # of SSIM


def as_floats(frames: Frames) -> Float64[np.ndarray, "t h w 3"]:
    """Frames in [0, 1], in double precision."""
    floats = frames.astype(np.float64)
    return floats / 255 if frames.dtype == np.uint8 else floats


def squared_error(frames: Frames, truth: Frames) -> Float64[np.ndarray, "t h w"]:
    """Squared difference at each pixel, mean of the three channels."""
    return ((as_floats(frames) - as_floats(truth)) ** 2).mean(axis=-1)


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
    for pair in zip(as_floats(frames), as_floats(truth), strict=True):
        _, similarity = structural_similarity(
            *pair,
            data_range=1.0,
            channel_axis=-1,
            gaussian_weights=True,
            use_sample_covariance=False,
            full=True,
        )
        maps.append(similarity.mean(axis=-1))
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
        inner = slice(_WINDOW_RADIUS, -_WINDOW_RADIUS)
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
    error = 255 * (as_floats(frames) - as_floats(truth))
    return float(np.sqrt((np.diff(error, 2, axis=0) ** 2).mean() / 6))


def _mean_within(
    values: Float64[np.ndarray, "t h w"], region: Region | None, *, empty: float
) -> Float64[np.ndarray, " t"]:
    if region is None:
        return values.mean(axis=(1, 2))
    counts = region.sum(axis=(1, 2))
    sums = np.where(region, values, 0).sum(axis=(1, 2))
    return np.where(counts, sums / np.maximum(counts, 1), empty)
