"""Hair: a mass between two outlines around the head, and strands that flow between them.

The hair in front lies between an outer outline (the silhouette) and an opening (the hairline,
and for long hair the curtain beside the face). Where the opening is wider than the silhouette
there is no hair. Strands follow lines of a phase that mixes the angle around the head (hair
combed back) with the place between the two outlines (hair that falls).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.synthetic.curves import Places, Polar, mirrored
from data.synthetic.identity import Hair, Hairstyle, Identity
from data.synthetic.raster import Patch, Plane, norm, ridge, smoothstep

BOUNDS = (-1.2, 1.2, -1.35, 1.35)
BACK_DEPTH = -0.22

SHADOW_PLANE = 4
"""Of the sheet of the hair in front: how much it darkens the skin."""

_CENTRE_Y = -0.10
_WITH_BACK = (
    Hairstyle.LONG,
    Hairstyle.WAVY,
    Hairstyle.BOB,
    Hairstyle.UPDO,
)
_NYQUIST = 0.35  # waves per pixel above which a strand texture fades out


@dataclass(frozen=True)
class _Cut:
    """What a hairstyle amounts to."""

    outer: Polar
    opening: Polar
    around: float  # strand phase per radian around the head
    across: float  # strand phase from the opening to the silhouette
    ragged: float  # how far strands stick out at the edges, half frames
    curl: float  # waviness of the strands, 0..1
    soft: float = 0.012  # over what length the hairline fades into the skin
    clumped: bool = False  # whether the tips gather in clumps over the forehead
    opacity: float = 1.0


def _half(right: list[tuple[float, float]], lean: float = 0.0) -> Polar:
    points = mirrored(right)
    points[:, 0] += lean * np.exp(-np.square((points[:, 1] + 0.6) / 0.25))
    return Polar(_CENTRE_Y, points)


def cut(identity: Identity) -> _Cut:
    """Outlines and flow of a person's hair."""
    hair, head = identity.hair, identity.head
    style, v, line = hair.style, hair.volume, hair.hairline
    w, temple = head.width, head.width * head.temple
    crown = [
        (0.0, -0.90 - v),
        (0.32, -0.845 - 0.95 * v),
        (0.89 * w + 0.75 * v, -0.62 - 0.45 * v),
        (temple + 0.035 + 0.55 * v, -0.30),
    ]
    cropped = [*crown, (w + 0.022, -0.06), (w - 0.06, 0.10), (0.30, 0.20), (0.0, 0.22)]
    temples = [(0.405, line + 0.10), (0.478, -0.33), (0.505, -0.17), (w - 0.030, -0.03)]
    away = [(0.64, 0.12), (0.62, 0.55), (0.35, 0.85), (0.0, 0.95)]
    match style:
        case Hairstyle.SHORT:
            opening = [(0.0, line), (0.24, line + 0.015), *temples, *away]
            return _Cut(
                _half(cropped, 0.03 * np.sign(hair.part)),
                _half(opening),
                9,
                1.5,
                0.010,
                0.25,
                0.035,
            )
        case Hairstyle.BUZZ:
            opening = [(0.0, line), (0.27, line + 0.012), *temples, *away]
            return _Cut(_half(cropped), _half(opening), 30, 4, 0.006, 0, 0.05, opacity=0.86)
        case Hairstyle.SIDE_PART:
            opening = [(0.0, line - 0.02), (0.26, line + 0.03), *temples, *away]
            return _Cut(
                _half(cropped, -0.3 * hair.part),
                _half(opening, 0.5 * hair.part),
                3.2,
                5.5,
                0.009,
                0.2,
                0.03,
            )
        case Hairstyle.FRINGE:
            low = -0.40 + 0.3 * (hair.volume - 0.08)
            opening = [
                (0.0, low),
                (0.26, low + 0.012),
                (0.43, low + 0.10),
                (0.50, -0.17),
                (w - 0.03, -0.02),
                *away,
            ]
            return _Cut(
                _half(cropped),
                _half(opening, 0.2 * hair.part),
                8,
                2.2,
                0.010,
                0.3,
                0.010,
                clumped=True,
            )
        case Hairstyle.CURLY:
            puff = 1.35 * v + 0.02
            outer = [
                (0.0, -0.92 - puff),
                (0.36, -0.86 - puff),
                (0.60 + 0.8 * puff, -0.62 - 0.5 * puff),
                (0.66 + puff, -0.25),
                (0.63 + puff, 0.0),
                (0.50, 0.16),
                (0.2, 0.22),
                (0.0, 0.22),
            ]
            opening = [(0.0, line + 0.02), (0.25, line + 0.03), *temples, *away]
            return _Cut(_half(outer), _half(opening), 6, 3, 0.016, 1.0, 0.03)
        case Hairstyle.UPDO:
            opening = [
                (0.0, line),
                (0.24, line + 0.02),
                (0.40, line + 0.12),
                (0.485, -0.30),
                (0.53, -0.16),
                (w + 0.012, -0.04),
                *away,
            ]
            return _Cut(_half(cropped), _half(opening, 0.2 * hair.part), 5, 0.8, 0.005, 0.15, 0.045)
        case Hairstyle.SCARF:
            outer = [
                (0.0, -0.95),
                (0.36, -0.885),
                (0.60, -0.62),
                (0.665, -0.20),
                (0.665, 0.25),
                (0.68, 0.60),
                (0.80, 0.95),
                (0.80, 1.30),
                (0.40, 1.50),
                (0.0, 1.55),
            ]
            opening = [
                (0.0, line + 0.0),
                (0.28, line + 0.04),
                (0.455, -0.34),
                (0.53, -0.05),
                (0.525, 0.22),
                (head.jaw * w * 0.97, 0.47),
                (0.33, head.chin - 0.10),
                (head.chin_width, head.chin + 0.005),
                (0.0, head.chin + 0.03),
            ]
            return _Cut(_half(outer), _half(opening), 0.9, 2.2, 0.0, 0.0)
        case Hairstyle.LONG | Hairstyle.WAVY | Hairstyle.BOB:
            return _long(hair, crown, w, line)
        case Hairstyle.BALD:
            raise ValueError("a bald head has no hair to cut")


