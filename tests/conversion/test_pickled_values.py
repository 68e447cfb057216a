"""Pickled arrays are read, and nothing that a pickle asks for is done."""

from __future__ import annotations

import os
import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from eamm_jax.conversion.pickled_values import MAX_BYTES, read_array_pickle
from eamm_jax.errors import UserError

WHAT = "statistics"


def written(path: Path, value: object, protocol: int = 3) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
@pytest.mark.parametrize("kind", ["<f4", ">f8", "<i8", "|b1", "<f2"])
def test_arrays_come_back(tmp_path, rng, protocol, kind):
    arrays = {
        "one": rng.normal(size=(3, 4)).astype(kind),
        "two": np.asfortranarray(rng.normal(size=(2, 5)).astype(kind)),
    }
    path = written(tmp_path / "a.pkl", arrays, protocol)
    read = read_array_pickle(path, WHAT)
    assert list(read) == ["one", "two"]
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(read[name], array)


class Asking:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def bad_pickles(folder: Path) -> dict[str, tuple[bytes, str]]:
    marker = folder / "ran"
    good = pickle.dumps({"mean": np.arange(62, dtype=np.float32)}, 3)
    objects = np.array([1, None], dtype=object)
    return {
        "a command": (pickle.dumps({"mean": Asking(os.mkdir, (str(marker),))}, 3), "mkdir"),
        "a class": (pickle.dumps({"mean": Fraction(1, 2)}, 3), "refused"),
        "a path": (pickle.dumps({"mean": Path("x")}, 3), "other things"),
        "python objects": (pickle.dumps({"mean": objects}, 3), "refused"),
        "no dictionary": (pickle.dumps(np.arange(3), 3), "no arrays by name"),
        "a number": (pickle.dumps({"mean": 3.0}, 3), "other things"),
        "cut short": (good[: len(good) // 2], "damaged"),
        "not a pickle": (b"not a pickle", "statistics"),
        "a shape that lies": (good.replace(b"K\x01K>", b"K\x01K="), "wrong length"),
        "too large": (good + bytes(MAX_BYTES), "too large"),
    }


def test_bad_files_are_answered_in_words_and_run_nothing(tmp_path):
    for what, (data, words) in bad_pickles(tmp_path).items():
        path = tmp_path / "bad.pkl"
        path.write_bytes(data)
        with pytest.raises(UserError, match=words) as raised:
            read_array_pickle(path, WHAT)
        assert "\n" not in str(raised.value), what
        assert [p.name for p in tmp_path.iterdir()] == ["bad.pkl"], what
    with pytest.raises(UserError, match="No such statistics"):
        read_array_pickle(tmp_path / "no.pkl", WHAT)
