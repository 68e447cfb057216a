"""Sharpness without a reference: CPBD (Narvekar and Karam 2011).

"A No-Reference Image Blur Metric Based on the Cumulative Probability of Blur Detection (CPBD)",
IEEE Transactions on Image Processing 20(9). An edge of width w is perceived as blurred with
probability 1 - exp(-(w / w_JNB)^3.6), where the just noticeable width w_JNB is 5 pixels in blocks
of low contrast and 3 in others. CPBD is the fraction of edges whose probability is at most that of
just noticeable blur, 63 %. Since the probability grows with the width, it is the fraction of edges
that are no wider than w_JNB.

Edges are vertical (Sobel, thinned), measured along the row between local extrema (Marziliano et al.
2002), in 64x64 blocks where Canny's detector finds edges. Details that the paper leaves open follow
the authors' program.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, Int, Shaped
from scipy import ndimage
from skimage.feature import canny

Grey = Float64[np.ndarray, "h w"]

BLOCK = 64
"""Size of a block; smaller images are one block, and incomplete blocks are not used."""

_EDGE_SHARE = 0.002  # minimum fraction of edge pixels in a block with edges
_LOW_CONTRAST = 50
_WIDTH_LOW_CONTRAST, _WIDTH = 5, 3  # just noticeable, in pixels

_SOBEL_THRESHOLD = 2.0  # grey levels per pixel

# Canny's detector; the published program uses MATLAB's defaults.
_CANNY_SIGMA = 2**0.5
_CANNY_HIGH_PERCENTILE = 70
_CANNY_LOW_SHARE = 0.4

_LUMA = (0.299, 0.587, 0.114)


def grey_levels(frames: Shaped[np.ndarray, "t h w 3"]) -> Float64[np.ndarray, "t h w"]:
    """Integer grey levels, 0 to 255, of uint8 RGB frames."""
    return np.round(frames.astype(np.float64) @ np.array(_LUMA))


def cpbd(image: Grey) -> float:
    """The fraction of edges that are perceived as sharp.

    Args:
        image: grey levels, 0 to 255.

    Returns:
        0 (blurred) to 1 (sharp); 0 if there are no edges.
    """
    widths, canny = edge_widths(image), canny_edges(image)
    height, width = image.shape
    sharp = total = 0
    for top in range(0, max(height - BLOCK, 0) + 1, BLOCK):
        for left in range(0, max(width - BLOCK, 0) + 1, BLOCK):
            block = np.s_[top : top + BLOCK, left : left + BLOCK]
            if canny[block].mean() <= _EDGE_SHARE:
                continue
            low = np.ptp(image[block]) <= _LOW_CONTRAST
            found = widths[block][widths[block] > 0]
            sharp += int((found <= (_WIDTH_LOW_CONTRAST if low else _WIDTH)).sum())
            total += len(found)
    return sharp / total if total else 0.0


def edge_widths(image: Grey) -> Int[np.ndarray, "h w"]:
    """Widths of vertical edges; 0 at other pixels.

    A width counts the pixels from the edge to where the grey level stops falling on one side
    and stops rising on the other, at least one on each side.
    """
    strength = np.abs(ndimage.sobel(image, axis=1)) / 8
    down, across = np.gradient(image)
    level = np.round(np.arctan2(down, across) / (np.pi / 4)) % 4 == 0
    edges = _local_maxima(strength) & level & (strength > _SOBEL_THRESHOLD)
    rising = _run_lengths(image)
    falling = _run_lengths(-image)
    return np.where(edges, np.where(across > 0, rising, falling), 0)


def _local_maxima(strength: Grey) -> Bool[np.ndarray, "h w"]:
    """Local maxima of the inner pixels along the row or, as published, along the column."""
    inner = strength[1:-1, 1:-1]
    in_row = (inner >= strength[1:-1, :-2]) & (inner > strength[1:-1, 2:])
    in_column = (inner >= strength[:-2, 1:-1]) & (inner > strength[2:, 1:-1])
    return np.pad(in_row | in_column, 1)


def _run_lengths(image: Grey) -> Int[np.ndarray, "h w"]:
    """For each pixel, the number of rising steps to its left and right along the row."""
    rises = np.diff(image, axis=1) > 0
    height, width = image.shape
    left = np.zeros((height, width), int)
    right = np.zeros((height, width), int)
    for column in range(1, width):
        left[:, column] = (left[:, column - 1] + 1) * rises[:, column - 1]
    for column in range(width - 2, -1, -1):
        right[:, column] = (right[:, column + 1] + 1) * rises[:, column]
    # The direct neighbours always belong to the edge; beyond them it must keep rising.
    total = np.full((height, width), 2)
    total[:, 1:] += left[:, :-1]
    total[:, :-1] += right[:, 1:]
    return total


def canny_edges(image: Grey) -> Bool[np.ndarray, "h w"]:
    """Canny edges, with thresholds from the distribution of the gradient."""
    image = image.astype(float)
    smooth = ndimage.gaussian_filter(image, _CANNY_SIGMA)
    strength = np.hypot(ndimage.sobel(smooth, axis=0), ndimage.sobel(smooth, axis=1))
    high = np.percentile(strength, _CANNY_HIGH_PERCENTILE)
    if strength.max() <= 1e-9:
        return np.zeros(image.shape, bool)
    return canny(image, _CANNY_SIGMA, _CANNY_LOW_SHARE * high, high, mode="reflect")
