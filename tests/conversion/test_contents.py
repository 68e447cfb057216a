"""What a file holds, told from names alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from eamm_jax.conversion.contents import describe, sort_content, strip_wrapper
from eamm_jax.conversion.torch_reader import open_torch_file
from eamm_jax.conversion.torch_tensors import walk_tensors
from eamm_jax.errors import UserError
from tests.conversion import torch_files
from tests.conversion.stand_ins import FILES, write_file


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("checkpoint", "it looks like the appearance and motion checkpoint"),
        ("audio", "it looks like the audio checkpoint"),
        ("emotion", "it looks like the emotion checkpoint"),
    ],
)
def test_describing_files(tmp_path, role, words):
    _, contents = describe(write_file(tmp_path, role))
    assert contents.guess().startswith(words)
    assert set(contents.networks) == set(FILES[role])


def test_describing_vgg_and_others(tmp_path):
    vgg = {"module.features.0.weight": np.zeros((64, 3, 3, 3), np.float32)}
    path = torch_files.save(vgg, tmp_path / "vgg.pth")
    assert describe(path)[1].guess().startswith("it looks like the VGG-19 weights")
    syncnet = {"netcnnaud.0.weight": np.zeros((64, 1, 3, 3), np.float32)}
    path = torch_files.save(syncnet, tmp_path / "syncnet_v2.model")
    assert describe(path)[1].guess().startswith("it looks like the SyncNet")
    alexnet = {f"features.{n}.weight": np.zeros((3, 3)) for n in (0, 3)}
    path = torch_files.save(alexnet, tmp_path / "alexnet.pth")
    assert describe(path)[1].guess().startswith("it looks like the AlexNet")
    vgg16 = {f"features.{n}.weight": np.zeros((3, 3)) for n in (0, 14, 17)}
    path = torch_files.save(vgg16, tmp_path / "vgg16.pth")
    assert describe(path)[1].guess().startswith("it looks like the VGG-16")
    inception = {"Conv2d_1a_3x3.conv.weight": np.zeros((32, 3, 3, 3), np.float32)}
    path = torch_files.save(inception, tmp_path / "inception.pth")
    assert describe(path)[1].guess().startswith("it looks like the Inception v3")
    path = torch_files.save({"net_g": {"weight": np.ones(3)}}, tmp_path / "x.pth")
    assert describe(path)[1].guess() == "it holds net_g"
    path = torch_files.save([1], tmp_path / "y.pth")
    with pytest.raises(UserError, match=r"y\.pth: it holds no networks"):
        describe(path)


def test_listing_what_is_nested_shared_or_cyclic(tmp_path):
    array = np.ones(3, np.float32)
    path = torch_files.save({"net": {"a": array, "rest": [{"b": array}, 3]}}, tmp_path / "x.pth")
    with open_torch_file(path) as file:
        entry = file.content["net"]
        entry["again"] = entry["a"]
        entry["self"] = file.content
        assert [name for name, _ in walk_tensors(entry, "net")] == ["net.a", "net.rest.0.b"]


def test_sorting(tmp_path):
    path = write_file(tmp_path, "audio", change=lambda c: c.update(other={"x": np.ones(2)}, lr=0.1))
    with open_torch_file(path) as file:
        found = sort_content(file)
    assert set(found.networks) == set(FILES["audio"])
    assert set(found.optimizers) == {"optimizer_x"}
    assert set(found.unknown) == {"other"}
    assert found.values == {"epoch": 3, "lr": 0.1}


def test_wrapped_names():
    tensors = {"kp.weight": 1, "kp.bias": 2}
    wrapped = {f"module.{name}": tensor for name, tensor in tensors.items()}
    assert strip_wrapper(wrapped) == strip_wrapper(tensors) == tensors
    with pytest.raises(UserError, match=r"has kp.bias with and without 'module.'"):
        strip_wrapper({"kp.bias": 1, "module.kp.bias": 2})


def test_looking_into_a_file_needs_neither_jax_nor_models():
    code = "import sys, eamm_jax.conversion.contents; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
