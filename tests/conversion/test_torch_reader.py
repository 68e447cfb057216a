"""Reading checkpoints in both formats; whatever else is in a file is said in one line."""

from __future__ import annotations

import argparse
import contextlib
import io
import pickle
import struct
import tarfile
import types
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import PurePosixPath, PureWindowsPath

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eamm_jax.conversion.restricted_pickle import Global
from eamm_jax.conversion.torch_reader import open_torch_file
from eamm_jax.conversion.torch_tensors import walk_tensors
from eamm_jax.errors import UserError
from tests.conversion.torch_files import (
    FORMATS,
    ORDERED_DICT,
    REBUILD,
    STORAGES,
    Call,
    Name,
    Persistent,
    Strided,
    contiguous,
    pickled,
    stream_bytes,
    zip_bytes,
)

LAYOUTS = pytest.mark.parametrize("layout", ["zip", "stream"])
DTYPES = pytest.mark.parametrize("dtype", list(STORAGES), ids=str)


@pytest.fixture
def load(tmp_path):
    """Writes bytes to a file and reads all of it: content with arrays for tensors."""
    path = tmp_path / "weights.pth.tar"

    def load(data: bytes):
        path.write_bytes(data)
        with open_torch_file(path) as file:
            for _, tensor in walk_tensors(file.content):
                tensor.read()
            return _arrays(file.content)

    return load


def _arrays(node):
    if isinstance(node, dict):
        return {key: _arrays(value) for key, value in node.items()}
    return node.read() if hasattr(node, "read") else node


def values(dtype, size=12) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=size) * 50).astype(dtype)


@LAYOUTS
@DTYPES
def test_every_dtype_in_both_formats(load, layout, dtype):
    array = values(dtype).reshape(3, 4)
    loaded = load(FORMATS[layout]({"model": {"weight": array}}))["model"]["weight"]
    assert loaded.dtype == array.dtype
    assert loaded.dtype.isnative
    np.testing.assert_array_equal(loaded, array)


@DTYPES
def test_files_of_big_endian_machines(load, dtype):
    array = values(dtype)
    loaded = load(zip_bytes({"weight": array}, byteorder="big"))["weight"]
    assert loaded.dtype.isnative
    np.testing.assert_array_equal(loaded, array)


def test_files_without_byte_order_are_little_endian(load):
    array = values(np.float32)
    assert np.array_equal(load(zip_bytes({"a": array}, byteorder=None))["a"], array)


def test_streams_of_big_endian_machines_hold_little_endian_values(load):
    # Such a machine wrote only the counts in its own order.
    array = values(np.float32)
    system = {"little_endian": False}
    data = stream_bytes({"a": array}, system=system)
    count = struct.pack("<q", array.size)
    position = data.rindex(count)
    swapped = data[:position] + count[::-1] + data[position + 8 :]
    for variant in (data, swapped):
        np.testing.assert_array_equal(load(variant)["a"], array)


