"""How much a watermark survives, what it costs, and that it is not found where there is none.

    python benchmarks/watermark.py --output report [--clips 42] [--media DIR] [--checkpoint DIR]

renders clips of 4.2 s with a model from the bundled portraits and those in the folder `--media`,
marks them, and writes `watermark.json`: for each change that happens to videos the share of clips
whose mark is found, and of those whose identifier is read; the quality of marked frames; the cost.
The same clips without a mark, whole and in windows of 2 s, under the same changes, are
searched for marks that are not there; so are the videos in `--media`.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageFilter

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from eamm_jax import bundled  # noqa: E402
from eamm_jax.animate.animator import Animator, Settings  # noqa: E402
from eamm_jax.animate.emotion_bank import Span  # noqa: E402
from eamm_jax.cli.tool import OneLineParser, add_shared, run, start_jax  # noqa: E402
from eamm_jax.constants import FRAME_RATE, SAMPLE_RATE  # noqa: E402
from eamm_jax.errors import UserError  # noqa: E402
from eamm_jax.faces.pasting import Patch  # noqa: E402
from eamm_jax.faces.source import read_source  # noqa: E402
from eamm_jax.io.arrays import read_pose  # noqa: E402
from eamm_jax.io.audio import read_speech  # noqa: E402
from eamm_jax.io.files import atomic_output  # noqa: E402
from eamm_jax.io.image import to_uint8  # noqa: E402
from eamm_jax.io.video import read_video  # noqa: E402
from eamm_jax.provenance.watermark import PERIOD, Watermark, detect  # noqa: E402

SECONDS = 4.2

PICTURES, VIDEOS = (".jpg", ".jpeg", ".png"), (".mp4", ".mov", ".webm")

PASTED_SIDE = 640
"""Pixels: longer side of the pictures that faces are pasted back into."""

Frames = list[np.ndarray]
Change = Callable[[Frames], Frames]


def coded(codec: str, rate: int = FRAME_RATE, **options: str) -> Change:
    """Encoded and decoded again."""

    def apply(frames: Frames) -> Frames:
        height, width = (side // 2 * 2 for side in frames[0].shape[:2])
        file = io.BytesIO()
        with av.open(file, "w", format="webm" if "vp" in codec else "mp4") as container:
            stream: Any = container.add_stream(codec, rate=rate, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for frame in frames:
                even = np.ascontiguousarray(frame[:height, :width])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
            container.mux(stream.encode(None))
        file.seek(0)
        with av.open(file) as container:
            return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]

    return apply


def h264(crf: int, rate: int = FRAME_RATE) -> Change:
    return coded("libx264", rate, crf=str(crf), preset="veryfast")


def scaled(factor: float) -> Change:
    def apply(frames: Frames) -> Frames:
        height, width = frames[0].shape[:2]
        return [resized(frame, round(width * factor), round(height * factor)) for frame in frames]

    return apply


def resized(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))


def restored(factor: float) -> Change:
    """Scaled and back."""
    return lambda frames: scaled(1 / factor)(scaled(factor)(frames))


def cropped(left: float, right: float, top: float, bottom: float) -> Change:
    def apply(frames: Frames) -> Frames:
        height, width = frames[0].shape[:2]
        rows = slice(round(top * height), height - round(bottom * height))
        columns = slice(round(left * width), width - round(right * width))
        return [frame[rows, columns] for frame in frames]

    return apply


def pixels(function: Callable[[np.ndarray], np.ndarray]) -> Change:
    def apply(frames: Frames) -> Frames:
        changed = (function(frame.astype(np.float32)) for frame in frames)
        return [np.clip(np.rint(x), 0, 255).astype(np.uint8) for x in changed]

    return apply


def noisy(frames: Frames) -> Frames:
    rng = np.random.default_rng(0)
    blurred = (Image.fromarray(f).filter(ImageFilter.GaussianBlur(0.7)) for f in frames)
    return pixels(lambda x: x + rng.normal(0, 4, x.shape))([np.asarray(b) for b in blurred])


def turned(frames: Frames) -> Frames:
    return [np.asarray(Image.fromarray(f).rotate(2, Image.Resampling.BICUBIC)) for f in frames]


def gif(frames: Frames) -> Frames:
    images = [Image.fromarray(frame).quantize(256) for frame in frames]
    return [np.asarray(image.convert("RGB")) for image in images]


def chain(*changes: Change) -> Change:
    def apply(frames: Frames) -> Frames:
        for change in changes:
            frames = change(frames)
        return frames

    return apply


def faster(frames: Frames) -> Frames:
    """30 frames a second instead of 25, each the one that is shown then."""
    return [frames[number * 5 // 6] for number in range(len(frames) * 6 // 5)]


def changes() -> dict[str, tuple[Change, int]]:
    """What happens to a video after it was written, and its frame rate then."""
    again = h264(23)
    plain: dict[str, Change] = {
        "as written": lambda frames: frames,
        "H.264, CRF 23": h264(23),
        "H.264, CRF 28": h264(28),
        "H.264, CRF 35": h264(35),
        "VP9, CRF 33": coded("libvpx-vp9", crf="33", **{"b:v": "0", "cpu-used": "5"}),
        "HEVC, CRF 28": coded("libx265", crf="28", preset="fast", **{"x265-params": "log-level=0"}),
        **{f"{k}x, CRF 23": chain(scaled(k), again) for k in (0.5, 0.75, 1.5, 2.0)},
        **{f"{k}x and back, CRF 23": chain(restored(k), again) for k in (0.5, 0.75, 1.5, 2.0)},
        **{
            f"2 s from {start / FRAME_RATE:.1f} s, CRF 23": chain(
                lambda f, start=start: f[start : start + round(PERIOD * FRAME_RATE)], again
            )
            for start in (0, 18, 50)
        },
        "brightness +20 %": chain(pixels(lambda x: 1.2 * x), again),
        "brightness -20 %": chain(pixels(lambda x: 0.8 * x), again),
        "contrast +20 %": chain(pixels(lambda x: 128 + 1.2 * (x - 128)), again),
        "contrast -20 %": chain(pixels(lambda x: 128 + 0.8 * (x - 128)), again),
        "gamma 1.2": chain(pixels(lambda x: 255 * (x / 255) ** 1.2), again),
        "gamma 0.8": chain(pixels(lambda x: 255 * (x / 255) ** 0.8), again),
        "blur and noise": chain(noisy, again),
        **{
            f"5 % cropped, {side}": chain(cropped(*(0.05 * (k == n) for k in range(4))), again)
            for n, side in enumerate(("left", "right", "top", "bottom"))
        },
        "screenshot: 0.8x, cropped, CRF 30": chain(
            scaled(0.8), cropped(0.03, 0.02, 0.03, 0.01), h264(30)
        ),
        "15 % cropped on all sides": chain(cropped(*[0.15] * 4), again),
        "turned by 2 degrees": chain(turned, again),
        "GIF, 256 colours": gif,
    }
    result = {name: (change, FRAME_RATE) for name, change in plain.items()}
    result["25 -> 30 frames/s, CRF 23"] = chain(faster, h264(23, 30)), 30
    return result


def clips(
    animator: Animator, media: Path | None, count: int, pasted: bool
) -> Iterator[tuple[str, Frames]]:
    """Animations of all portraits, with all voices and emotions."""
    portraits = [bundled.PORTRAIT, *sorted(bundled.EXAMPLES.glob("*.jpg"))]
    voices = [bundled.SPEECH, *sorted(bundled.EXAMPLES.glob("*.mp3"))]
    if media is not None:
        portraits += [p for p in sorted(media.rglob("*")) if _is_portrait(p)]
    emotions = [*(animator.bank.emotions if animator.bank else ()), None]
    track = read_pose(bundled.POSE)
    made = 0
    for index in itertools.count():
        if made == count or index > 20 * count:
            return
        path, voice = portraits[index % len(portraits)], voices[5 * index % len(voices)]
        emotion = emotions[3 * index % len(emotions)]
        speech = np.resize(read_speech(voice), int(SECONDS * SAMPLE_RATE))
        source = read_source(path, animator.image_size, align=pasted)
        if pasted and source.face is None:
            continue
        patch = None
        if pasted:
            patch = Patch(source.picture, to_uint8(source.crop), source.to_picture)
        spans = [Span(emotion)] if emotion else []
        frames = animator.animate(
            source.crop, speech, track[index:], None, Settings(seed=index), emotions=spans
        )
        shown = [patch.paste(f.image) if patch else f.image for f in frames]
        longest = max(shown[0].shape)
        if longest > PASTED_SIDE:
            shown = scaled(PASTED_SIDE / longest)(shown)
        made += 1
        yield f"{path.stem}, {voice.stem}, {emotion}", shown


def _is_portrait(path: Path) -> bool:
    return path.suffix.lower() in PICTURES and path.parent.name.endswith("image")


def found_in(frames: Frames, rate: int) -> Any:
    return detect((number / rate, frame) for number, frame in enumerate(frames))


def quality(before: Frames, after: Frames) -> tuple[float, float, float]:
    """PSNR of the video and of its worst frame, and SSIM."""
    from skimage.metrics import structural_similarity

    errors = [np.mean((a.astype(float) - b) ** 2) for a, b in zip(before, after, strict=True)]
    sample = range(0, len(before), 25)
    ssim = [structural_similarity(before[k], after[k], channel_axis=2) for k in sample]
    decibel = [10 * math.log10(255**2 / error) for error in (np.mean(errors), max(errors))]
    return decibel[0], decibel[1], float(np.mean(ssim))


def measure(
    named: Iterator[tuple[str, Frames]], marks: bool, alarms: bool
) -> Iterator[dict[str, Any]]:
    """Everything about the clips so far, after each of them."""
    table: dict[str, list[tuple[bool, bool]]] = {name: [] for name in changes()}
    written, rng = h264(18), np.random.default_rng(0)
    qualities, costs = [], []
    false, searched = 0, 0
    for name, frames in named:
        payload = int(rng.integers(0, 2**32))
        mark = Watermark(payload)
        start = time.process_time()
        marked = [mark(frame, number / FRAME_RATE) for number, frame in enumerate(frames)]
        costs.append((time.process_time() - start) / len(frames))
        qualities.append(quality(frames, marked))
        contents = {"marked": marked} if marks else {}
        contents |= {"plain": frames} if alarms else {}
        for what, content in contents.items():
            content = written(content)
            for change, (apply, rate) in changes().items():
                changed = apply(content)
                found = found_in(changed, rate)
                if what == "marked":
                    read = found is not None and found.payload == payload
                    table[change].append((found is not None, read))
                    continue
                window = round(PERIOD * rate)
                parts = [changed[at : at + window] for at in (0, len(changed) - window)]
                results = [found, *(found_in(part, rate) for part in parts if part)]
                searched += len(results)
                false += sum(result is not None for result in results)
        print(f"{len(qualities)}: {name}", file=sys.stderr, flush=True)
        video, worst, ssim = np.array(qualities).T
        yield {
            "clips": len(qualities),
            "survival": {
                change: {
                    "found": float(np.mean([found for found, _ in results])),
                    "read": float(np.mean([read for _, read in results])),
                }
                for change, results in table.items()
                if results
            },
            "psnr": {"mean": float(video.mean()), "worst frame": float(worst.min())},
            "ssim": {"mean": float(ssim.mean()), "worst clip": float(ssim.min())},
            "milliseconds a frame": 1e3 * float(np.median(costs)),
            "searched without a mark": searched,
            "false alarms": false,
        }


def real_clips(media: Path) -> tuple[int, int]:
    """How many windows of real videos were searched, under how many changes, and found marks."""
    searched = false = 0
    for path in sorted(p for p in media.rglob("*") if p.suffix.lower() in VIDEOS):
        try:
            frames = [resized(f, 256, 256) for f in itertools.islice(read_video(path, None), 250)]
        except UserError:  # of .mov files some hold sound alone
            continue
        for start in range(0, len(frames) - 49, 25):
            for apply, rate in changes().values():
                searched += 1
                false += found_in(apply(frames[start : start + 50]), rate) is not None
    return searched, false


def benchmark(flags: argparse.Namespace) -> None:
    start_jax(cpu=flags.cpu)
    animator = Animator.from_checkpoint(
        flags.checkpoint, emotion=None, chunk=flags.chunk, dtype=flags.dtype
    )
    named = clips(animator, flags.media, flags.clips, flags.paste_back)
    flags.output.mkdir(parents=True, exist_ok=True)

    def keep(result: dict[str, Any]) -> None:
        with atomic_output(flags.output / "watermark.json") as path:
            path.write_text(json.dumps(result, indent=2) + "\n")

    for result in measure(named, flags.only != "alarms", flags.only != "marks"):
        keep(result)
    if flags.media is not None and flags.only != "marks":
        searched, false = real_clips(flags.media)
        result["real videos searched"], result["false alarms in them"] = searched, false
        keep(result)
    print(json.dumps(result, indent=2))


def main() -> None:
    parser = OneLineParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--clips", type=int, default=42, metavar="N", help="default: %(default)s")
    parser.add_argument("--media", type=Path, metavar="DIR", help="real portraits and videos")
    parser.add_argument("--paste_back", action="store_true", help="into the whole pictures")
    parser.add_argument(
        "--only", choices=("marks", "alarms"), help="only marked clips, or only unmarked ones"
    )
    add_shared(parser, "checkpoint", "chunk", "dtype", "cpu")
    flags = parser.parse_args()
    run(lambda: benchmark(flags))


if __name__ == "__main__":
    main()
