"""Reads PyTorch checkpoint files without PyTorch and without running anything in them.

Two formats exist. The *zip* format (PyTorch 1.6 and later) is an uncompressed archive with
`<name>/data.pkl`, one record `<name>/data/<key>` for each storage, and `<name>/byteorder`.
The *stream* format (before) is a row of pickles (magic number, protocol, system, content,
storage keys) followed by the storages, each as a count and its raw little-endian values.
In both, the pickle holds tensors as calls to `torch._utils._rebuild_tensor_v2` on storages
that are named by persistent ids.

Files come from strangers, so nothing in them is believed: pickles go through
`restricted_pickle`, every position and size is checked against the file, every shape and
stride against its storage, before anything is allocated. Tensors are descriptions until
`TorchTensor.read` is called; optimizer states, two thirds of many files, are never read.

Sources: the format as PyTorch's `torch/serialization.py` and `torch/_utils.py` write it.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from eamm_jax.conversion.restricted_pickle import (
    Bounded,
    CorruptError,
    PickleError,
    RefusedError,
    RefusedNameError,
)
from eamm_jax.conversion.torch_tensors import (
    DAMAGED,
    Source,
    Storage,
    TorchTensor,
    View,
    is_count,
    load_pickle,
    no_storages,
    quoted,
    storage_fields,
)
from eamm_jax.errors import UserError
from eamm_jax.io.files import check_readable

STREAM_MAGIC = 0x1950A86A20F9469CFC6C
STREAM_PROTOCOL = 1001
_STREAM_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number, pickled

MAX_PICKLE_BYTES = 64 << 20
"""The pickle of a published checkpoint with its optimizers has under 1 MB."""

MAX_NAME_LENGTH = 1000
"""Dotted names are cut there, so that deep nesting costs little."""

_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")  # of a zip entry
_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257


@dataclass(frozen=True)
class TorchFile:
    """An open checkpoint file.

    Attributes:
        path: where it is.
        layout: "zip" or "stream".
        content: nested dicts, lists, tuples, plain values, and `TorchTensor`s; valid while
            the file is open. May be shared or cyclic: walk it with `walk_tensors`.
    """

    path: Path
    layout: str
    content: Any


@contextlib.contextmanager
def open_torch_file(path: str | os.PathLike[str]) -> Iterator[TorchFile]:
    """Opens a checkpoint written by `torch.save`, in either format.

    Raises:
        UserError: no such file, not a checkpoint, truncated, corrupt, or hostile (by the
            name of what it asks for; nothing in it was run).
    """
    path = check_file(path, "checkpoint")
    with path.open("rb") as stream:
        source = Source(path, stream)
        try:
            layout, content = _read_content(source)
        except RefusedError as error:
            raise UserError(
                f"{path}: refused: {error}, which a checkpoint of weights has no use for; "
                "the file may be hostile, and nothing in it was run (if you trust its author, "
                "docs/conversion.md says how to save its weights alone)"
            ) from error
        except CorruptError as error:
            raise UserError(f"{path}: {DAMAGED} ({error})") from error
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        yield TorchFile(path, layout, content)


def check_file(path: str | os.PathLike[str], what: str) -> Path:
    """Makes sure, before long work, that a checkpoint is a file that can be read.

    Raises:
        UserError: as `check_readable`; a folder that an archive was unpacked to is named as that.
    """
    folder = Path(path)
    if folder.is_dir():
        for found in sorted((*folder.glob("data.pkl"), *folder.glob("*/data.pkl"))):
            root = found.parent
            raise UserError(
                f"{path}: is a folder to which a checkpoint was unpacked; pack it again, "
                f"uncompressed, and convert the file: cd {shlex.quote(str(root.parent))} && "
                f"zip -0 -r weights.pth {shlex.quote(root.name)}"
            )
    return check_readable(path, what)


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


def _read_content(source: Source) -> tuple[str, Any]:
    start = bytes(source.read(0, min(source.size, 512)))
    if not start:
        raise UserError(f"{source.path}: the file is empty")
    if start.startswith(b"PK"):
        return "zip", _read_zip(source)
    if start.startswith(_STREAM_START):
        return "stream", _read_stream(source)
    _explain_other(source, start)


def _explain_other(source: Source, start: bytes) -> NoReturn:
    """Says what a file is that is not a checkpoint."""
    path = source.path
    if start[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC):
        raise UserError(
            f"{path}: is a tar archive, which is either a checkpoint of PyTorch before 0.1.10 "
            "(load and save it with a newer PyTorch) or an archive to be unpacked first"
        )
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(
            f"{path}: is a web page, not a checkpoint: the download gave a page instead of the file"
        )
    if text.startswith(b"version https://git-lfs"):
        raise UserError(
            f"{path}: is a Git LFS pointer, not the file itself; fetch it with 'git lfs pull'"
        )
    if _STREAM_START.startswith(start):
        raise CorruptError(f"it ends after {source.size} bytes")
    not_checkpoint = (
        f"{path}: is not a PyTorch checkpoint (neither the zip nor the stream format of torch.save)"
    )
    # A bare pickle is none either, but if it asks for something the user should hear it.
    source.stream.seek(0)
    try:
        load_pickle(Bounded(source.stream, source.size), no_storages)
    except RefusedNameError:
        raise
    except PickleError as error:
        raise UserError(not_checkpoint) from error
    raise UserError(not_checkpoint)


# --- the zip format -----------------------------------------------------------------------


def _read_zip(source: Source) -> Any:
    entries = _zip_entries(source)
    roots = [
        name.removesuffix("/data.pkl")
        for name in entries
        if name.endswith("/data.pkl") and name.count("/") == 1
    ]
    if len(roots) != 1:
        raise UserError(
            f"{source.path}: is a zip archive but not a PyTorch checkpoint (no data.pkl in it)"
        )
    root = roots[0]
    if f"{root}/constants.pkl" in entries:
        raise UserError(
            f"{source.path}: is a TorchScript program, not a checkpoint; "
            "save its state_dict() with torch.save instead"
        )
    source.little_endian = _zip_little_endian(source, entries.get(f"{root}/byteorder"))
    storages: dict[str, Storage] = {}

    def persistent_load(persistent_id: object) -> View:
        dtype, key, count = storage_fields(persistent_id, 5)
        if key not in storages:
            storages[key] = _zip_storage(source, entries.get(f"{root}/data/{key}"), key, dtype)
        storage = storages[key]
        if storage.dtype != dtype or count * dtype.itemsize > storage.record_bytes:
            raise CorruptError(
                f"storage {quoted(key)} should hold {count} values of {dtype} and has "
                f"{storage.record_bytes} bytes of {storage.dtype}"
            )
        return View(storage, 0, count)

    entry = entries[f"{root}/data.pkl"]
    if entry.file_size > MAX_PICKLE_BYTES:
        raise RefusedError(f"its pickle has {entry.file_size} bytes")
    pickled = io.BytesIO(_zip_record(source, entry))
    return load_pickle(Bounded(pickled, entry.file_size), persistent_load, source)


def _zip_entries(source: Source) -> dict[str, zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(source.stream) as archive:
            listed = archive.infolist()
    except (zipfile.BadZipFile, ValueError, LookupError, OverflowError, struct.error) as error:
        raise CorruptError("it has no proper zip directory at its end") from error
    except NotImplementedError as error:
        raise UserError(f"{source.path}: its kind of zip archive cannot be read") from error
    entries = {info.filename: info for info in listed}
    if len(entries) != len(listed):
        raise CorruptError("its zip archive has several records of one name")
    return entries


def _zip_position(source: Source, entry: zipfile.ZipInfo) -> int:
    """Where the entry's bytes start; all of them are in the file as they are."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise UserError(
            f"{source.path}: record {quoted(entry.filename)} is compressed or encrypted, which "
            "torch.save never does; unpack the file and pack it again uncompressed (zip -0)"
        )
    header = _LOCAL_HEADER.unpack(source.read(entry.header_offset, _LOCAL_HEADER.size))
    signature, name_bytes, extra_bytes = header[0], header[-2], header[-1]
    if signature != b"PK\x03\x04" or entry.compress_size != entry.file_size:
        raise CorruptError(f"record {quoted(entry.filename)} has no proper header")
    position = entry.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
    if position + entry.file_size > source.size:
        raise CorruptError(f"record {quoted(entry.filename)} reaches beyond its end")
    return position


