"""The published files as a set: which brings what, what is refused, what is reported."""

from __future__ import annotations

import hashlib
import json

import ml_dtypes
import numpy as np
import pytest

from eamm_jax.checkpoint import flatten, load_networks, load_provenance
from eamm_jax.constants import METRIC_NETWORKS, NETWORKS
from eamm_jax.conversion import tables
from eamm_jax.conversion.published import convert_files, convert_network, with_discriminator_of
from eamm_jax.errors import UserError
from eamm_jax.models.config import published
from eamm_jax.models.presets import tiny
from tests.conversion import torch_files
from tests.conversion.stand_ins import (
    FILES,
    NAMES,
    UNUSED,
    gaussian,
    state_dict,
    write_all,
    write_file,
)

BOTH = pytest.mark.parametrize("layout", ["zip", "stream"])


@pytest.fixture
def convert(tmp_path):
    """Converts files by role with the tiny configuration."""

    def convert(**paths):
        return convert_files(paths, tmp_path / "model", config=tiny())

    return convert


def assert_network(loaded: dict, network: str, config=None, seed: int = 0) -> None:
    config = config or tiny()
    expected = convert_network(network, state_dict(network, config, seed), config)[0]
    expected = flatten(expected)
    found = flatten(loaded[network])
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array)


@BOTH
def test_the_whole_set(convert, tmp_path, layout):
    report = convert(**write_all(tmp_path, layout=layout, prefix="module."))
    config, loaded = load_networks(tmp_path / "model")
    assert config == tiny()
    assert set(loaded) == set(NETWORKS) - {"vgg19", "head_pose", "vgg16", *METRIC_NETWORKS}
    for network in loaded:
        assert_network(loaded, network)
    assert [source.role for source in report.sources] == ["checkpoint", "audio", "emotion"]
    assert {source.layout for source in report.sources} == {layout}


@pytest.mark.parametrize("role", FILES)
def test_any_file_alone(convert, tmp_path, role):
    convert(**{role: write_file(tmp_path, role)})
    loaded = load_networks(tmp_path / "model")[1]
    assert set(loaded) == set(FILES[role])


def test_progress_names_what_is_being_done(tmp_path):
    told = []
    paths = {"audio": write_file(tmp_path, "audio")}
    convert_files(paths, tmp_path / "model", config=tiny(), progress=told.append)
    assert told[:2] == ["converting audio_feature", "converting kp_detector_a"]
    assert told[-1].startswith("writing")


# --- copies -------------------------------------------------------------------------------


def test_the_audio_checkpoint_wins_over_the_copies_of_the_emotion_checkpoint(convert, tmp_path):
    audio = write_file(tmp_path, "audio", seed=1)
    emotion = write_file(tmp_path, "emotion", seed=2)
    report = convert(emotion=emotion, audio=audio)
    loaded = load_networks(tmp_path / "model")[1]
    assert_network(loaded, "audio_feature", seed=1)
    assert_network(loaded, "kp_detector_a", seed=1)
    assert_network(loaded, "emo_detector", seed=2)
    ((source, differing),) = report.networks["kp_detector_a"].copies.items()
    assert source == NAMES["emotion"]
    assert set(differing) == {"kp.weight", "kp.bias", "jacobian.weight", "jacobian.bias"}


def test_copies_that_are_the_same(convert, tmp_path):
    report = convert(**write_all(tmp_path))
    assert report.networks["audio_feature"].copies == {NAMES["emotion"]: []}


def test_copies_that_are_incomplete_or_misshapen(convert, tmp_path):
    def change(content):
        del content["kp_detector_a"]["kp.bias"]
        content["kp_detector_a"]["kp.weight"] = np.zeros((1, 2), np.float32)

    emotion = write_file(tmp_path, "emotion", change=change)
    report = convert(audio=write_file(tmp_path, "audio"), emotion=emotion)
    (differing,) = report.networks["kp_detector_a"].copies.values()
    assert set(differing) == {"kp.weight", "kp.bias"}


# --- the report ---------------------------------------------------------------------------


def test_the_report(convert, tmp_path):
    paths = write_all(tmp_path)
    report = convert(**paths)
    saved = load_provenance(tmp_path / "model")
    assert saved == report.provenance()
    assert "seconds" not in saved  # the same files give the same model
    assert report.seconds > 0
    source = saved["sources"][0]
    data = paths["checkpoint"].read_bytes()
    assert source["sha256"] == hashlib.sha256(data).hexdigest()
    assert source["bytes"] == len(data)
    assert source["name"] == NAMES["checkpoint"]
    assert source["values"] == {"epoch": 3}
    assert source["skipped"] == {"optimizer_x": 1}
    assert str(tmp_path) not in json.dumps(saved)
    network = saved["networks"]["kp_detector"]
    tensors = state_dict("kp_detector")
    trained = [
        name
        for name in tensors
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        and name != "down.weight"
    ]
    assert network["parameters"] == sum(tensors[name].size for name in trained)
    assert network["dtypes"] == {"float32": network["tensors"]}
    assert sorted(name for names in network["unused"].values() for name in names) == [
        "down.weight",
        "predictor.encoder.down_blocks.0.norm.num_batches_tracked",
    ]
    assert saved["discriminator"] == "with spectral norm; sees image"


