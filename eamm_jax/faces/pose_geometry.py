"""The camera behind a head pose: from a camera matrix, or from landmarks, to seven numbers.

Convention of the published poses (3DDFA_V2's). The camera sees a square region around the face
of 120x120 pixels, x to the right and *y upwards*, by weak perspective:

    region = scale (R p)_xy + (tx, ty)

with p in micrometres from the centre of the head, x to picture right, y up, z to the viewer, and
R = R_z(roll) R_y(-yaw) R_x(pitch). Positive yaw rotates the nose to image left, positive pitch
nods it down, positive roll rotates the head counter-clockwise in the image. A pose is yaw,
pitch, roll in degrees, scale, tx, ty, tz.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from eamm_jax.faces.similarity import Similarity, resized, sample_square

REGION_SIZE = 120
"""Rows and columns of the region that poses are given in."""

_PROFILE = 0.998
"""Sine of the yaw beyond which roll and pitch are one; 3DDFA_V2's."""

_OUTLIER = 3.0
"""Pixels of the region (6 of the crop) beyond which a landmark counts less: it is not where a
generic face has it."""


def rotation_matrix(angles: Float[np.ndarray, "*b 3"]) -> Float64[np.ndarray, "*b 3 3"]:
    """R of yaw, pitch and roll in degrees."""
    yaw, pitch, roll = np.moveaxis(np.asarray(angles, np.float64), -1, 0)
    turns = np.stack([roll, -yaw, pitch], axis=-1)
    matrices = Rotation.from_euler("ZYX", turns.reshape(-1, 3), degrees=True).as_matrix()
    return matrices.reshape(*turns.shape[:-1], 3, 3)


def rotation_angles(matrix: Float[np.ndarray, "*b 3 3"]) -> Float64[np.ndarray, "*b 3"]:
    """Yaw, pitch and roll of R, in degrees; at a yaw of 90 degrees the roll is set to 0."""
    matrix = np.asarray(matrix, np.float64)
    yaw = np.arcsin(np.clip(matrix[..., 2, 0], -1, 1))
    upright = np.abs(matrix[..., 2, 0]) > _PROFILE
    pitch = np.where(
        upright,
        # R = R_y(-yaw) R_x(pitch): what is left of it when roll is nothing.
        np.arctan2(-matrix[..., 1, 2], matrix[..., 1, 1]),
        np.arctan2(matrix[..., 2, 1], matrix[..., 2, 2]),
    )
    roll = np.where(upright, 0.0, np.arctan2(matrix[..., 1, 0], matrix[..., 0, 0]))
    return np.degrees(np.stack([yaw, pitch, roll], axis=-1))


def camera_pose(camera: Float[np.ndarray, "*b 3 4"]) -> Float64[np.ndarray, "*b 7"]:
    """The seven numbers of a 3x4 camera matrix, whose first two rows are nearly s R.

    As 3DDFA_V2 has it: the scale is the mean length of the two rows, each is divided by its own
    length, and the third row of R is their cross product.
    """
    camera = np.asarray(camera, np.float64)
    lengths = np.linalg.norm(camera[..., :2, :3], axis=-1)
    rows = camera[..., :2, :3] / lengths[..., None]
    matrix = np.concatenate([rows, np.cross(rows[..., 0, :], rows[..., 1, :])[..., None, :]], -2)
    scale = lengths.mean(axis=-1, keepdims=True)
    return np.concatenate([rotation_angles(matrix), scale, camera[..., 3]], axis=-1)


def project(
    points: Float[np.ndarray, "n 3"], pose: Float[np.ndarray, " _"]
) -> Float64[np.ndarray, "n 2"]:
    """Where points of the head (micrometres) appear in the region, y upwards."""
    turned = np.asarray(points, np.float64) @ rotation_matrix(pose[:3])[:2].T
    return pose[3] * turned + pose[4:6]


