"""3DDFA_V2's files become one of ours, complete or not at all."""

from __future__ import annotations

import os
import pickle
from fractions import Fraction
from pathlib import Path

import jax
import numpy as np
import pytest

from eamm_jax.checkpoint import load_networks, load_provenance, stored_networks
from eamm_jax.conversion import tables
from eamm_jax.conversion.published import STATISTICS_NAME, convert_files, read_statistics
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
        for entry in tables.table("head_pose", tiny(), width=width).entries
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
    path = folder / STATISTICS_NAME
    path.write_bytes(pickle.dumps(statistics() if arrays is None else arrays, 3))
    return path


@pytest.mark.parametrize("layout", ["stream", "zip"])
def test_conversion_gives_a_folder_with_the_network(tmp_path, layout):
    network = write_network(tmp_path, layout=layout)
    write_statistics(tmp_path)
    report = convert_files({"pose": network}, tmp_path / "out")
    assert stored_networks(tmp_path / "out") == ("head_pose",)
    assert report.networks["head_pose"].source == network.name
    assert sum(map(len, report.networks["head_pose"].unused.values())) == 3
    assert load_provenance(tmp_path / "out")["sources"][0]["values"] == {"epoch": 62}
    variables = load_networks(tmp_path / "out")[1]["head_pose"]
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


def test_it_is_one_network_of_a_model(tmp_path):
    write_statistics(tmp_path)
    paths = {"pose": write_network(tmp_path), "audio": write_file(tmp_path, "audio")}
    for overwrite in (False, True):
        report = convert_files(paths, tmp_path / "out", config=tiny(), overwrite=overwrite)
    assert set(report.networks) == {"audio_feature", "kp_detector_a", "head_pose"}
    assert set(load_networks(tmp_path / "out")[1]) == set(report.networks)
    convert_files({"pose": paths["pose"]}, tmp_path / "out", overwrite=True)
    assert stored_networks(tmp_path / "out") == ("head_pose",)


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
    with pytest.raises(UserError, match=r"is not the head pose.*looks like the audio"):
        convert_files({"pose": other}, tmp_path / "out")
    with pytest.raises(UserError, match="looks like the head pose network"):
        convert_files({"audio": write_network(tmp_path)}, tmp_path / "out")


def test_statistics_are_found_beside_it_or_asked_for(tmp_path):
    network = write_network(tmp_path)
    with pytest.raises(UserError, match="put that file beside"):
        convert_files({"pose": network}, tmp_path / "out")
    (tmp_path / "other").mkdir()
    elsewhere = write_statistics(tmp_path / "other")
    convert_files({"pose": network}, tmp_path / "out", pose_statistics=elsewhere)


class Asking:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


GOOD = {"mean": np.zeros(OUTPUTS), "std": np.ones(OUTPUTS)}
OTHER_CONTENT = {
    "a path": GOOD | {"mean": Path("x")},
    "a number": GOOD | {"mean": 3.0},
    "too short": GOOD | {"mean": np.zeros(OUTPUTS - 1)},
    "too many": GOOD | {"more": np.zeros(OUTPUTS)},
    "too few": {"mean": np.zeros(OUTPUTS)},
    "an array": np.zeros(OUTPUTS),
}


@pytest.mark.parametrize("content", OTHER_CONTENT.values(), ids=list(OTHER_CONTENT))
def test_other_content_than_statistics(tmp_path, content):
    path = write_statistics(tmp_path, content)
    with pytest.raises(UserError, match=r"expected mean and std of 62 numbers each"):
        read_statistics(tmp_path / "network.pth", path)


def test_bad_statistics_are_answered_in_words_and_run_nothing(tmp_path):
    good = pickle.dumps(GOOD, 3)
    command = Asking(os.mkdir, (str(tmp_path / "ran"),))
    bad = {
        "mkdir": pickle.dumps({"mean": command}, 3),
        "Fraction": pickle.dumps({"mean": Fraction(1, 2)}, 3),
        "NumPy value of type": pickle.dumps({"mean": np.array([1, None], dtype=object)}, 3),
        "not well-formed": good[: len(good) // 2],
        "statistics": b"not a pickle",
    }
    for words, data in bad.items():
        path = tmp_path / STATISTICS_NAME
        path.write_bytes(data)
        with pytest.raises(UserError, match=words) as raised:
            read_statistics(tmp_path / "network.pth")
        assert "\n" not in str(raised.value), words
        assert [p.name for p in tmp_path.iterdir()] == [path.name], words
