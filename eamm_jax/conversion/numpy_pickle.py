"""Reads pickles of NumPy arrays without running anything in them.

Some published numbers come as a pickled dictionary of arrays. `restricted_pickle` evaluates
them with the functions of this module alone, which take names, shapes, types and bytes and
check them against each other before anything is allocated.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from eamm_jax.conversion import restricted_pickle
from eamm_jax.conversion.restricted_pickle import (
    CorruptError,
    Global,
    PickleError,
    RefusedError,
)
from eamm_jax.errors import UserError
from eamm_jax.io.files import check_readable

MAX_BYTES = 1 << 20
"""Larger files are not read: what is published in this form has some hundred numbers."""

_CODES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_ARRAY_CLASS = "numpy.ndarray"


class NumpyDtype:
    """A NumPy dtype as pickles describe it: numbers only."""

    def __init__(self, code: object, *_align_and_copy: object):
        if not isinstance(code, str) or code not in _CODES:
            kind = repr(code[:40]) if isinstance(code, str) else type(code).__name__
            raise RefusedError(f"it holds a NumPy value of type {kind}")
        self.dtype = np.dtype(code)

    def build(self, state: object) -> None:
        """Takes the byte order, the one part of a number's state that matters."""
        if not (isinstance(state, tuple) and len(state) >= 2 and state[1] in ("<", ">", "|", "=")):
            raise CorruptError("a NumPy type in it has no byte order")
        self.dtype = self.dtype.newbyteorder(state[1])


class PickledArray:
    """A NumPy array on its way out of a pickle: empty at first, filled by a BUILD instruction."""

    def __init__(self, kind: object, *_shape_and_code: object):
        if kind != Global(_ARRAY_CLASS):
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
        raw = data.encode("latin-1") if isinstance(data, str) else data
        if not isinstance(raw, bytes) or len(raw) != math.prod(shape) * dtype.dtype.itemsize:
            raise CorruptError("an array in it has the wrong length")
        values = np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if fortran else "C")
        self.values = values.astype(dtype.dtype.newbyteorder("="))


def encode_latin1(text: object, encoding: object) -> bytes:
    """What `_codecs.encode` is called for: protocol 2 writes bytes as text."""
    if not isinstance(text, str) or encoding != "latin1":
        raise CorruptError("bytes in it are not written as Latin-1")
    return text.encode("latin-1")


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "numpy.core.multiarray._reconstruct": PickledArray,
    "numpy._core.multiarray._reconstruct": PickledArray,
    "numpy.dtype": NumpyDtype,
    "_codecs.encode": encode_latin1,
}


class _Bounded:
    """What the decoder of pickles reads from: a line or a claimed length is never huge."""

    def __init__(self, data: bytes):
        self._data, self._position = data, 0

    def tell(self) -> int:
        return self._position

    def read(self, count: int) -> bytes:
        taken = self._data[self._position : self._position + max(0, count)]
        self._position += len(taken)
        return taken

    def readline(self) -> bytes:
        end = self._data.find(b"\n", self._position) + 1
        return self.read((end or len(self._data)) - self._position)


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
    try:
        content = restricted_pickle.load(
            _Bounded(Path(path).read_bytes()),
            _FUNCTIONS,
            _no_persistent,
            frozenset({_ARRAY_CLASS}),
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
