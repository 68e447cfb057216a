"""Everything about an accelerator in one run: parity, inference, training, input.

    python benchmarks/accelerator.py [--quick] [--json OUT] [--plot OUT.png] [--minutes 6]
        [--only parity inference training input published]
        [--published CHECKOUT --torch_python PYTHON]

prints tables and writes JSON and a picture (which needs matplotlib). Networks have the published
size and random parameters, as time does not depend on them. `--quick` takes tiny networks, on any
machine, in a minute. What does not fit into `--minutes` is listed as not measured, never guessed.

    parity      float32 as it is by default, float32 in full precision and bfloat16 on the device
                against the host in float32, whose parity with the published code the tests show
    inference   frames a second by chunk and precision, of one animation and of many at once; each
                part; the first frame; share of the device's own peak; peak memory; sound to mp4
    training    seconds a step, examples a second, FLOP/s and peak memory of each stage, in float32
                and bfloat16, with and without recomputation
    input       frames a second that the input pipeline reads, from folders and from records
    published   frames a second of the published PyTorch code, eager and compiled, by precision

Only `input` needs more than JAX, flax, optax, chex, jaxtyping, ml_collections, scipy and rich.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SECTIONS = ("parity", "inference", "training", "input", "published")
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
"""`float32` is full precision; `tensorfloat32` is what some GPUs do with float32 by default."""

STAGES = ("stage0", "stage1", "stage1_finetune", "stage2")
RENDERING_STAGES = ("stage0", "stage1_finetune")
"""Those that train a generator, with a perceptual loss."""

# Those of the tests on CPUs (tests/models/test_golden.py, tests/animate/test_animator.py).
KEYPOINT_TOLERANCE = 2e-4
FRAME_MEAN, FRAME_MAX = 5e-4, 2e-2
BFLOAT16_PSNR = 40.0


class Size(NamedTuple):
    """How much is measured."""

    model: str
    precisions: tuple[str, ...]
    chunks: tuple[int, ...]
    batches: tuple[tuple[int, int], ...]  # animations at once, and the chunk of each
    steps: tuple[tuple[str, str, tuple[str, ...]], ...]  # stage, dtype, what is recomputed
    repeats: int
    variant: str  # of the training configurations


FULL = Size(
    model="published",
    precisions=PRECISIONS,
    chunks=(1, 4, 8, 16, 32, 64),
    batches=((8, 8), (32, 4), (64, 2)),
    steps=(
        *((stage, "bfloat16", ()) for stage in STAGES),
        *((stage, "float32", ()) for stage in STAGES),
        *((stage, "bfloat16", ("generator",)) for stage in RENDERING_STAGES),
    ),
    repeats=10,
    variant="",
)
QUICK = Size(
    model="tiny",
    precisions=("float32",),
    chunks=(2,),
    batches=((2, 2),),
    steps=(("stage1", "bfloat16", ()),),
    repeats=2,
    variant="tiny",
)


class Clock:
    """The time that may still be used."""

    def __init__(self, minutes: float):
        self._end = time.monotonic() + 60 * minutes
        self.left_out: list[str] = []

    def allows(self, what: str) -> bool:
        """Whether there is time for one more measurement; if not, it is noted."""
        if time.monotonic() < self._end:
            return True
        self.left_out.append(what)
        return False


# --- the program of a chunk ------------------------------------------------------------------


class Chunk(NamedTuple):
    """What the program of a chunk takes, but for the variables."""

    source: Any  # program.Source
    audio: Any
    pose: Any
    frames: Any  # of the emotion video
    lstm: Any
    motion: Any


def model(size: Size, dtype: str) -> tuple[Any, Any]:
    """Networks and their configuration."""
    import jax.numpy as jnp

    from eamm_jax.models import build
    from eamm_jax.models.config import ModelConfig
    from eamm_jax.models.presets import tiny

    shallow = ("keypoint_detector.blocks", "generator.dense_motion.blocks", "emotion.blocks")
    config = (
        ModelConfig()
        if size.model == "published"
        else tiny().replace({**dict.fromkeys(shallow, 1), "generator.res_blocks": 1})
    )
    return build(config, jnp.dtype(dtype)), config


def random_weights(size: Size) -> dict[str, Any]:
    """Variables of all networks of inference."""
    from benchmarks.workload import random_variables
    from eamm_jax.animate.program import EMOTION_NETWORK, REQUIRED_NETWORKS

    return random_variables(model(size, "float32")[1], (*REQUIRED_NETWORKS, EMOTION_NETWORK))


def animate_chunk(
    networks: Any, config: Any, variables: Any, chunk: Chunk, *, as_uint8: bool = True
) -> tuple[Any, Any, Any, Any]:
    """From sound, pose and emotion video to frames, in one program; also keypoints and states."""
    from eamm_jax.animate import program

    source = chunk.source
    raw, lstm = program.audio_to_keypoints(
        networks, variables, source.embedding, chunk.audio, chunk.pose, chunk.lstm, 1.6
    )
    emotion = program.read_emotion(networks, variables, chunk.frames)
    driving, motion = program.combine(
        networks, config, variables, source.keypoints, raw, emotion, None,
        program.displacement_weights(config), 1.0, chunk.motion, smooth=True, relative=False,
    )  # fmt: skip
    frames = program.render(
        networks, variables, source.features, source.keypoints, driving.emotional, as_uint8=as_uint8
    )
    return frames, driving.emotional, lstm, motion


@cache
def source_program(size: Size, dtype: str) -> Callable[..., Any]:
    """Encodes a source image; compiled once for each device."""
    import jax

    from eamm_jax.animate import program

    return jax.jit(partial(program.encode_source, model(size, dtype)[0]))


def random_chunk(size: Size, dtype: str, variables: Any, length: int) -> Chunk:
    """Noise, and an encoded source image."""
    from eamm_jax.animate import program

    networks, config = model(size, dtype)
    draw, side = np.random.default_rng(0), config.image_size
    image = draw.random((1, side, side, 3), np.float32)
    lstm, motion = program.initial_state(networks, config)
    return Chunk(
        source=source_program(size, dtype)(variables, image),
        audio=draw.standard_normal((length, 28, 12), np.float32),
        pose=draw.standard_normal((length, 6), np.float32),
        frames=draw.integers(0, 256, (length, side, side, 3), np.uint8),
        lstm=lstm,
        motion=motion,
    )


def precision_of(name: str) -> tuple[str, Any]:
    """The networks' dtype, and a context in which programs of that precision are traced."""
    import jax

    dtype = "bfloat16" if name == "bfloat16" else "float32"
    return dtype, partial(jax.default_matmul_precision, name)


