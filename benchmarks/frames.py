"""What an encoding of packed frames costs and brings: size, error, and frames read a second.

    python benchmarks/frames.py [--root /data/LRW] [--kind lrw] [--quality 95] [--size 256]

packs a folder of clips (random pictures by default) with each encoding, and reads examples of
stage 1, of 17 frames each, from the pack and from the folder in one thread. A second is one of CPU
time: what one core reads that does nothing else. If the folder holds image keypoints
(`data.teach`), examples are also read that have these in place of the frames.
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
from eamm_jax.input_pipeline.clips import KINDS, Tracks  # noqa: E402
from eamm_jax.input_pipeline.examples import ExampleReader  # noqa: E402
from eamm_jax.input_pipeline.published import find_teacher  # noqa: E402
from eamm_jax.input_pipeline.sources import Source, open_folder  # noqa: E402

CLIPS_WRITTEN = 4
REPEATS = 5


def examples_a_second(source: Source, size: int, examples: int, *, taught: bool) -> float:
    """Examples of stage 1 by CPU time, the best of some repeats."""
    folder = open_folder(source, Tracks(motion=True, keypoints=taught, heatmaps=taught))
    groups = [[index] for index in range(len(folder.names))]
    kind = KINDS[source.kind]
    reader = ExampleReader(folder, kind, groups, size, with_frames=not taught)
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        for number in range(examples):
            reader.read(number % len(groups), seed=number)
        seconds.append(time.process_time() - start)
    return examples / min(seconds)


def measure(arguments: argparse.Namespace, root: Path, scratch: Path) -> dict[str, dict[str, Any]]:
    """A row of the table for the folder and for each encoding."""
    module = importlib.import_module(f"data.{arguments.kind}.{arguments.kind}_dataset_builder")
    files = [path for path in (root / "fomm_crop").glob("*/*/*") if path.suffix != ".npy"]
    rows = {"folder": {"kilobytes": np.mean([path.stat().st_size for path in files]) / 1e3}}
    sources, taught = {"folder": root}, find_teacher(root) is not None
    for encoding in ("original", "jpeg", "webp"):
        sources[encoding] = scratch / encoding
        packing = Packing(
            str(root), keypoints=taught, encoding=encoding, quality=arguments.quality, workers=1
        )
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
        job = Source(arguments.kind, str(path)), arguments.size, arguments.examples
        rows[name]["examples_a_second"] = examples_a_second(*job, taught=False)
        if taught:
            rows[name]["taught"] = examples_a_second(*job, taught=True)
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
    columns = ("kB a frame", "PSNR, dB", "lowest", "examples/s", "speedup", "taught", "speedup")
    table = Table("source", *columns)
    for name, row in rows.items():
        psnr = [f"{row[key]:.1f}" if row.get(key) else "" for key in ("psnr", "lowest_psnr")]
        rates = [row[key] for key in ("examples_a_second", "taught") if key in row]
        base = rows["folder"]["examples_a_second"]
        numbers = [text for rate in rates for text in (f"{rate:.1f}", f"{rate / base:.1f}")]
        table.add_row(name, f"{row['kilobytes']:.1f}", *psnr, *numbers)
    Console().print(table)


if __name__ == "__main__":
    main()
