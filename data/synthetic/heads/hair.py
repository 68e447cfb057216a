"""Strands: hair of the head, brows, lashes and beards, and the wires of glasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int32
from scipy.spatial import cKDTree

from data.synthetic.heads import kernels, skin
from data.synthetic.heads.looks import Look, linear
from data.synthetic.heads.mesh import Mesh, smoothstep

Vectors = Float[np.ndarray, "s 3"]


class Strands(NamedTuple):
    """Strands of a group; all have as many points.

    Attributes:
        points: in the person's head, or, of strands that follow the skin, from `anchors`.
        width: centimetres.
        colour: linear light.
        ambient: share of the surroundings that is seen.
        opacity: of each strand.
        gloss: strength of highlights.
        tag: label.
        anchors: the model's vertices around each root; empty for strands that are rigid.
        weights: of the anchors.
    """

    points: Float32[np.ndarray, "s k 3"]
    width: Float32[np.ndarray, "s k"]
    colour: Float32[np.ndarray, "s 3"]
    ambient: Float32[np.ndarray, "s k"]
    opacity: Float32[np.ndarray, " s"]
    gloss: Float32[np.ndarray, " s"]
    tag: Int32[np.ndarray, " s"]
    anchors: Int32[np.ndarray, "_ _ 3"] = np.zeros((0, 0, 3), np.int32)
    weights: Float32[np.ndarray, "_ _ 3"] = np.zeros((0, 0, 3), np.float32)


@dataclass(frozen=True)
class Style:
    """A way to wear hair.

    Attributes:
        count: of strands.
        points: of each.
        length: centimetres on top, and as a share of it at the sides and the back.
        sides: share of the length at the sides.
        volume: thickness of the layer on the skull.
        comb: radial (from the crown), parted, back, tied (to a knot behind), or none.
        lift: how far roots stand up.
        fall: how soon gravity takes over.
        curl: radius of curls.
        turns: of a curl along a strand.
        clump: how far strands of a lock move together.
        width: of a strand.
    """

    count: int
    points: int
    length: float
    sides: float
    volume: float
    comb: str
    lift: float
    fall: float
    curl: float = 0.0
    turns: float = 0.0
    clump: float = 0.16
    width: float = 0.05


STYLES = {
    "buzz": Style(7000, 4, 0.45, 0.7, 0.35, "none", 1.0, 0.0, clump=0.05, width=0.035),
    "bald": Style(1500, 4, 0.35, 0.9, 0.30, "none", 1.0, 0.0, clump=0.05, width=0.03),
    "receding": Style(6500, 7, 2.6, 0.45, 0.8, "back", 0.5, 0.3),
    "short": Style(7500, 8, 3.6, 0.40, 1.1, "radial", 0.5, 0.35),
    "side": Style(8000, 10, 7.0, 0.30, 1.5, "parted", 0.5, 0.4),
    "swept": Style(8000, 10, 8.5, 0.35, 1.5, "back", 0.7, 0.35),
    "tied": Style(8000, 10, 14.0, 0.75, 0.7, "tied", 0.15, 0.0, clump=0.06),
    "long": Style(8500, 16, 29.0, 0.95, 1.3, "parted", 0.4, 1.0, clump=0.12, width=0.06),
    "bob": Style(8500, 13, 16.0, 0.95, 1.5, "parted", 0.4, 1.0, clump=0.10, width=0.06),
    "curly": Style(6500, 16, 9.0, 0.7, 2.2, "radial", 1.0, 0.5, 0.5, 3.0, 0.25),
    "afro": Style(9000, 10, 4.2, 0.8, 3.2, "none", 1.0, 0.0, 0.35, 3.5, 0.20),
}

_CROWN = np.array([0.0, 13.6, -2.5])
_KNOT = np.array([0.0, 5.5, -11.0])
_LOCKS = 320


def hair(mesh: Mesh, look: Look, shape: Float32[np.ndarray, "v 3"]) -> Strands:
    """Grows the hair of the head, strand by strand along the skull and then down."""
    rng = np.random.default_rng([look.seed, 1])
    style = STYLES[look.style]
    grown = skin.scalp(mesh.model.neutral[: mesh.skin_end], skin.recede(look))
    if look.style == "bald":
        grown = grown * smoothstep(9.5, 7.0, mesh.model.neutral[: mesh.skin_end, 1])
    density = np.where(grown > 0.12, grown, 0)
    roots, share = _scatter(rng, mesh, shape, density, style.count)
    skull = shape[: mesh.skin_end]
    normals = kernels.vertex_normals(shape, mesh.skin_triangles)[: mesh.skin_end]
    tree = cKDTree(skull)

    count, points = style.count, style.points
    layer = rng.random(count) ** 1.2
    volume = style.volume * look.hair_volume * (0.25 + 0.75 * smoothstep(0.1, 0.9, share))
    length = style.length * look.hair_length * rng.uniform(0.75, 1.15, count)
    on_top = smoothstep(5.5, 10.5, roots[:, 1])
    length = length * (style.sides + (1 - style.sides) * on_top)
    length *= 0.45 + 0.55 * smoothstep(0.1, 0.7, share)
    lock = cKDTree(roots[rng.choice(count, min(_LOCKS, count), replace=False)]).query(roots)[1]
    lock_bend = rng.normal(size=(_LOCKS, 3))[lock]
    side = np.sign(roots[:, 0] - look.parting + rng.normal(0, 0.12, count))[:, None]
    phase = rng.uniform(0, 2 * np.pi, count) * 0.3 + rng.uniform(0, 2 * np.pi, _LOCKS)[lock]

    path = np.zeros((count, points, 3))
    path[:, 0] = position = roots.copy()
    nearest = tree.query(position)[1]
    normal = normals[nearest]
    heading = _comb(style, look, position, normal, side) + style.lift * normal
    heights = np.zeros((count, points))
    for k in range(1, points):
        f = k / (points - 1)
        comb = _comb(style, look, position, normal, side)
        gravity = np.array([0.0, -1.0, 0.0])
        fall = style.fall * smoothstep(9.5, 5.0, position[:, 1])[:, None] * min(1.0, 2.5 * f)
        along = (1 - fall) * comb + fall * gravity
        along = along + style.lift * (1 - f) ** 2 * normal
        along = along + style.clump * (0.4 + f) * lock_bend + 0.05 * rng.normal(size=(count, 3))
        # Lie on the skull in the strand's own layer while there is a skull underneath.
        height = ((position - skull[nearest]) * normal).sum(1, keepdims=True)
        wanted = (volume * (0.15 + 0.85 * layer) * min(1.0, 2.2 * f))[:, None]
        if style.comb != "none":
            hugging = smoothstep(-3.0, 3.0, position[:, 1:2])
            flat = along - normal * (along * normal).sum(1, keepdims=True)
            flat = flat + normal * np.clip(0.9 * (wanted - height), -0.8, 0.8)
            along = along * (1 - hugging) + flat * hugging
        if style.comb == "parted":
            # Locks that hang beside the face keep clear of cheeks and shoulders.
            x = position[:, :1]
            reach = 7.9 + volume[:, None] * (0.4 + 0.6 * layer[:, None])
            outwards = np.sign(x) * np.clip(0.4 * (reach - np.abs(x)), -0.6, 0.6)
            hanging = smoothstep(4.0, 0.0, position[:, 1:2])
            along[:, :1] += outwards * hanging
            along[:, 2:] += np.clip(0.14 * (0.8 - position[:, 2:]), -0.4, 0.2) * hanging
        heading = 0.45 * heading + 0.55 * _unit(along)
        step = _unit(heading)
        position = position + step * (length / (points - 1))[:, None]
        nearest = tree.query(position)[1]
        normal = normals[nearest]
        height = ((position - skull[nearest]) * normal).sum(1)
        lowest = 0.06 + volume * (0.2 + 0.8 * layer) * min(1.0, 2.2 * f)
        lowest = np.where(position[:, 1] < -5, 0.5 * lowest, lowest)
        position = position + normal * np.clip(lowest - height, 0, 1.0)[:, None]
        heights[:, k] = np.maximum(height, lowest)
        path[:, k] = position
    if style.curl:
        share_along = np.linspace(0, 1, points)[None, :]
        angle = phase[:, None] + 2 * np.pi * style.turns * share_along
        radius = style.curl * look.hair_volume * np.minimum(1, 3 * share_along)
        a, b = (_unit(rng.normal(size=(_LOCKS, 3)))[lock][:, None] for _ in range(2))
        path += radius[..., None] * (np.cos(angle)[..., None] * a + np.sin(angle)[..., None] * b)

    top = max(style.volume * look.hair_volume, 0.3)
    ambient = 0.22 + 0.78 * np.clip(heights / top, 0, 1) ** 0.8
    ambient *= np.exp(0.12 * lock_bend[:, :1])  # locks catch the light differently
    if look.style in ("buzz", "bald"):
        ambient = np.full_like(heights, 0.75)
    tone = linear(look.hair) * rng.lognormal(0, 0.20, count)[:, None]
    tone = tone * np.exp(0.10 * rng.normal(size=(_LOCKS, 1)))[lock]
    if look.age > 0.4:
        grey = rng.random(count) < 0.35 * (look.age - 0.4)
        tone[grey] = 0.20
    taper = np.linspace(1, 0, points)[None, :] ** 0.5
    width = style.width * rng.uniform(0.7, 1.25, (count, 1)) * np.maximum(taper, 0.25)
    fine = 0.55 + 0.45 * smoothstep(0.15, 0.8, share)  # thin at the hairline
    return _strands(path, width, tone, ambient, 0.85 * fine, 1.0, kernels.HAIR)


def _comb(
    style: Style, look: Look, position: Vectors, normal: Vectors, side: Float[np.ndarray, "s 1"]
) -> Vectors:
    """Which way strands are combed where they are."""
    if style.comb == "radial":
        away = position - _CROWN
        away[:, 1] -= 0.35 * np.abs(away[:, 2])
        return _unit(away + np.array([0.0, -1.2, 0.0]))
    if style.comb == "parted":
        front = smoothstep(2.0, 7.5, position[:, 2:])
        down = np.array([0.0, -0.35, 0.0])
        return _unit(side * np.array([1.0, 0, 0]) + down + np.array([0, 0, -0.45]) * front)
    if style.comb == "tied":
        return _unit(_KNOT - position)
    if style.comb == "back":
        back = np.array([0.0, -0.15, -1.0])
        return _unit(back + side * np.array([0.25, 0, 0]) * smoothstep(9, 12, position[:, 1:2]))
    return normal


def fine_strands(mesh: Mesh, look: Look) -> Strands:
    """Brows, lashes and beard; they follow the skin."""
    rng = np.random.default_rng([look.seed, 2])
    groups = [_brows(rng, mesh, look), *_lashes(rng, mesh, look)]
    if look.beard:
        groups.append(_beard(rng, mesh, look))
    return Strands(*(np.concatenate(arrays) for arrays in zip(*groups, strict=True)))


_FINE_POINTS = 4


def _brows(rng: np.random.Generator, mesh: Mesh, look: Look) -> Strands:
    starts, ways, fractions = [], [], []
    for line, sign in zip(skin.brow_lines(mesh, look), (-1, 1), strict=True):
        count = look.brow_density
        u = 0.90 * rng.random(count) ** 1.1
        at = np.stack([np.interp(u, np.linspace(0, 1, 5), line[:, n]) for n in range(3)], 1)
        thick = look.brow_thickness * smoothstep(-0.3, 0.12, u) * (1.1 - 0.7 * u)
        off = rng.uniform(-1, 1, count)
        at[:, 1] += off * thick
        # From upright near the nose to lying outwards; upper hairs point down, lower ones up.
        up = np.clip(0.95 - 1.5 * u, -0.35, 1) - 0.5 * off
        ways.append(np.stack([sign * (0.25 + 0.9 * u), up, -0.1 - 0.35 * u], 1))
        starts.append(at)
        fractions.append(u)
    start, way = np.concatenate(starts), _unit(np.concatenate(ways))
    fraction = np.concatenate(fractions)
    way = _unit(way + rng.normal(0, 0.16, way.shape))
    length = (
        rng.uniform(0.3, 0.6, len(start)) * (0.8 + look.brow_thickness) * (1.1 - 0.4 * fraction)
    )
    return _rooted(
        rng, mesh, start, way, length, linear(look.brow), 0.026, 0.62, kernels.BROW, curve=-0.15
    )


def _beard(rng: np.random.Generator, mesh: Mesh, look: Look) -> Strands:
    marks = mesh.model.neutral[mesh.model.landmarks]
    neutral = mesh.model.neutral[: mesh.skin_end]
    area = skin.beard_area(neutral, look.beard_kind)
    lips = skin.inside(neutral[:, :2], marks[48:60, :2]) & (neutral[:, 2] > 8)
    start, _ = _scatter(rng, mesh, mesh.model.neutral, np.where(lips, 0, area), 5200)
    side = np.sign(start[:, 0]) * np.minimum(1, np.abs(start[:, 0]) / 2)
    way = np.stack([0.25 * side, np.full(len(start), -0.9), np.full(len(start), 0.35)], 1)
    way = _unit(way + rng.normal(0, 0.28, way.shape))
    length = look.beard * rng.uniform(0.4, 1.1, len(start))
    return _rooted(
        rng, mesh, start, way, length, linear(look.brow) * 1.15, 0.034, 0.7, kernels.BEARD
    )


def _lashes(rng: np.random.Generator, mesh: Mesh, look: Look) -> list[Strands]:
    """Lashes grow from the lids' edges: vertices between the landmarks of each lid."""
    marks = mesh.model.landmarks
    groups = []
    for corners, sign in ((marks[36:42], -1), (marks[42:48], 1)):
        for lid, count in ((corners[[0, 1, 2, 3]], 46), (corners[[3, 4, 5, 0]], 26)):
            upper = count > 30
            line = mesh.model.neutral[lid]
            u = np.sort(rng.uniform(0.03, 0.97, count))
            at = np.stack([np.interp(u, np.linspace(0, 1, 4), line[:, n]) for n in range(3)], 1)
            at[:, 1] += (0.10 if upper else -0.06) * np.sin(np.pi * u)
            middle = line.mean(0)
            outwards = (at[:, 0] - middle[0]) * 0.45 + 0.12 * sign
            up = np.full(count, 0.42 if upper else -0.45)
            way = _unit(np.stack([outwards, up, np.full(count, 0.75)], 1))
            way = _unit(way + rng.normal(0, 0.08, way.shape))
            length = rng.uniform(0.6, 1.0, count) * (0.62 if upper else 0.34)
            length = length * (1.15 + 0.5 * look.eye_make_up if look.feminine else 0.85)
            groups.append(
                _rooted(
                    rng,
                    mesh,
                    at,
                    way,
                    length,
                    linear(look.brow) * 0.35,
                    0.026 + 0.014 * look.eye_make_up,
                    0.75 if upper else 0.45,
                    kernels.LASHES,
                    curve=0.25 if upper else -0.2,
                    snap=True,
                )
            )
    return groups


