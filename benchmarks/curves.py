"""Time and memory against the length of the sound, the chunk and the resolution, as a picture.

    python benchmarks/curves.py --checkpoint weights --output docs/performance.png \
        [--lengths 1,4,15] [--bundled_lengths 1,10,60,600] [--chunks 1,2,4,8,16]
        [--sizes 128,256,512] [--json docs/performance.json]

Every point is a process of its own, whose peak memory is its own, with a filled compilation
cache. Lengths are seconds of sound: a minute at the published size is 1500 frames, so that
`--lengths 1,4,15,60,600` takes hours; the small model that comes with the package goes through
the whole range. Resolutions are the published widths with random weights. Needs matplotlib
(`pip install -e '.[bench]'`).
"""

# ruff: noqa: E402 (the path is set before the package is imported)

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import inference

MEBI = 1024.0
LENGTHS = {"published size": "o", "bundled model": "s"}
"""Curves of length, and their marks."""

PARTS = ("audio_to_keypoints", "read_emotion", "combine", "render")


# Points, each in a process of its own: `--point` describes one, and it prints its result.


def measure_point(point: dict[str, Any]) -> dict[str, Any]:
    """A run of noise: seconds a frame, to the first one and in all; peak memory; parts."""
    from eamm_jax.io.runtime import keep_freed_memory

    keep_freed_memory()  # as infer.py does
    animator = _animator(point)
    start = time.perf_counter()
    inputs = inference.inputs(animator, point["seconds"])
    if not animator.has_emotion_network:
        del inputs["emotion_frames"]
    frames = iter(animation := animator.animate(**inputs))
    next(frames)
    first = time.perf_counter()
    for _ in frames:
        pass
    done = time.perf_counter()
    result = {
        **point,
        "frames": len(animation),
        "first_frame": first - start,
        "total": done - start,
        "seconds_per_frame": (done - first) / inference.after_first_chunk(animator, len(animation)),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEBI**2,
    }
    if point.get("parts"):
        result["parts"] = inference.parts(animator, 3)
    return result


def _animator(point: dict[str, Any]) -> Any:
    from eamm_jax.animate import Animator

    if "size" not in point:
        return Animator.from_checkpoint(
            point["checkpoint"], emotion=point["emotion"], chunk=point["chunk"]
        )
    return Animator(*random_model(point["size"]), chunk=point["chunk"])


def random_model(size: int) -> tuple[Any, dict[str, Any]]:
    """The published widths at another resolution, with random parameters."""
    from benchmarks.workload import random_variables
    from eamm_jax.animate.program import EMOTION_NETWORK, REQUIRED_NETWORKS
    from eamm_jax.models.config import published

    # The maps inside keep their share of the picture, as in the published model.
    config = dataclasses.replace(published(), image_size=size)
    return config, random_variables(config, (*REQUIRED_NETWORKS, EMOTION_NETWORK))


# The parent process.


