"""What a run prints: a bar on a terminal, plain lines elsewhere, and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import jax
from ml_collections import ConfigDict
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

from eamm_jax.training.stage import TrainState

if TYPE_CHECKING:  # benchmarks of bare machines have no input pipeline
    from eamm_jax.input_pipeline import Batches

LOG_WIDTH = 160
"""Columns for tables in a log file, where there is no terminal to fit."""


class Display:
    """Prints for the main process of a run, and nothing for the others."""

    def __init__(self, *, active: bool):
        """Prints nothing yet; `active` says whether this process prints."""
        console = Console(quiet=not active)
        if not console.is_terminal:
            console.width = LOG_WIDTH
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


class StepCost(NamedTuple):
    """The compiler's estimates for one step, for each device.

    Attributes:
        flops: floating-point operations of its share of the batch; 0 if unknown.
        arguments: bytes of the state and the batch, which live through the step.
        temporaries: bytes of everything in between, activations above all.
    """

    flops: float
    arguments: int
    temporaries: int

    @property
    def memory(self) -> int:
        """Bytes a device needs for the step."""
        return self.arguments + self.temporaries


def step_cost(compiled: jax.stages.Compiled) -> StepCost:
    """Reads the costs of a compiled step."""
    memory = compiled.memory_analysis()
    return StepCost(
        flops=float((compiled.cost_analysis() or {}).get("flops", 0.0)),
        arguments=int(getattr(memory, "argument_size_in_bytes", 0)),
        temporaries=int(getattr(memory, "temp_size_in_bytes", 0)),
    )


def describe_run(
    name: str, config: ConfigDict, batches: Batches, held_out: Batches | None, step: int, total: int
) -> str:
    """One line before the long wait for the compiler."""
    begins = f"resumes from step {step}" if step else "starts"
    return (
        f"{name} {begins}: {total:,} steps, {config.steps_per_epoch:,} an epoch; batches of "
        f"{config.batch_size} on {jax.device_count()} x {jax.devices()[0].device_kind} "
        f"({jax.process_count()} processes); examples: {batches.num_examples:,} for training, "
        f"{held_out.num_examples if held_out else 0:,} for validation"
    )


def networks_table(state: TrainState) -> Table:
    """Parameters by network, and whether they are trained."""
    table = Table(title="Networks", title_justify="left")
    table.add_column("network")
    table.add_column("parameters", justify="right")
    table.add_column("")
    frozen = {name: variables.get("params", {}) for name, variables in state.frozen.items()}
    for networks, kind in ((state.params, "trained"), (frozen, "frozen")):
        for name, params in networks.items():
            count = sum(leaf.size for leaf in jax.tree.leaves(params))
            table.add_row(name, f"{count:,}", kind)
    return table


def describe_step(compiled: jax.stages.Compiled, num_devices: int, seconds: float) -> str:
    """One line: FLOPs and memory of a step, and how long it took to compile."""
    cost = step_cost(compiled)
    each = " on each device" if num_devices > 1 else ""
    return (
        f"a step takes {format_amount(cost.flops, 'FLOP')} and "
        f"{format_amount(cost.memory, 'B')} of memory{each} "
        f"({format_amount(cost.arguments, 'B')} state and batch, "
        f"{format_amount(cost.temporaries, 'B')} in between); compiled in {seconds:.0f} s"
    )


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