# --- parity ----------------------------------------------------------------------------------


def measure_parity(size: Size, clock: Clock) -> dict[str, Any]:
    """Distances of keypoints and frames on the device from those on the host."""
    import jax

    weights, length = random_weights(size), 4
    host = jax.devices("cpu")[0]

    def run(device: Any, dtype: str, precision: str | None) -> Any:
        networks, config = model(size, dtype)
        with jax.default_device(device), jax.default_matmul_precision(precision):
            variables = jax.device_put(weights, device)
            chunk = jax.device_put(random_chunk(size, dtype, variables, length), device)
            run = jax.jit(partial(animate_chunk, networks, config, as_uint8=False))
            frames, keypoints, _, _ = jax.device_get(run(variables, chunk))
        return frames.astype(np.float64), keypoints

    wanted, there = run(host, "float32", "float32")
    result: dict[str, Any] = {}
    device = jax.devices()[0]
    cases = {
        "float32 by default": ("float32", None),
        "float32": ("float32", "float32"),
        "bfloat16": ("bfloat16", None),
    }
    for name, (dtype, precision) in cases.items():
        if not clock.allows(f"parity in {name}"):
            continue
        frames, here = run(device, dtype, precision)
        error = np.abs(frames - wanted)
        row = {
            "keypoints": float(np.abs(here.value - there.value).max()),
            "jacobians": float(np.abs(here.jacobian - there.jacobian).max()),
            "frames_mean": float(error.mean()),
            "frames_max": float(error.max()),
            "psnr": float(-10 * np.log10(max((error**2).mean(), 1e-20))),
        }
        row["pass"] = (
            row["psnr"] >= BFLOAT16_PSNR
            if dtype == "bfloat16"
            else row["keypoints"] <= KEYPOINT_TOLERANCE
            and row["frames_mean"] <= FRAME_MEAN
            and row["frames_max"] <= FRAME_MAX
        )
        result[name] = row
    return result


