"""Where the time of one chunk goes: every layer on its own, at the shapes it has there.

    python benchmarks/layers.py --checkpoint weights [--chunk 8] [--repeats 5] [--json]

prints a table in Markdown: milliseconds and GFLOP a frame of every layer, its GFLOP/s beside
the machine's measured peak, and the least bytes it can move (input, output, parameters); then
the sum of the layers, and the whole parts as the animator runs them. GFLOP are those of the
plain layer, whatever algorithm computes it: a layer can be above the peak. Layers of one shape
stand in one row. Each is timed alone, all in turns; medians.
"""

# ruff: noqa: E402 (the path is set before the package is imported)

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import inference
from benchmarks.timing import in_turns, peaks
from eamm_jax.animate import Animator
from eamm_jax.models import audio_to_motion, emotion, keypoint_detector, layers
from eamm_jax.ops.grids import grid_sample
from eamm_jax.types import Keypoints

LAYERS = (
    layers.SameBlock,
    layers.DownBlock,
    layers.UpBlock,
    layers.ResBlock,
    layers.DenseStack,
    audio_to_motion.StackedLSTM,
    audio_to_motion.TransposedConv,
    emotion.BasicBlock,
    emotion.FourKeypointHead,
    emotion.AllKeypointHead,
    keypoint_detector.KeypointHead,
    nn.Conv,
    nn.Dense,
    nn.BatchNorm,
)
"""What is timed as one; of those inside others, the outer."""


@dataclasses.dataclass
class Layer:
    """A layer at a shape.

    Attributes:
        part: of the animator.
        name: kind and shapes.
        run: the compiled layer.
        count: how often it stands there.
        frames: that one call is for.
        flops: of one call, of the plain layer.
        num_bytes: input, output, parameters.
    """

    part: str
    name: str
    run: Callable[[], Any]
    count: int
    frames: int
    flops: float
    num_bytes: int


@contextmanager
def recording(found: list[tuple[nn.Module, tuple[Any, ...], dict[str, Any]]]) -> Iterator[None]:
    """Notes the calls of layers, the outermost only."""
    depth = 0

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        nonlocal depth
        layer = isinstance(context.module, LAYERS) and context.method_name == "__call__"
        if layer and not depth:
            found.append((context.module, args, kwargs))
        depth += layer
        try:
            return call(*args, **kwargs)
        finally:
            depth -= layer

    with nn.intercept_methods(intercept):
        yield


def find_layers(
    part: str, variables: Any, frames: int, apply: Callable[[], Any]
) -> dict[tuple[Any, ...], Layer]:
    """Layers of a network that `apply` runs on shapes only."""
    calls: list[tuple[nn.Module, tuple[Any, ...], dict[str, Any]]] = []
    with recording(calls):
        jax.eval_shape(apply)
    found: dict[tuple[Any, ...], Layer] = {}
    for module, args, kwargs in calls:
        shapes = tuple(x.shape for x in jax.tree.leaves(args))
        settings = {
            field.name: getattr(module, field.name)
            for field in dataclasses.fields(module)
            if field.name not in ("parent", "name")
        }
        key = (part, type(module), shapes, str(settings))
        if key in found:
            found[key].count += 1
            continue
        own = {
            name: inner
            for name, tree in variables.items()
            if (inner := _at(tree, module.path)) is not None
        }
        random = np.random.default_rng(0)
        given = jax.tree.map(
            lambda x, random=random: jnp.asarray(random.normal(size=x.shape), x.dtype), args
        )
        found[key] = _layer(part, module.clone(parent=None, name=None), own, given, kwargs, frames)
    return found


def plain_form(*args: Any, cpu: Any, default: Any) -> Any:
    """In the place of `jax.lax.platform_dependent`: the form whose operations are counted."""
    del cpu
    return default(*args)


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree.get(name)
        if tree is None:
            return None
    return tree


def _layer(
    part: str, module: nn.Module, own: Any, given: Any, kwargs: dict[str, Any], frames: int
) -> Layer:
    def call(module: nn.Module, own: Any, given: Any) -> Any:
        return module.apply(own, *given, **kwargs)

    run = jax.jit(lambda own, given: call(module, own, given))
    with mock.patch.object(jax.lax, "platform_dependent", plain_form):
        lowered = jax.jit(lambda own, given: call(module, own, given)).lower(own, given)
    flops = (lowered.cost_analysis() or {}).get("flops", 0.0)
    out = jax.eval_shape(run, own, given)
    num_bytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((given, out, own)))
    kernel = getattr(module, "kernel", None) or getattr(module, "kernel_size", ("",))[0]
    kind = type(module).__name__ + (f" {kernel}x{kernel}" if kernel else "")
    before, after = (jax.tree.leaves(x)[0].shape for x in (given, out))
    name = f"{kind}, {'x'.join(map(str, before[1:]))} -> {'x'.join(map(str, after[1:]))}"
    return Layer(part, name, lambda: run(own, given), 1, frames, flops, num_bytes)


