"""Speech as it comes: from a sample to its frame, with sound that plays in real time.

    python benchmarks/live.py [--checkpoint DIR] [--seconds 60] [--chunk 1] [--most_waiting 2]

plays the bundled voice over and over, as it would come from a microphone, and pulls frames as they
are due. Prints the latency from the sample at a frame's time to the frame (p50, p95, p99), the time
between frames (p5, p95), frames a second, frames that were dropped, the share of the CPU and the
peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PIECE_SECONDS = 0.02
WARM_UP_SECONDS = 2.0


def measure(checkpoint: Path, seconds: float, chunk: int, most_waiting: int | None) -> dict:
    from eamm_jax import bundled
    from eamm_jax.animate import Animator
    from eamm_jax.constants import FRAME_RATE, SAMPLE_RATE
    from eamm_jax.io.audio import read_speech
    from eamm_jax.io.image import read_image

    animator = Animator.from_checkpoint(checkpoint, emotion=None, chunk=chunk)
    portrait = read_image(bundled.PORTRAIT, animator.image_size)
    pose = np.load(bundled.POSE)[0]
    emotion = None if animator.bank is None else "happy"
    stream = animator.stream(portrait, pose, emotion=emotion, most_waiting=most_waiting)
    voice = read_speech(bundled.SPEECH)
    piece = int(PIECE_SECONDS * SAMPLE_RATE)
    sound = np.resize(voice, int((seconds + WARM_UP_SECONDS) * SAMPLE_RATE))

    played = int(WARM_UP_SECONDS * SAMPLE_RATE)
    stream.push(sound[:played])
    list(stream.pull())  # compiles
    dropped, latencies, came = stream.dropped, [], []
    cpu, start = time.process_time(), time.perf_counter()
    begin = start - WARM_UP_SECONDS  # of the speech

    def play() -> None:
        """Pushes the pieces that have been spoken by now."""
        nonlocal played
        due = int((time.perf_counter() - begin) * SAMPLE_RATE) // piece * piece
        stream.push(sound[played:due])
        played = max(played, due)

    while played < len(sound):
        time.sleep(max(0.0, begin + (played + piece) / SAMPLE_RATE - time.perf_counter()))
        play()
        for frame in stream.pull():
            came.append(time.perf_counter() - begin)
            latencies.append(came[-1] - frame.number / FRAME_RATE)
            play()
    wall = time.perf_counter() - start
    p50, p95, p99 = np.percentile(latencies, (50, 95, 99))
    return {
        "latency_p50": round(float(p50), 3),
        "latency_p95": round(float(p95), 3),
        "latency_p99": round(float(p99), 3),
        "between_frames_p5": round(float(np.percentile(np.diff(came), 5)), 3),
        "between_frames_p95": round(float(np.percentile(np.diff(came), 95)), 3),
        "frames_a_second": round(len(latencies) / wall, 2),
        "dropped": stream.dropped - dropped,
        "cpu_share": round((time.process_time() - cpu) / wall / (os.cpu_count() or 1), 3),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000,
    }


def main() -> None:
    from eamm_jax import bundled

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", type=Path, default=bundled.MODEL)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--chunk", type=int, default=1)
    parser.add_argument("--most_waiting", type=int, default=2)
    flags = parser.parse_args()
    found = measure(flags.checkpoint, flags.seconds, flags.chunk, flags.most_waiting)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
