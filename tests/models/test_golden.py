"""Every network against the published code's outputs (`modules.npz`), by converted weights."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from eamm_jax.models import build
from eamm_jax.models.config import PUBLISHED_HEADS, published
from eamm_jax.models.generator import deform
from eamm_jax.ops.resizing import antialias_downsample
from eamm_jax.types import Keypoints

pytestmark = pytest.mark.slow

KEYPOINTS = 2e-4
MAPS = 1e-3  # of their standard deviation
FRAME_MAX, FRAME_MEAN = 1e-3, 1e-4


@pytest.fixture(scope="module")
def arrays(goldens):
    return goldens.load("modules.npz")


@pytest.fixture(scope="module")
def images(arrays):
    return {
        name: arrays[f"in_{name}_u8"][None].astype(np.float32) / 255
        for name in ("source", "driver")
    }


@pytest.fixture(scope="module")
def networks():
    return build(published())


def golden_keypoints(arrays, name: str) -> Keypoints:
    return Keypoints(arrays[f"{name}_value"], arrays[f"{name}_jacobian"])


def assert_keypoints(found: Keypoints, expected: Keypoints) -> None:
    np.testing.assert_allclose(found.value, expected.value, atol=KEYPOINTS)
    np.testing.assert_allclose(found.jacobian, expected.jacobian, atol=KEYPOINTS)


def assert_heatmap(found, expected: np.ndarray) -> None:
    """Probabilities; the temperature of 0.1 makes ten of every rounding in a score."""
    np.testing.assert_allclose(np.moveaxis(found, -1, 1), expected, atol=KEYPOINTS)


def assert_map(found, expected: np.ndarray) -> None:
    """`found` has its channels last, `expected` after the batch."""
    found = np.moveaxis(np.asarray(found), -1, 1)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=MAPS * expected.std(), rtol=0)


def assert_frame(found, expected: np.ndarray) -> None:
    """`expected` is (b, c, h, w), as 16-bit integers or floats."""
    if expected.dtype == np.uint16:
        expected = expected / 65535
    error = np.abs(np.moveaxis(np.asarray(found), -1, 1) - expected)
    assert error.max() <= FRAME_MAX
    assert error.mean() <= FRAME_MEAN


def test_golden_keypoint_detector(networks, published_variables, arrays, images):
    detect = jax.jit(networks.kp_detector.apply)
    for name, image in images.items():
        found = detect(published_variables["kp_detector"], image)
        assert_keypoints(found, golden_keypoints(arrays, f"kp_{name}"))
        assert_heatmap(found.heatmap, arrays[f"kp_{name}_heatmap"])


def test_golden_audio_to_motion(networks, published_variables, arrays, images):
    net = networks.audio_feature
    compiled = jax.jit(lambda v, *inputs, weight: net.apply(v, *inputs, audio_weight=weight)[0])
    inputs = images["source"], arrays["in_mfcc"][None], arrays["in_pose"][None]

    def run(weight):
        return compiled(published_variables["audio_feature"], *inputs, weight=weight)

    maps = run(1.6)
    expected = arrays["audio_feature_weight1.6"]
    for frame in range(maps.shape[1]):
        assert_map(maps[:, frame], expected[:, frame])
    assert_map(run(1.0)[:, 3], arrays["audio_feature_weight1.0_frame3"])
    head = jax.jit(networks.kp_detector_a.apply)
    found = head(published_variables["kp_detector_a"], maps[0])
    for frame in range(len(found.value)):
        one = jax.tree.map(lambda x, i=frame: x[i : i + 1], found)
        assert_keypoints(one, golden_keypoints(arrays, f"kp_audio{frame}"))
    assert_heatmap(found.heatmap[:1], arrays["kp_audio0_heatmap"])


@pytest.mark.parametrize("head", PUBLISHED_HEADS)
def test_golden_emotion_network(published_variables, arrays, images, head):
    net = build(published().replace({"emotion.head": head})).emo_detector
    variables = published_variables["emo_detector"]
    keypoints = golden_keypoints(arrays, "kp_audio0")
    found = jax.jit(net.apply)(variables, images["driver"], keypoints)
    assert_keypoints(found.displacement, golden_keypoints(arrays, f"emotion_{head}"))
    logits, features = arrays[f"emotion_{head}_logits"], arrays["emotion_feature"]
    np.testing.assert_allclose(found.logits, logits, atol=MAPS * logits.std())
    np.testing.assert_allclose(found.features, features, atol=MAPS * features.std())


def test_golden_generator(published_variables, arrays, images):
    net = build(published()).generator
    portrait = golden_keypoints(arrays, "kp_source")

    @jax.jit
    def render(variables, image, portrait, driving):
        drawn = net.apply(variables, image, portrait, driving)
        return drawn, deform(image, drawn.motion)

    variables = published_variables["generator"]
    driving = golden_keypoints(arrays, "kp_driver")
    drawn, deformed = render(variables, images["source"], portrait, driving)
    assert_frame(drawn.prediction, arrays["generator_prediction_u16"])
    assert_frame(drawn.prediction[:, :8], arrays["generator_prediction_first_rows"])
    assert_frame(deformed, arrays["generator_deformed_u16"])
    assert_map(drawn.motion.mask, arrays["generator_mask"])
    assert_map(drawn.motion.occlusion, arrays["generator_occlusion_map"])
    deformation = arrays["dense_motion_deformation"]
    np.testing.assert_allclose(
        drawn.motion.deformation, deformation, atol=MAPS * deformation.std(), rtol=0
    )
    heard, _ = render(variables, images["source"], portrait, golden_keypoints(arrays, "kp_audio0"))
    assert_frame(heard.prediction, arrays["generator_audio_prediction_u16"])


def test_golden_discriminator(networks, published_variables, arrays, images):
    (judged,) = jax.jit(networks.discriminator.apply)(
        published_variables["discriminator"], [images["source"]]
    )
    assert_map(judged.score, arrays["discriminator_prediction_map"])
    for index, features in enumerate(judged.features):
        for name, found in (
            ("mean", features.mean((1, 2))),
            ("std", features.std((1, 2), ddof=1)),
        ):
            expected = arrays[f"discriminator_feature{index}_{name}"]
            np.testing.assert_allclose(found, expected, atol=MAPS * float(features.std()))


def test_golden_vgg(networks, published_variables, arrays, images):
    found = jax.jit(networks.vgg19.apply)(published_variables["vgg19"], images["source"])
    for index, features in enumerate(found, start=1):
        tolerance = MAPS * float(features.std())
        expected = arrays[f"vgg_relu{index}_mean"]
        np.testing.assert_allclose(features.mean((1, 2)), expected, atol=tolerance)
        corner = np.moveaxis(np.asarray(features), -1, 1)[:, :, :4, :4]
        np.testing.assert_allclose(corner, arrays[f"vgg_relu{index}_corner"], atol=tolerance)


def test_golden_pyramid(arrays, images):
    for scale in (0.5, 0.25, 0.125):
        found = antialias_downsample(images["source"], scale)
        assert_map(found, arrays[f"pyramid_prediction_{scale}"])
