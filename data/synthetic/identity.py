"""Who is drawn: everything about a portrait that stays the same while it moves.

Lengths are in half frames (see `camera`), colours RGB in [0, 1], chances are per identity.
`sample` draws a plausible person from a random generator; the same generator state gives the
same person.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

Colour = tuple[float, float, float]


class Hairstyle(Enum):
    """How the hair is worn."""

    SHORT = "short"
    SIDE_PART = "side part"
    FRINGE = "fringe"
    BUZZ = "buzz"
    BALD = "bald"
    CURLY = "curly"
    LONG = "long"
    WAVY = "wavy"
    BOB = "bob"
    UPDO = "updo"
    SCARF = "scarf"


class Neckline(Enum):
    """How the clothes end at the neck."""

    ROUND = "round"
    V = "v"
    SHIRT = "shirt"
    ROLL = "roll"


@dataclass(frozen=True)
class Skin:
    """Colour and condition of the skin."""

    tone: Colour
    rosiness: float  # redness of cheeks and nose, 0..1
    freckles: float  # 0..1
    age: float  # folds and lines, 0 (twenties) .. 1 (sixties)


@dataclass(frozen=True)
class HeadShape:
    """Outline of the face and the ears."""

    width: float  # half width at the cheekbones
    temple: float  # half width at the brows, relative to width
    jaw: float  # half width at the mouth, relative to width
    chin_width: float  # half width just above the chin
    chin: float  # height of the chin
    ear: float  # half height of the ears


@dataclass(frozen=True)
class EyeShape:
    """Both eyes; the right one mirrors the left."""

    x: float  # distance of the centre from the middle of the face
    y: float
    half_width: float
    upper: float  # height of the upper lid above the line of the corners
    lower: float  # depth of the lower lid below it
    tilt: float  # radians, outer corner up
    fold: float  # height of the crease above the lid edge, 0 for none
    iris_radius: float
    iris: Colour
    lashes: float  # 0..1


@dataclass(frozen=True)
class BrowShape:
    """Both brows."""

    height: float  # above the eye's centre
    arch: float
    thickness: float
    slant: float  # outer end higher than the inner
    colour: Colour


@dataclass(frozen=True)
class NoseShape:
    """The nose."""

    base: float  # height of its underside
    half_width: float  # at the wings
    bridge: float  # half width of the bridge
    length: float  # how far the tip stands out


@dataclass(frozen=True)
class MouthShape:
    """The mouth at rest."""

    y: float  # height of the line between the lips
    half_width: float
    upper: float  # thickness of the upper lip
    lower: float
    bow: float  # depth of the dip in the upper lip, 0..1
    colour: Colour


@dataclass(frozen=True)
class Hair:
    """Hair of the head (or the cloth that covers it)."""

    style: Hairstyle
    colour: Colour
    volume: float  # height above the skull
    hairline: float  # height of the hairline at the middle
    part: float  # position of the parting, x
    seed: int  # of the strands


@dataclass(frozen=True)
class Beard:
    """Facial hair; zero density is clean-shaven."""

    density: float  # 0..1; below 0.35 it is stubble
    cheeks: float  # how far up the cheeks it grows, 0..1
    moustache: float  # 0..1
    colour: Colour


@dataclass(frozen=True)
class Glasses:
    """Spectacles."""

    half_width: float
    half_height: float
    corner: float  # exponent of the rim's superellipse, 2 is an ellipse
    thickness: float
    colour: Colour


@dataclass(frozen=True)
class Clothes:
    """What is worn below the neck."""

    neckline: Neckline
    colour: Colour
    accent: Colour


@dataclass(frozen=True)
class Background:
    """What is behind: a gradient with soft blots of light."""

    top: Colour
    bottom: Colour
    blots: float  # 0..1
    seed: int


@dataclass(frozen=True)
class Identity:
    """A person and the place where the portrait is taken."""

    skin: Skin
    head: HeadShape
    eyes: EyeShape
    brows: BrowShape
    nose: NoseShape
    mouth: MouthShape
    hair: Hair
    beard: Beard
    glasses: Glasses | None
    earrings: Colour | None
    clothes: Clothes
    background: Background
    light: float  # where the light comes from, -1 picture left .. 1 right
    feminine: bool  # which voices and styles are drawn from


_SKIN_TONES: tuple[Colour, ...] = (
    (0.98, 0.84, 0.76),
    (0.96, 0.79, 0.68),
    (0.93, 0.74, 0.60),
    (0.87, 0.66, 0.51),
    (0.78, 0.56, 0.41),
    (0.66, 0.45, 0.32),
    (0.52, 0.34, 0.24),
    (0.40, 0.26, 0.19),
)
_HAIR_COLOURS: tuple[Colour, ...] = (
    (0.09, 0.075, 0.075),
    (0.17, 0.11, 0.085),
    (0.27, 0.17, 0.11),
    (0.40, 0.25, 0.15),
    (0.58, 0.40, 0.22),
    (0.80, 0.64, 0.38),
    (0.56, 0.25, 0.12),
)
_GREY: Colour = (0.66, 0.65, 0.65)
_IRIS_COLOURS: tuple[Colour, ...] = (
    (0.33, 0.20, 0.11),
    (0.24, 0.14, 0.08),
    (0.45, 0.31, 0.14),
    (0.30, 0.47, 0.62),
    (0.34, 0.50, 0.36),
    (0.46, 0.54, 0.58),
)
_FEMININE_STYLES = {
    Hairstyle.LONG: 4,
    Hairstyle.WAVY: 4,
    Hairstyle.BOB: 3,
    Hairstyle.UPDO: 3,
    Hairstyle.CURLY: 1.5,
    Hairstyle.FRINGE: 1,
    Hairstyle.SCARF: 1,
}
_MASCULINE_STYLES = {
    Hairstyle.SHORT: 5,
    Hairstyle.SIDE_PART: 4,
    Hairstyle.FRINGE: 2,
    Hairstyle.BUZZ: 2,
    Hairstyle.CURLY: 1.5,
    Hairstyle.BALD: 1,
    Hairstyle.LONG: 0.6,
}


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    k = (np.array([5.0, 3.0, 1.0]) + 6 * hue) % 6
    r, g, b = value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)
    return float(r), float(g), float(b)


class _Dice:
    """A random generator that gives Python numbers."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def seed(self) -> int:
        return int(self.rng.integers(2**31))

    def near(self, colour: Colour, spread: float, gain: float = 0.0) -> Colour:
        """A colour near another: brightness within 1 +- gain, each channel +- spread."""
        bright = self.between(1 - gain, 1 + gain)
        r, g, b = (
            float(np.clip(c * bright + self.between(-spread, spread), 0.02, 1)) for c in colour
        )
        return r, g, b

    def choose(self, options: tuple[Colour, ...]) -> Colour:
        return options[int(self.rng.integers(len(options)))]

    def weighted(self, options: dict[Hairstyle, float]) -> Hairstyle:
        weights = np.array(list(options.values()))
        return list(options)[int(self.rng.choice(len(weights), p=weights / weights.sum()))]


