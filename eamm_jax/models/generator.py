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
from eamm_jax.models.layers import DownBlock, Dtype, ResBlock, SameBlock, UpBlock
from eamm_jax.ops.grids import grid_sample
from eamm_jax.ops.resizing import antialias_downsample, resize_bilinear
from eamm_jax.types import Array, Keypoints

END_KERNEL = 7


class PortraitCode(NamedTuple):
    """All that the generator needs of a portrait; the same for every frame."""

    features: Float[Array, "b i j n"]
    thumbnail: Float[Array, "b p q c"]


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
    gaussian_variance: float
    dtype: Dtype = jnp.float32
    fast: bool = False

    def setup(self) -> None:
        """Encoder, dense motion, decoder."""
        widths = [min(self.max_width, self.width * 2**i) for i in range(self.downs + 1)]
        self.first = SameBlock(widths[0], END_KERNEL, self.dtype)
        self.down = [DownBlock(n, self.dtype) for n in widths[1:]]
        self.dense_motion = DenseMotionNetwork(
            self.num_keypoints,
            self.motion_width,
            self.motion_blocks,
            self.motion_max_width,
            self.gaussian_variance,
            self.dtype,
            self.fast,
        )
        self.res = [ResBlock(self.dtype, self.fast) for _ in range(self.res_blocks)]
        self.up = [UpBlock(n, self.dtype, self.fast) for n in reversed(widths[:-1])]
        self.final = nn.Conv(
            self.num_channels,
            (END_KERNEL, END_KERNEL),
            padding=END_KERNEL // 2,
            dtype=self.dtype,
        )

    def encode(self, portrait: Float[Array, "b h w c"], *, train: bool = False) -> PortraitCode:
        """The part of the work that is the same for every frame."""
        x = self.first(portrait, train=train)
        for block in self.down:
            x = block(x, train=train)
        return PortraitCode(x, antialias_downsample(portrait, self.motion_scale))

    def move(
        self,
        code: PortraitCode,
        portrait: Keypoints,
        driving: Keypoints,
        *,
        train: bool = False,
    ) -> tuple[Float[Array, "b i j n"], DenseMotion]:
        """The portrait's features, moved; one portrait may serve all frames (b = 1)."""
        motion = self.dense_motion(code.thumbnail, portrait, driving, train=train)
        h, w = code.features.shape[1:3]
        moved = grid_sample(code.features, resize_bilinear(motion.deformation, h, w))
        return moved * resize_bilinear(motion.occlusion, h, w).astype(moved.dtype), motion

    def draw(self, moved: Float[Array, "b i j n"], *, train: bool = False) -> Array:
        """Frames (b, h, w, c) in [0, 1] from moved features."""
        x = moved
        for res in self.res:
            x = res(x, train=train)
        for up in self.up:
            x = up(x, train=train)
        return jax.nn.sigmoid(self.final(x).astype(jnp.float32))

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
