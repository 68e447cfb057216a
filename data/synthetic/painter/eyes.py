"""Eyes and brows."""

from __future__ import annotations

import numpy as np

from data.synthetic.curves import along
from data.synthetic.face import Brow, Eye, Face
from data.synthetic.raster import Patch, Plane, bump, norm, ridge, smoothstep

_LASH = (0.09, 0.06, 0.06)
_WHITE = (0.985, 0.965, 0.955)
_CARUNCLE = (0.86, 0.55, 0.52)  # the pink inner corner
_PUPIL = (0.025, 0.02, 0.025)


def paint_eye(patch: Patch, face: Face, eye: Eye) -> None:
    """One eye: ball, iris, lids and lashes."""
    shape = eye.shape
    w = shape.half_width
    centre = eye.side * shape.x
    part = patch.crop(centre - 1.5 * w, centre + 1.5 * w, shape.y - 0.15, shape.y + 0.10)
    reach, y = eye.local(part.x, part.y)
    t = reach * (1 / w)
    side = np.abs(t)
    places = along(t)
    upper, lower = eye.upper.height(places), eye.lower.height(places)
    to_upper = (y - upper) * eye.upper.tilt(places)
    to_lower = (y - lower) * eye.lower.tilt(places)
    above = upper - y  # height over the edge of the upper lid

    # The lid: a soft shade in the hollow above the eye, and a crease that a blink smooths.
    lid = (
        smoothstep(0.12, 0.02, above) * smoothstep(-0.02, 0.0, above) * smoothstep(1.22, 1.0, side)
    )
    if shape.fold:
        crease = above - shape.fold * (1 - 0.45 * eye.blink) * (1 - 0.25 * t * t)
        lid *= 0.10 + 0.06 * shape.lashes
        lid += ridge(crease, 0.0085) * smoothstep(1.12, 0.80, np.abs(t - 0.08)) * 0.34
        part.darken(lid, (0.75, 1.0, 1.0))
    else:
        part.darken(lid * 0.12, (0.75, 1.0, 1.0))

    mask = part.between(to_upper, to_lower) * smoothstep(1.06, 0.97, side)
    _paint_ball(part, face, eye, t, y, upper, lower, mask)

    # The rim of the lower lid, then lashes along the upper one, thicker outwards.
    rim = ridge(y - lower - 0.004, 0.006) * smoothstep(1.08, 0.9, side)
    part.darken(rim * 0.22, (0.6, 1.0, 0.95))
    thickness = (0.0075 + 0.0075 * shape.lashes) * (0.70 + 0.45 * np.clip(t + 0.3, 0, 1.2))
    line = part.between(to_upper + thickness, to_upper - 0.35 * thickness)
    line *= smoothstep(1.10, 0.92, t) * smoothstep(-1.08, -0.85, t)
    if shape.lashes > 0.5:
        flick = -above + 0.45 * (reach - 0.80 * w) - 0.002
        wing = part.inside(np.abs(flick) - 0.006 * (1.42 - t))
        wing *= smoothstep(0.72, 0.86, t) * smoothstep(1.24, 1.12, t)
        line = np.maximum(line, wing * (shape.lashes - 0.2))
    part.over(line * (0.75 + 0.2 * shape.lashes), _LASH)


def _paint_ball(
    part: Patch, face: Face, eye: Eye, t: Plane, y: Plane, upper: Plane, lower: Plane, mask: Plane
) -> None:
    """The visible part of the eyeball."""
    shape, light = eye.shape, face.identity.light
    # White, darker towards the corners and in the shadow of the upper lid and its lashes.
    lid_shadow = ridge(y - upper, 0.027)
    white = 0.965 - 0.17 * t * t - 0.34 * lid_shadow
    pink = bump(t + 0.98, y, 0.15, 0.04) * 0.75
    part.over(
        mask,
        [c * white + (p - c * white) * pink for c, p in zip(_WHITE, _CARUNCLE, strict=True)],
    )
    dx, dy = part.x - eye.iris[0], part.y - eye.iris[1]
    r = norm(dx, dy)
    # The iris: light falls through it onto its lower half; a dark ring; radial fibres.
    tone = 0.88 + 0.46 * np.clip(dy * (1 / shape.iris_radius), -0.8, 1)
    tone *= 0.94 + 0.08 * np.sin(np.arctan2(dy, dx) * 19)
    tone *= 1 - 0.62 * ridge(r - shape.iris_radius, 0.2 * shape.iris_radius)
    tone *= 1 - 0.42 * lid_shadow
    part.over(part.inside(r - shape.iris_radius) * mask, [c * tone for c in shape.iris])
    part.over(part.inside(r - 0.46 * shape.iris_radius, 0.004) * mask, _PUPIL)
    # Catch-lights: a window on the side of the light, its reflection opposite.
    side = 1.0 if light > 0 else -1.0
    glint = part.inside(norm(dx - side * 0.020, dy + 0.021) - 0.0135, 0.003)
    glint += 0.45 * part.inside(norm(dx + side * 0.020, dy - 0.022) - 0.007, 0.004)
    part.over(glint * mask * 0.96, (1.0, 1.0, 1.0))


def paint_brow(patch: Patch, face: Face, brow: Brow) -> None:
    """One brow, of hairs that lean outwards."""
    shape = face.identity.brows
    near, far = (brow.side * (brow.x + s * 1.15 * brow.half_length) for s in (-1, 1))
    low, high = brow.span
    part = patch.crop(min(near, far), max(near, far), low - 0.06, high + 0.06)
    t = brow.local(part.x)
    places = along(t)
    off = brow.line.distance(places, part.y)
    hairs = np.sin(t * 46 - off * 190)
    distance = np.abs(off) - brow.thickness.height(places) * (0.98 + 0.10 * hairs)
    mask = part.inside(distance, 0.010) * (0.60 + 0.37 * smoothstep(-1.15, -0.65, t))
    tone = 1.02 + 0.08 * hairs
    part.over(mask, [c * tone for c in shape.colour])
