"""Compiled loops of the renderer: rasterization, normals, occlusion, shading and strands.

Screen positions are (x, y) in pixels, y down, with a third number that grows with the distance
from the viewer. A pixel is covered where its centre lies in a triangle. All loops are serial, so
that the same input gives the same bytes.
"""

from __future__ import annotations

from math import acos, floor, sqrt

import numpy as np
from numba import njit

FAR = np.float32(1e9)
"""Depth where nothing was rasterized."""

FACE, HEAD, SOCKET, GUMS, TEETH, EYE_LEFT, EYE_RIGHT, BODY = range(8)
"""Kinds of surface; the first two have textures."""

BACKGROUND, SKIN, LIPS, CLOTHES, MOUTH, TOOTH, EYEBALL, HAIR, BROW, BEARD, LASHES, GLASSES = range(
    12
)
"""Labels of pixels."""


@njit(cache=True)
def add_shapes(out, shapes, weights):  # type: ignore[no-untyped-def]
    """Out += sum of weights[k] * shapes[k]."""
    for k in range(len(weights)):
        w = weights[k]
        if w != 0:
            shape = shapes[k]
            for i in range(out.shape[0]):
                for j in range(3):
                    out[i, j] += w * shape[i, j]


@njit(cache=True)
def vertex_normals(points, triangles):  # type: ignore[no-untyped-def]
    """Unit normals of vertices, (v, 3); triangles count by their area."""
    normals = np.zeros_like(points)
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = (
            points[b, 0] - points[a, 0],
            points[b, 1] - points[a, 1],
            points[b, 2] - points[a, 2],
        )
        vx, vy, vz = (
            points[c, 0] - points[a, 0],
            points[c, 1] - points[a, 1],
            points[c, 2] - points[a, 2],
        )
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            normals[i, 0] += x
            normals[i, 1] += y
            normals[i, 2] += z
    for i in range(len(normals)):
        x, y, z = normals[i, 0], normals[i, 1], normals[i, 2]
        scale = 1 / max(sqrt(x * x + y * y + z * z), 1e-12)
        for j in range(3):
            normals[i, j] *= scale
    return normals


@njit(cache=True)
def rasterize(screen, triangles, one_sided, depth, ident=None, bary=None):  # type: ignore[no-untyped-def]
    """Z-buffer: writes depth, triangle number and two barycentric weights of nearest surfaces.

    Without the last two arguments, as for shadows, a program for depth alone is compiled.

    Args:
        screen: (v, 3) positions.
        triangles: (t, 3) vertex indices.
        one_sided: how many of the triangles, from the first, are not seen from behind.
        depth: (h, w), `FAR` where empty.
        ident: (h, w), -1 where empty.
        bary: (h, w, 2).
    """
    height, width = depth.shape
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, az = screen[a, 0], screen[a, 1], screen[a, 2]
        bx, by, bz = screen[b, 0], screen[b, 1], screen[b, 2]
        cx, cy, cz = screen[c, 0], screen[c, 1], screen[c, 2]
        x0 = max(0, int(np.ceil(min(ax, bx, cx) - 0.5)))
        x1 = min(width - 1, floor(max(ax, bx, cx) - 0.5))
        y0 = max(0, int(np.ceil(min(ay, by, cy) - 0.5)))
        y1 = min(height - 1, floor(max(ay, by, cy) - 0.5))
        if x1 < x0 or y1 < y0:
            continue
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if abs(area) < 1e-9 or (area > 0 and t < one_sided):
            continue
        inverse = 1 / area
        for y in range(y0, y1 + 1):
            py = y + 0.5
            for x in range(x0, x1 + 1):
                px = x + 0.5
                u = ((bx - px) * (cy - py) - (cx - px) * (by - py)) * inverse
                v = ((cx - px) * (ay - py) - (ax - px) * (cy - py)) * inverse
                w = 1 - u - v
                if u >= 0 and v >= 0 and w >= 0:
                    z = u * az + v * bz + w * cz
                    if z < depth[y, x]:
                        depth[y, x] = z
                        if ident is not None:
                            ident[y, x] = t
                            bary[y, x, 0] = u
                            bary[y, x, 1] = v


