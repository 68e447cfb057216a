"""Reads arrays, head poses among them, from untrusted `.npy` files; runs no code in them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from eamm_jax.constants import POSE_NUMBERS
from eamm_jax.errors import UserError
from eamm_jax.io.files import check_readable

_NPY, _ZIP = b"\x93NUMPY", b"PK"


def read_npy(path: Path, what: str, expected: str) -> np.ndarray:
    """Reads an array of any shape.

    Args:
        path: a `.npy` file.
        what: its role ("head pose"), for messages.
        expected: its expected contents, for messages.

    Raises:
        UserError: the file cannot be read, has another format, is damaged, or contains Python
            objects.
    """
    path = check_readable(path, what)
    with path.open("rb") as file:
        magic = file.read(len(_NPY))
    if magic != _NPY:
        found = "a .npz or zip archive" if magic.startswith(_ZIP) else "not a .npy file"
        raise UserError(f"Cannot use the {what} {path}: it is {found}; {expected}")
    try:
        # Memory-mapped, so that a header that claims more data than the file has is rejected
        # before memory is allocated.
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, OSError, EOFError, SyntaxError, OverflowError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UserError(
            f"Cannot use the {what} {path}: it is truncated, damaged or contains Python objects "
            f"({reason}); {expected}"
        ) from None


_EXPECTED_POSE = (
    "expected a .npy file of shape (frames, 7) or (frames, 6): "
    "yaw, pitch, roll, scale, tx, ty (and tz) for each frame"
)


def read_pose(path: str | os.PathLike[str]) -> Float32[np.ndarray, "m _"]:
    """Reads a still head pose or a pose track, in the format of 3DDFA_V2 and the published media.

    Args:
        path: a `.npy` file of shape (m, 7) or (m, 6), or (7,) or (6,) for a still pose.

    Returns:
        One row per frame, m > 0, with the six or seven numbers of the file.

    Raises:
        UserError: the file cannot be read, has another shape, or contains a number that is not
            finite.
    """
    path = Path(path)
    array = read_npy(path, "head pose", _EXPECTED_POSE)
    rows = np.atleast_2d(array)
    if (
        array.dtype.kind not in "fiu"
        or rows.ndim != 2
        or not len(rows)
        or rows.shape[1] not in (POSE_NUMBERS, POSE_NUMBERS + 1)
    ):
        raise UserError(
            f"Cannot use the head pose {path}: it holds {array.dtype} of shape {array.shape}; "
            + _EXPECTED_POSE
        )
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        raise UserError(
            f"Cannot use the head pose {path}: {bad.sum()} of {len(rows)} frames hold NaN or "
            f"infinite numbers, the first is frame {bad.argmax()}"
        )
    return rows.astype(np.float32)
