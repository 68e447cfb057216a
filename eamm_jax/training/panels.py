"""Images for TensorBoard, drawn with array operations so that they can be jitted."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from eamm_jax.ops.grids import coordinate_grid
from eamm_jax.ops.resizing import resize_bilinear
from eamm_jax.types import Array

KEYPOINT_RADIUS = 0.02
"""Of the dots, as a share of the image's side (5 pixels at 256, as in the published panels)."""


class Panel(NamedTuple):
    """One row an example, from left to right; keypoints lie on the images before.

    Attributes:
        source: the source image.
        target: the frame to be rendered.
        warped: the source image moved by the dense motion alone.
        prediction: the rendered frame.
        occlusion: 1 where the source image shows what is needed; of any size.
        masks: share of the background (first) and of each keypoint's motion; of any size.
        source_keypoints: positions in the source image.
        target_keypoints: positions in the target.
        driving_keypoints: positions that the prediction was rendered from.
    """

    source: Float[Array, "b h w 3"]
    target: Float[Array, "b h w 3"]
    warped: Float[Array, "b h w 3"]
    prediction: Float[Array, "b h w 3"]
    occlusion: Float[Array, "b i j 1"]
    masks: Float[Array, "b i j m"]
    source_keypoints: Float[Array, "b k 2"]
    target_keypoints: Float[Array, "b k 2"]
    driving_keypoints: Float[Array, "b k 2"]


def draw_panel(panel: Panel) -> Float[Array, "b h w6 3"]:
    """One row an example: source | target | warped | prediction | occlusion | masks.

    Dots of the same colour are the same keypoint, and the masks have its colour too; the
    background's motion is black.
    """
    height, width = panel.source.shape[1:3]
    colours = palette(panel.source_keypoints.shape[1])
    occlusion = resize_bilinear(panel.occlusion, height, width)
    masks = resize_bilinear(panel.masks[..., 1:] @ colours, height, width)
    cells = [
        draw_keypoints(panel.source, panel.source_keypoints, colours),
        draw_keypoints(panel.target, panel.target_keypoints, colours),
        panel.warped,
        draw_keypoints(panel.prediction, panel.driving_keypoints, colours),
        jnp.broadcast_to(occlusion, panel.source.shape),
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
    pixels = coordinate_grid(*image.shape[1:3], half_pixel=True)
    for index, colour in enumerate(colours):
        offset = pixels - keypoints[:, None, None, index]
        inside = jnp.sum(offset**2, axis=-1, keepdims=True) <= (2 * KEYPOINT_RADIUS) ** 2
        image = jnp.where(inside, colour, image)
    return image


def jit_panel(
    panel: Callable[[Any, Any], Array], sharding: jax.sharding.Sharding
) -> Callable[[Any, Any], Array]:
    """A stage's `panel`, compiled, as one uint8 image."""

    def image(state: Any, batch: Any) -> Array:
        return jnp.round(255 * jnp.concatenate(list(panel(state, batch)))).astype(jnp.uint8)

    return jax.jit(image, out_shardings=sharding)
