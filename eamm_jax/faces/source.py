"""The source image: read from a photo, its face found and cropped as in training."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from eamm_jax import bundled
from eamm_jax.errors import UserError
from eamm_jax.faces import detection
from eamm_jax.faces.face import Face
from eamm_jax.faces.framing import frame_face, is_framed, no_face, read_template
from eamm_jax.faces.similarity import Similarity, crop, middle_square
from eamm_jax.io.image import middle, read_picture

_log = logging.getLogger(__name__)


class FramedSource(NamedTuple):
    """A picture, and what the networks see of it.

    Attributes:
        crop: RGB in [0, 1].
        picture: the whole, as it was read.
        to_picture: from pixels of the crop to those of the picture.
        face: that the crop shows, where one was looked for and found.
        faces: all that were found, the largest first.
    """

    crop: Float32[np.ndarray, "size size 3"]
    picture: UInt8[np.ndarray, "h w 3"]
    to_picture: Similarity
    face: Face | None
    faces: tuple[Face, ...] = ()


def read_source(
    path: Path,
    size: int,
    *,
    align: bool = True,
    template: Path | None = None,
    number: int | None = None,
) -> FramedSource:
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
    if not asked and not detection.is_installed():
        if height != width:
            _log.info("faces in photos are found and cropped with: %s", detection.INSTALL)
        return _middle(path, picture, size, None)
    finder = detection.make_finder()
    points = read_template(template, finder)
    found = finder.find(picture)
    if not found:
        if height != width or asked:
            raise UserError(f"{no_face(path, height, width)}; without cropping its middle is used")
        _log.info("%s shows no face that is known as one: taken as it is", path)
        return _middle(path, picture, size, None)
    face = _chosen(path, found, number)
    to_picture = frame_face(face.landmarks, points, size)
    if is_framed(to_picture, height, width, size):
        return _middle(path, picture, size, face)._replace(faces=tuple(found))
    square = crop(picture, to_picture, size).astype(np.float32) / 255
    return FramedSource(square, picture, to_picture, face, tuple(found))


def _chosen(path: Path, found: list[Face], number: int | None) -> Face:
    if number is not None and not 1 <= number <= len(found):
        raise UserError(
            f"There is no face {number}: {path} shows {len(found)} "
            f"{'face' if len(found) == 1 else 'faces'}; 1 is the largest"
        )
    if number is None and len(found) > 1:
        places = ", ".join(
            f"{index} at ({(f.box[0] + f.box[2]) / 2:.0f}, {(f.box[1] + f.box[3]) / 2:.0f}) "
            f"{f.width:.0f} wide"
            for index, f in enumerate(found, 1)
        )
        _log.info(
            "%s shows %d faces, took the largest; another can be chosen by its number: %s",
            path,
            len(found),
            places,
        )
    return found[(number or 1) - 1]


def _middle(path: Path, picture: np.ndarray, size: int, face: Face | None) -> FramedSource:
    height, width = picture.shape[:2]
    place = middle_square(height, width, size)
    return FramedSource(middle(path, picture, size), picture, place, face)
