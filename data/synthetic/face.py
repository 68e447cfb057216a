"""The geometry of one face in one expression: outline, lids, brows and lips as curves.

Painter and landmarks both read it, which is why the landmarks lie on what is drawn. All curves
are in head coordinates of the face seen frontally (see `camera`), and depth is a height field
above them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data.synthetic.controls import Control, Expression
from data.synthetic.curves import CURVE_T, Curve, Polar, mirrored
from data.synthetic.identity import EyeShape, HeadShape, Identity
from data.synthetic.raster import Plane

LEFT, RIGHT = -1, 1
"""Sides of the picture; also the sign of x there."""

JAW_DROP = 0.125
"""How far the chin falls when the jaw is fully open."""

_T = CURVE_T
_FALL_OUTSIDE = 0.5  # slope beyond the corners, where upper and lower edges cross over


def _arch(t: Float[np.ndarray, " n"], inner: float, outer: float) -> Float[np.ndarray, " n"]:
    """(1 - |t|^inner)^outer within the corners, negative beyond them."""
    rest = 1 - np.abs(t) ** inner
    return np.where(rest > 0, np.maximum(rest, 0) ** outer, _FALL_OUTSIDE * rest)


def outline(head: HeadShape, jaw: float) -> Polar:
    """The edge of the face, cranium to chin, with the jaw dropped by `jaw` (0..1)."""
    w = head.width
    half = [
        (0.0, -0.90),
        (0.30, -0.84),
        (0.88 * w, -0.60),
        (head.temple * w, -0.30),
        (w, -0.02),
        (0.965 * w, 0.18),
        (head.jaw * w, 0.45),
        (0.5 * (head.jaw * w + head.chin_width) - 0.01, head.chin - 0.135),
        (head.chin_width, head.chin - 0.028),
        (0.0, head.chin),
    ]
    moved = []
    for x, y in half:
        share = float(np.clip((y - 0.1) / 0.6, 0, 1))
        share = share * share * (3 - 2 * share)
        moved.append((x * (1 - 0.05 * jaw * share), y + JAW_DROP * jaw * share))
    return Polar(0.0, mirrored(moved))


@dataclass(frozen=True)
class Eye:
    """One eye; its curves run from the nose (t = -1) to the temple (t = 1)."""

    side: int
    shape: EyeShape
    upper: Curve
    lower: Curve
    iris: tuple[float, float]  # centre, head coordinates
    openness: float  # 0 closed .. 1 at rest, more when wide
    blink: float

    def local(self, x: Plane, y: Plane) -> tuple[Plane, Plane]:
        """Position along (outwards) and across (downwards) the line of the corners."""
        c, s = float(np.cos(self.shape.tilt)), float(np.sin(self.shape.tilt))
        dx, dy = (x - self.side * self.shape.x) * self.side, y - self.shape.y
        return dx * c - dy * s, dx * s + dy * c

    def point(self, t: float, y: float) -> tuple[float, float]:
        """Head coordinates of a place in the eye's own (t in half widths)."""
        c, s = float(np.cos(self.shape.tilt)), float(np.sin(self.shape.tilt))
        along = t * self.shape.half_width
        return (
            self.side * (self.shape.x + along * c + y * s),
            self.shape.y - along * s + y * c,
        )


def eye(identity: Identity, row: Expression, side: int) -> Eye:
    """The eye of one side in an expression."""
    shape = identity.eyes
    lid, squint = float(row[Control.LID_UPPER]), float(row[Control.LID_LOWER])
    cheek = float(row[Control.CHEEK_RAISE])
    blink = float(np.clip(row[Control.BLINK], 0, 1))
    gaze_x, gaze_y = float(row[Control.GAZE_X]), float(row[Control.GAZE_Y])
    # The upper lid follows the gaze, and its slope the brow that weighs on it.
    lift = 1 + (0.42 if lid > 0 else 0.60) * lid - 0.22 * max(gaze_y, -0.6)
    up = shape.upper * max(lift, 0.12) * (1 - 0.12 * squint)
    low = shape.lower * float(
        np.clip(1 - 0.55 * squint - 0.35 * cheek + 0.12 * max(lid, 0), 0.1, 1.2)
    )
    slope = float(np.clip(0.14 + 0.34 * row[Control.BROW_INNER], -0.5, 0.5))
    open_upper = -up * _arch(_T, 2, 0.68) * (1 - slope * _T)
    lower = low * _arch(_T, 2, 0.85) * (1 + 0.15 * _T)
    closed = 0.9 * lower + 0.006 * _arch(_T, 2, 1)
    lower = lower * (1 - 0.1 * blink)
    upper = open_upper + (closed - open_upper) * blink
    return Eye(
        side=side,
        shape=shape,
        upper=Curve(upper, shape.half_width),
        lower=Curve(lower, shape.half_width),
        iris=(side * shape.x + 0.050 * gaze_x - 0.004 * side, shape.y - 0.008 + 0.030 * gaze_y),
        openness=(1 - blink) * (up + low) / (shape.upper + shape.lower),
        blink=blink,
    )


