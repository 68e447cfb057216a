"""The terms of every stage's loss, without their weights (docs/architecture.md, section 8).

Pure functions of the networks' outputs; networks and weights are chosen in `objectives/`. "L1"
is the mean absolute difference over all axes unless said. Sums run in float32 at least,
whatever the networks compute in.
"""

from __future__ import annotations

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from eamm_jax.ops.keypoints import inverse_2x2
from eamm_jax.ops.precision import at_least_float32, exact_matmul
from eamm_jax.ops.thin_plate import Warp, warp_jacobian, warp_points
from eamm_jax.types import Array, Keypoints

Scalar = Float[Array, ""]
FeatureMaps = Sequence[Float[Array, "b _ _ _"]]


LEAST_SQUARED_ERROR = 1e-10
"""Lower bound on the MSE, so that PSNR stays finite."""


def l1(
    prediction: Float[Array, "*n"],
    target: Float[Array, "*n"],
    weight: Float[Array, "*n"] | None = None,
) -> Scalar:
    """Mean absolute difference: mean |prediction - target|, weighted if a weight is given.

    0 where no weight is above 0.
    """
    chex.assert_equal_shape((prediction, target))  # broadcasting would hide a mistake
    difference = jnp.abs(at_least_float32(prediction) - at_least_float32(target))
    if weight is None:
        return jnp.mean(difference)
    return jnp.mean(difference * weight) / jnp.maximum(jnp.mean(weight), 1e-12)


def squared_error(prediction: Float[Array, "*n"], target: Float[Array, "*n"] | float) -> Scalar:
    """Mean squared difference: mean (prediction - target)^2."""
    return jnp.mean((at_least_float32(prediction) - target) ** 2)


def peak_signal_to_noise(
    prediction: Float[Array, "*n"],
    target: Float[Array, "*n"],
    weight: Float[Array, "*n"] | None = None,
) -> Scalar:
    """PSNR in decibels of signals in [0, 1]: -10 log10 mean (prediction - target)^2.

    Args:
        prediction: the rendered image.
        target: the ground truth.
        weight: how much each pixel counts.
    """
    chex.assert_equal_shape((prediction, target))
    squares = (at_least_float32(prediction) - target) ** 2
    error = (
        jnp.mean(squares)
        if weight is None
        else jnp.mean(squares * weight) / jnp.mean(jnp.broadcast_to(weight, squares.shape))
    )
    return -10.0 * jnp.log10(jnp.maximum(error, LEAST_SQUARED_ERROR))


# Keypoints.


def keypoint_distances(prediction: Keypoints, target: Keypoints) -> dict[str, Scalar]:
    """Distances of audio keypoints from image keypoints (EAMM eq. 1, part 1 of training).

    L1 of `value`, `heatmap` and `jacobian`, each over all frames of all clips.

    Args:
        prediction: audio keypoints, with heatmaps.
        target: image keypoints, with heatmaps.
    """
    return {
        name: l1(getattr(prediction, name), getattr(target, name))
        for name in ("value", "heatmap", "jacobian")
    }


def displacement_distances(
    displacement: Keypoints,
    audio_keypoints: Keypoints,
    target: Keypoints,
    moved: Sequence[int],
) -> dict[str, Scalar]:
    """Distance of displaced audio keypoints from image keypoints (EAMM eq. 3).

    For the heads that move a few keypoints, sum over k in `moved` of
    L1(target_k - audio_k - displacement_k); for those that move all, the mean over k.

    Args:
        displacement: of the moved keypoints, in the order of `moved`.
        audio_keypoints: all of them.
        target: all image keypoints.
        moved: indices of the moved keypoints.

    Returns:
        `value` and `jacobian`.
    """
    where = jnp.asarray(moved)
    # Parity: the published four-keypoint heads add their keypoints up, the others average.
    terms = 1 if len(moved) == target.value.shape[-2] else len(moved)
    value = target.value[..., where, :] - audio_keypoints.value[..., where, :]
    jacobian = target.jacobian[..., where, :, :] - audio_keypoints.jacobian[..., where, :, :]
    return {
        "value": terms * l1(displacement.value, value),
        "jacobian": terms * l1(displacement.jacobian, jacobian),
    }


def emotion_cross_entropy(
    logits: Float[Array, "b t e"], emotion: Int[Array, " b"]
) -> tuple[Scalar, Scalar]:
    """Cross-entropy of each frame's emotion, and the accuracy.

    -mean log softmax(logits)[emotion] over the frames of labelled clips; 0 if there are none.

    Args:
        logits: for every frame of every clip.
        emotion: index of each clip's emotion, -1 where it has none.
    """
    labels = jnp.broadcast_to(emotion[:, None], logits.shape[:2])
    labelled = labels >= 0
    count = jnp.maximum(jnp.sum(labelled), 1)
    entropy = optax.softmax_cross_entropy_with_integer_labels(
        at_least_float32(logits), jnp.maximum(labels, 0)
    )
    correct = jnp.argmax(logits, axis=-1) == labels
    return jnp.sum(entropy * labelled) / count, jnp.sum(correct & labelled) / count


