"""Backdrops, and what a camera does to a picture."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter, shift

from data.synthetic.heads.looks import Scene, linear
from data.synthetic.heads.mesh import smoothstep

Picture = Float32[np.ndarray, "h w 3"]

KINDS = ("wall", "wall", "room", "room", "lights", "leaves", *("studio",) * 4)
"""Of backdrops; portraits are often taken before a plain one."""

BURNT = 2.0
"""Linear light of which film and sensors make plain white, as in photographs for passports."""


def backdrop(scene: Scene, size: int) -> Picture:
    """What is behind the person, linear light: a wall, a room, lights, leaves, or nothing."""
    rng = np.random.default_rng(scene.backdrop)
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
    base = rng.choice([0.06, 0.16, 0.30, 0.5, 0.7, 0.88, 0.98])
    base = np.clip(base + rng.normal(0, rng.choice([0.01, 0.03, 0.07]), 3), 0.01, 1)
    other = np.clip(base + rng.normal(0, 0.2) + rng.normal(0, 0.04, 3), 0.01, 1)
    angle = rng.uniform(0, 2 * np.pi)
    t = smoothstep(-0.6, 0.6, (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle))[..., None]
    image = base * (1 - t) + other * t
    kind = rng.choice(KINDS)
    if kind == "studio":
        burnt = rng.random() < 0.5
        return np.full((size, size, 3), BURNT if burnt else linear(base), np.float32)
    if kind == "wall":
        rough = gaussian_filter(rng.normal(size=(size, size)), size / 60, mode="wrap")
        image = image + (rough / rough.std())[..., None] * rng.uniform(0, 0.02)
    elif kind == "room":
        for _ in range(int(rng.integers(4, 14))):
            x0, y0 = rng.uniform(-0.1, 1, 2)
            w, h = rng.uniform(0.04, 0.5), rng.uniform(0.08, 0.9)
            box = (x > x0) & (x < x0 + w) & (y > y0) & (y < y0 + h)
            image[box] = np.clip(base + rng.normal(0, 0.2) + rng.normal(0, 0.05, 3), 0.01, 1)
        blur = size * rng.uniform(0.004, 0.03)
        image = gaussian_filter(image, (blur, blur, 0))
    elif kind == "lights":
        for _ in range(int(rng.integers(8, 30))):
            x0, y0, radius = *rng.random(2), rng.uniform(0.01, 0.06)
            disc = smoothstep(radius, radius * 0.8, np.hypot(x - x0, y - y0))[..., None]
            glow = np.clip(np.array([1, 0.85, 0.65]) * rng.uniform(0.4, 1), 0, 1)
            image = image * (1 - 0.6 * disc) + 0.6 * disc * glow
        image = gaussian_filter(image, (size / 120, size / 120, 0))
    else:
        for scale in (size / 12, size / 30):
            spots = gaussian_filter(
                rng.normal(size=(size, size, 3)), (scale, scale, 0), mode="wrap"
            )
            shared = spots.mean(-1, keepdims=True)
            mix = 0.3 * spots / spots.std() + shared / shared.std()
            image = image + 0.09 * mix * np.array([0.8, 1.1, 0.6])
    return linear(np.clip(image, 0, 1)).astype(np.float32)


def moved(picture: Picture, scene: Scene, moment: int) -> Picture:
    """The backdrop at a moment, for a camera that is held by hand."""
    if not scene.shake:
        return picture
    rng = np.random.default_rng(scene.backdrop)
    pace, phase = rng.uniform(0.05, 0.35, 4), rng.uniform(0, 2 * np.pi, 4)
    a, b, c, d = np.sin(pace * moment + phase)
    scale = scene.shake * len(picture) / 256
    return shift(
        picture, (scale * (a + 0.5 * b), scale * (c + 0.5 * d), 0), order=1, mode="nearest"
    )


def photograph(
    picture: Picture, scene: Scene, noise_seed: tuple[int, ...]
) -> UInt8[np.ndarray, "h w 3"]:
    """A picture of 8 bits from linear light: exposure, tone curve, lens, sensor and JPEG."""
    size = len(picture)
    light = np.maximum(picture * (scene.exposure * scene.white).astype(np.float32), 0)
    # A shoulder, so that highlights do not clip.
    light = np.where(light > 0.7, 0.7 + 0.3 * (1 - np.exp(-(light - 0.7) / 0.3)), light)
    tone = np.power(light, 1 / 2.2)
    tone = tone + scene.contrast * 0.5 * (tone * tone * (3 - 2 * tone) - tone)
    blur = scene.blur * size / 256
    tone = 255 * gaussian_filter(tone, (blur, blur, 0))
    rng = np.random.default_rng(noise_seed)
    grain = rng.standard_normal((size, size, 1), np.float32)
    tint = rng.standard_normal((size, size, 3), np.float32)
    tone = tone + scene.noise * (0.8 * grain + 0.4 * tint)
    image = np.clip(tone + 0.5, 0, 255).astype(np.uint8)
    if not scene.jpeg:
        return image
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=scene.jpeg)
    return np.array(Image.open(buffer))
