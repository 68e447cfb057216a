"""SyncNet: are lips and sound in step? A metric, not a part of EAMM.

Chung and Zisserman, "Out of Time: Automated Lip Sync in the Wild", 2016, as published in
joonson/syncnet_python (`syncnet_v2.model`). Five frames of a face, 0.2 s, and the MFCC of 0.2 s of
sound each become 1024 numbers, which are close where the two belong together.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from eamm_jax.models.layers import batch_norm
from eamm_jax.types import Array

FRAMES, SIZE = 5, 224
"""Frames behind one feature vector, and their side."""

ROWS, COEFFICIENTS = 20, 13
"""MFCC rows, 100 a second, behind one feature vector; the log energy is among the coefficients."""

FEATURES = 1024

_HIDDEN = 512


class SyncNet(nn.Module):
    """The two networks, applied by `method="lips"` and `method="sound"`; by itself both."""

    def setup(self) -> None:
        """The parts, by the published names of their halves."""
        self.lip, self.lip_head = LipEncoder(), Head()
        self.audio, self.audio_head = AudioEncoder(), Head()

    def lips(self, frames: Float[Array, "b 5 224 224 3"]) -> Float[Array, "b 1024"]:
        """Features of five RGB frames of a face in [0, 1]."""
        # Parity: trained on blue, green, red in 0..255.
        return self.lip_head(self.lip(frames[..., ::-1] * 255))

    def sound(self, mfcc: Float[Array, "b 20 13"]) -> Float[Array, "b 1024"]:
        """Features of 20 rows of MFCC of 16-bit sound."""
        return self.audio_head(self.audio(mfcc.swapaxes(1, 2)[..., None]))

    def __call__(
        self, frames: Float[Array, "b 5 224 224 3"], mfcc: Float[Array, "b 20 13"]
    ) -> tuple[Array, Array]:
        """Features of both."""
        return self.lips(frames), self.sound(mfcc)


class LipEncoder(nn.Module):
    """(b, 5, 224, 224, 3) -> (b, 512); after the first convolution one frame is left."""

    @nn.compact
    def __call__(self, x: Float[Array, "b 5 h w 3"]) -> Float[Array, "b 512"]:
        """Six convolutions with batch norm and ReLU, and three poolings."""
        x = _conv_norm(x, 96, (FRAMES, 7, 7), 0, strides=(1, 2, 2))[:, 0]
        x = nn.max_pool(x, (3, 3), strides=(2, 2))
        x = _conv_norm(x, 256, (5, 5), 1, strides=(2, 2), padding=1)
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for index in range(2, 5):
            x = _conv_norm(x, 256, (3, 3), index, padding=1)
        x = nn.max_pool(x, (3, 3), strides=(2, 2))
        return _conv_norm(x, _HIDDEN, (6, 6), 5)[:, 0, 0]


class AudioEncoder(nn.Module):
    """(b, 13, 20, 1) -> (b, 512)."""

    @nn.compact
    def __call__(self, x: Float[Array, "b 13 20 1"]) -> Float[Array, "b 512"]:
        """Six convolutions with batch norm and ReLU, and two poolings."""
        x = _conv_norm(x, 64, (3, 3), 0, padding=1)
        x = _conv_norm(x, 192, (3, 3), 1, padding=1)
        x = nn.max_pool(x, (3, 3), strides=(1, 2))
        for index, features in enumerate((384, 256, 256), start=2):
            x = _conv_norm(x, features, (3, 3), index, padding=1)
        x = nn.max_pool(x, (3, 3), strides=(2, 2))
        return _conv_norm(x, _HIDDEN, (5, 4), 5)[:, 0, 0]


class Head(nn.Module):
    """(b, 512) -> (b, 1024)."""

    @nn.compact
    def __call__(self, x: Float[Array, "b 512"]) -> Float[Array, "b 1024"]:
        """Two linear layers."""
        x = nn.Dense(_HIDDEN, name="dense_0")(x)
        x = nn.relu(batch_norm(False, jnp.float32, name="norm_0")(x))
        return nn.Dense(FEATURES, name="dense_1")(x)


def _conv_norm(
    x: Array,
    features: int,
    kernel: tuple[int, ...],
    index: int,
    *,
    strides: tuple[int, ...] | int = 1,
    padding: int = 0,
) -> Array:
    x = nn.Conv(features, kernel, strides, padding, name=f"conv_{index}")(x)
    return nn.relu(batch_norm(False, jnp.float32, name=f"norm_{index}")(x))