def equivariance_distances(driving: Keypoints, warped: Keypoints, warp: Warp) -> dict[str, Scalar]:
    """Whether keypoints move with the image (Siarohin et al. 2019, eqs. 9 and 11).

    With T the warp, so that the warped image shows at z what the image shows at T(z):
    L1(driving, T(warped)) for values; L1(1, J_driving^-1 (dT/dz)(warped) J_warped) for
    jacobians.

    Args:
        driving: keypoints of the image.
        warped: keypoints of the warped image.
        warp: T.

    Returns:
        `value` and `jacobian`.
    """
    returned = exact_matmul(warp_jacobian(warp, warped.value), warped.jacobian)
    product = exact_matmul(inverse_2x2(driving.jacobian), returned)
    return {
        "value": l1(driving.value, warp_points(warp, warped.value)),
        "jacobian": l1(product, jnp.broadcast_to(jnp.eye(2), product.shape)),
    }


# Images.


def weighted_feature_distance(
    prediction: FeatureMaps, target: FeatureMaps, weights: Sequence[float]
) -> Scalar:
    """sum_i weight_i L1(prediction_i, target_i): perceptual and feature-matching losses.

    (Siarohin et al. 2019, eq. 8; Wang et al. 2018, eq. 4.) No gradient flows into the target.

    Args:
        prediction: features of the rendered image.
        target: features of the ground truth.
        weights: one for each map; maps of weight 0 cost nothing.
    """
    total = jnp.zeros(())
    for weight, ours, theirs in zip(weights, prediction, target, strict=True):
        if weight:
            total += weight * l1(ours, jax.lax.stop_gradient(theirs))
    return total


def lpips(prediction: FeatureMaps, target: FeatureMaps) -> Float[Array, " b"]:
    """Learned perceptual distance of pairs of images (Zhang et al. 2018, eq. 1).

    sum over maps of the mean over pixels of |prediction - target|^2.

    Args:
        prediction: features by `models.lpips` of the rendered images.
        target: of the ground truth.
    """
    pairs = zip(prediction, target, strict=True)
    apart = (jnp.sum((ours - theirs) ** 2, axis=-1) for ours, theirs in pairs)
    return sum((jnp.mean(x, axis=(1, 2)) for x in apart), start=jnp.zeros(()))


def pyramid_distance(
    prediction: FeatureMaps, target: FeatureMaps, weight: FeatureMaps | None = None
) -> Scalar:
    """L1 of images and of their gradients at every scale, for training without VGG-19.

    sum over scales of L1(p, q) + L1(dp/dx, dq/dx) + L1(dp/dy, dq/dy), with differences of
    neighbouring pixels for derivatives (Mathieu et al. 2016, eq. 6 has the second part).

    Args:
        prediction: the pyramid of the rendered image.
        target: the pyramid of the ground truth.
        weight: the pyramid of how much each pixel counts, one channel.
    """
    total = jnp.zeros(())
    weights = [None] * len(prediction) if weight is None else weight
    for ours, theirs, pixels in zip(prediction, target, weights, strict=True):
        total += l1(ours, theirs, pixels)
        for axis in (1, 2):
            # A difference counts as much as the second of its pixels.
            second = None if pixels is None else jax.lax.slice_in_dim(pixels, 1, None, axis=axis)
            total += l1(jnp.diff(ours, axis=axis), jnp.diff(theirs, axis=axis), second)
    return total


# Least squares GAN (Mao et al. 2017, eq. 9, with labels 1 for real and 0 for rendered).


def generator_gan(rendered: Sequence[Float[Array, "b _ _ 1"]]) -> Scalar:
    """Sum over scales of mean (1 - D(rendered))^2."""
    return sum((squared_error(score, 1.0) for score in rendered), start=jnp.zeros(()))


def discriminator_gan(
    real: Sequence[Float[Array, "b _ _ 1"]], rendered: Sequence[Float[Array, "b _ _ 1"]]
) -> Scalar:
    """Sum over scales of mean (1 - D(real))^2 + mean D(rendered)^2."""
    scores = zip(real, rendered, strict=True)
    return sum(
        (squared_error(a, 1.0) + squared_error(b, 0.0) for a, b in scores), start=jnp.zeros(())
    )
