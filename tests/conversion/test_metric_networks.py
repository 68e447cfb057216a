"""A file of a network that measures becomes a folder of ours."""

from __future__ import annotations

import re

import numpy as np
import pytest

from eamm_jax.checkpoint import load_networks, stored_networks
from eamm_jax.conversion import published as conversion
from eamm_jax.conversion import tables
from eamm_jax.conversion.published import convert_files
from eamm_jax.errors import UserError
from eamm_jax.models.config import published
from tests.conversion import torch_files
from tests.models.metric_networks import stand_ins


def test_emotion_fan_is_converted_from_its_checkpoint(tmp_path):
    """As trained in parallel: with wrappers, an epoch and a head that is not used."""
    entries = tables.table("emotion_fan", published()).entries
    tensors = stand_ins({entry.name: entry.published_shape for entry in entries})
    unused = {"pred_fc1.weight": np.zeros((8, 512), np.float32), "pred_fc1.bias": np.zeros(8)}
    state = {f"module.{name}": array for name, array in (tensors | unused).items()}
    content = {"epoch": 61, "state_dict": state, "accuracy": 84.3655}
    path = torch_files.save(content, tmp_path / "self_relation-attention_61_84.3655")
    report = convert_files({"emotion_fan": path}, tmp_path / "out")
    assert stored_networks(tmp_path / "out") == ("emotion_fan",)
    assert list(report.networks["emotion_fan"].unused.values()) == [
        ["pred_fc1.weight", "pred_fc1.bias"]
    ]
    loaded = load_networks(tmp_path / "out")[1]["emotion_fan"]["params"]
    np.testing.assert_array_equal(loaded["pred"]["kernel"], tensors["pred_fc2.weight"].T)
    np.testing.assert_array_equal(
        loaded["trunk"]["stage_3_0"]["shortcut_conv"]["kernel"][0, 0],
        tensors["layer4.0.downsample.0.weight"][:, :, 0, 0].T,
    )


@pytest.fixture
def alexnet(tmp_path, monkeypatch):
    """The file of torchvision's AlexNet, and what stands in for the weights of LPIPS."""
    monkeypatch.setattr(conversion, "packaged_file", lambda package, name: None)
    entries = tables.table("lpips_alex", published()).entries
    tensors = stand_ins({entry.name: entry.published_shape for entry in entries})
    shares = {name: x for name, x in tensors.items() if name.startswith("lin")}
    classifier = {"classifier.6.bias": np.zeros(1000, np.float32)}
    trunk = classifier | {name: x for name, x in tensors.items() if name not in shares}
    return torch_files.save(trunk, tmp_path / "alexnet-owt-7be5be79.pth"), shares


def test_alexnet_gets_its_weights_of_lpips_from_beside_it(alexnet, tmp_path):
    path, shares = alexnet
    torch_files.save(shares, tmp_path / "alex.pth")
    report = convert_files({"lpips_alex": path}, tmp_path / "out")
    assert list(report.networks["lpips_alex"].unused.values()) == [["classifier.6.bias"]]
    loaded = load_networks(tmp_path / "out")[1]["lpips_alex"]["params"]
    np.testing.assert_array_equal(
        loaded["shares_5"]["kernel"][0, 0, :, 0], shares["lin4.model.1.weight"][0, :, 0, 0]
    )


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        (None, "No such weights of LPIPS: .*alex.pth; .*pip install --no-deps lpips"),
        ({"version": 0.1}, "alex.pth: has entries that are not tensors: version"),
        ({"lin0.weight": np.ones(3, np.float32)}, "lpips_alex: tensors are wrong: 5 missing"),
    ],
)
def test_weights_of_lpips_that_are_wrong_are_said(alexnet, tmp_path, beside, message):
    if beside is not None:
        torch_files.save(beside, tmp_path / "alex.pth")
    with pytest.raises(UserError) as caught:
        convert_files({"lpips_alex": alexnet[0]}, tmp_path / "out")
    assert re.search(message, str(caught.value))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
