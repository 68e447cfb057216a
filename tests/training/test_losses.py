"""Every loss against its definition in NumPy, with and without jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eamm_jax.ops.thin_plate import Warp, random_warp, warp_jacobian, warp_points
from eamm_jax.training import losses
from eamm_jax.types import Keypoints


def both(function, *args, **options):
    """The result, after checking that jit changes nothing but rounding."""
    plain = function(*args, **options)
    jitted = jax.jit(lambda *a: function(*a, **options))(*args)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), plain, jitted)
    return plain


def keypoints(rng, *shape, heatmap=True):
    value = rng.uniform(-1, 1, (*shape, 10, 2))
    jacobian = np.eye(2) + 0.3 * rng.normal(size=(*shape, 10, 2, 2))
    maps = rng.uniform(size=(*shape, 6, 6, 10)) / 36
    parts = (value, jacobian, maps) if heatmap else (value, jacobian)
    return Keypoints(*(part.astype(np.float32) for part in parts))


def mean_absolute(a, b):
    return np.mean(np.abs(np.asarray(a, float) - np.asarray(b, float)))


def test_keypoint_distances(rng):
    heard, seen = keypoints(rng, 2, 3), keypoints(rng, 2, 3)
    found = both(losses.keypoint_distances, heard, seen)
    assert set(found) == {"value", "heatmap", "jacobian"}
    for name, value in found.items():
        expected = mean_absolute(getattr(heard, name), getattr(seen, name))
        np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_mean_over_clips_is_the_mean_over_frames_of_the_published_code(rng):
    heard, seen = keypoints(rng, 2, 5), keypoints(rng, 2, 5)
    frame_by_frame = [mean_absolute(heard.value[:, t], seen.value[:, t]) for t in range(5)]
    found = losses.keypoint_distances(heard, seen)["value"]
    np.testing.assert_allclose(found, np.mean(frame_by_frame), rtol=1e-5)


def test_displacement_of_a_few_keypoints_adds_them_up(rng):
    moved = (1, 4, 6, 8)
    heard, seen = keypoints(rng, 2, 3), keypoints(rng, 2, 3)
    displacement = Keypoints(
        rng.normal(size=(2, 3, 4, 2)).astype(np.float32),
        rng.normal(size=(2, 3, 4, 2, 2)).astype(np.float32),
    )
    found = both(losses.displacement_distances, displacement, heard, seen, moved=moved)
    for name in ("value", "jacobian"):
        target, audio, step = (getattr(k, name) for k in (seen, heard, displacement))
        expected = sum(
            mean_absolute(target[:, :, k] - audio[:, :, k], step[:, :, i])
            for i, k in enumerate(moved)
        )
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)


def test_displacement_of_all_keypoints_averages_them(rng):
    heard, seen, displacement = (keypoints(rng, 2, 3) for _ in range(3))
    found = both(losses.displacement_distances, displacement, heard, seen, moved=tuple(range(10)))
    for name in ("value", "jacobian"):
        target, audio, step = (getattr(k, name) for k in (seen, heard, displacement))
        np.testing.assert_allclose(found[name], mean_absolute(target - audio, step), rtol=1e-5)


def test_the_right_displacement_costs_nothing(rng):
    moved = (1, 4, 6, 8)
    heard, seen = keypoints(rng, 2, 3), keypoints(rng, 2, 3)
    where = np.array(moved)
    right = Keypoints(
        seen.value[..., where, :] - heard.value[..., where, :],
        seen.jacobian[..., where, :, :] - heard.jacobian[..., where, :, :],
    )
    found = losses.displacement_distances(right, heard, seen, moved)
    assert found == {"value": 0.0, "jacobian": 0.0}


def test_cross_entropy_and_accuracy(rng):
    logits = (3 * rng.normal(size=(3, 4, 8))).astype(np.float32)
    emotion = np.array([2, -1, 7], np.int32)  # the second clip is not labelled
    entropy, accuracy = both(losses.emotion_cross_entropy, logits, emotion)
    share = np.exp(logits.astype(float))
    share /= share.sum(axis=-1, keepdims=True)
    expected = -np.log(np.concatenate([share[0, :, 2], share[2, :, 7]]))
    np.testing.assert_allclose(entropy, expected.mean(), rtol=1e-5)
    right = np.concatenate([logits[0].argmax(-1) == 2, logits[2].argmax(-1) == 7])
    np.testing.assert_allclose(accuracy, right.mean())


def test_clips_without_labels_cost_nothing(rng):
    logits = rng.normal(size=(2, 3, 8)).astype(np.float32)
    unlabelled = np.array([-1, -1], np.int32)
    entropy, accuracy = losses.emotion_cross_entropy(logits, unlabelled)
    assert (entropy, accuracy) == (0.0, 0.0)
    gradient = jax.grad(lambda x: losses.emotion_cross_entropy(x, unlabelled)[0])(logits)
    np.testing.assert_array_equal(gradient, 0.0)


def test_equivariance_is_zero_for_keypoints_that_move_with_the_image(rng):
    warp = random_warp(jax.random.key(0), 2, affine_noise=0.1, spline_noise=0.02, points=5)
    warped = keypoints(rng, 2, heatmap=False)

    @jax.jit
    def perfect(warp, warped):
        """What is seen in the image itself, where the warped image came from."""
        value = warp_points(warp, warped.value)
        return Keypoints(value, warp_jacobian(warp, warped.value) @ warped.jacobian)

    found = jax.jit(losses.equivariance_distances)(perfect(warp, warped), warped, warp)
    np.testing.assert_allclose([found["value"], found["jacobian"]], 0.0, atol=1e-5)


def test_equivariance_against_numpy(rng):
    affine = (np.eye(2, 3) + 0.2 * rng.normal(size=(2, 2, 3))).astype(np.float32)
    warp = Warp(affine, np.zeros((2, 25), np.float32))
    driving, warped = (keypoints(rng, 2, heatmap=False) for _ in range(2))
    found = both(losses.equivariance_distances, driving, warped, warp)
    moved = np.einsum("bij,bkj->bki", affine[:, :, :2], warped.value) + affine[:, None, :, 2]
    np.testing.assert_allclose(found["value"], mean_absolute(driving.value, moved), rtol=1e-5)
    product = np.linalg.inv(driving.jacobian) @ affine[:, None, :, :2] @ warped.jacobian
    np.testing.assert_allclose(found["jacobian"], mean_absolute(product, np.eye(2)), rtol=1e-4)


def test_feature_distance_is_weighted_and_leaves_the_target_alone(rng):
    ours, theirs = (
        [rng.normal(size=(2, n, n, 3)).astype(np.float32) for n in (8, 4, 2)] for _ in range(2)
    )
    weights = (10.0, 0.0, 0.5)
    found = both(losses.weighted_feature_distance, ours, theirs, weights=weights)
    expected = sum(w * mean_absolute(a, b) for w, a, b in zip(weights, ours, theirs, strict=True))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    gradient = jax.grad(losses.weighted_feature_distance, argnums=1)(ours, theirs, weights)
    assert all((leaf == 0).all() for leaf in gradient)


def test_feature_distance_wants_a_weight_for_each_map():
    with pytest.raises(ValueError, match="zip"):
        losses.weighted_feature_distance([jnp.zeros((1, 2, 2, 1))] * 2, [], (1.0, 1.0))


def test_pyramid_distance(rng):
    ours, theirs = (
        [rng.uniform(size=(2, n, n, 3)).astype(np.float32) for n in (8, 4)] for _ in range(2)
    )
    found = both(losses.pyramid_distance, ours, theirs)
    expected = 0.0
    for a, b in zip(ours, theirs, strict=True):
        expected += mean_absolute(a, b)
        expected += mean_absolute(a[:, 1:] - a[:, :-1], b[:, 1:] - b[:, :-1])
        expected += mean_absolute(a[:, :, 1:] - a[:, :, :-1], b[:, :, 1:] - b[:, :, :-1])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_least_squares_gan(rng):
    real, drawn = (
        [rng.normal(size=(2, n, n, 1)).astype(np.float32) for n in (6, 3)] for _ in range(2)
    )
    generator = both(losses.generator_gan, drawn)
    np.testing.assert_allclose(generator, sum(np.mean((1 - x) ** 2) for x in drawn), rtol=1e-5)
    discriminator = both(losses.discriminator_gan, real, drawn)
    expected = sum(np.mean((1 - a) ** 2 + b**2) for a, b in zip(real, drawn, strict=True))
    np.testing.assert_allclose(discriminator, expected, rtol=1e-5)
    ones = [jnp.ones((1, 2, 2, 1))]
    zeros = [jnp.zeros((1, 2, 2, 1))]
    assert losses.discriminator_gan(ones, zeros) == 0.0
    assert losses.generator_gan(ones) == 0.0


@settings(max_examples=20, deadline=None)
@given(st.floats(0.001, 0.9))
def test_psnr_of_an_even_error(error):
    image = np.full((1, 4, 4, 3), 0.05, np.float32)
    found = losses.peak_signal_to_noise(image + np.float32(error), image)
    np.testing.assert_allclose(found, -20 * np.log10(error), atol=1e-2)


def test_psnr_of_equal_images_is_finite():
    image = jnp.ones((1, 4, 4, 3))
    np.testing.assert_allclose(losses.peak_signal_to_noise(image, image), 100.0, rtol=1e-5)


def test_sums_run_in_float32():
    ours = jnp.full((1000,), 1.0, jnp.bfloat16)
    theirs = jnp.zeros((1000,), jnp.bfloat16)
    found = losses.l1(ours, theirs)
    assert found.dtype == jnp.float32
    assert found == 1.0


@pytest.mark.parametrize("loss", [losses.l1, losses.peak_signal_to_noise])
def test_shapes_that_would_broadcast_are_refused(loss):
    with pytest.raises(AssertionError, match="shape"):
        loss(np.zeros((2, 3)), np.zeros((2, 1)))
