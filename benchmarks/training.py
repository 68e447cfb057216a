"""How long a training step takes, what it costs, and whether the input keeps up with it.

    python benchmarks/training.py [--stages stage0 stage1 ...] [--variant tiny] [--batch_size 2]

prints, for each stage: seconds to compile, seconds a step, examples a second, FLOPs of a step
and peak memory, each stage in a process of its own; then how many pictures a second the input
pipeline reads, from a folder and packed, and how many the step wants. Networks and batches are
random: the time does not depend on what is seen. The data are random pictures in the published
layout, or `--data kind=path`.

    python benchmarks/training.py --measure --devices 1,2,4,8

counts, without running anything, what each device computes and communicates in a step, from the
program compiled for that many virtual CPU devices.

    python benchmarks/training.py --measure --batch_size 2 \
        --published CHECKOUT --torch_python PYTHON

times the step of part 1 in turns with that of the published PyTorch code: CHECKOUT is a copy of
its repository, PYTHON an interpreter that has torch and PyYAML.

    python benchmarks/training.py --measure --stages stage0 --before CHECKOUT

times steps in turns with those of another version of this project: what a change has gained.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

STAGES = ("stage0", "stage1", "stage1_finetune", "stage2")
BUNDLED = ("bundled_keypoints", "bundled_generator", "bundled_stage1", "bundled_stage2")

QUICK_COMPILE = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
"""For programs that are not run; the passes that divide work among devices are others."""

PLAIN_WIDTH = 160
"""Columns of tables where there is no terminal to fit."""

CLIPS_WRITTEN = 8
"""Clips of the random data set: each is read again and again, from the page cache."""


# Jobs, each run in a process of its own: `--job` names one, and it prints its result.


def measure_step(stage: str, variant: str, fields: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Seconds to compile and to run a step, FLOPs and memory."""
    from eamm_jax.training.display import step_cost

    step = Step(stage, variant, fields)
    times = [step.take() for _ in range(repeats + 1)][1:]
    wall, processor = np.median(times, axis=0)
    return {
        "batch_size": step.batch_size,
        "compile": step.compile_seconds,
        "compile_processor": step.compile_processor_seconds,
        "seconds": float(wall),
        "processor_seconds": float(processor),
        "flops": step_cost(step.compiled).flops,
        "device": step.device,
        "peak_memory": step.peak_memory(),
    }


class Step:
    """A compiled step of a stage, which is taken again and again on one batch."""

    def __init__(self, stage: str, variant: str, fields: dict[str, Any]):
        from eamm_jax.io.runtime import keep_freed_memory

        keep_freed_memory()  # as train.py does
        import jax

        from benchmarks import workload

        config = workload.stage_config(stage, variant, fields)
        work = workload.concrete(config)
        wall, processor = time.perf_counter(), time.process_time()
        self.compiled = work.compile()
        self.compile_seconds = time.perf_counter() - wall
        self.compile_processor_seconds = time.process_time() - processor
        self.batch_size = config.batch_size
        self.device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
        self._state, self._batch, self._rng = work.state, work.batch, work.rng

    def take(self) -> tuple[float, float]:
        """Takes one step; returns its seconds and those of all processors in it."""
        import jax

        wall, processor = time.perf_counter(), time.process_time()
        self._state, metrics = self.compiled(self._state, self._batch, self._rng)
        jax.block_until_ready((self._state, metrics))
        return time.perf_counter() - wall, time.process_time() - processor

    def peak_memory(self) -> int:
        """Most bytes used on the fullest device, or where that is the host by the process."""
        import jax

        counts = [device.memory_stats() for device in jax.local_devices()]
        if all(counts):
            return max(count["peak_bytes_in_use"] for count in counts)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_input(source: str, seconds: float, **options: Any) -> dict[str, float]:
    """Pictures a second that the input pipeline gives when nothing else is done."""
    from benchmarks.workload import IMAGES_AN_EXAMPLE
    from eamm_jax.input_pipeline import make_dataset, parse_sources

    batches = make_dataset(parse_sources(source), split="all", **options)
    for _ in range(1 + options["threads"] * max(options["workers"], 1)):  # what is read ahead
        next(batches)
    started, count = time.perf_counter(), 0
    while time.perf_counter() < started + seconds or not count:
        next(batches)
        count += 1
    passed = time.perf_counter() - started
    batches.close()
    examples = count * options["batch_size"]
    return {"images": examples * IMAGES_AN_EXAMPLE[options["batch_of"]] / passed}


