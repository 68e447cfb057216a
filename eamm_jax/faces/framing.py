"""Where a face belongs in a crop.

The published crops were aligned to the landmarks of one person. The default template here is the
mean face of whatever finds the landmarks, placed like that person's. A template is 68 points in
pixels of a 256 x 256 crop.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from eamm_jax.errors import UserError
from eamm_jax.faces.face import LANDMARKS, SMALLEST_FACE, FaceFinder
from eamm_jax.faces.similarity import Similarity, corners, fit_similarity, resized
from eamm_jax.io.arrays import read_npy

_log = logging.getLogger(__name__)

TEMPLATE_SIZE = 256
"""Side of the crop that templates are given for."""

SOURCE_POINTS = slice(0, 47)
"""Jaw, brows, nose and eyes (but for the last point of an eye), as published."""

_EXPECTED = "expected a .npy file of shape (68, 2): landmarks in pixels of a 256 x 256 crop"


def read_template(
    path: str | os.PathLike[str] | None, finder: FaceFinder
) -> Float[np.ndarray, "68 2"]:
    """A template from a `.npy` file, or without one that of what finds the landmarks.

    Raises:
        UserError: the file is not a template.
    """
    if path is None:
        return finder.template()
    path = Path(path)
    template = read_npy(path, "template", _EXPECTED)
    if template.shape != (LANDMARKS, 2) or template.dtype.kind not in "fiu":
        raise UserError(
            f"Cannot use the template {path}: it holds {template.dtype} of shape "
            f"{template.shape}; {_EXPECTED}"
        )
    template = template.astype(np.float64)
    spread = np.ptp(template[SOURCE_POINTS], axis=0)
    if not (np.isfinite(template).all() and spread.min() > 8 and spread.max() < 4 * TEMPLATE_SIZE):
        raise UserError(
            f"Cannot use the template {path}: its points are not those of a face; {_EXPECTED}"
        )
    return template


def frame_face(
    landmarks: Float32[np.ndarray, "68 2"], template: Float[np.ndarray, "68 2"], size: int
) -> Similarity:
    """Where the crop of a face lies: from its pixels to those of the picture.

    Args:
        landmarks: in pixels of the picture.
        template: where they belong in a crop of 256 x 256.
        size: of the crop.
    """
    wanted = resized(size / TEMPLATE_SIZE)(template[SOURCE_POINTS])
    return fit_similarity(wanted, landmarks[SOURCE_POINTS])


_IN_PLACE = 0.04
"""Of the side, by which the corners of a crop that is made already may lie elsewhere; the
published crops, aligned again, move by up to 0.039."""

_ALIKE = 0.2
"""By how much a face in a square picture may be larger or smaller than the template for it to
count as cropped to that face."""


def is_framed(to_picture: Similarity, height: int, width: int, size: int) -> bool:
    """Whether a picture is cropped to its face already, as well as it can be.

    That is a square in which the face is where it belongs; or about as large as it belongs,
    while a better crop would reach beyond the picture.

    Args:
        to_picture: where the crop of its face would lie.
        height: of the picture.
        width: of the picture.
        size: of the crop.
    """
    if height != width:
        return False
    ends = resized(size / height)(to_picture(corners(size)))  # of the picture, at the crop's size
    if np.linalg.norm(ends - corners(size), axis=1).max() <= _IN_PLACE * size:
        return True
    alike = abs(np.log(to_picture.scale * size / height)) <= np.log1p(_ALIKE)
    beyond = max(-ends.min(), ends.max() - (size - 1))
    return bool(alike and beyond > _IN_PLACE * size)


def no_face(path: Path, height: int, width: int) -> str:
    """The words for a picture without a face, and for what would be one."""
    return (
        f"No face was found in {path} ({width} x {height} pixels): it must look towards the "
        f"camera, be upright, and be {SMALLEST_FACE} pixels wide or more"
    )
