"""What a pickle may make: plain containers and NumPy values, by functions of our own.

`restricted_pickle` evaluates a pickle with these functions alone. They take names, shapes, types
and bytes, and check them against each other before anything is allocated. A class that only holds
plain values becomes a plain value: a Counter or Namespace a dictionary, a set a list, a path text.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np

from eamm_jax.conversion import restricted_pickle
from eamm_jax.conversion.restricted_pickle import (
    Bounded,
    CorruptError,
    Global,
    PickleError,
    RefusedError,
)
from eamm_jax.errors import UserError
from eamm_jax.io.files import check_readable

MAX_BYTES = 1 << 20
"""Larger array pickles are not read: published ones hold some hundred numbers."""

_NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_BUILTINS = ("builtins", "__builtin__")  # of Python 3 and 2
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and since NumPy 2


class NumpyDtype:
    """A NumPy dtype as pickles describe it: numbers only."""

    def __init__(self, code: object, *_align_and_copy: object):
        if not isinstance(code, str) or code not in _NUMBERS:
            kind = repr(code[:40]) if isinstance(code, str) else type(code).__name__
            raise RefusedError(f"it holds a NumPy value of type {kind}")
        self.dtype = np.dtype(code)

    def build(self, state: object) -> None:
        """Takes the byte order, the one part of a number's state that matters."""
        if not (isinstance(state, tuple) and len(state) >= 2 and state[1] in ("<", ">", "|", "=")):
            raise CorruptError("a NumPy type in it has no byte order")
        self.dtype = self.dtype.newbyteorder(state[1])

    def values(self, data: object, count: int) -> np.ndarray:
        """`count` values from their bytes, which Python 2 wrote as text."""
        raw = data.encode("latin-1") if isinstance(data, str) else data
        if not isinstance(raw, bytes) or len(raw) != count * self.dtype.itemsize:
            raise CorruptError("a NumPy value in it has the wrong length")
        return np.frombuffer(raw, self.dtype)


class PickledArray:
    """A NumPy array on its way out of a pickle: empty at first, filled by a BUILD instruction."""

    def __init__(self, kind: object, *_shape_and_code: object):
        if kind != Global("numpy.ndarray"):
            raise RefusedError("it holds an array of another class than NumPy's")
        self.values: np.ndarray | None = None

    def build(self, state: object) -> None:
        """Takes (version, shape, dtype, Fortran order, bytes)."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise CorruptError("an array in it has no proper state")
        _, shape, dtype, fortran, data = state
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise CorruptError("an array in it has no proper shape")
        if not isinstance(dtype, NumpyDtype):
            raise CorruptError("an array in it has no type")
        values = dtype.values(data, math.prod(shape)).reshape(shape, order="F" if fortran else "C")
        self.values = values.astype(dtype.dtype.newbyteorder("="))


class Namespace(dict[str, Any]):
    """An object that only holds attributes: a dictionary of them."""

    def build(self, state: object) -> None:
        """Takes the attributes."""
        if not isinstance(state, dict):
            raise CorruptError("the attributes of an object in it are no dictionary")
        self.update(state)


def _numpy_scalar(dtype: object, data: object) -> bool | int | float:
    if not isinstance(dtype, NumpyDtype):
        raise CorruptError("a NumPy value in it has no type")
    return dtype.values(data, 1)[0].item()


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Bytes, which protocol 2 writes as text."""
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise CorruptError("bytes in it are not written as Latin-1")
    return text.encode("latin-1")


def _dictionary(pairs: object = ()) -> dict[Any, Any]:
    if isinstance(pairs, dict):
        return dict(pairs)
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    ):
        raise CorruptError("a dictionary in it is not made of pairs")
    target: dict[Any, Any] = {}
    for key, value in pairs:
        restricted_pickle.set_item(target, key, value)
    return target


def _default_dictionary(_factory: object = None, pairs: object = ()) -> dict[Any, Any]:
    return _dictionary(pairs)


def _list(items: object = (), *_: object) -> list[Any]:
    if not isinstance(items, list | tuple):
        raise CorruptError("a set in it is not made of a list")
    return list(items)


def _path(*parts: object) -> str:
    if not all(isinstance(part, str) for part in parts):
        raise CorruptError("a path in it is not made of text")
    return "/".join(map(str, parts)).replace("//", "/")


def _named(modules: Iterable[str], names: Iterable[str]) -> list[str]:
    return [f"{module}.{name}" for module in modules for name in names]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "_codecs.encode": _encode,
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _dictionary,
    "collections.defaultdict": _default_dictionary,
    "collections.deque": _list,
    "numpy.dtype": NumpyDtype,
    **dict.fromkeys(_named(_MULTIARRAY, ["scalar"]), _numpy_scalar),
    **dict.fromkeys(_named(_MULTIARRAY, ["_reconstruct"]), PickledArray),
    **dict.fromkeys(_named(_BUILTINS, ["set", "frozenset"]), _list),
    **dict.fromkeys(_named(_BUILTINS, ["bytearray", "bytes"]), _encode),
    **dict.fromkeys(("argparse.Namespace", "types.SimpleNamespace"), Namespace),
    **dict.fromkeys(
        _named(
            ("pathlib", "pathlib._local"),
            ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"),
        ),
        _path,
    ),
}
"""All that a pickle may call to make a plain value."""

NAMES = frozenset(
    [
        "numpy.ndarray",
        *_named(_BUILTINS, ("bool", "dict", "float", "int", "list", "set", "str", "tuple")),
        *_named(["numpy"], ("float16", "float32", "float64", "int32", "int64", "uint8", "bool_")),
    ]
)
"""What a pickle may mention besides: types, as values and as factories of default values."""


def _no_persistent(_: object) -> NoReturn:
    raise CorruptError("it refers to something outside of it")


def read_array_pickle(path: str | os.PathLike[str], what: str) -> dict[str, np.ndarray]:
    """Reads a pickled dictionary of arrays.

    Args:
        path: the file.
        what: it is to the user, for messages.

    Raises:
        UserError: no such file, too large, no such pickle, damaged, or hostile (by the name of
            what it asks for; nothing in it was run).
    """
    path = check_readable(path, what)
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: is too large for the {what} ({path.stat().st_size} bytes)")
    data = path.read_bytes()
    try:
        content = restricted_pickle.load(
            Bounded(io.BytesIO(data), len(data)), FUNCTIONS, _no_persistent, NAMES
        )
    except RefusedError as error:
        raise UserError(
            f"{path}: refused: {error}, which a file of arrays has no use for; the file may be "
            "hostile, and nothing in it was run"
        ) from error
    except PickleError as error:
        raise UserError(f"{path}: is not the {what}, or damaged ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: is not the {what}: it holds no arrays by name")
    arrays = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, PickledArray):
            raise UserError(f"{path}: is not the {what}: it holds other things than arrays")
        if value.values is None:
            raise UserError(f"{path}: is not the {what}, or damaged (an array in it is empty)")
        arrays[name] = value.values
    return arrays
