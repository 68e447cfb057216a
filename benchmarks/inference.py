"""How long a frame of animation takes, where the time goes, and what it needs.

    python benchmarks/inference.py --checkpoint weights [--json] [--seconds 4] [--chunk 8]

prints seconds per frame (a number for each part, and the total of a whole run from sound to
mp4), GFLOP per frame, seconds to the first frame with an empty and with a filled compilation
cache, and the peak memory. Inputs are noise: the time does not depend on what is seen.

With `--published CHECKOUT --torch_python PYTHON` the published PyTorch code is timed in turns
with ours in the same run, as it is and by torch.compile (which needs a C++ compiler): CHECKOUT is
a copy of its repository, PYTHON an interpreter that has torch; parameters are random there, as in
the time they do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# What JAX spends between a Python function and a program: tracing, lowering, and the compiler
# or the cache.
COMPILE_EVENTS = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)


def median_seconds(job: Callable[[], Any], repeats: int) -> float:
    import jax

    jax.block_until_ready(job())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(job())
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def inputs(animator: Any, seconds: float) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    size = animator.image_size
    return {
        "source_image": rng.uniform(size=(size, size, 3)).astype(np.float32),
        "speech": 0.1 * rng.normal(size=int(seconds * 16_000)).astype(np.float32),
        "pose": np.array([[0, 0, 0, 4.7e-4, 60, 60]], np.float32),
        "emotion_frames": list(rng.integers(0, 256, (16, size, size, 3), dtype=np.uint8)),
    }


def parts(animator: Any, repeats: int) -> dict[str, float]:
    """Seconds a frame of each compiled part, on its own; `encode_source` is once an animation."""
    from eamm_jax.animate.program import displacement_weights

    given, chunk = inputs(animator, 1.0), animator.chunk
    parts, variables = animator.parts, animator.variables
    image = given["source_image"][None]
    source = parts.encode_source(variables, image)
    audio, pose = np.zeros((chunk, 28, 12), np.float32), np.zeros((chunk, 6), np.float32)
    frames = np.stack((given["emotion_frames"] * chunk)[:chunk])
    weights = displacement_weights(animator.config)

    def audio_to_keypoints() -> Any:
        lstm, _ = parts.initial_state()  # donated with each call
        return parts.audio_to_keypoints(variables, source.embedding, audio, pose, lstm, 1.6)

    raw, _ = audio_to_keypoints()
    emotion = parts.read_emotion(variables, frames) if animator.has_emotion_network else None

    def combine() -> Any:
        _, motion = parts.initial_state()
        return parts.combine(
            variables, source.keypoints, raw, emotion, None, weights, 1.0, motion,
            smooth=True, relative=False,
        )  # fmt: skip

    driving, _ = combine()
    jobs = {
        "audio_to_keypoints": audio_to_keypoints,
        "combine": combine,
        "render": lambda: parts.render(
            variables, source.features, source.keypoints, driving.neutral, chunk
        ),
    }
    if emotion is not None:
        jobs["read_emotion"] = lambda: parts.read_emotion(variables, frames)
    seconds = {name: median_seconds(job, repeats) / chunk for name, job in jobs.items()}
    seconds["encode_source"] = median_seconds(
        lambda: parts.encode_source(variables, image), repeats
    )
    return seconds


def gigaflops(animator: Any) -> dict[str, float]:
    """GFLOP of one frame by part, counted by XLA in the plain networks."""
    import jax

    from eamm_jax.export import flatten, make_parts

    weights = flatten(animator.variables)
    parts = make_parts(animator.config, animator.variables, frames_at_a_time=1)
    counted = {
        name: jax.jit(part.run).lower(weights, part.inputs).cost_analysis()["flops"] / 1e9
        for name, part in parts.items()
    }
    counted["total"] = sum(counted.values()) - counted["encode_source"]
    return counted


def whole_run(animator: Any, seconds: float) -> dict[str, float]:
    """A run from sound to mp4: steady seconds a frame, the encoder's share, and to the first."""
    from eamm_jax.io.video_writer import video_writer

    begun = time.perf_counter()
    animation = animator.animate(**inputs(animator, seconds))
    with tempfile.TemporaryDirectory() as folder:
        size = animator.image_size
        with video_writer(Path(folder) / "out.mp4", size, size) as video:
            encoding = 0.0
            for index, frame in enumerate(animation):
                before = time.perf_counter()
                if not index:
                    start = before
                video.write(frame.image)
                encoding += time.perf_counter() - before
            before = time.perf_counter()
        done = time.perf_counter()
    timed = after_first_chunk(animator, len(animation))
    return {
        "total": (done - start) / timed,
        "encoding": (encoding + done - before) / len(animation),
        "first_frame": start - begun,
    }


def after_first_chunk(animator: Any, frames: int) -> int:
    """Frames that are computed once the first is there, which comes with its whole chunk."""
    if frames <= animator.chunk:
        raise SystemExit("the sound is too short: it must give more than one chunk of frames")
    return frames - animator.chunk


