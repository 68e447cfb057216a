"""A person's textures: colour, gloss, labels, pores and creases of face, head and neck."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int32

from data.synthetic.heads import kernels
from data.synthetic.heads.looks import Look, linear
from data.synthetic.heads.mesh import Mesh, Tile, bump, inside, line_distance, smoothstep

Plane = Float32[np.ndarray, "n n"]


class Textures(NamedTuple):
    """What `kernels.shade` reads; the first axis is face, then head and neck."""

    albedo: Float32[np.ndarray, "2 n n 4"]
    mask: Int32[np.ndarray, "2 n n"]
    bump: Float32[np.ndarray, "2 n n 3"]
    crease: Float32[np.ndarray, "2 n n 3"]


def scalp(points: Float[np.ndarray, "*b 3"], recede: float = 0.0) -> Float[np.ndarray, "*b"]:
    """Where hair grows on the mean head, 0 to 1.

    Args:
        points: on the mean head.
        recede: how far the hairline has moved back at the temples, centimetres.
    """
    x, y, z = np.moveaxis(points, -1, 0)
    around = np.degrees(np.arctan2(np.abs(x), z - 1.5))
    line = np.interp(
        around,
        [0, 12, 28, 42, 54, 62, 68, 75, 84, 92, 105, 118, 140, 180],
        [10.8, 10.7, 10.6, 9.8, 8.3, 6.2, 3.8, 2.0, 1.2, 4.9, 5.0, 0.5, -2.5, -3.5],
    )
    line = line + recede * bump(around - 32, 18.0) + 0.3 * recede * bump(around, 30.0)
    return smoothstep(-0.5, 0.6, y - line)


def beard_area(points: Float[np.ndarray, "*b 3"], kind: str = "full") -> Float[np.ndarray, "*b"]:
    """Where a beard grows on the mean head, 0 to 1; lips are not left out."""
    x, y, z = np.moveaxis(points, -1, 0)
    side = np.abs(x)
    top = np.interp(
        side,
        [0, 1.2, 2.4, 3.4, 4.6, 6.2, 7.2, 8.5],
        [-1.55, -1.55, -1.75, -2.5, -2.5, -1.0, 1.2, 2.2],
    )
    area = smoothstep(0.4, -0.6, y - top) * smoothstep(-11.2, -8.6, y) * smoothstep(1.5, 4, z)
    area = area * (1 - 0.75 * bump(np.hypot((side - 1.5) / 0.8, (y + 5.0) / 0.5), 1.0))
    if kind == "goatee":
        area = area * smoothstep(3.9, 3.0, side)
    elif kind == "moustache":
        area = area * smoothstep(3.4, 2.8, side) * smoothstep(-4.4, -3.8, y)
    return area


def _value(points: Float32[np.ndarray, "n n 3"], frequency: float, seed: int) -> Plane:
    flat = kernels.noise(points.reshape(-1, 3), frequency, seed)
    return flat.reshape(points.shape[:2])


def paint(mesh: Mesh, look: Look) -> Textures:
    """Paints a person's textures."""
    parts = [_paint_tile(mesh, look, tile, n) for n, tile in enumerate(mesh.tiles)]
    return Textures(*(np.stack(arrays) for arrays in zip(*parts, strict=True)))


