"""Predictions for accelerators: what bounds a part, and what is supposed of it."""

import pytest

from benchmarks.machines import Machine
from benchmarks.roofline import predict, seconds

MACHINE = Machine(
    "toy", {"float32": 100.0, "bfloat16": 200.0}, 10.0, sustained=25.0, step=0.5, link=1, latency=1
)


def part(flops: float, num_bytes: float, iterations: float = 0) -> dict[str, float]:
    return {"flops": flops, "bytes": num_bytes, "iterations": iterations}


@pytest.mark.parametrize(
    ("counts", "dtype", "expected", "found"),
    [
        (part(1000, 10), "float32", False, 10.0),  # operations
        (part(1000, 10), "bfloat16", False, 5.0),
        (part(100, 200), "float32", False, 20.0),  # bytes
        (part(100, 200), "bfloat16", False, 10.0),  # of half the size
        (part(1000, 10), "float32", True, 40.0),
        (part(100, 200), "float32", True, 40.0),
        (part(0, 0, 6), "float32", True, 3.0),  # loops
    ],
)
def test_the_longer_of_operations_and_bytes_bounds_a_part(counts, dtype, expected, found):
    assert seconds(counts, MACHINE, dtype, expected=expected) == pytest.approx(found)


def test_the_portrait_is_not_in_a_frame():
    counts = {"encode_source": part(1e15, 1e15), "render": part(8e12, 1e3)}
    for row in predict(counts, chunk=8):
        assert row["bound"] < 10  # ms
        assert row["bound"] < row["expected"]