def _long(hair: Hair, crown: list[tuple[float, float]], w: float, line: float) -> _Cut:
    """Hair that falls beside the face."""
    v = hair.volume
    if hair.style is Hairstyle.BOB:
        outer = [
            *crown,
            (w + 0.10 + 0.6 * v, 0.0),
            (w + 0.12 + 0.6 * v, 0.30),
            (w + 0.05 + 0.3 * v, 0.56),
            (0.42, 0.64),
            (0.2, 0.60),
            (0.0, 0.58),
        ]
        low = line + 0.17 if hair.part > 0 else line + 0.02
        opening = [
            (0.0, low),
            (0.27, low + 0.03),
            (0.45, low + 0.17),
            (0.515, -0.08),
            (0.535, 0.18),
            (0.475, 0.44),
            (0.50, 0.70),
            (0.30, 1.0),
            (0.0, 1.05),
        ]
        return _Cut(
            _half(outer),
            _half(opening, 0.2 * hair.part),
            2.6,
            3.4,
            0.004,
            0.25,
            clumped=hair.part > 0,
        )
    wide = 0.05 if hair.style is Hairstyle.WAVY else 0.0
    outer = [
        *crown,
        (w + 0.085 + 0.5 * v, 0.0),
        (w + 0.105 + 0.5 * v + wide, 0.35),
        (w + 0.15 + 0.5 * v + wide, 0.75),
        (w + 0.13 + wide, 1.25),
        (0.35, 1.55),
        (0.0, 1.6),
    ]
    opening = [
        (0.0, line - 0.03),
        (0.20, line + 0.045),
        (0.385, line + 0.17),
        (0.488, -0.22),
        (0.545, 0.02),
        (0.545, 0.28),
        (0.52, 0.58),
        (0.50, 0.95),
        (0.45, 1.55),
        (0.0, 1.75),
    ]
    curl = 0.9 if hair.style is Hairstyle.WAVY else 0.12
    return _Cut(_half(outer), _half(opening, 0.9 * hair.part), 1.2, 4.2, 0.004, curl)


