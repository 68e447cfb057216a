"""What all people share: the mesh to render, masks on the mean head, and baked occlusion."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32
from scipy.ndimage import distance_transform_edt

from data.synthetic.head_model import HeadModel, Part
from data.synthetic.heads import kernels

Points = Float[np.ndarray, "*b 3"]

TEXTURE_SIZE = 640
"""Rows and columns of the textures of face and of head and neck."""

EYE_CENTRES = np.array([[3.094, 3.614, 7.842], [-3.094, 3.614, 7.842]], np.float32)
"""About which the eyeballs of the mean head turn; the subject's left one first."""

NECK = (-14.5, -7.9)
"""Heights between which the turn of the head fades into the body."""

_KINDS = {
    "face": kernels.FACE,
    "head_neck": kernels.HEAD,
    "mouth_socket": kernels.SOCKET,
    "eye_socket_left": kernels.SOCKET,
    "eye_socket_right": kernels.SOCKET,
    "gums_tongue": kernels.GUMS,
    "teeth": kernels.TEETH,
    "eyeball_left": kernels.EYE_LEFT,
    "eyeball_right": kernels.EYE_RIGHT,
    "body": kernels.BODY,
}

_OCCLUDING_SHAPES = (
    "jawOpen",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthUpperUp_L",
    "mouthUpperUp_R",
    "mouthLowerDown_L",
    "mouthLowerDown_R",
    "mouthSmile_L",
    "mouthSmile_R",
    "eyeBlink_L",
    "eyeBlink_R",
    "browDown_L",
    "browDown_R",
    "noseSneer_L",
    "noseSneer_R",
)
"""Expression shapes that change what parts of the face see of their surroundings."""

_OCCLUSION_DIRECTIONS, _OCCLUSION_SIZE = 60, 256


def smoothstep(low: float, high: float, x: Float[np.ndarray, "*b"]) -> Float[np.ndarray, "*b"]:
    """Rises from 0 at `low` to 1 at `high`, or falls where `high` is the lower."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bump(distance: Float[np.ndarray, "*b"], width: float) -> Float[np.ndarray, "*b"]:
    """1 at distance 0, falling off as a Gaussian of a width."""
    return np.exp(-np.square(distance / width))


def bound(points: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b"]:
    """Share of the head's turn that points of the skin follow."""
    return smoothstep(*NECK, points[..., 1] - 0.35 * np.maximum(-points[..., 2], 0))


def line_distance(
    points: Float[np.ndarray, "*b 2"], line: Float[np.ndarray, "k 2"]
) -> Float32[np.ndarray, "*b"]:
    """Distance from a polyline."""
    flat = np.ascontiguousarray(points, np.float32).reshape(-1, 2)
    return kernels.line_distance(flat, line.astype(np.float32)).reshape(points.shape[:-1])