def run_point(point: dict[str, Any], cache: str) -> dict[str, Any]:
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    }
    done = subprocess.run(
        [sys.executable, __file__, "--point", json.dumps(point)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{point} failed")
    result = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def measure(arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    from eamm_jax import bundled

    large = {"checkpoint": str(arguments.checkpoint), "emotion": True}
    small = {"checkpoint": str(bundled.MODEL), "emotion": False}
    lengths, chunks, sizes = arguments.lengths, arguments.chunks, arguments.sizes
    with tempfile.TemporaryDirectory() as cache:

        def run(point: dict[str, Any]) -> dict[str, Any]:
            # The first fills the cache, and takes the compiler's memory.
            run_point({**point, "seconds": 1.0, "parts": False}, cache)
            return run_point(point, cache)

        def series(base: dict[str, Any], name: str, values: list[Any]) -> list[dict[str, Any]]:
            if name != "seconds":
                return [run({**base, name: value}) for value in values]
            points = [{**base, name: value} for value in values]
            return [run(points[0]), *(run_point(point, cache) for point in points[1:])]

        short = {"seconds": arguments.seconds, "parts": True}
        return {
            "published size": series({**large, "chunk": 8}, "seconds", lengths),
            "bundled model": series({**small, "chunk": 8}, "seconds", arguments.bundled_lengths),
            "chunk": series({**large, **short}, "chunk", chunks),
            "size": series({**short, "chunk": 8}, "size", sizes),
        }


def draw(result: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """The picture: linear cost and constant memory, what a chunk gains, where pixels cost."""
    try:
        import matplotlib as mpl
    except ImportError:
        sys.exit("the picture needs matplotlib: pip install -e '.[bench]'")
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
    time_axis, memory_axis, chunk_axis, size_axis = axes.flat
    for name, marker in LENGTHS.items():
        points = result[name]
        seconds = [point["seconds"] for point in points]
        time_axis.plot(seconds, [p["total"] for p in points], marker=marker, label=name)
        memory_axis.plot(seconds, [p["peak_memory_gb"] for p in points], marker=marker, label=name)
    lengths = sorted({point["seconds"] for name in LENGTHS for point in result[name]})
    time_axis.plot(lengths, lengths, ":", color="gray", label="as long as the sound")
    time_axis.set_yscale("log")
    for axis in (time_axis, memory_axis):
        axis.set_xscale("log")
        axis.set_xticks(lengths, [f"{seconds:g}" for seconds in lengths], minor=False)
        axis.minorticks_off()
        axis.set_xlabel("seconds of sound")
        axis.legend()
        axis.grid(alpha=0.3)
    time_axis.yaxis.set_major_formatter("{x:g}")
    time_axis.set_title("Time grows with the sound")
    time_axis.set_ylabel("seconds, first frame included")
    memory_axis.set_ylim(bottom=0)
    memory_axis.set_title("Memory does not")
    memory_axis.set_ylabel("peak memory, GB")
    for axis, name, label, title in (
        (chunk_axis, "chunk", "frames at a time", "Chunks, published size"),
        (size_axis, "size", "pixels a side", "Resolution, published widths"),
    ):
        points = result[name]
        where = np.arange(len(points))
        below = np.zeros(len(points))
        for part in PARTS:
            heights = np.array([1e3 * point["parts"][part] for point in points])
            axis.bar(where, heights, 0.6, bottom=below, label=part.replace("_", " "))
            below += heights
        whole = [1e3 * point["seconds_per_frame"] for point in points]
        axis.plot(where, whole, "k_", markersize=22, label="whole run")
        axis.set_xticks(where, [str(point[name]) for point in points])
        axis.set_xlabel(label)
        axis.set_ylabel("ms a frame")
        axis.set_title(title)
        axis.set_ylim(top=1.4 * max(*below, *whole))
        axis.legend(fontsize="small", ncols=2, loc="upper left")
    figure.savefig(path, dpi=100)


def numbers(kind: type) -> Any:
    return lambda text: [kind(word) for word in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--lengths", type=numbers(float), default=[1.0, 4.0, 15.0])
    parser.add_argument(
        "--bundled_lengths", type=numbers(float), default=[1.0, 4.0, 15.0, 60.0, 600.0]
    )
    parser.add_argument("--chunks", type=numbers(int), default=[1, 2, 4, 8, 16])
    parser.add_argument("--sizes", type=numbers(int), default=[128, 256, 512])
    parser.add_argument("--seconds", type=float, default=2.0, help="of chunks and resolutions")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "performance.png")
    parser.add_argument("--json", type=Path, help="where the numbers are kept")
    parser.add_argument("--from_json", type=Path, help="draw what was measured before")
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        print(json.dumps(measure_point(arguments.point)))
        return
    if arguments.from_json:
        result = json.loads(arguments.from_json.read_text())
    elif arguments.checkpoint:
        result = measure(arguments)
    else:
        parser.error("--checkpoint is missing")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    draw(result, arguments.output)


if __name__ == "__main__":
    main()
