"""Lips, teeth and tongue, and the beard around them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data.synthetic.curves import along
from data.synthetic.face import Face
from data.synthetic.raster import Patch, Plane, bump, ellipse, norm, ridge, saturate, smoothstep

_WARM = (0.75, 1.0, 1.0)  # tint of a shade on skin
_BARELY_OPEN = 0.004
_TOOTH = 0.037  # width of a tooth


def paint_mouth(patch: Patch, face: Face) -> None:
    """The mouth, closed or open."""
    mouth = face.mouth
    w = mouth.half_width
    low, high = mouth.span
    part = patch.crop(mouth.x - 1.25 * w, mouth.x + 1.25 * w, low - 0.08, high + 0.08)
    t, y = mouth.local(part.x), part.y
    side = np.abs(t)
    places = along(t)
    lines = _Lines(
        mouth.upper_outer.height(places),
        mouth.upper_inner.height(places),
        mouth.lower_inner.height(places),
        mouth.lower_outer.height(places),
    )
    to_lower_outer = (y - lines.lower_outer) * mouth.lower_outer.tilt(places)
    to_seam = mouth.seam.distance(places, y)

    # Shadow under the lower lip, dimples at the corners.
    below = bump(t, y - lines.lower_outer - 0.022, 0.75, 0.022)
    below *= smoothstep(-0.01, 0.01, to_lower_outer)
    part.darken(below * 0.24, _WARM)
    corner = bump((side - 1.04) * w, to_seam, 0.020, 0.024)
    part.darken(corner * (0.20 + 0.16 * abs(mouth.smile)), _WARM)

    lips = part.between((y - lines.upper_outer) * mouth.upper_outer.tilt(places), to_lower_outer)
    _paint_lips(part, face, t, lines, lips * smoothstep(1.10, 0.98, side))
    slit = part.between(
        (y - lines.upper_inner) * mouth.upper_inner.tilt(places),
        (y - lines.lower_inner) * mouth.lower_inner.tilt(places),
    )
    if mouth.opening > _BARELY_OPEN:
        _paint_inside(part, face, t, lines, slit)
    # Closed lips meet in a dark line that thins towards the corners.
    shut = 1 - min(mouth.opening / 0.03, 1.0)
    if shut > 0:
        seam = ridge(to_seam, 0.0065) * smoothstep(1.04, 0.85, side)
        part.darken(seam * (0.62 * shut), (0.8, 1.0, 1.0))


class _Lines(NamedTuple):
    """Heights of the edges of the lips at each pixel's position."""

    upper_outer: Plane
    upper_inner: Plane
    lower_inner: Plane
    lower_outer: Plane


def _paint_lips(part: Patch, face: Face, t: Plane, lines: _Lines, mask: Plane) -> None:
    light = face.identity.light
    y = part.y
    is_upper = smoothstep(0.004, -0.004, y - 0.5 * (lines.upper_inner + lines.lower_inner))
    # The upper lip faces down and is in shade; the lower one catches light in its middle.
    up = (lines.upper_inner - y) / np.maximum(lines.upper_inner - lines.upper_outer, 0.004)
    low = (y - lines.lower_inner) / np.maximum(lines.lower_outer - lines.lower_inner, 0.004)
    upper = 0.74 + 0.20 * np.clip(up, 0, 1)
    lower = 1.06 - 0.30 * np.square(np.clip(low, 0, 1))
    shade = lower + (upper - lower) * is_upper
    shade *= 1 - 0.12 * t * t + 0.05 * light * t
    part.over(mask, [c * shade for c in face.identity.mouth.colour])
    gloss = bump(low - 0.40, t - 0.12 * light, 0.26, 0.42) * mask * (1 - is_upper)
    part.lighten(gloss * 0.13, (1.0, 0.92, 0.92))
    part.lighten(bump(up - 1.0, np.abs(t) - 0.22, 0.22, 0.22) * 0.05)


