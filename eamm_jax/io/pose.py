"""Reads head poses from `.npy` files, in the format of 3DDFA_V2 and the published media."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from eamm_jax.errors import UserError
from eamm_jax.io.arrays import read_npy
from eamm_jax.types import POSE_NUMBERS

_EXPECTED = (
    "expected a .npy file of shape (frames, 7) or (frames, 6): "
    "yaw, pitch, roll, scale, tx, ty (and tz) for each frame"
)


def read_pose(path: str | os.PathLike[str]) -> Float32[np.ndarray, "m _"]:
    """Reads a still head pose or a pose track.

    Args:
        path: a `.npy` file of shape (m, 7) or (m, 6), or (7,) or (6,) for a still pose.

    Returns:
        One row per frame, m > 0, with the six or seven numbers of the file.

    Raises:
        UserError: the file cannot be read, has another shape, or contains a number that is not
            finite.
    """
    path = Path(path)
    array = read_npy(path, "head pose", _EXPECTED)
    rows = np.atleast_2d(array)
    if (
        array.dtype.kind not in "fiu"
        or rows.ndim != 2
        or not len(rows)
        or rows.shape[1] not in (POSE_NUMBERS, POSE_NUMBERS + 1)
    ):
        raise UserError(
            f"Cannot use the head pose {path}: it holds {array.dtype} of shape {array.shape}; "
            + _EXPECTED
        )
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        raise UserError(
            f"Cannot use the head pose {path}: {bad.sum()} of {len(rows)} frames hold NaN or "
            f"infinite numbers, the first is frame {bad.argmax()}"
        )
    return rows.astype(np.float32)
