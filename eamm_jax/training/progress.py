"""How a run shows itself: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

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

_PLAIN_WIDTH = 160
"""Columns for tables in a log file, where there is no terminal to fit."""


class Display:
    """Prints for the main process of a run, and nothing for the others."""

    def __init__(self, *, active: bool, console: Console | None = None):
        """Sets up; draws nothing yet.

        Args:
            active: whether this process prints.
            console: where to; by default the standard output.
        """
        console = console or Console()
        if not console.is_terminal:
            console = Console(file=console.file, width=_PLAIN_WIDTH, force_terminal=False)
        console.quiet = not active
        self.console = console
        self._bar: Progress | None = None
        self._seconds_a_step: float | None = None
        self._total = 0

    def start(self, step: int, total: int) -> None:
        """Begins to count steps.

        Args:
            step: steps that are done already.
            total: steps when the run will be complete.
        """
        self._total = total
        if self.console.is_terminal and not self.console.quiet:
            self._bar = Progress(
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
            )
            self._bar.start()
            self._bar.add_task("training", total=total, completed=step, note="")

    def step(self, step: int) -> None:
        """Notes that so many steps are done."""
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=step)

    def report(self, step: int, epoch: int, values: Mapping[str, float], seconds: float) -> None:
        """Shows the numbers of the last steps.

        Args:
            step: steps done.
            epoch: the one that runs, from 1.
            values: numbers by name.
            seconds: a step took.
        """
        numbers = "  ".join(f"{name} {format_number(value)}" for name, value in values.items())
        if self._bar:
            loss = format_number(values["loss"]) if "loss" in values else ""
            self._bar.update(self._bar.task_ids[0], note=f"epoch {epoch}  loss {loss}")
        left = format_duration((self._total - step) * seconds)
        self.line(f"step {step}/{self._total}  epoch {epoch}  {numbers}  {left} left")

    def line(self, text: str) -> None:
        """Prints a line (above the bar, if there is one)."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def table(self, table: Table) -> None:
        """Prints a table."""
        self.console.print(table)

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def validation_table(
    epoch: int, values: Mapping[str, float], best: Mapping[str, float] | None
) -> Table:
    """The end of an epoch: each validation metric beside that of the best epoch so far."""
    table = Table(title=f"Validation after epoch {epoch}", title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("best before", justify="right")
    for name, value in values.items():
        before = best.get(name) if best else None
        table.add_row(name, format_number(value), "" if before is None else format_number(before))
    return table


def format_number(value: float) -> str:
    """Four digits, in powers of ten where they are many."""
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
