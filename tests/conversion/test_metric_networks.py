"""A file of a network that measures becomes a folder of ours."""

from __future__ import annotations

import numpy as np

from eamm_jax.checkpoint import load_networks, stored_networks
from eamm_jax.conversion import tables
from eamm_jax.conversion.published import convert_files
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
