"""What a head takes from a photograph: pixels for each vertex, colours where there are none, light.

Colours are those of the photograph, 0 to 255; light is linear (gamma 2.2).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32
from scipy import sparse
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter, map_coordinates
from scipy.sparse.linalg import spsolve
from scipy.spatial import cKDTree

from data.synthetic.heads import figure, kernels
from data.synthetic.heads.figure import EYES, Figure
from data.synthetic.heads.looks import linear
from data.synthetic.heads.mesh import Mesh, bound, bump, line_distance, nearest_surfaces, smoothstep
from data.synthetic.heads.person import IRIS_ANGLE, PUPIL_ANGLE, tints
from data.synthetic.photo.fit import Fit
from data.synthetic.photo.portrait import FINE, Plate

GAMMA = 2.2

PROFILE_BINS, LARGEST_ANGLE = 40, 1.2
"""Of the colour of eyes by the angle from their axis, radians."""

GRID = 73
"""Nodes, in a row and in a column, of the relief around the face."""

_FOLLOW = 0.18
"""Half frames over which what surrounds the face follows its movements."""

_HIDDEN = 0.25
"""Centimetres behind the nearest surface from which on a vertex is not seen."""

_FRONT_TEETH = 9.0
"""Depth on the mean head from which on teeth are those that a photograph shows."""

_SCLERA = np.array([0.60, 0.56, 0.53]) * 0.75
"""Share of the light that the white of an eye reflects, in the shade of its lids."""


class Relief(NamedTuple):
    """What surrounds the face: a grid over the plate, with depth.

    Attributes:
        points: nodes, as points of the head.
        bound: share of the head's turn that they follow.
        uv: where they are in the plate.
        anchor: vertices that they follow in expressions.
        weight: how far.
        triangles: of nodes.
        plate: colour and opacity.
    """

    points: Float32[np.ndarray, "n 3"]
    bound: Float32[np.ndarray, " n"]
    uv: Float32[np.ndarray, "n 2"]
    anchor: Int32[np.ndarray, " n"]
    weight: Float32[np.ndarray, " n"]
    triangles: Int32[np.ndarray, "s 3"]
    plate: Float32[np.ndarray, "p p 4"]


class Texture(NamedTuple):
    """Everything taken from a photograph at one resolution.

    Attributes:
        plate: the photograph.
        photo: its colours, and share of each pixel that is the person and within lips or lids.
        points: the head in the photograph.
        occlusion: its vertices' share of the surroundings that they see.
        brightness: of the skin, by constant and normal.
        lit: brightness of the vertices.
        uv: where they are in the plate.
        seen: share of their colour that is the photograph's.
        lid: how far their skin is stretched by a blink, for each eye, as `figure.EYES`.
        colour: without the photograph.
        share: how far the face covers its surroundings.
        profile: of the eyes, by the angle from their axis.
        inside: light that the inside of mouth and eye sockets reflects, unless it is shaded.
        relief: what surrounds the face.
    """

    plate: Plate
    photo: Float32[np.ndarray, "p p 5"]
    points: Float32[np.ndarray, "v 3"]
    occlusion: Float32[np.ndarray, " v"]
    brightness: Float[np.ndarray, " 4"]
    lit: Float32[np.ndarray, " v"]
    uv: Float32[np.ndarray, "v 2"]
    seen: Float32[np.ndarray, " v"]
    lid: Float32[np.ndarray, "2 v"]
    colour: Float32[np.ndarray, "v 3"]
    share: Float32[np.ndarray, " v"]
    profile: Float32[np.ndarray, "b 3"]
    inside: Float[np.ndarray, "n 3"]
    relief: Relief


def brightness(
    light: Float[np.ndarray, " 4"], normals: Float32[np.ndarray, "v 3"]
) -> Float32[np.ndarray, " v"]:
    """Brightness of skin with some normals, never dark."""
    return np.maximum(light[0] + normals @ light[1:], 0.3 * light[0]).astype(np.float32)


def inner_part(mesh: Mesh) -> slice:
    """Vertices of everything behind the skin."""
    return slice(mesh.skin_end, mesh.model.parts["body"].first_vertex)


def eye_sockets(mesh: Mesh) -> list[slice]:
    """Vertices of the eye sockets, as `figure.EYES`."""
    return [mesh.model.parts[f"eye_socket_{side}"].vertices for side in ("left", "right")]


def face_share(mesh: Mesh) -> Float32[np.ndarray, " v"]:
    """How far the face covers its surroundings: ears, neck and hair are not part of it."""
    _, y, z = mesh.model.neutral.T
    share = smoothstep(1.5, 4.5, z) * smoothstep(-11.0, -8.5, y) * smoothstep(11.5, 9.5, y)
    share[mesh.skin_end :] = 1
    return share.astype(np.float32)


def _lids(mesh: Mesh) -> Float32[np.ndarray, "2 v"]:
    """How far a blink stretches the skin at the vertices, for each eye as `figure.EYES`."""
    moved = [
        np.linalg.norm(mesh.model.expression[mesh.shape(f"eyeBlink_{side}")], axis=1)
        for side in "LR"
    ]
    lids = smoothstep(0.12, 0.4, np.stack(moved))
    lids[:, mesh.model.parts["face"].end_vertex :] = 0
    return lids.astype(np.float32)


def take(head: Figure, fit: Fit, plate: Plate) -> Texture:
    """Takes what a photograph shows of the head that was fitted to it.

    Args:
        head: fitted.
        fit: to the photograph.
        plate: of the photograph.
    """
    mesh, model = head.mesh, head.mesh.model
    points = head.shape.copy()
    kernels.add_shapes(points, model.expression, fit.weights)
    stood = figure.stance(fit.pose)
    placed = figure.place(points, mesh.bound, stood)
    normals, occlusion = head.normals(points, stood), head.occlusion(fit.weights)
    screen = head.screen(placed, FINE * plate.size)
    screen[:, :2] += plate.border
    uv = np.ascontiguousarray(screen[:, :2])
    whole = len(plate.rgb)
    depth, ident, bary = nearest_surfaces(screen, mesh.solid_triangles, mesh.one_sided, whole)
    place = np.clip(uv.astype(int), 0, whole - 1)
    seen = screen[:, 2] < depth[place[:, 1], place[:, 0]] + _HIDDEN
    seen &= ((uv > 1) & (uv < whole - 1)).all(1)
    # What is close behind lids is not seen either.
    nearest = mesh.kind[mesh.triangles[ident[place[:, 1], place[:, 0]], 0]]
    eyes = (seen & (nearest > kernels.HEAD)).astype(np.float32)
    seen = seen.astype(np.float32)
    face = slice(0, model.parts["face"].end_vertex)
    seen[face] *= smoothstep(0.0, 0.2, normals[face, 2])

    soft = gaussian_filter(plate.rgb, (1.5 * plate.size / 256, 1.5 * plate.size / 256, 0))
    sampled = _at(soft, uv)
    lids, share = _lids(mesh), face_share(mesh)
    visible, blinking = seen[face] > 0.7, lids[:, face].max(0) > 0.02
    light = _fit_light(mesh, sampled[face], normals[face], visible & (share[face] > 0.9))
    lit = brightness(light, normals)
    colour = np.zeros((len(points), 3), np.float32)
    filled = _filled(mesh, sampled[face], visible & ~blinking, lit[face])
    # Nostrils are dark.
    dark = np.minimum(1, (occlusion[face] + 0.1) / 0.7) ** (0.8 / GAMMA)
    colour[face] = filled * np.where(visible, 1, dark)[:, None]
    # Brows, lashes and shadows are no colour for lids.
    level = sampled[face].mean(1)
    skin = visible & ~blinking & (level > 0.88 * np.median(level[visible]))
    colour[face][blinking] = _filled(mesh, sampled[face], skin, lit[face])[blinking]
    seen[face] = _smoothed(mesh, seen[face])
    _lash_lines(mesh, soft, uv, colour)

    profile, lamp = _eyes(head, points, plate, uv, ident, bary, light)
    albedo = np.median(linear(sampled[face][visible] / 255), 0) / lamp
    look = replace(head.look, skin=np.clip(albedo, 0, 1) ** (1 / GAMMA))
    inside = (tints(mesh, look) * lamp)[inner_part(mesh)]
    seen[mesh.skin_end :] = 0
    teeth = model.parts["teeth"].vertices
    seen[teeth] = mesh.upper_teeth & (model.neutral[teeth, 2] > _FRONT_TEETH)
    for part in (*map(mesh.eyeball, EYES), *eye_sockets(mesh)):
        seen[part] = eyes[part]
    photo = np.concatenate([plate.rgb, plate.matte[..., None], plate.openings[..., None]], -1)
    relief = _relief(head, plate, depth, ident, bary, points, placed, uv, share, fit)
    return Texture(
        plate,
        photo,
        points,
        occlusion,
        light,
        lit,
        uv,
        seen,
        lids,
        colour,
        share,
        profile,
        inside,
        relief,
    )


def _at(
    image: Float32[np.ndarray, "p p c"], uv: Float32[np.ndarray, "n 2"]
) -> Float32[np.ndarray, "n c"]:
    where = (uv[:, ::-1] - 0.5).T
    channels = np.moveaxis(image, -1, 0)
    return np.stack([map_coordinates(c, where, order=1, mode="nearest") for c in channels], -1)


def _fit_light(
    mesh: Mesh,
    colours: Float32[np.ndarray, "n 3"],
    normals: Float32[np.ndarray, "n 3"],
    known: Bool[np.ndarray, " n"],
) -> Float[np.ndarray, " 4"]:
    """How the brightness of skin depends on its normal: a constant and a direction."""
    x, y, _ = mesh.model.neutral[: len(colours)].T
    lips = (np.abs(x) < 3) & (y < -2) & (y > -5.2)
    brows = (np.abs(x) > 0.8) & (y > 2.4) & (y < 7)
    skin = known & ~lips & ~brows & (y < 8)
    if not skin.any():
        return np.array([0.3, 0, 0, 0])
    level = linear(colours[skin] / 255).mean(1)
    columns = np.column_stack([np.ones(len(level)), normals[skin]])
    keep = np.ones(len(level), bool)
    found = np.zeros(4)
    for _ in range(3):
        a, b = columns[keep], level[keep]
        # Pulled towards even light, as a face shows normals of one side only.
        pull = np.diag([0, 0.05, 0.05, 0.05]) * len(b)
        found = np.linalg.solve(a.T @ a + pull, a.T @ b)
        off = np.abs(level - columns @ found)
        keep = off < 2.5 * np.median(off) + 1e-6
    return found if found[0] > 0 else np.array([max(float(level.mean()), 1e-3), 0, 0, 0])


def _edges(mesh: Mesh, count: int) -> sparse.csr_array:
    """Which of the first vertices are neighbours in the face."""
    triangles = mesh.model.triangles[mesh.model.parts["face"].triangles]
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    ones = np.ones(len(pairs), np.float32)
    edges = sparse.csr_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    edges.data[:] = 1
    return edges


def _filled(
    mesh: Mesh,
    colours: Float32[np.ndarray, "n 3"],
    known: Bool[np.ndarray, " n"],
    lit: Float32[np.ndarray, " n"],
) -> Float32[np.ndarray, "n 3"]:
    """Colours of all vertices of the face: of the other side of it, or spread from around."""
    points = mesh.model.neutral[: len(colours)]
    _, other = cKDTree(points).query(points * [-1, 1, 1])
    lids = _lids(mesh)[:, : len(colours)].max(0) > 0.02
    mirrored = ~known & known[other] & ~lids
    ratio = (lit / lit[other]) ** (1 / GAMMA)
    colours = np.where(mirrored[:, None], colours[other] * ratio[:, None], colours)
    known = known | mirrored
    edges = _edges(mesh, len(colours))
    laplacian = sparse.diags_array(edges.sum(1) + 1e-4) - edges
    rest = np.flatnonzero(~known)
    held = np.flatnonzero(known)
    inner = laplacian.tocsr()[rest]
    mean = colours[held].mean(0)
    right = -inner[:, held] @ (colours[held] - mean)
    result = colours.copy()
    result[rest] = mean + spsolve(inner[:, rest].tocsc(), right)
    return result


def _smoothed(mesh: Mesh, values: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """Less of what neighbours do not have, so that edges fade inwards."""
    edges = _edges(mesh, len(values))
    mean = edges @ values / np.maximum(edges.sum(1), 1)
    return np.minimum(values, mean * 1.15).clip(0, 1).astype(np.float32)


def _lash_lines(
    mesh: Mesh,
    soft: Float32[np.ndarray, "p p 3"],
    uv: Float32[np.ndarray, "v 2"],
    colour: Float32[np.ndarray, "v 3"],
) -> None:
    """Lashes on the edge of the upper lids, dark as the photograph is there."""
    marks = mesh.model.landmarks
    points = mesh.model.neutral[:, :2]
    for corners in (marks[36:40], marks[42:46]):
        line = mesh.model.neutral[corners][:, :2]
        away = line_distance(points, line)
        near = np.flatnonzero(away[: mesh.model.parts["face"].end_vertex] < 0.3)
        if not len(near):
            continue
        dark = np.percentile(_at(soft, uv[near]), 10, axis=0)
        amount = 0.75 * bump(away[near], 0.13)[:, None]
        colour[near] += amount * (np.minimum(dark, colour[near]) - colour[near])


def _eyes(
    head: Figure,
    points: Float32[np.ndarray, "v 3"],
    plate: Plate,
    uv: Float32[np.ndarray, "v 2"],
    ident: Int32[np.ndarray, "p p"],
    bary: Float32[np.ndarray, "p p 2"],
    light: Float[np.ndarray, " 4"],
) -> tuple[Float32[np.ndarray, "b 3"], Float[np.ndarray, " 3"]]:
    """Colour of the eyes by the angle from their axis, and the light that falls on the face."""
    mesh = head.mesh
    kind = mesh.kind[mesh.triangles[:, 0]]
    angles, colours = [], []
    for n, eye in enumerate(EYES):
        rows, columns = np.nonzero((ident >= 0) & (kind[ident] == eye))
        corners = mesh.solid_triangles[ident[rows, columns]]
        u, v = bary[rows, columns].T
        way = (points[corners] - head.eye_centres[n]) * np.stack([u, v, 1 - u - v], 1)[..., None]
        way = way.sum(1)
        along = way @ head.eye_axes[n] / np.linalg.norm(way, axis=1)
        angles.append(np.arccos(np.clip(along, -1, 1)))
        colours.append(plate.rgb[rows, columns])
    angle, rgb = np.concatenate(angles), np.concatenate(colours)
    edges = np.linspace(0, LARGEST_ANGLE, PROFILE_BINS + 1)
    middle = (edges[:-1] + edges[1:]) / 2
    skin = light[0] + light[3]
    plain = linear(np.array([0.80, 0.77, 0.75])) * min(1.0, max(0.2, 2.2 * skin))
    profile = np.where(
        middle[:, None] < PUPIL_ANGLE,
        0.004,
        np.where(middle[:, None] < IRIS_ANGLE, 0.06 * np.array([1, 0.7, 0.5]), plain),
    )
    profile = 255 * profile ** (1 / GAMMA)
    found = []
    for n in range(PROFILE_BINS):
        inside_bin = (angle >= edges[n]) & (angle < edges[n + 1])
        if inside_bin.sum() >= 6:
            # The brighter half of the white: lids and lashes shade the rest.
            share = 65 if middle[n] > IRIS_ANGLE else 50
            profile[n] = np.percentile(rgb[inside_bin], share, axis=0)
            found.append(n)
    if found:
        profile[: found[0]] = profile[found[0]]
        profile[found[-1] :] = profile[found[-1]]
    profile = gaussian_filter(profile, (0.6, 0), mode="nearest")
    white = linear(profile[(middle > 1.25 * IRIS_ANGLE) & (middle < 0.9)].mean(0) / 255)
    lamp = white / _SCLERA
    level = np.clip(lamp.mean(), skin / 0.6, skin / 0.12)
    return profile.astype(np.float32), lamp * level / max(lamp.mean(), 1e-6)


def _relief(
    head: Figure,
    plate: Plate,
    depth: Float32[np.ndarray, "p p"],
    ident: Int32[np.ndarray, "p p"],
    bary: Float32[np.ndarray, "p p 2"],
    points: Float32[np.ndarray, "v 3"],
    placed: Float32[np.ndarray, "v 3"],
    uv: Float32[np.ndarray, "v 2"],
    share: Float32[np.ndarray, " v"],
    fit: Fit,
) -> Relief:
    """Hair, ears, neck and clothes as a relief that goes on from the face."""
    mesh, size, whole = head.mesh, plate.size, len(plate.rgb)
    stood, distance = figure.stance(fit.pose), head.look.scene.distance
    u, v = np.moveaxis(bary, -1, 0)
    weights = np.stack([u, v, 1 - u - v], -1)
    covered = (share[mesh.solid_triangles[np.maximum(ident, 0)]] * weights).sum(-1) * (ident >= 0)
    # Behind the face there is hair and neck, not a second face.
    hole = binary_erosion(covered > 0.9, iterations=max(2, size // 64))
    outside = (plate.matte > 0.95) & (covered < 0.6)
    rgb, matte = plate.rgb, plate.matte
    if outside.any():
        nearest = distance_transform_edt(~outside, return_distances=False, return_indices=True)
        blur = size / 80
        behind = gaussian_filter(rgb[nearest[0], nearest[1]], (blur, blur, 0))
        edge = gaussian_filter(hole.astype(np.float32), size / 256)
        rgb = rgb + edge[..., None] * (behind - rgb)
        matte = np.maximum(matte, edge)

    # Beyond the head model depth goes on, no nearer than the ears.
    ears = distance + figure.FACE_DEPTH - placed[mesh.model.landmarks[[0, 16]], 2].mean()
    away = np.where(ident >= 0, depth, 0)
    nearest = distance_transform_edt(ident < 0, return_distances=False, return_indices=True)
    beyond = np.maximum(depth[nearest[0], nearest[1]], ears)
    away = gaussian_filter(np.where(ident >= 0, depth, beyond), size / 26)

    uv_nodes = np.stack(np.meshgrid(*[np.linspace(0, whole, GRID)] * 2), -1).reshape(-1, 2)
    away = _at(away[..., None], uv_nodes.astype(np.float32))[:, 0]
    scale = distance / away / figure.HALF_FRAME
    xy = (uv_nodes - plate.border) / size / (FINE / 2) - 1
    world = np.column_stack([xy * [1, -1] / scale[:, None], distance + figure.FACE_DEPTH - away])
    local = (world - stood.neck) / stood.zoom
    free = local @ stood.turn + figure.PIVOT
    share_of_turn = bound(free)[:, None, None]
    mixed = share_of_turn * stood.turn + (1 - share_of_turn) * stood.body
    nodes = np.linalg.solve(mixed, local[..., None])[..., 0] + figure.PIVOT

    x, y = np.clip(uv.astype(int), 0, whole - 1).T
    face = np.arange(len(uv)) < mesh.model.parts["face"].end_vertex
    near = placed[:, 2] > distance + figure.FACE_DEPTH - depth[y, x] - _HIDDEN
    border = np.flatnonzero(face & (share > 0.02) & near)
    off, which = cKDTree(uv[border]).query(uv_nodes)
    weight = bump(off / (FINE / 2) / size, _FOLLOW)
    n = np.arange(GRID * GRID).reshape(GRID, GRID)
    a, b, c, d = (q.ravel() for q in (n[:-1, :-1], n[:-1, 1:], n[1:, :-1], n[1:, 1:]))
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])
    return Relief(
        nodes.astype(np.float32),
        share_of_turn.ravel().astype(np.float32),
        uv_nodes.astype(np.float32),
        border[which].astype(np.int32),
        weight.astype(np.float32),
        triangles.astype(np.int32),
        np.concatenate([rgb, matte[..., None]], -1).astype(np.float32),
    )
