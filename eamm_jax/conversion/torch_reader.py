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
import functools
import io
import os
import shlex
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from eamm_jax.conversion.restricted_pickle import (
    CorruptError,
    PickleError,
    RefusedError,
    RefusedNameError,
    load,
)
from eamm_jax.conversion.torch_tensors import (
    NAMES,
    Storage,
    decode,
    is_count,
    load_tensors,
    quoted,
    storage_fields,
)
from eamm_jax.errors import UserError, printable
from eamm_jax.io.files import check_readable

STREAM_MAGIC = 0x1950A86A20F9469CFC6C
STREAM_PROTOCOL = 1001
_STREAM_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number, pickled

MAX_PICKLE_BYTES = 64 << 20
"""The pickle of a published checkpoint with its optimizers has under 1 MB."""


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
        try:
            with _damage_reported(path):
                layout, content = _read_content(path, stream)
        except RefusedError as error:
            raise UserError(
                f"{path}: refused: {error}, which a checkpoint of weights has no use for; "
                "the file may be hostile, and nothing in it was run (if you trust its author, "
                "docs/conversion.md says how to save its weights alone)"
            ) from error
        yield TorchFile(path, layout, content)


@contextlib.contextmanager
def _damage_reported(path: Path) -> Iterator[None]:
    try:
        yield
    except CorruptError as error:
        raise UserError(f"{path}: the file is truncated or damaged; get it again ({error})") from (
            error
        )
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


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


def _read_content(path: Path, stream: IO[bytes]) -> tuple[str, Any]:
    start = stream.read(512)
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if start.startswith(b"PK"):
        return "zip", _read_zip(path, stream, size)
    if start.startswith(_STREAM_START):
        return "stream", _read_stream(path, stream, size)
    if _STREAM_START.startswith(start):
        raise CorruptError(f"it ends after {size} bytes")
    _explain_other(path, start, io.BytesIO(stream.read(MAX_PICKLE_BYTES)))


def _explain_other(path: Path, start: bytes, content: io.BytesIO) -> NoReturn:
    """Says what a file is that is not a checkpoint."""
    text = start.lstrip().lower()
    if start[257:].startswith(b"ustar"):
        what = (
            "a tar archive, which is either a checkpoint of PyTorch before 0.1.10 (load and save "
            "it with a newer PyTorch) or an archive to be unpacked first"
        )
    elif text.startswith((b"<!doctype", b"<html", b"<?xml")):
        what = "a web page, not a checkpoint: the download gave a page instead of the file"
    elif text.startswith(b"version https://git-lfs"):
        what = "a Git LFS pointer, not the file itself; fetch it with 'git lfs pull'"
    else:
        what = "not a PyTorch checkpoint (neither the zip nor the stream format of torch.save)"
        # A bare pickle is none either, but if it asks for something the user should hear it.
        try:
            load(content, names=NAMES)
        except RefusedNameError:
            raise
        except PickleError:
            pass
    raise UserError(f"{path}: is {what}")


# --- the zip format -----------------------------------------------------------------------


def _read_zip(path: Path, stream: IO[bytes], size: int) -> Any:
    with _zip_errors(path):
        archive = zipfile.ZipFile(stream)
    entries = {entry.filename: entry for entry in archive.infolist()}
    if len(entries) != len(archive.infolist()):
        raise CorruptError("its zip archive has several records of one name")
    for name, entry in entries.items():
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            # So that no archive can unpack to more than its own size.
            raise UserError(
                f"{path}: record {quoted(name)} is compressed or encrypted, which torch.save "
                "never does; unpack the file and pack it again uncompressed (zip -0)"
            )
        if not entry.file_size == entry.compress_size <= size:
            raise CorruptError(f"record {quoted(name)} reaches beyond its end")
        # PyTorch can be told not to compute checksums, and then writes zeros.
        entry.CRC = entry.CRC or None  # type: ignore[assignment]

    roots = [name.removesuffix("/data.pkl") for name in entries if name.endswith("/data.pkl")]
    roots = [root for root in roots if "/" not in root]
    if len(roots) != 1:
        raise UserError(
            f"{path}: is a zip archive but not a PyTorch checkpoint (no data.pkl in it)"
        )
    root = roots[0]
    if f"{root}/constants.pkl" in entries:
        raise UserError(
            f"{path}: is a TorchScript program, not a checkpoint; "
            "save its state_dict() with torch.save instead"
        )

    def record(name: str) -> bytes:
        if stream.closed:
            raise ValueError(f"{path} is closed; read tensors while it is open")
        with _zip_errors(path):
            return archive.read(entries[name])

    # PyTorch names the byte order since 2.1; before, it was little.
    order = f"{root}/byteorder"
    byte_order = record(order) if order in entries else b"little"
    if byte_order not in (b"little", b"big"):
        raise CorruptError("its byte order is neither little nor big")

    @functools.lru_cache(maxsize=1)  # several tensors may lie on one storage
    def values(name: str, dtype: np.dtype) -> np.ndarray:
        with _damage_reported(path):
            return decode(record(name), dtype, little=byte_order == b"little")

    dtypes: dict[str, np.dtype] = {}

    def persistent_load(persistent_id: object) -> Storage:
        dtype, key, count = storage_fields(persistent_id, 5)
        name = f"{root}/data/{key}"
        if name not in entries or entries[name].file_size < count * dtype.itemsize:
            raise CorruptError(f"storage {quoted(key)} has no {count} values of {dtype}")
        if dtypes.setdefault(key, dtype) != dtype:
            raise CorruptError(f"storage {quoted(key)} is of two types")
        return Storage(key, dtype, count, functools.partial(values, name, dtype))

    pickle = f"{root}/data.pkl"
    if entries[pickle].file_size > MAX_PICKLE_BYTES:
        raise RefusedError(f"its pickle has {entries[pickle].file_size} bytes")
    return load_tensors(io.BytesIO(record(pickle)), persistent_load, size)