def _zip_record(source: Source, entry: zipfile.ZipInfo) -> bytes:
    """A small record, whole."""
    data = bytes(source.read(_zip_position(source, entry), entry.file_size))
    if entry.CRC and zlib.crc32(data) != entry.CRC:
        raise CorruptError(f"record {quoted(entry.filename)} differs from its checksum")
    return data


def _zip_storage(
    source: Source, entry: zipfile.ZipInfo | None, key: str, dtype: np.dtype
) -> Storage:
    if entry is None:
        raise CorruptError(f"storage {quoted(key)} is missing")
    return Storage(
        key,
        dtype,
        entry.file_size // dtype.itemsize,
        _zip_position(source, entry),
        # PyTorch can be told not to compute checksums, and then writes zeros.
        entry.CRC or None,
        entry.file_size,
    )


def _zip_little_endian(source: Source, entry: zipfile.ZipInfo | None) -> bool:
    """Byte order of the values; little before PyTorch 2.1, which began to say so."""
    if entry is None:
        return True
    if entry.file_size > len(b"little"):
        raise CorruptError("its byte order is neither little nor big")
    order = _zip_record(source, entry)
    if order not in (b"little", b"big"):
        raise CorruptError(f"its byte order is {order!r}, neither little nor big")
    return order == b"little"