def _mix(a: Colour, b: Colour, t: float) -> Colour:
    r, g, u = ((1 - t) * x + t * y for x, y in zip(a, b, strict=True))
    return r, g, u


def sample(rng: np.random.Generator) -> Identity:
    """Draws a person."""
    dice = _Dice(rng)
    u = dice.between
    feminine = dice.chance(0.5)
    depth = int(rng.integers(len(_SKIN_TONES)))  # 0 the palest
    age = u(0, 1) ** 1.6
    skin = Skin(
        tone=dice.near(_SKIN_TONES[depth], 0.012, 0.03),
        rosiness=u(0.2, 1) * (1 - 0.09 * depth),
        freckles=u(0.3, 1) if depth < 4 and dice.chance(0.18) else 0.0,
        age=age,
    )
    head = HeadShape(
        width=u(0.54, 0.59),
        temple=u(0.94, 0.99),
        jaw=u(0.74, 0.84) if feminine else u(0.80, 0.91),
        chin_width=u(0.13, 0.18) if feminine else u(0.16, 0.24),
        chin=u(0.74, 0.80) if feminine else u(0.77, 0.83),
        ear=u(0.145, 0.175),
    )
    # The darker the skin, the darker hair and eyes tend to be.
    shades = _HAIR_COLOURS if depth < 4 else _HAIR_COLOURS[:3]
    hair_colour = dice.near(dice.choose(shades), 0.012, 0.12)
    irises = _IRIS_COLOURS if depth < 4 else _IRIS_COLOURS[:3]
    iris = dice.near(dice.choose(irises), 0.03, 0.1)
    greyness = float(np.clip((age - 0.62) * 2.6, 0, 1)) * u(0.4, 1)
    natural = _mix(hair_colour, _GREY, greyness)
    eyes = EyeShape(
        x=u(0.245, 0.268),
        y=u(-0.135, -0.105),
        half_width=u(0.118, 0.132) if feminine else u(0.110, 0.124),
        upper=u(0.062, 0.076) if feminine else u(0.052, 0.066),
        lower=u(0.036, 0.046),
        tilt=u(0.0, 0.16),
        fold=0.0 if dice.chance(0.12) else u(0.020, 0.034),
        iris_radius=u(0.056, 0.063),
        iris=iris,
        lashes=u(0.6, 1) if feminine else u(0.15, 0.45),
    )
    brow_colour = dice.near(_mix(natural, (0.12, 0.09, 0.08), 0.35), 0.01)
    brows = BrowShape(
        height=u(0.155, 0.185),
        arch=u(0.018, 0.045) if feminine else u(0.006, 0.028),
        thickness=u(0.015, 0.023) if feminine else u(0.020, 0.033),
        slant=u(-0.005, 0.035),
        colour=brow_colour,
    )
    nose = NoseShape(
        base=u(0.195, 0.235),
        half_width=u(0.082, 0.104) + 0.003 * depth,
        bridge=u(0.030, 0.042),
        length=u(0.09, 0.13),
    )
    natural_lips = tuple(c * k for c, k in zip(skin.tone, (0.86, 0.60, 0.58), strict=True))
    lipstick = dice.near(
        dice.choose(((0.74, 0.20, 0.24), (0.80, 0.36, 0.38), (0.58, 0.15, 0.22))), 0.04
    )
    painted = u(0.2, 0.8) if feminine and dice.chance(0.55) else 0.0
    mouth = MouthShape(
        y=u(0.395, 0.425),
        half_width=u(0.178, 0.205) if feminine else u(0.188, 0.218),
        upper=u(0.032, 0.046) if feminine else u(0.024, 0.038),
        lower=u(0.044, 0.060) if feminine else u(0.036, 0.052),
        bow=u(0.2, 0.6),
        colour=_mix(natural_lips, lipstick, painted),  # type: ignore[arg-type]
    )
    style = dice.weighted(_FEMININE_STYLES if feminine else _MASCULINE_STYLES)
    flat = style in (Hairstyle.BUZZ, Hairstyle.BALD)
    cloth = _hsv(u(0, 1), u(0.15, 0.6), u(0.35, 0.85))
    hair = Hair(
        style=style,
        colour=cloth if style is Hairstyle.SCARF else natural,
        volume=u(0.012, 0.022) if flat else u(0.04, 0.12),
        hairline=u(-0.60, -0.53) - (0.05 * age if not feminine else 0.0),
        part=u(-0.2, 0.2) if style is not Hairstyle.SIDE_PART else (-1) ** depth * u(0.18, 0.28),
        seed=dice.seed(),
    )
    bearded = not feminine and dice.chance(0.5)
    beard = Beard(
        density=u(0.2, 1.0) if bearded else 0.0,
        cheeks=u(0.1, 0.8),
        moustache=u(0.6, 1) if bearded and dice.chance(0.85) else 0.0,
        colour=dice.near(_mix(natural, brow_colour, 0.5), 0.01),
    )
    glasses = (
        Glasses(
            half_width=u(0.168, 0.190),
            half_height=u(0.110, 0.150),
            corner=u(2.2, 4.5),
            thickness=u(0.007, 0.017),
            colour=dice.near(
                dice.choose(((0.08, 0.08, 0.09), (0.30, 0.17, 0.10), (0.55, 0.50, 0.42))), 0.02
            ),
        )
        if dice.chance(0.18)
        else None
    )
    earrings = (
        dice.near(dice.choose(((0.92, 0.80, 0.45), (0.88, 0.88, 0.90))), 0.03)
        if feminine and dice.chance(0.4)
        else None
    )
    clothes = Clothes(
        neckline=tuple(Neckline)[int(rng.integers(len(Neckline)))],
        colour=_hsv(u(0, 1), u(0.1, 0.65), u(0.18, 0.75)),
        accent=_hsv(u(0, 1), u(0.0, 0.25), u(0.75, 0.96)),
    )
    hue, saturation, value = u(0, 1), u(0.08, 0.42), u(0.42, 0.86)
    background = Background(
        top=_hsv(hue, saturation, value),
        bottom=_hsv((hue + u(-0.08, 0.08)) % 1, saturation * u(0.6, 1.1), value * u(0.45, 0.8)),
        blots=u(0.3, 1) if dice.chance(0.4) else 0.0,
        seed=dice.seed(),
    )
    return Identity(
        skin=skin,
        head=head,
        eyes=eyes,
        brows=brows,
        nose=nose,
        mouth=mouth,
        hair=hair,
        beard=beard,
        glasses=glasses,
        earrings=earrings,
        clothes=clothes,
        background=background,
        light=(-1) ** int(rng.integers(2)) * u(0.25, 0.9),
        feminine=feminine,
    )
