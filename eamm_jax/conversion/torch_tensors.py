"""Tensors in PyTorch files: where their values lie, and what their pickles may call.

Used by `torch_reader`, which knows the two file formats. Nothing that a file says is
believed here: positions are checked against the file, shapes and strides against their
storage, and every function that a pickle can reach is one of this module.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn

import ml_dtypes
import numpy as np

from eamm_jax.conversion import restricted_pickle
from eamm_jax.conversion.pickled_values import FUNCTIONS, NAMES
from eamm_jax.conversion.restricted_pickle import Bounded, CorruptError, Global, RefusedError
from eamm_jax.errors import UserError

DTYPES: dict[str, np.dtype] = {
    "torch.FloatStorage": np.dtype(np.float32),
    "torch.DoubleStorage": np.dtype(np.float64),
    "torch.HalfStorage": np.dtype(np.float16),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.LongStorage": np.dtype(np.int64),
    "torch.IntStorage": np.dtype(np.int32),
    "torch.ShortStorage": np.dtype(np.int16),
    "torch.CharStorage": np.dtype(np.int8),
    "torch.ByteStorage": np.dtype(np.uint8),
    "torch.BoolStorage": np.dtype(np.bool_),
}
"""Typed storages by their class; a tensor on a GPU has the same behind `torch.cuda`."""

_DTYPE_NAMES = (
    *("float32", "float64", "float16", "bfloat16", "complex64", "complex128"),
    *("int64", "int32", "int16", "int8", "uint8", "bool"),
)

STORAGE_TYPES = DTYPES | {
    name.replace("torch.", "torch.cuda."): dtype for name, dtype in DTYPES.items()
}

_NAMES = NAMES | STORAGE_TYPES.keys() | {f"torch.{name}" for name in _DTYPE_NAMES}

MAX_COUNT = 2**63
"""Sizes, strides and offsets are 64-bit numbers in PyTorch."""

MAX_DIMENSIONS = 32
"""More than any layer has, less than what NumPy allows."""

_CHECK_BYTES = 1 << 20  # read at a time when a checksum is made

DAMAGED = "the file is truncated or damaged; get it again"


def is_count(value: object) -> bool:
    """Whether a value from a file is a size, stride, offset or number of elements."""
    return type(value) is int and 0 <= value < MAX_COUNT


def quoted(text: object) -> str:
    """Text of the file for a message: short, and without control characters."""
    return repr(text[:40]) if isinstance(text, str) else type(text).__name__


@dataclass
class Storage:
    """A row of values in the file."""

    key: str
    dtype: np.dtype
    count: int
    position: int = -1  # in the file, in bytes
    checksum: int | None = None  # CRC-32 of the whole record, or None where there is none
    record_bytes: int = 0


@dataclass(frozen=True)
class View:
    """A part of a storage, which is what tensors lie on."""

    storage: Storage
    start: int
    count: int


@dataclass(frozen=True)
class TorchTensor:
    """A tensor in a file: what it is, and how to read it.

    Attributes:
        shape: as in the file, so (out, in, height, width) for a convolution.
        dtype: as in the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    _source: Source = field(repr=False)
    _storage: Storage = field(repr=False)
    _offset: int = field(repr=False)
    _stride: tuple[int, ...] = field(repr=False)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def read(self) -> np.ndarray:
        """The values: a new array in native byte order, C-contiguous.

        Raises:
            UserError: the record is damaged.
            ValueError: the file is closed.
        """
        return self._source.read_tensor(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """For `np.asarray`; always a new array."""
        return self.read() if dtype is None else self.read().astype(dtype, copy=False)


class Source:
    """The file's bytes, by position; every read is checked against its size."""

    def __init__(self, path: Path, stream: IO[bytes]):
        self.path = path
        self.stream = stream
        self.size = stream.seek(0, os.SEEK_END)
        self.little_endian = True
        self._checked: set[str] = set()

    def read(self, position: int, count: int) -> bytearray:
        """`count` bytes from `position`."""
        if position < 0 or count < 0 or position + count > self.size:
            raise CorruptError(
                f"{count} bytes at {position} are announced, the file has {self.size}"
            )
        data = bytearray(count)
        self.stream.seek(position)
        filled = self.stream.readinto(data)  # type: ignore[attr-defined]
        if filled != count:
            raise CorruptError(f"it ends after {position + filled} bytes")
        return data

    def read_tensor(self, tensor: TorchTensor) -> np.ndarray:
        """See `TorchTensor.read`."""
        storage = tensor._storage
        if self.stream.closed:
            raise ValueError(f"{self.path} is closed; read tensors while it is open")
        try:
            self._check(storage)
            if tensor.size == 0:
                return np.zeros(tensor.shape, storage.dtype)
            width = storage.dtype.itemsize
            span = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor._stride, strict=True))
            data = self.read(storage.position + tensor._offset * width, span * width)
        except CorruptError as error:
            raise UserError(f"{self.path}: {DAMAGED} ({error})") from error
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read: {error.strerror}") from error
        values = np.frombuffer(data, np.dtype(f"{'<' if self.little_endian else '>'}u{width}"))
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        # A byte that is neither 0 nor 1 would not be a proper bool.
        is_bool = storage.dtype == np.bool_
        values = values != 0 if is_bool else values.view(storage.dtype)
        strides = tuple(s * width for s in tensor._stride)
        # Within `span` by construction: shapes and strides are not negative.
        strided = np.lib.stride_tricks.as_strided(values, tensor.shape, strides)
        return np.ascontiguousarray(strided).reshape(tensor.shape)

    def _check(self, storage: Storage) -> None:
        """Compares a record with its checksum, once."""
        if storage.checksum is None or storage.key in self._checked:
            return
        crc, end = 0, storage.position + storage.record_bytes
        for position in range(storage.position, end, _CHECK_BYTES):
            crc = zlib.crc32(self.read(position, min(_CHECK_BYTES, end - position)), crc)
        if crc != storage.checksum:
            raise CorruptError(f"storage {quoted(storage.key)} differs from its checksum")
        self._checked.add(storage.key)