class Region(NamedTuple):
    """A square of a picture, in pixels of it: left and top edge, and side."""

    left: float
    top: float
    side: float

    def to_picture(self, points: Float[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
        """Points of the region (y upwards) in pixels of the picture, (x, y) downwards."""
        x, y = np.asarray(points, np.float64).T * (self.side / REGION_SIZE)
        return np.stack([self.left + x, self.top + self.side - y], axis=1)

    def from_picture(self, points: Float[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
        """Pixels of the picture in the region (y upwards)."""
        x, y = np.asarray(points, np.float64).T
        around = np.stack([x - self.left, self.top + self.side - y], axis=1)
        return around * (REGION_SIZE / self.side)

    def scaled(self, factor: float) -> Region:
        """The region in the picture made larger by a factor."""
        return Region(self.left * factor, self.top * factor, self.side * factor)


def fit_pose(
    head: Float[np.ndarray, "n 3"],
    seen: Float[np.ndarray, "n 2"],
    weights: Float[np.ndarray, " n"] | None = None,
) -> Float64[np.ndarray, " 6"]:
    """The weak perspective camera that shows points of a head where they are seen.

    Least squares in the region, weighted and robust (soft L1 beyond `_OUTLIER` pixels), begun
    from a face seen frontally.

    Args:
        head: micrometres, x right, y up, z to the viewer.
        seen: pixels of the region, y upwards.
        weights: of the points; alike without.

    Returns:
        Yaw, pitch, roll, scale, tx, ty.
    """
    weights = np.ones(len(head)) if weights is None else np.asarray(weights, np.float64)
    root = np.sqrt(weights / weights.mean())[:, None]
    spread = np.linalg.norm(seen - seen.mean(axis=0)) / np.linalg.norm((head - head.mean(0))[:, :2])
    start = np.array([0.0, 0.0, 0.0, 1.0, *seen.mean(axis=0)])

    def pose_of(unknowns: np.ndarray) -> np.ndarray:
        return np.concatenate([unknowns[:3], [unknowns[3] * spread], unknowns[4:]])

    def residuals(unknowns: np.ndarray) -> np.ndarray:
        return (root * (project(head, pose_of(unknowns)) - seen)).ravel()

    # Steps of comparable effect: ten degrees, a tenth of the size, five pixels.
    found = least_squares(
        residuals, start, x_scale=[10, 10, 10, 0.1, 5, 5], loss="soft_l1", f_scale=_OUTLIER
    )
    return pose_of(found.x)


def fit_place(
    head: Float[np.ndarray, "n 3"],
    seen: Float[np.ndarray, "n 2"],
    rotation: Float[np.ndarray, "3 3"],
    weights: Float[np.ndarray, " n"],
) -> Float64[np.ndarray, " 6"]:
    """As `fit_pose`, by least squares, of a head whose rotation is known."""
    turned = np.asarray(head, np.float64) @ rotation[:2].T
    middle, place = (np.average(points, axis=0, weights=weights) for points in (turned, seen))
    turned, seen = turned - middle, seen - place
    scale = np.sum(weights * (turned * seen).sum(axis=1)) / np.sum(
        weights * (turned**2).sum(axis=1)
    )
    return np.array([*rotation_angles(rotation), scale, *(place - scale * middle)])


FRAMED_REGION = Region(0.075, 0.164, 0.908)
"""Of a portrait that is aligned as the published ones are, in sides of the picture.

That of the landmarks they are aligned to, moved to the right until `tx` of the LRW clip is the
published one (`python benchmarks/head_pose.py --calibrate`).
"""

# --- The region --------------------------------------------------------------------------

_BROW_TO_TOP = 0.25
"""The face begins above the brows by this share of the height of the landmarks."""

_SIDE = 1.58
"""Side of the region in mean sides of the box around the face; 3DDFA_V2's."""

_LOWERED = 0.10
"""The region's centre is so much (in the same unit) below that of the box.

3DDFA_V2 has 0.14, for boxes of its own detector. With boxes around landmarks this much brings
`ty` of the LRW clip to its published values (`python benchmarks/head_pose.py --calibrate`).
"""


def face_region(landmarks: Float[np.ndarray, "68 2"], lowered: float = _LOWERED) -> Region:
    """The square around a face that its pose is given in.

    Args:
        landmarks: pixels of the picture.
        lowered: as `_LOWERED`.
    """
    left, top = np.asarray(landmarks, np.float64).min(axis=0)
    right, bottom = np.asarray(landmarks, np.float64).max(axis=0)
    top -= _BROW_TO_TOP * (bottom - top)
    mean = (right - left + bottom - top) / 2
    side = _SIDE * mean
    x, y = (left + right) / 2, (top + bottom) / 2 + lowered * mean
    return Region(float(x - side / 2), float(y - side / 2), float(side))


def cut_region(
    image: UInt8[np.ndarray, "h w 3"], region: Region
) -> Float32[np.ndarray, "120 120 3"]:
    """The region's pixels, RGB in [0, 1]; black beyond the picture.

    Bilinear and without anti-aliasing, as 3DDFA_V2 does.
    """
    place = Similarity(1, complex(region.left, region.top))
    place = place.after(resized(region.side / REGION_SIZE))
    return sample_square(image, place, REGION_SIZE, "grid-constant") / np.float32(255)
