"""Anti-aliased VGG-16: blurred pooling, features, and LPIPS as the published code has it."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from eamm_jax.conversion.installed import load_vgg16
from eamm_jax.errors import UserError
from eamm_jax.models.lpips import VGG16, blurred_pool, unit_length
from eamm_jax.training.losses import lpips


@pytest.mark.parametrize("size", [6, 7])
def test_the_pooling_is_a_maximum_blurred_and_halved(rng, size):
    x = rng.normal(size=(1, size, size, 2)).astype(np.float32)
    largest = ndimage.maximum_filter(x, (1, 2, 2, 1), origin=(0, -1, -1, 0))[:, :-1, :-1]
    padded = np.pad(largest, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    for axis in (1, 2):
        padded = ndimage.convolve1d(padded, [0.25, 0.5, 0.25], axis=axis)
    np.testing.assert_allclose(blurred_pool(x), padded[:, 1:-1:2, 1:-1:2], atol=1e-6)


def test_features_have_unit_length_and_a_gradient_where_there_are_none():
    x = jnp.zeros((1, 2, 2, 4)).at[0, 0].set(3.0)
    lengths = jnp.linalg.norm(unit_length(x), axis=-1)
    np.testing.assert_allclose(lengths[0], [[1, 1], [0, 0]], atol=1e-6)
    gradient = jax.grad(lambda x: unit_length(x).sum())(x)
    assert np.isfinite(gradient).all()


@pytest.mark.slow
def test_images_alike_are_at_no_distance_and_others_at_some(rng):
    network = VGG16(blurred=True)
    images = rng.uniform(size=(2, 32, 32, 3)).astype(np.float32)
    variables = network.init(jax.random.key(0), images)
    features = network.apply(variables, images)
    np.testing.assert_array_equal(lpips(features, features), [0, 0])
    others = network.apply(variables, images[::-1])
    apart = lpips(features, others)
    assert (apart > 0).all()
    np.testing.assert_allclose(apart[0], apart[1], rtol=1e-5)


@pytest.mark.skipif(
    importlib.util.find_spec("stlpips_pytorch") is None, reason="needs the extra 'lpips'"
)
@pytest.mark.parametrize(("size", "expected"), [(64, 0.11322771), (128, 0.14081328)])
def test_the_distance_is_that_of_the_published_code(size, expected):
    # `stlpips_pytorch.LPIPS(net="vgg", variant="shift_tolerant")` gives these, in float32.
    y, x = np.mgrid[:size, :size] / size
    waves = [0.5 + 0.5 * np.sin(9 * x + 3 * c) * np.cos(7 * y - c) for c in range(3)]
    first = np.stack(waves, axis=-1)
    spot = np.hypot(x - 0.5, y - 0.4) < 0.2
    second = np.clip(first**1.5 + 0.2 * spot[..., None], 0, 1)
    variables, network = load_vgg16(), VGG16(blurred=True)
    images = np.stack([first, second]).astype(np.float32)
    features = jax.jit(network.apply)(variables, images)
    found = lpips(*([f[n : n + 1] for f in features] for n in range(2)))
    assert float(found[0]) == pytest.approx(expected, rel=2e-5)


def test_what_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install stlpips-pytorch") as caught:
        load_vgg16()
    assert "\n" not in str(caught.value)
