"""How near the estimated head poses are to the published ones, and how the estimate is calibrated.

    python benchmarks/head_pose.py [--network FOLDER] [--media ../shared/media]

prints, for each portrait of `media/image` that has a pose in `media/pose`, and for the frames of
`media/lrw_clip`, what each way of estimating gives, and the mean absolute errors. FOLDER holds a
converted network (convert_torch_weights.py --pose_network).

    python benchmarks/head_pose.py --calibrate --network FOLDER

prints how far below its box the region lies best (for the published `ty` of the LRW clip), how
well it lies in aligned pictures in which no face is looked for (`tx`), and the constants of
`eamm_jax/faces/generic_face.py`: from the published poses of the LRW clip and, as there are no
others with pictures, from what the network says of the films in `media/emotion_video` and
`media/raw_video`. Each film counts the same. The portraits take no part.

    python benchmarks/head_pose.py --draw astronaut PHOTO ... --output axes.png [--network FOLDER]

draws what was found on photos (`astronaut` is scikit-image's): the axes of the head (red to
picture right, green up, blue to where the nose points), above by the landmarks, below by the
network.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from eamm_jax.checkpoint import load_networks
from eamm_jax.faces import generic_face, pose_geometry
from eamm_jax.faces.detection import make_finder
from eamm_jax.faces.head_pose import (
    Framed,
    LandmarkEstimator,
    NetworkEstimator,
    PoseEstimator,
    in_words,
)
from eamm_jax.faces.pose_geometry import face_region, fit_pose, rotation_matrix
from eamm_jax.faces.source import read_source
from eamm_jax.io.image import read_image, to_uint8, write_png
from eamm_jax.io.video import read_video

FILM_STEP = 5
"""Of the frames of a film each so many-th is looked at."""

COLUMNS = ("yaw", "pitch", "roll", "scale %", "tx", "ty")

LOWERED = np.arange(0.04, 0.161, 0.02)
"""What is tried for the region."""


class Seen(NamedTuple):
    """Pictures in which a face was found, with published poses if there are any."""

    name: str
    pictures: list[Framed]
    published: np.ndarray | None


def portraits(media: Path) -> Seen:
    names = [p for p in sorted((media / "image").iterdir()) if pose_file(media, p).is_file()]
    pictures = framed(to_uint8(read_image(path, None)) for path in names)
    found = [n for n, picture in enumerate(pictures) if picture.face is not None]
    print(f"{len(names)} portraits with published poses, a face found in {len(found)}")
    poses = np.concatenate([np.load(pose_file(media, names[n])) for n in found])
    return Seen("portraits", [pictures[n] for n in found], poses)


def pose_file(media: Path, portrait: Path) -> Path:
    return media / "pose" / f"{portrait.stem}.npy"


def lrw_clip(media: Path) -> Seen:
    poses = np.load(media / "lrw_clip" / "pose.npy")
    frames = [media / "lrw_clip" / "frames" / f"{n}.png" for n in range(len(poses))]
    return Seen("LRW clip", framed(to_uint8(read_image(f, None)) for f in frames), poses)


def films(media: Path) -> list[Seen]:
    paths = [*sorted((media / "emotion_video").iterdir()), *sorted((media / "raw_video").iterdir())]
    result = []
    for path in paths:
        frames = (f for n, f in enumerate(read_video(path, None)) if n % FILM_STEP == 0)
        pictures = [picture for picture in framed(frames) if picture.face is not None]
        result.append(Seen(path.stem, pictures, None))
    return result


def framed(images: Iterable[np.ndarray]) -> list[Framed]:
    finder = make_finder()
    return [Framed.of(image, finder.find(image)) for image in images]


def estimates(estimator: PoseEstimator, pictures: list[Framed]) -> np.ndarray:
    return np.stack([pose for pose in estimator.poses(pictures) if pose is not None])


def errors(found: np.ndarray, published: np.ndarray) -> np.ndarray:
    difference = (found - published)[:, :6].astype(np.float64)
    difference[:, 3] *= 100 / published[:, 3]
    return difference


def print_errors(seen: list[Seen], estimators: dict[str, PoseEstimator]) -> None:
    table = Table(title="mean absolute error (in brackets the mean)", title_justify="left")
    for column in ("of", "by", "pictures", *COLUMNS):
        table.add_column(column)
    for group in seen:
        for name, estimator in estimators.items():
            pictures = group.pictures
            if name.endswith("unseen"):
                pictures = [p._replace(region=None).taken_as_aligned() for p in pictures]
            wrong = errors(estimates(estimator, pictures), group.published)
            shown = [f"{np.abs(column).mean():.2f} ({column.mean():+.2f})" for column in wrong.T]
            table.add_row(group.name, name, str(len(wrong)), *shown)
    Console(width=150).print(table)


def calibrate(media: Path, network: NetworkEstimator) -> None:
    clip = lrw_clip(media)
    for lowered in LOWERED:
        moved = [p._replace(region=face_region(p.face.landmarks, lowered)) for p in clip.pictures]
        wrong = errors(estimates(network, moved), clip.published)[:, 5].mean()
        print(f"region lowered by {lowered:.2f}: ty of the LRW clip is off by {wrong:+.2f}")
    framed_alike = [p._replace(region=None).taken_as_aligned() for p in clip.pictures]
    wrong = errors(estimates(network, framed_alike), clip.published).mean(axis=0)
    print(f"FRAMED_REGION: tx of the LRW clip is off by {wrong[4]:+.2f}, ty by {wrong[5]:+.2f}")
    plain = generic_face.calibrated(1.0, 0.0, (0.0, 0.0))
    sizes, pitches, nasions = [], [], []
    for group in (clip, *films(media)):
        truth = group.published
        truth = estimates(network, group.pictures) if truth is None else truth
        fitted = np.stack([fit(plain, picture) for picture in group.pictures])
        size = (fitted[:, 3] / truth[:, 3]).mean()
        pitch = (truth[:, 1] - fitted[:, 1]).mean()
        # scale R nasion = what this face, put at the centre, has too much of (tx, ty).
        turned = truth[:, 3, None, None] * rotation_matrix(truth[:, :3])[:, :2, 1:]
        moved = (fitted - truth[:, :6])[:, 4:6]
        nasion = np.linalg.lstsq(turned.reshape(-1, 2), moved.reshape(-1), rcond=None)[0] / 1000
        print(
            f"{group.name}: {len(fitted)} frames, size {size:.3f}, pitch {pitch:+.1f}, "
            f"nasion ({nasion[0]:.1f}, {nasion[1]:.1f}) mm"
        )
        sizes.append(size)
        pitches.append(pitch)
        nasions.append(nasion)
    y, z = np.mean(nasions, axis=0)
    print(
        f"SIZE = {np.mean(sizes):.3f}, PITCH = {np.mean(pitches):.1f}, NASION = ({y:.1f}, {z:.1f})"
    )


def fit(points: np.ndarray, picture: Framed) -> np.ndarray:
    seen = picture.region.from_picture(picture.face.landmarks[generic_face.LANDMARKS])
    return fit_pose(points, seen, generic_face.WEIGHTS)


AXES = (((1, 0, 0), "#ff4040"), ((0, 1, 0), "#30e060"), ((0, 0, 1), "#40a0ff"))
AXIS_LENGTH, AXIS_WIDTH = 90_000, 3
"""Micrometres of the head; pixels."""


def draw(photos: list[str], estimators: list[PoseEstimator], output: Path) -> None:
    rows: list[list[np.ndarray]] = [[] for _ in estimators]
    for photo in photos:
        image = portrait(photo)
        (picture,) = framed([image])
        for row, estimator in zip(rows, estimators, strict=True):
            (pose,) = estimator.poses([picture.taken_as_aligned()])
            print(f"{photo}, {estimator.name}: {in_words(pose)}")
            row.append(with_axes(image, picture.taken_as_aligned().region, pose))
    write_png(output, np.concatenate([np.concatenate(row, axis=1) for row in rows]))


def portrait(photo: str) -> np.ndarray:
    with TemporaryDirectory() as folder:
        path = Path(photo)
        if photo == "astronaut":
            from skimage import data

            path = Path(folder, "astronaut.png")
            write_png(path, data.astronaut())
        return to_uint8(read_source(path, 256).crop)


def with_axes(image: np.ndarray, region: pose_geometry.Region, pose: np.ndarray) -> np.ndarray:
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    # From where the generic face has the root of the nose.
    root = generic_face.POINTS[generic_face.LANDMARKS == 27]
    for axis, colour in AXES:
        ends = np.concatenate([root, root + AXIS_LENGTH * np.array([axis])])
        line = region.to_picture(pose_geometry.project(ends, pose))
        pen.line([tuple(point) for point in line], fill=colour, width=AXIS_WIDTH)
    return np.asarray(canvas)


def load_estimator(folder: str) -> NetworkEstimator:
    return NetworkEstimator(load_networks(folder, ["head_pose"])[1]["head_pose"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", help="folder of a converted head pose network")
    parser.add_argument("--media", type=Path, default=Path("../shared/media"))
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--draw", nargs="+", metavar="PHOTO")
    parser.add_argument("--output", type=Path, default=Path("axes.png"))
    flags = parser.parse_args()
    if flags.draw:
        networks = [load_estimator(flags.network)] if flags.network else []
        draw(flags.draw, [LandmarkEstimator(), *networks], flags.output)
        return
    if flags.calibrate:
        if flags.network is None:
            parser.error("--calibrate needs --network")
        calibrate(flags.media, load_estimator(flags.network))
        return
    estimators: dict[str, PoseEstimator] = {"landmarks": LandmarkEstimator()}
    if flags.network is not None:
        network = load_estimator(flags.network)
        estimators |= {"network": network, "network, face unseen": network}
    print_errors([portraits(flags.media), lrw_clip(flags.media)], estimators)


if __name__ == "__main__":
    main()