def test_values_beside_the_networks_fit_a_report(convert, tmp_path):
    def change(content):
        content |= {
            "best": float("nan"),
            "huge": 10**400,
            "note": "\x1b[2J" + "x" * 1000,
            "arguments": {"lr": 1},
            "\x1bname": 1,
        }

    report = convert(audio=write_file(tmp_path, "audio", change=change))
    values = report.sources[0].values
    assert values["best"] == values["huge"] == "not a usual number"
    assert values["note"].isprintable()
    assert len(values["note"]) < 200
    assert "arguments" not in values
    assert all(name.isprintable() for name in values)
    text = (tmp_path / "model" / "config.json").read_text()
    json.loads(text, parse_constant=pytest.fail)


# --- the parent's checkpoints -------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "with spectral norm; sees image"),
        (
            {"discriminator.spectral_norm": False, "discriminator.use_keypoints": True},
            "without spectral norm; sees image and keypoints",
        ),
    ],
    ids=["vox-cpk", "vox-adv-cpk"],
)
def test_the_parents_checkpoints(convert, tmp_path, fields, words):
    config = tiny().replace(fields)
    path = write_file(tmp_path, "checkpoint", config=config, name="vox.pth.tar")
    report = convert(checkpoint=path)
    assert report.discriminator == words
    found, loaded = load_networks(tmp_path / "model")
    assert found == config
    assert_network(loaded, "discriminator", config)


def test_checkpoints_without_discriminator(convert, tmp_path):
    path = write_file(tmp_path, "checkpoint", change=lambda c: c.pop("discriminator"))
    report = convert(checkpoint=path)
    assert report.discriminator is None
    assert set(load_networks(tmp_path / "model")[1]) == {"kp_detector", "generator"}


# --- what is refused ----------------------------------------------------------------------


def nothing_made(tmp_path) -> bool:
    return not (tmp_path / "model").exists() and not list(tmp_path.glob(".model*"))


@pytest.mark.parametrize(
    ("given", "role", "words"),
    [
        ("audio", "checkpoint", "holds no kp_detector and no generator; it looks like the audio"),
        ("emotion", "checkpoint", "it looks like the emotion checkpoint"),
        ("emotion", "audio", None),  # it has what is needed
        ("checkpoint", "audio", "it looks like the appearance and motion checkpoint"),
        ("audio", "emotion", "holds no emo_detector; it looks like the audio checkpoint"),
        ("checkpoint", "vgg", "holds no vgg19; it looks like the appearance and motion"),
    ],
)
def test_files_given_in_anothers_place(convert, tmp_path, given, role, words):
    path = write_file(tmp_path, given)
    if words is None:
        convert(**{role: path})
        return
    with pytest.raises(UserError, match=words):
        convert(**{role: path})
    assert nothing_made(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "holds no networks by name"),
        ({3: 4}, "holds no networks by name"),
        ({"epoch": 3}, "it holds no tensors"),
        ({"net_g": {"weight": np.ones(3)}}, "it holds net_g"),
        ({"generator": [1], "kp_detector": {}}, "generator in it is not a state dict"),
        (
            {"generator": {"a": 1}, "kp_detector": {}},
            "generator in it has entries that are not tensors: a",
        ),
        (
            {"generator": {"a": np.ones(3), "module.a": np.ones(3)}, "kp_detector": {}},
            "with and without",
        ),
    ],
)
def test_files_of_another_kind(convert, tmp_path, content, words):
    path = torch_files.save(content, tmp_path / "x.pth.tar")
    with pytest.raises(UserError, match=words):
        convert(checkpoint=path)
    assert nothing_made(tmp_path)


def test_tensors_of_no_known_network(convert, tmp_path):
    def change(content):
        content["soul"] = {"weight": np.ones(3)}

    path = write_file(tmp_path, "audio", change=change)
    with pytest.raises(UserError, match="belong to no known network: soul"):
        convert(audio=path)
    assert nothing_made(tmp_path)


