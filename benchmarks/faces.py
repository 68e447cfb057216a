"""How near crops come to the published ones, how still aligned videos are, and what it costs.

    python benchmarks/faces.py [--shared ../shared] [--json]

prints, for the raw photos among the reference material: how far the corners of our crop lie from
where dlib and the published template put them (pixels of 256), and with that template the PSNR of
our crop against the published one, once it is through the same JPEG compression; for a raw video of
an emotional face: the shake of the crop's corners (mean length of their second difference) as the
detector gives it and as it is used; seconds to find a face and to paste one frame back. With
EAMM_FACES=dlib in the environment dlib finds the faces (docs/faces.md).

    python benchmarks/faces.py --calibrate

prints how the canonical face of MediaPipe lies in crops that dlib and the published template make
of the other reference material, of the clips of the package `pyfame` and of NASA's portrait.

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

from benchmarks.real_faces import find_clips  # noqa: E402
from eamm_jax import bundled  # noqa: E402
from eamm_jax.faces.detection import make_finder  # noqa: E402
from eamm_jax.faces.dlib_finder import DlibFinder  # noqa: E402
from eamm_jax.faces.emotion_video import places  # noqa: E402
from eamm_jax.faces.framing import SOURCE_POINTS, frame_face, read_template  # noqa: E402
from eamm_jax.faces.mediapipe_finder import MediaPipeFinder  # noqa: E402
from eamm_jax.faces.pasting import Patch  # noqa: E402
from eamm_jax.faces.similarity import Similarity, corners, fit_similarity  # noqa: E402
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


def published_place(picture: np.ndarray, template: Path) -> Similarity | None:
    """Where the crop of a picture lies as it was published; None if dlib finds no face."""
    finder = DlibFinder()
    return next(
        (
            frame_face(face.landmarks, read_template(template, finder), SIZE)
            for face in finder.find(picture)
        ),
        None,
    )


def calibrate(media: Path) -> None:
    from skimage import data

    finder = MediaPipeFinder()
    raw = {Path(name).stem for name in PHOTOS}
    people = [
        [np.asarray(Image.open(path).convert("RGB"))]
        for path in sorted((media / "image").iterdir())
        if path.stem not in raw
    ]
    people.append([data.astronaut()])
    frames = sorted((media / "lrw_clip" / "frames").iterdir())[::7]
    people.append([np.asarray(Image.open(path).convert("RGB")) for path in frames])
    films = [media / "emotion_video", media / "raw_video"]
    for path in [path for folder in films for path in sorted(folder.iterdir())] + find_clips(None):
        people.append(list(islice(read_video(path, None), 10, 81, 20)))
    laid = []
    for pictures in people:
        landmarks = []
        for picture in pictures:
            place = published_place(picture, media / "alignment_landmarks.npy")
            found = finder.find(picture)
            if place is not None and found:
                landmarks.append(place.inverse()(found[0].landmarks))
        laid.append(np.mean(landmarks, axis=0))
    points, middle = finder.template()[SOURCE_POINTS], np.mean(laid, axis=0)[SOURCE_POINTS]
    change = fit_similarity(points, middle)
    print(
        f"{len(laid)} faces: times {change.scale:.4f}, {change.degrees:+.2f} degrees, moved by "
        f"{np.round(middle.mean(axis=0) - points.mean(axis=0), 2)} pixels"
    )


def measure_photo(media: Path, raw: str) -> dict[str, float]:
    template = media / "alignment_landmarks.npy"
    path = media / "raw_image" / raw
    ours, theirs = read_source(path, SIZE), read_source(path, SIZE, template=template)
    expected = published_place(ours.picture, template)
    assert expected is not None
    ends = corners(SIZE)
    apart = np.linalg.norm(ours.to_picture(ends) - expected(ends), axis=1)
    finder = make_finder()
    started = time.perf_counter()
    finder.find(ours.picture)
    found = time.perf_counter()
    still = to_uint8(ours.crop)
    patch = Patch(ours.picture, still, ours.to_picture)
    ready = time.perf_counter()
    patch.paste(still)
    return {
        "corner_pixels": float(apart.max() / expected.scale),
        "psnr_db": psnr_as_published(to_uint8(theirs.crop), media / "image" / PHOTOS[raw]),
        "find_seconds": found - started,
        "paste_seconds": time.perf_counter() - ready,
    }


def measure_video(path: Path, frames: int) -> dict[str, float]:
    finder = make_finder()
    started = time.perf_counter()
    found = track(finder, islice(read_video(path, None), frames))
    seconds = time.perf_counter() - started
    if found is None:
        raise SystemExit(f"no face in {path}")

    def shake(smoothed: bool) -> float:
        laid = places(found, read_template(None, finder), SIZE, smoothed=smoothed)
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
    parser.add_argument("--calibrate", action="store_true", help="how the canonical face lies")
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    if flags.picture:
        draw_picture(flags.picture)
        return
    media = flags.shared / "media"
    if flags.calibrate:
        calibrate(media)
        return
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
