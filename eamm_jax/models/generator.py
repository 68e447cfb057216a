"""Generator: the source image's features, warped, masked where occluded, and decoded.

The occlusion-aware generator of the first-order motion model (Siarohin et al. 2019, 3.3).
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from eamm_jax.models.config import GeneratorConfig
from eamm_jax.models.dense_motion import DenseMotion, DenseMotionNetwork
from eamm_jax.models.layers import DownBlock, Dtype, ResBlock, SameBlock, UpBlock, conv
from eamm_jax.ops.grids import grid_sample
from eamm_jax.ops.precision import at_least_float32
from eamm_jax.ops.resizing import (
    antialias_downsample,
    blocks_to_pixels,
    pixels_to_blocks,
    resize_bilinear,
)
from eamm_jax.types import Array, Keypoints


class SourceFeatures(NamedTuple):
    """All that the generator needs of a source image; the same for every frame."""

    features: Float[Array, "b i j n"]  # that are warped
    thumbnail: Float[Array, "b p q c"]  # the source image, reduced, for the dense motion network
    image: Float[Array, "b h w c"] | None  # the source image, where the output is blended with it


class WarpedFeatures(NamedTuple):
    """What a frame is decoded from."""

    features: Float[Array, "b i j n"]  # of the source image, warped, masked where occluded
    motion: Float[Array, "b p q m"] | None  # features for the last layers' skip connection
    image: Float[Array, "b h w c"] | None  # warped, where the output is blended with it


class Rendering(NamedTuple):
    """A frame in [0, 1] and the dense motion that it was rendered with."""

    prediction: Float[Array, "b h w c"]
    motion: DenseMotion


class Generator(nn.Module):
    """Source image and keypoints to frames (`generator` of the published code).

    Attributes:
        config: its hyperparameters.
        num_channels: of the images.
    """

    config: GeneratorConfig
    num_channels: int
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Encoder, dense motion, decoder."""
        config = self.config
        width, *deeper = config.widths
        self.first = SameBlock(width, config.kernel, self.dtype)
        self.down = [DownBlock(n, self.dtype) for n in deeper]
        self.dense_motion = DenseMotionNetwork(config.dense_motion, self.dtype)
        self.res = [ResBlock(self.dtype) for _ in range(config.res_blocks)]
        self.up = [UpBlock(n, self.dtype) for n in reversed(config.widths[:-1])]
        if config.motion_skip:
            self.join = SameBlock(width, dtype=self.dtype)
        channels = (self.num_channels + config.blend) * config.pixel_block**2
        self.final = conv(channels, config.kernel, self.dtype)

    def encode(
        self, source_image: Float[Array, "b h w c"], *, train: bool = False
    ) -> SourceFeatures:
        """The part of the work that is the same for every frame."""
        x = self.first(pixels_to_blocks(source_image, self.config.pixel_block), train=train)
        for block in self.down:
            x = block(x, train=train)
        thumbnail = antialias_downsample(source_image, self.config.dense_motion.scale)
        return SourceFeatures(x, thumbnail, source_image if self.config.blend else None)

    def warp(
        self,
        source: SourceFeatures,
        source_keypoints: Keypoints,
        driving: Keypoints,
        *,
        train: bool = False,
    ) -> tuple[WarpedFeatures, DenseMotion]:
        """The source features, warped; one source image may serve all frames (b = 1)."""
        motion = self.dense_motion(source.thumbnail, source_keypoints, driving, train=train)
        h, w = source.features.shape[1:3]
        warped = grid_sample(source.features, resize_bilinear(motion.deformation, h, w))
        warped = warped * resize_bilinear(motion.occlusion, h, w).astype(warped.dtype)
        features = motion.features if self.config.motion_skip else None
        image = None if source.image is None else deform(source.image, motion)
        return WarpedFeatures(warped, features, image), motion

    def decode(self, warped: WarpedFeatures, *, train: bool = False) -> Array:
        """Frames (b, h, w, c) in [0, 1]."""
        x = warped.features
        for res in self.res:
            x = res(x, train=train)
        for up in self.up:
            x = up(x, train=train)
        if warped.motion is not None:
            x = jnp.concatenate([x, warped.motion.astype(x.dtype)], axis=-1)
            x = self.join(x, train=train)
        frames = jax.nn.sigmoid(at_least_float32(self.final(x)))
        frames = blocks_to_pixels(frames, self.config.pixel_block)
        if warped.image is None:
            return frames
        frames, share = frames[..., :-1], frames[..., -1:]
        return share * frames + (1.0 - share) * warped.image

    def __call__(
        self,
        source_image: Float[Array, "b h w c"],
        source_keypoints: Keypoints,
        driving: Keypoints,
        *,
        train: bool = False,
    ) -> Rendering:
        """`encode`, `warp` and `decode`."""
        source = self.encode(source_image, train=train)
        warped, motion = self.warp(source, source_keypoints, driving, train=train)
        return Rendering(self.decode(warped, train=train), motion)


def deform(image: Float[Array, "b h w c"], motion: DenseMotion) -> Array:
    """The source image warped by the dense motion, before the generator repairs it."""
    return grid_sample(image, resize_bilinear(motion.deformation, *image.shape[1:3]))
