"""The morphable head model behind the rendered people: packing, finding and loading it.

`python -m data.synthetic.head_model --source ICT-FaceKit --output FILE` packs a clone of
https://github.com/ICT-VGL/ICT-FaceKit (MIT license) into one file of 17 MB. The project does not
ship it. The model is that of Li et al., "Learning Formation of Physically-Based Face Attributes",
CVPR 2020: a mean head, 100 identity modes and 53 expression shapes on one mesh with teeth, gums,
tongue and eyeballs.

Axes: x to picture right, y up, z to the viewer; one unit is about a centimetre. A person is
`neutral + weights @ identity` with weights from N(0, 1); an expression adds
`weights @ expression` with weights in [0, 1]. `_L` and `_R` are the subject's own sides.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from data import layout
from data.synthetic.packed_file import PackedFile
from eamm_jax.cli.tool import OneLineParser, run
from eamm_jax.errors import UserError
from eamm_jax.io.files import cannot_write

HOW_TO_GET_IT = (
    "clone https://github.com/ICT-VGL/ICT-FaceKit, then run "
    "`python -m data.synthetic.head_model --source ICT-FaceKit`"
)

FILE = PackedFile("head_model.npz", "head model", HOW_TO_GET_IT)


class Part(NamedTuple):
    """Vertices and triangles of one part of the mesh; ends are exclusive."""

    first_vertex: int
    end_vertex: int
    first_triangle: int
    end_triangle: int

    @property
    def vertices(self) -> slice:
        """Of the vertex arrays."""
        return slice(self.first_vertex, self.end_vertex)

    @property
    def triangles(self) -> slice:
        """Of the triangle arrays."""
        return slice(self.first_triangle, self.end_triangle)


FACE_KIT_PARTS = {
    "face": (0, 9409, 0, 9230),
    "head_neck": (9409, 11248, 9230, 11144),
    "mouth_socket": (11248, 13294, 11144, 13226),
    "eye_socket_left": (13294, 13678, 13226, 13630),
    "eye_socket_right": (13678, 14062, 13630, 14034),
    "gums_tongue": (14062, 17039, 14034, 17006),
    "teeth": (17039, 21451, 17006, 21496),
    "eyeball_left": (21451, 23021, 21496, 23094),
    "eyeball_right": (23021, 24591, 23094, 24692),
    "lacrimal_left": (24591, 24795, 24692, 24855),
    "lacrimal_right": (24795, 24999, 24855, 25018),
    "eye_blend_left": (24999, 25023, 25018, 25033),
    "eye_blend_right": (25023, 25047, 25033, 25048),
    "eye_occlusion_left": (25047, 25199, 25048, 25176),
    "eye_occlusion_right": (25199, 25351, 25176, 25304),
    "lashes_left": (25351, 26035, 25304, 25844),
    "lashes_right": (26035, 26719, 25844, 26384),
}
"""Vertices and polygons of FaceKit's parts, as its README lists them."""

_JAW_RIGHT = (1278, 1272, 12, 1834, 243, 781, 2199, 1447)
_JAW_LEFT = (3661, 4390, 3022, 2484, 4036, 2253, 3490, 3496)
"""Further vertices along the jaw, beside contour landmarks 0-7 and 9-16."""


@dataclass(frozen=True)
class HeadModel:
    """The arrays of a packed head model.

    Attributes:
        neutral: mean head.
        identity: one standard deviation of each identity mode, relative to `neutral`.
        expression: full activation of each expression shape, relative to `neutral`.
        expression_names: of the shapes.
        triangles: vertex indices.
        triangle_uv: texture coordinate indices.
        uv: texture coordinates; the integer part is the tile (0 face, 1 head and neck, ...).
        parts: of the mesh, by name.
        landmarks: vertices of the 68 landmarks in dlib's order.
    """

    neutral: Float32[np.ndarray, "v 3"]
    identity: Float32[np.ndarray, "i v 3"]
    expression: Float32[np.ndarray, "e v 3"]
    expression_names: tuple[str, ...]
    triangles: Int32[np.ndarray, "t 3"]
    triangle_uv: Int32[np.ndarray, "t 3"]
    uv: Float32[np.ndarray, "u 2"]
    parts: dict[str, Part]
    landmarks: Int32[np.ndarray, " 68"]

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


def load(path: str | os.PathLike[str] | None = None) -> HeadModel:
    """Loads a packed head model, once per process and file.

    Args:
        path: of the file; None looks in the user's cache folder.

    Raises:
        UserError: there is no such file, or it is not a head model.
    """
    return _load(FILE.find(path))


