"""Atomic outputs, and clear messages about paths that cannot be used."""

from __future__ import annotations

import errno
import importlib.util
import os
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eamm_jax.errors import UserError, named

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""How the files end that are taken from a folder, in lower case; the others stay where they are."""

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
"""Errors of the operating system that can only come from writing."""

_LONGEST_NAME = 240
"""In bytes. Most file systems allow 255, and temporary names are a little longer."""


def check_readable(path: str | os.PathLike[str], what: str) -> Path:
    """Checks that an input file is readable, before long work starts.

    Args:
        path: the file.
        what: its role ("portrait", "speech"), for the message.

    Returns:
        The path.

    Raises:
        UserError: it does not exist, is not a file, is empty, or is not readable.
    """
    path = Path(path)
    try:
        is_file, size = path.is_file(), path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"No such {what}: {path}") from None
    except (OSError, ValueError) as error:  # name too long, no permission, null byte
        raise UserError(f"Cannot read the {what} {str(path)!r}: {_reason(error)}") from None
    if path.is_dir():
        raise UserError(f"Cannot read the {what} {path}: it is a folder, a file was expected")
    if is_file and not size:
        raise UserError(f"Cannot read the {what} {path}: the file is empty (0 bytes)")
    if not os.access(path, os.R_OK):
        raise UserError(f"Cannot read the {what} {path}: permission denied")
    return path


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Checks that an output can be written, before long work starts.

    Args:
        path: the file or folder to write.

    Returns:
        The path.

    Raises:
        UserError: its folder does not exist or is not writable, or `path` exists and is neither
            a file nor a folder.
    """
    path = Path(path)
    try:
        folder = path.resolve().parent
        if not folder.exists():
            raise UserError(f"Cannot write {path}: there is no folder {folder}; make it first")
        if not folder.is_dir():
            raise UserError(f"Cannot write {path}: {folder} is not a folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(f"Cannot write {path}: permission denied in {folder}")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(f"Cannot write {path}: it is neither a file nor a folder")
    except (OSError, ValueError, RuntimeError) as error:  # too long, null byte, link loop
        raise UserError(f"Cannot write {str(path)!r}: {_reason(error)}") from None
    return path


class InputFiles:
    """Files of the user that no output may replace.

    Args:
        paths: the inputs, which need not exist.
    """

    def __init__(self, paths: Iterable[Path]):
        self._by_identity: dict[Path | tuple[int, int], Path] = {}
        self._by_folder: dict[Path | tuple[int, int], Path] = {}
        for path in paths:
            for identity in _identities(path):
                self._by_identity.setdefault(identity, path)
                if isinstance(identity, Path):
                    self._by_folder |= dict.fromkeys(identity.parents, path)

    def check_kept(self, outputs: Iterable[Path], *, replaces_folders: bool = False) -> None:
        """Makes sure that writing leaves every input as it is.

        Args:
            outputs: files and folders to be written.
            replaces_folders: whether an output that is a folder loses what is in it.

        Raises:
            UserError: an output is an input, by this or another name or link, or a folder that
                is to be replaced contains one.
        """
        for output in outputs:
            for identity in _identities(output):
                if identity in self._by_identity:
                    raise UserError(
                        f"Cannot write {output}: it is the input {self._by_identity[identity]}, "
                        "which would be overwritten; name another output"
                    )
                if replaces_folders and identity in self._by_folder:
                    raise UserError(
                        f"Cannot replace the folder {output}: it contains the input "
                        f"{self._by_folder[identity]}; name another output"
                    )


def _identities(path: Path) -> Iterator[Path | tuple[int, int]]:
    """What two names of one file have in common: where links lead, and the file itself."""
    with suppress(OSError, ValueError, RuntimeError):  # what cannot be a file has neither
        yield path.resolve()
        found = path.stat()
        yield found.st_dev, found.st_ino


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Makes a folder, and those above it, unless it is there.

    Raises:
        UserError: it cannot be made; a file is in the way, or permission is denied.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"Cannot make the folder {path}: there is a file of that name") from None
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot make the folder {str(path)!r}: {_reason(error)}") from None
    return path


