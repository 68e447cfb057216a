"""Reads arrays from untrusted `.npy` files, without running any code in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

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
