"""In float64 the networks' outputs are those of the published code, to rounding.

`reference/goldens64` holds what the published code computed in float64. Ours differ by at most
6e-14 where values reach 38; 1e-10 leaves room for other processors and for no mistake.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from eamm_jax.models import build
from eamm_jax.models.config import PUBLISHED_HEADS, ModelConfig, published
from eamm_jax.types import Keypoints
from tests.conftest import FLOAT64_COMPILE

pytestmark = pytest.mark.slow

TOLERANCE = 1e-10
CROP = slice(96, 160)


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def arrays(goldens, shared):
    """Inputs in float64, and expected outputs."""
    default = shared / "reference" / "goldens64"
    path = Path(os.environ.get("EAMM_GOLDENS64", default)) / "modules64.npz"
    if not path.is_file():
        pytest.skip(f"no {path} (set EAMM_GOLDENS64)")
    inputs = {name: x for name, x in goldens.load("modules.npz").items() if name.startswith("in_")}
    with np.load(path) as expected:
        return inputs | dict(expected)


@pytest.fixture(scope="module")
def images(arrays):
    return {name: arrays[f"in_{name}_u8"][None] / 255 for name in ("source", "driver")}


@functools.cache
def compiled(network: str, config: ModelConfig, **kwargs):
    """A network in float64, as a function of its variables and inputs."""
    module = getattr(build(config, np.float64), network)
    return jax.jit(
        lambda variables, *inputs: module.apply(variables, *inputs, **kwargs),
        compiler_options=FLOAT64_COMPILE,
    )


def apply(network, variables, *inputs, config=None, **kwargs):
    """A network in float64; its variables are widened for it alone."""
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64), variables[network])
    return compiled(network, config or published(), **kwargs)(wide, *inputs)


def assert_equal(found, expected: np.ndarray) -> None:
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


def golden_keypoints(arrays, name: str) -> Keypoints:
    return Keypoints(arrays[f"{name}_value"], arrays[f"{name}_jacobian"])


def assert_keypoints(found: Keypoints, arrays, name: str) -> None:
    assert_equal(found.value, arrays[f"{name}_value"])
    assert_equal(found.jacobian, arrays[f"{name}_jacobian"])


def test_keypoint_detector(published_variables, arrays, images):
    for name, image in images.items():
        assert_keypoints(apply("kp_detector", published_variables, image), arrays, f"kp_{name}")


def test_audio_keypoints(published_variables, arrays, images):
    inputs = (arrays[name][None].astype(np.float64) for name in ("in_mfcc", "in_pose"))
    maps, _ = apply(
        "audio_feature", published_variables, images["source"], *inputs, audio_weight=1.6
    )
    found = apply("kp_detector_a", published_variables, maps[0])
    for frame in range(len(found.value)):
        one = jax.tree.map(lambda x, i=frame: x[i : i + 1], found)
        assert_keypoints(one, arrays, f"kp_audio{frame}")


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(head, marks=() if head == published().emotion.head else pytest.mark.exhaustive)
        for head in PUBLISHED_HEADS
    ],
)
def test_emotion_network(published_variables, arrays, images, head):
    config = published().replace({"emotion.head": head})
    keypoints = golden_keypoints(arrays, "kp_audio0")
    found = apply("emo_detector", published_variables, images["driver"], keypoints, config=config)
    assert_keypoints(found.displacement, arrays, f"emotion_{head}")
    assert_equal(found.logits, arrays[f"emotion_{head}_logits"])
    assert_equal(found.features, arrays["emotion_feature"])


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("driving", "prediction"),
    [
        ("kp_driver", "generator_prediction"),
        ("kp_audio0", "generator_audio_prediction"),
    ],
)
def test_generator(published_variables, arrays, images, driving, prediction):
    keypoints = (golden_keypoints(arrays, name) for name in ("kp_source", driving))
    found = apply("generator", published_variables, images["source"], *keypoints)
    crop = np.moveaxis(found.prediction[:, CROP, CROP], -1, 1)
    assert_equal(crop, arrays[f"{prediction}_crop"])
    if driving == "kp_driver":
        occlusion = np.moveaxis(found.motion.occlusion, -1, 1)
        assert_equal(occlusion, arrays["generator_occlusion_map"])
        assert_equal(found.motion.deformation, arrays["dense_motion_deformation"])