@contextmanager
def removed_if_empty(*folders: Path) -> Iterator[None]:
    """Removes those folders in the end that were not there before the block and hold nothing."""
    new = [folder for folder in folders if not folder.exists()]
    try:
        yield
    finally:
        for folder in reversed(new):
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def temporary_folder(prefix: str = "eamm_jax_") -> Iterator[Path]:
    """A folder for as long as the block lasts.

    Raises:
        UserError: there is no place for it.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
    except OSError as error:
        raise UserError(
            f"Cannot make a temporary folder: {_reason(error)}; set TMPDIR to a folder that can "
            "be written to"
        ) from None
    with folder as name:
        yield Path(name)


def joined_name(parts: Iterable[str], suffix: str) -> str:
    """A file's name made of others, no longer than file systems allow: `portrait_voice.mp4`."""
    parts = list(parts)
    room = (_LONGEST_NAME - len(suffix)) // len(parts) - 1
    short = (part.encode(errors="surrogateescape")[:room] for part in parts)
    return "_".join(part.decode(errors="ignore") for part in short) + suffix


def _reason(error: Exception) -> str:
    """The operating system's message of an error, without number and file name."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def cannot_write(path: Path, error: OSError) -> UserError:
    """The error for a failed output: "Cannot write x.mp4: no space left on device"."""
    return UserError(f"Cannot write {path}: {_reason(error)}; nothing was kept")


def _temporary(target: Path) -> Path:
    """A unique hidden name beside `target`, with the same extension."""
    return target.with_name(f".{target.stem[:40]}.{secrets.token_hex(4)}{target.suffix}")


@contextmanager
def _removed_on_failure(path: Path, temporary: Path) -> Iterator[None]:
    try:
        yield
    except BaseException as error:  # an interrupt must not leave a partial file either
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            raise cannot_write(path, error) from error
        raise


@contextmanager
def atomic_output(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Writes a file atomically.

    Args:
        path: the file to write; an existing one is replaced. Links are followed.

    Yields:
        A temporary path beside it, with the same extension. It is renamed to `path` when the
        block ends, and removed if the block raises anything, interrupts included.

    Raises:
        UserError: the file cannot be written, or the disk is full.
    """
    path = check_writable(path)
    if path.is_dir():
        raise UserError(f"Cannot write {path}: it is a folder, the name of a file was expected")
    target = path.resolve()
    temporary = _temporary(target)
    with _removed_on_failure(path, temporary):
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # so that a full disk is noticed now
        temporary.replace(target)


def packaged_file(package: str, name: str | os.PathLike[str]) -> Path | None:
    """A file that comes with an installed package, which is not imported; None if it is not there.

    Args:
        package: by its name on import.
        name: of the file below the package.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / name
    return path if path.is_file() else None


_MAC_NAMES = (".DS_Store", "._")
"""How files begin that a Mac leaves in folders that it has shown."""


def is_file_of(path: Path, suffixes: Collection[str]) -> bool:
    """Whether it is a file with one of these suffixes, and none that a Mac leaves beside it."""
    named = path.suffix.lower() in suffixes and not path.name.startswith(_MAC_NAMES)
    return named and path.is_file()


def check_output_folder(
    path: str | os.PathLike[str], replaces: Collection[str] | None = None
) -> Path:
    """Checks that a folder can be written, before long work starts.

    Args:
        path: the folder.
        replaces: names of what an existing folder may hold to be replaced; None is nothing.

    Returns:
        The path.

    Raises:
        UserError: it cannot be written, is a file, or holds other things.
    """
    path = check_writable(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"Cannot write the folder {path}: there is a file of that name")
    try:
        names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    except OSError as error:
        raise UserError(f"Cannot write the folder {path}: {_reason(error)}") from None
    present = [name for name in names if not name.startswith(_MAC_NAMES)]
    if present and replaces is None:
        raise UserError(
            f"Cannot write the folder {path}: it exists and is not empty; "
            "name another or remove it first"
        )
    foreign = [name for name in present if replaces is None or name not in replaces]
    if foreign:
        raise UserError(
            f"Cannot overwrite the folder {path}: it also holds {named(foreign)}, which would be "
            "lost; name another folder"
        )
    return path


@contextmanager
def atomic_output_dir(
    path: str | os.PathLike[str], replaces: Collection[str] | None = None
) -> Iterator[Path]:
    """Writes a folder atomically.

    Args:
        path: the folder to write.
        replaces: names of what an existing folder may hold to be replaced, once the new one is
            complete; None is nothing.

    Yields:
        A temporary empty folder beside it. It is renamed to `path` when the block ends, and
        removed if the block raises anything, interrupts included.

    Raises:
        UserError: as `check_output_folder`, or the disk is full.
    """
    path = check_output_folder(path, replaces)
    target = path.resolve()
    temporary = _temporary(target)
    try:
        temporary.mkdir()
    except OSError as error:
        raise cannot_write(path, error) from error
    with _removed_on_failure(path, temporary):
        yield temporary
        old = _temporary(target)
        if target.exists():
            target.replace(old)
        temporary.replace(target)
        shutil.rmtree(old, ignore_errors=True)
