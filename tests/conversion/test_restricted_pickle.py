"""The pickle machine: plain data come out, everything else is refused and nothing runs."""

from __future__ import annotations

import builtins
import contextlib
import copyreg
import io
import os
import pickle
import pickletools
import subprocess
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eamm_jax.conversion import restricted_pickle
from eamm_jax.conversion.restricted_pickle import (
    CorruptError,
    Global,
    PickleError,
    RefusedError,
    load,
)
from tests.conversion.torch_files import ORDERED_DICT, Call, Name, Persistent, Raw, pickled

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


def run(data: bytes, **options):
    return load(io.BytesIO(data), lambda identity: ("stored", identity), **options)


@given(PLAIN, st.sampled_from([0, 1, 2, 3, 4, 5]))
def test_plain_values_come_out_as_pickle_reads_them(value, protocol):
    data = pickle.dumps(value, protocol)
    assert run(data) == value


@given(PLAIN)
def test_the_tests_own_writer_agrees_with_pickle(value):
    assert pickle.loads(pickled(value)) == run(pickled(value)) == value


@pytest.mark.parametrize("protocol", [2, 4])
def test_shared_and_cyclic_values(protocol):
    shared = ["leaf"]
    value = {"a": shared, "b": shared, "self": []}
    value["self"].append(value)
    loaded = run(pickle.dumps(value, protocol))
    assert loaded["a"] is loaded["b"]
    assert loaded["self"][0] is loaded


@pytest.mark.parametrize("protocol", [2, 4])
def test_ordered_dicts_keep_order_and_drop_their_attributes(protocol):
    value = OrderedDict([("z", 1), ("a", 2)])
    vars(value)["_metadata"] = {"version": 1}  # as in a published state dict
    loaded = run(pickle.dumps(value, protocol))
    assert list(loaded.items()) == [("z", 1), ("a", 2)]
    assert not hasattr(loaded, "_metadata")


def test_text_of_python_2():
    assert run(b"\x80\x02U\x03abcq\x00.") == "abc"
    assert run(b"(S'abc'\nI5\nt.") == ("abc", 5)


def test_text_with_unknown_escapes_gives_no_warning():
    assert run(b"S'\\d'\n.") == "\\d"


def test_names_stay_names():
    names = frozenset({"torch.FloatStorage"})
    assert run(pickled(Name("torch", "FloatStorage")), names=names) == Global("torch.FloatStorage")


def test_names_that_may_be_mentioned_may_not_be_called():
    names = frozenset({"torch.FloatStorage"})
    with pytest.raises(RefusedError, match=r"calls 'torch\.FloatStorage'"):
        run(pickled(Call(Name("torch", "FloatStorage"), (3,))), names=names)


def test_persistent_ids():
    assert run(pickled(Persistent(("a", 1)))) == ("stored", ("a", 1))


class Reduces:
    """Pickles as a call, whatever the protocol."""

    def __init__(self, function, *arguments):
        self.how = (function, arguments)

    def __reduce__(self):
        return self.how


class Marker:
    """Would record that its state was set, or that it was made."""

    made = 0

    def __new__(cls, *_):
        cls.made += 1
        return super().__new__(cls)

    def __setstate__(self, state):
        raise AssertionError("state was set")


def marker_pickle() -> bytes:
    marker = Marker()
    marker.x = 1
    return pickle.dumps(marker, 2)


