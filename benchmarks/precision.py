"""What bfloat16 gains and what it costs: time of the parts, and PSNR against float32.

    python benchmarks/precision.py --checkpoint weights [--chunk 8] [--repeats 5] [--json]

times, in turns, what the animator computes for a chunk in float32 and in bfloat16, and compares
the frames of a short animation (the bundled portrait and voice).
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

DTYPES = ("float32", "bfloat16")


def frames(animator: Any, count: int) -> np.ndarray:
    """The first frames of the demonstration, in [0, 1]."""
    from eamm_jax import bundled
    from eamm_jax.io.arrays import read_pose
    from eamm_jax.io.audio import read_speech
    from eamm_jax.io.image import read_image

    portrait = read_image(bundled.PORTRAIT, animator.image_size)
    animation = animator.animate(
        portrait, read_speech(bundled.SPEECH), read_pose(bundled.POSE), as_uint8=False
    )
    return np.stack([frame.image for frame in itertools.islice(animation, count)])


def psnr(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Of each frame, in dB."""
    error = np.mean((found.astype(np.float64) - expected) ** 2, axis=(1, 2, 3))
    return -10 * np.log10(np.maximum(error, 1e-20))


def drawing(animator: Any) -> Callable[[], Any]:
    """What draws a chunk."""
    import jax

    parts, variables = animator.parts, animator.variables
    image = np.full((1, *2 * (animator.image_size,), 3), 0.5, np.float32)
    source = parts.encode_source(variables, image)
    driving = jax.tree.map(lambda x: np.repeat(x, animator.chunk, axis=0), source.keypoints)
    return lambda: parts.render(
        variables, source.features, source.keypoints, driving, animator.chunk
    )


def measure(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    from benchmarks.timing import in_turns
    from eamm_jax.animate import Animator

    animators = {
        name: Animator.from_checkpoint(
            arguments.checkpoint, emotion=False, chunk=arguments.chunk, dtype=name
        )
        for name in DTYPES
    }
    drawn = {name: frames(animator, arguments.frames) for name, animator in animators.items()}
    jobs = {name: drawing(animator) for name, animator in animators.items()}
    times = in_turns(jobs, arguments.repeats)
    first = DTYPES[0]
    result = {}
    for name in DTYPES:
        ratios = times[first] / times[name]
        result[name] = {
            "ms_a_frame": 1e3 * float(np.median(times[name])) / arguments.chunk,
            "best_ms_a_frame": 1e3 * float(np.min(times[name])) / arguments.chunk,
            "times_faster": float(np.median(ratios)),
        }
        if name != first:
            found = psnr(drawn[name], drawn[first])
            result[name]["psnr"] = float(found.mean())
            result[name]["least_psnr"] = float(found.min())
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--chunk", type=int, default=8)
    parser.add_argument("--frames", type=int, default=8, help="that are compared")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments)
    if arguments.json:
        print(json.dumps(result))
        return
    print("| | drawing: ms a frame | best | against float32 | PSNR, mean and least |")
    print("|---|---|---|---|---|")
    for name, row in result.items():
        quality = f"{row['psnr']:.1f}, {row['least_psnr']:.1f} dB" if "psnr" in row else ""
        print(
            f"| {name} | {row['ms_a_frame']:.0f} | {row['best_ms_a_frame']:.0f} "
            f"| {row['times_faster']:.2f} x | {quality} |"
        )


if __name__ == "__main__":
    main()
