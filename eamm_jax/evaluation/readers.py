"""Who looks at the frames: landmarks, and where it can be told the emotion.

Drawn faces are read by the network of `face_reader`, which was trained on them; photographs by
dlib, if it is installed. Both the true frames and the generated ones are read by the same
reader, so that what it cannot see is not held against a model.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float32, UInt8

from eamm_jax.errors import UserError
from eamm_jax.faces.detection import DlibFinder

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


_USUAL_FACE = (0.26, 0.32, 0.77, 0.82)
"""Left, top, right, bottom of a face in the published crops, as dlib boxes it, of the side."""


class DlibReader:
    """dlib's detector and its 68 landmarks, for photographs. It tells no emotion."""

    name = "dlib"

    def __init__(self) -> None:
        try:
            self._finder = DlibFinder()
        except UserError as error:
            raise UserError(
                f"{error}; or choose --faces none for the measures that need no landmarks"
            ) from None

    def read(self, frames: UInt8[np.ndarray, "t h w 3"]) -> Reading:
        """Landmarks of each frame.

        Where the detector finds no face, as in some tight crops, the one of the frame before
        is taken, and at first the usual place of a face in such crops.
        """
        height, width = frames.shape[1:3]
        left, top, right, bottom = _USUAL_FACE
        box = left * width, top * height, right * width, bottom * height
        track = []
        for frame in frames:
            found = self._finder.find(frame)
            if found:
                box, points = found[0]
            else:
                points = self._finder.landmarks(frame, box)
            track.append((2 * points + 1) / (width, height) - 1)
        return Reading(np.stack(track).astype(np.float32), None)
