"""Files that the user packs once, because the project does not ship what is in them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from eamm_jax.errors import UserError
from eamm_jax.io.runtime import cache_folder


@dataclass(frozen=True)
class PackedFile:
    """Where a packed file is looked for.

    Attributes:
        name: of the file in the user's cache folder.
        content: what it holds, for messages.
        how_to_get: tells the user how to make it.
    """

    name: str
    content: str
    how_to_get: str

    def default_path(self) -> Path:
        """Its place in the user's cache folder.

        Raises:
            UserError: there is no cache folder that can be written to.
        """
        folder = cache_folder()
        if folder is None:
            raise UserError(f"no cache folder for the {self.content}: name the file")
        return folder / self.name

    def find(self, path: str | os.PathLike[str] | None = None) -> Path:
        """The file, without links.

        Args:
            path: where it is; None is its default path.

        Raises:
            UserError: it is not there.
        """
        found = Path(path) if path else self.default_path()
        if not found.is_file():
            raise UserError(f"no {self.content} at {found}: {self.how_to_get}")
        return found.resolve()