def _rooted(
    rng: np.random.Generator,
    mesh: Mesh,
    start: Vectors,
    way: Vectors,
    length: Float[np.ndarray, " s"],
    colour: Float[np.ndarray, " 3"],
    width: float,
    opacity: float,
    tag: int,
    *,
    curve: float = 0.0,
    snap: bool = False,
) -> Strands:
    """Short strands from places on the mean head that follow the skin underneath."""
    face = mesh.model.neutral[mesh.model.parts["face"].vertices]
    normals = kernels.vertex_normals(mesh.model.neutral, mesh.skin_triangles)[: len(face)]
    distance, near = cKDTree(face).query(start, k=3)
    weight = 1 / np.maximum(distance, 1e-3)
    weight /= weight.sum(1, keepdims=True)
    normal = _unit((normals[near] * weight[..., None]).sum(1))
    root = (face[near] * weight[..., None]).sum(1)
    offset = start - root
    if not snap:
        offset = offset - normal * (offset * normal).sum(1, keepdims=True)
    along = np.linspace(0, 1, _FINE_POINTS)[None, :, None]
    points = offset[:, None] + along * (length[:, None] * way)[:, None]
    points[..., 1] += curve * (along**2)[..., 0] * length[:, None]
    height = (points * normal[:, None]).sum(-1)
    lowest = 0.02 + 0.05 * along[..., 0]
    points += normal[:, None] * np.maximum(lowest - height, 0)[..., None]
    count = len(start)
    shades = colour * rng.lognormal(0, 0.22, (count, 1))
    taper = np.array([1.0, 1.0, 0.8, 0.35])[None, :]
    strands = _strands(
        points,
        width * rng.uniform(0.8, 1.3, (count, 1)) * taper,
        shades,
        np.full((count, _FINE_POINTS), 0.7),
        np.full(count, opacity),
        0.25,
        tag,
    )
    return strands._replace(
        anchors=np.repeat(near[:, None], _FINE_POINTS, 1).astype(np.int32),
        weights=np.repeat(weight[:, None], _FINE_POINTS, 1).astype(np.float32),
    )


