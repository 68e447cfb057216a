"""Audio-to-motion network: source image, speech and head pose to feature maps per frame.

`audio_feature` of the published code (EAMM section 3.1, the Audio2Facial-Dynamics module).
Embeddings of the source image, of each frame's audio and of its head pose go through an LSTM;
transposed convolutions turn its output into a map, in which `KeypointHead` finds keypoints.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from eamm_jax.models.config import AudioToMotionConfig
from eamm_jax.models.layers import (
    TRANSPOSED_KERNEL_INIT,
    DenseStack,
    DownBlock,
    Dtype,
    batch_norm,
    conv,
)
from eamm_jax.ops.convolution import conv_transpose
from eamm_jax.ops.precision import at_least_float32
from eamm_jax.types import Array


class LSTMState(NamedTuple):
    """LSTM state; zeros before the first frame."""

    hidden: Float[Array, "layers b n"]
    cell: Float[Array, "layers b n"]


class StackedLSTM(nn.Module):
    """LSTM layers on top of each other, over time.

    Gates stand in the order input, forget, cell, output. There are two biases, one beside
    each kernel: their sum is what matters, but as they are trained apart the published
    optimiser moves it twice as fast, and so does ours.

    Attributes:
        width: of each layer.
        layers: how many.
    """

    width: int
    layers: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t c"], state: LSTMState
    ) -> tuple[Float[Array, "b t n"], LSTMState]:
        """Runs over t frames; returns the last layer's outputs and the state after them."""
        hidden, cell = [], []
        uniform = _uniform_initializer(1 / math.sqrt(self.width))
        for layer in range(self.layers):
            name, gates = f"layer_{layer}", 4 * self.width
            input_kernel = self.param(f"{name}_input_kernel", uniform, (x.shape[-1], gates))
            hidden_kernel = self.param(f"{name}_hidden_kernel", uniform, (self.width, gates))
            input_bias = self.param(f"{name}_input_bias", uniform, (gates,))
            hidden_bias = self.param(f"{name}_hidden_bias", uniform, (gates,))
            x, input_kernel, hidden_kernel, input_bias, hidden_bias = nn.dtypes.promote_dtype(
                x, input_kernel, hidden_kernel, input_bias, hidden_bias, dtype=self.dtype
            )
            inputs = x @ input_kernel + (input_bias + hidden_bias)
            outputs, (h, c) = _recur(
                inputs.swapaxes(0, 1), hidden_kernel, state.hidden[layer], state.cell[layer]
            )
            x = outputs.swapaxes(0, 1)
            hidden.append(h)
            cell.append(c)
        return x, LSTMState(jnp.stack(hidden), jnp.stack(cell))


def _cell(gates: Float[Array, "b 4n"], c: Float[Array, "b n"]) -> tuple[Array, Array]:
    """One frame of an LSTM: its output and its new cell."""
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _run(
    inputs: Float[Array, "t b 4n"],
    kernel: Float[Array, "n 4n"],
    hidden: Float[Array, "b n"],
    cell: Float[Array, "b n"],
) -> tuple[Float[Array, "t b n"], tuple[Array, Array]]:
    """An LSTM layer over time, given what its inputs add to the gates.

    The kernel's gradient is one product over all frames. Left to autodiff it would be summed
    up frame by frame; with many devices, each frame's by all of them before the next.

    Args:
        inputs: to the gates.
        kernel: from the output of the frame before to the gates.
        hidden: output of the frame before the first.
        cell: of that frame.

    Returns:
        The outputs of all frames, and hidden and cell after the last.
    """

    def step(carry: tuple[Array, Array], gates: Array) -> tuple[tuple[Array, Array], Array]:
        h, c = carry
        after = _cell(at_least_float32(gates + h.astype(kernel.dtype) @ kernel), c)
        return after, after[0]

    after, outputs = jax.lax.scan(step, (hidden, cell), inputs)
    return outputs, after


_recur = jax.custom_jvp(_run)


@_recur.defjvp
def _recur_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Any, Any]:
    inputs, kernel, hidden, cell = primals
    d_inputs, d_kernel, d_hidden, d_cell = tangents
    out, push_forward = jax.linearize(
        lambda inputs, hidden, cell: _run(inputs, kernel, hidden, cell), inputs, hidden, cell
    )
    # The kernel's part in the gates of all frames at once: its transpose is the one product.
    before = jnp.concatenate([hidden[None], out[0][:-1]]).astype(d_kernel.dtype)
    d_gates = d_inputs + jnp.einsum("tbn,ng->tbg", before, d_kernel)
    return out, push_forward(d_gates, d_hidden, d_cell)


