"""How many frames a second the synthetic faces take on one core.

    python benchmarks/synthetic.py [--sizes 64 128 256] [--people 8] [--seconds 5]
        [--head_model FILE] [--photos DIR]

prints, for each size, the milliseconds of processor time a frame takes (median over people and
expressions) and what that makes in frames a second on one core; then what else a clip costs:
landmarks, MFCC and PNGs (in processor time), and recording (which is another process's work).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.synthetic.clip import record_clip
from data.synthetic.folder import encode_png
from data.synthetic.photo.portrait import list_photos
from data.synthetic.renderer import Renderer, add_head_model_flag
from data.synthetic.script import Take
from eamm_jax.constants import EMOTIONS


def milliseconds(
    job: Callable[[int], object], seconds: float, clock: Callable[[], float] = time.process_time
) -> float:
    """The median time of a job that is given 0, 1, 2, ... for some seconds."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = clock()
        job(len(times))
        times.append(1e3 * (clock() - start))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each figure")
    add_head_model_flag(parser)
    parser.add_argument("--photos", type=Path, help="folder; the people in photographs")
    flags = parser.parse_args()
    photos = tuple(map(str, list_photos(flags.photos))) if flags.photos else ()
    renderer, flags.people = Renderer(flags.head_model, photos), len(photos) or flags.people

    takes = [Take(n, EMOTIONS[n % 8], 1, 1) for n in range(flags.people)]
    clips = [record_clip(0, take, renderer) for take in takes]
    share = flags.seconds / flags.people
    for size in flags.sizes:
        times, first = [], []
        for clip in clips:
            start = time.process_time()
            clip.frame(0, size)
            first.append(time.process_time() - start)
            times.append(milliseconds(lambda n: clip.frame(n % clip.num_frames, size), share))  # noqa: B023
        took = statistics.median(times)
        print(f"render {size}x{size}: {took:.1f} ms a frame, {1e3 / took:.0f} frames/s on a core")
        print(f"  first frame of a person: {statistics.median(first):.2f} s")
    clip = clips[0]
    frame = clip.frame(0, 128)
    per_frame = clip.num_frames
    took = milliseconds(lambda n: record_clip(0, takes[0], renderer), 2, time.perf_counter)
    print(f"record: {took:.0f} ms a clip")
    print(f"MFCC: {milliseconds(lambda n: clip.mfcc(), 1) / per_frame:.2f} ms a frame")
    print(f"landmarks: {milliseconds(lambda n: clip.landmarks(), 1) / per_frame:.2f} ms a frame")
    print(f"PNG 128x128: {milliseconds(lambda n: encode_png(frame), 1):.1f} ms a frame")


if __name__ == "__main__":
    main()
