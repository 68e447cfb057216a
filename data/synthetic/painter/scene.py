"""What is around the face: background, neck, clothes, ears, glasses."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from data.synthetic.face import Face
from data.synthetic.identity import Clothes, Glasses, Identity, Neckline
from data.synthetic.painter.skin import shadow_of
from data.synthetic.raster import Patch, Plane, bump, ellipse, norm, ridge, smoothstep


def paint_background(
    u: Float32[np.ndarray, "h w"], v: Float32[np.ndarray, "h w"], identity: Identity
) -> Float32[np.ndarray, "3 h w"]:
    """A gradient, brighter behind the head on the side of the light, with soft blots."""
    place = identity.background
    t = smoothstep(-1.1, 1.1, v + 0.15 * u)
    glow = bump(u - 0.45 * identity.light, v + 0.25, 1.1, 1.0)
    rgb = np.stack(
        [
            (a + (b - a) * t) * (0.72 + 0.42 * glow)
            for a, b in zip(place.top, place.bottom, strict=True)
        ]
    )
    if place.blots:
        rng = np.random.default_rng(place.seed)
        for _ in range(9):
            x, y, r = rng.uniform(-1, 1), rng.uniform(-1, 0.9), rng.uniform(0.08, 0.22)
            warm = rng.uniform(0.0, 0.10, 3) * place.blots
            disc = smoothstep(r, 0.75 * r, norm(u - float(x), v - float(y)))
            rgb += disc * warm[:, None, None].astype(np.float32)
    return np.clip(rgb, 0, 1).astype(np.float32)


BODY_BOUNDS = (-1.3, 1.3, 0.35, 1.3)
EAR_BOUNDS = (-0.75, 0.75, -0.25, 0.35)
NECK_Y = 0.55
GLASSES_DEPTH = 0.40

_LENS_DROP = 0.018  # of the middle of a lens below that of the eye
_TEMPLE_HEIGHT = 0.45  # of the lens's half height, above its middle


def _neck_width(identity: Identity) -> float:
    return 0.68 * identity.head.jaw * identity.head.width + (0.0 if identity.feminine else 0.03)


def shade_neck(part: Patch, chin: tuple[float, float], identity: Identity, opacity: Plane) -> None:
    """The shadow of the chin, where it is now, on the neck."""
    x, y = part.x, part.y
    width = _neck_width(identity)
    cast = smoothstep(0.26, -0.04, y - float(chin[1]) - 0.25 * np.square(x - float(chin[0])))
    cast *= smoothstep(width + 0.14, width - 0.06, np.abs(x))
    part.darken(cast * opacity * 0.42, (0.85, 1.0, 1.0))


def paint_body(part: Patch, identity: Identity) -> None:
    """Neck and clothes."""
    clothes, tone = identity.clothes, identity.skin.tone
    x, y = part.x, part.y
    width = _neck_width(identity)
    # Neck: a cylinder that widens to the shoulders.
    flare = 0.55 * np.clip(y - 0.82, 0, 1) ** 1.6
    edge = np.abs(x) - width - flare
    side = np.clip(x / (width + flare), -1.2, 1.2)
    shade = 0.80 - 0.35 * side * side + 0.22 * identity.light * side
    shade = np.clip(shade, 0, 1)
    dark = shadow_of(tone)
    part.over(
        part.inside(edge, 0.01), [d + (c - d) * shade for c, d in zip(tone, dark, strict=True)]
    )
    for sign in (-1, 1):
        tendon = ridge(x - sign * (0.10 + 0.25 * np.clip(1.15 - y, -0.2, 0.5)), 0.03) * smoothstep(
            0.8, 1.0, y
        )
        part.darken(tendon * 0.08, (0.8, 1, 1))
    _paint_clothes(part, clothes, identity, width)


def _paint_clothes(part: Patch, clothes: Clothes, identity: Identity, width: float) -> None:
    x, y = part.x, part.y
    side = np.abs(x)
    slope = 0.86 if identity.feminine else 0.80
    shoulder = slope + 0.36 * np.clip(side - 0.20, 0, 2) ** 1.35 + 0.02 * np.cos(side * 4)
    cloth = (
        0.80
        + 0.18 * identity.light * x
        - 0.20 * np.clip(y - 0.9, 0, 1)
        + 0.04 * np.sin(x * 13 + 4 * y)
    )
    body = part.inside((shoulder - y) * 0.9, 0.008)
    colour = [np.clip(c * cloth, 0, 1) for c in clothes.colour]
    accent = [np.clip(c * (cloth + 0.05), 0, 1) for c in clothes.accent]
    match clothes.neckline:
        case Neckline.ROUND:
            hole = ellipse(x, y - 0.80, width + 0.10, 0.20)
            part.over(body * part.inside(-hole), colour)
            part.darken(body * ridge(hole - 0.016, 0.016) * 0.22)
        case Neckline.V:
            hole = (side * 0.95 - (1.16 - y) * 0.62) * 0.8
            part.over(body * part.inside(-hole), colour)
            part.over(body * part.inside(np.abs(hole - 0.014) - 0.014), accent)
        case Neckline.SHIRT:
            hole = (side - (1.16 - y)) * 0.7
            part.over(body * part.inside(-hole), colour)
            # Two flaps that lie on the shirt beside the opening, pointed in front.
            flap = np.maximum(np.abs(hole - 0.05) - 0.05, 0.55 * (side - 0.10) + y - 1.04)
            part.over(part.inside(flap) * body, accent)
            part.darken(ridge(flap, 0.008) * part.inside(-hole) * body * 0.25)
        case Neckline.ROLL:
            part.over(body, colour)
            roll = np.maximum(side - width - 0.045, 0.80 + 0.10 * np.square(x / width) * -1 - y)
            fold = 1 - 0.30 * np.square(x / (width + 0.05))
            part.over(
                part.inside(roll, 0.01),
                [np.clip(c * cloth * fold * 1.08, 0, 1) for c in clothes.colour],
            )
            part.darken(ridge(y - 0.98, 0.02) * part.inside(roll) * 0.15)


def paint_ears(patch: Patch, identity: Identity) -> None:
    """Both ears."""
    for side in (-1, 1):
        _paint_ear(patch, identity, side)


def _paint_ear(patch: Patch, identity: Identity, side: int) -> None:
    """An ear, and the ring in it."""
    head, tone = identity.head, identity.skin.tone
    w, h = head.width, head.ear
    cx, cy = side * (w + 0.012), 0.005
    part = patch.crop(
        min(cx - 0.12, cx + 0.12), max(cx - 0.12, cx + 0.12), cy - h - 0.05, cy + h + 0.14
    )
    x, y = side * (part.x - cx), part.y - cy
    lean = x - 0.12 * y * -1
    outer = ellipse(lean, y - 0.10 * x, 0.062 - 0.018 * 0, h)
    narrow = ellipse(lean + 0.01, y - h * 0.62, 0.042, h * 0.42)
    distance = np.minimum(outer + 0.10 * np.clip(y, 0, 1), narrow)
    dark = shadow_of(tone)
    lit = 0.80 + 0.25 * identity.light * side + 0.2 * bump(x - 0.035, y + 0.05, 0.04, 0.12)
    part.over(
        part.inside(distance),
        [d + (c - d) * np.clip(lit, 0, 1) for c, d in zip(tone, dark, strict=True)],
    )
    inner = part.inside(ellipse(lean - 0.004, y + 0.012, 0.032, h * 0.62), 0.02)
    part.darken(inner * 0.30, (0.75, 1, 1))
    if identity.earrings:
        ring = norm(lean + 0.004, y - h - 0.010) - 0.019
        glint = 0.85 + 0.5 * bump(lean - 0.004, y - h - 0.002, 0.012, 0.012)
        part.over(part.inside(ring), [np.clip(c * glint, 0, 1) for c in identity.earrings])


def paint_temples(patch: Patch, face: Face, glasses: Glasses) -> None:
    """The arms of the spectacles, from the rims to the ears (cut off by the edge of the face)."""
    eyes = face.identity.eyes
    height = eyes.y + _LENS_DROP - _TEMPLE_HEIGHT * glasses.half_height
    part = patch.crop(-0.75, 0.75, height - 0.04, height + 0.04)
    hinge = eyes.x + glasses.half_width
    arm = part.inside(np.abs(part.y - height) - 0.9 * glasses.thickness)
    part.over(arm * smoothstep(hinge - 0.03, hinge, np.abs(part.x)), glasses.colour)


def paint_glasses(patch: Patch, face: Face, glasses: Glasses) -> None:
    """The lenses, their rims and the bridge between them, in front of the eyes."""
    eyes = face.identity.eyes
    w, h, power = glasses.half_width, glasses.half_height, glasses.corner
    part = patch.crop(-0.72, 0.72, eyes.y - h - 0.08, eyes.y + h + 0.10)
    side = np.abs(part.x)
    x, y = side - eyes.x, part.y - eyes.y - _LENS_DROP
    reach = (np.abs(x * (1 / w)) + 1e-4) ** power + (np.abs(y * (1 / h)) + 1e-4) ** power
    rim = (reach ** (1 / power) - 1) * min(w, h)
    lens = part.inside(rim)
    part.lighten(lens * 0.035)
    part.lighten(smoothstep(0.03, 0.0, np.abs(x * 0.8 + y * 0.6 - 0.05)) * lens * 0.10)
    part.darken(ridge(rim - 0.012, 0.020) * smoothstep(-0.02, 0.05, y) * 0.12, (0.8, 1, 1))
    gap = max(eyes.x - w, 0.02)
    arch = y + _LENS_DROP + 0.035 - 0.022 * np.square(part.x * (1 / gap))
    bridge = part.inside(np.abs(arch) - 0.9 * glasses.thickness)
    bridge *= smoothstep(gap + 0.012, gap - 0.004, side)
    frame = np.maximum(part.inside(np.abs(rim) - glasses.thickness), bridge)
    shine = 1 + 0.9 * bump(x + 0.4 * w, y + h, 0.10, 0.02)
    part.over(frame, [np.clip(c * shine, 0, 1) for c in glasses.colour])
