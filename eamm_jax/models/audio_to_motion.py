"""Audio-to-motion network: source image, speech and head pose to feature maps per frame.

`audio_feature` of the published code (EAMM section 3.1, the Audio2Facial-Dynamics module).
Embeddings of the source image, of each frame's audio and of its head pose go through an LSTM;
transposed convolutions turn its output into a map, in which `KeypointHead` finds keypoints.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero, linear_call
from jaxtyping import Float

from eamm_jax.models.config import AudioToMotionConfig
from eamm_jax.models.layers import DenseStack, DownBlock, Dtype, batch_norm, conv
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


class _Frames(NamedTuple):
    """What the derivative of an LSTM layer needs of every frame."""

    gates: Float[Array, "t b 4n"]
    hidden: Float[Array, "t b n"]
    cell: Float[Array, "t b n"]


@jax.custom_jvp
def _recur(
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
    return _run(inputs, kernel, hidden, cell)[0]


def _run(inputs: Array, kernel: Array, hidden: Array, cell: Array) -> tuple[Any, _Frames]:
    def step(carry: tuple[Array, Array], gates_in: Array) -> tuple[tuple[Array, Array], Any]:
        h, c = carry
        gates = at_least_float32(gates_in + h.astype(kernel.dtype) @ kernel)
        after = _cell(gates, c)
        return after, (after[0], _Frames(gates, h, c))

    after, (outputs, frames) = jax.lax.scan(step, (hidden, cell), inputs)
    return (outputs, after), frames


@functools.partial(_recur.defjvp, symbolic_zeros=True)
def _recur_jvp(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    out, frames = _run(*primals)
    d_gates, d_kernel, d_hidden, d_cell = (
        None if isinstance(tangent, SymbolicZero) else tangent for tangent in tangents
    )
    if d_kernel is not None:
        # The kernel's part in all frames at once: its transpose is the one product.
        before = frames.hidden.astype(d_kernel.dtype)
        of_kernel = jnp.einsum("tbn,ng->tbg", before, d_kernel)
        d_gates = of_kernel if d_gates is None else d_gates + of_kernel
    residuals = frames.gates, frames.cell, primals[1]
    linear = d_gates, d_hidden, d_cell

    def transposed(residuals: Any, cotangents: Any) -> Any:
        found = _cotangents(residuals, cotangents)
        return tuple(None if d is None else f for d, f in zip(linear, found, strict=True))

    return out, linear_call(_tangents, transposed, residuals, linear)


def _tangents(residuals: Any, linear: Any) -> tuple[Array, tuple[Array, Array]]:
    """Forward in time: tangents of the outputs, and of hidden and cell after the last frame.

    Args:
        residuals: gates and cell of every frame, and the kernel.
        linear: tangents of the gates, of hidden and of cell before the first frame; None for 0.
    """
    gates, cell, kernel = residuals
    d_gates, *d_before = linear
    d_gates = jnp.zeros(gates.shape, kernel.dtype) if d_gates is None else d_gates
    d_before = [jnp.zeros_like(cell[0]) if d is None else d for d in d_before]

    def step(carry: tuple[Array, Array], frame: Any) -> tuple[tuple[Array, Array], Array]:
        d_h, d_c = carry
        gates, c, d_gates = frame
        d_gates = (d_gates + d_h.astype(kernel.dtype) @ kernel).astype(gates.dtype)
        _, after = jax.jvp(_cell, (gates, c), (d_gates, d_c))
        return after, after[0]

    after, outputs = jax.lax.scan(step, tuple(d_before), (gates, cell, d_gates))
    return outputs, after


def _cotangents(residuals: Any, cotangents: Any) -> tuple[Array, Array, Array]:
    """The transpose of `_tangents`, backward in time."""
    gates, cell, kernel = residuals
    of_outputs, of_after = cotangents

    def step(carry: tuple[Array, Array], frame: Any) -> tuple[tuple[Array, Array], Array]:
        of_h, of_c = carry
        gates, c, of_output = frame
        of_gates, of_c = jax.vjp(_cell, gates, c)[1]((of_h + of_output, of_c))
        of_gates = of_gates.astype(kernel.dtype)
        return ((of_gates @ kernel.T).astype(of_h.dtype), of_c), of_gates

    of_before, of_gates = jax.lax.scan(step, of_after, (gates, cell, of_outputs), reverse=True)
    return of_gates, *of_before


def _uniform_initializer(bound: float) -> nn.initializers.Initializer:
    def init(key: Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class ImageEncoder(nn.Module):
    """Embedding of the source image, halved until one pixel is left."""

    width: int
    max_width: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Array:
        """(b, 2^n, 2^n, c) -> (b, min(max_width, width 2^(n-1)))."""
        x = image
        for level in range(int(math.log2(image.shape[1]))):
            features = min(self.max_width, self.width * 2**level)
            x = DownBlock(features, self.dtype, name=f"down_{level}")(x, train=train)
        return x.reshape(x.shape[0], -1)


class AudioEncoder(nn.Module):
    """Embedding of one audio window, 28 x 12 MFCC numbers."""

    conv_widths: tuple[int, ...]
    dense_widths: tuple[int, ...]
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, audio: Float[Array, "b 28 12"], *, train: bool = False) -> Array:
        """(b, 28, 12) -> (b, dense_widths[-1])."""
        x = audio[..., None]
        for index, width in enumerate(self.conv_widths):
            x = conv(width, 3, self.dtype, use_bias=False, name=f"conv_{index}")(x)
            x = nn.relu(batch_norm(train, self.dtype, name=f"norm_{index}")(x))
            if index == 1:
                x = nn.max_pool(x, (3, 3), strides=(1, 2))
        x = nn.max_pool(x, (3, 3), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        return DenseStack(self.dense_widths, self.dtype, name="dense")(x)


class TransposedConv(nn.Module):
    """A transposed convolution of stride 2 and padding 1; parameters as in `nn.ConvTranspose`."""

    features: int
    kernel: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Array:
        """(b, h, w, c) -> (b, 2 h + kernel - 4, 2 w + kernel - 4, features)."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return conv_transpose(x, kernel) + bias


class MapDecoder(nn.Module):
    """Transposed convolutions from an embedding to a square feature map."""

    size: int
    channels: int
    first_width: int
    width: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, embedding: Float[Array, "b c"], *, train: bool = False) -> Array:
        """(b, c) -> (b, size, size, channels): 4 x 4 first, then doubled."""
        x = embedding[:, None, None, :]
        stages = int(math.log2(self.size)) - 1
        for index in range(stages):
            last = index == stages - 1
            kernel = 6 if index == 0 else 4
            features = self.channels if last else self.first_width if index == 0 else self.width
            x = TransposedConv(features, kernel, self.dtype, name=f"deconv_{index}")(x)
            if not last:
                x = nn.relu(batch_norm(train, self.dtype, name=f"norm_{index}")(x))
        return x


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
        self.image_encoder = ImageEncoder(config.image_width, config.image_max_width, self.dtype)
        self.pose_encoder = DenseStack(config.pose_widths, self.dtype)
        self.audio_encoder = AudioEncoder(config.conv_widths, config.dense_widths, self.dtype)
        self.lstm = StackedLSTM(config.lstm_width, config.lstm_layers, self.dtype)
        self.decoder = MapDecoder(
            self.feature_size, self.feature_channels, *config.deconv_widths, self.dtype
        )

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