def _paint_tile(mesh: Mesh, look: Look, tile: Tile, number: int) -> Textures:
    p = tile.position
    x, y, z = np.moveaxis(p, -1, 0)
    side, xy = np.abs(x), p[..., :2]
    marks = mesh.model.neutral[mesh.model.landmarks]
    seed = look.seed % 100003
    # Noise from the size of cheeks to that of pores.
    n1, n2, n3, n4, n5 = (_value(p, f, seed + n) for n, f in enumerate((0.3, 0.9, 2.3, 5.2, 9.0)))
    front = smoothstep(7.5, 9.0, z)

    skin = linear(look.skin)
    absorbed = np.zeros((*p.shape[:2], 3), np.float32)

    def stain(amount: Plane, rgb: tuple[float, ...]) -> None:
        """Multiplies the skin by a colour where `amount` is 1."""
        for n, share in enumerate(rgb):
            absorbed[..., n] += amount * np.float32(np.log(share))

    # Melanin and blood are mottled at every scale.
    stain(0.5 * (n1 + n2 + n3 + n4) + 0.45 * n5, (0.945, 0.92, 0.90))
    red = bump(np.hypot((side - 4.4) / 2.4, (y + 0.2) / 2.0), 1.0)
    red = np.maximum(red, bump(np.hypot(side / 1.4, (y - 0.2) / 1.3), 1.0) * smoothstep(10, 12, z))
    red = np.maximum(red, 0.9 * smoothstep(7.6, 8.6, side) * smoothstep(6.5, 5.5, y))
    red = np.maximum(red, 0.5 * bump(np.hypot(side / 1.7, (y + 6.6) / 1.1), 1.0) * front)
    fair = float(np.clip(1.15 - look.tone / 5, 0.25, 1))
    stain(look.blush * fair * red * (0.8 + 0.4 * n2) + 0.15 * n2 + 0.12 * n3, (1.01, 0.81, 0.80))
    yellow = bump(np.hypot(side / 5, (y - 7.5) / 2.5), 1.0)
    stain(0.5 * yellow, (1.0, 0.98, 0.92))
    spots = smoothstep(0.50, 0.62, _value(p, 3.1, seed + 11) * 0.6 + 0.5 * n4 + 0.3 * n5)
    stain(1.6 * look.freckles * spots * np.clip(0.2 + red, 0, 1), (0.72, 0.58, 0.46))
    spots = smoothstep(0.52, 0.66, _value(p, 1.3, seed + 12) * 0.8 + 0.25 * n4)
    stain(look.blemishes * 1.3 * spots, (0.94, 0.76, 0.72))
    moles = smoothstep(0.86, 0.92, _value(p, 2.6, seed + 13)) * smoothstep(-0.2, 0.3, n1)
    stain(0.9 * moles, (0.5, 0.38, 0.32))
    age_spots = smoothstep(0.42, 0.6, _value(p, 1.0, seed + 14) + 0.3 * n3)
    stain(0.8 * look.age * age_spots, (0.86, 0.78, 0.70))

    eyes = []
    for corners, sign in ((marks[36:42], -1), (marks[42:48], 1)):
        middle = corners.mean(0)
        outline = np.concatenate([corners, corners[:1]])[:, :2]
        away = line_distance(xy, outline)
        upper = line_distance(xy, corners[:4, :2])
        socket = bump(np.hypot((x - middle[0]) / 2.2, (y - middle[1] - 0.2) / 1.4), 1.0)
        under = bump(np.hypot((x - middle[0] + 0.3 * sign) / 1.6, (y - middle[1] + 1.2) / 0.55), 1)
        lid = bump(np.hypot((x - middle[0]) / 1.7, (y - middle[1] - 0.55) / 0.65), 1.0)
        inner = bump(np.hypot(x - corners[3 if sign < 0 else 0][0], y - middle[1]), 0.3)
        eyes.append((away, upper, socket, under, lid, inner))
    away, upper, socket, under, lid, inner = (np.stack(part) for part in zip(*eyes, strict=True))
    face = smoothstep(5.5, 7.5, z)
    stain((0.35 * socket.max(0) + 0.5 * under.max(0) * (0.4 + look.age)) * face, (0.80, 0.72, 0.73))
    stain(0.7 * inner.max(0) * face, (1.0, 0.72, 0.70))
    rim = bump(away.min(0), 0.10) * face
    stain(0.6 * rim, (0.75, 0.52, 0.48))
    make_up = look.eye_make_up
    lash_line = bump(upper.min(0), 0.11) * face
    stain((0.35 + 1.3 * make_up) * lash_line, (0.42, 0.36, 0.36))
    stain(0.9 * make_up * lid.max(0) * face, (0.66, 0.55, 0.56))
    nostril = bump(np.hypot((side - 0.75) / 0.42, (y + 0.78) / 0.28), 1.0) * smoothstep(10.4, 11, z)
    stain(nostril, (0.22, 0.14, 0.12))
    navel = bump(line_distance(np.stack([side, y], -1), np.array([[1.5, 0.7], [1.85, -0.3]])), 0.2)
    stain(0.5 * navel * front, (0.85, 0.68, 0.66))

    # Lips: their outline follows the landmarks, softly and unevenly.
    outer = marks[48:60, :2]
    edge = line_distance(xy, np.concatenate([outer, outer[:1]]))
    signed = np.where(inside(xy, outer), edge, -edge) + 0.05 * n4
    lips = smoothstep(-0.10, 0.10, signed) * smoothstep(8.3, 9.4, z)

    # Hair under the skin: brows and the shadow of a beard.
    brow = np.zeros_like(x)
    for line in brow_lines(mesh, look):
        away = line_distance(xy, line[:-1, :2])
        brow = np.maximum(brow, bump(away, look.brow_thickness * 1.1))
    shade = np.clip(0.3 + linear(look.brow) / skin, 0.15, 1)
    stain(0.7 * brow * face * (0.7 + 0.3 * n4), tuple(shade))
    jaw = beard_area(p) * (1 - lips) * (0.75 + 0.35 * n3 + 0.4 * n5)
    stain(np.clip(jaw * look.stubble, 0, 1), (0.66, 0.68, 0.72))
    hem = neckline(look, p)
    low = y < -6
    stain(0.6 * bump(hem, 0.45) * low, (0.62, 0.5, 0.48))

    colour = skin.astype(np.float32) * np.exp(absorbed)

    def cover(amount: Plane, rgb: Float[np.ndarray, "*n 3"]) -> None:
        """Lays a colour over the skin."""
        nonlocal colour
        colour += amount[..., None] * (rgb.astype(np.float32) - colour)

    pale = np.array([0.86, 0.60, 0.60]) if look.tone < 4 else np.array([0.9, 0.74, 0.74])
    dye = linear(look.lip_colour) * (0.5 + 0.5 * skin[0] / 0.7)
    lip = skin * pale * (1 - look.lipstick) + dye * look.lipstick
    streaks = _value(p * np.array([3.0, 0.5, 0.5], np.float32), 2.0, seed + 15)
    cover(0.9 * lips, lip * (1 + 0.10 * streaks + 0.08 * n4)[..., None])
    if look.beard:
        dense = beard_area(p, look.beard_kind) * (1 - lips) * (0.8 + 0.5 * n4)
        cover(np.clip(dense * min(1.0, 0.35 + look.beard), 0, 0.7), linear(look.brow) * 1.2)
    grown = scalp(p, recede(look))
    dense = {"bald": 0.10, "buzz": 0.62}.get(look.style, 0.80)
    roots = np.clip(grown**1.5 * (0.95 + 0.35 * n5 + 0.2 * n4), 0, 1) * dense
    cover(roots, 0.5 * linear(look.hair) + 0.04 * skin)

    dark = float(np.clip(look.tone / 6, 0, 1))
    gloss = 0.36 + 0.12 * n2 + 0.10 * n4 - 0.20 * dark - 0.2 * grown - 0.15 * look.age
    gloss = gloss + 0.16 * bump(side, 2.6) * smoothstep(8.5, 11, z) + 0.15 * nostril
    gloss = gloss + (0.1 + 0.35 * look.lipstick) * lips

    dressed = (hem < 0) & low
    shirt, jacket = linear(look.clothes[0]), linear(look.clothes[1])
    lapel = side - (1.0 + 0.5 * (y + 15.5))
    worn = np.where((look.jacket & ((lapel > 0) | (z < 2)))[..., None], jacket, shirt)
    weave = (1 + 0.06 * n4 + 0.10 * n5 + 0.12 * n2) * (1 - 0.35 * bump(hem, 0.18))
    cover(dressed.astype(np.float32), worn * weave[..., None])
    mask = np.where(lips > 0.5, kernels.LIPS, kernels.SKIN)
    mask = np.where(dressed, kernels.CLOTHES, mask)
    gloss = np.where(dressed, 0.1, gloss)

    # A millimetre of colour is nothing; tenths of one of relief make skin.
    pores = (0.55 * n4 + 0.8 * n5 * (1 + red) + 0.7 * _value(p, 15.0, seed + 16)) * 0.0085
    ridges = 0.008 * streaks * lips
    relief = pores * (1 - lips) * (0.7 + 0.5 * look.age) + ridges + 0.01 * jaw * look.stubble * n5
    relief = np.where(dressed, 0.05 * n2 + 0.02 * n4, relief)
    lines = _creases(mesh, p, n2, n3) * (1 - dressed)
    return Textures(
        np.concatenate([np.clip(colour, 0.002, 1), np.clip(gloss, 0, 0.9)[..., None]], -1).astype(
            np.float32
        ),
        mask.astype(np.int32),
        tile.slopes(relief),
        tile.slopes(lines),
    )