@lru_cache(maxsize=2)
def _load(path: Path) -> HeadModel:
    try:
        with np.load(path, allow_pickle=False) as file:
            names = [str(name) for name in file["group_names"]]
            ranges = [Part(*map(int, row)) for row in file["group_ranges"]]
            return HeadModel(
                neutral=file["neutral"].astype(np.float32),
                identity=file["identity"].astype(np.float32),
                expression=file["expression"].astype(np.float32),
                expression_names=tuple(str(name) for name in file["expression_names"]),
                triangles=file["triangles"].astype(np.int32),
                triangle_uv=file["triangle_uv"].astype(np.int32),
                uv=file["uv"].astype(np.float32),
                parts=dict(zip(names, ranges, strict=True)),
                landmarks=file["landmarks68"].astype(np.int32),
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not a packed head model: {HOW_TO_GET_IT}") from error


def pack(
    source: Path, output: Path, parts: dict[str, tuple[int, int, int, int]] | None = None
) -> None:
    """Packs a clone of ICT-FaceKit.

    Args:
        source: the clone.
        output: file to write.
        parts: vertices and polygons of the mesh's parts; FaceKit's own unless given.

    Raises:
        UserError: `source` is not a clone of ICT-FaceKit, or `output` cannot be written.
    """
    folder = source / "FaceXModel"
    try:
        facts = json.loads((folder / "vertex_indices.json").read_text())
        neutral, uv, polygons = _read_mesh(folder / "generic_neutral_mesh.obj")
        identities = sorted(folder.glob("identity*.obj"))
        expressions = [folder / f"{name}.obj" for name in facts["expressions"]]
        identity, expression = (
            np.stack([_read_vertices(path.read_text()) - neutral for path in paths])
            for paths in (identities, expressions)
        )
        landmarks = facts["idx_to_landmark_verts"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{source} is not a clone of ICT-FaceKit ({error})") from error
    corners, owners = [], []
    for number, polygon in enumerate(polygons):
        for n in range(1, len(polygon) - 1):
            corners.append([polygon[0], polygon[n], polygon[n + 1]])
            owners.append(number)
    triangles, owner = np.array(corners, np.int32), np.array(owners, np.int32)
    ranges = np.array(list((parts or FACE_KIT_PARTS).values()), np.int32)
    ranges[:, 2:] = np.searchsorted(owner, ranges[:, 2:])
    arrays: dict[str, Any] = {
        "neutral": neutral.astype(np.float32),
        "identity": identity.astype(np.float16),
        "expression": expression.astype(np.float16),
        "expression_names": np.array(facts["expressions"]),
        "uv": uv.astype(np.float32),
        "triangles": triangles[..., 0],
        "triangle_uv": triangles[..., 1],
        "triangle_polygon": owner,
        "group_names": np.array(list(parts or FACE_KIT_PARTS)),
        "group_ranges": ranges,
        "landmarks68": np.array(landmarks, np.int32),
        "jaw_right": np.array(_JAW_RIGHT, np.int32),
        "jaw_left": np.array(_JAW_LEFT, np.int32),
    }
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        layout.write_whole(output, content.getvalue())
    except OSError as error:
        raise cannot_write(output, error) from error


def _read_vertices(text: str) -> np.ndarray:
    rows = [line[2:].split()[:3] for line in text.splitlines() if line.startswith("v ")]
    return np.array(rows, np.float64)


def _read_mesh(path: Path) -> tuple[np.ndarray, np.ndarray, list[list[tuple[int, int]]]]:
    """Vertices, texture coordinates, and polygons as pairs of indices into both."""
    text = path.read_text()
    uv, polygons = [], []
    for line in text.splitlines():
        kind, *words = line.split() or [""]
        if kind == "vt":
            uv.append(words[:2])
        elif kind == "f":
            pairs = [word.split("/") for word in words]
            polygons.append([(int(pair[0]) - 1, int(pair[1]) - 1) for pair in pairs])
    return _read_vertices(text), np.array(uv, np.float64), polygons


def main(argv: Sequence[str] | None = None) -> None:
    """Packs a clone of ICT-FaceKit as the flags say."""
    parser = OneLineParser(
        prog="python -m data.synthetic.head_model",
        description="Packs a clone of https://github.com/ICT-VGL/ICT-FaceKit into one file.",
    )
    parser.add_argument("--source", type=Path, required=True, help="the clone")
    parser.add_argument(
        "--output", type=Path, default=None, help="file to write (default: in the cache folder)"
    )
    flags = parser.parse_args(argv)

    def job() -> None:
        output = flags.output or FILE.default_path()
        pack(flags.source, output)
        print(f"{output}: {output.stat().st_size / 1e6:.1f} MB; pass it as --head_model")

    run(job)


if __name__ == "__main__":
    main()
