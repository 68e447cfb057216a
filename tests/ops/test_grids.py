"""Grids and sampling, against NumPy and SciPy."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.ndimage import map_coordinates

from eamm_jax.ops.grids import coordinate_grid, grid_sample

sample = jax.jit(grid_sample, static_argnames="padding")

# SciPy's names for what lies beyond the edges, with half-pixel mirrors.
SCIPY_MODES = {"zeros": "grid-constant", "border": "nearest", "reflection": "reflect"}


def oracle(image: np.ndarray, grid: np.ndarray, padding: str) -> np.ndarray:
    height, width, _ = image.shape
    x = ((grid[..., 0] + 1) * width - 1) / 2
    y = ((grid[..., 1] + 1) * height - 1) / 2
    channels = [
        map_coordinates(c, [y, x], order=1, mode=SCIPY_MODES[padding], cval=0.0)
        for c in np.moveaxis(image, -1, 0)
    ]
    return np.stack(channels, axis=-1)


def test_coordinate_grid_puts_corner_pixels_at_one():
    grid = np.asarray(coordinate_grid(3, 5))
    np.testing.assert_allclose(grid[0, 0], [-1, -1])
    np.testing.assert_allclose(grid[-1, -1], [1, 1])
    np.testing.assert_allclose(grid[1, :, 0], np.linspace(-1, 1, 5), atol=1e-7)
    np.testing.assert_allclose(grid[:, 2, 1], np.linspace(-1, 1, 3), atol=1e-7)


@pytest.mark.parametrize("padding", SCIPY_MODES)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shape=st.sampled_from([(2, 9), (5, 4)]))
def test_grid_sample_is_scipys(padding, seed, shape):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(2, *shape, 3)).astype(np.float32)
    grid = rng.uniform(-2.5, 2.5, size=(2, 4, 5, 2)).astype(np.float32)
    sampled = sample(images, grid, padding=padding)
    for b in range(2):
        expected = oracle(images[b].astype(np.float64), grid[b].astype(np.float64), padding)
        np.testing.assert_allclose(sampled[b], expected, atol=2e-5)


def test_one_image_serves_all_grids_under_jit_and_vmap(rng):
    image = rng.normal(size=(1, 6, 7, 2)).astype(np.float32)
    grid = rng.uniform(-1.2, 1.2, size=(3, 4, 4, 2)).astype(np.float32)
    shared = grid_sample(image, grid)
    np.testing.assert_allclose(shared, sample(np.repeat(image, 3, 0), grid), atol=1e-6)
    np.testing.assert_allclose(shared, sample(image, grid), atol=1e-6)
    one_by_one = jax.jit(jax.vmap(lambda g: grid_sample(image, g[None])[0]))(grid)
    np.testing.assert_allclose(shared, one_by_one, atol=1e-6)


def test_each_image_is_sampled_on_its_own():
    # So that devices which have a share of the batch each need nothing of the others.
    shapes = (jax.ShapeDtypeStruct((3, *n, 2), np.float32) for n in ((6, 7), (4, 4)))
    corners = str(jax.make_jaxpr(grid_sample)(*shapes)).split(" gather[")[1:]
    assert corners
    assert all("operand_batching_dims=(0,)" in corner for corner in corners)


def test_identity_grid_of_pixel_centres_returns_the_image(rng):
    image = rng.normal(size=(1, 4, 6, 1)).astype(np.float32)
    x, y = (2 * np.arange(6) + 1) / 6 - 1, (2 * np.arange(4) + 1) / 4 - 1
    grid = np.stack(np.meshgrid(x, y), axis=-1)[None].astype(np.float32)
    np.testing.assert_allclose(sample(image, grid), image, atol=1e-6)


def test_points_far_away_are_black_and_have_no_gradient():
    image = jnp.ones((1, 4, 4, 1))

    def total(position):
        return grid_sample(image, jnp.full((1, 1, 1, 2), position)).sum()

    assert total(50.0) == 0
    assert jax.grad(total)(50.0) == 0


def test_a_half_pixel_grid_returns_the_image(rng):
    image = rng.uniform(size=(1, 6, 9, 2)).astype(np.float32)
    grid = coordinate_grid(6, 9, half_pixel=True)[None]
    np.testing.assert_allclose(sample(image, grid), image, atol=1e-6)
