"""The head pose network: 3DDFA_V2's MobileNet, from a face image to its camera.

Estimates the head pose for the audio-to-motion network if no file gives it (docs/architecture.md,
section 2). Guo et al., "Towards Fast, Accurate and Stable 3D Dense Face Alignment", 2020; the
backbone is MobileNet (Howard et al. 2017): alternating depthwise 3x3 and pointwise 1x1
convolutions. The published files are `mb1_120x120.pth` (width 32) and `mb05_120x120.pth` (16).
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from eamm_jax.models.layers import batch_norm
from eamm_jax.types import Array

SIZE = 120
"""Input size: a region around the face."""

OUTPUTS = 62
"""Number of outputs: a 3x4 camera matrix in row order, 40 for shape, 10 for expression."""

CAMERA_OUTPUTS = 12

BLOCKS = (
    ("dw2_1", 2, 1),
    ("dw2_2", 4, 2),
    ("dw3_1", 4, 1),
    ("dw3_2", 8, 2),
    ("dw4_1", 8, 1),
    ("dw4_2", 16, 2),
    ("dw5_1", 16, 1),
    ("dw5_2", 16, 1),
    ("dw5_3", 16, 1),
    ("dw5_4", 16, 1),
    ("dw5_5", 16, 1),
    ("dw5_6", 32, 2),
    ("dw6", 32, 1),
)
"""Published name, width relative to the first convolution, and stride of each block."""


class HeadPoseNetwork(nn.Module):
    """Maps a region around a face to its camera.

    Attributes:
        width: channels of the first convolution.
    """

    width: int = 32

    @nn.compact
    def __call__(self, image: Float[Array, "b 120 120 3"]) -> Float[Array, "b 62"]:
        """RGB in [0, 1] to the camera matrix, shape and expression, in their own units."""
        # Parity: trained on blue, green, red in this range.
        x = (image[..., ::-1] * 255 - 127.5) / 128
        x = _conv_norm(x, self.width, 3, "conv1", "bn1", stride=2)
        for name, multiple, stride in BLOCKS:
            x = SeparableBlock(multiple * self.width, stride, name=name)(x)
        x = nn.Dense(OUTPUTS, name="fc_param")(x.mean(axis=(1, 2)))
        mean = self.variable("statistics", "mean", jnp.zeros, (OUTPUTS,)).value
        deviation = self.variable("statistics", "std", jnp.ones, (OUTPUTS,)).value
        return x * deviation + mean


class SeparableBlock(nn.Module):
    """A depthwise 3x3 and a pointwise 1x1 convolution, each with batch norm and ReLU.

    Attributes:
        features: output channels.
        stride: of the first.
    """

    features: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Array:
        """(b, h, w, c) -> (b, h / stride, w / stride, features)."""
        channels = x.shape[-1]
        x = _conv_norm(x, channels, 3, "conv_dw", "bn_dw", stride=self.stride, groups=channels)
        return _conv_norm(x, self.features, 1, "conv_sep", "bn_sep")


def _conv_norm(
    x: Array, features: int, kernel: int, conv: str, norm: str, *, stride: int = 1, groups: int = 1
) -> Array:
    x = nn.Conv(
        features,
        (kernel, kernel),
        strides=stride,
        padding=kernel // 2,
        feature_group_count=groups,
        use_bias=False,
        name=conv,
    )(x)
    return nn.relu(batch_norm(False, jnp.float32, name=norm)(x))
