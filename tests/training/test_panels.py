"""Panels: where dots lie, what colours mean, and the order of the cells."""

import jax
import numpy as np
import pytest

from eamm_jax.training.panels import Panel, draw_keypoints, draw_panel, palette


def panel_of(rng, batch=2, size=32, k=3):
    def image():
        return rng.uniform(size=(batch, size, size, 3)).astype(np.float32)

    def points():
        return rng.uniform(-0.8, 0.8, (batch, k, 2)).astype(np.float32)

    masks = np.zeros((batch, 8, 8, k + 1), np.float32)
    masks[:, :, :4, 0] = 1  # the left half is background,
    masks[:, :, 4:, 2] = 1  # the right follows the second keypoint
    return Panel(
        source=image(),
        target=image(),
        warped=image(),
        prediction=image(),
        occlusion=np.full((batch, 8, 8, 1), 0.25, np.float32),
        masks=masks,
        source_keypoints=points(),
        target_keypoints=points(),
        driving_keypoints=points(),
    )


def test_cells_stand_side_by_side(rng):
    panel = panel_of(rng)
    drawn = np.asarray(jax.jit(draw_panel)(panel))
    assert drawn.shape == (2, 32, 6 * 32, 3)
    cells = np.split(drawn, 6, axis=2)
    np.testing.assert_array_equal(cells[2], panel.warped)
    np.testing.assert_allclose(cells[4], 0.25)
    np.testing.assert_allclose(cells[5][:, :, :12], 0.0)
    expected = np.broadcast_to(palette(3)[1], (2, 32, 12, 3))
    np.testing.assert_allclose(cells[5][:, :, 20:], expected, atol=1e-6)
    for cell, image in ((0, panel.source), (1, panel.target), (3, panel.prediction)):
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
