"""Emotion network: a frame of an emotion video to a displacement of the audio keypoints.

`emo_detector` of the published code (EAMM section 3.2, the Implicit Emotion Displacement
Learner): a ResNet-18 on an hourglass encodes the frame; a head joins its features with the
audio keypoints and predicts a displacement of some of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from eamm_jax.models.config import EmotionConfig
from eamm_jax.models.layers import (
    KERNEL_INIT,
    DenseStack,
    Dtype,
    Hourglass,
    batch_norm,
    conv,
    dense,
)
from eamm_jax.ops.keypoints import expression_alone
from eamm_jax.ops.precision import at_least_float32
from eamm_jax.ops.resizing import antialias_downsample
from eamm_jax.types import Array, Keypoints

NUMBERS_PER_KEYPOINT = 6  # two of position, four of the Jacobian
JOINT_WIDTH = 64  # the heads' convolutions turn 64 numbers, or 4 x 16, into rows of 6


class Emotion(NamedTuple):
    """What the network predicts for a frame."""

    displacement: Keypoints  # of the moved keypoints, without heatmap
    logits: Float[Array, "b e"]  # of the emotions
    features: Float[Array, "b n"]  # of the frame alone


def positional_code(x: Float[Array, "b k n"], frequencies: int) -> Float[Array, "b k _"]:
    """x, then for each f of 1, 2, 4, ...: sin(f x), cos(f x) (Mildenhall et al. 2020, eq. 4)."""
    parts = [x]
    for power in range(frequencies):
        parts += [jnp.sin(2.0**power * x), jnp.cos(2.0**power * x)]
    return jnp.concatenate(parts, axis=-1)


class BasicBlock(nn.Module):
    """A residual block of ResNet-18 (He et al. 2016)."""

    features: int
    stride: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool = False) -> Array:
        """(b, h, w, c) -> (b, h/stride, w/stride, features)."""
        n, stride = self.features, (self.stride, self.stride)
        y = conv(n, 3, self.dtype, strides=stride, use_bias=False, name="conv1")(x)
        y = nn.relu(batch_norm(train, self.dtype, name="norm1")(y))
        y = conv(n, 3, self.dtype, use_bias=False, name="conv2")(y)
        y = batch_norm(train, self.dtype, name="norm2")(y)
        if self.stride != 1 or x.shape[-1] != n:
            x = conv(n, 1, self.dtype, strides=stride, use_bias=False, name="shortcut_conv")(x)
            x = batch_norm(train, self.dtype, name="shortcut_norm")(x)
        return nn.relu(x + y)


class EmotionEncoder(nn.Module):
    """Features of a frame."""

    config: EmotionConfig
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Array:
        """(b, h, w, c) in [0, 1] -> (b, stage_widths[-1])."""
        widths = self.config.stage_widths
        x = antialias_downsample(image, self.config.scale)
        x = Hourglass(self.config, self.dtype, name="hourglass")(x, train=train)
        x = conv(widths[0], 3, self.dtype, use_bias=False, name="conv")(x)
        x = nn.relu(batch_norm(train, self.dtype, name="norm")(x))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage, width in enumerate(widths):
            for index in range(2):
                stride = 2 if stage > 0 and index == 0 else 1
                x = BasicBlock(width, stride, self.dtype, name=f"stage_{stage}_{index}")(
                    x, train=train
                )
        return at_least_float32(x.mean(axis=(1, 2)))


def _row_conv(features: int, kernel: int, dtype: Dtype, **options: Any) -> nn.Conv:
    """A convolution along rows."""
    return nn.Conv(features, (kernel,), kernel_init=KERNEL_INIT, dtype=dtype, **options)


class FourKeypointHead(nn.Module):
    """64 numbers to one row of 6 for each of a few keypoints (`final`)."""

    num_moved: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, code: Float[Array, "b 64"]) -> Float[Array, "b k 6"]:
        """Convolutions along the code, 64 -> 32 -> 16 -> 8 -> 6."""
        x = code[:, :, None]
        x = _row_conv(2, 4, self.dtype, strides=(2,), padding=1, name="conv_0")(x)
        x = nn.relu(nn.max_pool(x, (2,), strides=(2,)))
        x = _row_conv(4, 4, self.dtype, strides=(2,), padding=1, name="conv_1")(x)
        x = nn.relu(x)
        x = _row_conv(self.num_moved, 3, self.dtype, padding=0, name="conv_2")(x)
        return x.swapaxes(1, 2)


class AllKeypointHead(nn.Module):
    """4 x 16 numbers to one row of 6 for every keypoint (`final_10`)."""

    num_keypoints: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, code: Float[Array, "b 64"]) -> Float[Array, "b k 6"]:
        """Convolutions along the rows of 16, 16 -> 8 -> 6."""
        x = code.reshape(code.shape[0], 4, 16).swapaxes(1, 2)
        x = _row_conv(8, 3, self.dtype, padding=1, name="conv_0")(x)
        x = nn.relu(nn.max_pool(x, (2,), strides=(2,)))
        x = _row_conv(self.num_keypoints, 3, self.dtype, padding=0, name="conv_1")(x)
        return x.swapaxes(1, 2)


class DenseHead(nn.Module):
    """64 numbers to one row of 6 for any number of keypoints.

    Every number of the embedding reaches every row. In the published heads each number of a
    row depends on three positions of a short map, which is too narrow for many keypoints.
    """

    num_moved: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, code: Float[Array, "b 64"]) -> Float[Array, "b k 6"]:
        """One layer, zero-initialized, so that the displacement starts at zero.

        Displacements are small. A layer that starts with large ones is corrected through its
        input first: within some forty steps every ReLU below it is dead.
        """
        size = self.num_moved * NUMBERS_PER_KEYPOINT
        zeros = nn.initializers.zeros_init()
        rows = nn.Dense(size, kernel_init=zeros, dtype=self.dtype, name="rows")(code)
        return rows.reshape(-1, self.num_moved, NUMBERS_PER_KEYPOINT)


class EmotionNetwork(nn.Module):
    """Frame and audio keypoints to displacement and emotion.

    The parameters are those of all published heads, and of `dense` where it is chosen.

    Attributes:
        config: its hyperparameters.
        num_keypoints: of the audio keypoint head.
    """

    config: EmotionConfig
    num_keypoints: int
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Encoder, classifier, and the layers of the heads."""
        config, moved = self.config, len(self.config.keypoints)
        self.encoder = EmotionEncoder(config, self.dtype)
        self.classifier = dense(config.num_emotions, None)
        self.keypoint_code = DenseStack(config.code_widths, self.dtype)
        self.keypoint_raw = DenseStack(config.raw_widths, self.dtype)
        self.joint = DenseStack((*config.joint_widths, JOINT_WIDTH), self.dtype)
        self.final_few = FourKeypointHead(moved, self.dtype)
        self.final_all = AllKeypointHead(self.num_keypoints, self.dtype)
        if config.head == "dense":
            self.final_dense = DenseHead(moved, self.dtype)

    def encode(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Array:
        """Features of the frame alone, (b, n)."""
        return self.encoder(image, train=train)

    def displace(self, features: Float[Array, "b n"], keypoints: Keypoints) -> Keypoints:
        """The displacement for audio keypoints, given a frame's features."""
        b, k = keypoints.value.shape[:2]
        numbers = jnp.concatenate([keypoints.value, keypoints.jacobian.reshape(b, k, 4)], axis=-1)
        position = positional_code(numbers, self.config.frequencies).reshape(b, -1)
        raw_head = self.config.head.startswith("linear_np")
        code = (
            self.keypoint_raw(numbers.reshape(b, -1)) if raw_head else self.keypoint_code(position)
        )
        code = self.joint(jnp.concatenate([features.astype(code.dtype), code], axis=-1))
        if self.config.head == "dense":
            final = self.final_dense
        else:
            final = self.final_all if self.config.head.endswith("_10") else self.final_few
        rows = at_least_float32(final(code))
        if self.is_initializing():
            # All heads get parameters, as in the published files, whichever is trained.
            self.keypoint_raw(numbers.reshape(b, -1))
            self.keypoint_code(position)
            self.final_all(code)
            self.final_few(code)
        displacement = Keypoints(rows[..., :2], rows[..., 2:].reshape(b, -1, 2, 2))
        if not self.config.rigid:
            return displacement
        displaced = keypoints.value[:, jnp.array(self.config.keypoints)]
        return expression_alone(displacement, displaced, self.config.rigid, self.config.depths)

    def __call__(
        self, image: Float[Array, "b h w c"], keypoints: Keypoints, *, train: bool = False
    ) -> Emotion:
        """A frame (mouth masked, in [0, 1]) and the audio keypoints of the same time."""
        features = self.encode(image, train=train)
        displacement = self.displace(features, keypoints)
        return Emotion(displacement, self.classifier(features), features)