def inside(
    points: Float[np.ndarray, "*b 2"], polygon: Float[np.ndarray, "k 2"]
) -> Bool[np.ndarray, "*b"]:
    """Whether points lie in a polygon (even-odd rule)."""
    x, y = points[..., 0], points[..., 1]
    result = np.zeros(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        if y0 != y1:
            result ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return result


class Tile(NamedTuple):
    """One texture: where its texels lie on the mean head.

    Attributes:
        position: of each texel.
        across: change of the position from column to column.
        down: change of the position from row to row.
    """

    position: Float32[np.ndarray, "n n 3"]
    across: Float32[np.ndarray, "n n 3"]
    down: Float32[np.ndarray, "n n 3"]

    def slopes(self, height: Float[np.ndarray, "n n"]) -> Float32[np.ndarray, "n n 3"]:
        """Gradient, on the surface, of a height in centimetres."""
        u, v = self.across, self.down
        uu, vv, uv = (u * u).sum(-1), (v * v).sum(-1), (u * v).sum(-1)
        determinant = np.maximum(uu * vv - uv * uv, 1e-9)
        dv, du = np.gradient(height)
        a = (vv * du - uv * dv) / determinant
        b = (uu * dv - uv * du) / determinant
        slopes = a[..., None] * u + b[..., None] * v
        steep = np.linalg.norm(slopes, axis=-1, keepdims=True)
        return (slopes / np.maximum(1, steep / 1.2)).astype(np.float32)


class Mesh:
    """The head model as the renderer needs it; one per model and process.

    Attributes:
        model: the head model.
        source: the model's vertex behind each rendered one; the same position may have several
            texture coordinates.
        triangles: of rendered vertices.
        one_sided: how many of them, the skin's, are seen from outside alone.
        kind: what each rendered vertex belongs to.
        uv: texture coordinates within a tile.
        skin_triangles: of the model's vertices, face with head and neck.
        solid_triangles: of the model's vertices, everything that is rendered.
        bound: share of the head's turn that the model's vertices follow.
        tiles: of the two textures.
        occlusion: share of the surroundings that the model's vertices see at rest.
        occlusion_change: by `occluding` shapes at full weight.
        occluding: numbers of the expression shapes that change it.
        contour: vertices among which each of the 17 contour landmarks slides.
        upper_teeth: which vertices of the teeth belong to the upper row.
        tongue: its vertices, and how far each follows the tip.
    """

    def __init__(self, model: HeadModel):
        self.model = model = _with_body(model)
        corners, kinds, plain = [], [], []
        for name, kind in _KINDS.items():
            part = model.parts[name]
            triangles, uv = model.triangles[part.triangles], model.triangle_uv[part.triangles]
            if kind in (kernels.EYE_LEFT, kernels.EYE_RIGHT):
                # The shell of sclera and cornea comes first; the disc behind it is not seen.
                shell = triangles.max(axis=1) < self.eyeball(kind).stop
                triangles, uv = triangles[shell], uv[shell]
            corners.append(np.stack([triangles, uv], -1).reshape(-1, 2))
            kinds.append(np.full(len(corners[-1]), kind))
            plain.append(triangles)
        rows = np.column_stack([np.concatenate(corners), np.concatenate(kinds)])
        unique, inverse = np.unique(rows, axis=0, return_inverse=True)
        self.source = unique[:, 0].astype(np.int32)
        self.kind = unique[:, 2].astype(np.int32)
        uv = model.uv[unique[:, 1]]
        self.uv = (uv - np.floor(np.where(uv == np.floor(uv), uv - 0.5, uv))).astype(np.float32)
        self.triangles = inverse.reshape(-1, 3).astype(np.int32)
        self.one_sided = len(plain[0]) + len(plain[1])
        self.solid_triangles = np.concatenate(plain)
        skin = model.parts["head_neck"]
        self.skin_triangles = model.triangles[: skin.end_triangle]
        self.skin_end = skin.end_vertex
        self.bound = bound(model.neutral).astype(np.float32)
        body = model.parts["body"].vertices
        self.bound[skin.end_vertex : body.start] = 1
        self.bound[body] = 0
        self.tiles = (self._tile(kernels.FACE), self._tile(kernels.HEAD))
        self._names = {name: n for n, name in enumerate(model.expression_names)}
        self.occluding = np.array([self._names[name] for name in _OCCLUDING_SHAPES])
        self.occlusion = self._occlusion(model.neutral)
        self.occlusion_change = np.stack(
            [
                self._occlusion(model.neutral + model.expression[n]) - self.occlusion
                for n in self.occluding
            ]
        )
        self.contour = [self._slide(n) for n in range(17)]
        self.upper_teeth = self._upper_teeth()
        self.tongue = self._tongue()

    def shape(self, name: str) -> int:
        """Number of an expression shape."""
        return self._names[name]

    def eyeball(self, kind: int) -> slice:
        """Vertices of the shell of an eyeball."""
        part = self.model.parts["eyeball_left" if kind == kernels.EYE_LEFT else "eyeball_right"]
        return slice(part.first_vertex, (part.first_vertex + part.end_vertex) // 2 - 15)

    def _tile(self, kind: int) -> Tile:
        size = TEXTURE_SIZE
        keep = self.kind[self.triangles[:, 0]] == kind
        triangles = self.triangles[keep]
        flat = np.column_stack([self.uv * size, np.zeros(len(self.uv))]).astype(np.float32)
        _, ident, bary = nearest_surfaces(flat, triangles, 0, size)
        nearest = distance_transform_edt(ident < 0, return_distances=False, return_indices=True)
        u, v = np.moveaxis(bary, -1, 0)
        corners = self.model.neutral[self.source][triangles[np.maximum(ident, 0)]]
        weights = np.stack([u, v, 1 - u - v], -1)
        position = (corners * weights[..., None]).sum(2)[nearest[0], nearest[1]]
        down, across = np.gradient(position, axis=(0, 1))
        return Tile(*(a.astype(np.float32) for a in (position, across, down)))

    def _occlusion(self, points: Points) -> Float32[np.ndarray, " v"]:
        """Cosine-weighted share of a sphere around the front that each vertex sees."""
        points = points.astype(np.float32)
        normals = kernels.vertex_normals(points, self.solid_triangles)
        seen, total = np.zeros((2, len(points)), np.float32)
        for direction in _sphere(_OCCLUSION_DIRECTIONS):
            if direction[2] < -0.5:
                continue
            axes = view_axes(direction)
            screen = (points @ axes.T).astype(np.float32)
            screen[:, :2] = (screen[:, :2] + 21) * (_OCCLUSION_SIZE / 42)
            depth = np.full((_OCCLUSION_SIZE, _OCCLUSION_SIZE), kernels.FAR, np.float32)
            kernels.rasterize(screen, self.solid_triangles, 0, depth)
            weight = np.maximum(normals @ direction.astype(np.float32), 0)
            i = np.clip(screen[:, :2].astype(int), 0, _OCCLUSION_SIZE - 1)
            total += weight
            seen += weight * (screen[:, 2] < depth[i[:, 1], i[:, 0]] + 0.25)
        return seen / np.maximum(total, 1e-6)

    def _upper_teeth(self) -> Bool[np.ndarray, " n"]:
        # The jaw moves the lower row alone.
        jaw = self.model.expression[self.shape("jawOpen")][self.model.parts["teeth"].vertices]
        return np.linalg.norm(jaw, axis=1) < 1e-3

    def _tongue(self) -> tuple[Int32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """The front of the tongue, which lies on the floor of the mouth behind the lower teeth."""
        part = self.model.parts["gums_tongue"]
        x, y, z = self.model.neutral[part.vertices].T
        share = smoothstep(6.3, 9.6, z) * smoothstep(10.1, 9.8, z)
        share = share * smoothstep(2.0, 1.3, np.abs(x)) * smoothstep(-4.75, -4.3, y) * (y < -2.8)
        chosen = np.flatnonzero(share > 0)
        return (part.first_vertex + chosen).astype(np.int32), share[chosen].astype(np.float32)

    def _slide(self, landmark: int) -> Int32[np.ndarray, " n"]:
        """Vertices of the face at the height of a contour landmark, from the jaw to the cheek."""
        vertex = self.model.landmarks[landmark]
        if landmark in (0, 8, 16):
            return np.array([vertex], np.int32)
        face = self.model.neutral[self.model.parts["face"].vertices]
        start = self.model.neutral[vertex]
        side = np.sign(start[0])
        level = np.abs(face[:, 1] - start[1]) < 0.35
        inner = (face[:, 0] * side < abs(start[0])) & (face[:, 0] * side > 0.45 * abs(start[0]))
        path = level & inner & (face[:, 2] > start[2])
        if 2 <= landmark <= 14:  # above, ears stand out
            path |= level & (np.linalg.norm(face - start, axis=1) < 1.3) & (face[:, 0] * side > 0)
        return np.append(vertex, np.flatnonzero(path)).astype(np.int32)


_BODY_RINGS = ((1.12, 0.5, 1.05), (1.45, 2.6, 1.1), (1.9, 6.5, 1.1), (2.1, 16.0, 1.1))
"""Of each ring around the end of the bust: factor on x, drop, factor on z."""


def _with_body(model: HeadModel) -> HeadModel:
    """Lengthens the bust by rings of shoulders and chest, as a further part of the mesh."""
    skin = model.triangles[: model.parts["head_neck"].end_triangle]
    edges = np.sort(np.concatenate([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]]), axis=1)
    edges, count = np.unique(edges, axis=0, return_counts=True)
    rim = edges[(count == 1) & (model.neutral[edges][..., 1].max(1) < -10)]
    names, rows = np.unique(rim, return_inverse=True)
    rows = rows.reshape(rim.shape)
    first, rings = len(model.neutral), len(_BODY_RINGS)
    outer = [
        model.neutral[names] * np.array([a, 1, c]) - np.array([0, drop, 0])
        for a, drop, c in _BODY_RINGS
    ]
    level = [names, *(first + n * len(names) + np.arange(len(names)) for n in range(rings))]
    triangles = [
        np.concatenate(
            [
                np.stack([low[rows[:, 0]], low[rows[:, 1]], high[rows[:, 0]]], 1),
                np.stack([low[rows[:, 1]], high[rows[:, 1]], high[rows[:, 0]]], 1),
            ]
        )
        for low, high in itertools.pairwise(level)
    ]
    # All turned outwards, away from the middle of the chest.
    added = np.concatenate(triangles).astype(np.int32)
    points = np.concatenate([model.neutral, *outer]).astype(np.float32)
    a, b, c = (points[added[:, n]] for n in range(3))
    inwards = (np.cross(b - a, c - a) * ((a + b + c) / 3 - [0, -18, -2])).sum(1) < 0
    added[inwards] = added[inwards][:, ::-1]
    count_before = len(model.triangles)
    body = Part(first, len(points), count_before, count_before + len(added))

    def lengthened(shapes: Float32[np.ndarray, "n v 3"], factor: float) -> np.ndarray:
        return np.concatenate([shapes, *(factor * shapes[:, names] for _ in range(rings))], axis=1)

    return replace(
        model,
        neutral=points,
        identity=lengthened(model.identity, 1.0),
        expression=lengthened(model.expression, 0.0),
        triangles=np.concatenate([model.triangles, added]),
        triangle_uv=np.concatenate([model.triangle_uv, np.zeros_like(added)]),
        parts={**model.parts, "body": body},
    )


def nearest_surfaces(
    screen: Float32[np.ndarray, "v 3"],
    triangles: Int32[np.ndarray, "t 3"],
    one_sided: int,
    size: int,
) -> tuple[Float32[np.ndarray, "s s"], Int32[np.ndarray, "s s"], Float32[np.ndarray, "s s 2"]]:
    """Depth, number of the triangle and its weights in each pixel, by `kernels.rasterize`."""
    depth = np.full((size, size), kernels.FAR, np.float32)
    ident = np.full((size, size), -1, np.int32)
    bary = np.zeros((size, size, 2), np.float32)
    kernels.rasterize(screen, triangles, one_sided, depth, ident, bary)
    return depth, ident, bary


def view_axes(direction: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """Rows that give x, y (down) and depth of points seen from a direction."""
    up = np.array([0.0, 1.0, 0.0]) if abs(direction[1]) < 0.9 else np.array([0.0, 0.0, 1.0])
    across = np.cross(up, direction)
    across /= np.linalg.norm(across)
    return np.stack([across, -np.cross(direction, across), -np.asarray(direction)])


def _sphere(count: int) -> Float[np.ndarray, "n 3"]:
    """Directions spread evenly (a Fibonacci lattice)."""
    n = np.arange(count) + 0.5
    y, angle = 1 - 2 * n / count, np.pi * (1 + np.sqrt(5)) * n
    radius = np.sqrt(1 - y * y)
    return np.stack([radius * np.cos(angle), y, radius * np.sin(angle)], -1)


@lru_cache(maxsize=2)
def mesh_of(model: HeadModel) -> Mesh:
    """The mesh of a head model, prepared once per process."""
    return Mesh(model)