class Strands:
    """Brightness along hair: waves of random frequency and phase over the strand phase."""

    def __init__(self, seed: int):
        rng = np.random.default_rng(seed)
        self._frequency = (rng.uniform(0.8, 1.25, 4) * (2.2, 5.3, 11.0, 23.0)).tolist()
        self._shift = rng.uniform(0, 2 * np.pi, (4, 2)).tolist()
        self.swirl = float(rng.uniform(0, 2 * np.pi))
        self._edge = rng.uniform(
            (28, 55, 90, 140, 0, 0, 0, 0), (40, 80, 130, 190, *[6.283] * 4)
        ).tolist()

    def __call__(self, phase: Plane, along: Plane, sharpness: float, spread: float) -> Plane:
        """About -1..1; `spread` is the length over which the phase grows by one."""
        total = np.zeros_like(phase)
        for frequency, (a, b), weight in zip(
            self._frequency, self._shift, (0.34, 0.30, 0.22, 0.20), strict=True
        ):
            waves_per_pixel = frequency / (2 * np.pi * spread * sharpness)
            weight *= float(np.exp(-((waves_per_pixel / _NYQUIST) ** 2)))
            bend = 0.9 * np.sin(along * (3.1 + 0.2 * frequency) + b)
            total += weight * np.sin(phase * frequency + bend + a)
        return total

    def edge(self, angle: Plane, amplitude: float) -> Plane:
        """Unevenness of an edge of the hair."""
        total = np.zeros_like(angle)
        for frequency, shift, weight in zip(
            self._edge[:4], self._edge[4:], (0.4, 0.4, 0.35, 0.3), strict=True
        ):
            total += (weight * amplitude) * np.sin(angle * frequency + shift)
        return total


def has_hair(identity: Identity) -> bool:
    """Whether there is anything for a `Mane` to paint."""
    return identity.hair.style is not Hairstyle.BALD


