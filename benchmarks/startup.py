"""Startup time: imports, help, the first frame.

    python benchmarks/startup.py --checkpoint weights [--repeats 5] [--json]

prints the seconds of `infer.py --help` and of the imports of an animation (each in new processes;
medians), the import time of each library, and the seconds to the first frame with an empty and with
a filled compilation cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import inference  # noqa: E402 (the path is set before)

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "infer.py --help": [str(ROOT / "infer.py"), "--help"],
    "import eamm_jax": ["-c", "import eamm_jax"],
    "import jax": ["-c", "import jax"],
    "import eamm_jax.animate.job": ["-c", "import eamm_jax.animate.job"],
}

LARGEST = 8
"""Number of libraries in the list."""


def command_seconds(words: list[str], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def import_seconds() -> dict[str, float]:
    """Import time of each library of an animation, in seconds, largest first."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import eamm_jax.animate.job"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    seconds: dict[str, float] = defaultdict(float)
    for line in done.stderr.splitlines():
        own, _, module = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            seconds[module.strip().partition(".")[0]] += int(own) / 1e6
    return dict(sorted(seconds.items(), key=lambda item: -item[1])[:LARGEST])


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {
        "commands": {
            name: command_seconds(words, arguments.repeats) for name, words in COMMANDS.items()
        },
        "imports": import_seconds(),
    }
    arguments.seconds = 1.0
    with tempfile.TemporaryDirectory() as cache:
        for name in ("cold", "warm"):
            result[name] = inference.in_own_process(arguments, cache)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--chunk", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments)
    if arguments.json:
        print(json.dumps(result))
        return
    print("| step | seconds |\n|---|---|")
    for name, seconds in result["commands"].items():
        print(f"| `{name}` | {seconds:.2f} |")
    for name, words in (("cold", "an empty"), ("warm", "a filled")):
        run = result[name]
        print(
            f"| first frame, {words} compilation cache | {run['first_frame']:.1f} (compiling "
            f"{run['compile']:.1f}), after {run['import']:.1f} for imports and "
            f"{run['load']:.1f} for loading |"
        )
    shares = ", ".join(f"{name} {seconds:.2f}" for name, seconds in result["imports"].items())
    print(f"\nImports, in seconds: {shares}.")


if __name__ == "__main__":
    main()