# --- the stream format --------------------------------------------------------------------


def _read_stream(source: Source) -> Any:
    source.stream.seek(0)
    pickles = Bounded(source.stream, source.size)
    magic = load_pickle(pickles, no_storages)
    protocol = load_pickle(pickles, no_storages)
    if magic != STREAM_MAGIC or protocol != STREAM_PROTOCOL:
        raise CorruptError(f"its protocol is not {STREAM_PROTOCOL}")
    # The system's byte order, among others. PyTorch writes values as little-endian on every
    # system (its storage's writeFile), so only the counts before them can differ.
    system = load_pickle(pickles, no_storages)
    big = isinstance(system, dict) and system.get("little_endian") is False

    storages: dict[str, Storage] = {}

    def persistent_load(persistent_id: object) -> View:
        dtype, key, count = storage_fields(persistent_id, 6)
        storage = storages.setdefault(key, Storage(key, dtype, count))
        if storage.dtype != dtype or storage.count != count:
            raise CorruptError(f"storage {quoted(key)} is described in two ways")
        return _stream_view(storage, persistent_id[5])  # type: ignore[index]

    content = load_pickle(pickles, persistent_load, source)
    keys = load_pickle(pickles, no_storages)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CorruptError("its list of storages is none")
    if len(set(keys)) != len(keys) or set(keys) != set(storages):
        raise CorruptError("its list of storages does not fit its tensors")
    position = source.stream.tell()
    for key in keys:
        storage = storages[key]
        position = _place(source, storage, position, big)
    return content


def _stream_view(storage: Storage, described: object) -> View:
    if described is None:
        return View(storage, 0, storage.count)
    if not isinstance(described, tuple) or len(described) != 3:
        raise CorruptError("a view of a storage is not described")
    _, start, count = described
    if not (is_count(start) and is_count(count)):
        raise CorruptError("a view of a storage has no proper start and length")
    if start + count > storage.count:
        raise CorruptError(f"a view reaches beyond storage {quoted(storage.key)}")
    return View(storage, start, count)


def _place(source: Source, storage: Storage, position: int, big_endian_system: bool) -> int:
    """Finds a storage's values behind their count; returns where the next one starts."""
    raw = bytes(source.read(position, 8))
    counts = {int.from_bytes(raw, "little")}
    if big_endian_system:
        counts.add(int.from_bytes(raw, "big"))
    if storage.count not in counts:
        raise CorruptError(
            f"storage {quoted(storage.key)} should have {storage.count} values, "
            f"and has {min(counts)}"
        )
    storage.position = position + 8
    storage.record_bytes = storage.count * storage.dtype.itemsize
    end = storage.position + storage.record_bytes
    if end > source.size:
        raise CorruptError(f"storage {quoted(storage.key)} reaches beyond its end")
    return end