def test_wrong_tensors_are_named_with_their_file(convert, tmp_path):
    def change(content):
        del content["audio_feature"]["lstm.bias_hh_l1"]
        content["audio_feature"]["lstm.bias_hh_l7"] = np.zeros(3, np.float32)

    path = write_file(tmp_path, "audio", change=change)
    with pytest.raises(
        UserError,
        match=r"1-6000\.pth\.tar: audio_feature: tensors are wrong: "
        r"1 missing: lstm\.bias_hh_l1; 1 left over: lstm\.bias_hh_l7$",
    ):
        convert(audio=path)
    assert nothing_made(tmp_path)


def test_wrong_values_are_named_with_their_file(convert, tmp_path):
    def change(content):
        content["emo_detector"]["down.weight"][0, 0, 0, 0] += 0.1

    path = write_file(tmp_path, "emotion", change=change)
    with pytest.raises(UserError, match=r"5-3000\.pth\.tar: emo_detector: .* not the gaussian"):
        convert(emotion=path)
    assert nothing_made(tmp_path)


def test_published_sizes_are_expected_by_default(tmp_path):
    path = write_file(tmp_path, "audio")
    with pytest.raises(UserError, match="misshapen"):
        convert_files({"audio": path}, tmp_path / "model")


def test_nothing_given(convert):
    with pytest.raises(UserError, match="give at least one of the published files"):
        convert()


def test_files_that_are_not_there(convert, tmp_path):
    with pytest.raises(UserError, match=r"No such file for the appearance and .*absent"):
        convert(checkpoint=tmp_path / "absent.pth.tar")


def test_the_output_is_checked_before_anything_is_read(tmp_path, monkeypatch):
    path = write_file(tmp_path, "audio")
    monkeypatch.setattr("eamm_jax.conversion.published.open_torch_file", pytest.fail)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "file").write_text("")
    with pytest.raises(UserError, match="not empty"):
        convert_files({"audio": path}, tmp_path / "model", config=tiny())


# --- one network --------------------------------------------------------------------------


@pytest.fixture
def detector() -> dict[str, np.ndarray]:
    return state_dict("kp_detector")


@pytest.mark.parametrize("network", list(UNUSED))
def test_every_variable_comes_from_its_tensor(network):
    tensors = state_dict(network)
    variables, report = convert_network(network, tensors, tiny())
    found = flatten(variables)
    entries = tables.table(network, tiny()).entries
    assert report.tensors == len(entries) == len(found)
    for entry in entries:
        leaf = found[entry.path]
        assert leaf.dtype == np.float32
        assert leaf.flags.c_contiguous
        assert leaf.shape == entry.shape
        np.testing.assert_array_equal(leaf, entry.layout.convert(tensors[entry.name]))
    listed = {name for names in report.unused.values() for name in names}
    assert listed == set(UNUSED[network])


def test_unused_tensors_may_be_absent(detector):
    for name in UNUSED["kp_detector"]:
        del detector[name]
    assert convert_network("kp_detector", detector, tiny())[1].unused == {}


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


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_precisions_become_float32(detector, dtype):
    detector["kp.bias"] = detector["kp.bias"].astype(dtype)
    variables, report = convert_network("kp_detector", detector, tiny())
    bias = variables["params"]["head"]["heatmap"]["bias"]
    assert bias.dtype == np.float32
    np.testing.assert_array_equal(bias, detector["kp.bias"].astype(np.float32))
    assert report.dtypes == {"float32": report.tensors - 1, np.dtype(dtype).name: 1}


def test_the_published_model_is_not_the_tiny_one(detector):
    with pytest.raises(UserError, match=r"missing: .* misshapen: "):
        convert_network("kp_detector", detector, published())


# --- which discriminator ------------------------------------------------------------------

DISCRIMINATORS = {
    "EAMM and vox-cpk": {},
    "vox-adv-cpk": {"discriminator.spectral_norm": False, "discriminator.use_keypoints": True},
    "taichi-cpk": {"discriminator.spectral_norm": False},
}


@pytest.mark.parametrize("fields", DISCRIMINATORS.values(), ids=list(DISCRIMINATORS))
def test_the_discriminator_follows_from_its_tensors(fields):
    config = tiny().replace(fields)
    tensors = state_dict("discriminator", config)
    assert with_discriminator_of(tensors, tiny())[0] == config
    assert convert_network("discriminator", tensors, config)[1].tensors == len(tensors)


def test_what_is_no_discriminator_is_left_to_the_table():
    tensors = {"something.else": np.zeros((8, 3, 4, 4), np.float32)}
    config, _ = with_discriminator_of(tensors, tiny())
    with pytest.raises(UserError, match=r"missing.*left over: something\.else"):
        convert_network("discriminator", tensors, config)
