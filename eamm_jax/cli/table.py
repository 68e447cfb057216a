"""The table of jobs of `infer.py --batch`: each row is a command line of its own."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eamm_jax.cli.tool import OneLineParser
from eamm_jax.errors import UserError
from eamm_jax.io.table import read_rows

if TYPE_CHECKING:
    from eamm_jax.animate.batch import Outcome

OF_THE_PROCESS = (
    "batch", "beam_runner", "checkpoint", "chunk", "dtype", "cpu", "quiet", "help"
)  # fmt: skip
"""Flags that are the same for all rows: the model is loaded and compiled once."""

SWITCH_WORDS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def read_table(
    table: Path, parser: OneLineParser, words: Sequence[str]
) -> dict[str, argparse.Namespace]:
    """Flags of every row.

    Args:
        table: CSV with a header; columns are named as flags are, without `--`, and separated by
            commas, semicolons or tabs. An empty cell leaves the flag as it is on the command
            line. Switches are `yes` or `no`.
        parser: of the flags.
        words: of the command line, which every row's cells are added to.

    Returns:
        Flags by the row's name, such as `jobs.csv, row 2`; rows are counted as spreadsheets
        do, from the header.

    Raises:
        UserError: it is no such table, or a cell is not what its flag takes.
    """
    rows = read_rows(table, "table of jobs")
    header = [name.strip().removeprefix("--") for name in next(rows, (1, []))[1]]
    actions = parser.flags
    for name in header:
        if name in OF_THE_PROCESS:
            raise UserError(f"{table}: --{name} is the same for all rows: it cannot be a column")
        if name not in actions:
            near = difflib.get_close_matches(name, set(actions) - set(OF_THE_PROCESS), 1)
            hint = f"did you mean {near[0]!r}?" if near else "columns are named as flags are"
            raise UserError(f"{table}: no flag is called as the column {name!r}; {hint}")
        if header.count(name) > 1:
            raise UserError(f"{table}: there are two columns {name!r}")
    flags = {}
    for number, cells in rows:
        row = f"{table}, row {number}"
        if not any(cells):
            continue
        if len(cells) > len(header):
            raise UserError(f"{row}: {len(cells)} cells, but the table has {len(header)} columns")
        try:
            given = {name: cell for name, cell in zip(header, cells, strict=False) if cell}
            added = [
                word for name, cell in given.items() for word in _words(name, actions[name], cell)
            ]
            flags[row] = parser.parse_words([*words, *added])
            for name, cell in given.items():
                action = actions[name]
                off = action.nargs == 0 and not SWITCH_WORDS[cell.lower()]
                if off and getattr(flags[row], action.dest) == action.const:
                    raise UserError(f"{name} is no, but the command line has --{name} for all rows")
        except UserError as error:
            raise UserError(f"{row}: {error}") from None
    if not flags:
        raise UserError(f"{table} holds no jobs: a header and a row for each video are needed")
    return flags


def _words(name: str, action: argparse.Action, cell: str) -> list[str]:
    """A cell as words of the command line."""
    if action.nargs != 0:
        return [f"--{name}={cell}"]
    if cell.lower() not in SWITCH_WORDS:
        raise UserError(f"{name} is {cell!r}; allowed are yes and no")
    if SWITCH_WORDS[cell.lower()]:
        return [f"--{name}"]
    return [f"--no-{name}"] if isinstance(action, argparse.BooleanOptionalAction) else []


def print_outcomes(outcomes: dict[str, Outcome]) -> None:
    """A table of what became of each row."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    devices = {outcome.device for outcome in outcomes.values()}
    table = Table("row", "video", title_justify="left")
    table.add_column("frames", justify="right")
    table.add_column("seconds", justify="right")
    if len(devices) > 1:
        table.add_column("device")
    table.add_column("")
    for row, outcome in outcomes.items():
        summary = outcome.summary
        table.add_row(
            row.rpartition(" ")[2],
            Text(str(outcome.job.output)),
            "" if summary is None else str(summary.frames),
            "" if summary is None else f"{summary.total:.1f}",
            *([outcome.device] if len(devices) > 1 else []),
            "done" if summary is not None else Text(f"failed: {outcome.error}"),
        )
    done = [outcome.summary for outcome in outcomes.values() if outcome.summary is not None]
    table.title = f"{len(done)} of {len(outcomes)} videos, {sum(s.frames for s in done)} frames"
    Console(soft_wrap=not Console().is_terminal).print(table)