def count_step(stage: str, variant: str, fields: dict[str, Any]) -> dict[str, Any]:
    """What a device does in a step that is divided among all devices, without running it."""
    from benchmarks import workload
    from benchmarks.collectives import count_collectives
    from eamm_jax.training.display import step_cost

    started = time.perf_counter()
    compiled = workload.abstract(workload.stage_config(stage, variant, fields)).compile()
    found, cost = count_collectives(compiled.as_text()), step_cost(compiled)
    return {
        "flops": cost.flops,
        "memory": cost.memory,
        "collectives": {kind: dataclasses.asdict(traffic) for kind, traffic in found.items()},
        "compile": time.perf_counter() - started,
    }


def serve_steps(stage: str, variant: str, fields: dict[str, Any]) -> None:
    """Takes a step at every line of input, to be timed in turns with another program."""
    step = Step(stage, variant, fields)
    for _ in sys.stdin:
        print(json.dumps(step.take()), flush=True)


JOBS = {job.__name__: job for job in (measure_step, measure_input, count_step, serve_steps)}


# The parent process, which does not load JAX.


def job_command(job: str, arguments: dict[str, Any], root: Path = ROOT) -> list[str]:
    script = root / "benchmarks" / "training.py"
    return [sys.executable, str(script), "--job", json.dumps([job, arguments])]


def job_environment(**changes: str) -> dict[str, str]:
    """This process's, without the cache that would hide what compiling takes."""
    environment = {**os.environ, **changes}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    return environment


