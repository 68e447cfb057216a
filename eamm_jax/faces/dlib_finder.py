"""dlib's frontal detector and its 68 landmarks; the only place that touches dlib's finder.

The detector is free for all use. The data of the landmarks was trained on iBUG 300-W and is for
non-commercial use only. The published crops, and the scripts of evaluation_eat, were made with it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from eamm_jax.errors import UserError
from eamm_jax.faces.face import LANDMARKS, MANY_PIXELS, Box, Face
from eamm_jax.faces.similarity import Similarity
from eamm_jax.io.files import packaged_file
from eamm_jax.io.image import to_grey

INSTALL = (
    "pip install 'eamm_jax[dlib]' (dlib-bin and face_recognition_models; the data of the "
    "landmarks is for non-commercial use)"
)

_DATA_PACKAGE = "face_recognition_models"
_DATA = "models/shape_predictor_68_face_landmarks.dat"

_MEAN_FACE_SCALE = 142.8
_MEAN_FACE_DEGREES = 0.46
_MEAN_FACE_MIDDLE = 134.71 + 141.68j
"""How the mean face lies in a crop: its unit of length, its turn, and where (0.5, 0.5) goes.

Procrustes' placement on the published template by the landmarks of a portrait: their centroids
and mean distances from it agree, and the turn is the one of least squares.
"""


def is_installed() -> bool:
    """Whether dlib and the data of its landmarks are there; nothing is imported."""
    return importlib.util.find_spec("dlib") is not None and _data_file() is not None


def _data_file() -> Path | None:
    """The landmark model, without importing its package, which fails without old setuptools."""
    return packaged_file(_DATA_PACKAGE, _DATA)


def mean_face() -> Float32[np.ndarray, "68 2"]:
    """The mean of the faces that the landmark model was trained on; about 0 to 1 in both axes.

    It stands at the beginning of the model's file and is read from there, as that file may not be
    redistributed.

    Raises:
        UserError: the file is not installed.
    """
    path = _data_file()
    if path is None:
        raise UserError(f"the mean face of {_DATA_PACKAGE} is not installed: {INSTALL}")
    with path.open("rb") as file:
        numbers = _dlib_numbers(file.read(_MEAN_FACE_BYTES))
        # A version, the size of a column vector (negative), then mantissa and exponent of each.
        header = [next(numbers) for _ in range(3)]
        if header != [1, -2 * LANDMARKS, -1]:
            raise UserError(f"{path} is not a model of {LANDMARKS} landmarks that is known")
        face = [next(numbers) * 2.0 ** next(numbers) for _ in range(2 * LANDMARKS)]
    return np.array(face, np.float32).reshape(LANDMARKS, 2)


_MEAN_FACE_BYTES = 4096
"""More than 136 numbers take."""


def _dlib_numbers(data: bytes) -> Iterator[int]:
    """Integers as dlib writes them: a byte with length and sign, then the bytes, lowest first."""
    at = 0
    while at < len(data):
        length, negative = data[at] & 0x0F, data[at] & 0x80
        number = int.from_bytes(data[at + 1 : at + 1 + length], "little")
        yield -number if negative else number
        at += 1 + length


_SEARCHED_PIXELS = (4_000_000, 36_000_000)
"""Larger ones are first searched at most this large, and if there is no face at most that."""

_LARGEST_FACE = 512
"""Pixels across. dlib reads single pixels; in larger faces they are noise, so those shrink."""


class DlibFinder:
    """dlib's frontal detector and its 68 landmarks.

    Finds upright faces that look at the camera within about 40 degrees and are at least
    `SMALLEST_FACE` across (twice that in pictures of more than 1.5 megapixels, while smaller ones
    are searched enlarged twofold, as the published code does).

    Raises:
        UserError: dlib or its data is not installed.
    """

    name = "dlib"

    def __init__(self) -> None:
        try:
            self._dlib: Any = importlib.import_module("dlib")
        except ImportError:
            raise UserError(f"dlib is not installed: {INSTALL}") from None
        path = _data_file()
        if path is None:
            raise UserError(
                "dlib is installed, but the data of its 68 landmarks is not: "
                f"pip install {_DATA_PACKAGE} (for non-commercial use)"
            )
        self._detect = self._dlib.get_frontal_face_detector()
        self._predict = _predictor(self._dlib, path)

    def find(self, image: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """All faces of an RGB picture, the largest first; empty if there is none."""
        grey = to_grey(image)
        faces = [Face(box, self._landmarks(grey, box)) for box in self._boxes(grey)]
        return sorted(faces, key=lambda face: face.area, reverse=True)

    def landmarks(self, image: UInt8[np.ndarray, "h w 3"], box: Box) -> Float32[np.ndarray, "68 2"]:
        """Those of a face that is known to be in a box."""
        return self._landmarks(to_grey(image), box)

    def template(self) -> Float[np.ndarray, "68 2"]:
        """The mean face, placed as the published template is."""
        turn = _MEAN_FACE_SCALE * np.exp(1j * np.radians(_MEAN_FACE_DEGREES))
        return Similarity(turn, _MEAN_FACE_MIDDLE - turn * (0.5 + 0.5j))(mean_face())

    def _boxes(self, grey: np.ndarray) -> list[Box]:
        if grey.size <= MANY_PIXELS:
            return [_corners(box, 1) for box in self._detect(grey, 1)]
        tried = None
        for pixels in _SEARCHED_PIXELS:
            factor = max(1, int(np.ceil((grey.size / pixels) ** 0.5)))
            if factor == tried:
                break
            tried = factor
            found = [_corners(box, factor) for box in self._detect(_reduced(grey, factor), 0)]
            if found:
                return found
        return []

    def _landmarks(self, grey: np.ndarray, box: Box) -> Float32[np.ndarray, "68 2"]:
        factor = max(1, int((box[2] - box[0]) / _LARGEST_FACE))
        corners = [round((c + 0.5) / factor - 0.5) for c in box]
        shape = self._predict(_reduced(grey, factor), self._dlib.rectangle(*corners))
        points = np.array([(shape.part(n).x, shape.part(n).y) for n in range(LANDMARKS)])
        return ((points + 0.5) * factor - 0.5).astype(np.float32)


@cache
def _predictor(dlib: Any, path: Path) -> Any:
    """Loaded once: it takes a second and 100 MB, and does not change."""
    return dlib.shape_predictor(str(path))


def _reduced(grey: np.ndarray, factor: int) -> np.ndarray:
    """Means of blocks of factor x factor pixels."""
    return grey if factor == 1 else np.asarray(Image.fromarray(grey).reduce(factor))


def _corners(box: Any, factor: int) -> Box:
    """A dlib rectangle in a reduced picture, in pixels of the whole one."""
    left, top, right, bottom = (
        (corner + 0.5) * factor - 0.5
        for corner in (box.left(), box.top(), box.right(), box.bottom())
    )
    return left, top, right, bottom
