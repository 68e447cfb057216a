"""What animating should take on accelerators: counted from the compiled parts, not run.

    python benchmarks/roofline.py --checkpoint weights [--chunks 1,8,64] [--json]

compiles the parts that `python -m eamm_jax.export` writes, in the plain algorithms, counts
their operations and the bytes they move as XLA does, and prints in Markdown what a frame should
take on the devices of `machines.py`:

- the bound: of each part the longer of its operations at the peak and its bytes at the
  memory's bandwidth, and the iterations of its loops (LSTM and filters go frame by frame);
- expected: the same with a quarter of the peak and half of the bandwidth.

Bytes are those of the program compiled for a CPU, whose fusions are other than a GPU's or a
TPU's; in bfloat16 half of them are supposed. Copies from and to the host are left out: a frame
is 0.2 MB.
"""

# ruff: noqa: E402 (the path is set before the package is imported)

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import jax

from benchmarks.machines import A100, H100, TPU_V5E, Machine
from eamm_jax.animate import Animator
from eamm_jax.export import flatten, make_parts

MACHINES = (A100, H100, TPU_V5E)

QUICK_COMPILE = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
"""Nothing that is compiled here is run."""

PEAK_SHARE, MEMORY_SHARE = 0.25, 0.5
"""Of what is expected; a quarter of the peak is what `machines.py` has for training."""


def count(animator: Animator, chunk: int) -> dict[str, dict[str, float]]:
    """Operations, bytes and iterations of loops in a chunk, by part."""
    weights = {
        name: jax.ShapeDtypeStruct(value.shape, value.dtype)
        for name, value in flatten(animator.variables).items()
    }
    # The filters of a keypoint's place and Jacobian go one after the other, and so do those
    # of the displacement.
    loops = {
        "audio_to_keypoints": animator.config.audio_to_motion.lstm_layers * chunk,
        "combine": 4 * chunk,
    }
    counts = {}
    for name, part in make_parts(
        animator.config, animator.variables, frames_at_a_time=chunk
    ).items():
        compiled = jax.jit(part.run).lower(weights, part.inputs).compile()
        cost = compiled.cost_analysis() or {}
        counts[name] = {
            "flops": cost.get("flops", 0.0),
            "bytes": cost.get("bytes accessed", 0.0),
            "iterations": float(loops.get(name, 0)),
        }
    return counts


def seconds(counts: dict[str, float], machine: Machine, dtype: str, *, expected: bool) -> float:
    """Of one part, for a chunk."""
    peak = machine.peak[dtype] * (PEAK_SHARE if expected else 1.0)
    memory = machine.memory * (MEMORY_SHARE if expected else 1.0)
    num_bytes = counts["bytes"] / (2 if dtype == "bfloat16" else 1)
    computing = max(counts["flops"] / peak, num_bytes / memory)
    return computing + counts["iterations"] * machine.step


def predict(counts: dict[str, dict[str, float]], chunk: int) -> list[dict[str, Any]]:
    """Milliseconds a frame, by machine and type; the portrait's part is once and not counted."""
    rows = []
    for machine in MACHINES:
        for dtype in ("float32", "bfloat16"):
            row: dict[str, Any] = {"machine": machine.name, "dtype": dtype, "chunk": chunk}
            for kind in ("bound", "expected"):
                row[kind] = sum(
                    1e3 * seconds(part, machine, dtype, expected=kind == "expected") / chunk
                    for name, part in counts.items()
                    if name != "encode_source"
                )
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--chunks", default="1,8,64", help="frames at a time; default: %(default)s")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK_COMPILE}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    animator = Animator.from_checkpoint(arguments.checkpoint, fast=False, one_by_one=False)
    result = {}
    for chunk in map(int, arguments.chunks.split(",")):
        counts = count(animator, chunk)
        result[chunk] = {"parts": counts, "predicted": predict(counts, chunk)}
    if arguments.json:
        print(json.dumps(result))
        return
    print("| chunk | part | GFLOP a frame | MB a frame | FLOP a byte |\n|---|---|---|---|---|")
    for chunk, found in result.items():
        for name, part in found["parts"].items():
            frames = 1 if name == "see" else chunk
            print(
                f"| {chunk} | {name} | {part['flops'] / frames / 1e9:.2f} "
                f"| {part['bytes'] / frames / 1e6:.1f} | {part['flops'] / part['bytes']:.0f} |"
            )
    print("\n| machine | type | chunk | bound: ms a frame | expected: ms a frame, frames/s |")
    print("|---|---|---|---|---|")
    for found in result.values():
        for row in found["predicted"]:
            print(
                f"| {row['machine'].split(',')[0]} | {row['dtype']} | {row['chunk']} "
                f"| {row['bound']:.2f} | {row['expected']:.2f}, {1e3 / row['expected']:.0f} |"
            )


if __name__ == "__main__":
    main()
