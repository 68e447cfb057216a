"""How much a watermark survives, what it costs, and that it is not found where there is none.

    python benchmarks/watermark.py --output report [--clips 42] [--media DIR ...] [--checkpoint DIR]

renders clips of 4.2 s with a model from the bundled portraits and those in the folders `--media`,
marks them, and writes `watermark.json`: for each change that happens to videos the share of clips
whose mark is found, and of those whose identifier is read; the quality of marked frames; the cost.
The same clips without a mark, whole and in windows of 2 s, under the same changes, are
searched for marks that are not there; so are the videos in `--media`.

Rendered clips and the results of each stay in the folder: the same command goes on where it ended.
"""

from __future__ import annotations

import argparse
import functools
import io
import itertools
import json
import math
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image, ImageFilter

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from eamm_jax import bundled  # noqa: E402
from eamm_jax.animate.animator import Animation, Animator, Settings  # noqa: E402
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
from eamm_jax.provenance.watermark import PERIOD, Rectangle, Watermark, detect  # noqa: E402

SECONDS = 4.2

PICTURES, VIDEOS = (".jpg", ".jpeg", ".png"), (".mp4", ".mov", ".webm")

COST_RUNS = 5

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


class Clip(NamedTuple):
    """Frames without a mark, and the region that is to be marked; None is all of it."""

    name: str
    frames: Frames
    region: Rectangle | None

    def marked(self, payload: int) -> Frames:
        mark = Watermark(payload, self.region)
        return [mark(frame, number / FRAME_RATE) for number, frame in enumerate(self.frames)]


def clips(
    animator: Animator, media: list[Path], count: int, pasted: bool, folder: Path
) -> Iterator[Clip]:
    """Animations of all portraits, with all voices and emotions, rendered once."""
    portraits = [bundled.PORTRAIT, *sorted(bundled.EXAMPLES.glob("*.jpg"))]
    portraits += [p for p in files(media) if _is_portrait(p)]
    if pasted:
        size = animator.image_size
        portraits = [p for p in portraits if read_source(p, size).face is not None]
    for index in range(count):
        file = folder / f"clip_{index:03d}.npz"
        if not file.exists():
            clip = rendered(animator, portraits[index % len(portraits)], index, pasted)
            with atomic_output(file) as path, path.open("wb") as content:
                np.savez(content, *clip.frames, name=clip.name, region=np.array(clip.region or ()))
        with np.load(file) as content:
            _, _, *frames = content.values()  # those that have names come first
            region = content["region"].tolist()
            yield Clip(str(content["name"]), frames, Rectangle(*region) if region else None)


def rendered(animator: Animator, portrait: Path, index: int, pasted: bool) -> Clip:
    """An animation; each number has another voice and emotion."""
    source = read_source(portrait, animator.image_size, align=pasted)
    frames, region = [frame.image for frame in animation(animator, source.crop, index)], None
    if pasted:
        patch = Patch(source.picture, to_uint8(source.crop), source.to_picture)
        scale = min(1, PASTED_SIDE / max(source.picture.shape))
        frames = scaled(scale)([patch.paste(frame) for frame in frames])
        region = Rectangle.of(patch.place).scaled(scale, scale)
    voice, emotion = said(animator, index)
    return Clip(f"{portrait.stem}, {voice.stem}, {emotion}", frames, region)


def said(animator: Animator, index: int) -> tuple[Path, str | None]:
    """A voice and an emotion."""
    voices = [bundled.SPEECH, *sorted(bundled.EXAMPLES.glob("*.mp3"))]
    emotions = [*(animator.bank.emotions if animator.bank else ()), None]
    return voices[5 * index % len(voices)], emotions[3 * index % len(emotions)]


def animation(animator: Animator, crop: np.ndarray, index: int) -> Animation:
    voice, emotion = said(animator, index)
    return animator.animate(
        crop,
        np.resize(read_speech(voice), int(SECONDS * SAMPLE_RATE)),
        read_pose(bundled.POSE)[index:],
        None,
        Settings(seed=index),
        emotions=[Span(emotion)] if emotion else [],
    )


def files(media: list[Path]) -> Iterator[Path]:
    return itertools.chain.from_iterable(sorted(folder.rglob("*")) for folder in media)


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


def survival(clip: Clip, payload: int) -> dict[str, Any]:
    """What is read after each change, and quality."""
    marked = clip.marked(payload)
    file = h264(18)(marked)
    changed: dict[str, list[bool]] = {}
    for name, (apply, rate) in changes().items():
        found = found_in(apply(file), rate)
        changed[name] = [found is not None, found is not None and found.payload == payload]
    return {"changed": changed, "quality": quality(clip.frames, marked)}


