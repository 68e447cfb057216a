"""The vocabulary of the package: axes, coordinates, and the types passed between modules.

Axes. Arrays are channels-last: images are (batch, height, width, channel) and tracks
(batch, time, ...). In shape annotations the axes are named

    b  batch            t  time (video frames, 25 a second)
    h, w  rows, columns c  channels
    k  keypoints        n  anything else that is counted

Coordinates. Points are (x, y), x to the right and y downwards; the image spans [-1, 1]
in both. Images are RGB floats in [0, 1].
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

Array = jax.Array


class Keypoints(NamedTuple):
    """Learned keypoints and the local affine motion around each (Siarohin et al. 2019, eq. 4).

    Attributes:
        value: positions in [-1, 1], (x, y).
        jacobian: 2x2 linear map around each keypoint; acts on column vectors (x, y).
        heatmap: where the detector saw each keypoint (sums to 1 over the map), or None.
    """

    value: Float[Array, "*batch k 2"]
    jacobian: Float[Array, "*batch k 2 2"]
    heatmap: Float[Array, "*batch h w k"] | None = None


class Clips(NamedTuple):
    """A batch of training clips with their source images (stages 1, 1 fine-tune and 2).

    Images are uint8 as they leave the input pipeline; the step converts them on the device.
    `t/s`: of all frames or of every s-th.
    """

    source: Array | np.ndarray  # (b, h, w, 3)
    frames: Array | np.ndarray  # (b, t/s, h, w, 3); (b, 0, h, w, 3) where no loss reads them
    audio: Array | np.ndarray  # (b, t, 28, 12) MFCC windows
    pose: Array | np.ndarray  # (b, t, 6)
    emotion: Array | np.ndarray  # (b,) int32 index into EMOTIONS; -1 where unlabelled
    keypoints: Keypoints | None = None  # (b, t/s, ...) image keypoints that came with the data


class Region(IntEnum):
    """What a pixel of a rendered picture shows."""

    BACKDROP = 0
    HEAD = 1
    BODY = 2
    UNKNOWN = 3


class FaceTruth(NamedTuple):
    """What is known of a rendered face, where keypoints and motion are guided by it."""

    points: Array | np.ndarray  # (b, 70, 2) dlib's 68 landmarks, then the pupils
    pose: Array | np.ndarray  # (b, 6)
    regions: Array | np.ndarray | None = None  # (b, 64, 64) `Region`; of albums
    # (b, 64, 64, 2) where in the source image that is which the driving frame shows, NaN if not
    # known; of driving frames from albums
    flow: Array | np.ndarray | None = None


class Pairs(NamedTuple):
    """A batch of two frames of one video each (stage 0); images as in `Clips`."""

    source: Array | np.ndarray  # (b, h, w, 3)
    driving: Array | np.ndarray  # (b, h, w, 3)
    source_truth: FaceTruth | None = None
    driving_truth: FaceTruth | None = None
