"""Emotion-FAN: the emotion of a video of a face. A metric, not a part of EAMM.

Meng et al., "Frame Attention Networks for Facial Expression Recognition in Videos", 2019, with self
and relation attention, trained on MEAD's eight emotions by the authors of EAT
(yuangan/evaluation_eat). A ResNet-18 reads each frame; two attentions weigh the frames of a clip.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from eamm_jax.models.emotion import BasicBlock
from eamm_jax.models.layers import batch_norm, conv
from eamm_jax.types import Array

SIZE = 224

CLASSES = ("happy", "angry", "disgusted", "fear", "sad", "neutral", "surprised", "contempt")
"""In the network's order."""

WIDTHS = (64, 128, 256, 512)


class EmotionFan(nn.Module):
    """Frames to their features (`method="frame_features"`), features of a clip to its emotion."""

    def setup(self) -> None:
        """The parts."""
        self.trunk = Trunk()
        self.alpha, self.beta = nn.Dense(1), nn.Dense(1)
        self.pred = nn.Dense(len(CLASSES))

    def frame_features(self, image: Float[Array, "t 224 224 3"]) -> Float[Array, "t 512"]:
        """Aligned RGB faces in [0, 1] to features."""
        return self.trunk(image)

    def classify(self, features: Float[Array, "t 512"]) -> Float[Array, " 8"]:
        """Features of all frames of a clip to the logits of `CLASSES`."""
        alpha = nn.sigmoid(self.alpha(features))
        clip = (alpha * features).sum(axis=0) / alpha.sum()
        both = jnp.concatenate([features, jnp.broadcast_to(clip, features.shape)], axis=-1)
        beta = nn.sigmoid(self.beta(both))
        # Parity: beta weighs the denominator only when the published code evaluates.
        return self.pred((alpha * both).sum(axis=0) / (alpha * beta).sum())

    def __call__(self, image: Float[Array, "t 224 224 3"]) -> Float[Array, " 8"]:
        """Frames of a clip to the logits of its emotion."""
        return self.classify(self.frame_features(image))


class Trunk(nn.Module):
    """ResNet-18 up to the mean over the map."""

    @nn.compact
    def __call__(self, x: Float[Array, "t h w 3"]) -> Float[Array, "t 512"]:
        """RGB in [0, 1], not normalized."""
        x = conv(WIDTHS[0], 7, jnp.float32, strides=(2, 2), use_bias=False, name="conv")(x)
        x = nn.relu(batch_norm(False, jnp.float32, name="norm")(x))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage, width in enumerate(WIDTHS):
            for index in range(2):
                stride = 2 if stage and not index else 1
                x = BasicBlock(width, stride, name=f"stage_{stage}_{index}")(x)
        return x.mean(axis=(1, 2))