@njit(cache=True)
def splat_depth(placed, axes, reach, depth, stride):  # type: ignore[no-untyped-def]
    """Adds every `stride`-th strand of (s, k, 3), in the world, to a shadow map.

    Args:
        placed: points of the strands.
        axes: rows that give x, y and depth seen from the lamp.
        reach: half the width of the map in the world.
        depth: of the map.
        stride: between strands.
    """
    size = len(depth)
    for s in range(0, placed.shape[0], stride):
        for k in range(placed.shape[1]):
            a, b, c = placed[s, k, 0], placed[s, k, 1], placed[s, k, 2]
            x = int(((axes[0, 0] * a + axes[0, 1] * b + axes[0, 2] * c) / reach + 1) * size / 2)
            y = int(((axes[1, 0] * a + axes[1, 1] * b + axes[1, 2] * c) / reach + 1) * size / 2)
            z = axes[2, 0] * a + axes[2, 1] * b + axes[2, 2] * c
            for j in range(max(y - 1, 0), min(y + 1, size)):
                for i in range(max(x - 1, 0), min(x + 1, size)):
                    depth[j, i] = min(depth[j, i], z)


@njit(cache=True)
def nearest_points(screen, depth):  # type: ignore[no-untyped-def]
    """Which of the points (n, 3) is the nearest in each pixel; -1 where the surface is nearer.

    Args:
        screen: pixels and distance from the camera.
        depth: (h, w) of the surfaces; overwritten by that of the points.
    """
    height, width = depth.shape
    nearest = np.full((height, width), -1, np.int32)
    for n in range(len(screen)):
        x, y, z = floor(screen[n, 0]), floor(screen[n, 1]), screen[n, 2]
        if 0 <= x < width and 0 <= y < height and z < depth[y, x]:
            depth[y, x] = z
            nearest[y, x] = n
    return nearest


@njit(cache=True)
def lit(points, depth, taps, radius, bias):  # type: ignore[no-untyped-def]
    """Share of the light that reaches points (n, 3) given in a shadow map's pixels, (n,)."""
    height, width = depth.shape
    result = np.ones(len(points), np.float32)
    for n in range(len(points)):
        seen = 0
        for j in range(-taps, taps + 1):
            for i in range(-taps, taps + 1):
                x, y = int(points[n, 0] + i * radius), int(points[n, 1] + j * radius)
                inside = 0 <= x < width and 0 <= y < height
                if not inside or points[n, 2] < depth[y, x] + bias:
                    seen += 1
        result[n] = seen / (2 * taps + 1) ** 2
    return result


@njit(cache=True)
def noise(points, frequency, seed):  # type: ignore[no-untyped-def]
    """Smooth noise in [-1, 1] at points (n, 3): trilinear interpolation of a hashed lattice."""
    result = np.empty(len(points), np.float32)
    for n in range(len(points)):
        x, y, z = points[n, 0] * frequency, points[n, 1] * frequency, points[n, 2] * frequency
        i, j, k = floor(x), floor(y), floor(z)
        fx, fy, fz = x - i, y - j, z - k
        fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
        total = 0.0
        for corner in range(8):
            a, b, c = corner & 1, (corner >> 1) & 1, corner >> 2
            h = (i + a) * 374761393 + (j + b) * 668265263 + (k + c) * 2147483647 + seed * 144665
            h = (h ^ ((h >> 13) & 0x7FFFF)) * 1274126177
            h = (h ^ ((h >> 16) & 0xFFFF)) & 0xFFFFFF
            weight = (fx if a else 1 - fx) * (fy if b else 1 - fy) * (fz if c else 1 - fz)
            total += weight * h
        result[n] = total / 0x7FFFFF - 1
    return result


