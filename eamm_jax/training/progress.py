"""The output of a run: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

LOG_WIDTH = 160
"""Columns for tables in a log file, where there is no terminal to fit."""


class Display:
    """Prints for the main process of a run, and nothing for the others."""

    def __init__(self, *, active: bool, console: Console | None = None):
        """Prints nothing yet.

        Args:
            active: whether this process prints.
            console: by default the standard output.
        """
        console = console or Console()
        if not console.is_terminal:
            console = Console(file=console.file, width=LOG_WIDTH, force_terminal=False)
        console.quiet = not active
        self._console = console
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not (active and console.is_terminal),
        )
        self._task = self._progress.add_task("training", total=None, note="")
        self._total = 0

    def start(self, step: int, total: int) -> None:
        """Begins to count steps, of which some may be done already."""
        self._total = total
        self._progress.update(self._task, completed=step, total=total)
        self._progress.start()

    def step(self, step: int) -> None:
        """Notes how many steps are done."""
        self._progress.update(self._task, completed=step)

    def report(self, step: int, epoch: int, values: Mapping[str, float], seconds: float) -> None:
        """Prints the metrics of the last steps.

        Args:
            step: steps done.
            epoch: the current one, from 1.
            values: metrics by name.
            seconds: per step.
        """
        numbers = "  ".join(f"{name} {format_number(value)}" for name, value in values.items())
        self._progress.update(self._task, note=f"epoch {epoch}")
        left = format_duration((self._total - step) * seconds)
        self.line(f"step {step}/{self._total}  epoch {epoch}  {numbers}  {left} left")

    def line(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def table(self, table: Table) -> None:
        """Prints a table."""
        self._console.print(table)

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def validation_table(
    epoch: int, values: Mapping[str, float], best: Mapping[str, float] | None
) -> Table:
    """The end of an epoch: each validation metric beside that of the best epoch so far."""
    table = Table(title=f"Validation after epoch {epoch}", title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("best before", justify="right")
    for name, value in values.items():
        before = (best or {}).get(name)
        table.add_row(name, format_number(value), "" if before is None else format_number(before))
    return table


def format_number(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def format_duration(seconds: float) -> str:
    """In the unit that fits: "40 s", "12 min", "3.5 h", "2.1 days"."""
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.{1 if unit == 3600 else 0}f} {name}"
    return f"{seconds / 86_400:.1f} days"


def format_amount(amount: float, unit: str) -> str:
    """With a decimal prefix: "1.2 GFLOP", "340 MB"."""
    for power, prefix in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(amount) >= 10**power:
            return f"{amount / 10**power:.3g} {prefix}{unit}"
    return f"{amount:.3g} {unit}"
