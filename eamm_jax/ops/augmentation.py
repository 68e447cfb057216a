"""Data augmentation, on the device and batched.

Each augmentation is a deterministic function of its parameters, and a random function that takes
`rng` first and samples them: per clip or per frame, as in the published code. Frames are
(b, t, h, w, 3) in [0, 1] and stay in that range.

docs/architecture.md, section 8, lists the augmentation of each stage. Lengths in pixels refer to
256x256, the published size, and scale with the image.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from eamm_jax.ops.grids import Padding, coordinate_grid, grid_sample
from eamm_jax.types import Array

PUBLISHED_SIZE = 256

MOUTH_BOX = (85, 160, 185, 220)
"""Left, top, right and bottom of the mouth mask at 256x256: 100x60 around (135, 190)."""

MOUTH_FILL = 0.5
"""Deterministic fill of the mouth mask: the mean of the training noise.

The first layer of the emotion network is a Gaussian blur (sigma 1.5) that leaves 0.054 of the
noise's standard deviation of 0.289, so the box is nearly uniform grey in training. After that
layer, the mean is the constant nearest to a noise sample: 0.054 away (root mean square), while
another sample is 0.077 away.
"""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as in Pillow and torchvision


class EmotionAugmentation(NamedTuple):
    """Augmentation of the emotion network's input in part 2 (docs/architecture.md, section 8).

    Pixels refer to 256x256 images; the upper limit of a range is exclusive.
    """

    mask_mouth: bool = True  # so that emotion is not read from speech
    flip: bool = True  # each clip with probability 1/2
    rotation: float = 30.0  # largest angle, in degrees
    # Ranges of shift and enlargement in `warp_perspective`, before their random signs.
    perspective: tuple[int, int] | None = (20, 30)  # None is no perspective
    enlargement: tuple[int, int] = (20, 40)
    jitter: float = 0.0  # amount of `jitter_colours`


PUBLISHED_EMOTION_AUGMENTATION = EmotionAugmentation()


# Colour.


def adjust_hue(
    frames: Float[Array, "*b h w 3"], shift: Float[Array, "*b"] | float
) -> Float[Array, "*b h w 3"]:
    """Shifts the hue by `shift` (1 is the full colour circle); saturation and value stay."""
    value = jnp.max(frames, axis=-1)
    chroma = value - jnp.min(frames, axis=-1)
    red, green, blue = frames[..., 0], frames[..., 1], frames[..., 2]
    divisor = jnp.where(chroma > 0, chroma, 1.0)
    # Not `value == red`: a compiler may compute red twice and round it in two ways.
    sextant = jnp.where(
        (red >= green) & (red >= blue),
        (green - blue) / divisor,
        jnp.where(green >= blue, 2.0 + (blue - red) / divisor, 4.0 + (red - green) / divisor),
    )
    sextant = sextant + 6.0 * _per_image(shift, frames)[..., 0]
    # Each channel is the value minus a share of the chroma that depends on the hue.
    corner = (jnp.array([5.0, 3.0, 1.0]) + sextant[..., None]) % 6.0
    fall = jnp.clip(jnp.minimum(corner, 4.0 - corner), 0.0, 1.0)
    return value[..., None] - chroma[..., None] * fall


_BRIGHTNESS, _SATURATION, _HUE, _CONTRAST = range(4)


def adjust_colours(
    frames: Float[Array, "b t h w 3"],
    factors: Float[Array, "b 4"],
    order: Int[Array, "b 4"],
) -> Float[Array, "b t h w 3"]:
    """Adjusts brightness, saturation, hue and contrast, in a separate order for each clip.

    All but the hue are blends of a frame, its grey and its mean grey. Clips of a batch cannot
    branch, so there are three blends before the hue shift and three after it; those that a
    clip's order does not use are the identity.

    Brightness scales the frame, saturation its distance from its grey, contrast its distance from
    the mean of that grey; results are clipped to [0, 1].

    Args:
        frames: clips.
        factors: of brightness and saturation, shift of the hue (1 is the full circle), factor of
            contrast; for each clip.
        order: a permutation of 0..3 for each clip, the order of the adjustments.
    """
    hue_place = jnp.argmax(order == _HUE, axis=1)
    changes = jnp.take_along_axis(factors, order, axis=1) - 1.0

    def blend(frames: Array, place: int, used: Array) -> Array:
        change, kind = jnp.where(used, changes[:, place], 0.0), order[:, place]
        of_grey, of_mean = (
            _per_image(jnp.where(kind == which, -change, 0.0), frames)
            for which in (_SATURATION, _CONTRAST)
        )
        grey = _grey(frames)
        mean = jnp.mean(grey, axis=(-3, -2), keepdims=True)
        blended = frames + _per_image(change, frames) * frames + of_grey * grey + of_mean * mean
        return jnp.clip(blended, 0.0, 1.0)

    for place in range(3):
        frames = blend(frames, place, place < hue_place)
    frames = adjust_hue(frames, factors[:, _HUE])
    for place in range(1, 4):
        frames = blend(frames, place, place > hue_place)
    return frames


def jitter_colours(
    rng: PRNGKeyArray, frames: Float[Array, "b t h w 3"], amount: float
) -> Float[Array, "b t h w 3"]:
    """Jitters the colours of each clip, equally in all frames, in a random order.

    Args:
        rng: random key.
        frames: clips.
        amount: factors of brightness, saturation and contrast are sampled from 1 - amount to
            1 + amount, the shift of the hue from -amount to amount, a fraction of the colour
            circle (published: 0.1 in stages 0 and 1, none in part 2).
    """
    factor_rng, order_rng = jax.random.split(rng)
    batch = frames.shape[0]
    centre = jnp.array([1.0, 1.0, 0.0, 1.0])
    lowest = jnp.where(centre > 0, jnp.maximum(centre - amount, 0.0), -amount)
    factors = jax.random.uniform(factor_rng, (batch, 4), minval=lowest, maxval=centre + amount)
    order = jax.random.permutation(
        order_rng, jnp.tile(jnp.arange(4), (batch, 1)), axis=1, independent=True
    )
    return adjust_colours(frames, factors, order)


def _grey(frames: Float[Array, "*b h w 3"]) -> Float[Array, "*b h w 1"]:
    return jnp.sum(frames * jnp.array(_LUMA, frames.dtype), axis=-1, keepdims=True)


def _per_image(value: Array | float, frames: Array) -> Array:
    """Adds axes to a value per image, per clip or per batch, so that it broadcasts to pixels."""
    value = jnp.asarray(value)
    return value.reshape(value.shape + (1,) * (frames.ndim - value.ndim))


# Flips and the mouth mask.


def flip_horizontally(
    frames: Float[Array, "b t h w 3"], flipped: Bool[Array, " b"]
) -> Float[Array, "b t h w 3"]:
    """Flips the marked clips horizontally."""
    return jnp.where(_per_image(flipped, frames), frames[..., ::-1, :], frames)


def flip_at_random(
    rng: PRNGKeyArray, frames: Float[Array, "b t h w 3"]
) -> Float[Array, "b t h w 3"]:
    """Flips each clip with probability 1/2."""
    return flip_horizontally(frames, jax.random.bernoulli(rng, 0.5, frames.shape[:1]))


def mask_mouth(
    frames: Float[Array, "*b h w 3"], fill: Float[Array, "*b h w 3"] | float = MOUTH_FILL
) -> Float[Array, "*b h w 3"]:
    """Masks the mouth of aligned frames.

    Args:
        frames: frames aligned as in training.
        fill: content of the box; by default constant grey, for inference.
    """
    height, width = frames.shape[-3:-1]
    left, top, right, bottom = (
        round(edge * size / PUBLISHED_SIZE)
        for edge, size in zip(MOUTH_BOX, (width, height) * 2, strict=True)
    )
    rows, columns = jnp.arange(height)[:, None, None], jnp.arange(width)[:, None]
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    return jnp.where(inside, fill, frames)


def mask_mouth_with_noise(
    rng: PRNGKeyArray, frames: Float[Array, "*b h w 3"]
) -> Float[Array, "*b h w 3"]:
    """Masks the mouth with uniform noise, as in training."""
    return mask_mouth(frames, jax.random.uniform(rng, frames.shape, frames.dtype))


# Rotation and perspective.


def rotate(
    frames: Float[Array, "b t h w 3"], degrees: Float[Array, " b"]
) -> Float[Array, "b t h w 3"]:
    """Rotates square clips about their centre, counter-clockwise; corners become black."""
    height, width = frames.shape[2:4]
    grid = coordinate_grid(height, width, float, half_pixel=True)
    x, y = jnp.moveaxis(grid, -1, 0)
    angle = jnp.deg2rad(degrees)[:, None, None, None]
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    # Rows run downwards: the point that rotates to (x, y) lies clockwise from it on screen.
    grid = jnp.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1)
    return _sample(frames, grid, padding="zeros")


def rotate_at_random(
    rng: PRNGKeyArray, frames: Float[Array, "b t h w 3"], degrees: float = 30.0
) -> Float[Array, "b t h w 3"]:
    """Rotates each clip by a random angle within +-`degrees`, equal for all its frames."""
    angles = jax.random.uniform(rng, frames.shape[:1], minval=-degrees, maxval=degrees)
    return rotate(frames, angles)


def warp_perspective(
    frames: Float[Array, "b t h w 3"],
    shift: Float[Array, "b t"],
    enlargement: Float[Array, "b t"],
) -> Float[Array, "b t h w 3"]:
    """Perspective warp of square frames: a square becomes a trapezium.

    The square extends beyond the frame by `enlargement` on each side. Its top corners stay; the
    bottom ones move inwards by `shift`. Pixels beyond the frame repeat its edge.

    Args:
        frames: clips of square frames.
        shift: in pixels at 256x256; negative moves the corners outwards.
        enlargement: in pixels at 256x256; negative makes the square smaller than the frame.
    """
    size = frames.shape[2]
    scale = size / PUBLISHED_SIZE
    margin = enlargement[:, :, None, None] * scale
    side = size + 2 * margin
    # The inverse homography of this symmetric trapezium. In coordinates of the square from 0 to
    # 1, where k is the width of the bottom edge after the shift:
    #   v = k y / (1 - (1 - k) y),    u - 1/2 = (x - 1/2) / (1 - (1 - k) y).
    narrowing = 2 * shift[:, :, None, None] * scale / side
    row, column = jnp.arange(size)[:, None], jnp.arange(size)
    y, x = (row + margin) / side, (column + margin) / side
    divisor = 1.0 - narrowing * y
    source_x = (0.5 + (x - 0.5) / divisor) * side - margin
    source_y = (1.0 - narrowing) * y / divisor * side - margin
    to_grid = jnp.stack(jnp.broadcast_arrays(source_x, source_y), axis=-1)
    return _sample(frames, (2 * to_grid + 1) / size - 1, padding="border")


def warp_perspective_at_random(
    rng: PRNGKeyArray,
    frames: Float[Array, "b t h w 3"],
    shift: tuple[int, int] = (20, 30),
    enlargement: tuple[int, int] = (20, 40),
) -> Float[Array, "b t h w 3"]:
    """Applies a random perspective to every frame, by integer pixels of random sign.

    Args:
        rng: random key.
        frames: clips of square frames.
        shift: range of the absolute shift; the upper limit is exclusive.
        enlargement: range of the absolute enlargement, likewise.
    """

    def draw(rng: PRNGKeyArray, limits: tuple[int, int]) -> Array:
        size_rng, sign_rng = jax.random.split(rng)
        pixels = jax.random.randint(size_rng, frames.shape[:2], *limits)
        return pixels * jax.random.rademacher(sign_rng, frames.shape[:2], float)

    shift_rng, enlargement_rng = jax.random.split(rng)
    return warp_perspective(frames, draw(shift_rng, shift), draw(enlargement_rng, enlargement))


def _sample(frames: Array, grid: Array, *, padding: Padding) -> Array:
    """Samples (b, t, ...) frames at one grid per frame, or one per clip."""
    batch, time = frames.shape[:2]
    grid = jnp.broadcast_to(grid, (batch, time, *grid.shape[2:]))
    flat = grid_sample(
        frames.reshape(batch * time, *frames.shape[2:]),
        grid.reshape(batch * time, *grid.shape[2:]),
        padding=padding,
    )
    return flat.reshape(frames.shape)


# Augmentation of a stage.


def augment_emotion_frames(
    rng: PRNGKeyArray,
    frames: Float[Array, "b t h w 3"],
    config: EmotionAugmentation = PUBLISHED_EMOTION_AUGMENTATION,
) -> Float[Array, "b t h w 3"]:
    """Augments the input of the emotion network in part 2: mask, flip, rotation, perspective.

    Args:
        rng: random key.
        frames: clips, as used for the target.
        config: augmentation; the published one by default.
    """
    mask_rng, flip_rng, rotation_rng, perspective_rng, jitter_rng = jax.random.split(rng, 5)
    if config.mask_mouth:
        frames = mask_mouth_with_noise(mask_rng, frames)
    if config.flip:
        frames = flip_at_random(flip_rng, frames)
    if config.rotation:
        frames = rotate_at_random(rotation_rng, frames, config.rotation)
    if config.perspective is not None:
        frames = warp_perspective_at_random(
            perspective_rng, frames, config.perspective, config.enlargement
        )
    if config.jitter:
        frames = jitter_colours(jitter_rng, frames, config.jitter)
    return frames


def augment_pair(
    rng: PRNGKeyArray,
    source: Float[Array, "b h w 3"],
    driving: Float[Array, "b h w 3"],
    jitter: float,
) -> tuple[Float[Array, "b h w 3"], Float[Array, "b h w 3"]]:
    """Augments pairs of frames for stage 0, both frames of a pair equally.

    As in the first-order motion model, half of the pairs are swapped (time reversal), half of
    the rest are flipped, and colours are jittered.
    """
    turn_rng, flip_rng, jitter_rng = jax.random.split(rng, 3)
    pairs = jnp.stack([source, driving], axis=1)
    turned = jax.random.bernoulli(turn_rng, 0.5, pairs.shape[:1])
    flipped = jax.random.bernoulli(flip_rng, 0.5, pairs.shape[:1]) & ~turned
    pairs = jnp.where(_per_image(turned, pairs), pairs[:, ::-1], pairs)
    pairs = jitter_colours(jitter_rng, flip_horizontally(pairs, flipped), jitter)
    return pairs[:, 0], pairs[:, 1]
