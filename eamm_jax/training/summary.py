"""What a run is about to do: its networks, and what a step costs in work and memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.table import Table

from eamm_jax.input_pipeline import Batches
from eamm_jax.training.progress import format_amount
from eamm_jax.training.stage import TrainState

PyTree = Any


@dataclasses.dataclass(frozen=True)
class StepCost:
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
    for name, params in state.params.items():
        table.add_row(name, f"{count_parameters(params):,}", "trained")
    for name, variables in state.frozen.items():
        table.add_row(name, f"{count_parameters(variables.get('params', {})):,}", "frozen")
    return table


def count_parameters(tree: PyTree) -> int:
    """Numbers in a tree of arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


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