def recede(look: Look) -> float:
    """How far a person's hairline has moved back."""
    return 3.2 if look.style in ("receding", "bald") else 1.3 * look.age * (not look.feminine)


def neckline(look: Look, points: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b"]:
    """Height of points above the edge of the clothes, negative below it."""
    x, y, z = np.moveaxis(points, -1, 0)
    height, depth = look.neckline
    edge = height + 0.1 * (6 - z) - depth * np.maximum(2.2 - np.abs(x), 0) - 0.006 * x * x
    return y - edge


def brow_lines(mesh: Mesh, look: Look) -> list[Float[np.ndarray, "k 3"]]:
    """The middle lines of both brows on the mean head, from the nose outwards."""
    marks = mesh.model.neutral[mesh.model.landmarks]
    along = np.linspace(0, 1, 5)
    rise = (
        look.brow_height + look.brow_arch * np.sin(np.pi * along) + look.brow_tilt * (along - 0.4)
    )
    lines = []
    for line in (marks[17:22][::-1], marks[22:27]):
        moved = line.astype(np.float64)
        moved[:, 1] += rise
        lines.append(moved)
    return lines


def brow_vertices(mesh: Mesh, look: Look) -> Int32[np.ndarray, " 10"]:
    """Vertices of the face where the brow landmarks are, from picture left to right."""
    face = mesh.model.neutral[mesh.model.parts["face"].vertices]
    left, right = brow_lines(mesh, look)
    points = np.concatenate([left[::-1], right])
    points[:, 1] += 0.4 * look.brow_thickness
    away = np.linalg.norm(face - points[:, None], axis=-1)
    return away.argmin(1).astype(np.int32)


def _creases(mesh: Mesh, p: Float32[np.ndarray, "n n 3"], n2: Plane, n3: Plane) -> Plane:
    """Depth of the lines that expressions and age show, centimetres."""
    x, y, z = np.moveaxis(p, -1, 0)
    # Lines waver: bend the plane a little before drawing straight ones.
    side, y = np.abs(x) + 0.12 * n3, y + 0.16 * n2
    plane = np.stack([side, y], -1)
    depth = np.zeros_like(x)

    def line(points: list[tuple[float, float]], width: float, strength: float) -> None:
        nonlocal depth
        depth = np.maximum(depth, strength * bump(line_distance(plane, np.array(points)), width))

    line([(1.75, 0.1), (2.3, -0.9), (2.9, -2.0), (3.35, -3.2), (3.4, -3.9)], 0.20, 0.06)
    line([(2.0, 2.6), (2.9, 2.05), (3.9, 2.15), (4.6, 2.6)], 0.16, 0.035)
    for tilt in (-0.5, 0.0, 0.45):
        line([(5.1, 3.4 + 1.2 * tilt), (6.5, 3.5 + 2.2 * tilt)], 0.10, 0.03)
    line([(0.5, 5.3), (0.7, 6.3)], 0.13, 0.04)
    line([(3.1, -4.6), (3.0, -5.6)], 0.16, 0.025)
    for height in (7.3, 8.2, 9.1):
        wave = height + 0.2 * np.cos(side * 0.9 + height) + 0.15 * n2
        forehead = bump(y - wave, 0.14) * smoothstep(5.0, 3.0, side) * smoothstep(6.3, 7, y)
        depth = np.maximum(depth, 0.03 * forehead)
    return -depth * smoothstep(4, 7, z)


def wrinkles(
    mesh: Mesh, look: Look, weights: Float[np.ndarray, " expressions"]
) -> Float32[np.ndarray, " v"]:
    """How strongly creases show at the model's vertices in an expression."""
    x, y, _ = np.moveaxis(mesh.model.neutral, -1, 0)
    side = np.abs(x)

    def weight(name: str) -> float:
        names = [name] if name in mesh.model.expression_names else [f"{name}_L", f"{name}_R"]
        return float(np.mean([weights[mesh.shape(n)] for n in names]))

    old = 0.08 + 0.75 * look.age**1.4
    forehead = 0.9 * old + 0.9 * (0.6 * weight("browInnerUp") + 0.4 * weight("browOuterUp"))
    frown = 0.5 * old + 1.0 * weight("browDown")
    crow = 0.8 * old + 0.5 * weight("cheekSquint") + 0.4 * weight("eyeSquint")
    cheek = (
        0.8 * old + weight("mouthSmile") + 0.8 * weight("noseSneer") + 0.3 * weight("mouthUpperUp")
    )
    upper = smoothstep(5.8, 7.0, y)
    middle = (1 - upper) * smoothstep(1.6, 0.9, side) * smoothstep(4.0, 5.0, y)
    lower = (1 - upper) * (1 - middle)
    eye_region = smoothstep(1.0, 1.8, y)
    return (
        upper * forehead + middle * frown + lower * (eye_region * crow + (1 - eye_region) * cheek)
    ).astype(np.float32)
