"""Networks on disk: whole or absent, and checked before they are used."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from eamm_jax import bundled, checkpoint
from eamm_jax.checkpoint import (
    BANK_NAME,
    CARD_NAME,
    CONFIG_NAME,
    WEIGHTS_NAME,
    check_networks,
    describe,
    flatten,
    load_config,
    load_networks,
    load_provenance,
    model_folder,
    nest,
    parameter_count,
    save_networks,
    stored_networks,
    variable_shapes,
)
from eamm_jax.constants import METRIC_NETWORKS, NETWORKS
from eamm_jax.errors import UserError
from eamm_jax.models import Networks
from eamm_jax.models.presets import demo, tiny
from tests.conftest import ROOT

HEADS = ("discriminator", "kp_detector_a")
PROVENANCE = {"made_by": "a test", "sources": [{"name": "1-6000.pth.tar", "sha256": "0" * 64}]}


def random_variables(*networks: str) -> dict:
    rng = np.random.default_rng(0)
    return {
        network: nest(
            {
                path: rng.normal(size=shape).astype(np.float32)
                for path, shape in variable_shapes(network, tiny()).items()
            }
        )
        for network in networks
    }


@pytest.fixture(scope="module")
def networks():
    """Two small networks, one of them with a further collection."""
    return random_variables(*HEADS)


@pytest.fixture(scope="module")
def original(networks, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    save_networks(folder, tiny(), networks, provenance=PROVENANCE)
    return folder


@pytest.fixture
def saved(original, tmp_path) -> Path:
    """A copy of the model, to be damaged."""
    return Path(shutil.copytree(original, tmp_path / "model"))


def assert_same(found: dict, expected: dict) -> None:
    found, expected = flatten(found), flatten(expected)
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array)


def edit_tensors(folder: Path, change, *, checksums: bool = False) -> None:
    """Rewrites the weights, as another program would; their checksums go unless they stay."""
    tensors = load_file(folder / WEIGHTS_NAME)
    change(tensors)
    save_file(tensors, folder / WEIGHTS_NAME)
    document = json.loads((folder / CONFIG_NAME).read_text())
    if not checksums:
        del document["weights"]
    (folder / CONFIG_NAME).write_text(json.dumps(document))


# --- what was saved is loaded -------------------------------------------------------------


def test_networks_are_those_of_the_models():
    assert set(NETWORKS) == {*Networks._fields, "head_pose", *METRIC_NETWORKS}


def test_what_was_saved_is_loaded(original, networks):
    config, loaded = load_networks(original)
    assert config == tiny()
    assert_same(loaded, networks)
    for array in flatten(loaded).values():
        assert isinstance(array, np.ndarray)
        assert array.dtype == np.float32
    assert load_provenance(original) == PROVENANCE
    assert stored_networks(original) == HEADS
    assert {path.name for path in original.iterdir()} == {WEIGHTS_NAME, CONFIG_NAME, CARD_NAME}


def test_only_the_networks_asked_for_are_read(saved, networks):
    def change(tensors):
        tensors["discriminator.params.scale_0.score.bias"][...] += 1

    edit_tensors(saved, change, checksums=True)
    loaded = load_networks(saved, ["kp_detector_a"])[1]
    assert_same(loaded, {"kp_detector_a": networks["kp_detector_a"]})
    with pytest.raises(UserError, match="discriminator differs from its checksum"):
        load_networks(saved)


@pytest.mark.parametrize("dtype", checkpoint.DTYPES)
def test_shorter_numbers_on_disk(tmp_path, networks, dtype):
    save_networks(tmp_path / "model", tiny(), networks, dtype=dtype)
    kind = checkpoint.DTYPES[dtype]
    expected = {path: array.astype(kind) for path, array in flatten(networks).items()}
    full = load_networks(tmp_path / "model")[1]
    stored = load_networks(tmp_path / "model", dtype=None)[1]
    for path, array in flatten(stored).items():
        assert array.dtype == kind
        assert flatten(full)[path].dtype == np.float32
        np.testing.assert_array_equal(array, expected[path])
        np.testing.assert_array_equal(flatten(full)[path], expected[path].astype(np.float32))
    size = (tmp_path / "model" / WEIGHTS_NAME).stat().st_size
    values = sum(array.size for array in expected.values())
    assert size == pytest.approx(values * kind.itemsize, abs=10_000)


def test_the_head_pose_network_of_any_width_is_one_more(tmp_path, networks):
    for width in (4, 32):
        shapes = variable_shapes("head_pose", tiny(), width)
        head_pose = nest({path: np.ones(shape, np.float32) for path, shape in shapes.items()})
        save_networks(
            tmp_path / "model", tiny(), {**networks, "head_pose": head_pose}, overwrite=True
        )
        assert_same(load_networks(tmp_path / "model", ["head_pose"])[1]["head_pose"], head_pose)


def test_a_work_directory_stands_for_its_model(original, tmp_path):
    shutil.copytree(original, tmp_path / "run" / "model")
    (tmp_path / "run" / CONFIG_NAME).write_text('{"stage": "stage1"}')  # of the training
    assert model_folder(tmp_path / "run") == tmp_path / "run" / "model"
    assert load_networks(tmp_path / "run")[0] == load_config(tmp_path / "run") == tiny()
    assert stored_networks(tmp_path / "run") == HEADS


def test_the_same_input_gives_the_same_files(original, networks, tmp_path):
    save_networks(tmp_path / "again", tiny(), networks, provenance=PROVENANCE)
    for path in original.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_loading_traces_no_network(original, monkeypatch):
    # Tracing takes seconds; what `save_networks` checked is known by its fingerprint.
    monkeypatch.setattr(checkpoint, "variable_shapes", pytest.fail)
    load_networks(original)
    assert load_networks(bundled.MODEL)[0] == demo()


NO_DEVICE = """
from eamm_jax import bundled, checkpoint