def _paint_inside(part: Patch, face: Face, t: Plane, lines: _Lines, mask: Plane) -> None:
    """Dark, tongue, lower and upper teeth, and the shadow of the upper lip on them."""
    mouth = face.mouth
    x, y = part.x - mouth.x, part.y
    deep = np.clip((y - lines.upper_inner) * (1 / 0.14), 0, 1)
    part.over(mask, (0.27 - 0.10 * deep, 0.075 - 0.02 * deep, 0.085 - 0.02 * deep))
    # The tongue: on the floor of the mouth, or up behind the teeth.
    floor = mouth.lower_inner.at(0.0)
    rise = mouth.tongue * min(0.075, 0.55 * mouth.opening)
    from_floor = y - floor + rise
    width, height = mouth.half_width * 0.62, 0.046 + 0.010 * mouth.tongue
    tongue = part.inside(ellipse(x, from_floor - 0.012, width, height), 0.010) * mask
    shine = 1 - 0.30 * smoothstep(-0.03, 0.03, from_floor) + 0.06 * ridge(x, 0.02)
    tongue *= 0.92 * min(max(mouth.opening * 22 - 0.5, 0.0), 1.0)
    part.over(tongue, (0.76 * shine, 0.36 * shine, 0.37 * shine))
    # Teeth: rows that curve away, with thin gaps, in the shade of the cheeks at their ends.
    curve = 0.020 * t * t
    tone = (1 - 0.07 * ridge(np.sin(x * (np.pi / _TOOTH)), 0.22)) * (
        1 - 0.42 * smoothstep(0.35, 1.0, np.abs(t))
    )
    bare = mask * (1 - 0.85 * mouth.round)
    lower = part.inside(mouth.lower_teeth - curve - y) * bare
    part.over(lower * 0.9, (0.84 * tone, 0.81 * tone, 0.76 * tone))
    to_edge = y - mouth.upper_teeth + curve
    part.over(part.inside(to_edge) * bare, (0.975 * tone, 0.955 * tone, 0.915 * tone))
    shade = ridge(y - lines.upper_inner, 0.013) * 0.32 + ridge(to_edge, 0.006) * 0.18
    part.darken(shade * mask, (0.85, 1.0, 1.0))


def paint_beard(patch: Patch, face: Face) -> None:
    """Stubble or beard on jaw and chin, and the moustache (before the lips are painted)."""
    identity, mouth = face.identity, face.mouth
    beard = identity.beard
    if beard.density <= 0:
        return
    width = identity.head.width
    part = patch.crop(-1.3 * width, 1.3 * width, 0.02, face.chin + 0.05)
    x, y = part.x, part.y
    side = np.abs(x)
    t = mouth.local(x)
    places = along(t)
    full = float(np.clip((beard.density - 0.3) / 0.3, 0, 1))
    whiskers = np.sin(x * 111 + 3 * np.sin(y * 37)) * np.sin(y * 83 + 3 * np.sin(x * 41))
    # Upper edge: from the sideburns down along the cheek to below the corners of the mouth.
    climb = np.clip(side - 0.24, 0, 1)
    cheek = 0.50 - 0.10 * beard.cheeks - (0.5 + 0.9 * beard.cheeks) * climb - 1.2 * climb * climb
    grown = smoothstep(-0.05, 0.05, y - cheek + 0.014 * whiskers)
    # Bare around the lips: a little beside them, more between lip and chin, but for a tuft.
    lip = mouth.lower_outer.at(0.0)
    around = norm(t, (y - mouth.seam.height(places) - 0.01) * (1 / 0.078))
    grown *= smoothstep(0.98, 1.10, around)
    tuft = bump(x - mouth.x, y - lip - 0.045, 0.05, 0.05)
    grown = np.maximum(grown, 0.8 * full * tuft)
    over_lip = mouth.upper_outer.height(places) - y
    moustache = smoothstep(-0.012, 0.006, over_lip)
    moustache *= smoothstep(0.078, 0.036, over_lip + 0.05 * t * t)
    moustache *= smoothstep(1.32, 1.05, np.abs(t)) * (1 - 0.35 * ridge(x - mouth.x, 0.014))
    grown = np.maximum(grown, beard.moustache * moustache)
    strands = np.sin(x * 93 + 30 * y * np.sign(x) + 1.5 * np.sin(y * 23))
    tone = 0.95 + full * (0.06 * whiskers + 0.08 * strands) + 0.20 * identity.light * x
    grain = 1 - (0.35 - 0.2 * full) * (0.5 + 0.5 * whiskers)
    grown *= grain * (beard.density * (0.62 + 0.33 * full))
    part.over(saturate(grown), [c * tone for c in beard.colour])