def glasses(mesh: Mesh, look: Look, shape: Float32[np.ndarray, "v 3"]) -> Strands:
    """Rims, bridge and temples, as wires on the bridge of the nose."""
    marks = shape[mesh.model.landmarks]
    half_width, half_height, roundness = look.glasses_shape
    eyes = [marks[36:42].mean(0), marks[42:48].mean(0)]
    apart = max(abs(eyes[1][0] - eyes[0][0]) / 2, half_width + 0.55)
    height = float(np.mean([eye[1] for eye in eyes])) - 0.25
    front = float(max(marks[27][2] + 0.35, marks[[19, 24]][:, 2].max() + 0.6))
    angle = np.linspace(0, 2 * np.pi, 45)
    wires = []

    def curved(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        return front - 0.035 * x**2

    for side in (-1, 1):
        c, s = np.cos(angle), np.sin(angle)
        x = side * apart + half_width * np.sign(c) * np.abs(c) ** (2 / roundness)
        y = height + half_height * np.sign(s) * np.abs(s) ** (2 / roundness)
        wires.append(np.stack([x, y, curved(x)], 1))
        edge = side * (apart + half_width)
        ear = np.array([side * 7.6, height + 0.6, 0.0])
        t = np.linspace(0, 1, 45)[:, None]
        hinge = np.array([edge, height + 0.5 * half_height, curved(np.array([edge]))[0]])
        corner = np.array([side * max(abs(edge) + 0.3, 7.4), hinge[1], hinge[2] - 1.2])
        wires.append((1 - t) ** 2 * hinge + 2 * t * (1 - t) * corner + t**2 * ear)
    x = np.linspace(-1, 1, 45) * (apart - half_width)
    arch = height + 0.45 * half_height + 0.25 * (1 - (x / max(apart - half_width, 0.1)) ** 2)
    wires.append(np.stack([x, arch, curved(x)], 1))
    points = np.stack(wires)
    count = len(points)
    return _strands(
        points,
        np.full((count, 45), 2 * look.glasses),
        np.tile(linear(look.glasses_colour), (count, 1)),
        np.full((count, 45), 0.9),
        np.full(count, 1.0),
        1.5,
        kernels.GLASSES,
    )


def _strands(
    points: Float[np.ndarray, "s k 3"],
    width: Float[np.ndarray, "s k"],
    colour: Float[np.ndarray, "s 3"],
    ambient: Float[np.ndarray, "s k"],
    opacity: Float[np.ndarray, " s"],
    gloss: float,
    tag: int,
) -> Strands:
    single = np.float32
    return Strands(
        points.astype(single),
        width.astype(single),
        colour.astype(single),
        np.clip(ambient, 0.05, 1.2).astype(single),
        opacity.astype(single),
        np.full(len(points), gloss, single),
        np.full(len(points), tag, np.int32),
    )


def _scatter(
    rng: np.random.Generator,
    mesh: Mesh,
    shape: Float32[np.ndarray, "v 3"],
    density: Float[np.ndarray, " v"],
    count: int,
) -> tuple[Vectors, Float[np.ndarray, " s"]]:
    """Random places on the skin, more where it is dense, and the density there."""
    triangles = mesh.skin_triangles
    a, b, c = (shape[triangles[:, n]] for n in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) * density[triangles].mean(1)
    chosen = triangles[rng.choice(len(triangles), count, p=area / area.sum())]
    u = rng.random((count, 2))
    u = np.where(u.sum(1, keepdims=True) > 1, 1 - u, u)
    weights = np.column_stack([1 - u.sum(1), u])
    positions = (shape[chosen] * weights[..., None]).sum(1)
    return positions.astype(np.float64), (density[chosen] * weights).sum(1)


def _unit(v: Vectors) -> Vectors:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)