def all_layers(animator: Animator) -> list[Layer]:
    """Layers of a chunk, as the animator's compiled parts run them."""
    networks, config, variables = animator.networks, animator.config, animator.variables
    chunk, size, k = animator.chunk, config.image_size, config.num_keypoints
    images = jnp.zeros((chunk, size, size, config.num_channels))
    points = Keypoints(jnp.zeros((1, k, 2)), jnp.broadcast_to(jnp.eye(2), (1, k, 2, 2)))
    driving = jax.tree.map(lambda x: jnp.repeat(x, chunk, axis=0), points)
    code = networks.generator.apply(variables["generator"], images[:1], method="encode")
    audio_code = networks.audio_feature.apply(
        variables["audio_feature"], images[:1], method="encode_source"
    )
    drawn = 1 if animator.device.platform == "cpu" else chunk

    def part(name: str, network: str, frames: int, *args: Any, **kwargs: Any) -> list[Layer]:
        own, module = variables[network], getattr(networks, network)
        return list(
            find_layers(name, own, frames, lambda: module.apply(own, *args, **kwargs)).values()
        )

    maps = jnp.zeros((chunk, config.feature_size, config.feature_size, config.feature_channels))
    moved, motion = networks.generator.apply(
        variables["generator"], code, points, driving, method="warp"
    )
    one = jax.tree.map(lambda x: x[:drawn], moved)
    found = [
        *part(
            "audio to motion", "audio_feature", chunk, audio_code,
            jnp.zeros((1, chunk, 28, 12)), jnp.zeros((1, chunk, 6)),
            networks.audio_feature.initial_state(1), method="decode",
        ),
        *part("audio to motion", "kp_detector_a", chunk, maps),
        *part("emotional frame", "emo_detector", chunk, images, method="encode"),
        *part("dense motion", "generator", chunk, code, points, driving, method="warp"),
        *part("drawing", "generator", drawn, one, method="decode"),
    ]  # fmt: skip
    sampling = (
        ("grid_sample of features", code.features, motion.deformation),
        (
            "grid_sample of thumbnails",
            code.thumbnail,
            jnp.tile(motion.deformation, (1, k + 1, 1, 1)),
        ),
    )
    return found + [_sampling(name, image, grid) for name, image, grid in sampling]


def _sampling(name: str, image: jax.Array, grid: jax.Array) -> Layer:
    sample = jax.jit(grid_sample)
    shape = "x".join(map(str, (*grid.shape[1:3], image.shape[-1])))
    num_bytes = 4 * (image.size + grid.size + grid.size // 2 * image.shape[-1])
    flops = (sample.lower(image, grid).cost_analysis() or {}).get("flops", 0.0)
    name = f"{name}, {shape}"
    return Layer("dense motion", name, lambda: sample(image, grid), 1, len(grid), flops, num_bytes)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The table's rows, the whole parts, and the peaks."""
    animator = Animator.from_checkpoint(arguments.checkpoint, chunk=arguments.chunk)
    found = all_layers(animator)
    times = in_turns({str(i): layer.run for i, layer in enumerate(found)}, arguments.repeats)
    rows = []
    for index, layer in enumerate(found):
        seconds = float(np.median(times[str(index)])) * layer.count / layer.frames
        flops = layer.flops * layer.count / layer.frames
        rows.append(
            {
                "part": layer.part,
                "layer": layer.name,
                "count": layer.count,
                "ms": 1e3 * seconds,
                "gflop": flops / 1e9,
                "gflop_per_s": flops / seconds / 1e9,
                "mb": layer.num_bytes * layer.count / layer.frames / 1e6,
            }
        )
    whole = inference.parts(animator, arguments.repeats)
    whole.pop("encode_source")
    return {
        "rows": rows,
        "whole_ms": {name: 1e3 * seconds for name, seconds in whole.items()},
        "peaks": {name: value / 1e9 for name, value in peaks().items()},
        "chunk": arguments.chunk,
    }


def markdown(result: dict[str, Any]) -> str:
    """The table of `docs/performance.md`; layers of less than 0.1 ms are one row a part."""
    peak = result["peaks"]
    lines = [
        "| part | layer | | ms a frame | GFLOP | GFLOP/s | of the peak | MB |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def line(part: str, layer: str, rows: list[dict[str, Any]], count: str = "") -> str:
        ms, gflop, mb = (sum(row[name] for row in rows) for name in ("ms", "gflop", "mb"))
        rate = gflop / ms * 1e3
        return (
            f"| {part} | {layer} | {count} | {ms:.1f} | {gflop:.2f} | {rate:.0f} "
            f"| {100 * rate / peak['matmul']:.0f} % | {mb:.1f} |"
        )

    rows = result["rows"]
    for part in dict.fromkeys(row["part"] for row in rows):
        of_part = sorted((r for r in rows if r["part"] == part), key=lambda r: -r["ms"])
        large = [row for row in of_part if row["ms"] >= 0.1]
        small = [row for row in of_part if row["ms"] < 0.1]
        lines += [line(part, r["layer"], [r], f"{r['count']} x") for r in large]
        if small:
            lines.append(line(part, f"{len(small)} kinds of smaller layers", small))
        lines.append(line(f"**{part}**", "sum of its layers", of_part))
    lines.append(line("**all**", "sum of all layers", rows))
    whole = result["whole_ms"]
    lines.append("")
    lines.append("| whole part, as the animator runs it | ms a frame |")
    lines.append("|---|---|")
    lines += [f"| {name.replace('_', ' ')} | {ms:.1f} |" for name, ms in whole.items()]
    lines.append(f"| sum | {sum(whole.values()):.1f} |")
    lines.append("")
    lines.append(
        f"Measured peaks: {peak['matmul']:.0f} GFLOP/s in a product of matrices of 2048 x 2048, "
        f"{peak['convolution']:.0f} in a 3x3 convolution of 256 channels, "
        f"{peak['matmul_bfloat16']:.0f} in a product in bfloat16, {peak['copy']:.0f} GB/s copied."
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--chunk", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments)
    print(json.dumps(result) if arguments.json else markdown(result))


if __name__ == "__main__":
    main()
