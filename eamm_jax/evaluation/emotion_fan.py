"""Recognizes emotions in photographs with Emotion-FAN, all eight of MEAD."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from eamm_jax.checkpoint import Variables
from eamm_jax.constants import EMOTIONS
from eamm_jax.evaluation.identity import FaceChips
from eamm_jax.evaluation.landmarks import Track
from eamm_jax.models.emotion_fan import CLASSES, SIZE, EmotionFan
from eamm_jax.types import Array


class FanClassifier:
    """Emotion-FAN on faces aligned by dlib, as published.

    Args:
        variables: of `models.emotion_fan.EmotionFan`.

    Raises:
        UserError: dlib is not installed.
    """

    name = "Emotion-FAN"

    def __init__(self, variables: Variables) -> None:
        self._variables = jax.device_put(variables)
        self._chips = FaceChips(SIZE)

    def scores(
        self, frames: UInt8[np.ndarray, "t h w 3"], landmarks: Track
    ) -> Float32[np.ndarray, "t 8"]:
        """Log probability of each of `EMOTIONS`: of the whole clip, the same for every frame."""
        chips = self._chips.cut(frames, landmarks)
        features = np.concatenate([_features(self._variables, chip[None]) for chip in chips])
        logits = np.asarray(
            EmotionFan().apply(self._variables, jnp.asarray(features), method="classify")
        )
        scores = logits - np.logaddexp.reduce(logits)
        columns = [CLASSES.index(emotion) for emotion in EMOTIONS]
        return np.broadcast_to(scores[columns], (len(frames), len(EMOTIONS))).astype(np.float32)


@jax.jit
def _features(variables: Variables, frames: Array) -> Array:
    images = frames.astype(jnp.float32) / 255
    return EmotionFan().apply(variables, images, method="frame_features")