def _uniform_initializer(bound: float) -> nn.initializers.Initializer:
    def init(key: Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class ImageEncoder(nn.Module):
    """Embedding of the source image, halved until one pixel is left."""

    config: AudioToMotionConfig
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Array:
        """(b, 2^n, 2^n, c) -> (b, min(image_max_width, image_width 2^(n-1)))."""
        x = image
        for level in range(int(math.log2(image.shape[1]))):
            features = min(self.config.image_max_width, self.config.image_width * 2**level)
            x = DownBlock(features, self.dtype, name=f"down_{level}")(x, train=train)
        return x.reshape(x.shape[0], -1)


class AudioEncoder(nn.Module):
    """Embedding of one audio window, 28 x 12 MFCC numbers."""

    config: AudioToMotionConfig
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, audio: Float[Array, "b 28 12"], *, train: bool = False) -> Array:
        """(b, 28, 12) -> (b, dense_widths[-1])."""
        x = audio[..., None]
        for index, width in enumerate(self.config.conv_widths):
            x = conv(width, 3, self.dtype, use_bias=False, name=f"conv_{index}")(x)
            x = nn.relu(batch_norm(train, self.dtype, name=f"norm_{index}")(x))
            if index == 1:
                x = nn.max_pool(x, (3, 3), strides=(1, 2))
        x = nn.max_pool(x, (3, 3), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        return DenseStack(self.config.dense_widths, self.dtype, name="dense")(x)


class TransposedConv(nn.Module):
    """A transposed convolution of stride 2 and padding 1; parameters as in `nn.ConvTranspose`."""

    features: int
    kernel: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Array:
        """(b, h, w, c) -> (b, 2 h + kernel - 4, 2 w + kernel - 4, features)."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", TRANSPOSED_KERNEL_INIT, shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return conv_transpose(x, kernel) + bias


class MapDecoder(nn.Module):
    """Transposed convolutions from an embedding to a square feature map."""

    config: AudioToMotionConfig
    size: int
    channels: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, embedding: Float[Array, "b c"], *, train: bool = False) -> Array:
        """(b, c) -> (b, size, size, channels): 4 x 4 first, then doubled."""
        x = embedding[:, None, None, :]
        first, width = self.config.deconv_widths
        last = int(math.log2(self.size)) - 2
        for index in range(last):
            kernel, features = (4, width) if index else (6, first)
            x = TransposedConv(features, kernel, self.dtype, name=f"deconv_{index}")(x)
            x = nn.relu(batch_norm(train, self.dtype, name=f"norm_{index}")(x))
        kernel = 4 if last else 6
        return TransposedConv(self.channels, kernel, self.dtype, name=f"deconv_{last}")(x)


class AudioToMotion(nn.Module):
    """Feature maps for every frame, and the LSTM state after them.

    Attributes:
        config: its hyperparameters.
        feature_size: side of the maps.
        feature_channels: their channels.
    """

    config: AudioToMotionConfig
    feature_size: int
    feature_channels: int
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Three encoders, the LSTM, and the decoder of maps."""
        config = self.config
        self.image_encoder = ImageEncoder(config, self.dtype)
        self.pose_encoder = DenseStack(config.pose_widths, self.dtype)
        self.audio_encoder = AudioEncoder(config, self.dtype)
        self.lstm = StackedLSTM(config.lstm_width, config.lstm_layers, self.dtype)
        self.decoder = MapDecoder(config, self.feature_size, self.feature_channels, self.dtype)

    def initial_state(self, batch: int) -> LSTMState:
        """The state before the first frame."""
        shape = (self.config.lstm_layers, batch, self.config.lstm_width)
        zeros = jnp.zeros(shape, jnp.promote_types(self.dtype, jnp.float32))
        return LSTMState(zeros, zeros)

    def encode_source(self, source_image: Float[Array, "b h w c"], *, train: bool = False) -> Array:
        """The source image's embedding, (b, n); the same for every frame."""
        return self.image_encoder(source_image, train=train)

    def decode(
        self,
        source: Float[Array, "b n"],
        audio: Float[Array, "b t 28 12"],
        pose: Float[Array, "b t 6"],
        state: LSTMState,
        *,
        audio_weight: float | Array = 1.0,
        frame_stride: int = 1,
        train: bool = False,
    ) -> tuple[Float[Array, "b t/s h w c"], LSTMState]:
        """Feature maps of t frames from the embedding of the source image; as `__call__`."""
        b, t = audio.shape[:2]
        heard = self.audio_encoder(audio.reshape(b * t, *audio.shape[2:]), train=train)
        heard = heard.reshape(b, t, -1) * audio_weight
        source = jnp.broadcast_to(source[:, None], (b, t, source.shape[-1]))
        x = jnp.concatenate([source, heard, self.pose_encoder(pose)], axis=-1)
        x, state = self.lstm(x, state)
        x = x[:, frame_stride - 1 :: frame_stride]
        maps = self.decoder(x.reshape(-1, x.shape[-1]), train=train)
        return maps.reshape(*x.shape[:2], *maps.shape[1:]), state

    def __call__(
        self,
        source_image: Float[Array, "b h w c"],
        audio: Float[Array, "b t 28 12"],
        pose: Float[Array, "b t 6"],
        state: LSTMState | None = None,
        *,
        audio_weight: float | Array = 1.0,
        frame_stride: int = 1,
        train: bool = False,
    ) -> tuple[Float[Array, "b t/s h w c"], LSTMState]:
        """Feature maps of t frames.

        Args:
            source_image: in [0, 1].
            audio: MFCC windows (`features.audio_windows`).
            pose: yaw, pitch, roll, scale, tx, ty.
            state: after the frames before, or None at the start.
            audio_weight: factor on the audio features; 1 in training, 1.6 in the published
                demo.
            frame_stride: s; the LSTM reads all frames, and the last of each s gets a map.
            train: whether batch norm uses and updates the batch's statistics.
        """
        state = self.initial_state(source_image.shape[0]) if state is None else state
        source = self.encode_source(source_image, train=train)
        return self.decode(
            source,
            audio,
            pose,
            state,
            audio_weight=audio_weight,
            frame_stride=frame_stride,
            train=train,
        )