def run_job(job: str, arguments: dict[str, Any], **environment: str) -> Any:
    done = subprocess.run(
        job_command(job, arguments),
        env=job_environment(**environment),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{job} of {arguments} failed")
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def packed_and_not(kind: str, data: str | None, size: int) -> Iterator[dict[str, str]]:
    """Sources of a kind by name: a folder, and the same packed; as given, or random."""
    if data:
        yield {"given": data}
        return
    from benchmarks.workload import write_data_set

    with tempfile.TemporaryDirectory() as scratch:
        folder, packed = Path(scratch) / "folder", Path(scratch) / "packed"
        write_data_set(folder, kind, clips=CLIPS_WRITTEN, size=size)
        words = [sys.executable, "-m", f"data.{kind}", "--root", folder, "--data_dir", packed]
        subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
        yield {"folder": f"{kind}={folder}", "packed": f"{kind}={packed}"}


def input_rates(arguments: argparse.Namespace, stage: str) -> dict[str, float]:
    """Pictures a second by source and number of worker processes."""
    from benchmarks import workload

    config = workload.stage_config(stage, arguments.variant, arguments.fields)
    kind = workload.KINDS[stage]
    given = arguments.data if arguments.data and arguments.data.startswith(f"{kind}=") else None
    rates = {}
    with packed_and_not(kind, given, config.size) as sources:
        for name, source in sources.items():
            for workers in arguments.workers:
                job = {
                    "source": source,
                    "batch_of": workload.batch_of(stage),
                    "batch_size": config.batch_size,
                    "size": config.size,
                    "threads": config.threads,
                    "workers": workers,
                    "seconds": arguments.seconds,
                }
                label = f"{name}, {config.threads} threads, {workers} workers"
                rates[label] = run_job("measure_input", job)["images"]
    return rates


def count_devices(arguments: argparse.Namespace, stage: str) -> list[dict[str, Any]]:
    """Work and traffic of a step on each number of devices, in both ways of adding devices."""
    from benchmarks import workload

    whole = workload.stage_config(stage, arguments.variant, arguments.fields).batch_size
    flags = f"{os.environ.get('XLA_FLAGS', '')} {QUICK_COMPILE}"
    rows, counted = [], {}
    for fixed, batch_sizes in (
        ("a device", {n: whole * n for n in arguments.devices}),
        ("in all", {n: whole for n in arguments.devices if whole % n == 0}),
    ):
        for devices, batch_size in batch_sizes.items():
            fields = {**arguments.fields, "batch_size": batch_size}
            job = {"stage": stage, "variant": arguments.variant, "fields": fields}
            if (devices, batch_size) not in counted:
                counted[devices, batch_size] = run_job(
                    "count_step",
                    job,
                    JAX_PLATFORMS="cpu",
                    JAX_NUM_CPU_DEVICES=str(devices),
                    XLA_FLAGS=flags,
                )
            row = {"fixed": fixed, "devices": devices, "batch_size": batch_size}
            rows.append({**row, **counted[devices, batch_size]})
    return rows


class Program:
    """A program that takes a step at every line it is given."""

    def __init__(self, words: Sequence[str | os.PathLike[str]], folder: Path, **environment: str):
        self._process = subprocess.Popen(
            words,
            cwd=folder,
            env=job_environment(**environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def take(self, kind: str = "") -> tuple[float, float]:
        """Seconds of a step, and those of all processors in it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{kind}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit("a program that was to be timed has ended")
        wall, processor = json.loads(line)
        return wall, processor

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def against_published(arguments: argparse.Namespace) -> dict[str, Any]:
    """Steps of part 1 in turns, so that all see the same machine; medians, and of the ratios."""
    from benchmarks import workload

    config = workload.stage_config("stage1", arguments.variant, arguments.fields)
    child = {"stage": "stage1", "variant": arguments.variant, "fields": arguments.fields}
    script = ROOT / "benchmarks" / "published_part1.py"
    theirs = [arguments.torch_python, "-W", "ignore", script]
    theirs += ["--batch_size", str(config.batch_size), "--size", str(config.size)]
    times: dict[str, list[tuple[float, float]]] = {"published": [], "frozen": [], "ours": []}
    with ExitStack() as stack:
        # Or PyTorch's threads wait for each other at full speed, which on a machine that does
        # other work, too, takes several times as long.
        published = Program(theirs, arguments.published, OMP_WAIT_POLICY="PASSIVE")
        stack.callback(published.close)
        ours = Program(job_command("serve_steps", child), ROOT)
        stack.callback(ours.close)
        for turn in range(arguments.repeats + 1):
            taken = {
                "published": published.take("published"),
                "frozen": published.take("frozen"),
                "ours": ours.take(),
            }
            if turn:  # the first warms up
                for name, seconds in taken.items():
                    times[name].append(seconds)
    medians = {name: np.median(taken, axis=0).tolist() for name, taken in times.items()}
    ratios = {
        name: np.median(np.array(times[name]) / np.array(times["ours"]), axis=0).tolist()
        for name in ("published", "frozen")
    }
    return {
        "batch_size": config.batch_size,
        "seconds": {name: wall for name, (wall, _) in medians.items()},
        "processor_seconds": {name: processor for name, (_, processor) in medians.items()},
        "times_faster": {name: wall for name, (wall, _) in ratios.items()},
        "times_less_work": {name: processor for name, (_, processor) in ratios.items()},
    }


def against_before(arguments: argparse.Namespace, stage: str) -> dict[str, Any]:
    """Steps of another version of this project and ours, in turns; medians and their ratios."""
    job = {"stage": stage, "variant": arguments.variant, "fields": arguments.fields}
    roots = {"before": arguments.before.absolute(), "now": ROOT}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in roots}
    with ExitStack() as stack:
        programs = {}
        for name, root in roots.items():
            programs[name] = Program(job_command("serve_steps", job, root), root)
            stack.callback(programs[name].close)
            programs[name].take()  # compiles, and warms up
        for _ in range(arguments.repeats):
            for name, program in programs.items():
                times[name].append(program.take())
    ratios = np.array(times["before"]) / np.array(times["now"])
    return {
        **{name: np.median(taken, axis=0).tolist() for name, taken in times.items()},
        "ratio": np.median(ratios, axis=0).tolist(),
    }


# What is printed.


def amount(value: float, unit: str) -> str:
    from eamm_jax.training.display import format_amount

    return format_amount(value, unit)


def new_table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in words:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def steps_table(steps: dict[str, dict[str, Any]]) -> Table:
    row = next(iter(steps.values()))
    seconds = ("seconds to compile", "of processors", "seconds a step", "of processors")
    table = new_table(
        f"Steps on {row['device']}, {os.cpu_count()} processors",
        ("stage",),
        ("batch", *seconds, "examples/s", "a step", "a second", "peak memory"),
    )
    for stage, row in steps.items():
        table.add_row(
            stage,
            str(row["batch_size"]),
            f"{row['compile']:.0f}",
            f"{row['compile_processor']:.0f}",
            f"{row['seconds']:.3f}",
            f"{row['processor_seconds']:.3f}",
            f"{row['batch_size'] / row['seconds']:.2f}",
            amount(row["flops"], "FLOP"),
            amount(row["flops"] / row["seconds"], "FLOP"),
            amount(row["peak_memory"], "B"),
        )
    return table


def input_table(rates: dict[str, dict[str, float]], steps: dict[str, dict[str, Any]]) -> Table:
    from benchmarks.workload import IMAGES_AN_EXAMPLE, batch_of

    numbers = ("pictures/s", "the step takes", "times as fast")
    table = new_table("Input", ("stage", "read from"), numbers)
    for stage, by_source in rates.items():
        wanted = None
        if step := steps.get(stage):
            images = step["batch_size"] * IMAGES_AN_EXAMPLE[batch_of(stage)]
            wanted = images / step["seconds"]
        for source, rate in by_source.items():
            cells = ("", "") if wanted is None else (f"{wanted:.1f}", f"{rate / wanted:.1f}")
            table.add_row(stage, source, f"{rate:.0f}", *cells)
    return table


def devices_table(stage: str, rows: list[dict[str, Any]]) -> Table:
    table = new_table(
        f"Devices, {stage}",
        ("fixed batch",),
        (
            *("devices", "batch", "each computes", "in memory"),
            *("collectives", "of them all-reduce", "bytes"),
        ),
    )
    for row in rows:
        traffic = row["collectives"].values()
        table.add_row(
            row["fixed"],
            str(row["devices"]),
            str(row["batch_size"]),
            amount(row["flops"], "FLOP"),
            amount(row["memory"], "B"),
            str(sum(kind["count"] for kind in traffic)),
            str(row["collectives"].get("all-reduce", {}).get("count", 0)),
            amount(sum(kind["num_bytes"] for kind in traffic), "B"),
        )
    return table


def before_table(result: dict[str, Any]) -> Table:
    seconds = ("seconds before", "now", "ratio")
    processors = ("of processors before", "now", "ratio")
    table = new_table("Steps before and now, in turns", ("stage",), (*seconds, *processors))
    for stage, row in result.items():
        cells = [f"{row[name][i]:.2f}" for i in (0, 1) for name in ("before", "now", "ratio")]
        table.add_row(stage, *cells)
    return table


def published_table(result: dict[str, Any]) -> Table:
    table = new_table(
        f"Part 1 in turns with the published code, batches of {result['batch_size']}",
        ("step",),
        ("seconds", "of processors", "examples/s", "ours is faster", "in processor time"),
    )
    names = {
        "published": "published",
        "frozen": "published, teacher frozen, no frame drawn",
        "ours": "ours",
    }
    for name, words in names.items():
        seconds = result["seconds"][name]
        cells = (
            f"{result[of][name]:.2f} times" if name in result[of] else ""
            for of in ("times_faster", "times_less_work")
        )
        table.add_row(
            words,
            f"{seconds:.3f}",
            f"{result['processor_seconds'][name]:.3f}",
            f"{result['batch_size'] / seconds:.3f}",
            *cells,
        )
    return table


def parse_field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", nargs="+", choices=STAGES + BUNDLED, default=STAGES)
    parser.add_argument("--variant", default="", help="of the configurations, such as tiny")
    parser.add_argument("--batch_size", type=int, help="by default the configuration's")
    parser.add_argument("--model", help="by default the configuration's")
    parser.add_argument("--size", type=int, help="side of the pictures")
    parser.add_argument(
        "--set",
        nargs="+",
        type=parse_field,
        default=[],
        metavar="FIELD=VALUE",
        help="other fields of the configurations, such as dtype=bfloat16",
    )
    parser.add_argument(
        "--measure", nargs="*", choices=("steps", "input"), default=("steps", "input")
    )
    parser.add_argument("--repeats", type=int, default=5, help="steps that are timed")
    parser.add_argument("--data", help="kind=path, read in place of random pictures")
    parser.add_argument("--seconds", type=float, default=10.0, help="of reading input")
    parser.add_argument("--workers", type=int, nargs="+", default=[0], help="that read input")
    parser.add_argument(
        "--devices",
        type=lambda text: [int(number) for number in text.split(",")],
        default=[],
        help="numbers of virtual devices to count collectives for, such as 1,2,4,8",
    )
    parser.add_argument("--before", type=Path, help="checkout of another version, to compare")
    parser.add_argument("--published", type=Path, help="checkout of the published repository")
    parser.add_argument("--torch_python", type=Path, default=Path(sys.executable))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    given = {name: getattr(arguments, name) for name in ("batch_size", "model", "size")}
    arguments.fields = {name: value for name, value in given.items() if value is not None}
    arguments.fields |= dict(arguments.set)
    return arguments


def main() -> None:
    arguments = parse_arguments()
    if arguments.job:
        job, words = json.loads(arguments.job)
        print(json.dumps(JOBS[job](**words)))
        return
    console = Console(stderr=arguments.json)
    if not console.is_terminal:
        console = Console(stderr=arguments.json, width=PLAIN_WIDTH)
    result: dict[str, Any] = {"steps": {}, "input": {}, "devices": {}}
    if "steps" in arguments.measure:
        for stage in arguments.stages:
            job = {"stage": stage, "variant": arguments.variant, "fields": arguments.fields}
            result["steps"][stage] = run_job("measure_step", {**job, "repeats": arguments.repeats})
        console.print(steps_table(result["steps"]))
    if "input" in arguments.measure:
        for stage in arguments.stages:
            result["input"][stage] = input_rates(arguments, stage)
        console.print(input_table(result["input"], result["steps"]))
    for stage in arguments.stages if arguments.devices else ():
        result["devices"][stage] = count_devices(arguments, stage)
        console.print(devices_table(stage, result["devices"][stage]))
    if arguments.before:
        result["before"] = {stage: against_before(arguments, stage) for stage in arguments.stages}
        console.print(before_table(result["before"]))
    if arguments.published:
        result["published"] = against_published(arguments)
        console.print(published_table(result["published"]))
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
