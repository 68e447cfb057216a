"""Pictures of what a network does, drawn with array operations so that they can be jitted."""

from __future__ import annotations

import colorsys
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from eamm_jax.ops.resizing import resize_bilinear
from eamm_jax.types import Array

KEYPOINT_RADIUS = 0.02
"""Of the dots, as a share of the image's side (5 pixels at 256, as in the published panels)."""


class Panel(NamedTuple):
    """What is drawn of each example, from left to right; keypoints lie on the first frames.

    Attributes:
        portrait: what is moved.
        driving: the frame to be drawn.
        warped: the portrait moved by the dense motion alone.
        prediction: what was drawn.
        occlusion: 1 where the portrait shows what is needed; of any size.
        masks: share of the background (first) and of each keypoint's motion; of any size.
        portrait_keypoints: positions seen in the portrait.
        driving_keypoints: positions seen in the driving frame.
        prediction_keypoints: positions that the prediction was drawn from.
    """

    portrait: Float[Array, "b h w 3"]
    driving: Float[Array, "b h w 3"]
    warped: Float[Array, "b h w 3"]
    prediction: Float[Array, "b h w 3"]
    occlusion: Float[Array, "b i j 1"]
    masks: Float[Array, "b i j m"]
    portrait_keypoints: Float[Array, "b k 2"]
    driving_keypoints: Float[Array, "b k 2"]
    prediction_keypoints: Float[Array, "b k 2"]


def draw_panel(panel: Panel) -> Float[Array, "b h w6 3"]:
    """One row an example: portrait | driving | warped | prediction | occlusion | masks.

    Dots of the same colour are the same keypoint, and the masks have its colour too; the
    background's motion is black.
    """
    height, width = panel.portrait.shape[1:3]
    colours = palette(panel.portrait_keypoints.shape[1])
    occlusion = resize_bilinear(panel.occlusion, height, width)
    masks = resize_bilinear(panel.masks[..., 1:] @ colours, height, width)
    cells = [
        draw_keypoints(panel.portrait, panel.portrait_keypoints, colours),
        draw_keypoints(panel.driving, panel.driving_keypoints, colours),
        panel.warped,
        draw_keypoints(panel.prediction, panel.prediction_keypoints, colours),
        jnp.broadcast_to(occlusion, panel.portrait.shape),
        masks,
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
    height, width = image.shape[1:3]
    # Pixels' centres in the same units, half-pixel aligned.
    x = (2 * np.arange(width) + 1) / width - 1
    y = (2 * np.arange(height) + 1) / height - 1
    for index, colour in enumerate(colours):
        dx = x[None, None, :] - keypoints[:, index, 0, None, None]
        dy = y[None, :, None] - keypoints[:, index, 1, None, None]
        inside = dx**2 + dy**2 <= (2 * KEYPOINT_RADIUS) ** 2
        image = jnp.where(inside[..., None], colour, image)
    return image
