"""Panels: where dots lie, what colours mean, and the order of the cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eamm_jax.models.dense_motion import DenseMotion
from eamm_jax.models.generator import Rendering
from eamm_jax.ops.grids import coordinate_grid
from eamm_jax.training.panels import draw_keypoints, draw_panel, palette
from eamm_jax.types import Keypoints


def test_cells_stand_side_by_side(rng):
    batch, size, k = 2, 32, 3
    source, target, prediction = rng.uniform(size=(3, batch, size, size, 3)).astype(np.float32)
    points = rng.uniform(-0.8, 0.8, (3, batch, k, 2)).astype(np.float32)
    masks = np.zeros((batch, 8, 8, k + 1), np.float32)
    masks[:, :, :4, 0] = 1  # the left half is background,
    masks[:, :, 4:, 2] = 1  # the right follows the second keypoint
    occlusion = np.full((batch, 8, 8, 1), 0.25, np.float32)
    grid = coordinate_grid(size, size, half_pixel=True)  # nothing moves
    deformation = jnp.broadcast_to(grid, (batch, *grid.shape))
    motion = DenseMotion(deformation, masks, occlusion, warped=None, features=None)
    keypoints = [Keypoints(value, None) for value in points]
    panel = jax.jit(draw_panel)(source, target, Rendering(prediction, motion), *keypoints)
    assert panel.shape == (batch, size, 6 * size, 3)
    cells = np.split(np.asarray(panel), 6, axis=2)
    np.testing.assert_allclose(cells[2], source, atol=1e-5)
    np.testing.assert_allclose(cells[4], 0.25)
    np.testing.assert_allclose(cells[5][:, :, :12], 0.0)
    expected = np.broadcast_to(palette(3)[1], (2, 32, 12, 3))
    np.testing.assert_allclose(cells[5][:, :, 20:], expected, atol=1e-6)
    for cell, image in ((0, source), (1, target), (3, prediction)):
        changed = (cells[cell] != image).any(axis=-1).mean()
        assert 0 < changed < 0.1  # a few dots, and the image between them


@pytest.mark.parametrize(("x", "y"), [(-0.5, 0.25), (0.9, -0.9)])
def test_a_dot_is_centred_on_its_keypoint(x, y):
    image = np.zeros((1, 128, 64, 3), np.float32)
    drawn = np.asarray(draw_keypoints(image, np.array([[[x, y]]]), palette(1)))
    rows, columns = np.nonzero(drawn[0].any(axis=-1))
    # -1 and 1 are the image's edges.
    np.testing.assert_allclose((rows.mean() + 0.5) / 128 * 2 - 1, y, atol=0.02)
    np.testing.assert_allclose((columns.mean() + 0.5) / 64 * 2 - 1, x, atol=0.02)
    assert len(rows) > 3


def test_keypoints_outside_are_not_drawn():
    image = np.full((1, 16, 16, 3), 0.5, np.float32)
    drawn = draw_keypoints(image, np.array([[[1.5, 0.0], [0.0, -2.0]]]), palette(2))
    np.testing.assert_array_equal(drawn, image)


def test_colours_differ():
    colours = palette(10)
    gaps = np.abs(colours[:, None] - colours[None]).sum(axis=-1) + np.eye(10)
    assert gaps.min() > 0.3
