"""Who is rendered: everything about a person and their surroundings that stays the same.

Colours are sRGB in [0, 1], lengths centimetres. `sample` gives a plausible person for a random
generator; the same generator state gives the same person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Colour = Float[np.ndarray, " 3"]

SKIN_TONES = np.array(
    [
        [0.88, 0.72, 0.64],
        [0.82, 0.64, 0.545],
        [0.755, 0.565, 0.46],
        [0.655, 0.47, 0.365],
        [0.52, 0.36, 0.275],
        [0.375, 0.255, 0.20],
        [0.285, 0.195, 0.16],
    ]
)
"""From very light to very dark; people are in between."""

HAIR_COLOURS = {
    "black": (0.055, 0.047, 0.045),
    "dark brown": (0.14, 0.10, 0.08),
    "brown": (0.24, 0.165, 0.115),
    "light brown": (0.36, 0.26, 0.175),
    "blond": (0.58, 0.46, 0.30),
    "red": (0.42, 0.20, 0.11),
    "grey": (0.48, 0.47, 0.46),
    "white": (0.74, 0.73, 0.71),
}

IRIS_COLOURS = np.array(
    [
        [0.15, 0.085, 0.05],
        [0.23, 0.14, 0.075],
        [0.31, 0.24, 0.13],
        [0.29, 0.34, 0.24],
        [0.30, 0.41, 0.50],
        [0.42, 0.48, 0.52],
    ]
)

CLOTHES = np.array(
    [
        [0.05, 0.05, 0.06],
        [0.11, 0.11, 0.13],
        [0.15, 0.17, 0.22],
        [0.88, 0.88, 0.86],
        [0.20, 0.25, 0.38],
        [0.45, 0.16, 0.17],
        [0.28, 0.32, 0.28],
        [0.60, 0.55, 0.48],
        [0.35, 0.45, 0.55],
        [0.55, 0.42, 0.50],
    ]
)

FEMININE_STYLES = ("long", "long", "bob", "tied", "tied", "short", "curly", "afro")
MASCULINE_STYLES = ("buzz", "short", "short", "side", "swept", "curly", "afro", "bald", "receding")


class Lamp(NamedTuple):
    """A distant light: where it is, and its colour times strength."""

    direction: Colour
    colour: Colour


@dataclass(frozen=True)
class Scene:
    """Light, backdrop and camera.

    Attributes:
        lamps: the first casts shadows.
        sky: light from above.
        ground: light from below.
        exposure: factor on all light.
        white: of the camera's white balance.
        distance: of the camera from the face.
        backdrop: seed of what is behind.
        blur: standard deviation of the lens, pixels of 256.
        noise: standard deviation of the sensor's noise, of 255.
        jpeg: quality, or 0 for none.
        shake: standard deviation of the backdrop's movement, pixels of 256.
        contrast: strength of the camera's tone curve.
    """

    lamps: tuple[Lamp, ...]
    sky: Colour
    ground: Colour
    exposure: float
    white: Colour
    distance: float
    backdrop: int
    blur: float
    noise: float
    jpeg: int
    shake: float
    contrast: float


@dataclass(frozen=True)
class Look:
    """A person.

    Attributes:
        seed: of everything that is not said here.
        feminine: appearance.
        modes: identity weights of the head model.
        tone: skin, 0 (lightest) to 6.
        skin: its colour.
        age: 0 (twenties) to 1 (seventies).
        freckles: 0 to 1.
        blemishes: 0 to 1.
        blush: redness of cheeks and nose.
        lipstick: 0 to 1.
        lip_colour: of the lipstick.
        eye_make_up: 0 to 1.
        iris: colour.
        lids: how far the upper lids hang at rest.
        hair: colour.
        style: of the hair.
        hair_length: factor.
        hair_volume: factor.
        parting: where the hair parts, centimetres to picture right.
        brow: colour.
        brow_thickness: half height.
        brow_density: hairs.
        brow_height: above the model's, negative below.
        brow_arch: how much the middle rises.
        brow_tilt: how much the outer end rises.
        stubble: shadow of a beard, 0 to 1.
        beard: length; 0 for none.
        beard_kind: full, goatee or moustache.
        glasses: radius of the frame's wires; 0 for none.
        glasses_shape: width and height of a lens, and its roundness.
        glasses_colour: of the frame.
        teeth: how far the upper row hangs below the lip line.
        clothes: colours of shirt and jacket.
        neckline: height at the front, depth of the V.
        jacket: whether a jacket is worn.
        strength: of expressions, factors by expression shape.
        asymmetry: of expressions, -1 (left only) to 1.
        scene: surroundings.
    """

    seed: int
    feminine: bool
    modes: Float[np.ndarray, " modes"]
    tone: float
    skin: Colour
    age: float
    freckles: float
    blemishes: float
    blush: float
    lipstick: float
    lip_colour: Colour
    eye_make_up: float
    iris: Colour
    lids: float
    hair: Colour
    style: str
    hair_length: float
    hair_volume: float
    parting: float
    brow: Colour
    brow_thickness: float
    brow_density: int
    brow_height: float
    brow_arch: float
    brow_tilt: float
    stubble: float
    beard: float
    beard_kind: str
    glasses: float
    glasses_shape: tuple[float, float, float]
    glasses_colour: Colour
    teeth: float
    clothes: Float[np.ndarray, "2 3"]
    neckline: tuple[float, float]
    jacket: bool
    strength: Float[np.ndarray, " expressions"]
    asymmetry: float
    scene: Scene


def linear(colour: Float[np.ndarray, "*b"]) -> Float[np.ndarray, "*b"]:
    """SRGB to light (gamma 2.2)."""
    return np.power(np.clip(colour, 0, 1), 2.2)


def sample(
    rng: np.random.Generator, feminine: bool, modes: int = 100, expressions: int = 53
) -> Look:
    """Draws a person."""

    def chance(probability: float) -> bool:
        return bool(rng.random() < probability)

    def pick(options: Float[np.ndarray, "n 3"], spread: float = 0.02) -> Colour:
        chosen = options[int(rng.integers(len(options)))]
        return np.clip(chosen * rng.uniform(0.85, 1.15) + rng.normal(0, spread, 3), 0.02, 0.95)

    weights = np.clip(rng.normal(size=modes), -2.2, 2.2)
    weights[0] = (1 if feminine else -1) * abs(rng.normal(0.5, 0.7))
    tone = float(rng.uniform(0, 6))
    step, part = divmod(min(tone, 5.999), 1)
    skin = SKIN_TONES[int(step)] * (1 - part) + SKIN_TONES[int(step) + 1] * part
    skin = np.clip(skin * rng.uniform(0.95, 1.05) * rng.normal(1, 0.014, 3), 0.05, 0.97)
    age = float(rng.random() ** 1.5)

    shades = ["black", "black", "dark brown"]
    if tone < 2.6:
        shades += ["dark brown", "brown", "brown", "light brown", "blond", "blond", "red"]
    hair = np.array(HAIR_COLOURS[shades[int(rng.integers(len(shades)))]])
    hair = np.clip(hair * rng.uniform(0.75, 1.3) * rng.normal(1, 0.03, 3), 0.02, 0.9)
    grey = float(np.clip((age - 0.45) * 2 * rng.uniform(0.3, 1.6), 0, 1))
    if feminine and chance(0.5):
        grey = 0.0  # dyed
    hair = hair * (1 - grey) + np.array(HAIR_COLOURS["white" if chance(0.4) else "grey"]) * grey
    styles = FEMININE_STYLES if feminine else MASCULINE_STYLES
    style = styles[int(rng.integers(len(styles)))]
    if style == "afro" and tone < 3.5:
        style = "curly" if chance(0.5) else "short"
    if style in ("long", "swept", "bob") and tone > 4.5 and chance(0.5):
        style = "tied" if feminine else "buzz"

    beard, beard_kind = 0.0, "full"
    if not feminine and chance(0.38):
        beard = float(rng.uniform(0.25, 1.0))
        beard_kind = ("full", "full", "goatee", "moustache")[int(rng.integers(4))]
    strength = rng.lognormal(0, 0.16, expressions)
    return Look(
        seed=int(rng.integers(2**31)),
        feminine=feminine,
        modes=weights,
        tone=tone,
        skin=skin,
        age=age,
        freckles=float(rng.uniform(0.3, 1)) if tone < 2 and chance(0.25) else 0.0,
        blemishes=float(rng.random() ** 2),
        blush=float(rng.uniform(0.4, 1.1)),
        lipstick=float(rng.uniform(0.25, 0.9)) if feminine and chance(0.5) else 0.0,
        lip_colour=np.clip(
            np.array([0.62, 0.24, 0.27]) + rng.normal(0, 0.06, 3) + rng.normal(0, 0.05), 0.05, 0.9
        ),
        eye_make_up=float(rng.uniform(0.2, 0.9)) if feminine and chance(0.55) else 0.0,
        iris=IRIS_COLOURS[int(rng.integers(6 if tone < 2.2 else 2))] * rng.uniform(0.8, 1.25),
        lids=float(rng.uniform(0.0, 0.16)),
        hair=hair,
        style=style,
        hair_length=float(rng.uniform(0.75, 1.3)),
        hair_volume=float(rng.uniform(0.75, 1.35)),
        parting=float(rng.choice([-1, 1]) * rng.uniform(0, 3.6)),
        brow=np.clip(hair * min(1, 0.48 / hair.max()) * rng.uniform(0.65, 1.0), 0.02, 0.5),
        brow_thickness=float(rng.uniform(0.16, 0.30) if feminine else rng.uniform(0.24, 0.42)),
        brow_density=int(rng.uniform(220, 420) if feminine else rng.uniform(300, 560)),
        brow_height=float(rng.uniform(-0.55, -0.05) if feminine else rng.uniform(-0.85, -0.3)),
        brow_arch=float(rng.uniform(-0.1, 0.3)),
        brow_tilt=float(rng.normal(0, 0.2)),
        stubble=0.0 if feminine else float(rng.uniform(0, 0.8) ** 1.3),
        beard=beard,
        beard_kind=beard_kind,
        glasses=float(rng.choice([0.06, 0.09, 0.16])) if chance(0.2) else 0.0,
        glasses_shape=(
            float(rng.uniform(2.3, 2.8)),
            float(rng.uniform(1.7, 2.3)),
            float(rng.choice([2.0, 2.6, 4.0])),
        ),
        glasses_colour=pick(np.array([[0.06, 0.06, 0.06], [0.25, 0.15, 0.08], [0.55, 0.53, 0.5]])),
        teeth=float(rng.uniform(0.15, 0.40)),
        clothes=np.stack([pick(CLOTHES), pick(CLOTHES)]),
        neckline=(float(rng.uniform(-12.6, -10.2)), float(rng.uniform(0, 0.6))),
        jacket=chance(0.35),
        strength=np.clip(strength, 0.65, 1.4),
        asymmetry=float(np.clip(rng.normal(0, 0.12), -0.3, 0.3)),
        scene=sample_scene(rng, float(linear(skin).mean())),
    )


def sample_scene(rng: np.random.Generator, brightness: float) -> Scene:
    """Draws surroundings: one main lamp, a weaker one, and sometimes one from behind.

    Args:
        rng: randomness.
        brightness: share of the light that the skin reflects, which the camera adapts to.
    """

    def direction(azimuth: float, height: float) -> Colour:
        a, h = np.radians([azimuth, height])
        return np.array([np.sin(a) * np.cos(h), np.sin(h), np.cos(a) * np.cos(h)])

    def warmth(spread: float) -> Colour:
        w = float(np.clip(rng.normal(0, spread), -2 * spread, 2 * spread))
        return np.array([1 + w, 1.0, 1 - w])

    side = float(rng.choice([-1, 1]))
    key = Lamp(
        direction(side * rng.uniform(5, 62), rng.uniform(12, 55)),
        warmth(0.08) * rng.uniform(0.8, 2.2),
    )
    fill = Lamp(
        direction(-side * rng.uniform(15, 75), rng.uniform(-8, 35)),
        warmth(0.08) * rng.uniform(0.1, 0.7),
    )
    lamps = [key, fill]
    if rng.random() < 0.4:
        behind = direction(float(rng.choice([-1, 1])) * rng.uniform(115, 150), rng.uniform(10, 50))
        lamps.append(Lamp(behind, warmth(0.12) * rng.uniform(0.3, 1.2)))
    sky = warmth(0.08) * rng.uniform(0.45, 1.2)
    ground = sky * warmth(0.06) * rng.uniform(0.25, 0.7)
    level = float(np.mean(key.colour) * 0.55 + np.mean(fill.colour) * 0.4 + np.mean(sky) * 0.6)
    return Scene(
        lamps=tuple(lamps),
        sky=sky,
        ground=ground,
        exposure=float(rng.uniform(0.8, 1.15)) * 0.85 * (0.3 / brightness) ** 0.35 / level,
        white=warmth(0.035),
        distance=float(np.exp(rng.uniform(np.log(55), np.log(220)))),
        backdrop=int(rng.integers(2**31)),
        blur=float(rng.uniform(0.25, 0.75)),
        noise=float(rng.uniform(0.4, 3.2)),
        jpeg=int(rng.integers(70, 97)) if rng.random() < 0.8 else 0,
        shake=float(rng.uniform(0, 1.5)) if rng.random() < 0.15 else 0.0,
        contrast=float(rng.uniform(0.0, 0.5)),
    )
