"""Tables that people write: CSV with a header, as spreadsheets save them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from eamm_jax.errors import UserError
from eamm_jax.io.files import check_readable


def read_rows(path: Path, what: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV, the header first, by number; counted from 1 as spreadsheets do.

    Cells are separated by commas, semicolons or tabs, and come without blanks around them.

    Args:
        path: of the file.
        what: it is, for messages.

    Raises:
        UserError: it is no such table.
    """
    with check_readable(path, what).open(newline="", encoding="utf-8-sig") as file:
        try:
            header = file.readline()
            file.seek(0)
            # No column's name contains one of these; spreadsheets choose by language.
            delimiter = max(",;\t", key=header.count)
            rows = csv.reader(file, strict=True, delimiter=delimiter)
            for number, row in enumerate(rows, start=1):
                yield number, [cell.strip() for cell in row]
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(
                f"{path} is not a table in CSV (UTF-8; commas, semicolons or tabs): {error}"
            ) from None
