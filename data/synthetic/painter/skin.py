"""The skin of the face: soft light on a relief, then what the light does not explain."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from data.synthetic.controls import Control
from data.synthetic.face import Face
from data.synthetic.identity import Colour, Identity
from data.synthetic.raster import Patch, Plane, bump, ridge, saturate, smoothstep

RELIEF_BOUNDS = (-0.85, 0.85, -1.05, 1.0)
RELIEF_PLANES = 3
"""Slope of the skin in x and y (so that (sx, sy, 1) is normal to it), and freckles."""

_REACH = 2.4  # in standard widths: how far a hill is worth computing
_WARM = (0.75, 1.0, 1.0)  # tint of a shade on skin: the red goes last


def light_direction(light: float) -> Float[np.ndarray, " 3"]:
    """Unit vector towards the light, from above and one side (-1..1) of the viewer."""
    direction = np.array([0.62 * light, -0.42, 0.85])
    return direction / np.linalg.norm(direction)


def shadow_of(tone: Colour) -> Colour:
    """Skin in the shade: darker, and warmer since light bleeds through it."""
    r, g, b = tone
    return 0.60 * r, 0.45 * g, 0.42 * b


def lit_skin(tone: Colour, light: Plane) -> list[Plane]:
    """Skin under a light of 0..1."""
    dark = shadow_of(tone)
    return [low + (high - low) * light for high, low in zip(tone, dark, strict=True)]


def _hills(identity: Identity) -> list[tuple[float, float, float, float, float]]:
    """The relief of a face at rest: centre, widths and height of round hills (or hollows).

    A hill beside the middle line stands for two.
    """
    eyes, nose, head = identity.eyes, identity.nose, identity.head
    base = nose.base
    return [
        # ridge, tip and wings of the nose
        (0.0, base - 0.17, nose.bridge * 1.35, 0.16, 0.022 + 0.1 * nose.length),
        (0.0, base - 0.052, 0.058, 0.052, 0.030 + 0.12 * nose.length),
        (nose.half_width * 0.74, base - 0.030, 0.030, 0.036, 0.016),
        # the mound of the mouth, the hollow under the lip, the chin
        (0.0, identity.mouth.y + 0.01, 0.24, 0.13, 0.035),
        (0.0, head.chin - 0.175, 0.11, 0.032, -0.016),
        (0.0, head.chin - 0.105, 0.10, 0.075, 0.030),
        # forehead, brow ridge, eye socket, cheek, and the hollow below it
        (0.0, -0.42, 0.34, 0.20, 0.030),
        (0.245, eyes.y - 0.125, 0.16, 0.050, 0.018),
        (eyes.x - 0.03, eyes.y - 0.01, 0.15, 0.085, -0.030),
        (0.315, 0.125, 0.15, 0.115, 0.040),
        (0.43, 0.34, 0.13, 0.13, -0.022),
    ]


def paint_relief(patch: Patch, identity: Identity) -> None:
    """Fills the planes of the relief at rest (see `RELIEF_PLANES`)."""
    sx, sy = patch.rgb[:2]
    x, y = patch.x, patch.y
    nx = np.clip(x * (1 / identity.head.width), -1.15, 1.15)
    ny = (y + 0.02) * (1 / 0.90)
    sx[:] = nx * (0.55 + 0.55 * nx * nx)
    sy[:] = ny * (0.30 + 0.45 * ny * ny)
    for cx, cy, wx, wy, height in _hills(identity):
        for side in (-1, 1) if cx else (1,):
            _add_hill(sx, sy, x - side * cx, y - cy, wx, wy, height)
    if identity.skin.freckles:
        rng = np.random.default_rng(identity.hair.seed)
        for _ in range(70):
            dx, dy = rng.normal(0, 1, 2).tolist()
            cx, cy = 0.26 * dx, 0.07 + 0.07 * dy + 0.25 * abs(dx) * 0.26
            size, strength = float(rng.uniform(0.006, 0.011)), float(rng.uniform(0.3, 1))
            part = patch.crop(cx - 3 * size, cx + 3 * size, cy - 3 * size, cy + 3 * size)
            part.rgb[2] += strength * bump(part.x - cx, part.y - cy, size, size)


def _add_hill(
    sx: Plane, sy: Plane, dx: Plane, dy: Plane, wx: float, wy: float, height: float
) -> None:
    """Adds the slopes of a hill to the relief."""
    hill = bump(dx, dy, wx, wy)
    sx += hill * dx * (2 * height / wx**2)
    sy += hill * dy * (2 * height / wy**2)


def rest_height(patch: Patch, face: Face) -> Plane:
    """Where pixels would be vertically if the jaw were closed."""
    if face.mouth.drop <= 0:
        return patch.y
    return patch.y - face.mouth.drop * smoothstep(0.30, 0.75 + face.mouth.drop, patch.y)


def paint_skin(
    patch: Patch,
    face: Face,
    relief: Float[np.ndarray, "3 h w"],
    turn: Float[np.ndarray, "3 3"],
) -> None:
    """Fills the patch with the lit skin of the face, without its features."""
    sx, sy, freckles = relief
    identity = face.identity
    _raise_cheeks(patch, face, sx, sy)
    # Light stays put while the head turns: bring it into the head's coordinates.
    light = light_direction(identity.light) @ turn
    half_way = light + np.array([0.0, 0.0, 1.0])
    half_way /= np.linalg.norm(half_way)
    (lx, ly, lz), (hx, hy, hz) = light.tolist(), half_way.tolist()
    length = 1 / np.sqrt(sx * sx + sy * sy + 1)
    shade = smoothstep(-0.10, 0.98, (lx * sx + ly * sy + lz) * length)
    gloss = saturate((hx * sx + hy * sy + hz) * length)
    for _ in range(5):  # to the 32nd power
        gloss *= gloss
    skin = identity.skin
    for plane, colour in zip(patch.rgb, lit_skin(skin.tone, shade * 1.03), strict=True):
        plane[:] = colour
    patch.lighten(gloss * (0.16 - 0.06 * skin.age), (1.0, 0.97, 0.92))
    if skin.freckles:
        patch.darken(np.minimum(freckles, 1) * (0.30 * skin.freckles), (0.5, 0.8, 1.0))


def _raise_cheeks(patch: Patch, face: Face, sx: Plane, sy: Plane) -> None:
    """Adds to the relief what a smile or raised cheeks push up."""
    swell = 0.7 * max(face.mouth.smile, 0.0) + 0.5 * face[Control.CHEEK_RAISE]
    if swell < 0.02:
        return
    y = 0.10 - 0.05 * swell
    part = patch.crop(-0.65, 0.65, y - 0.28, y + 0.28)
    column, row = part.origin[0] - patch.origin[0], part.origin[1] - patch.origin[1]
    h, w = part.x.shape
    window = (slice(row, row + h), slice(column, column + w))
    sign = np.sign(part.x)
    slope = np.zeros_like(part.x)
    _add_hill(slope, sy[window], np.abs(part.x) - 0.315, part.y - y, 0.14, 0.11, 0.040 * swell)
    sx[window] += slope * sign


def paint_complexion(patch: Patch, face: Face) -> None:
    """Flush of the cheeks, folds and lines; symmetric, so drawn for both sides at once."""
    _paint_cheeks(patch, face)
    _paint_folds(patch, face)
    _paint_frown(patch, face)
    _paint_forehead(patch, face)
    pout = face[Control.CHIN_RAISE]
    if pout > 0.02:
        part = patch.crop(-0.2, 0.2, face.chin - 0.24, face.chin)
        pits = smoothstep(0.2, 1, np.sin(part.x * 75) * np.sin(part.y * 80))
        pits *= bump(part.x, part.y - face.chin + 0.115, 0.085, 0.05)
        part.darken(pits * (0.16 * pout), _WARM)


def _paint_cheeks(patch: Patch, face: Face) -> None:
    """Colour of the cheeks, and the shade and lines around the eyes."""
    skin, eyes = face.identity.skin, face.identity.eyes
    smile, cheek = max(face.mouth.smile, 0.0), face[Control.CHEEK_RAISE]
    flush = float(np.clip(0.20 + 0.5 * skin.rosiness + 0.6 * face[Control.FLUSH], 0, 1.2))
    part = patch.crop(-0.62, 0.62, eyes.y - 0.09, 0.46)
    side = np.abs(part.x)
    rose = bump(side - 0.33, part.y - 0.17 + 0.04 * smile, 0.19, 0.13)
    part.darken(rose * (0.12 * flush), (0.0, 1.0, 0.85))
    part = patch.crop(-0.62, 0.62, eyes.y - 0.09, eyes.y + 0.20)
    side = np.abs(part.x)
    off = side - eyes.x
    under = ridge(part.y - eyes.y - 0.088 - 0.25 * off * off, 0.017)
    under *= ridge(off + 0.02, 0.10)
    part.darken(under * (0.05 + 0.12 * skin.age + 0.18 * cheek), (0.8, 1.0, 0.9))
    feet = 0.14 * cheek + 0.06 * max(skin.age - 0.3, 0)
    if feet > 0.01:
        fan = smoothstep(0.3, 1, np.sin((part.y - eyes.y) * 16 / np.maximum(side - 0.26, 0.05)))
        fan *= bump(side - 0.44, part.y - eyes.y, 0.045, 0.06)
        part.darken(fan * feet, _WARM)


def _paint_folds(patch: Patch, face: Face) -> None:
    """The folds from the wings of the nose to beside the mouth."""
    skin, mouth = face.identity.skin, face.mouth
    wrinkle = max(face[Control.NOSE_WRINKLE], 0.0)
    start, end = 0.95 * face.nose_width, 1.20 * mouth.half_width
    top = face.nose_base - 0.035
    length = face.identity.mouth.y - top + 0.02
    reach = end + 0.12
    part = patch.crop(-reach, reach, top - 0.05, top + 1.3 * length)
    side = np.abs(part.x)
    right = smoothstep(-0.05, 0.05, part.x)
    corner = (
        face[Control.CORNER_LEFT] + (face[Control.CORNER_RIGHT] - face[Control.CORNER_LEFT]) * right
    )
    smile = np.maximum(corner, 0)
    down = (part.y - top) * (1 / length)
    bulge = np.sin(np.clip(down, 0, 1) * np.pi)
    path = start + (end - start) * np.clip(down, -0.2, 1.3) + (0.012 + 0.035 * smile) * bulge
    fold = np.exp(-np.square((side - path) / (0.018 + 0.014 * smile)))
    fold *= smoothstep(-0.05, 0.25, down) * smoothstep(1.25, 0.65, down)
    depth = 0.05 + 0.10 * skin.age + 0.11 * smile + 0.15 * wrinkle + 0.05 * np.maximum(-corner, 0)
    part.darken(fold * np.minimum(depth, 0.28), _WARM)


def _paint_frown(patch: Patch, face: Face) -> None:
    """Lines between the brows, and across the bridge of a wrinkled nose."""
    skin, eyes = face.identity.skin, face.identity.eyes
    wrinkle, furrow = face[Control.NOSE_WRINKLE], face[Control.BROW_FURROW]
    frown = 0.36 * max(furrow, 0.0) + 0.05 * skin.age
    if frown > 0.02:
        part = patch.crop(-0.09, 0.09, eyes.y - 0.29, eyes.y - 0.01)
        line = ridge(np.abs(part.x) - 0.030 - 0.06 * (part.y - eyes.y + 0.15), 0.010)
        line *= ridge(part.y - eyes.y + 0.145, 0.060)
        part.darken(line * frown, _WARM)
    if wrinkle > 0.02:
        part = patch.crop(-0.12, 0.12, eyes.y - 0.02, eyes.y + 0.21)
        y = part.y - eyes.y
        lines = ridge(y - 0.035 + 0.9 * np.square(part.x), 0.010)
        lines += ridge(y - 0.080 + 0.9 * np.square(part.x), 0.010)
        lines += ridge(y - 0.125 - 0.30 * np.abs(part.x), 0.010)
        lines *= ridge(part.x, 0.055)
        part.darken(lines * (0.26 * wrinkle), _WARM)


def _paint_forehead(patch: Patch, face: Face) -> None:
    """Lines across the forehead when the brows go up."""
    raised = 0.6 * max(face[Control.BROW_INNER], 0.0) + 0.3 * max(
        face[Control.BROW_OUTER_LEFT] + face[Control.BROW_OUTER_RIGHT], 0.0
    )
    lines = min(0.9 * raised + 0.45 * face.identity.skin.age, 1.4)
    if lines > 0.05:
        part = patch.crop(-0.42, 0.42, -0.58, -0.28)
        wave = smoothstep(0.35, 1, np.sin((part.y + 0.03 * np.cos(part.x * 7)) * 78))
        wave *= bump(part.x, part.y + 0.45, 0.24, 0.085)
        part.darken(wave * (0.13 * lines), _WARM)


def paint_nose(patch: Patch, face: Face) -> None:
    """What the relief leaves out of the nose: nostrils, their rims, shadow and gloss."""
    identity = face.identity
    base, width, light = face.nose_base, face.nose_width, identity.light
    part = patch.crop(-1.9 * width, 1.9 * width, base - 0.14, base + 0.12)
    x, y, side = part.x, part.y - base, np.abs(part.x)
    # The shadow on the lip below, away from the light, and the underside.
    shadow = bump(x + 0.02 * light, y - 0.030, width * 1.05, 0.030)
    shadow *= smoothstep(-0.01, 0.02, y)
    part.darken(shadow * 0.24, _WARM)
    under = ridge(y - 0.006 - 0.02 * np.cos(x * (np.pi / width)), 0.017)
    under *= smoothstep(width * 1.05, width * 0.75, side)
    part.darken(under * 0.26, _WARM)
    wing = np.sqrt(
        np.square((side - width * 0.74) * (1 / 0.034)) + np.square((y + 0.030) * (1 / 0.040))
    )
    rim = ridge(wing - 1, 0.30) * smoothstep(width * 0.72, width * 0.95, side)
    part.darken(rim * 0.26, _WARM)
    # Nostrils are slanted drops.
    dx = side - width * 0.47
    dy = y + 0.004 + 0.22 * dx
    drop = np.sqrt(np.square(dx * (1 / 0.027)) + np.square(dy * (1 / 0.0115)))
    r, g, b = identity.skin.tone
    part.over(0.85 * part.inside((drop - 1) * 0.0115, 0.006), (0.38 * r, 0.22 * g, 0.20 * b))
    part.lighten(bump(x - 0.014 * light, y + 0.062, 0.024, 0.020) * 0.13)


def shade_rim(patch: Patch, distance: Plane) -> None:
    """The edge of the face turns away from the light."""
    patch.darken(ridge(distance, 0.030) * 0.16, _WARM)
