"""Images for TensorBoard, drawn with array operations so that they can be jitted."""

from __future__ import annotations

import colorsys

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from eamm_jax.models.generator import Rendering, deform
from eamm_jax.ops.grids import coordinate_grid
from eamm_jax.ops.resizing import resize_bilinear
from eamm_jax.types import Array, Keypoints

KEYPOINT_RADIUS = 0.02
"""Of the dots, as a share of the image's side (5 pixels at 256, as in the published panels)."""


def draw_panel(
    source: Float[Array, "b h w 3"],
    target: Float[Array, "b h w 3"],
    rendering: Rendering,
    source_keypoints: Keypoints,
    target_keypoints: Keypoints,
    driving_keypoints: Keypoints,
) -> Float[Array, "b h w6 3"]:
    """One row an example: source | target | warped source | prediction | occlusion | masks.

    Dots of the same colour are the same keypoint, and the masks have its colour too; the
    background's motion is black.

    Args:
        source: the source image.
        target: the frame to be rendered.
        rendering: the prediction and its dense motion; occlusion and masks are of any size.
        source_keypoints: of the source image.
        target_keypoints: of the target.
        driving_keypoints: those that the prediction was rendered from.
    """
    height, width = source.shape[1:3]
    colours = palette(source_keypoints.value.shape[1])
    occlusion = resize_bilinear(rendering.motion.occlusion, height, width)
    cells = [
        draw_keypoints(source, source_keypoints.value, colours),
        draw_keypoints(target, target_keypoints.value, colours),
        deform(source, rendering.motion),
        draw_keypoints(rendering.prediction, driving_keypoints.value, colours),
        jnp.broadcast_to(occlusion, source.shape),
        resize_bilinear(rendering.motion.mask[..., 1:] @ colours, height, width),
    ]
    return jnp.clip(jnp.concatenate(cells, axis=2), 0.0, 1.0)


def palette(count: int) -> Float[np.ndarray, "k 3"]:
    """Bright colours, evenly spread over the colour circle."""
    hues = [colorsys.hsv_to_rgb(index / count, 1.0, 1.0) for index in range(count)]
    return np.array(hues, np.float32)


def draw_keypoints(
    image: Float[Array, "b h w 3"],
    keypoints: Float[Array, "b k 2"],
    colours: Float[np.ndarray, "k 3"],
) -> Float[Array, "b h w 3"]:
    """Draws a filled dot at each keypoint; later ones lie on top.

    Args:
        image: in [0, 1].
        keypoints: (x, y) in [-1, 1], which are the image's edges; not drawn where outside.
        colours: one for each keypoint.
    """
    pixels = coordinate_grid(*image.shape[1:3], half_pixel=True)
    for index, colour in enumerate(colours):
        offset = pixels - keypoints[:, None, None, index]
        inside = jnp.sum(offset**2, axis=-1, keepdims=True) <= (2 * KEYPOINT_RADIUS) ** 2
        image = jnp.where(inside, colour, image)
    return image