checkpoint.load_networks(bundled.MODEL)
checkpoint.variable_shapes("kp_detector_a", checkpoint.load_config(bundled.MODEL))
print("ok")
"""


def test_loading_and_checking_need_no_device():
    environment = os.environ | {"JAX_PLATFORMS": "cuda", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", NO_DEVICE]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "ok\n", done.stderr


def test_counting_parameters(networks):
    head = networks["kp_detector_a"]
    assert parameter_count(head) == sum(leaf.size for leaf in flatten(head["params"]).values())
    assert parameter_count(head | {"batch_stats": head["params"]}) == parameter_count(head)


def test_the_card_has_a_header_that_the_hub_reads(original, networks):
    _, header, text = (original / CARD_NAME).read_text().split("---\n", 2)
    lines = dict(line.split(": ") for line in header.splitlines() if ": " in line)
    assert lines["library_name"] == "eamm_jax"
    assert lines["license"] == "other"
    for name, variables in networks.items():
        assert f"| `{name}` | {parameter_count(variables):,} |" in text


# --- models that cannot be used -----------------------------------------------------------


def refusal(folder: Path, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        load_networks(folder, *arguments)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 800
    return str(caught.value)


def test_networks_that_are_not_there(original):
    wanted = ["emo_detector", "audio_feature", "kp_detector_a"]
    words = refusal(original, wanted)
    assert "holds no emo_detector, audio_feature; the published weights are in 5-3000." in words
    check_networks(original, ["kp_detector_a"])
    with pytest.raises(UserError, match="holds no emo_detector"):
        check_networks(original, wanted)


def test_what_is_not_a_model(tmp_path):
    assert "No such checkpoint" in refusal(tmp_path / "absent")
    assert "is not a checkpoint: it has no model.safetensors and no config.json" in refusal(
        tmp_path
    )
    assert stored_networks(tmp_path) == ()
    file = tmp_path / "124_52000.pth.tar"
    file.write_bytes(b"PK")
    words = refusal(file)
    assert "is a file" in words
    assert "eamm-convert" in words


def edit_config(folder: Path, changes: dict) -> None:
    path = folder / CONFIG_NAME
    document = json.loads(path.read_text())
    config = load_config(folder).replace(changes)
    path.write_text(json.dumps(document | {"model": config.to_dict()}))


def test_a_configuration_of_another_model(saved):
    edit_config(saved, {"num_keypoints": 12})
    words = refusal(saved, ["kp_detector_a"])
    assert "does not fit its config.json: kp_detector_a: 4 misshapen" in words
    assert "params.heatmap.bias is 10, expected 12" in words


@pytest.mark.parametrize(
    ("blocks", "words"), [(3, "6 missing: params."), (1, " left over: params.")]
)
def test_variables_that_are_missing_or_left_over(saved, blocks, words):
    edit_config(saved, {"discriminator.blocks": blocks})
    refused = refusal(saved)
    assert "does not fit its config.json: discriminator: " in refused
    assert words in refused


@pytest.mark.parametrize(
    "model", [{"depth_of_mind": 3}, {"num_keypoints": 1e99}, {"generator": 3}, [], None, 5]
)
def test_a_model_configuration_of_another_version(saved, model):
    document = json.loads((saved / CONFIG_NAME).read_text())
    (saved / CONFIG_NAME).write_text(json.dumps(document | {"model": model}))
    refusal(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "[" * 100_000, "\ud800"])
def test_a_configuration_that_is_none(saved, text):
    (saved / CONFIG_NAME).write_text(text, errors="surrogatepass")
    assert "is damaged (config.json is not" in refusal(saved)


@pytest.mark.parametrize("part", [{"weights": 3}, {"weights": {"crc32": 3}}, {"provenance": []}])
def test_checksums_and_provenance_that_are_none(saved, part):
    document = json.loads((saved / CONFIG_NAME).read_text())
    (saved / CONFIG_NAME).write_text(json.dumps(document | part))
    assert "is damaged" in refusal(saved)


def test_permissions_are_not_damage(saved, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkpoint, "safe_open", denied)
    assert "cannot be read: permission denied" in refusal(saved)


BIAS = "kp_detector_a.params.heatmap.bias"
EDITS = {
    "missing": (lambda t: t.pop(BIAS), "1 missing: params.heatmap.bias"),
    "misshapen": (lambda t: t.update({BIAS: t[BIAS][1:]}), "is 9, expected 10"),
    "of another rank": (lambda t: t.update({BIAS: t[BIAS][None]}), "is 1x10, expected 10"),
    "unknown": (lambda t: t.update({f"{BIAS}2": t[BIAS]}), "1 left over: params.heatmap.bias2"),
    "of no network": (lambda t: t.update({"soul": t[BIAS]}), r"soul (F32)"),
    "of a strange name": (lambda t: t.update({"\x1b[2J\n": t[BIAS]}), "no network of ours"),
    "whole numbers": (lambda t: t.update({BIAS: t[BIAS].astype(np.int64)}), "bias (I64)"),
    "float64": (lambda t: t.update({BIAS: t[BIAS].astype(np.float64)}), "bias (F64)"),
    "no number": (lambda t: t[BIAS].__setitem__(3, np.nan), "not finite"),
    "infinite": (lambda t: t[BIAS].__setitem__(3, np.inf), "not finite"),
}


@pytest.mark.parametrize(("change", "words"), EDITS.values(), ids=list(EDITS))
def test_tensors_of_another_program_are_checked(saved, change, words):
    edit_tensors(saved, change)
    assert words in refusal(saved)


def test_tensors_of_another_program_may_be_sound(saved, networks):
    edit_tensors(saved, lambda tensors: None)
    assert_same(load_networks(saved)[1], networks)


def test_bfloat16_that_is_not_finite(saved):
    def change(tensors):
        tensors[BIAS] = np.full(10, np.nan, ml_dtypes.bfloat16)

    edit_tensors(saved, change)
    assert "not finite" in refusal(saved)


def header_of(**tensors) -> bytes:
    header = json.dumps(tensors).encode()
    return struct.pack("<Q", len(header)) + header


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HOSTILE = {
    "empty": b"",
    "a huge header": struct.pack("<Q", 1 << 62) + b"{}",
    "a header cut short": struct.pack("<Q", 1000) + b"{}",
    "no JSON": struct.pack("<Q", 4) + b"{{{{",
    "deeply nested": struct.pack("<Q", 100_000) + b"[" * 100_000,
    "no bytes behind the header": header_of(a=TENSOR),
    "more bytes than announced": header_of(a=TENSOR) + bytes(12),
    "overlapping tensors": header_of(a=TENSOR, b=TENSOR | {"data_offsets": [4, 12]}) + bytes(12),
    "a gap": header_of(a=TENSOR, b=TENSOR | {"data_offsets": [12, 20]}) + bytes(20),
    "an absurd shape": header_of(a=TENSOR | {"shape": [1 << 62, 1 << 62]}) + bytes(8),
    "a negative shape": header_of(a=TENSOR | {"shape": [-2]}) + bytes(8),
    "offsets backwards": header_of(a=TENSOR | {"data_offsets": [8, 0]}) + bytes(8),
    "another type": header_of(a=TENSOR | {"dtype": "OBJECT"}) + bytes(8),
    "control characters": header_of(**{"\x1b[2J": TENSOR}) + bytes(8),
    "a PyTorch file": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_files_are_refused_in_one_line(saved, data):
    (saved / WEIGHTS_NAME).write_bytes(data)
    refusal(saved)
    with pytest.raises(UserError):
        stored_networks(saved)
    with pytest.raises(UserError):
        describe(saved)


FUZZ = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None
)


@given(st.data())
@FUZZ
def test_every_flipped_bit_is_noticed(original, tmp_path, data):
    """In the weights as in the header; tracing for the message is left out."""
    folder = tmp_path / "flipped"
    shutil.copytree(original, folder, dirs_exist_ok=True)
    whole = bytearray((folder / WEIGHTS_NAME).read_bytes())
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    inside = data.draw(st.sampled_from([(0, header - 1), (header, len(whole) - 1)]))
    position, bit = data.draw(st.integers(*inside)), data.draw(st.integers(0, 7))
    whole[position] ^= 1 << bit
    (folder / WEIGHTS_NAME).write_bytes(whole)
    try:
        loaded = load_networks(folder)[1]
    except UserError:
        refusal(folder)
    else:
        # Free text and padding of the header do not matter to the values.
        assert position < header
        assert_same(loaded, load_networks(original)[1])


@given(st.data())
@FUZZ
def test_every_truncation_is_noticed(original, tmp_path, data):
    folder = tmp_path / "short"
    shutil.copytree(original, folder, dirs_exist_ok=True)
    whole = (folder / WEIGHTS_NAME).read_bytes()
    (folder / WEIGHTS_NAME).write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    refusal(folder)


# --- writing ------------------------------------------------------------------------------


def test_variables_must_fit_their_configuration(networks, tmp_path):
    config = tiny().replace({"num_keypoints": 12})
    with pytest.raises(ValueError, match="kp_detector_a does not fit its configuration"):
        save_networks(tmp_path / "model", config, {"kp_detector_a": networks["kp_detector_a"]})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("value", "dtype"), [(np.nan, "float32"), (1e5, "float16")])
def test_values_that_could_not_be_loaded_are_not_written(networks, tmp_path, value, dtype):
    flat = flatten(networks["kp_detector_a"])
    flat["params.heatmap.bias"] = np.full(10, value, np.float32)
    with pytest.raises(UserError, match=f"heatmap.bias has values that are not finite in {dtype}"):
        save_networks(tmp_path / "model", tiny(), {"kp_detector_a": nest(flat)}, dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_a_model_is_replaced_only_when_asked(saved, networks):
    head = {"kp_detector_a": networks["kp_detector_a"]}
    (saved / BANK_NAME).write_bytes(b"a bank goes with its emotion network")
    with pytest.raises(UserError, match=r"not empty; name another"):
        save_networks(saved, tiny(), head)
    save_networks(saved, tiny(), head, overwrite=True)
    assert list(load_networks(saved)[1]) == ["kp_detector_a"]
    assert not (saved / BANK_NAME).exists()


def test_only_a_model_is_replaced(saved, networks):
    (saved / "holiday.jpg").write_bytes(b"dear")
    with pytest.raises(UserError, match=r"also holds holiday.jpg"):
        save_networks(saved, tiny(), networks, overwrite=True)
    assert (saved / "holiday.jpg").read_bytes() == b"dear"


def test_outputs_that_cannot_be_made(networks, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="there is a file of that name"):
        save_networks(tmp_path / "file", tiny(), networks, overwrite=True)
    with pytest.raises(UserError, match="no folder"):
        save_networks(tmp_path / "absent" / "model", tiny(), networks)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), ZeroDivisionError()])
def test_failures_leave_nothing(networks, tmp_path, monkeypatch, error):
    def fail(_, path, *__):
        path.write_text("half")
        raise error

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(type(error)):
        save_networks(tmp_path / "model", tiny(), networks)
    assert not list(tmp_path.iterdir())


FULL_DISK = """
import resource

