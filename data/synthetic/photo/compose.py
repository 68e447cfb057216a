"""The compiled loop that makes a frame of a backdrop, what surrounds the face, and the face.

All three are pixels of the photograph (0 to 255, not light), so that a head in its own pose is the
photograph itself. Textures are plates (see `portrait.Plate`); places in them are (x, y) in their
pixels, pixel centres at halves.
"""

from __future__ import annotations

from math import acos, sqrt

from numba import njit

from data.synthetic.heads.kernels import EYE_LEFT, EYE_RIGHT, FACE


@njit(cache=True, inline="always")
def _sample(out, texture, x, y):  # type: ignore[no-untyped-def]
    """Bilinear; beyond the texture its edge goes on."""
    height, width, channels = texture.shape
    x = min(max(x - 0.5, 0.0), width - 1.001)
    y = min(max(y - 0.5, 0.0), height - 1.001)
    i, j = int(x), int(y)
    fx, fy = x - i, y - j
    for k in range(channels):
        top = texture[j, i, k] + fx * (texture[j, i + 1, k] - texture[j, i, k])
        low = texture[j + 1, i, k] + fx * (texture[j + 1, i + 1, k] - texture[j + 1, i, k])
        out[k] = top + fy * (low - top)


@njit(cache=True, fastmath=True)
def compose(  # type: ignore[no-untyped-def]
    image,
    work,
    backdrop,
    around,
    around_ident,
    around_bary,
    around_triangles,
    around_uv,
    photo,
    ident,
    bary,
    triangles,
    kind,
    uv,
    share,
    seen,
    gain,
    colour,
    eye,
    eye_axis,
    profile,
    bin_angle,
):
    """Colours what `rasterize` found, at half its resolution.

    Args:
        image: (h, w, 3), 0 to 255; zero on entry.
        work: (3, 5), overwritten.
        backdrop: (2h, 2w, 3).
        around: (p, p, 4) plate of what surrounds the face, and how opaque it is.
        around_ident: (2h, 2w) of `rasterize`, of its relief.
        around_bary: (2h, 2w, 2), likewise.
        around_triangles: (s, 3).
        around_uv: (n, 2) where its vertices are in the plate.
        photo: (p, p, 5) plate of the photograph, how much of each pixel is the person, and how much
            is within lips or lids.
        ident: (2h, 2w) of `rasterize`, of the face.
        bary: (2h, 2w, 2), likewise.
        triangles: (t, 3).
        kind: (t,) of surface, as in `kernels`.
        uv: (v, 2) where the vertices are in the photograph.
        share: (v,) how far the face covers its surroundings.
        seen: (v,) share of the colour that is the photograph's.
        gain: (v,) factor for shading.
        colour: (v, 3) where the photograph does not show it; of eyes a factor.
        eye: (v, 3) vertices of eyeballs from their centres, turned back to the front.
        eye_axis: (2, 3) of the irises.
        profile: (b, 3) colour of eyes by angle from the axis, where the photograph has none.
        bin_angle: radians from row to row of it.
    """
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            for sub in range(4):
                y, x = 2 * row + (sub >> 1), 2 * column + (sub & 1)
                rgb, other, base = work[0], work[1], work[2]
                for k in range(3):
                    base[k] = backdrop[y, x, k]
                t = around_ident[y, x]
                if t >= 0:
                    a, b, c = around_triangles[t, 0], around_triangles[t, 1], around_triangles[t, 2]
                    u, v = around_bary[y, x, 0], around_bary[y, x, 1]
                    w = 1 - u - v
                    px = u * around_uv[a, 0] + v * around_uv[b, 0] + w * around_uv[c, 0]
                    py = u * around_uv[a, 1] + v * around_uv[b, 1] + w * around_uv[c, 1]
                    _sample(rgb, around, px, py)
                    for k in range(3):
                        base[k] += rgb[3] * (rgb[k] - base[k])
                t = ident[y, x]
                if t >= 0:
                    a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                    u, v = bary[y, x, 0], bary[y, x, 1]
                    w = 1 - u - v
                    what = kind[t]
                    px = u * uv[a, 0] + v * uv[b, 0] + w * uv[c, 0]
                    py = u * uv[a, 1] + v * uv[b, 1] + w * uv[c, 1]
                    _sample(rgb, photo, px, py)
                    shown = u * seen[a] + v * seen[b] + w * seen[c]
                    lit = u * gain[a] + v * gain[b] + w * gain[c]
                    cover = u * share[a] + v * share[b] + w * share[c]
                    for k in range(3):
                        other[k] = u * colour[a, k] + v * colour[b, k] + w * colour[c, k]
                    if what in (EYE_LEFT, EYE_RIGHT):
                        q0 = u * eye[a, 0] + v * eye[b, 0] + w * eye[c, 0]
                        q1 = u * eye[a, 1] + v * eye[b, 1] + w * eye[c, 1]
                        q2 = u * eye[a, 2] + v * eye[b, 2] + w * eye[c, 2]
                        side = what - EYE_LEFT
                        along = (
                            q0 * eye_axis[side, 0] + q1 * eye_axis[side, 1] + q2 * eye_axis[side, 2]
                        ) / sqrt(q0 * q0 + q1 * q1 + q2 * q2)
                        at = min(acos(min(1.0, along)) / bin_angle, len(profile) - 1.001)
                        i = int(at)
                        for k in range(3):
                            other[k] *= profile[i, k] + (at - i) * (
                                profile[i + 1, k] - profile[i, k]
                            )
                    elif what == FACE:
                        cover *= 1 - shown * (1 - rgb[3])
                    else:
                        shown *= rgb[4]
                    for k in range(3):
                        value = lit * (other[k] + shown * (rgb[k] - other[k]))
                        base[k] += cover * (value - base[k])
                for k in range(3):
                    image[row, column, k] += 0.25 * base[k]
