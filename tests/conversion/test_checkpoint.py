"""Checkpoints on disk: whole or absent, and checked before they are used."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

from eamm_jax.conversion import checkpoint, tables
from eamm_jax.conversion.checkpoint import (
    CONFIG_NAME,
    FILES_NAME,
    REPORT_NAME,
    WEIGHTS_NAME,
    load_checkpoint,
    load_config,
    parameter_count,
    save_checkpoint,
)
from eamm_jax.errors import UserError
from eamm_jax.models.presets import tiny

HEADS = ("kp_detector_a", "discriminator")


def random_variables(*networks: str) -> dict:
    rng = np.random.default_rng(0)
    return {
        network: tables.nest(
            (path, rng.normal(size=shape).astype(np.float32))
            for path, shape in tables.flatten(tables.variable_shapes(network, tiny()))
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
    save_checkpoint(folder, tiny(), networks, report={"kind": "test"})
    return folder


@pytest.fixture
def saved(original, tmp_path) -> Path:
    """A copy of the checkpoint, to be spoilt."""
    return Path(shutil.copytree(original, tmp_path / "model"))


def assert_same(found: dict, expected: dict) -> None:
    found, expected = dict(tables.flatten(found)), dict(tables.flatten(expected))
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array)


def test_what_was_saved_is_loaded(original, networks):
    config, loaded = load_checkpoint(original)
    assert config == tiny()
    assert_same(loaded, networks)
    for _, leaf in tables.flatten(loaded):
        assert isinstance(leaf, jax.Array)
        assert leaf.dtype == np.float32
    assert json.loads((original / REPORT_NAME).read_text()) == {"kind": "test"}


def test_batch_statistics_and_a_checkpoint_without_report(tmp_path):
    variables = random_variables("kp_detector")
    save_checkpoint(tmp_path / "model", tiny(), variables)
    _, loaded = load_checkpoint(str(tmp_path / "model"))
    assert_same(loaded, variables)
    assert not (tmp_path / "model" / REPORT_NAME).exists()


def test_only_what_is_needed_is_read(saved, networks):
    shutil.rmtree(saved / WEIGHTS_NAME / "discriminator" / "d")
    loaded = load_checkpoint(saved, ["kp_detector_a"])[1]
    assert_same(loaded, {"kp_detector_a": networks["kp_detector_a"]})
    with pytest.raises(UserError, match=r"discriminator/d/.* is missing"):
        load_checkpoint(saved)


def test_arrays_go_where_they_are_wanted(original):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    loaded = load_checkpoint(original, HEADS[:1], sharding=sharding)[1]
    for _, leaf in tables.flatten(loaded):
        assert leaf.sharding == sharding


def test_counting_parameters(networks):
    head = networks["kp_detector_a"]["params"]
    count = sum(leaf.size for _, leaf in tables.flatten(head))
    assert parameter_count(networks["kp_detector_a"]) == count
    assert parameter_count(networks["kp_detector_a"], "batch_stats") == 0


# --- checkpoints that cannot be used ------------------------------------------------------


def test_networks_that_are_not_there(original):
    with pytest.raises(
        UserError,
        match="holds no emo_detector, audio_feature; "
        "convert again with --emotion_checkpoint, --audio_checkpoint",
    ):
        load_checkpoint(original, ["emo_detector", "audio_feature", "kp_detector_a"])


def test_what_is_not_a_checkpoint(tmp_path):
    with pytest.raises(UserError, match="No such checkpoint"):
        load_checkpoint(tmp_path / "absent")
    with pytest.raises(UserError, match="is not a checkpoint"):
        load_checkpoint(tmp_path)
    file = tmp_path / "124_52000.pth.tar"
    file.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"is a file.*convert_torch_weights"):
        load_checkpoint(file)


def edit_config(folder: Path, **fields) -> None:
    path = folder / CONFIG_NAME
    values = json.loads(path.read_text())
    for name, value in fields.items():
        values[name] = values[name] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(values))


def test_a_configuration_of_another_model(saved):
    edit_config(saved, num_keypoints=12)
    with pytest.raises(
        UserError, match=r"does not fit its model_config.json: .*heatmap/bias is float32 10, exp"
    ):
        load_checkpoint(saved)


def test_a_configuration_of_another_version(saved):
    edit_config(saved, depth_of_mind=3)
    with pytest.raises(UserError, match="unknown model configuration field: depth_of_mind"):
        load_config(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\ud800"])
def test_a_configuration_that_is_none(saved, text):
    (saved / CONFIG_NAME).write_text(text, errors="surrogatepass")
    with pytest.raises(UserError, match="damaged"):
        load_config(saved)


def test_variables_that_are_left_over_or_missing(networks, tmp_path):
    # Written for one configuration, described by another.
    save_checkpoint(tmp_path / "model", tiny(), networks)
    edit_config(tmp_path / "model", discriminator={"blocks": 3})
    with pytest.raises(UserError, match="discriminator: 6 missing: params/scale_0/conv_2/kernel"):
        load_checkpoint(tmp_path / "model")
    edit_config(tmp_path / "model", discriminator={"blocks": 1})
    with pytest.raises(UserError, match=r"left over: .*conv_1"):
        load_checkpoint(tmp_path / "model")


def data_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)


@pytest.mark.parametrize("damage", ["half", "empty", "gone", "flipped"])
def test_any_damaged_file_is_noticed(original, tmp_path, damage):
    for index, file in enumerate(data_files(original)):
        if file.name == REPORT_NAME:
            continue  # for people; nothing depends on it
        folder = Path(shutil.copytree(original, tmp_path / str(index)))
        path = folder / file.relative_to(original)
        data = bytearray(path.read_bytes())
        if damage == "gone":
            path.unlink()
        elif damage == "flipped":
            # A digit of the configuration would make another valid one: make it none.
            data[len(data) // 2] ^= 255
            path.write_bytes(data)
        else:
            path.write_bytes(data[: len(data) // 2] if damage == "half" else b"")
        with pytest.raises(UserError) as caught:
            load_checkpoint(folder)
        assert "\n" not in str(caught.value)
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    "files",
    [
        [],
        {"../model_config.json": [1, 2]},
        {"/etc/passwd": [1, 2]},
        {"_CHECKPOINT_METADATA": 3},
        {"_CHECKPOINT_METADATA": ["1", "2"]},
    ],
)
def test_a_list_of_files_that_lies(saved, files):
    (saved / FILES_NAME).write_text(json.dumps(files))
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(saved)


def test_a_network_that_orbax_cannot_describe(saved):
    (saved / WEIGHTS_NAME / "discriminator" / "_METADATA").write_text("{}")
    (saved / FILES_NAME).write_text("{}")
    with pytest.raises(UserError, match="weights cannot be read"):
        load_checkpoint(saved)


def test_orbax_that_fails_is_said_in_words(saved, monkeypatch):
    monkeypatch.setattr(checkpoint.ocp, "load_checkpointables", lambda *_: 1 / 0)
    with pytest.raises(UserError, match="weights cannot be read"):
        load_checkpoint(saved)


# --- writing ------------------------------------------------------------------------------


def test_variables_must_fit_their_configuration(networks, tmp_path):
    config = dataclasses.replace(tiny(), num_keypoints=12)
    with pytest.raises(ValueError, match="kp_detector_a does not fit its configuration"):
        save_checkpoint(tmp_path / "model", config, networks)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_replaced_only_when_asked(saved, networks):
    head = {"kp_detector_a": networks["kp_detector_a"]}
    with pytest.raises(UserError, match=r"not empty.*--overwrite"):
        save_checkpoint(saved, tiny(), head)
    save_checkpoint(saved, tiny(), head, overwrite=True)
    assert list(load_checkpoint(saved)[1]) == ["kp_detector_a"]


def test_only_a_checkpoint_is_replaced(saved, networks):
    (saved / "holiday.jpg").write_bytes(b"dear")
    with pytest.raises(UserError, match=r"also holds holiday.jpg"):
        save_checkpoint(saved, tiny(), networks, overwrite=True)
    assert (saved / "holiday.jpg").read_bytes() == b"dear"


def test_outputs_that_cannot_be_made(networks, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="there is a file of that name"):
        save_checkpoint(tmp_path / "file", tiny(), networks, overwrite=True)
    with pytest.raises(UserError, match="no folder"):
        save_checkpoint(tmp_path / "absent" / "model", tiny(), networks)


@pytest.mark.parametrize("error", [OSError("disk"), KeyboardInterrupt(), SystemExit(143)])
def test_failures_leave_nothing(networks, tmp_path, monkeypatch, error):
    def fail(path, *_):
        path.mkdir()
        (path / "half").write_text("written")
        raise error

    monkeypatch.setattr(checkpoint, "_save_weights", fail)
    expected = UserError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        save_checkpoint(tmp_path / "model", tiny(), networks)
    assert not list(tmp_path.iterdir())


def test_errors_of_tensorstore_are_said_in_words(networks, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("OUT_OF_RANGE: Failed to write [os_error_code='28']")

    monkeypatch.setattr(checkpoint, "_save_weights", fail)
    with pytest.raises(UserError, match="the disk is full or failed; nothing was kept"):
        save_checkpoint(tmp_path / "model", tiny(), networks)


def test_defects_keep_their_traceback(networks, tmp_path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(checkpoint, "_save_weights", fail)
    with pytest.raises(ZeroDivisionError):
        save_checkpoint(tmp_path / "model", tiny(), networks)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_wait_for_the_writer_and_then_leave_nothing(
    networks, tmp_path, monkeypatch, number
):
    class Stopped(BaseException):
        pass

    def stop(*_):
        raise Stopped

    finished = []

    def save(*_):
        os.kill(os.getpid(), number)
        finished.append(True)  # an exception here would have left Orbax's threads at work

    monkeypatch.setattr(checkpoint.ocp, "save_checkpointables", save)
    previous = signal.signal(number, stop)
    try:
        with pytest.raises(Stopped):
            save_checkpoint(tmp_path / "model", tiny(), networks)
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, previous)
    assert finished == [True]
    assert not list(tmp_path.iterdir())


def test_threads_can_save(networks, tmp_path):
    # Only the main thread may touch signals.
    head = {"kp_detector_a": networks["kp_detector_a"]}
    thread = threading.Thread(target=save_checkpoint, args=(tmp_path / "model", tiny(), head))
    thread.start()
    thread.join()
    assert_same(load_checkpoint(tmp_path / "model")[1], head)


FULL_DISK = """
import resource

import numpy as np
from eamm_jax.conversion import tables
from eamm_jax.conversion.checkpoint import save_checkpoint
from eamm_jax.errors import UserError
from eamm_jax.models.presets import tiny

shapes = tables.flatten(tables.variable_shapes("kp_detector_a", tiny()))
variables = tables.nest((path, np.zeros(shape, np.float32)) for path, shape in shapes)
# No file may be larger: what a full disk says, too.
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    save_checkpoint("model", tiny(), {"kp_detector_a": variables})
except UserError as error:
    print(error)
"""


def test_a_full_disk(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(checkpoint.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "Cannot write model: file too large; nothing was kept\n"
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())