# --- inference -------------------------------------------------------------------------------


class Program(NamedTuple):
    """A compiled program of a chunk, and what it costs."""

    run: Callable[[], Any]
    flops: float
    frames: int


def chunk_program(
    size: Size, weights: Any, precision: str, length: int, animations: int = 1
) -> Program:
    """Compiles the program of a chunk, of one animation or of many."""
    import jax

    dtype, traced = precision_of(precision)
    networks, config = model(size, dtype)
    with traced():
        chunk = random_chunk(size, dtype, weights, length)
        run: Callable[..., Any] = partial(animate_chunk, networks, config)
        if animations > 1:
            chunk = jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], animations, 0), chunk)
            run = jax.vmap(run, in_axes=(None, 0))
        chunk = jax.device_put(chunk)
        compiled = jax.jit(run).lower(weights, chunk).compile()
    flops = float((compiled.cost_analysis() or {}).get("flops", 0.0))
    return Program(lambda: compiled(weights, chunk)[0], flops, length * animations)


def seconds_of(job: Callable[[], Any], repeats: int) -> float:
    """The median of some runs, after one that warms up; results come back to the host."""
    from benchmarks.inference import median_seconds

    return median_seconds(lambda: np.asarray(job()), repeats)


def measure_inference(size: Size, clock: Clock) -> dict[str, Any]:
    """Milliseconds a frame and frames a second of every program."""
    import jax

    from benchmarks.timing import peaks

    weights = jax.device_put(random_weights(size))
    cases = [(p, chunk, 1) for chunk in size.chunks[::-1] for p in size.precisions]
    cases += [("bfloat16", chunk, count) for count, chunk in size.batches]

    def compiled() -> Iterator[tuple[tuple[str, int, int], Program]]:
        # XLA compiles without Python: several programs at once.
        with ThreadPoolExecutor(max_workers=max(2, (os.cpu_count() or 2) // 2)) as pool:
            jobs = {
                case: pool.submit(chunk_program, size, weights, *case)
                for case in cases
                if clock.allows("inference with {}, chunk {}, {} at once".format(*case))
            }
            yield from ((case, job.result()) for case, job in jobs.items())

    measured = peaks(3)
    rows = []
    for (precision, chunk, animations), program in compiled():
        seconds = seconds_of(program.run, size.repeats)
        peak = measured["matmul_bfloat16" if precision == "bfloat16" else "matmul"]
        rows.append(
            {
                "precision": precision,
                "chunk": chunk,
                "animations": animations,
                "ms_a_frame": 1e3 * seconds / program.frames,
                "frames_a_second": program.frames / seconds,
                "gflop_a_frame": program.flops / program.frames / 1e9,
                "share_of_peak": program.flops / seconds / peak,
            }
        )
    from benchmarks import inference
    from eamm_jax.animate import Animator

    animator = Animator(model(size, "bfloat16")[1], weights, dtype="bfloat16")
    by_part = inference.parts(animator, size.repeats)
    whole = None
    if clock.allows("sound to mp4"):
        try:
            inference.whole_run(animator, 1.0)  # what is compiled is compiled now
            whole = inference.whole_run(animator, 4.0)
        except ModuleNotFoundError:
            clock.left_out.append("sound to mp4 (PyAV is not installed)")
    memory = jax.devices()[0].memory_stats() or {}
    return {
        "peaks": measured,
        "programs": rows,
        "first_frame_ms": 1e3 * first_frame(animator),
        "parts_ms_a_frame": {name: 1e3 * seconds for name, seconds in by_part.items()},
        "peak_memory_bytes": memory.get("peak_bytes_in_use"),
        "sound_to_mp4_seconds_a_frame": whole,
        "recompiled_after_first_chunk": recompilations(animator),
    }


def first_frame(animator: Any) -> float:
    """Seconds from a source image and a sound to the first frame, once all is compiled."""
    from benchmarks.inference import inputs

    given = inputs(animator, 1.0)

    def first() -> Any:
        return next(iter(animator.animate(**given))).image

    return seconds_of(first, 3)


def recompilations(animator: Any) -> int:
    """Programs that are compiled after the first chunk of an animation: there should be none."""
    import jax

    from benchmarks.inference import inputs

    frames = iter(animator.animate(**inputs(animator, 1.5)))
    next(frames)
    compiled = []

    def listen(event: str, _: float, **__: Any) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    for _ in frames:
        pass
    return len(compiled)


# --- training and input ----------------------------------------------------------------------


def measure_training(size: Size, clock: Clock) -> dict[str, Any]:
    """Steps of each stage, each in a process of its own."""
    from benchmarks.training import run_job

    result: dict[str, Any] = {}
    for stage, dtype, remat in size.steps:
        name = f"{stage}, {dtype}" + (", recomputed" if remat else "")
        if clock.allows(f"training {name}"):
            fields: dict[str, Any] = {"dtype": dtype, "remat": remat}
            if stage in RENDERING_STAGES:
                fields["perceptual"] = "pyramid"  # VGG-19 cannot be had offline
            job = {"stage": stage, "variant": size.variant, "fields": fields}
            result[name] = run_job("measure_step", {**job, "repeats": size.repeats})
    return result


def measure_input(size: Size, clock: Clock) -> dict[str, Any]:
    """Pictures a second, from folders and records."""
    from benchmarks.training import input_rates

    arguments = argparse.Namespace(
        variant=size.variant,
        fields={},
        data=None,
        seconds=1.0 if size is QUICK else 5.0,
        workers=[0] if size is QUICK else [0, 4],
    )
    kinds = ("stage1",) if size is QUICK else ("stage0", "stage1")
    stages = [stage for stage in kinds if clock.allows(f"input of {stage}")]
    return {stage: input_rates(arguments, stage) for stage in stages}


# --- the published code ----------------------------------------------------------------------

# One frame at a time, as the published demo does, and a batch, which it could.
PUBLISHED_BATCHES = (1, 16)
WARM, TIMED = 5, 30


def measure_published(clock: Clock, checkout: Path, python: Path) -> dict[str, Any]:
    """Frames of the published PyTorch code on the same device, each variant in its own process."""
    script = ROOT / "benchmarks" / "published_frames.py"
    result = {}
    for mode in ("compile", "eager"):
        for precision in ("float16", "bfloat16", "tensorfloat32", "float32"):
            if not clock.allows(f"published code, {mode}, {precision}"):
                continue
            done = subprocess.run(
                [str(python.absolute()), "-W", "ignore", str(script), mode, precision],
                cwd=checkout,
                input="".join(f"{batch}\n" * (WARM + TIMED) for batch in PUBLISHED_BATCHES),
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
            if done.returncode:
                clock.left_out.append(f"published code, {mode}, {precision} (it failed)")
            else:
                seconds = np.array([json.loads(line) for line in done.stdout.splitlines()])
                timed = seconds.reshape(len(PUBLISHED_BATCHES), -1)[:, WARM:]
                result[f"{mode}, {precision}"] = float(np.median(timed, axis=1).min())
    return result


# --- what is printed -------------------------------------------------------------------------


def tables(result: dict[str, Any]) -> Iterator[Any]:
    """A table of each section that was measured."""
    from benchmarks.training import new_table, steps_table

    if rows := result.get("parity"):
        table = new_table("Parity", ("precision", "passes"), tuple(next(iter(rows.values())))[:-1])
        for name, row in rows.items():
            numbers = [f"{value:.3g}" for value in list(row.values())[:-1]]
            table.add_row(name, "yes" if row["pass"] else "NO", *numbers)
        yield table
    if found := result.get("inference"):
        numbers = ("chunk", "at once", "ms a frame", "frames/s", "GFLOP a frame", "of the peak")
        table = new_table("Inference", ("precision",), numbers)
        for row in found["programs"]:
            table.add_row(
                row["precision"],
                str(row["chunk"]),
                str(row["animations"]),
                f"{row['ms_a_frame']:.2f}",
                f"{row['frames_a_second']:.0f}",
                f"{row['gflop_a_frame']:.1f}",
                f"{100 * row['share_of_peak']:.0f} %",
            )
        yield table
        table = new_table("The driver, bfloat16", ("part",), ("ms a frame",))
        table.add_row("first frame", f"{found['first_frame_ms']:.1f}")
        for name, value in (found["sound_to_mp4_seconds_a_frame"] or {}).items():
            table.add_row(f"sound to mp4: {name}", f"{1e3 * value:.2f}")
        for name, value in found["parts_ms_a_frame"].items():
            table.add_row(name, f"{value:.2f}")
        yield table
    if steps := result.get("training"):
        yield steps_table(steps)
    if rates := result.get("input"):
        table = new_table("Input", ("stage", "read from"), ("pictures/s",))
        for stage, by_source in rates.items():
            for source, rate in by_source.items():
                table.add_row(stage, source, f"{rate:.0f}")
        yield table
    if published := result.get("published"):
        table = new_table("The published code", ("variant",), ("ms a frame", "frames/s"))
        for name, seconds in published.items():
            table.add_row(name, f"{1e3 * seconds:.2f}", f"{1 / seconds:.0f}")
        yield table


def plot(result: dict[str, Any], path: Path) -> None:
    """Frames a second by chunk and precision, and the published code's best."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    rows = result["inference"]["programs"]
    for precision in PRECISIONS:
        line = [r for r in rows if r["precision"] == precision and r["animations"] == 1]
        line.sort(key=lambda row: row["chunk"])
        x, y = ([row[name] for row in line] for name in ("chunk", "frames_a_second"))
        axes.plot(x, y, marker="o", label=precision)
    for name, seconds in result.get("published", {}).items():
        axes.axhline(1 / seconds, linestyle=":", linewidth=1)
        axes.text(1, 1 / seconds, f" published, {name}", fontsize=7, va="bottom")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("frames in a chunk")
    axes.set_ylabel("frames a second")
    axes.set_title(f"Inference on {result['device']}")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def run_section(name: str, quick: bool, minutes: float) -> dict[str, Any]:
    """A section in a process of its own, whose memory is freed with it."""
    words = [sys.executable, __file__, "--section", name, "--minutes", f"{minutes:.2f}"]
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    done = subprocess.run(
        words + ["--quick"] * quick,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"left_out": [f"{name} (it failed, see above)"]}
    return json.loads(done.stdout.splitlines()[-1])


def section(name: str, size: Size, clock: Clock) -> dict[str, Any]:
    """What a section's process prints."""
    jobs = {
        "parity": measure_parity,
        "inference": measure_inference,
        "training": measure_training,
        "input": measure_input,
    }
    found = {name: jobs[name](size, clock)}
    if name == "parity":
        import jax

        devices = jax.devices()
        found["device"] = f"{len(devices)} x {devices[0].device_kind}"  # type: ignore[assignment]
        found["jax"] = jax.__version__  # type: ignore[assignment]
    return {**found, "left_out": clock.left_out}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny networks")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--minutes", type=float, default=6.0, help="after which nothing is begun")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--plot", type=Path, help="picture to write; needs matplotlib")
    parser.add_argument("--published", type=Path, help="checkout of the published repository")
    parser.add_argument("--torch_python", type=Path, default=Path(sys.executable))
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    if arguments.section:
        print(json.dumps(section(arguments.section, size, Clock(arguments.minutes))))
        return

    from rich.console import Console

    begun = time.monotonic()
    result: dict[str, Any] = {"left_out": [], "size": size.model, "device": "?"}
    console = Console(width=140)
    for name in arguments.only:
        left = arguments.minutes - (time.monotonic() - begun) / 60
        if name == "published":
            if arguments.published is None:
                continue
            clock = Clock(left)
            found = {
                "published": measure_published(clock, arguments.published, arguments.torch_python),
                "left_out": clock.left_out,
            }
        else:
            found = run_section(name, arguments.quick, left)
        result["left_out"] += found.pop("left_out")
        result |= found
        for table in tables(found):
            console.print(table)
    result["minutes"] = (time.monotonic() - begun) / 60
    for what in result["left_out"]:
        console.print(f"not measured: {what}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))
    if arguments.plot and "inference" in result:
        plot(result, arguments.plot)


if __name__ == "__main__":
    main()