def first_frame(arguments: argparse.Namespace) -> dict[str, float]:
    """In a process of its own: imports, loading, first frame, and peak memory after a run."""
    start = time.perf_counter()
    import jax

    from eamm_jax.animate import Animator

    compiling: list[float] = []

    def listen(event: str, seconds: float, **_: Any) -> None:
        if event in COMPILE_EVENTS:
            compiling.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    imported = time.perf_counter()
    animator = Animator.from_checkpoint(arguments.checkpoint, chunk=arguments.chunk)
    loaded = time.perf_counter()
    frames = iter(animator.animate(**inputs(animator, arguments.seconds)))
    next(frames)
    drawn = time.perf_counter()
    for _ in frames:
        pass
    return {
        "import": imported - start,
        "load": loaded - imported,
        "first_frame": drawn - loaded,
        "compile": sum(compiling),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def in_own_process(arguments: argparse.Namespace, cache: str) -> dict[str, float]:
    words = [sys.executable, __file__, "--checkpoint", str(arguments.checkpoint), "--first_frame"]
    words += ["--seconds", str(arguments.seconds), "--chunk", str(arguments.chunk)]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


class Published:
    """The published code, waiting to be timed for one frame at a time."""

    def __init__(self, checkout: Path, python: Path, mode: str):
        script = ROOT / "benchmarks" / "published_frames.py"
        self._process = subprocess.Popen(
            [str(python.absolute()), "-W", "ignore", str(script), mode, "float32"],
            cwd=checkout,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2):
            self.frame()

    def frame(self) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("1\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit("the published code does not run, see above")
        return float(json.loads(line))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def against_published(animator: Any, arguments: argparse.Namespace) -> dict[str, float]:
    """Medians of all, frame after frame in turns, so that they see the same machine."""
    given = arguments.published, arguments.torch_python
    theirs = {"published": Published(*given, "eager"), "compiled": Published(*given, "compile")}
    seconds: dict[str, list[float]] = {name: [] for name in (*theirs, "ours")}
    try:
        for _ in range(arguments.repeats):
            for name, published in theirs.items():
                seconds[name].append(published.frame())
            seconds["ours"].append(whole_run(animator, 1.2)["total"])
    finally:
        for published in theirs.values():
            published.close()
    result = {name: float(np.median(times)) for name, times in seconds.items()}
    for name in theirs:
        ratios = np.array(seconds[name]) / np.array(seconds["ours"])
        result[f"times_faster_than_{name}"] = float(np.median(ratios))
    return result


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    from eamm_jax.animate import Animator

    animator = Animator.from_checkpoint(arguments.checkpoint, chunk=arguments.chunk)
    published = against_published(animator, arguments) if arguments.published else None
    with tempfile.TemporaryDirectory() as cache:
        cold = in_own_process(arguments, cache)
        warm = in_own_process(arguments, cache)
    whole_run(animator, 1.0)  # what is compiled is compiled now
    per_frame = {**parts(animator, arguments.repeats), **whole_run(animator, arguments.seconds)}
    source, first = per_frame.pop("encode_source"), per_frame.pop("first_frame")
    result = {
        "seconds_per_frame": per_frame,
        "seconds_per_source": source,
        "first_frame_when_warm": first,
        "gflop_per_frame": gigaflops(animator),
        "compile_seconds": {"cold": cold["compile"], "warm": warm["compile"]},
        "peak_memory_gb": max(cold["peak_memory_gb"], warm["peak_memory_gb"]),
        "cold": cold,
        "warm": warm,
        "chunk": arguments.chunk,
        "cores": os.cpu_count(),
    }
    if published:
        result["against_published"] = published
    return result


def print_table(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("part", "seconds a frame", "GFLOP a frame", title="Inference")
    for name, seconds in result["seconds_per_frame"].items():
        flops = result["gflop_per_frame"].get(name)
        table.add_row(name, f"{seconds:.4f}", "" if flops is None else f"{flops:.2f}")
    table.add_row(
        "encode_source (once)",
        f"{result['seconds_per_source']:.4f}",
        f"{result['gflop_per_frame']['encode_source']:.2f}",
    )
    console = Console()
    console.print(table)
    for name in ("cold", "warm"):
        run = result[name]
        console.print(
            f"{name}: import {run['import']:.1f} s, load {run['load']:.1f} s, first frame "
            f"{run['first_frame']:.1f} s (compiling {run['compile']:.1f} s), "
            f"peak memory {run['peak_memory_gb']:.2f} GB"
        )
    console.print(
        f"in a process that has drawn before: first frame {result['first_frame_when_warm']:.1f} s"
    )
    if "against_published" in result:
        run = result["against_published"]
        console.print(
            f"published code {run['published']:.3f} s a frame, by torch.compile "
            f"{run['compiled']:.3f} s, ours {run['ours']:.3f} s: "
            f"{run['times_faster_than_published']:.2f} and "
            f"{run['times_faster_than_compiled']:.2f} times faster (medians of ratios in turns)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=4.0, help="of sound in whole runs")
    parser.add_argument("--chunk", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--published", type=Path, help="checkout of the published repository")
    parser.add_argument("--torch_python", type=Path, default=Path(sys.executable))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--first_frame", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    result = first_frame(arguments) if arguments.first_frame else measure(arguments)
    if arguments.json or arguments.first_frame:
        print(json.dumps(result))
    else:
        print_table(result)


if __name__ == "__main__":
    main()
