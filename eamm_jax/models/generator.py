"""Draws a frame: the portrait's features, moved, masked where occluded, and decoded.

The occlusion-aware generator of the first-order motion model (Siarohin et al. 2019, 3.3).
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from eamm_jax.models.dense_motion import DenseMotion, DenseMotionNetwork
from eamm_jax.models.layers import DownBlock, Dtype, ResBlock, SameBlock, UpBlock, conv
from eamm_jax.ops.grids import grid_sample
from eamm_jax.ops.resizing import (
    antialias_downsample,
    blocks_to_pixels,
    pixels_to_blocks,
    resize_bilinear,
)
from eamm_jax.types import Array, Keypoints


class PortraitCode(NamedTuple):
    """All that the generator needs of a portrait; the same for every frame.

    Attributes:
        features: what is moved.
        thumbnail: what the dense motion network sees.
        image: the portrait itself, where it is blended with what is drawn.
    """

    features: Float[Array, "b i j n"]
    thumbnail: Float[Array, "b p q c"]
    image: Float[Array, "b h w c"] | None


class Moved(NamedTuple):
    """What a frame is drawn from.

    Attributes:
        features: those of the portrait, moved, masked where occluded.
        motion: features of the dense motion network, where they are seen.
        image: the portrait, moved, where it is blended with what is drawn.
    """

    features: Float[Array, "b i j n"]
    motion: Float[Array, "b p q m"] | None
    image: Float[Array, "b h w c"] | None


class Rendering(NamedTuple):
    """A frame in [0, 1] and how it was moved."""

    prediction: Float[Array, "b h w c"]
    motion: DenseMotion


class Generator(nn.Module):
    """Portrait and keypoints to frames (`generator` of the published code).

    Attributes are those of `ModelConfig`.
    """

    num_channels: int
    num_keypoints: int
    width: int
    max_width: int
    downs: int
    res_blocks: int
    motion_width: int
    motion_blocks: int
    motion_max_width: int
    motion_scale: float
    motion_kernel: int
    gaussian_variance: float
    half_pixel_grids: bool
    mask_radius: float
    kernel: int
    pixel_block: int
    sees_motion: bool
    blends: bool
    dtype: Dtype = jnp.float32
    fast: bool = False

    def setup(self) -> None:
        """Encoder, dense motion, decoder."""
        widths = [min(self.max_width, self.width * 2**i) for i in range(self.downs + 1)]
        self.first = SameBlock(widths[0], self.kernel, self.dtype)
        self.down = [DownBlock(n, self.dtype) for n in widths[1:]]
        self.dense_motion = DenseMotionNetwork(
            self.num_keypoints,
            self.motion_width,
            self.motion_blocks,
            self.motion_max_width,
            self.gaussian_variance,
            self.motion_kernel,
            self.half_pixel_grids,
            self.mask_radius,
            self.dtype,
            self.fast,
        )
        self.res = [ResBlock(self.dtype, self.fast) for _ in range(self.res_blocks)]
        self.up = [UpBlock(n, self.dtype, self.fast) for n in reversed(widths[:-1])]
        if self.sees_motion:
            self.join = SameBlock(widths[0], dtype=self.dtype)
        channels = (self.num_channels + self.blends) * self.pixel_block**2
        self.final = conv(channels, self.kernel, self.dtype)

    def encode(self, portrait: Float[Array, "b h w c"], *, train: bool = False) -> PortraitCode:
        """The part of the work that is the same for every frame."""
        x = self.first(pixels_to_blocks(portrait, self.pixel_block), train=train)
        for block in self.down:
            x = block(x, train=train)
        thumbnail = antialias_downsample(portrait, self.motion_scale)
        return PortraitCode(x, thumbnail, portrait if self.blends else None)

    def move(
        self,
        code: PortraitCode,
        portrait: Keypoints,
        driving: Keypoints,
        *,
        train: bool = False,
    ) -> tuple[Moved, DenseMotion]:
        """The portrait's features, moved; one portrait may serve all frames (b = 1)."""
        motion = self.dense_motion(code.thumbnail, portrait, driving, train=train)
        h, w = code.features.shape[1:3]
        moved = grid_sample(code.features, resize_bilinear(motion.deformation, h, w))
        moved = moved * resize_bilinear(motion.occlusion, h, w).astype(moved.dtype)
        features = motion.features if self.sees_motion else None
        image = None if code.image is None else deform(code.image, motion)
        return Moved(moved, features, image), motion

    def draw(self, moved: Moved, *, train: bool = False) -> Array:
        """Frames (b, h, w, c) in [0, 1]."""
        x = moved.features
        for res in self.res:
            x = res(x, train=train)
        for up in self.up:
            x = up(x, train=train)
        if moved.motion is not None:
            seen = jnp.concatenate([x, moved.motion.astype(x.dtype)], axis=-1)
            x = self.join(seen, train=train)
        drawn = jax.nn.sigmoid(self.final(x).astype(jnp.float32))
        drawn = blocks_to_pixels(drawn, self.pixel_block)
        if moved.image is None:
            return drawn
        drawn, share = drawn[..., :-1], drawn[..., -1:]
        return share * drawn + (1.0 - share) * moved.image

    def __call__(
        self,
        image: Float[Array, "b h w c"],
        portrait: Keypoints,
        driving: Keypoints,
        *,
        train: bool = False,
    ) -> Rendering:
        """`encode`, `move` and `draw`."""
        code = self.encode(image, train=train)
        moved, motion = self.move(code, portrait, driving, train=train)
        return Rendering(self.draw(moved, train=train), motion)


def deform(image: Float[Array, "b h w c"], motion: DenseMotion) -> Array:
    """The portrait itself moved by the dense motion; what the generator has to repair."""
    return grid_sample(image, resize_bilinear(motion.deformation, *image.shape[1:3]))
