"""Keypoints with local affine motion, from an image or from a feature map.

The keypoint detector is that of the first-order motion model (Siarohin et al. 2019, 3.1); the
audio keypoint head is its last two convolutions, applied to the maps of `AudioToMotion`.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from eamm_jax.models.config import KeypointDetectorConfig
from eamm_jax.models.layers import KERNEL_INIT, Dtype, Hourglass
from eamm_jax.ops.convolution import keypoint_head
from eamm_jax.ops.keypoints import heatmap_to_value
from eamm_jax.ops.resizing import antialias_downsample
from eamm_jax.types import Array, Keypoints


class _ConvParameters(nn.Module):
    """The parameters of a convolution, for the head to apply them in its own way."""

    features: int
    kernel: int
    kernel_init: nn.initializers.Initializer = KERNEL_INIT
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, channels: int) -> tuple[Float[Array, "s s c o"], Float[Array, " o"]]:
        """Kernel and bias, for maps of so many channels."""
        shape = (self.kernel, self.kernel, channels, self.features)
        return (
            self.param("kernel", self.kernel_init, shape),
            self.param("bias", self.bias_init, (self.features,)),
        )


class KeypointHead(nn.Module):
    """Heatmaps and Jacobians from a feature map (`kp_detector_a` of the published code).

    Attributes:
        config: of the keypoint detector.
        num_keypoints: k.
    """

    config: KeypointDetectorConfig
    num_keypoints: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, features: Float[Array, "b h w c"]) -> Keypoints:
        """The heatmap is smaller than the map by `kernel - 1`: the convolutions do not pad."""
        k, size = self.num_keypoints, self.config.kernel
        channels = features.shape[-1]
        kernel, bias = _ConvParameters(k, size, name="heatmap")(channels)
        # Every Jacobian starts as the identity.
        jacobian_kernel, jacobian_bias = _ConvParameters(
            4 * k,
            size,
            kernel_init=nn.initializers.zeros_init(),
            bias_init=lambda _, shape, dtype=jnp.float32: jnp.tile(
                jnp.array([1, 0, 0, 1], dtype), shape[0] // 4
            ),
            name="jacobian",
        )(channels)
        features, kernel, bias = nn.dtypes.promote_dtype(features, kernel, bias, dtype=self.dtype)
        heatmap, jacobian = keypoint_head(
            features,
            kernel,
            bias,
            jacobian_kernel,
            jacobian_bias,
            self.config.temperature,
        )
        if self.config.shared_jacobian:
            jacobian = jnp.broadcast_to(jacobian.mean(axis=1, keepdims=True), jacobian.shape)
        return Keypoints(heatmap_to_value(heatmap), jacobian, heatmap)


class KeypointDetector(nn.Module):
    """Keypoints of an image (`kp_detector` of the published code).

    Attributes:
        config: its hyperparameters.
        num_keypoints: k.
    """

    config: KeypointDetectorConfig
    num_keypoints: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Keypoints:
        """Image in [0, 1] to keypoints."""
        small = antialias_downsample(image, self.config.scale)
        hourglass = Hourglass(self.config, self.dtype, name="hourglass")
        head = KeypointHead(self.config, self.num_keypoints, self.dtype, name="head")
        return head(hourglass(small, train=train))
