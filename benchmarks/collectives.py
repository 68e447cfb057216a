"""Counts the collectives of a compiled program from its text, without running it."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import defaultdict

OPERATIONS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)

_BITS = {"pred": 8, "bf16": 16}
"""Bits of types whose names are not a letter and a number, such as f32."""

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (.+?) ([\w\-]+)\((.*)$")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|branch_computations|called_computations)="
    r"(\{[^}]*\}|%?[\w.\-]+)"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass
class Traffic:
    """Collectives of one kind in one step, per device.

    Attributes:
        count: number of executions.
        num_bytes: total size of their results.
    """

    count: int = 0
    num_bytes: int = 0


def count_collectives(hlo: str) -> dict[str, Traffic]:
    """Counts the collectives run by one device, by kind.

    Collectives in a loop count once per iteration.

    Args:
        hlo: text of a partitioned program of the CPU backend, where collectives are
            synchronous (`jax.stages.Compiled.as_text()`).

    Raises:
        ValueError: a collective is in a loop of unknown length, or is asynchronous.
    """
    computations, entry = _computations(hlo)
    found: dict[str, Traffic] = defaultdict(Traffic)

    def visit(name: str, runs: int | None) -> None:
        for shape, operation, rest in computations[name]:
            if operation.removesuffix("-start") in OPERATIONS:
                if runs is None or operation not in OPERATIONS:
                    where = "in a loop of unknown length" if runs is None else "asynchronous"
                    raise ValueError(f"{operation} in {name} is {where}")
                found[operation].count += runs
                found[operation].num_bytes += runs * _bytes(shape)
                continue
            inner = runs
            if operation == "while":
                trips = _TRIPS.search(rest)
                inner = runs * int(trips[1]) if runs is not None and trips else None
            for called in _CALLED.findall(rest):
                for target in re.findall(r"[\w.\-]+", called):
                    visit(target, inner)

    visit(entry, 1)
    return dict(found)


def _computations(hlo: str) -> tuple[dict[str, list[tuple[str, str, str]]], str]:
    """Shape, operation and the rest of every instruction, by computation; and the entry's name."""
    computations: dict[str, list[tuple[str, str, str]]] = {}
    entry = current = ""
    for line in hlo.splitlines():
        header = _COMPUTATION.match(line)
        if header:
            current = header[2]
            computations[current] = []
            if header[1]:
                entry = current
        elif instruction := _INSTRUCTION.match(line):
            computations[current].append((instruction[1], instruction[2], instruction[3]))
    return computations, entry


def _bytes(shape: str) -> int:
    """Size of an array, or of all arrays of a tuple."""
    total = 0
    for dtype, sizes in _SHAPE.findall(shape):
        bits = _BITS.get(dtype) or int(re.sub(r"^[a-z]+", "", dtype))
        total += math.prod(int(size) for size in filter(None, sizes.split(","))) * bits // 8
    return total
