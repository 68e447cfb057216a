"""What an encoding of packed frames costs and brings: size, error, and frames read a second.

    python benchmarks/frames.py [--root /data/LRW] [--kind lrw] [--quality 95] [--size 256]

packs a folder of clips (random pictures by default) with each encoding, and reads examples of
stage 1 from the pack and from the folder in one thread. Frames a second are those of CPU time:
what one core reads that does nothing else.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.workload import write_data_set  # noqa: E402
from data.builder import Packing  # noqa: E402
from eamm_jax.input_pipeline.clips import KINDS, WINDOW_FRAMES  # noqa: E402
from eamm_jax.input_pipeline.examples import ExampleReader  # noqa: E402
from eamm_jax.input_pipeline.sources import Source, open_folder  # noqa: E402

CLIPS_WRITTEN = 4
REPEATS = 5


def frames_a_second(source: Source, size: int, examples: int) -> float:
    """Frames of stage 1's examples by CPU time, the best of some repeats."""
    folder = open_folder(source, with_motion=True)
    groups = [[index] for index in range(len(folder.names))]
    reader = ExampleReader(folder, KINDS[source.kind], groups, size)
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        for number in range(examples):
            reader.read(number % len(groups), seed=number)
        seconds.append(time.process_time() - start)
    return examples * WINDOW_FRAMES / min(seconds)


def measure(arguments: argparse.Namespace, root: Path, scratch: Path) -> dict[str, dict[str, Any]]:
    """A row of the table for the folder and for each encoding."""
    module = importlib.import_module(f"data.{arguments.kind}.{arguments.kind}_dataset_builder")
    files = [path for path in (root / "fomm_crop").glob("*/*/*") if path.suffix != ".npy"]
    rows = {"folder": {"kilobytes": np.mean([path.stat().st_size for path in files]) / 1e3}}
    sources = {"folder": root}
    for encoding in ("original", "jpeg", "webp"):
        sources[encoding] = scratch / encoding
        packing = Packing(str(root), encoding=encoding, quality=arguments.quality, workers=1)
        builder = module.Builder(data_dir=str(scratch / encoding), packing=packing)
        builder.download_and_prepare()
        metadata = builder.info.metadata
        size = builder.info.splits["clips"].num_bytes / 1e3
        frames = sum(num_frames for _, _, num_frames in metadata["clips"])
        rows[encoding] = {
            "kilobytes": size / frames,
            "psnr": metadata.get("psnr"),
            "lowest_psnr": metadata.get("lowest_psnr"),
        }
    for name, path in sources.items():
        source = Source(arguments.kind, str(path))
        rows[name]["frames_a_second"] = frames_a_second(source, arguments.size, arguments.examples)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="folder in the published layout")
    parser.add_argument("--kind", choices=("lrw", "mead", "voxceleb"), default="lrw")
    parser.add_argument("--quality", type=int, default=95)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--examples", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = arguments.root
        if root is None:
            root = Path(scratch) / "folder"
            write_data_set(root, arguments.kind, clips=CLIPS_WRITTEN, size=256)
        rows = measure(arguments, root, Path(scratch))
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    columns = ("kB a frame", "PSNR, dB", "lowest", "frames a second of a core", "speedup")
    table = Table("source", *columns)
    for name, row in rows.items():
        psnr = [f"{row[key]:.1f}" if row.get(key) else "" for key in ("psnr", "lowest_psnr")]
        rate = row["frames_a_second"]
        speedup = f"{rate / rows['folder']['frames_a_second']:.1f}"
        table.add_row(name, f"{row['kilobytes']:.1f}", *psnr, f"{rate:.0f}", speedup)
    Console().print(table)


if __name__ == "__main__":
    main()
