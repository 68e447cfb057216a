"""3DDFA_V2's files become one of ours, complete or not at all."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import jax
import numpy as np
import pytest

from eamm_jax.conversion import head_pose
from eamm_jax.conversion.checkpoint import load_checkpoint
from eamm_jax.conversion.published import convert_files
from eamm_jax.errors import UserError
from eamm_jax.models.head_pose import OUTPUTS, SIZE, HeadPoseNetwork
from eamm_jax.models.presets import tiny
from tests.conversion import torch_files
from tests.conversion.stand_ins import write_file
from tests.conversion.torch_files import ORDERED_DICT, Call

WIDTH = 4


def tensors(width: int = WIDTH) -> dict[str, np.ndarray]:
    """Random ones by their published names, with those that are not used."""
    rng = np.random.default_rng(0)
    result = {
        entry.name: rng.uniform(0.5, 1, entry.published_shape).astype(np.float32)
        for entry in head_pose.table(width).entries
        if not entry.name.startswith("statistics.")
    }
    return result | {
        "fc_lm.weight": np.zeros((136, 32 * width), np.float32),
        "fc_lm.bias": np.zeros(136, np.float32),
        "bn1.num_batches_tracked": np.array(7),
    }


def statistics() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.uniform(1, 2, OUTPUTS).astype(np.float32) for name in ("mean", "std")}


def write_network(folder: Path, state=None, layout: str = "stream", **beside) -> Path:
    state = {f"module.{k}": v for k, v in (state or tensors()).items()}
    content = {"epoch": 62, "state_dict": Call(ORDERED_DICT, ([[k, v] for k, v in state.items()],))}
    return torch_files.save(content | beside, folder / "mb025_120x120.pth", layout)


def write_statistics(folder: Path, arrays=None) -> Path:
    path = folder / head_pose.STATISTICS_NAME
    path.write_bytes(pickle.dumps(arrays or statistics(), 3))
    return path


@pytest.mark.parametrize("layout", ["stream", "zip"])
def test_conversion_gives_a_folder_with_the_network(tmp_path, layout):
    network = write_network(tmp_path, layout=layout)
    write_statistics(tmp_path)
    report = convert_files({"pose": network}, tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"head_pose.npz", "report.json"}
    assert report.networks["head_pose"].source == network.name
    assert sum(map(len, report.networks["head_pose"].unused.values())) == 3
    assert json.loads((tmp_path / "out" / "report.json").read_text())["sources"][0]["values"] == {
        "epoch": 62
    }
    width, variables = head_pose.load(tmp_path / "out")
    assert width == WIDTH
    published = tensors()
    np.testing.assert_array_equal(
        variables["params"]["dw3_2"]["conv_sep"]["kernel"][0, 0],
        published["dw3_2.conv_sep.weight"][:, :, 0, 0].T,
    )
    np.testing.assert_array_equal(
        variables["params"]["dw6"]["conv_dw"]["kernel"][:, :, 0],
        published["dw6.conv_dw.weight"][:, 0].transpose(1, 2, 0),
    )
    np.testing.assert_array_equal(variables["statistics"]["std"], statistics()["std"])
    seen = np.zeros((1, SIZE, SIZE, 3), np.float32)
    assert jax.eval_shape(HeadPoseNetwork(WIDTH).apply, variables, seen).shape == (1, OUTPUTS)


def test_it_may_stand_in_a_checkpoint_and_is_replaced_with_it(tmp_path):
    write_statistics(tmp_path)
    paths = {"pose": write_network(tmp_path), "audio": write_file(tmp_path, "audio")}
    for overwrite in (False, True):
        report = convert_files(paths, tmp_path / "out", config=tiny(), overwrite=overwrite)
    assert set(report.networks) == {"audio_feature", "kp_detector_a", "head_pose"}
    assert head_pose.load(tmp_path / "out")[0] == WIDTH
    assert set(load_checkpoint(tmp_path / "out")[1]) == {"audio_feature", "kp_detector_a"}
    convert_files({"pose": paths["pose"]}, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "weights").exists()


def changed(**changes) -> dict[str, np.ndarray]:
    return {k: v for k, v in (tensors() | changes).items() if v is not None}


def test_what_is_wrong_is_named_and_nothing_is_written(tmp_path):
    cases = {
        "1 missing: dw4_1.bn_dw.bias": changed(**{"dw4_1.bn_dw.bias": None}),
        "1 left over: dw9.weight": changed(**{"dw9.weight": np.zeros(3, np.float32)}),
        "dw6.conv_sep.weight is 9x9": changed(
            **{"dw6.conv_sep.weight": np.zeros((9, 9), np.float32)}
        ),
        "not finite": changed(**{"fc_param.bias": np.full(OUTPUTS, np.nan, np.float32)}),
    }
    write_statistics(tmp_path)
    for words, state in cases.items():
        with pytest.raises(UserError, match=words) as raised:
            convert_files({"pose": write_network(tmp_path, state)}, tmp_path / "out")
        assert "mb025_120x120.pth: head_pose:" in str(raised.value)
        assert not (tmp_path / "out").exists()
    other = write_file(tmp_path, "audio")
    with pytest.raises(UserError, match=r"is not the head pose network.*--audio_checkpoint"):
        convert_files({"pose": other}, tmp_path / "out")
    with pytest.raises(UserError, match="to be given as --pose_network"):
        convert_files({"audio": write_network(tmp_path)}, tmp_path / "out")


def test_statistics_are_found_beside_it_or_asked_for(tmp_path):
    network = write_network(tmp_path)
    with pytest.raises(UserError, match="--pose_statistics"):
        convert_files({"pose": network}, tmp_path / "out")
    (tmp_path / "other").mkdir()
    elsewhere = write_statistics(tmp_path / "other")
    convert_files({"pose": network}, tmp_path / "out", pose_statistics=elsewhere)
    write_statistics(tmp_path, {"mean": np.zeros(61), "std": np.ones(62)})
    with pytest.raises(UserError, match=r"mean and std of 62"):
        convert_files({"pose": network}, tmp_path / "out2")
    assert not (tmp_path / "out2").exists()


def test_damaged_files_are_answered_in_words(tmp_path):
    write_statistics(tmp_path)
    convert_files({"pose": write_network(tmp_path)}, tmp_path / "out")
    path = tmp_path / "out" / head_pose.FILE_NAME
    good = path.read_bytes()
    with np.load(path) as stored:
        arrays = dict(stored)
    bias = "params/fc_param/bias"
    for change in ({bias: arrays[bias][:-1]}, {bias: np.full(OUTPUTS, np.inf, np.float32)}):
        np.savez(path, **(arrays | change))
        with pytest.raises(UserError, match="damaged"):
            head_pose.load(tmp_path / "out")
    for content in (good[: len(good) // 2], b"nothing"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="damaged"):
            head_pose.load(tmp_path / "out")
    path.unlink()
    with pytest.raises(UserError, match=r"convert_torch_weights\.py --pose_network"):
        head_pose.load(tmp_path / "out")