@dataclass(frozen=True)
class Brow:
    """One brow; its curve runs from the nose (t = -1) to the temple (t = 1)."""

    side: int
    x: float  # distance of the middle from the middle of the face
    half_length: float
    line: Curve
    thickness: Curve  # half thickness
    span: tuple[float, float]  # highest and lowest point of the line

    def local(self, x: Plane) -> Plane:
        """Position t of each pixel."""
        return (x * self.side - self.x) * (1 / self.half_length)

    def point(self, t: float) -> tuple[float, float]:
        """A point of the middle line."""
        return self.side * (self.x + t * self.half_length), self.line.at(t)


def brow(identity: Identity, row: Expression, side: int) -> Brow:
    """The brow of one side in an expression."""
    shape, eyes = identity.brows, identity.eyes
    outer_channel = Control.BROW_OUTER_LEFT if side == LEFT else Control.BROW_OUTER_RIGHT
    inner, outer = float(row[Control.BROW_INNER]), float(row[outer_channel])
    furrow = float(row[Control.BROW_FURROW])
    inner_share = np.clip((1 - _T) / 2, 0, 1) ** 1.3
    outer_share = np.clip((1 + _T) / 2, 0, 1) ** 1.1
    line = (
        eyes.y
        - shape.height
        - shape.arch * (1 - (_T - 0.25) ** 2)
        - shape.slant * (1 + _T) / 2
        + 0.030 * np.clip(_T - 0.35, 0, 1) ** 2
        - 0.085 * (inner * inner_share + outer * outer_share)
        + 0.022 * furrow
    )
    half_length = 1.30 * eyes.half_width
    taper = np.interp(_T, [-1.06, -0.95, -0.3, 0.3, 1.0, 1.06], [-0.3, 0.75, 1.0, 0.85, 0.22, -0.3])
    return Brow(
        side=side,
        x=eyes.x + 0.012 - 0.020 * furrow,
        half_length=half_length,
        line=Curve(line, half_length),
        thickness=Curve(shape.thickness * taper, half_length),
        span=(float(line.min()), float(line.max())),
    )


@dataclass(frozen=True)
class Mouth:
    """The lips; curves run from picture left (t = -1) to right (t = 1)."""

    x: float
    half_width: float
    seam: Curve  # the line along which closed lips meet
    upper_outer: Curve
    upper_inner: Curve
    lower_inner: Curve
    lower_outer: Curve
    upper_teeth: float  # height of the edge of the upper teeth
    lower_teeth: float  # of the lower ones, which move with the jaw
    drop: float  # how far the chin has fallen
    round: float
    tongue: float
    smile: float
    opening: float  # between the lips in the middle
    span: tuple[float, float]  # highest and lowest point of the lips

    def local(self, x: Plane) -> Plane:
        """Position t of each pixel."""
        return (x - self.x) * (1 / self.half_width)

    def point(self, t: float, curve: Curve) -> tuple[float, float]:
        """A point of one of the curves."""
        return self.x + t * self.half_width, curve.at(t)