@contextlib.contextmanager
def _zip_errors(path: Path) -> Iterator[None]:
    """What `zipfile` raises where an archive is damaged."""
    try:
        yield
    except NotImplementedError as error:
        raise UserError(f"{path}: its kind of zip archive cannot be read") from error
    except zipfile.BadZipFile as error:  # the name of the record and what is wrong with it
        raise CorruptError(f"in its zip archive: {printable(str(error))}") from error
    except (EOFError, LookupError, OverflowError, ValueError, struct.error) as error:
        raise CorruptError("its zip archive is not well-formed") from error


# --- the stream format --------------------------------------------------------------------


def _read_stream(path: Path, stream: IO[bytes], size: int) -> Any:
    pickles = io.BytesIO(stream.read(MAX_PICKLE_BYTES))
    if load(pickles) != STREAM_MAGIC or load(pickles) != STREAM_PROTOCOL:
        raise CorruptError(f"its protocol is not {STREAM_PROTOCOL}")
    # The system's byte order, among others. PyTorch writes values as little-endian on every
    # system (its storage's writeFile), so only the counts before them can differ.
    system = load(pickles)
    big = isinstance(system, dict) and system.get("little_endian") is False

    storages: dict[str, Storage] = {}
    positions: dict[str, int] = {}

    def read(position: int, num_bytes: int) -> bytes:
        if position + num_bytes > size:
            raise CorruptError(f"it ends before byte {position + num_bytes}")
        stream.seek(position)
        return stream.read(num_bytes)

    @functools.lru_cache(maxsize=1)
    def values(key: str, dtype: np.dtype, count: int) -> np.ndarray:
        with _damage_reported(path):
            return decode(read(positions[key], count * dtype.itemsize), dtype)

    def persistent_load(persistent_id: Any) -> Storage:
        dtype, key, count = storage_fields(persistent_id, 6)
        whole = Storage(key, dtype, count, functools.partial(values, key, dtype, count))
        storage = storages.setdefault(key, whole)
        if (storage.dtype, storage.count) != (dtype, count):
            raise CorruptError(f"storage {quoted(key)} is described in two ways")
        if persistent_id[5] is None:
            return storage
        _, start, part = persistent_id[5]
        if not (is_count(start) and is_count(part) and start + part <= count):
            raise CorruptError(f"a view reaches beyond storage {quoted(key)}")
        return Storage(key, dtype, part, storage.read, start)

    content = load_tensors(pickles, persistent_load, size)
    keys = load(pickles)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CorruptError("its list of storages is none")
    if sorted(keys) != sorted(storages):
        raise CorruptError("its list of storages does not fit its tensors")
    position = pickles.tell()
    for key in keys:
        storage = storages[key]
        raw = read(position, 8)
        counts = {int.from_bytes(raw, "little"), int.from_bytes(raw, "big" if big else "little")}
        if storage.count not in counts:
            raise CorruptError(
                f"storage {quoted(key)} should have {storage.count} values, and has {min(counts)}"
            )
        positions[key] = position + 8
        position = positions[key] + storage.count * storage.dtype.itemsize
    if position > size:
        raise CorruptError(f"it ends before byte {position}")
    return content