HOSTILE = {
    "os.system": (pickle.dumps(Reduces(os.system, "touch {canary}"), 2), f"{os.name}.system"),
    "os.system, protocol 0": (
        pickle.dumps(Reduces(os.system, "touch {canary}"), 0),
        f"{os.name}.system",
    ),
    "os.system, protocol 4": (
        pickle.dumps(Reduces(os.system, "touch {canary}"), 4),
        f"{os.name}.system",
    ),
    "subprocess": (pickle.dumps(Reduces(subprocess.Popen, ["touch", "x"]), 3), "subprocess.Popen"),
    "eval": (pickled(Call(Name("builtins", "eval"), ("1/0",))), "builtins.eval"),
    "exec of Python 2": (pickled(Call(Name("__builtin__", "exec"), ("1/0",))), "__builtin__.exec"),
    "getattr": (
        pickled(Call(Name("builtins", "getattr"), (Name("os", "path"), "join"))),
        "builtins.getattr",
    ),
    "import": (pickled(Call(Name("builtins", "__import__"), ("os",))), "builtins.__import__"),
    "torch.load": (pickled(Call(Name("torch", "load"), ("other.pth",))), "torch.load"),
    "torch hub": (pickled(Call(Name("torch.hub", "load"), ("a/b", "c"))), "torch.hub.load"),
    "numpy.load": (pickled(Call(Name("numpy", "load"), ("other.npy",))), "numpy.load"),
    "pickle.loads": (pickled(Call(Name("pickle", "loads"), ("x",))), "pickle.loads"),
    "a name as plain value": (pickled({"a": [1, Name("os", "system")]}), "os.system"),
    "a name as argument": (
        pickled(Call(ORDERED_DICT, ((("a", Name("os", "getenv")),),))),
        "os.getenv",
    ),
    "nested calls": (
        pickled(Call(Call(Name("operator", "attrgetter"), ("system",)), (Name("os", "path"),))),
        "operator.attrgetter",
    ),
    "dotted attribute of an allowed name": (
        pickled(Name("collections", "OrderedDict.fromkeys")),
        "collections.OrderedDict.fromkeys",
    ),
    "module of an allowed name": (pickled(Name("collections", "abc")), "collections.abc"),
    "object with __setstate__": (marker_pickle(), "Marker"),
    "a name through the memo": (
        b"\x80\x02X\x02\x00\x00\x00osq\x05X\x06\x00\x00\x00systemq\x060h\x05h\x06\x93.",
        "POP",
    ),
    "a stacked name through the memo": (
        b"\x80\x04X\x02\x00\x00\x00osq\x05X\x06\x00\x00\x00systemq\x06h\x05h\x06\x93.",
        "os.system",
    ),
    "INST": (b"(S'touch {canary}'\nios\nsystem\n.", "os.system"),
    "INST of an allowed name": (b"(icollections\nOrderedDict\n.", "INST"),
    "OBJ": (b"(ccollections\nOrderedDict\no.", "OBJ"),
    "NEWOBJ": (b"\x80\x02cos\nsystem\n)\x81.", "os.system"),
    "NEWOBJ_EX": (b"\x80\x04ccollections\nOrderedDict\n)}\x92.", "NEWOBJ_EX"),
    "EXT1": (b"\x80\x02\x82\x01.", "EXT1"),
    "EXT2": (b"\x80\x02\x83\x01\x00.", "EXT2"),
    "EXT4": (b"\x80\x02\x84\x01\x00\x00\x00.", "EXT4"),
    "text persistent id": (b"P123\n.", "PERSID"),
    "out-of-band buffers": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "a byte array": (b"\x80\x05\x96\x01\x00\x00\x00\x00\x00\x00\x00a.", "BYTEARRAY8"),
    "a tuple as key": (pickled({("a", "b"): 1}), "tuple"),
}


@pytest.mark.parametrize(("data", "named"), HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_pickles_are_refused_by_name(data, named, tmp_path, monkeypatch):
    canary = tmp_path / "canary"
    data = data.replace(b"{canary}", str(canary).encode())
    # A tripwire on what any import or call would have to go through.
    for module, name in [(builtins, "eval"), (builtins, "exec"), (os, "system")]:
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("something was run"))
    before = Marker.made
    with pytest.raises(RefusedError) as caught:
        run(data)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not canary.exists()
    assert Marker.made == before


def test_registered_extensions_are_not_looked_up():
    copyreg.add_extension("os", "system", 0xF0)
    try:
        with pytest.raises(RefusedError, match="EXT1"):
            run(b"\x80\x02\x82\xf0X\x01\x00\x00\x00a\x85R.")
    finally:
        copyreg.remove_extension("os", "system", 0xF0)


def test_state_reaches_only_our_own_objects():
    made = run(pickled(Call(Name("argparse", "Namespace"), (), state={"a": 1})))
    assert made == {"a": 1}
    for plain in (5, "text", [1]):
        with pytest.raises(CorruptError, match="state"):
            run(b"\x80\x02" + pickled(plain)[2:-1] + b"}b.")


