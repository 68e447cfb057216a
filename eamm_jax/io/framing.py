"""Where a face belongs in the square that the networks see, and pictures cut out accordingly.

The published crops were made with the landmarks of one person's face as the template. Ours is
the mean face of the landmark model, laid where that template lies; `--template` takes another.
A template is 68 points in pixels of a 256 x 256 crop.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from eamm_jax import bundled
from eamm_jax.errors import UserError
from eamm_jax.io import faces
from eamm_jax.io.arrays import read_npy
from eamm_jax.io.faces import LANDMARKS, Face
from eamm_jax.io.image import fit_square, read_picture
from eamm_jax.ops.similarity import Similarity, fit_similarity, resized
from eamm_jax.ops.warping import corners, crop

_log = logging.getLogger(__name__)

TEMPLATE_SIZE = 256
"""Side of the crop that templates are given for."""

PORTRAIT_POINTS = slice(0, 47)
"""Jaw, brows, nose and eyes (but for the last point of an eye), as published."""

_MEAN_FACE_SCALE = 142.8
_MEAN_FACE_DEGREES = 0.46
_MEAN_FACE_MIDDLE = 134.71 + 141.68j
"""How the mean face lies in a crop: its unit of length, its turn, and where (0.5, 0.5) goes.

Procrustes' placement on the published template by the landmarks of a portrait: their centroids
and mean distances from it agree, and the turn is the one of least squares.
"""

_EXPECTED = "expected a .npy file of shape (68, 2): landmarks in pixels of a 256 x 256 crop"


def read_template(path: str | os.PathLike[str] | None) -> Float[np.ndarray, "68 2"]:
    """A template from a `.npy` file, or without one the mean face.

    Raises:
        UserError: the file is not a template, or the mean face is not installed.
    """
    if path is None:
        turn = _MEAN_FACE_SCALE * np.exp(1j * np.radians(_MEAN_FACE_DEGREES))
        placed = Similarity(turn, _MEAN_FACE_MIDDLE - turn * (0.5 + 0.5j))
        return placed(faces.mean_face())
    path = Path(path)
    template = read_npy(path, "template", _EXPECTED)
    if template.shape != (LANDMARKS, 2) or template.dtype.kind not in "fiu":
        raise UserError(
            f"Cannot use the template {path}: it holds {template.dtype} of shape "
            f"{template.shape}; {_EXPECTED}"
        )
    template = template.astype(np.float64)
    spread = np.ptp(template[PORTRAIT_POINTS], axis=0)
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
    wanted = resized(size / TEMPLATE_SIZE)(template[PORTRAIT_POINTS])
    return fit_similarity(wanted, landmarks[PORTRAIT_POINTS])


def middle_square(height: int, width: int, size: int) -> Similarity:
    """Where the square in the middle of a picture lies, resized to a size (`fit_square`)."""
    side = min(height, width)
    corner = complex((width - side) / 2, (height - side) / 2)
    return Similarity(1, corner).after(resized(side / size))


_IN_PLACE = 0.03
"""Of the side, by which the corners of a crop that is made already may lie elsewhere; the
published crops, aligned again, move by up to 0.025."""

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


class Portrait(NamedTuple):
    """A picture, and what the networks see of it.

    Attributes:
        crop: RGB in [0, 1].
        picture: the whole, as it was read.
        to_picture: from pixels of the crop to those of the picture.
        face: that the crop shows, where one was looked for and found.
    """

    crop: Float32[np.ndarray, "size size 3"]
    picture: UInt8[np.ndarray, "h w 3"]
    to_picture: Similarity
    face: Face | None


def read_portrait(
    path: Path,
    size: int,
    *,
    align: bool = True,
    template: Path | None = None,
    number: int | None = None,
) -> Portrait:
    """Reads a photo and cuts out its face as the published portraits are cut.

    A picture that is cropped already is left alone, and so is one in which there is nothing to
    be found: the bundled drawing, squares without a face that is known as one, and any picture
    where no finder is installed.

    Args:
        path: a picture.
        size: of the crop.
        align: False takes the square in the middle, whatever it shows.
        template: `.npy` file, or None for the mean face.
        number: of the face that is wanted, 1 for the largest; None is that too, with a notice
            where there are several.

    Raises:
        UserError: the picture or the template cannot be read; there is no face in a picture
            that is not square, or not that many; or `template` or `number` were given and no
            finder is installed.
    """
    picture = read_picture(path)
    height, width = picture.shape[:2]
    asked = template is not None or number is not None
    if not align or (Path(path).resolve() == bundled.PORTRAIT and not asked):
        return _middle(path, picture, size, None)
    if not asked and not faces.is_installed():
        if height != width:
            _log.info("faces in photos are found and cropped with: %s", faces.INSTALL)
        return _middle(path, picture, size, None)
    points = read_template(template)
    found = faces.make_finder().find(picture)
    if not found:
        if height != width or asked:
            raise UserError(f"{no_face(path, height, width)}; --no_crop takes its middle as it is")
        _log.info("%s shows no face that is known as one: taken as it is", path)
        return _middle(path, picture, size, None)
    face = _chosen(path, found, number)
    to_picture = frame_face(face.landmarks, points, size)
    if is_framed(to_picture, height, width, size):
        return _middle(path, picture, size, face)
    return Portrait(
        crop(picture, to_picture, size).astype(np.float32) / 255, picture, to_picture, face
    )


def no_face(path: Path, height: int, width: int) -> str:
    """The words for a picture without a face, and for what would be one."""
    return (
        f"No face was found in {path} ({width} x {height} pixels): it must look towards the "
        f"camera, be upright, and be {faces.SMALLEST_FACE} pixels wide or more"
    )


def _chosen(path: Path, found: list[Face], number: int | None) -> Face:
    if number is not None and not 1 <= number <= len(found):
        raise UserError(
            f"--face {number}: {path} shows {len(found)} "
            f"{'face' if len(found) == 1 else 'faces'}; 1 is the largest"
        )
    if number is None and len(found) > 1:
        places = ", ".join(
            f"{index} at ({(f.box[0] + f.box[2]) / 2:.0f}, {(f.box[1] + f.box[3]) / 2:.0f}) "
            f"{f.width:.0f} wide"
            for index, f in enumerate(found, 1)
        )
        _log.info(
            "%s shows %d faces, took the largest; --face N takes another: %s",
            path,
            len(found),
            places,
        )
    return found[(number or 1) - 1]


def _middle(path: Path, picture: np.ndarray, size: int, face: Face | None) -> Portrait:
    height, width = picture.shape[:2]
    if height != width:
        _log.info("%s is %d x %d pixels: used the square in its middle", path, width, height)
    square = np.asarray(fit_square(Image.fromarray(picture), size), np.float32) / 255
    return Portrait(square, picture, middle_square(height, width, size), face)
