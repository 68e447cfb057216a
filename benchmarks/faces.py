"""How near crops come to the published ones, how still aligned videos are, and what it costs.

    python benchmarks/faces.py [--shared ../shared] [--json]

prints, for the raw photos among the reference material: how far the corners of our crop lie from
where the published template puts them (pixels of 256), and with that template the PSNR of our crop
against the published one, once it is through the same JPEG compression; for a raw video of an
emotional face: the shake of the crop's corners (mean length of their second difference) as the
detector gives it and as it is used; seconds to find a face and to paste one frame back.

    python benchmarks/faces.py --picture docs/faces.png

draws a photo with landmarks and crop, the crop, and a frame that was pasted back: NASA's portrait
of Eileen Collins, which is in the public domain and comes with scikit-image.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from eamm_jax import bundled  # noqa: E402
from eamm_jax.faces.detection import FaceFinder  # noqa: E402
from eamm_jax.faces.emotion_video import places  # noqa: E402
from eamm_jax.faces.framing import read_template  # noqa: E402
from eamm_jax.faces.pasting import Patch  # noqa: E402
from eamm_jax.faces.similarity import corners  # noqa: E402
from eamm_jax.faces.source import FramedSource, read_source  # noqa: E402
from eamm_jax.faces.tracking import track  # noqa: E402
from eamm_jax.io.image import fit_height, to_uint8, write_png  # noqa: E402
from eamm_jax.io.video import read_video  # noqa: E402

SIZE = 256

PHOTOS = {"brade2.jpg": "brade2.jpg", "dune_1.png": "dune_1.jpg", "scarlett.jpg": "scarlett.jpg"}
"""Raw photos, and the crops that were published of them."""


def psnr_as_published(crop: np.ndarray, published: Path) -> float:
    """Against a JPEG file, after the compression that it went through."""
    with Image.open(published) as image:
        file = io.BytesIO()
        Image.fromarray(crop).save(file, "JPEG", qtables=image.quantization, subsampling="4:2:0")
        expected = np.asarray(image.convert("RGB"), np.float64)
    error = np.asarray(Image.open(file)) - expected
    return float(10 * np.log10(255**2 / np.mean(error**2)))


def measure_photo(media: Path, raw: str) -> dict[str, float]:
    template = media / "alignment_landmarks.npy"
    path = media / "raw_image" / raw
    ours, theirs = read_source(path, SIZE), read_source(path, SIZE, template=template)
    ends = corners(SIZE)
    apart = np.linalg.norm(ours.to_picture(ends) - theirs.to_picture(ends), axis=1)
    finder = FaceFinder()
    started = time.perf_counter()
    finder.find(ours.picture)
    found = time.perf_counter()
    still = to_uint8(ours.crop)
    patch = Patch(ours.picture, still, ours.to_picture)
    ready = time.perf_counter()
    patch.paste(still)
    return {
        "corner_pixels": float(apart.max() / theirs.to_picture.scale),
        "psnr_db": psnr_as_published(to_uint8(theirs.crop), media / "image" / PHOTOS[raw]),
        "find_seconds": found - started,
        "paste_seconds": time.perf_counter() - ready,
    }


def measure_video(path: Path, frames: int) -> dict[str, float]:
    started = time.perf_counter()
    found = track(FaceFinder(), islice(read_video(path, None), frames))
    seconds = time.perf_counter() - started
    if found is None:
        raise SystemExit(f"no face in {path}")

    def shake(smoothed: bool) -> float:
        laid = places(found, read_template(None), SIZE, smoothed=smoothed)
        path = np.array([place(corners(SIZE)) for place in laid]) / laid[0].scale
        return float(np.linalg.norm(np.diff(path, 2, axis=0), axis=-1).mean())

    return {
        "frames": len(found.landmarks),
        "missing": len(found.missing),
        "cuts": len(found.cuts),
        "shake_detected_pixels": shake(smoothed=False),
        "shake_used_pixels": shake(smoothed=True),
        "seconds_a_frame": seconds / len(found.landmarks),
    }


def draw_landmarks(portrait: FramedSource) -> np.ndarray:
    """The photo, enlarged, with landmarks and the outline of the crop."""
    zoom = 2
    image = Image.fromarray(portrait.picture)
    image = image.resize((image.width * zoom, image.height * zoom), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    outline = zoom * portrait.to_picture(corners(len(portrait.crop)))
    draw.polygon([tuple(point) for point in outline], outline=(255, 255, 0), width=3)
    assert portrait.face is not None
    for x, y in zoom * portrait.face.landmarks:
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(0, 255, 120))
    return np.asarray(image)


def draw_picture(path: Path) -> None:
    """Photo with landmarks, crop, and a typical frame of the bundled model pasted back."""
    from skimage import data

    from eamm_jax.animate.animator import Animator
    from eamm_jax.io.arrays import read_pose
    from eamm_jax.io.audio import read_speech

    animator = Animator.from_checkpoint(bundled.MODEL, emotion=False)
    with TemporaryDirectory() as folder:
        photo = Path(folder, "astronaut.png")
        Image.fromarray(data.astronaut()[:360, 20:420]).save(photo)
        portrait = read_source(photo, animator.image_size)
    patch = Patch(portrait.picture, to_uint8(portrait.crop), portrait.to_picture)
    speech = read_speech(bundled.SPEECH)[: 2 * 16_000]
    frames = [f.image for f in animator.animate(portrait.crop, speech, read_pose(bundled.POSE))]
    still = to_uint8(portrait.crop).astype(float)
    frames.sort(key=lambda frame: np.abs(frame - still).mean())
    typical = patch.paste(frames[len(frames) // 2])
    height = 300
    panels = [draw_landmarks(portrait), to_uint8(portrait.crop), typical]
    write_png(path, np.concatenate([fit_height(panel, height) for panel in panels], axis=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--frames", type=int, default=50, help="of the video")
    parser.add_argument("--picture", type=Path, help="draw this PNG and measure nothing")
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    if flags.picture:
        draw_picture(flags.picture)
        return
    media = flags.shared / "media"
    results = {raw: measure_photo(media, raw) for raw in PHOTOS}
    video = next((media / "raw_video").glob("*.mp4"))
    results[video.name] = measure_video(video, flags.frames)
    if flags.json:
        print(json.dumps(results, indent=2))
        return
    for name, values in results.items():
        print(name, *(f"{key} {value:.3g}" for key, value in values.items()), sep="  ")


if __name__ == "__main__":
    main()