def test_functions_of_the_caller():
    call = pickled(Call(Name("our", "thing"), (3,)))
    assert run(call, functions={"our.thing": lambda number: number + 1}) == 4


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"N",
        b"\x80\x02NN.",
        b"\x80\x02(N.",
        b"\x80\x02t.",
        b"\x80\x02\x85.",
        b"\x80\x02h\x07.",
        b"\x80\x02Nq\x00h\x01.",
        b"\x80\x02N}s.",
        b"\x80\x02]NNe.",
        b"\x80\x02N(Ne.",
        b"\x80\x02}(Nu.",
        b"\x80\x02NN\x93.",
        b"\x80\x02NN)R.",
        b"\x80\x02ccollections\nOrderedDict\nNR.",
        b"\x80\x02cno name\nat all\n.",
        b"\x80\x02c\n\n.",
        b"\x80\x02X\xff\xff\xff\xffab.",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fab.",
        b"\x80\x02\x8b\xff\xff\xff\x7f1.",
        b"I" + b"9" * 5000 + b"\n.",
        b"\xff\xfe.",
    ],
)
def test_malformed_pickles_are_corrupt(data):
    with pytest.raises(PickleError):
        run(data)


def test_a_memo_index_of_four_billion_takes_no_memory():
    assert run(b"\x80\x02Nr\xff\xff\xff\xffj\xff\xff\xff\xff\x86.") == (None, None)


def test_endless_pickles_are_refused(monkeypatch):
    monkeypatch.setattr(restricted_pickle, "MAX_INSTRUCTIONS", 1000)
    assert run(b"\x80\x02(" + b"]" * 996 + b"l.") == [[]] * 996
    with pytest.raises(RefusedError, match="more than 1000 pickle instructions"):
        run(b"\x80\x02(" + b"]" * 997 + b"l.")


def test_deep_nesting_does_not_recurse():
    depth = 100_000
    value = run(b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".")
    for _ in range(depth - 1):
        (value,) = value
    assert value == []


def test_several_pickles_in_a_row():
    stream = io.BytesIO(pickled(1) + pickled("two"))
    assert load(stream) == 1
    assert load(stream) == "two"


def test_persistent_ids_need_a_function():
    with pytest.raises(CorruptError, match="outside"):
        load(io.BytesIO(pickled(Persistent("x"))))


@given(st.binary(max_size=60))
def test_random_bytes_give_values_or_words(data):
    with contextlib.suppress(PickleError):
        run(data)


@given(PLAIN, st.integers(0, 10_000), st.integers(0, 255))
def test_damaged_pickles_give_values_or_words(value, position, byte):
    data = bytearray(pickle.dumps(value, 2))
    data[position % len(data)] = byte
    with contextlib.suppress(PickleError):
        run(bytes(data))


def test_every_instruction_is_known_or_refused():
    # Those of a future Python would be refused, too: the machine names what it knows.
    for opcode in pickletools.opcodes:
        argument = b"\x00" * 9 + b"\n\n"
        with contextlib.suppress(PickleError):
            run(b"(NN" + opcode.code.encode("latin-1") + argument)


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
@pytest.mark.parametrize("kind", ["<f4", ">f8", "<i8", "|b1", "<f2"])
def test_arrays_come_back(rng, protocol, kind):
    arrays = [
        rng.normal(size=(3, 4)).astype(kind),
        np.asfortranarray(rng.normal(size=(2, 5)).astype(kind)),
    ]
    for loaded, array in zip(run(pickle.dumps(arrays, protocol)), arrays, strict=True):
        assert loaded.values.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(loaded.values, array)


def test_arrays_that_lie_are_corrupt():
    good = pickle.dumps(np.arange(62, dtype=np.float32), 3)
    lie = good.replace(b"K\x01K>", b"K\x01K=")
    assert lie != good
    with pytest.raises(CorruptError):
        run(lie)
    with pytest.raises(RefusedError, match="NumPy value of type"):
        run(pickle.dumps(np.array([1, None], dtype=object), 3))


def test_raw_instructions_pass_through_the_writer():
    assert run(pickled([Raw(b"K\x07")])) == [7]