@LAYOUTS
@given(array=hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_any_shape(load, layout, array):
    loaded = load(FORMATS[layout]({"a": array}))["a"]
    assert loaded.shape == array.shape
    np.testing.assert_array_equal(loaded, array)


@LAYOUTS
def test_strided_and_shared_storages(load, layout):
    base = np.arange(24, dtype=np.float32)
    tensors = {
        "transposed": Strided(base, 0, (6, 4), (1, 6)),
        "rows_of_two": Strided(base, 6, (2, 3), (6, 2)),
        "last": Strided(base, 23, (), ()),
        "repeated": Strided(base, 3, (4,), (0,)),
        "beyond_but_empty": Strided(base, 24, (0, 3), (3, 1)),
    }
    loaded = load(FORMATS[layout](tensors))
    np.testing.assert_array_equal(loaded["transposed"], base.reshape(4, 6).T)
    np.testing.assert_array_equal(loaded["rows_of_two"], [[6, 8, 10], [12, 14, 16]])
    np.testing.assert_array_equal(loaded["last"], 23)
    np.testing.assert_array_equal(loaded["repeated"], [3, 3, 3, 3])
    assert loaded["beyond_but_empty"].shape == (0, 3)
    loaded["transposed"][0, 0] = 99  # each array is its own
    assert loaded["last"] == 23


def test_views_of_storages_in_streams(load):
    base = np.arange(10, dtype=np.float32)
    loaded = load(stream_bytes({"a": Strided(base, 1, (2,), (1,), view=(4, 3))}))["a"]
    np.testing.assert_array_equal(loaded, [5, 6])


@LAYOUTS
def test_tensors_saved_on_a_gpu(load, layout):
    base = np.arange(4, dtype=np.float32)
    content = {"a": Strided(base, 0, (4,), (1,), location="cuda:1"), "device": _device()}
    loaded = load(FORMATS[layout](content))
    np.testing.assert_array_equal(loaded["a"], base)
    assert loaded["device"] == "cuda:1"


def _device():
    return Call(Name("torch", "device"), ("cuda", 1))


@LAYOUTS
def test_parameters_sizes_and_dictionaries(load, layout):
    array = values(np.float32)
    parameter = Call(Name("torch._utils", "_rebuild_parameter"), (array, True, {}))
    content = {
        "model": Call(ORDERED_DICT, ([["weight", parameter]],), {"_metadata": {"": {}}}),
        "size": Call(Name("torch", "Size"), ((1, 2),)),
        "epoch": 12,
        "note": "text",
        "rate": 2e-4,
    }
    loaded = load(FORMATS[layout](content))
    np.testing.assert_array_equal(loaded["model"]["weight"], array)
    assert loaded["size"] == (1, 2)
    assert (loaded["epoch"], loaded["note"], loaded["rate"]) == (12, "text", 2e-4)


def test_tensors_of_the_first_version(load):
    base = np.arange(6, dtype=np.float32)
    storage = Persistent(("storage", Name("torch", "FloatStorage"), "0", "cpu", 6))
    old = Call(Name("torch._utils", "_rebuild_tensor"), (storage, 0, (2, 3), (3, 1)))
    loaded = load(zip_bytes({"a": old}, extra={"data/0": base.tobytes()}))["a"]
    np.testing.assert_array_equal(loaded, base.reshape(2, 3))


@pytest.mark.parametrize("number", [np.float64(2.5), np.int64(-3), np.float32(0.1), np.bool_(1)])
@pytest.mark.parametrize("protocol", [2, 4])
def test_numpy_numbers_become_plain_ones(load, number, protocol):
    data = pickle.dumps({"best": number}, protocol)
    loaded = load(zip_bytes({}, extra={"data.pkl": data}))
    assert loaded == {"best": number.item()}
    assert type(loaded["best"]) is type(number.item())


@pytest.mark.parametrize("number", [np.complex64(1), np.datetime64(0, "s"), np.str_("a")])
def test_other_numpy_values_are_refused(load, number):
    data = pickle.dumps({"best": number}, 2)
    with pytest.raises(UserError, match="NumPy value of type"):
        load(zip_bytes({}, extra={"data.pkl": data}))


PLAIN_CONTAINERS = {
    "counter": (Counter({60: 1, 90: 2}), {60: 1, 90: 2}),
    "defaultdict": (defaultdict(list, {"a": [1]}), {"a": [1]}),
    "ordered": (OrderedDict(z=1, a=2), {"z": 1, "a": 2}),
    "namespace": (argparse.Namespace(lr=0.1, config="x.yaml"), {"lr": 0.1, "config": "x.yaml"}),
    "simple namespace": (types.SimpleNamespace(a=1), {"a": 1}),
    "set": ({3}, [3]),
    "frozenset": (frozenset({"a"}), ["a"]),
    "deque": (deque([1, 2], maxlen=5), [1, 2]),
    "path": (PurePosixPath("/home/x"), "/home/x"),
    "windows path": (PureWindowsPath("x"), "x"),
    "bytes": (b"\x00\xff", b"\x00\xff"),
    "bytearray": (bytearray(b"\x00\xff"), b"\x00\xff"),
    "type": (float, Global("builtins.float")),
    "type of NumPy": (np.float32, Global("numpy.float32")),
}


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize(("value", "read"), PLAIN_CONTAINERS.values(), ids=list(PLAIN_CONTAINERS))
def test_plain_containers_become_plain_values(load, value, read, protocol):
    data = pickle.dumps({"extra": [value, {"nested": value}], "epoch": 3}, protocol)
    loaded = load(zip_bytes({}, extra={"data.pkl": data}))
    first, second = loaded["extra"][0], loaded["extra"][1]["nested"]
    if isinstance(read, Global):
        first = Global(first.name.replace("__builtin__", "builtins"))  # as Python 2 says it
        second = first
    assert first == second == read
    assert loaded["epoch"] == 3


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("value", [np.arange(6.0).reshape(2, 3), np.dtype(np.float32)], ids=type)
def test_numpy_values_among_the_weights_are_passed_over(load, value, protocol):
    data = pickle.dumps({"mean": value, "epoch": 3}, protocol)
    assert load(zip_bytes({}, extra={"data.pkl": data}))["epoch"] == 3


@pytest.mark.parametrize("name", ["float32", "bfloat16", "int64"])
def test_types_of_pytorch_are_passed_over(load, name):
    assert load(zip_bytes({"dtype": Name("torch", name)}))["dtype"] == Global(f"torch.{name}")


class Custom:
    """Like a class of somebody's own that a checkpoint may hold."""


@pytest.mark.parametrize("protocol", [2, 4])
def test_other_classes_are_refused_with_a_way_out(load, protocol):
    data = pickle.dumps({"config": Custom(), "epoch": 3}, protocol)
    with pytest.raises(
        UserError, match=r"Custom'.*docs/conversion.md says how to save its weights"
    ):
        load(zip_bytes({}, extra={"data.pkl": data}))


def test_checkpoints_of_newer_pickle_protocols(load):
    assert load(zip_bytes({"a": values(np.float32)}, protocol=4))["a"].shape == (12,)


def test_tensors_are_read_only_when_asked(tmp_path):
    path = tmp_path / "weights.pth.tar"
    data = zip_bytes({"wanted": values(np.float32), "optimizer": values(np.float64)})
    damaged = data.replace(values(np.float64).tobytes(), bytes(96))
    assert damaged != data
    path.write_bytes(damaged)
    with open_torch_file(path) as file:
        np.testing.assert_array_equal(file.content["wanted"].read(), values(np.float32))
        with pytest.raises(UserError, match="damaged"):
            file.content["optimizer"].read()


def test_closed_files_are_not_read(tmp_path):
    path = tmp_path / "weights.pth.tar"
    path.write_bytes(zip_bytes({"a": values(np.float32)}))
    with open_torch_file(path) as file:
        tensor = file.content["a"]
    with pytest.raises(ValueError, match="closed"):
        tensor.read()


def test_cyclic_content_is_walked_once(tmp_path):
    array = values(np.float32)
    path = tmp_path / "weights.pth.tar"
    path.write_bytes(zip_bytes({"a": array, "b": [{"c": (array,)}]}))
    with open_torch_file(path) as file:
        file.content["b"].append(file.content)
        assert len(list(walk_tensors(file.content))) == 2


# --- files that are not checkpoints -------------------------------------------------------


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(UserError, match=r"No such checkpoint: .*absent\.pth\.tar"):
        open_torch_file(tmp_path / "absent.pth.tar").__enter__()
    with pytest.raises(UserError, match="it is a folder, a file was expected"):
        open_torch_file(tmp_path).__enter__()


@pytest.mark.parametrize("given", [".", "archive"])
def test_an_unpacked_checkpoint_is_named_with_the_command_that_packs_it(tmp_path, given):
    folder = tmp_path / "un packed"
    (tmp_path / "w.pth").write_bytes(zip_bytes({"a": values(np.float32)}))
    with zipfile.ZipFile(tmp_path / "w.pth") as archive:
        archive.extractall(folder)
    with pytest.raises(UserError, match="a checkpoint was unpacked") as caught:
        open_torch_file(folder / given).__enter__()
    command = str(caught.value).partition("convert the file: ")[2]
    assert command == f"cd '{folder}' && zip -0 -r weights.pth archive"


def tar_bytes() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    return out.getvalue()


def plain_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("folder/readme.txt", "hello")
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello, this is a text\nfile of two lines\n", "not a PyTorch checkpoint"),
        (b"config: a\nmodel: b\n", "not a PyTorch checkpoint"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a PyTorch checkpoint"),
        (b"\n<!DOCTYPE html><html>quota exceeded</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
        (tar_bytes(), "tar archive"),
        (plain_zip(), "no data.pkl"),
        (zip_bytes({}, extra={"constants.pkl": pickled(())}), "TorchScript"),
        (pickled({"a": 1}), "not a PyTorch checkpoint"),
        (pickle.dumps([1, 2]), "not a PyTorch checkpoint"),
    ],
)
def test_other_files_are_told_apart(load, data, words):
    with pytest.raises(UserError, match=words) as caught:
        load(data)
    assert "\n" not in str(caught.value)
    assert "weights.pth.tar" in str(caught.value)


# --- hostile and corrupt files ------------------------------------------------------------

HOSTILE_VALUE = Call(Name("posix", "system"), ("touch canary",))


def inside_a_stream(position: int) -> bytes:
    """A stream in which one of the five pickles is hostile."""
    parts = [pickled(0x1950A86A20F9469CFC6C), pickled(1001), pickled({}), pickled({}), pickled([])]
    parts[position] = pickled(HOSTILE_VALUE)
    return b"".join(parts)


@pytest.mark.parametrize(
    "data",
    [
        zip_bytes({"model": HOSTILE_VALUE}),
        zip_bytes({"model": {"weight": values(np.float32)}, "args": [HOSTILE_VALUE]}),
        zip_bytes({"weight": Call(REBUILD, (HOSTILE_VALUE, 0, (), ()))}),
        zip_bytes({"weight": Persistent(("storage", Name("posix", "system"), "0", "cpu", 1))}),
        *(inside_a_stream(position) for position in range(5)),
        pickled(HOSTILE_VALUE),
        b"cposix\nsystem\n(S'touch canary'\ntR.",
    ],
)
def test_hostile_files_are_refused_by_name(load, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"refused: it asks for 'posix\.system'.*nothing in it"):
        load(data)
    assert not (tmp_path / "canary").exists()


def test_persistent_modules_are_refused(load):
    with pytest.raises(UserError, match="persistent object of type 'module'"):
        load(stream_bytes({"net": Persistent(("module", "Net", "net.py", "source"))}))


def tensor(offset=0, shape=(2,), stride=(1,), count=4, key="0", kind="FloatStorage") -> Call:
    storage = Persistent(("storage", Name("torch", kind), key, "cpu", count))
    return Call(REBUILD, (storage, offset, shape, stride, False, Call(ORDERED_DICT, ())))


RECORD = {"data/0": np.arange(4, dtype=np.float32).tobytes()}


def test_the_lying_tensors_below_would_be_read_if_they_did_not_lie(load):
    loaded = load(zip_bytes({"a": tensor(offset=2)}, extra=RECORD))["a"]
    np.testing.assert_array_equal(loaded, [2, 3])


@pytest.mark.parametrize(
    "lie",
    [
        {"offset": 3},
        {"offset": -1},
        {"offset": 2**62},
        {"offset": 2**80},
        {"shape": (5,)},
        {"shape": (2, 2), "stride": (3, 1)},
        {"shape": (2**40,)},
        {"shape": (2**62, 2**62), "stride": (0, 0)},
        {"shape": (2**40,), "stride": (0,)},
        {"shape": (-2,)},
        {"shape": (2,), "stride": (-1,)},
        {"shape": (2,), "stride": (2**62,)},
        {"shape": (2, 2), "stride": (1,)},
        {"shape": (1,) * 65, "stride": (1,) * 65},
        {"shape": (2.0,)},
        {"shape": ("2",)},
        {"shape": 2},
        {"shape": (True,)},
        {"count": 5},
        {"count": 2**61},
        {"count": -1},
        {"key": "1"},
        {"key": "../data.pkl"},
        {"key": 0},
        {"kind": "DoubleStorage", "shape": (4,)},
    ],
    ids=str,
)
def test_tensors_that_do_not_fit_their_storage(load, lie):
    with pytest.raises(UserError, match="truncated or damaged") as caught:
        load(zip_bytes({"a": tensor(**lie)}, extra=RECORD))
    assert len(str(caught.value)) < 500


def test_one_storage_has_one_type(load):
    two = {"a": tensor(), "b": tensor(kind="IntStorage")}
    with pytest.raises(UserError, match="damaged"):
        load(zip_bytes(two, extra=RECORD))


def test_unknown_storage_types_are_refused_by_name(load):
    with pytest.raises(UserError, match=r"torch\.QInt8Storage"):
        load(zip_bytes({"a": tensor(kind="QInt8Storage")}, extra=RECORD))


@pytest.mark.parametrize("view", [(8, 3), (11, 0), (-1, 2), (0, -1), (2**62, 2**62), ("0", 1)])
def test_views_beyond_their_storage(load, view):
    base = np.arange(10, dtype=np.float32)
    with pytest.raises(UserError, match="damaged"):
        load(stream_bytes({"a": Strided(base, 0, (0,), (1,), view=view)}))


def test_tensors_beyond_their_view(load):
    base = np.arange(10, dtype=np.float32)
    with pytest.raises(UserError, match="reaches element 3"):
        load(stream_bytes({"a": Strided(base, 2, (2,), (1,), view=(4, 3))}))


@pytest.mark.parametrize("keys", [[], ["0", "0"], ["0", "1"], ["1"], [0]])
def test_streams_whose_list_of_storages_lies(load, keys):
    with pytest.raises(UserError, match="damaged"):
        load(stream_bytes({"a": values(np.float32)}, keys=keys))


def test_streams_of_an_unknown_protocol(load):
    with pytest.raises(UserError, match="protocol is not 1001"):
        load(stream_bytes({}, protocol=1002))


def test_streams_whose_counts_differ(load):
    data = stream_bytes({"a": values(np.float32)})
    count = struct.pack("<q", 12)
    position = data.rindex(count)
    with pytest.raises(UserError, match="should have 12 values, and has 11"):
        load(data[:position] + struct.pack("<q", 11) + data[position + 8 :])


def test_compressed_archives_are_refused(load):
    # So that no archive can unpack to more than its own size.
    with pytest.raises(UserError, match="compressed"):
        load(zip_bytes({"a": np.zeros(10**6, np.float32)}, compression=zipfile.ZIP_DEFLATED))


def test_archives_with_two_records_of_one_name(load):
    out = io.BytesIO(zip_bytes({"a": values(np.float32)}))
    with (
        zipfile.ZipFile(out, "a") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        archive.writestr("archive/data.pkl", pickled(HOSTILE_VALUE))
    with pytest.raises(UserError, match="several records"):
        load(out.getvalue())


def test_unknown_byte_orders(load):
    for order in ("middle", "little and big"):
        with pytest.raises(UserError, match="byte order"):
            load(zip_bytes({}, byteorder=order))


def test_checksums_are_compared(load):
    array = values(np.float32)
    data = zip_bytes({"model": {"a": array}})
    position = data.index(array.tobytes())
    damaged = data[: position + 5] + bytes([data[position + 5] ^ 1]) + data[position + 6 :]
    with pytest.raises(UserError, match=r"archive/data/0"):
        load(damaged)


def test_archives_without_checksums_are_read(load):
    # PyTorch can leave them out: zeros, in the entry and in the directory.
    array = values(np.float32)
    data = bytearray(zip_bytes({"a": array}))
    for signature, field in [(b"PK\x03\x04", 14), (b"PK\x01\x02", 16)]:
        position = data.find(signature)
        while position >= 0:
            data[position + field : position + field + 4] = bytes(4)
            position = data.find(signature, position + 1)
    np.testing.assert_array_equal(load(bytes(data))["a"], array)


def test_huge_pickles_are_refused(load, monkeypatch):
    monkeypatch.setattr("eamm_jax.conversion.torch_reader.MAX_PICKLE_BYTES", 100)
    with pytest.raises(UserError, match="its pickle has"):
        load(zip_bytes({"text": "x" * 200}))


def test_control_characters_of_a_file_do_not_reach_the_terminal(load):
    with pytest.raises(UserError) as caught:
        load(zip_bytes({"a": tensor(key="\x1b[2J\n")}, extra=RECORD))
    assert str(caught.value).isprintable()


SMALL = {
    "model": Call(ORDERED_DICT, ([["weight", contiguous(values(np.float32).reshape(3, 4))]],)),
    "half": values(np.float16),
    "brain": values(ml_dtypes.bfloat16),
    "optimizer": {"state": {0: {"step": 3, "average": values(np.float64)}}},
    "epoch": 3,
}
SMALL_FILES = {name: write(SMALL) for name, write in FORMATS.items()}

FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


@LAYOUTS
def test_the_file_that_is_damaged_below_is_sound(load, layout):
    assert load(SMALL_FILES[layout])["epoch"] == 3


@LAYOUTS
@given(st.data())
@FUZZ
def test_truncated_files_always_give_words(load, layout, data):
    whole = SMALL_FILES[layout]
    length = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(UserError) as caught:
        load(whole[:length])
    assert "\n" not in str(caught.value)


@LAYOUTS
@given(st.data())
@FUZZ
def test_damaged_files_give_values_or_words(load, layout, data):
    damaged = bytearray(SMALL_FILES[layout])
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UserError):
        load(bytes(damaged))


# --- files that PyTorch itself wrote ------------------------------------------------------


@pytest.mark.parametrize("name", ["zip.pth.tar", "legacy.pth.tar", "zip_cuda.pth.tar"])
def test_files_written_by_pytorch(shared, name):
    folder = shared / "reference" / "formats"
    with (
        np.load(folder / "expected.npz") as expected,
        open_torch_file(folder / name) as file,
    ):
        content = file.content
        read = 0
        for key, array in expected.items():
            model, tensor_name = key.split("/", 1)
            loaded = content[model][tensor_name].read()
            assert loaded.shape == array.shape
            np.testing.assert_array_equal(loaded.astype(array.dtype), array)
            read += 1
        assert read == len(content["model"]) + len(content["linear"])
        assert (content["epoch"], content["step"], content["note"]) == (12, 345, "text")


@pytest.mark.parametrize("name", ["zip.pth.tar", "legacy.pth.tar"])
def test_truncated_files_of_pytorch(shared, load, name):
    whole = (shared / "reference" / "formats" / name).read_bytes()
    for length in range(0, len(whole), 97):
        with pytest.raises(UserError):
            load(whole[:length])
