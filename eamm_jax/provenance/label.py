"""A visible label in a corner of the picture."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from eamm_jax.constants import LABEL_CORNERS
from eamm_jax.errors import UserError

_LONGEST = 80
"""Letters."""

_MARGIN = 0.4
"""Around the text and the label, in heights of the text."""

_DARKENED = 0.35
"""What is left of the picture's light behind the text."""


@dataclasses.dataclass(frozen=True)
class Label:
    """Words that every frame shows.

    Attributes:
        text: one line.
        corner: one of `LABEL_CORNERS`.
        size: height of the letters, as a share of the picture's height.
    """

    text: str
    corner: str = LABEL_CORNERS[0]
    size: float = 0.05

    def check(self) -> None:
        """Finds out whether it can be drawn.

        Raises:
            UserError: it cannot.
        """
        text = self.text.strip()
        if not text or len(text) > _LONGEST or not text.isprintable():
            raise UserError(
                f"The label {self.text!r} is not one line of up to {_LONGEST} printable letters"
            )
        if self.corner not in LABEL_CORNERS:
            raise UserError(
                f"The label's corner is {self.corner!r}; allowed are {', '.join(LABEL_CORNERS)}"
            )
        if not 0.02 <= self.size <= 0.5:
            raise UserError(f"The label's size is {self.size:g}; allowed is 0.02 to 0.5")
        if not ImageFont.load_default(100).getbbox(text)[2]:
            raise UserError(f"The label {self.text!r} shows nothing")

    def draw(self, frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """A copy of a frame with the label."""
        height, width = frame.shape[:2]
        letters = _letters(self.text.strip(), max(8, round(self.size * height)), width)
        rows, columns = min(letters.shape[0], height), min(letters.shape[1], width)
        gap = round(_MARGIN * self.size * height)
        top = gap if self.corner.startswith("top") else height - rows - gap
        left = gap if self.corner.endswith("left") else width - columns - gap
        place = slice(max(top, 0), max(top, 0) + rows), slice(max(left, 0), max(left, 0) + columns)
        labelled = frame.copy()
        covered = letters[:rows, :columns, None]
        behind = frame[place] * _DARKENED
        labelled[place] = np.round(behind + covered * (255 - behind))
        return labelled


@lru_cache(maxsize=8)
def _letters(text: str, pixels: int, width: int) -> np.ndarray:
    """White on black, in [0, 1], of so many pixels for a picture of a width; drawn once."""
    left, top, right, bottom = ImageFont.load_default(pixels).getbbox(text)
    margin = max(2, round(_MARGIN * pixels))
    if right - left + 4 * margin > width:  # what is too long is set smaller
        pixels = max(6, int(pixels * width / (right - left + 4 * margin)))
        left, top, right, bottom = ImageFont.load_default(pixels).getbbox(text)
        margin = max(1, round(_MARGIN * pixels))
    size = (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin)
    image = Image.new("L", size)
    place = (margin - left, margin - top)
    ImageDraw.Draw(image).text(place, text, 255, font=ImageFont.load_default(pixels))
    return np.asarray(image, np.float32) / 255
