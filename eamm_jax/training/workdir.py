"""The work directory of a run: a folder, or a place on Google Cloud Storage (`gs://`).

Orbax writes checkpoints to either. Whatever else a run writes (networks, metrics, TensorBoard,
configuration) is made of files that are appended to or replaced, which object stores do not offer:
those of a remote work directory are written to a temporary folder, and copied whenever the run
saves.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, suppress
from pathlib import Path

from etils import epath

from eamm_jax.checkpoint import CONFIG_NAME, WORKDIR_MODEL
from eamm_jax.errors import UserError
from eamm_jax.io.files import removed_if_empty, temporary_folder
from eamm_jax.training.checkpoint import FOLDER as CHECKPOINTS_FOLDER
from eamm_jax.training.distributed import is_main_process
from eamm_jax.training.metrics import JSONL_NAME

REMOTE = "gs://"


class Workdir:
    """Where a run writes.

    Attributes:
        path: absolute; Orbax writes below it.
        folder: a local folder for all other files; it is `path` itself unless that is remote.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Makes the work directory if need be, and reads what an earlier run left in it.

        Raises:
            UserError: it cannot be used.
        """
        self._remote = _is_remote(path)
        self.path = epath.Path(path) if self._remote else epath.Path(Path(path).resolve())
        self._copied: dict[Path, tuple[int, int]] = {}
        self._stack = ExitStack()
        if not self._remote:
            self.folder = Path(path)
            self._make()
            return
        self.folder = self._stack.enter_context(temporary_folder())
        for name in (CONFIG_NAME, JSONL_NAME):
            _fetch(self.path / name, self.folder / name)
        _fetch_model(self.path / WORKDIR_MODEL, self.folder / WORKDIR_MODEL)
        self._copied = dict(self._files())

    def __enter__(self) -> Workdir:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._stack, suppress(*[UserError] if kind else []):  # the first error is the cause
            self.publish()

    def local(self, path: str | os.PathLike[str] | None) -> str | os.PathLike[str] | None:
        """A model or work directory that a run starts from, as a local folder.

        Raises:
            UserError: it is remote and holds no model.
        """
        if path is None or not _is_remote(path):
            return path
        given = epath.Path(path)
        if self._remote and given in (self.path, self.path / WORKDIR_MODEL):
            return self.folder
        copy = self._stack.enter_context(temporary_folder()) / WORKDIR_MODEL
        for folder in (given / WORKDIR_MODEL, given):
            _fetch_model(folder, copy)
            if copy.is_dir():
                return copy
        raise UserError(f"{path} holds no model and is no work directory with one")

    def publish(self) -> None:
        """Copies what was written since the last time to a remote work directory.

        Raises:
            UserError: it cannot be written to.
        """
        if not self._remote or not is_main_process():
            return
        changed = {file: stamp for file, stamp in self._files() if self._copied.get(file) != stamp}
        described = self.folder / WORKDIR_MODEL / CONFIG_NAME
        try:
            if described in changed:  # without it there is no model: none is seen half copied
                self._there(described).unlink(missing_ok=True)
            for file in sorted(changed, key=lambda file: file == described):
                self._there(file).parent.mkdir(parents=True, exist_ok=True)
                with file.open("rb") as source, self._there(file).open("wb") as target:
                    shutil.copyfileobj(source, target)
        except Exception as error:  # each file system has its own
            raise UserError(f"Cannot write to {self.path}: {error}") from error
        self._copied |= changed

    def _there(self, file: Path) -> epath.Path:
        return self.path / file.relative_to(self.folder).as_posix()

    def _files(self) -> list[tuple[Path, tuple[int, int]]]:
        """Local files, with what changes when they do."""
        found = []
        for file in self.folder.rglob("*"):
            hidden = any(part.startswith(".") for part in file.relative_to(self.folder).parts)
            if file.is_file() and not hidden:
                found.append((file, (file.stat().st_mtime_ns, file.stat().st_size)))
        return found

    def _make(self) -> None:
        self._stack.enter_context(removed_if_empty(self.folder, self.folder / CHECKPOINTS_FOLDER))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"Cannot make the work directory {self.folder}: {error.strerror}"
            ) from None
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise UserError(f"Cannot write to the work directory {self.folder}: permission denied")


def _is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is on Google Cloud Storage.

    Raises:
        UserError: it is on another store.
    """
    scheme, separator, _ = os.fspath(path).partition("://")
    if separator and f"{scheme}://" != REMOTE:
        raise UserError(
            f"{path}: checkpoints are written by Orbax, which knows folders and {REMOTE}, but not "
            f"{scheme}://; name one of these, or mount the bucket as a folder"
        )
    return bool(separator)


def _fetch_model(there: epath.Path, here: Path) -> None:
    """Copies a model if there is a complete one."""
    if _fetch(there / CONFIG_NAME, here / CONFIG_NAME):
        for file in there.iterdir():
            _fetch(there / file.name, here / file.name)


def _fetch(there: epath.Path, here: Path) -> bool:
    """Copies a file if it is there."""
    try:
        if not there.exists() or there.is_dir():
            return False
        here.parent.mkdir(exist_ok=True)
        with there.open("rb") as source, here.open("wb") as target:
            shutil.copyfileobj(source, target)
    except ImportError as error:
        raise UserError(
            f"{there}: {REMOTE} needs the extra cloud: pip install 'eamm_jax[cloud]'"
        ) from error
    except Exception as error:  # each file system has its own
        raise UserError(f"Cannot read {there}: {' '.join(str(error).split())}") from error
    return True