import numpy as np
from eamm_jax.checkpoint import nest, save_networks, variable_shapes
from eamm_jax.errors import UserError
from eamm_jax.models.presets import tiny

shapes = variable_shapes("kp_detector_a", tiny())
variables = nest({path: np.zeros(shape, np.float32) for path, shape in shapes.items()})
# No file may be larger: what a full disk says, too.
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    save_networks("model", tiny(), {"kp_detector_a": variables})
except UserError as error:
    print(error)
"""


def test_a_full_disk(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "Cannot write model: file too large; nothing was kept\n"
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())


def test_a_file_without_space_is_an_error_of_the_disk(networks, tmp_path, monkeypatch):
    words = "Error while serializing: I/O error: No space left on device (os error 28)"

    def fail(*_):
        raise checkpoint.SafetensorError(words)

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(UserError, match="model: no space left on device; nothing was kept"):
        save_networks(tmp_path / "model", tiny(), networks)
    assert not list(tmp_path.iterdir())


def test_the_weights_can_be_read_by_those_who_can_read_the_rest(original):
    modes = {path.stat().st_mode & 0o777 for path in original.iterdir()}
    assert len(modes) == 1


# --- listing ------------------------------------------------------------------------------


def test_listing_a_model(original):
    lines = describe(original)
    assert '"sha256": "' + "0" * 64 in lines
    assert "kp_detector_a: 4 tensors, 0.11 MB, float32" in lines
    assert "  params.heatmap.kernel  7x7x11x10  float32" in lines