@njit(cache=True, fastmath=True)
def line_distance(points, line):  # type: ignore[no-untyped-def]
    """Distance of points (n, 2) from a polyline (k, 2), (n,)."""
    result = np.empty(len(points), np.float32)
    for n in range(len(points)):
        best = np.float32(1e18)
        for k in range(len(line) - 1):
            dx, dy = line[k + 1, 0] - line[k, 0], line[k + 1, 1] - line[k, 1]
            px, py = points[n, 0] - line[k, 0], points[n, 1] - line[k, 1]
            t = (px * dx + py * dy) / max(dx * dx + dy * dy, np.float32(1e-9))
            t = min(max(t, np.float32(0)), np.float32(1))
            px, py = px - t * dx, py - t * dy
            best = min(best, px * px + py * py)
        result[n] = sqrt(best)
    return result


@njit(cache=True, inline="always")
def _hash(n):  # type: ignore[no-untyped-def]
    h = (n * 747796405 + 277803737) & 0xFFFFFFFF
    h = ((h >> 13) ^ h) * 1274126177 & 0xFFFFFFFF
    return ((h >> 9) & 0xFFFF) / 65535.0


@njit(cache=True, fastmath=True)
def shade(  # type: ignore[no-untyped-def]
    rgb,
    cover,
    label,
    mean_shape,
    ident,
    bary,
    triangles,
    kind,
    uv,
    rest,
    position,
    normal,
    occlusion,
    light_share,
    tint,
    wrinkle,
    eye,
    turn,
    albedo,
    mask,
    bump,
    crease,
    eye_axis,
    iris,
    lights,
    lamps,
    sky,
    ground,
    viewer,
    eye_look,
):
    """Colours what `rasterize` found, at half its resolution.

    Args:
        rgb: (h, w, 3) linear light, premultiplied by coverage; zero on entry.
        cover: (h, w) share of each pixel that is covered; zero on entry.
        label: (h, w) labels.
        mean_shape: (h, w, 3) position on the mean head of what is seen.
        ident: (2h, 2w) of `rasterize`.
        bary: (2h, 2w, 2) of `rasterize`.
        triangles: (t, 3).
        kind: (v,) kinds of surface.
        uv: (v, 2) texture coordinates within a tile.
        rest: (v, 3) on the mean head.
        position: (v, 3) in the world.
        normal: (v, 3) in the world.
        occlusion: (v,) share of the surroundings that is seen.
        light_share: (v,) share of the first lamp's light that arrives.
        tint: (v, 3) colours of surfaces without texture.
        wrinkle: (v,) how strongly creases show.
        eye: (v, 3) vertices of eyeballs from their centres, turned back to the front.
        turn: (3, 3) of the head, for details of the surface.
        albedo: (2, n, n, 4) colour and gloss of face and head.
        mask: (2, n, n) labels of face and head.
        bump: (2, n, n, 3) slopes of pores.
        crease: (2, n, n, 3) slopes of creases.
        eye_axis: (2, 3) of the irises.
        iris: (3,) colour.
        lights: (l, 3) directions towards the lamps.
        lamps: (l, 3) their colours.
        sky: (3,) light from above.
        ground: (3,) light from below.
        viewer: (3,) position of the camera.
        eye_look: radius of the iris, radius of the pupil (radians), redness, seed.
    """
    height, width = cover.shape
    votes = np.zeros(16, np.int32)
    wrap = np.array([0.30, 0.14, 0.09])  # red light travels farthest in skin
    n, p, base, colour = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3)
    size = albedo.shape[1]
    for row in range(height):
        for column in range(width):
            votes[:] = 0
            # Two samples do where four see skin.
            stride = 3
            for sub in range(4):
                t = ident[2 * row + (sub >> 1), 2 * column + (sub & 1)]
                if t < 0 or kind[triangles[t, 0]] > HEAD:
                    stride = 1
            part = 0.5 if stride == 3 else 0.25
            for sub in range(0, 4, stride):
                y, x = 2 * row + (sub >> 1), 2 * column + (sub & 1)
                t = ident[y, x]
                if t < 0:
                    votes[0] += 1
                    continue
                a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                u, v = bary[y, x, 0], bary[y, x, 1]
                w = 1 - u - v
                what = kind[a]
                for k in range(3):
                    n[k] = u * normal[a, k] + v * normal[b, k] + w * normal[c, k]
                    p[k] = u * position[a, k] + v * position[b, k] + w * position[c, k]
                open_ = max(0.0, u * occlusion[a] + v * occlusion[b] + w * occlusion[c])
                arrives = u * light_share[a] + v * light_share[b] + w * light_share[c]
                gloss, deep, shine = 0.3, 1.0, 1.0
                seen = SKIN
                if what <= HEAD:
                    tx = (u * uv[a, 0] + v * uv[b, 0] + w * uv[c, 0]) * size - 0.5
                    ty = (u * uv[a, 1] + v * uv[b, 1] + w * uv[c, 1]) * size - 0.5
                    tx, ty = min(max(tx, 0.0), size - 1.001), min(max(ty, 0.0), size - 1.001)
                    i, j = int(tx), int(ty)
                    fx, fy = tx - i, ty - j
                    w00, w01, w10, w11 = (
                        (1 - fx) * (1 - fy),
                        fx * (1 - fy),
                        (1 - fx) * fy,
                        fx * fy,
                    )
                    texture = albedo[what]
                    for k in range(3):
                        base[k] = (
                            w00 * texture[j, i, k]
                            + w01 * texture[j, i + 1, k]
                            + w10 * texture[j + 1, i, k]
                            + w11 * texture[j + 1, i + 1, k]
                        )
                    i, j = int(tx + 0.5), int(ty + 0.5)
                    gloss = texture[j, i, 3]
                    seen = mask[what, j, i]
                    fold = u * wrinkle[a] + v * wrinkle[b] + w * wrinkle[c]
                    if seen == CLOTHES:
                        deep, shine = 0.0, 0.15
                    s0 = bump[what, j, i, 0] + fold * crease[what, j, i, 0]
                    s1 = bump[what, j, i, 1] + fold * crease[what, j, i, 1]
                    s2 = bump[what, j, i, 2] + fold * crease[what, j, i, 2]
                    for k in range(3):
                        n[k] -= turn[k, 0] * s0 + turn[k, 1] * s1 + turn[k, 2] * s2
                elif what in (EYE_LEFT, EYE_RIGHT):
                    seen = EYEBALL
                    side = what - EYE_LEFT
                    q0 = u * eye[a, 0] + v * eye[b, 0] + w * eye[c, 0]
                    q1 = u * eye[a, 1] + v * eye[b, 1] + w * eye[c, 1]
                    q2 = u * eye[a, 2] + v * eye[b, 2] + w * eye[c, 2]
                    length = 1 / sqrt(q0 * q0 + q1 * q1 + q2 * q2)
                    q0, q1, q2 = q0 * length, q1 * length, q2 * length
                    ax, ay, az = eye_axis[side, 0], eye_axis[side, 1], eye_axis[side, 2]
                    angle = acos(min(1.0, q0 * ax + q1 * ay + q2 * az))
                    around = np.arctan2(q1 - ay, q0 - ax)
                    r = angle / eye_look[0]
                    fibre = int((around + 3.1416) * 22)
                    grain = 0.75 + 0.5 * _hash(fibre + 131 * side + int(eye_look[3]))
                    inner = min(1.0, max(0.0, (r - 0.55) / 0.35))
                    edge = min(1.0, max(0.0, (r - 0.90) / 0.22))
                    edge = edge * edge * (3 - 2 * edge)
                    hole = min(1.0, max(0.0, (r - eye_look[1] / eye_look[0]) / 0.10))
                    rim = 1 - 0.75 * min(1.0, max(0.0, (r - 0.72) / 0.25))
                    bloodshot = min(1.0, max(0.0, (angle - 0.45) / 0.5)) * eye_look[2]
                    white = (0.60, 0.56 - 0.14 * bloodshot, 0.53 - 0.15 * bloodshot)
                    for k in range(3):
                        ring = iris[k] * (1.5 - 0.5 * inner) * grain * rim
                        base[k] = white[k] * edge + (ring * hole + 0.006 * (1 - hole)) * (1 - edge)
                    deep, shine = 0.3, 0.0
                else:
                    for k in range(3):
                        base[k] = u * tint[a, k] + v * tint[b, k] + w * tint[c, k]
                    if what == TEETH:
                        seen, gloss, deep = TOOTH, 0.9, 0.6
                        # Teeth catch light between the lips; towards the throat it is dark.
                        front = u * rest[a, 2] + v * rest[b, 2] + w * rest[c, 2]
                        front = min(1.0, max(0.05, (front - 6.5) / 3.6))
                        open_ = min(1.0, 0.18 + 0.9 * sqrt(open_)) * front * front
                    elif what == GUMS:
                        seen, gloss = MOUTH, 0.8
                    elif what == SOCKET:
                        seen, gloss = MOUTH if rest[a, 1] < 1 else SKIN, 0.5
                    else:
                        seen, deep, shine = CLOTHES, 0.0, 0.15
                votes[seen] += 1
                length = 1 / max(1e-9, sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]))
                vx, vy, vz = viewer[0] - p[0], viewer[1] - p[1], viewer[2] - p[2]
                near = 1 / sqrt(vx * vx + vy * vy + vz * vz)
                vx, vy, vz = vx * near, vy * near, vz * near
                for k in range(3):
                    n[k] *= length
                facing = n[0] * vx + n[1] * vy + n[2] * vz
                up = 0.5 + 0.5 * n[1]
                # Occluded skin is lit by skin: what is left turns red.
                dark = open_
                red = sqrt(open_) if deep > 0.2 else open_
                for k in range(3):
                    share = red if k == 0 else dark
                    colour[k] = base[k] * (ground[k] + (sky[k] - ground[k]) * up) * share
                rough = 0.62 - 0.38 * gloss
                a2 = rough * rough * rough * rough
                grazing = 1 - max(0.0, facing)
                fresnel = 0.028 + 0.25 * grazing * grazing * grazing * grazing * grazing
                for lamp in range(len(lights)):
                    lx, ly, lz = lights[lamp, 0], lights[lamp, 1], lights[lamp, 2]
                    nl = n[0] * lx + n[1] * ly + n[2] * lz
                    share = arrives if lamp == 0 else 0.3 + 0.7 * open_
                    if what > HEAD and what < BODY:
                        share *= min(1.0, 1.6 * open_)
                    hx, hy, hz = vx + lx, vy + ly, vz + lz
                    nh = n[0] * hx + n[1] * hy + n[2] * hz
                    nh = max(0.0, nh) / max(1e-9, sqrt(hx * hx + hy * hy + hz * hz))
                    d = nh * nh * (a2 - 1) + 1
                    glint = shine * max(0.0, nl) * fresnel * a2 / (3.1416 * d * d) * share
                    if what in (EYE_LEFT, EYE_RIGHT):
                        glint = 3.0 * max(0.0, (nh - 0.985) / 0.015) ** 2 * share
                    for k in range(3):
                        soft = wrap[k] * deep
                        q = min(1.0, max(0.0, (nl + soft) / (1 + soft)))
                        colour[k] += lamps[lamp, k] * (base[k] * q * share + glint)
                cover[row, column] += part
                for k in range(3):
                    rgb[row, column, k] += part * colour[k]
            best = 0
            for k in range(1, 12):
                if votes[k] > votes[best]:
                    best = k
            label[row, column] = best
            if votes[0] < 4:
                for sub in range(4):
                    y, x = 2 * row + (sub >> 1), 2 * column + (sub & 1)
                    t = ident[y, x]
                    if t >= 0:
                        u, v = bary[y, x, 0], bary[y, x, 1]
                        for k in range(3):
                            mean_shape[row, column, k] = (
                                u * rest[triangles[t, 0], k]
                                + v * rest[triangles[t, 1], k]
                                + (1 - u - v) * rest[triangles[t, 2], k]
                            )
                        break