def cost(animator: Animator, clip: Clip) -> dict[str, float]:
    """Milliseconds of processors for a frame to be rendered, and marked; medians of runs in turns.

    Sound, encoding and pasting are not counted: marking is to cost little beside rendering alone.
    """
    crop = read_source(bundled.PORTRAIT, animator.image_size, align=False).crop
    times = []
    for _ in range(COST_RUNS):
        frames = iter(animation(animator, crop, 0))
        next(frames)  # encodes the source image, too
        start = time.process_time()
        count = sum(1 for _ in frames)
        between = time.process_time()
        marked = clip.marked(0)
        end = time.process_time()
        times.append(((between - start) / count, (end - between) / len(marked)))
    return dict(zip(("rendered", "marked"), 1e3 * np.median(times, axis=0), strict=True))


def false_alarms(frames: Frames) -> dict[str, int]:
    """How often a mark is found where there is none."""
    searched = false = 0
    for name, (apply, rate) in changes().items():
        if name.startswith("2 s"):  # windows are searched anyway
            continue
        changed = apply(frames)
        window = round(PERIOD * rate)
        parts = [changed, *(changed[at : at + window] for at in (0, len(changed) - window))]
        if len(changed) < 1.5 * window:
            parts = [changed]
        searched += len(parts)
        false += sum(found_in(part, rate) is not None for part in parts)
    return {"searched": searched, "false": false}


def real_clips(media: list[Path]) -> Iterator[tuple[str, Frames]]:
    """Windows of videos."""
    for path in (p for p in files(media) if p.suffix.lower() in VIDEOS):
        try:
            frames = [resized(f, 256, 256) for f in itertools.islice(read_video(path, None), 250)]
        except UserError:  # of .mov files some hold sound alone
            continue
        for start in range(0, len(frames) - 49, 50):
            yield f"{path.stem}_{start}", frames[start : start + 50]


def kept(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A result, computed once."""
    if not path.exists():
        result = compute()
        with atomic_output(path) as temporary:
            temporary.write_text(json.dumps(result))
        print(path.stem, file=sys.stderr, flush=True)
    return json.loads(path.read_text())


def report(
    costs: dict[str, float], marks: list[dict[str, Any]], alarms: list[dict[str, Any]]
) -> dict[str, Any]:
    """Everything about all clips."""
    names = marks[0]["changed"]
    video, worst, ssim = np.array([mark["quality"] for mark in marks]).T
    rates = {name: np.mean([mark["changed"][name] for mark in marks], axis=0) for name in names}
    return {
        "clips": len(marks),
        "survival": {
            name: {"found": float(found), "read": float(read)}
            for name, (found, read) in rates.items()
        },
        "psnr": {"mean": float(video.mean()), "worst frame": float(worst.min())},
        "ssim": {"mean": float(ssim.mean()), "worst clip": float(ssim.min())},
        "milliseconds a frame": costs,
        "searched without a mark": sum(alarm["searched"] for alarm in alarms),
        "false alarms": sum(alarm["false"] for alarm in alarms),
    }


def benchmark(flags: argparse.Namespace) -> None:
    start_jax(cpu=flags.cpu)
    animator = Animator.from_checkpoint(
        flags.checkpoint, emotion=None, chunk=flags.chunk, dtype=flags.dtype
    )
    flags.output.mkdir(parents=True, exist_ok=True)
    marks: list[dict[str, Any]] = []
    alarms: list[dict[str, Any]] = []

    def rendered_clips() -> Iterator[tuple[int, Clip]]:
        return enumerate(clips(animator, flags.media, flags.clips, flags.paste_back, flags.output))

    _, first = next(rendered_clips())
    costs = kept(flags.output / "cost.json", functools.partial(cost, animator, first))

    def keep() -> None:
        with atomic_output(flags.output / "watermark.json") as path:
            path.write_text(json.dumps(report(costs, marks, alarms), indent=2) + "\n")

    for number, clip in rendered_clips():
        payload = zlib.crc32(clip.name.encode())
        file = flags.output / f"marked_{number:03d}.json"
        marks.append(kept(file, functools.partial(survival, clip, payload)))
        keep()
    unmarked = ((f"{number:03d}", h264(18)(clip.frames)) for number, clip in rendered_clips())
    for name, frames in itertools.chain(real_clips(flags.media), unmarked):
        file = flags.output / f"unmarked_{name}.json"
        alarms.append(kept(file, functools.partial(false_alarms, frames)))
        keep()
    print(json.dumps(report(costs, marks, alarms), indent=2))


def main() -> None:
    parser = OneLineParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--clips", type=int, default=42, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--media", type=Path, nargs="*", default=[], metavar="DIR", help="portraits and videos"
    )
    parser.add_argument("--paste_back", action="store_true", help="into the whole pictures")
    add_shared(parser, "checkpoint", "chunk", "dtype", "cpu")
    flags = parser.parse_args()
    run(lambda: benchmark(flags))


if __name__ == "__main__":
    main()
