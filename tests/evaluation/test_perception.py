"""LPIPS of frames."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy import ndimage

from eamm_jax.checkpoint import save_networks
from eamm_jax.conversion.installed import load_vgg16
from eamm_jax.errors import UserError
from eamm_jax.evaluation import perception
from eamm_jax.evaluation.perception import Perception
from eamm_jax.evaluation.tools import make_tools
from eamm_jax.models import METRICS
from eamm_jax.models.config import published


@pytest.fixture(scope="module")
def measure():
    assert perception.is_installed()
    measured = Perception({"lpips": load_vgg16()})
    assert measured.name == "shift-tolerant LPIPS, VGG-16"
    return lambda made, truth: measured.distances(made, truth)["lpips"]


def test_distance_grows_with_blur_and_not_with_brightness(measure, rng):
    spots = ndimage.gaussian_filter(rng.normal(size=(64, 64, 3)), (2, 2, 0))
    sharp = (128 + 60 * spots / abs(spots).max()).astype(np.uint8)
    blurred = [ndimage.gaussian_filter(sharp, (sigma, sigma, 0)) for sigma in (1, 3)]
    frames = np.stack([sharp, sharp + 2, *blurred])
    still = np.stack([sharp] * 4)
    distances = measure({"changed": frames, "same": still}, still)
    np.testing.assert_array_equal(distances["same"], 0)
    same, brighter, slight, strong = distances["changed"]
    assert same == 0
    assert 0 < brighter < slight < strong


def test_frames_shown_again_are_not_computed_again(measure, rng, monkeypatch):
    one, two, three = rng.integers(0, 255, (3, 32, 32, 3)).astype(np.uint8)
    computed = []
    original = perception.features_of
    monkeypatch.setattr(
        perception, "features_of", lambda *given: computed.append(given) or original(*given)
    )
    truth = np.stack([one, two, one, two])
    shown = np.stack([three, three, one, three])
    found = measure({"shown": shown}, truth)["shown"]
    assert len(computed) == 5  # one, three; two; then two, three
    assert found[2] == 0
    assert found[1] == found[3] != found[0]
    computed.clear()
    still = np.stack([one] * 4)  # known from the truth of the moment before
    both = measure({"shown": shown, "still": still}, truth)
    assert len(computed) == 6
    np.testing.assert_array_equal(both["shown"], found)
    np.testing.assert_array_equal(both["still"], measure({"still": still}, truth)["still"])


def test_a_converted_network_adds_a_metric(tmp_path, rng):
    module, (shape,) = METRICS["lpips_alex"]
    variables = module.init(jax.random.key(0), np.zeros(shape, np.float32))
    save_networks(tmp_path / "metrics", published(), {"lpips_alex": variables})
    tools = make_tools("none", tmp_path / "metrics")
    assert tools.names["perception"] == "shift-tolerant LPIPS, VGG-16 and LPIPS 0.1, AlexNet"
    truth, frames = rng.integers(0, 255, (2, 1, 32, 32, 3)).astype(np.uint8)
    found = tools.perception.distances({"model": frames}, truth)
    assert list(found) == ["lpips", "lpips_alex"]
    assert found["lpips_alex"]["model"] > 0


def test_frames_that_are_too_small_are_refused_in_words(measure):
    small = np.zeros((1, 24, 24, 3), np.uint8)
    with pytest.raises(UserError, match=r"LPIPS needs frames of at least 32 pixels .* 24x24"):
        measure({"model": small}, small)
