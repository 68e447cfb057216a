"""Tensors in PyTorch files: where their values lie, and how a pickle says so.

Used by `torch_reader`, which knows the two file formats. Positions are checked against the file,
shapes and strides against their storage, before anything is allocated.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from eamm_jax.conversion.restricted_pickle import CorruptError, Global, RefusedError, load

MAX_NAME_LENGTH = 1000
"""Dotted names are cut there, so that deep nesting costs little."""

MAX_COUNT = 2**63
"""Sizes, strides and offsets are 64-bit numbers in PyTorch."""

MAX_DIMENSIONS = 32
"""More than any layer has, less than what NumPy allows."""

_DTYPES: dict[str, Any] = {
    "Float": np.float32,
    "Double": np.float64,
    "Half": np.float16,
    "BFloat16": ml_dtypes.bfloat16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
}
_STORAGE_TYPES = {
    f"{module}.{name}Storage": np.dtype(dtype)
    for name, dtype in _DTYPES.items()
    for module in ("torch", "torch.cuda")
}
_OTHER_TYPES = ("complex64", "complex128", *(np.dtype(dtype).name for dtype in _DTYPES.values()))
NAMES = frozenset([*_STORAGE_TYPES, *(f"torch.{name}" for name in _OTHER_TYPES)])


@dataclass(frozen=True)
class Storage:
    """A row of values in the file, on which tensors lie, or a part of one."""

    key: str
    dtype: np.dtype
    count: int
    read: Callable[[], np.ndarray]
    start: int = 0  # of the part, among the values that `read` gives


@dataclass(frozen=True)
class TorchTensor:
    """A tensor in a file: what it is, and how to read it."""

    shape: tuple[int, ...]  # as in the file, so (out, in, height, width) for a convolution
    storage: Storage  # where its values lie
    offset: int  # of its first element in the storage
    stride: tuple[int, ...]  # of each axis, in elements

    @property
    def dtype(self) -> np.dtype:
        """As in the file."""
        return self.storage.dtype

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
        values = self.storage.read()[self.storage.start + self.offset :]
        strides = tuple(n * values.itemsize for n in self.stride)
        return np.array(np.lib.stride_tricks.as_strided(values, self.shape, strides), order="C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """For `np.asarray`; always a new array."""
        return self.read() if dtype is None else self.read().astype(dtype, copy=False)


def walk_tensors(content: Any, name: str = "") -> Iterator[tuple[str, TorchTensor]]:
    """Every tensor in a file's content, with its dotted name below `name`; each once.

    The content may be shared or cyclic, and nested deeper than Python recurses.
    """
    seen: set[int] = set()
    waiting = [(name, content)]
    while waiting:
        name, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, TorchTensor):
            yield name, node
        elif isinstance(node, dict | list | tuple):
            pairs = node.items() if isinstance(node, dict) else enumerate(node)
            # The last is taken first.
            waiting.extend(
                (f"{name}.{key}"[:MAX_NAME_LENGTH], child) for key, child in reversed(list(pairs))
            )


def load_tensors(stream: io.BytesIO, persistent_load: Callable[[Any], Storage], size: int) -> Any:
    """Evaluates the pickle of a checkpoint's content; `size` is that of the file, in bytes."""

    def tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: object) -> TorchTensor:
        """A tensor whose every element lies inside its storage."""
        shape, stride = _size(shape), _size(stride)
        if not isinstance(storage, Storage) or not is_count(offset):
            raise CorruptError("a tensor in it lies on no storage")
        if len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS:
            raise CorruptError(f"a tensor in it has {len(shape)} sizes and {len(stride)} strides")
        count = math.prod(shape)
        last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
        if count and last >= storage.count:
            raise CorruptError(
                f"a tensor of shape {shape} reaches element {last} of storage "
                f"{quoted(storage.key)}, which has {storage.count}"
            )
        # Strides of zero repeat elements: small files could claim tensors of any size.
        if count * storage.dtype.itemsize > size:
            raise CorruptError(f"a tensor of shape {shape} is larger than the file")
        return TorchTensor(shape, storage, offset, stride)

    functions: dict[str, Callable[..., Any]] = {
        "torch._utils._rebuild_tensor": tensor,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch.Size": _size,
        "torch.device": _device,
    }
    return load(stream, persistent_load, functions, NAMES)


def _parameter(tensor: object, *_requires_grad_hooks_state: object) -> TorchTensor:
    if not isinstance(tensor, TorchTensor):
        raise CorruptError("a parameter in it is not a tensor")
    return tensor


def _size(items: object = ()) -> tuple[int, ...]:
    if not isinstance(items, tuple | list) or not all(is_count(n) for n in items):
        raise CorruptError("a size in it is not made of whole numbers")
    return tuple(items)


def _device(kind: object, index: object = None) -> str:
    return f"{kind}" if index is None else f"{kind}:{index}"


def storage_fields(persistent_id: object, length: int) -> tuple[np.dtype, str, int]:
    """(dtype, key, count) of ("storage", type, key, location, count, ...)."""
    if not isinstance(persistent_id, tuple) or not persistent_id:
        raise CorruptError("a persistent id is not a tuple")
    if persistent_id[0] != "storage":
        raise RefusedError(f"it holds a persistent object of type {quoted(persistent_id[0])}")
    if len(persistent_id) != length:
        raise CorruptError("a persistent id has the wrong length")
    kind, key, count = persistent_id[1], persistent_id[2], persistent_id[4]
    if not isinstance(kind, Global) or kind.name not in _STORAGE_TYPES:
        raise CorruptError("a storage has no type")
    if not isinstance(key, str) or not is_count(count):
        raise CorruptError("a storage has no key or no length")
    return _STORAGE_TYPES[kind.name], key, count


def decode(data: bytes, dtype: np.dtype, *, little: bool = True) -> np.ndarray:
    """Values of a record, in native byte order."""
    unsigned = np.dtype(f"{'<' if little else '>'}u{dtype.itemsize}")
    values = np.frombuffer(data, unsigned, len(data) // dtype.itemsize)
    # A byte that is neither 0 nor 1 would not be a proper bool.
    if dtype == np.bool_:
        return values != 0
    return values.astype(unsigned.newbyteorder("="), copy=False).view(dtype)


def is_count(value: object) -> bool:
    """Whether a value from a file is a size, stride, offset or number of elements."""
    return type(value) is int and 0 <= value < MAX_COUNT


def quoted(text: object) -> str:
    """Text of the file for a message: short, and without control characters."""
    return repr(text[:40]) if isinstance(text, str) else type(text).__name__
