"""Writes files in PyTorch's two checkpoint formats, well-formed or not, byte by byte.

Without PyTorch, and with nothing of the reader under test, so that tests can say exactly
what stands in a file: names that must be refused, storages that are shared, sizes that lie.
"""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

STORAGES = {
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float64): "DoubleStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype(np.int64): "LongStorage",
    np.dtype(np.int32): "IntStorage",
    np.dtype(np.int16): "ShortStorage",
    np.dtype(np.int8): "CharStorage",
    np.dtype(np.uint8): "ByteStorage",
    np.dtype(np.bool_): "BoolStorage",
}


@dataclass(frozen=True)
class Name:
    """A global; `Name("os", "system")`."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """A call (REDUCE), then perhaps a state (BUILD)."""

    function: Any
    arguments: tuple
    state: Any = None


@dataclass(frozen=True)
class Persistent:
    """A persistent id, as it is."""

    identity: Any


@dataclass(frozen=True)
class Raw:
    """Pickle instructions, as they are."""

    instructions: bytes


@dataclass(frozen=True, eq=False)
class Strided:
    """A tensor on a storage that may be shared, in elements; `view` is (start, count)."""

    storage: np.ndarray
    offset: int
    shape: tuple
    stride: tuple
    view: tuple | None = None
    location: str = "cpu"


ORDERED_DICT = Name("collections", "OrderedDict")
REBUILD = Name("torch._utils", "_rebuild_tensor_v2")


@dataclass
class Writer:
    """Turns values into pickle instructions and remembers the storages on the way."""

    stream: bool
    storages: dict[int, tuple[str, np.ndarray]] = field(default_factory=dict)

    def instructions(self, value: Any) -> bytes:
        match value:
            case None:
                return b"N"
            case bool():
                return b"\x88" if value else b"\x89"
            case int():
                size = value.bit_length() // 8 + 1
                return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
            case float():
                return b"G" + struct.pack(">d", value)
            case str():
                data = value.encode()
                return b"X" + struct.pack("<I", len(data)) + data
            case tuple():
                return b"(" + b"".join(map(self.instructions, value)) + b"t"
            case list():
                return b"](" + b"".join(map(self.instructions, value)) + b"e"
            case dict():
                items = (self.instructions(k) + self.instructions(v) for k, v in value.items())
                return b"}(" + b"".join(items) + b"u"
            case Name():
                return f"c{value.module}\n{value.name}\n".encode()
            case Call():
                call = self.instructions(value.function) + self.instructions(value.arguments)
                build = b"" if value.state is None else self.instructions(value.state) + b"b"
                return call + b"R" + build
            case Persistent():
                return self.instructions(value.identity) + b"Q"
            case Raw():
                return value.instructions
            case np.ndarray():
                return self.instructions(contiguous(value))
            case Strided():
                arguments = (self._storage(value), value.offset, value.shape, value.stride)
                return self.instructions(Call(REBUILD, (*arguments, False, Call(ORDERED_DICT, ()))))
        raise TypeError(type(value))

    def _storage(self, tensor: Strided) -> Persistent:
        array = tensor.storage
        key, _ = self.storages.setdefault(id(array), (str(len(self.storages)), array))
        identity = ("storage", Name("torch", STORAGES[array.dtype]), key, tensor.location)
        if not self.stream:
            return Persistent((*identity, array.size))
        view = None if tensor.view is None else (f"view{key}", *tensor.view)
        return Persistent((*identity, array.size, view))


def contiguous(array: np.ndarray) -> Strided:
    strides = tuple(s // array.itemsize for s in np.ascontiguousarray(array).strides)
    flat = np.ascontiguousarray(array).reshape(-1)
    return Strided(flat, 0, array.shape, strides if array.ndim else ())


def pickled(value: Any) -> bytes:
    """A bare pickle of protocol 2."""
    return b"\x80\x02" + Writer(False).instructions(value) + b"."


def zip_bytes(
    content: Any,
    *,
    byteorder: str | None = "little",
    compression: int = zipfile.ZIP_STORED,
    extra: dict[str, bytes] | None = None,
    protocol: int = 2,
) -> bytes:
    """A checkpoint in the zip format; records can be added or replaced."""
    writer = Writer(stream=False)
    pickle = b"\x80" + bytes([protocol]) + writer.instructions(content) + b"."
    records = {"data.pkl": pickle}
    if byteorder is not None:
        records["byteorder"] = byteorder.encode()
    for key, array in writer.storages.values():
        unsigned = array.view(f"u{array.itemsize}")
        data = unsigned.byteswap() if byteorder == "big" else unsigned
        records[f"data/{key}"] = data.tobytes()
    records |= {"version": b"3\n"} | (extra or {})
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in records.items():
            archive.writestr(f"archive/{name}", data)
    return out.getvalue()


def stream_bytes(
    content: Any,
    *,
    protocol: int = 1001,
    system: Any = None,
    keys: list[str] | None = None,
) -> bytes:
    """A checkpoint in the stream format."""
    writer = Writer(stream=True)
    system = {"protocol_version": 1001, "little_endian": True} if system is None else system
    main = b"\x80\x02" + writer.instructions(content) + b"."
    names = [key for key, _ in writer.storages.values()] if keys is None else keys
    out = pickled(0x1950A86A20F9469CFC6C) + pickled(protocol) + pickled(system) + main
    out += pickled(names)
    for _, array in writer.storages.values():
        out += struct.pack("<q", array.size) + array.tobytes()
    return out


FORMATS = {"zip": zip_bytes, "stream": stream_bytes}


def save(content: Any, path: Path, layout: str = "zip") -> Path:
    path.write_bytes(FORMATS[layout](content))
    return path
