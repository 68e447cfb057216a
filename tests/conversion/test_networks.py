"""Networks convert whole, or the tensor that is wrong is named."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from eamm_jax.checkpoint import flatten
from eamm_jax.constants import NETWORKS as ALL_NETWORKS
from eamm_jax.conversion import tables
from eamm_jax.conversion.contents import strip_wrapper
from eamm_jax.conversion.networks import (
    convert_network,
    find_problems,
    with_discriminator_of,
)
from eamm_jax.errors import UserError, named
from eamm_jax.models.config import published
from eamm_jax.models.presets import tiny
from tests.conversion.stand_ins import UNUSED, gaussian, state_dict

NETWORKS = [network for network in ALL_NETWORKS if network in UNUSED]


@pytest.fixture
def detector() -> dict[str, np.ndarray]:
    return state_dict("kp_detector")


@pytest.mark.parametrize("network", NETWORKS)
def test_every_variable_comes_from_its_tensor(network):
    tensors = state_dict(network)
    converted = convert_network(network, tensors, tiny())
    found = flatten(converted.variables)
    entries = tables.table(network, tiny()).entries
    assert converted.tensors == len(entries) == len(found)
    for entry in entries:
        leaf = found[entry.path]
        assert leaf.dtype == np.float32
        assert leaf.flags.c_contiguous
        assert leaf.shape == entry.shape
        np.testing.assert_array_equal(leaf, entry.layout.convert(tensors[entry.name]))
    listed = {name for names in converted.unused.values() for name in names}
    assert listed == set(UNUSED[network])


def test_unused_tensors_may_be_absent(detector):
    for name in UNUSED["kp_detector"]:
        del detector[name]
    assert convert_network("kp_detector", detector, tiny()).unused == {}


def test_wrapped_names(detector):
    wrapped = {f"module.{name}": tensor for name, tensor in detector.items()}
    assert strip_wrapper(wrapped) == detector
    assert strip_wrapper(detector) == detector


def test_names_with_and_without_wrapper():
    with pytest.raises(UserError, match=r"kp.bias is there with and without 'module.'"):
        strip_wrapper({"kp.bias": 1, "module.kp.bias": 2})


def test_missing_tensors_are_named(detector):
    del detector["jacobian.weight"], detector["kp.bias"]
    with pytest.raises(UserError, match=r"kp_detector: .* 2 missing: kp.bias, jacobian.weight"):
        convert_network("kp_detector", detector, tiny())


def test_left_over_tensors_are_named(detector):
    detector["kp.extra"] = np.zeros(3, np.float32)
    with pytest.raises(UserError, match=r"1 left over: kp.extra"):
        convert_network("kp_detector", detector, tiny())


def test_misshapen_tensors_are_named(detector):
    detector["kp.weight"] = detector["kp.weight"][:, :, 1:]
    with pytest.raises(UserError, match=r"1 misshapen: kp.weight is 10x11x6x7, expected 10x11x7x7"):
        convert_network("kp_detector", detector, tiny())


def test_tensors_of_whole_numbers_are_named(detector):
    detector["kp.bias"] = np.zeros(10, np.int64)
    with pytest.raises(UserError, match=r"1 not floating-point: kp.bias holds int64"):
        convert_network("kp_detector", detector, tiny())


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_are_named(detector, value):
    detector["kp.bias"] = detector["kp.bias"].astype(np.float64)
    detector["kp.bias"][3] = value
    with pytest.raises(UserError, match=r"kp.bias has 1 values that are not finite"):
        convert_network("kp_detector", detector, tiny())


def test_another_gaussian_is_named(detector):
    detector["down.weight"] = gaussian() * np.float32(1.001)
    with pytest.raises(UserError, match=r"down.weight is not the gaussian of sigma 1.5"):
        convert_network("kp_detector", detector, tiny())


def test_long_lists_and_strange_names_stay_short_and_printable(detector):
    for name in list(detector)[:20]:
        del detector[name]
    detector["\x1b[31m" + "x" * 500] = np.zeros(1, np.float32)
    with pytest.raises(UserError, match="and 15 more") as caught:
        convert_network("kp_detector", detector, tiny())
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_naming_a_few():
    assert named(["a", "b"]) == "a, b"
    assert named(list("abcdefg")) == "a, b, c, d, e and 2 more"


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_precisions_become_float32(detector, dtype):
    detector["kp.bias"] = detector["kp.bias"].astype(dtype)
    converted = convert_network("kp_detector", detector, tiny())
    bias = converted.variables["params"]["head"]["heatmap"]["bias"]
    assert bias.dtype == np.float32
    np.testing.assert_array_equal(bias, detector["kp.bias"].astype(np.float32))
    assert converted.dtypes == {"float32": converted.tensors - 1, np.dtype(dtype).name: 1}


def test_the_published_model_is_not_the_tiny_one(detector):
    problems = find_problems("kp_detector", detector, published())
    assert "missing" in problems[0]
    assert "misshapen" in problems[1]


# --- which discriminator ------------------------------------------------------------------

DISCRIMINATORS = {
    "EAMM and vox-cpk": {},
    "vox-adv-cpk": {"discriminator.spectral_norm": False, "discriminator.use_keypoints": True},
    "taichi-cpk": {"discriminator.spectral_norm": False},
    "two scales": {"discriminator.scales": (1.0, 0.5)},
    "deeper and wider": {"discriminator.blocks": 3, "discriminator.width": 8},
}


@pytest.mark.parametrize("fields", DISCRIMINATORS.values(), ids=list(DISCRIMINATORS))
def test_the_discriminator_follows_from_its_tensors(fields):
    config = tiny().replace(fields)
    tensors = state_dict("discriminator", config)
    assert with_discriminator_of(tensors, tiny()) == config
    assert convert_network("discriminator", tensors, config).tensors == len(tensors)


@pytest.mark.parametrize(
    "name",
    [
        "discs.one.down_blocks.0.conv.weight",
        "discs.nan.down_blocks.0.conv.weight",
        "discs.2.down_blocks.0.conv.weight",
        "discs.1.down_blocks.zero.conv.weight",
        "something.else",
    ],
)
def test_what_is_no_discriminator_is_left_to_the_table(name):
    tensors = {name: np.zeros((8, 3, 4, 4), np.float32)}
    assert with_discriminator_of(tensors, tiny()) == tiny()
    assert find_problems("discriminator", tensors, tiny())