@njit(cache=True)
def place_strands(  # type: ignore[no-untyped-def]
    points, anchors, weights, vertices, turn, body, zoom, pivot, neck
):
    """Strands (s, k, 3) in the world.

    Args:
        points: in the head, or from their anchors.
        anchors: (s, k, 3) vertices that they follow, or (0, 0, 3).
        weights: of the anchors.
        vertices: (v, 3) of the head.
        turn: of the head.
        body: turn of the shoulders, where long hair rests.
        zoom: scale of the head.
        pivot: where it turns.
        neck: where the pivot is in the world.
    """
    result = np.empty(points.shape, np.float32)
    q = np.zeros(3)
    for s in range(points.shape[0]):
        for k in range(points.shape[1]):
            for j in range(3):
                q[j] = points[s, k, j] - pivot[j]
                if len(anchors):
                    for n in range(3):
                        q[j] += weights[s, k, n] * vertices[anchors[s, k, n], j]
            low = min(1.0, max(0.0, (q[1] + pivot[1] + 13) / 5))
            share = 0.3 + 0.7 * low * low * (3 - 2 * low)
            for j in range(3):
                head = turn[j, 0] * q[0] + turn[j, 1] * q[1] + turn[j, 2] * q[2]
                rest = body[j, 0] * q[0] + body[j, 1] * q[1] + body[j, 2] * q[2]
                result[s, k, j] = zoom * (share * head + (1 - share) * rest) + neck[j]
    return result


