"""Keypoints with local affine motion, seen in an image or heard in a feature map.

The image detector is that of the first-order motion model (Siarohin et al. 2019, 3.1); the
audio keypoint head is its last two convolutions, applied to what `AudioToMotion` draws.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from eamm_jax.models.layers import Dtype, Hourglass, conv
from eamm_jax.ops.keypoints import heatmap_to_value
from eamm_jax.ops.resizing import antialias_downsample
from eamm_jax.types import Array, Keypoints

HEAD_KERNEL = 7


class KeypointHead(nn.Module):
    """Heatmaps and Jacobians from a feature map (`kp_detector_a` of the published code).

    Attributes:
        num_keypoints: k.
        temperature: of the heatmap's softmax.
    """

    num_keypoints: int
    temperature: float
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, features: Float[Array, "b h w c"]) -> Keypoints:
        """The heatmap is (b, h - 6, w - 6, k): the convolutions do not pad."""
        k = self.num_keypoints
        scores = conv(k, HEAD_KERNEL, self.dtype, padding=0, name="heatmap")(features)
        b, h, w, _ = scores.shape
        scores = scores.astype(jnp.float32).reshape(b, h * w, k)
        heatmap = jax.nn.softmax(scores / self.temperature, axis=1)
        # Every Jacobian starts as the identity.
        maps = conv(
            4 * k,
            HEAD_KERNEL,
            self.dtype,
            padding=0,
            kernel_init=nn.initializers.zeros_init(),
            bias_init=lambda _, shape, dtype=jnp.float32: jnp.tile(
                jnp.array([1, 0, 0, 1], dtype), shape[0] // 4
            ),
            name="jacobian",
        )(features)
        maps = maps.astype(jnp.float32).reshape(b, h * w, k, 4)
        jacobian = jnp.einsum("bnk,bnkj->bkj", heatmap, maps)
        heatmap = heatmap.reshape(b, h, w, k)
        return Keypoints(heatmap_to_value(heatmap), jacobian.reshape(b, k, 2, 2), heatmap)


class KeypointDetector(nn.Module):
    """Keypoints of an image (`kp_detector` of the published code).

    Attributes:
        num_keypoints: k.
        width, blocks, max_width: of the hourglass.
        scale: the image is reduced to this before.
        temperature: of the heatmap's softmax.
    """

    num_keypoints: int
    width: int
    blocks: int
    max_width: int
    scale: float
    temperature: float
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Keypoints:
        """Image in [0, 1] to keypoints."""
        small = antialias_downsample(image, self.scale)
        hourglass = Hourglass(self.width, self.blocks, self.max_width, self.dtype, name="hourglass")
        head = KeypointHead(self.num_keypoints, self.temperature, self.dtype, name="head")
        return head(hourglass(small, train=train))