def _size(items: object = ()) -> tuple[int, ...]:
    if not isinstance(items, tuple | list) or not all(is_count(n) for n in items):
        raise CorruptError("a size in it is not made of whole numbers")
    return tuple(items)


def _device(kind: object, index: object = None) -> str:
    if not isinstance(kind, str) or not (index is None or is_count(index)):
        raise CorruptError("a device in it has no name")
    return kind if index is None else f"{kind}:{index}"


def _parameter(tensor: object, *_requires_grad_hooks_state: object) -> TorchTensor:
    if not isinstance(tensor, TorchTensor):
        raise CorruptError("a parameter in it is not a tensor")
    return tensor


def _functions(source: Source | None) -> dict[str, Callable[..., Any]]:
    """All that a checkpoint may call."""

    def rebuild_tensor(view: View, offset: int, shape: Any, stride: Any, *_: Any) -> TorchTensor:
        if source is None or not isinstance(view, View):
            raise CorruptError("a tensor in it lies on no storage")
        return _tensor(source, view, offset, _size(shape), _size(stride))

    return FUNCTIONS | {
        "torch._utils._rebuild_tensor": rebuild_tensor,
        "torch._utils._rebuild_tensor_v2": rebuild_tensor,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch.Size": _size,
        "torch.device": _device,
    }


def _tensor(
    source: Source, view: View, offset: Any, shape: tuple[int, ...], stride: tuple[int, ...]
) -> TorchTensor:
    """A tensor whose every element lies inside its storage."""
    if not is_count(offset):
        raise CorruptError("a tensor in it has no proper offset")
    if len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS:
        raise CorruptError(f"a tensor in it has {len(shape)} sizes and {len(stride)} strides")
    storage, size = view.storage, math.prod(shape)
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    if size and last >= view.count:
        raise CorruptError(
            f"a tensor of shape {shape} reaches element {last} of storage {quoted(storage.key)}, "
            f"which has {view.count}"
        )
    # Strides of zero repeat elements: small files could claim tensors of any size.
    if size * storage.dtype.itemsize > source.size:
        raise CorruptError(f"a tensor of shape {shape} is larger than the file")
    return TorchTensor(shape, storage.dtype, source, storage, view.start + offset, stride)


def load_pickle(
    stream: Bounded, persistent_load: Callable[[Any], Any], source: Source | None = None
) -> Any:
    """Evaluates one pickle of a checkpoint; see `restricted_pickle.load`.

    Args:
        stream: standing at the pickle.
        persistent_load: gives the `View` for a persistent id.
        source: the file that tensors lie in, where they are allowed.
    """
    return restricted_pickle.load(stream, _functions(source), persistent_load, _NAMES)


def no_storages(_: object) -> NoReturn:
    """The `persistent_load` of pickles that hold no tensors."""
    raise CorruptError("a storage where none belongs")


def storage_fields(persistent_id: object, length: int) -> tuple[np.dtype, str, int]:
    """(dtype, key, count) of ("storage", type, key, location, count, ...)."""
    if not isinstance(persistent_id, tuple) or not persistent_id:
        raise CorruptError("a persistent id is not a tuple")
    if persistent_id[0] != "storage":
        raise RefusedError(f"it holds a persistent object of type {quoted(persistent_id[0])}")
    if len(persistent_id) != length:
        raise CorruptError("a persistent id has the wrong length")
    kind, key, count = persistent_id[1], persistent_id[2], persistent_id[4]
    if not isinstance(kind, Global) or kind.name not in STORAGE_TYPES:
        raise CorruptError("a storage has no type")
    if not isinstance(key, str) or not is_count(count):
        raise CorruptError("a storage has no key or no length")
    return STORAGE_TYPES[kind.name], key, count