@njit(cache=True, fastmath=True)
def light_strands(  # type: ignore[no-untyped-def]
    placed, base, ambient, gloss, shadow, axes, reach, lights, lamps, sky, ground, viewer
):
    """Light from hair (s, k, 3): Kajiya and Kay's cylinders with a primary and a tinted highlight.

    Args:
        placed: (s, k, 3) in the world.
        base: (s, 3) colour of each strand.
        ambient: (s, k) share of the surroundings that is seen.
        gloss: (s,) strength of the highlights.
        shadow: map of the first lamp's depth.
        axes: of the map, as in `splat_depth`.
        reach: of the map.
        lights: as in `shade`.
        lamps: as in `shade`.
        sky: as in `shade`.
        ground: as in `shade`.
        viewer: as in `shade`.
    """
    result = np.empty(placed.shape, np.float32)
    size, last = len(shadow), placed.shape[1] - 1
    for s in range(placed.shape[0]):
        for k in range(last + 1):
            x, y, z = placed[s, k, 0], placed[s, k, 1], placed[s, k, 2]
            before, after = max(k - 1, 0), min(k + 1, last)
            tx = placed[s, after, 0] - placed[s, before, 0]
            ty = placed[s, after, 1] - placed[s, before, 1]
            tz = placed[s, after, 2] - placed[s, before, 2]
            length = 1 / max(sqrt(tx * tx + ty * ty + tz * tz), 1e-9)
            tx, ty, tz = tx * length, ty * length, tz * length
            column = ((axes[0, 0] * x + axes[0, 1] * y + axes[0, 2] * z) / reach + 1) * size / 2
            row = ((axes[1, 0] * x + axes[1, 1] * y + axes[1, 2] * z) / reach + 1) * size / 2
            away = axes[2, 0] * x + axes[2, 1] * y + axes[2, 2] * z
            share = 0.0
            for tap in range(5):
                i = int(column) + (tap == 1) - (tap == 2)
                j = int(row) + (tap == 3) - (tap == 4)
                outside = i < 0 or j < 0 or i >= size or j >= size
                if outside or away < shadow[j, i] + 0.45:
                    share += 0.2
            vx, vy, vz = viewer[0] - x, viewer[1] - y, viewer[2] - z
            near = 1 / sqrt(vx * vx + vy * vy + vz * vz)
            tv = (tx * vx + ty * vy + tz * vz) * near
            sv = sqrt(max(0.0, 1 - tv * tv))
            for j in range(3):
                result[s, k, j] = base[s, j] * 0.45 * (sky[j] + ground[j]) * ambient[s, k]
            for lamp in range(len(lights)):
                tl = tx * lights[lamp, 0] + ty * lights[lamp, 1] + tz * lights[lamp, 2]
                sl = sqrt(max(0.0, 1 - tl * tl))
                arrives = (share if lamp == 0 else 0.6) * (0.35 + 0.65 * ambient[s, k])
                first = max(0.0, sl * sv - (tl + 0.09) * tv) ** 40 * 0.022 * gloss[s]
                second = max(0.0, sl * sv - (tl - 0.14) * tv) ** 12 * 0.7 * gloss[s]
                for j in range(3):
                    light = base[s, j] * (0.55 * sl + second) + first
                    result[s, k, j] += lamps[lamp, j] * arrives * light
    return result