class Mane:
    """A person's hair, or the scarf in its place."""

    def __init__(self, identity: Identity):
        self._identity = identity
        self._hair = identity.hair
        self._cut = cut(identity)
        self._strands = Strands(identity.hair.seed)

    @property
    def has_back(self) -> bool:
        """Whether some of it is behind head and neck."""
        return self._hair.style in _WITH_BACK

    def paint_back(self, patch: Patch) -> None:
        """Paints what is behind head and neck."""
        hair, style, strands = self._hair, self._cut, self._strands
        if hair.style is Hairstyle.UPDO:
            x, y = patch.x - 0.3 * hair.part, patch.y + 0.97
            distance = norm(x, y * 1.1)
            swirl = np.arctan2(x, -y) * 0.6 + distance * 9
            light = 0.62 + 0.16 * strands(swirl, y, patch.sharpness, 0.1) - 0.5 * y
            patch.over(patch.inside(distance - 0.24, 0.012), self._tone(light))
            return
        angle, radius = style.outer.polar(patch.x, patch.y)
        tips = strands.edge(angle, 0.006)
        edge = style.outer.distance(style.outer.places(angle), radius)
        mask = patch.inside(edge + 0.015 + tips, 0.012)
        lines = strands(patch.x * 4, patch.y, patch.sharpness, 0.25)
        patch.over(mask, self._tone(0.36 + 0.10 * lines))

    def paint_front(self, patch: Patch) -> None:
        """Paints what is over forehead and temples and, when long, beside the face.

        One more plane (`SHADOW_PLANE`) receives the shadow on the skin.
        """
        identity, hair, style = self._identity, self._hair, self._cut
        angle, radius = style.outer.polar(patch.x, patch.y)
        places = style.outer.places(angle)
        outer, inner = style.outer.radius(places), style.opening.radius(places)
        across = (radius - inner) / np.maximum(outer - inner, 0.02)
        mask, to_opening = self._mask(patch, angle, places, radius)
        if hair.style is Hairstyle.SCARF:
            self._paint_cloth(patch, mask, to_opening, angle, across)
        else:
            light = self._light(patch, angle, across)
            light -= 0.22 * ridge(to_opening, 0.035)
            light -= 0.20 * smoothstep(0.75, 1.05, across)
            patch.over(mask * style.opacity, self._tone(np.clip(light, 0.12, 1.7)))
        # The shadow falls down and away from the light.
        angle, radius = style.opening.polar(patch.x + 0.012 * identity.light, patch.y - 0.030)
        places = style.opening.places(angle)
        shadow = smoothstep(-0.075, 0.01, style.opening.distance(places, radius))
        shadow *= smoothstep(0.0, 0.05, style.outer.radius(places) - style.opening.radius(places))
        patch.rgb[SHADOW_PLANE] = shadow * (0.34 * style.opacity)

    def _mask(
        self, patch: Patch, angle: Plane, places: Places, radius: Plane
    ) -> tuple[Plane, Plane]:
        """Coverage, and distance to the opening (positive in the hair)."""
        style, strands = self._cut, self._strands
        to_outer = style.outer.distance(places, radius) + strands.edge(angle, 0.35 * style.ragged)
        to_opening = style.opening.distance(places, radius) - strands.edge(angle, style.ragged)
        if style.curl > 0.8:
            to_outer += 0.012 * np.sin(angle * 23 + 3 * np.sin(patch.y * 9))
        if style.clumped:
            clumps = np.abs(np.sin(angle * 15 + strands.swirl + np.sin(angle * 7)))
            to_opening -= 0.030 * (clumps - 0.5) * (np.abs(angle) < 0.9)
        return patch.inside(to_outer, 0.010) * patch.inside(-to_opening, style.soft), to_opening

    def _light(self, patch: Patch, angle: Plane, across: Plane) -> Plane:
        """Brightness of the strands: a round head, and a bright band that they break up."""
        hair, style, strands = self._hair, self._cut, self._strands
        x, y = patch.x, patch.y
        # Strands start from the parting and fall to either side of it.
        from_part = np.abs(angle - hair.part * 1.6)
        wobble = style.curl * (
            0.20 * np.sin(7.5 * from_part + strands.swirl) + 0.10 * np.sin(17 * from_part)
        )
        phase = style.across * (across + wobble) + style.around * from_part
        lines = strands(phase, from_part * 2 + across, patch.sharpness, 0.16)
        if hair.style is Hairstyle.CURLY:
            curls = np.sin(x * 29 + 3.1 * np.sin(y * 17 + strands.swirl)) * np.sin(
                y * 31 + 2.7 * np.sin(x * 19)
            )
            lines = 0.35 * lines + 0.75 * curls
        round_ = np.clip(1 - np.square(x * (1 / 0.75)), 0, 1)
        band_y = y + 0.70 + 0.28 * np.square(x) - 0.03 * lines
        if style.across > style.around and hair.style is not Hairstyle.SIDE_PART:
            band_y = np.minimum(np.abs(band_y), np.abs(y + 0.28 - 0.05 * lines) + 0.03)
        band = ridge(band_y, 0.115) * (0.75 + 0.5 * lines)
        return 0.60 + 0.26 * round_ + 0.26 * lines + 0.30 * self._identity.light * x + 0.34 * band

    def _paint_cloth(
        self, patch: Patch, mask: Plane, to_opening: Plane, angle: Plane, across: Plane
    ) -> None:
        """A scarf: broad soft folds around the face and a hem."""
        folds = 0.10 * np.sin(across * 11 + 1.6 * np.abs(angle) + self._strands.swirl)
        folds += 0.07 * np.sin(across * 5 - 2.4 * angle)
        light = 0.80 + folds + 0.22 * self._identity.light * patch.x
        light += 0.16 * ridge(across - 0.45, 0.4) - 0.30 * ridge(to_opening, 0.022)
        light -= 0.25 * smoothstep(0.35, 1.0, patch.y)
        patch.over(mask, [np.clip(c * light, 0, 1) for c in self._hair.colour])

    def _tone(self, light: Plane) -> list[Plane]:
        """The hair's colour under a light, with a little white where it is strong."""
        white = 0.30 * np.clip(light - 1.0, 0, 1)
        return [np.clip(c * light + white * (0.45 + 0.55 * c), 0, 1) for c in self._hair.colour]
