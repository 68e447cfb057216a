"""A small network that detects landmarks and recognizes emotions of synthetic faces.

One trunk reads the face at 64x64 pixels. Landmarks are the expected coordinates of 68 heatmaps, as
in the keypoint detector; the emotion is classified from the trunk's features and the normalized
landmarks. The network is trained on synthetic faces only (`data.synthetic.train_reader`). Its
float16 weights come with the package, with a card that describes training and accuracy.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Float, UInt8

from eamm_jax import bundled
from eamm_jax.constants import EMOTIONS
from eamm_jax.evaluation.readers import Reading
from eamm_jax.io.files import atomic_output
from eamm_jax.ops.grids import coordinate_grid
from eamm_jax.types import Array

SIZE = 64
"""Input size of the network."""

_BATCH = 32

Params = dict[str, Any]


class Seen(NamedTuple):
    """The network's output.

    Attributes:
        landmarks: (x, y) in [-1, 1].
        logits: logits of the emotions.
    """

    landmarks: Float[Array, "b 68 2"]
    logits: Float[Array, "b 8"]


class FaceNetwork(nn.Module):
    """A small hourglass from 64x64 frames to landmarks and emotion.

    Heatmaps have a prior at the mean landmarks, because all faces are framed alike.

    Attributes:
        widths: channels at 32, 16, 8 and 4 pixels.
        squeezed: channels of the coarsest map that feed the emotion classifier.
        hidden: hidden units of the classifier.
    """

    widths: tuple[int, int, int, int] = (16, 48, 96, 96)
    squeezed: int = 32
    hidden: int = 64

    @nn.compact
    def __call__(self, images: Float[Array, "b 64 64 3"]) -> Seen:
        """Reads images in [0, 1]."""
        first, *deeper = self.widths
        x = _block(images - 0.5, first, kernel=5, stride=2)
        skips = []
        for width in deeper:
            x = _block(x, width, stride=2)
            x = _block(x, width)
            skips.append(x)
        features = nn.relu(nn.Conv(self.squeezed, (1, 1))(x)).reshape(len(images), -1)
        for skip in reversed(skips[:-1]):
            width = skip.shape[-1]
            x = nn.Conv(width, (1, 1))(x)
            x = _block(skip + x.repeat(2, axis=1).repeat(2, axis=2), width)
        prior = self.param("prior", nn.initializers.zeros, (*x.shape[1:3], 68))
        landmarks = expected_places(nn.Conv(68, (1, 1))(x) + prior)
        # The emotion loss must not change the landmarks.
        shape = _normalised(jax.lax.stop_gradient(landmarks)).reshape(len(images), -1)
        joined = jnp.concatenate([features, shape], axis=-1)
        logits = nn.Dense(len(EMOTIONS))(nn.relu(nn.Dense(self.hidden)(joined)))
        return Seen(landmarks, logits)


def _block(x: Array, width: int, kernel: int = 3, stride: int = 1) -> Array:
    x = nn.Conv(width, (kernel, kernel), strides=stride, use_bias=False)(x)
    return nn.relu(nn.GroupNorm(num_groups=8)(x))


def expected_places(heatmaps: Float[Array, "b i j 68"]) -> Float[Array, "b 68 2"]:
    """The soft-argmax of each heatmap, in image coordinates."""
    rows, columns = heatmaps.shape[1:3]
    weights = jax.nn.softmax(heatmaps, axis=(1, 2))
    return jnp.einsum("bijk,ijd->bkd", weights, coordinate_grid(rows, columns, half_pixel=True))


def _normalised(landmarks: Float[Array, "b 68 2"]) -> Float[Array, "b 68 2"]:
    """Landmarks, normalized by position and size of the face."""
    centred = landmarks - landmarks.mean(axis=1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(axis=(1, 2), keepdims=True))


def shrink(frames: Array) -> Float[Array, "b 64 64 3"]:
    """Resizes uint8 frames to the input of the network."""
    shape = (len(frames), SIZE, SIZE, 3)
    return jax.image.resize(frames.astype(jnp.float32) / 255, shape, "linear")


@jax.jit
def _read(params: Params, frames: Array) -> Seen:
    return FaceNetwork().apply(params, shrink(frames))


class FaceReader:
    """Reads synthetic faces with given weights."""

    name = "the bundled reader of synthetic faces"

    def __init__(self, params: Params):
        self.params = params

    @classmethod
    @cache
    def bundled(cls) -> FaceReader:
        """The reader with the bundled weights."""
        return cls(load_weights(bundled.FACE_READER))

    def read(self, frames: UInt8[np.ndarray, "t h w 3"]) -> Reading:
        """Landmarks and emotion of each frame."""
        landmarks, logits = [], []
        for start in range(0, len(frames), _BATCH):
            piece = frames[start : start + _BATCH]
            # A constant batch size, so that nothing is recompiled.
            filled = np.concatenate(
                [piece, np.zeros_like(frames[:1]).repeat(_BATCH - len(piece), 0)]
            )
            seen = _read(self.params, filled)
            landmarks.append(np.asarray(seen.landmarks)[: len(piece)])
            logits.append(np.asarray(jax.nn.log_softmax(seen.logits))[: len(piece)])
        return Reading(np.concatenate(landmarks), np.concatenate(logits))


def load_weights(path: Path) -> Params:
    """Reads weights written by `save_weights`."""
    with np.load(path, allow_pickle=False) as arrays:
        flat = {tuple(name.split("/")): arrays[name].astype(np.float32) for name in arrays}
    return unflatten_dict(flat)


def save_weights(path: Path, params: Params) -> None:
    """Writes weights as float16."""
    flat = {"/".join(k): np.asarray(v, np.float16) for k, v in flatten_dict(params).items()}
    with atomic_output(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **flat)


def card() -> dict[str, Any]:
    """The card of the bundled reader: its training and its accuracy on unseen faces."""
    return json.loads(bundled.FACE_READER.with_suffix(".json").read_text())