@njit(cache=True)
def nearest_first(depth):  # type: ignore[no-untyped-def]
    """Order of segments by depth (n,), nearest first, to a resolution of 1/2048 of their range."""
    low, high = depth.min(), depth.max()
    scale = 2047 / max(high - low, 1e-6)
    counts = np.zeros(2049, np.int64)
    for n in range(len(depth)):
        counts[int((depth[n] - low) * scale) + 1] += 1
    for n in range(1, 2049):
        counts[n] += counts[n - 1]
    order = np.empty(len(depth), np.int64)
    for n in range(len(depth)):
        bucket = int((depth[n] - low) * scale)
        order[counts[bucket]] = n
        counts[bucket] += 1
    return order


_BEHIND = 1.0
"""A segment whose ends are farther than this behind the surface is not seen at all."""


@njit(cache=True, fastmath=True)
def draw_strands(  # type: ignore[no-untyped-def]
    rgb, through, label, share, screen, colour, width, opacity, tag, depth, order
):
    """Blends anti-aliased strands, nearest first, in front of what is farther away.

    Args:
        rgb: (h, w, 3) light of strands so far, premultiplied.
        through: (h, w) share of the light behind that still passes; 1 on entry.
        label: (h, w) label of strands where they cover most.
        share: (h, w) largest share of a label so far, 0 on entry.
        screen: (s, k, 3) positions in pixels of `rgb`.
        colour: (s, k, 3) light.
        width: (s, k) pixels.
        opacity: (s,).
        tag: (s,) labels.
        depth: (2h, 2w) of the surfaces.
        order: segments, s * (k - 1) + k, nearest first.
    """
    height, columns = through.shape
    segments = screen.shape[1] - 1
    for n in range(len(order)):
        s, k = order[n] // segments, order[n] % segments
        ax, ay, az = screen[s, k, 0], screen[s, k, 1], screen[s, k, 2]
        bx, by, bz = screen[s, k + 1, 0], screen[s, k + 1, 1], screen[s, k + 1, 2]
        i, j = min(max(int(ax), 0), columns - 1), min(max(int(ay), 0), height - 1)
        m, end_row = min(max(int(bx), 0), columns - 1), min(max(int(by), 0), height - 1)
        if az > depth[2 * j, 2 * i] + _BEHIND and bz > depth[2 * end_row, 2 * m] + _BEHIND:
            continue
        half_a, half_b = 0.5 * width[s, k], 0.5 * width[s, k + 1]
        reach = max(half_a, half_b) + 0.5
        x0, x1 = (
            max(0, floor(min(ax, bx) - reach)),
            min(columns - 1, floor(max(ax, bx) + reach)),
        )
        y0, y1 = (
            max(0, floor(min(ay, by) - reach)),
            min(height - 1, floor(max(ay, by) + reach)),
        )
        dx, dy = bx - ax, by - ay
        squared = dx * dx + dy * dy
        if squared < 1e-8:
            continue
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                rest = through[y, x]
                if rest < 0.02:
                    continue
                px, py = x + 0.5 - ax, y + 0.5 - ay
                along = (px * dx + py * dy) / squared
                # Each segment owns the pixels between its ends; joints are not counted twice.
                if along < 0 or along >= 1:
                    continue
                distance = abs(px * dy - py * dx) / sqrt(squared)
                half = half_a + (half_b - half_a) * along
                cover = min(2 * half, 1.0, max(0.0, half + 0.5 - distance))
                if cover <= 0:
                    continue
                z = az + (bz - az) * along
                seen = 0.0
                for sub in range(4):
                    if z < depth[2 * y + (sub >> 1), 2 * x + (sub & 1)]:
                        seen += 0.25
                amount = rest * cover * opacity[s] * seen
                if amount <= 0:
                    continue
                through[y, x] = rest - amount
                if amount > share[y, x]:
                    share[y, x] = amount
                    label[y, x] = tag[s]
                for j in range(3):
                    rgb[y, x, j] += amount * (
                        colour[s, k, j] + (colour[s, k + 1, j] - colour[s, k, j]) * along
                    )
