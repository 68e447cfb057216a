"""Convolutions and their gradients: XLA's against `ops.convolution.conv`.

    python benchmarks/convolutions.py [--repeats 5] [--json]

prints the milliseconds of convolution, input gradient and kernel gradient for layers of the
published networks, with `jax.lax.conv_general_dilated` and with ours; in turns, medians.
"""

# ruff: noqa: E402 (the path is set before the package is imported)

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import in_turns
from eamm_jax.ops.convolution import conv


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution: its place in the model, its input, its kernel."""

    place: str
    shape: tuple[int, int, int, int]
    features: int
    size: int = 3
    padding: int = 1


LAYERS = (
    Layer("generator, residual block", (2, 64, 64, 256), 256),
    Layer("generator, first down", (2, 256, 256, 64), 128),
    Layer("generator, last up", (2, 256, 256, 128), 64),
    Layer("generator, first", (2, 256, 256, 3), 64, 7, 3),
    Layer("generator, last", (2, 256, 256, 64), 3, 7, 3),
    Layer("hourglass, second down", (2, 32, 32, 128), 256),
    Layer("hourglass, fourth down", (2, 8, 8, 512), 1024),
    Layer("hourglass, first up", (2, 4, 4, 1024), 1024),
    Layer("VGG-19 of the smallest scale, last", (2, 2, 2, 512), 512),
    Layer("audio encoder", (32, 26, 5, 256), 512),
    Layer("discriminator, second", (4, 126, 126, 64), 128, 4, 0),
)

JOBS = ("forward", "input gradient", "kernel gradient")


def of_xla(x: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    """XLA's convolution."""
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), ((padding,) * 2,) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def jobs(layer: Layer) -> dict[str, Callable[[], Any]]:
    """Both convolutions and their gradients, each compiled separately."""
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.standard_normal(layer.shape, np.float32))
    shape = (layer.size, layer.size, layer.shape[-1], layer.features)
    kernel = jnp.asarray(draw.standard_normal(shape, np.float32) / np.sqrt(np.prod(shape[:3])))
    padding = layer.padding
    grad = jnp.ones(jax.eval_shape(lambda: of_xla(x, kernel, padding)).shape)
    found: dict[str, Callable[[], Any]] = {}
    for name, convolve in (("XLA", of_xla), ("ours", conv)):

        def gradient(
            place: int, x: jax.Array, kernel: jax.Array, grad: jax.Array, convolve: Any = convolve
        ) -> jax.Array:
            _, backward = jax.vjp(lambda x, kernel: convolve(x, kernel, padding), x, kernel)
            return backward(grad)[place]

        forward = jax.jit(convolve, static_argnums=2)
        backward = jax.jit(gradient, static_argnums=0)
        found[f"{name} {JOBS[0]}"] = lambda forward=forward: forward(x, kernel, padding)
        for place, job in enumerate(JOBS[1:]):
            found[f"{name} {job}"] = lambda backward=backward, place=place: backward(
                place, x, kernel, grad
            )
    return found


def measure(repeats: int) -> list[dict[str, Any]]:
    """The rows of the table."""
    rows = []
    for layer in LAYERS:
        times = in_turns(jobs(layer), repeats)
        rows.append(
            {
                **dataclasses.asdict(layer),
                "ms": {name: 1e3 * float(np.median(seconds)) for name, seconds in times.items()},
            }
        )
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of `docs/performance.md`."""
    lines = [
        f"| convolution | {' | '.join(JOBS)} |",
        "|---|" + "---|" * len(JOBS),
    ]
    for row in rows:
        shape = "x".join(map(str, row["shape"]))
        name = f"{row['place']}: {row['size']}x{row['size']}, {shape} -> {row['features']}"
        cells = [f"{row['ms'][f'XLA {job}']:.0f} -> {row['ms'][f'ours {job}']:.0f}" for job in JOBS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = measure(arguments.repeats)
    print(json.dumps(rows) if arguments.json else markdown(rows))


if __name__ == "__main__":
    main()