def mouth(identity: Identity, row: Expression) -> Mouth:
    """The mouth in an expression."""
    shape = identity.mouth
    corner_left, corner_right = float(row[Control.CORNER_LEFT]), float(row[Control.CORNER_RIGHT])
    smile = (corner_left + corner_right) / 2
    stretch = float(row[Control.MOUTH_WIDTH])
    rounding = float(np.clip(row[Control.MOUTH_ROUND], 0, 1))
    closed = float(np.clip(row[Control.LIPS_CLOSED], 0, 1))
    tuck = float(np.clip(row[Control.LIP_TUCK], 0, 1)) * (1 - closed)
    press = float(np.clip(row[Control.LIP_PRESS], 0, 1))
    chin = float(row[Control.CHIN_RAISE])
    # Lips that are held together stop most of the jaw's fall.
    jaw = float(np.clip(row[Control.JAW_OPEN], 0, 1.2)) * (1 - 0.7 * closed)
    raised = float(np.clip(row[Control.LIP_UPPER_RAISE], 0, 1.2)) * (1 - closed)
    dropped = float(np.clip(row[Control.LIP_LOWER_DROP], 0, 1.2)) * (1 - closed)

    half_width = (
        shape.half_width * (1 + 0.17 * stretch + 0.13 * max(smile, 0)) * (1 - 0.40 * rounding)
    ) * (1 - 0.06 * jaw)
    middle = shape.y + 0.010 * smile - 0.020 * chin - 0.012 * float(row[Control.NOSE_WRINKLE])
    # Corners: up or down by the smile, a little down with the jaw.
    rise = np.where(_T < 0, corner_left, corner_right)
    corners = (-0.082 * rise + 0.22 * JAW_DROP * jaw * (1 - closed)) * np.abs(_T) ** 1.9
    wave = 0.007 * np.cos(2.2 * np.pi * _T) * (1 - np.abs(_T)) * (1 - rounding)
    seam = middle + corners + wave

    gap_up = (0.028 + 0.010 * rounding) * jaw * (1 - closed) + 0.014 * tuck
    gap_low = 0.160 * jaw * (1 - 0.12 * rounding) * (1 - closed) * (1 - tuck) + 0.002 * tuck
    power = 0.72 - 0.2 * rounding
    upper_gap = gap_up * _arch(_T, 2, power) + 0.050 * raised * _arch(_T, 2.6, 0.9)
    lower_gap = gap_low * _arch(_T, 2, power - 0.08) + 0.052 * dropped * _arch(_T, 2.6, 0.9)

    thin = (1 - 0.55 * press) * (1 - 0.16 * max(smile, 0)) * (1 - 0.12 * max(stretch, 0))
    bow = 1 - shape.bow * (1 - 0.5 * rounding) * 0.55 * np.exp(-((_T / 0.15) ** 2))
    upper_lip = shape.upper * thin * (1 + 0.30 * rounding) * _arch(_T, 1.5, 1) * bow
    lower_lip = (
        shape.lower
        * thin
        * (1 + 0.22 * rounding + 0.25 * max(chin, 0))
        * (1 - 0.40 * tuck)
        * _arch(_T, 2.1, 1)
    )

    def curve(y: Float[np.ndarray, " n"]) -> Curve:
        return Curve(y, half_width)

    upper_inner, lower_inner = seam - upper_gap, seam + lower_gap
    centre = len(_T) // 2
    return Mouth(
        x=0.016 * (corner_right - corner_left),
        half_width=half_width,
        seam=curve(seam),
        upper_outer=curve(upper_inner - upper_lip),
        upper_inner=curve(upper_inner),
        lower_inner=curve(lower_inner),
        lower_outer=curve(lower_inner + lower_lip),
        upper_teeth=shape.y + 0.024 - 0.006 * max(smile, 0),
        lower_teeth=shape.y + 0.028 + JAW_DROP * jaw,
        drop=JAW_DROP * jaw,
        round=rounding,
        tongue=float(np.clip(row[Control.TONGUE], 0, 1)),
        smile=smile,
        opening=float(lower_inner[centre] - upper_inner[centre]),
        span=(
            float((upper_inner - upper_lip)[10:-10].min()),
            float((lower_inner + lower_lip)[10:-10].max()),
        ),
    )


@dataclass(frozen=True)
class Face:
    """A face in one expression."""

    identity: Identity
    row: Expression
    outline: Polar
    eyes: tuple[Eye, Eye]
    brows: tuple[Brow, Brow]
    mouth: Mouth
    nose_base: float  # height of the nose's underside, lifted when it wrinkles
    nose_width: float
    chin: float  # height of the chin

    CHIN_DEPTH = 0.29

    def __getitem__(self, control: Control) -> float:
        """The value of a control."""
        return float(self.row[control])

    def depth(self, x: Plane, y: Plane) -> Plane:
        """Height of the front of the face, nose included, above the middle of the head."""
        nose = self.identity.nose
        head = 0.42 * np.exp(-np.square(x * (1 / 0.46)) - np.square((y - 0.15) * (1 / 1.10)))
        ridge_ = np.exp(-np.square(x * (1 / 0.10)) - np.square((y - nose.base + 0.09) * (1 / 0.15)))
        return head + nose.length * ridge_

    @staticmethod
    def outline_depth(x: Plane, y: Plane) -> Plane:
        """Depth of the edge of the face: by the ears at the cheeks, in front at the chin."""
        t = np.clip((y + 0.05) * (1 / 0.75), 0, 1)
        return 0.02 + (Face.CHIN_DEPTH - 0.02) * t * t * (3 - 2 * t) + 0 * x


def build(identity: Identity, row: Expression) -> Face:
    """The geometry of a person in an expression."""
    lips = mouth(identity, row)
    wrinkle = float(row[Control.NOSE_WRINKLE])
    return Face(
        identity=identity,
        row=row,
        outline=outline(identity.head, lips.drop / JAW_DROP),
        eyes=(eye(identity, row, LEFT), eye(identity, row, RIGHT)),
        brows=(brow(identity, row, LEFT), brow(identity, row, RIGHT)),
        mouth=lips,
        nose_base=identity.nose.base - 0.022 * wrinkle,
        nose_width=identity.nose.half_width
        * (1 + 0.12 * wrinkle + 0.05 * max(0.0, float(row[Control.CORNER_LEFT]))),
        chin=identity.head.chin + lips.drop,
    )
