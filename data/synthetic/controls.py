"""The muscles of a face: what each number of an expression moves.

An expression is a row of `len(Control)` numbers, a performance an array (t, controls). Zero is
the face at rest. The channels follow the action units of the Facial Action Coding System
(Ekman and Friesen 1978) where one fits; LEFT and RIGHT are sides of the picture.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from jaxtyping import Float32


class Control(IntEnum):
    """Columns of an expression. Nominal range 0..1 unless signed ("-1..1")."""

    BROW_INNER = 0  # inner ends of the brows up (AU1) or down (AU4), -1..1
    BROW_OUTER_LEFT = 1  # outer end up (AU2) or down, -1..1
    BROW_OUTER_RIGHT = 2
    BROW_FURROW = 3  # brows drawn together, frown lines (AU4)
    LID_UPPER = 4  # upper lids raised (AU5) or drooping, -1..1
    LID_LOWER = 5  # lower lids tightened and raised (AU7)
    BLINK = 6  # upper lids closing over the eyes (AU45)
    GAZE_X = 7  # eyes turned to picture right, -1..1
    GAZE_Y = 8  # eyes turned down, -1..1
    NOSE_WRINKLE = 9  # nose wrinkled and its wings lifted (AU9)
    CHEEK_RAISE = 10  # cheeks raised towards the eyes (AU6)
    CORNER_LEFT = 11  # mouth corner up (AU12) or down (AU15), -1..1
    CORNER_RIGHT = 12
    MOUTH_WIDTH = 13  # mouth stretched (AU20) or narrowed, -1..1
    MOUTH_ROUND = 14  # lips rounded and protruded (AU18, AU22)
    LIP_UPPER_RAISE = 15  # upper lip raised off the teeth (AU10)
    LIP_LOWER_DROP = 16  # lower lip drawn down off the teeth (AU16)
    LIP_PRESS = 17  # lips pressed thin (AU24)
    CHIN_RAISE = 18  # chin boss and lower lip pushed up, a pout (AU17)
    JAW_OPEN = 19  # jaw dropped (AU26, AU27)
    LIPS_CLOSED = 20  # lips held together whatever the jaw does, as in p, b, m
    LIP_TUCK = 21  # lower lip under the upper teeth, as in f, v
    TONGUE = 22  # tongue raised towards the upper teeth, as in l, th
    FLUSH = 23  # cheeks flushed or pale, -1..1


Expression = Float32[np.ndarray, " controls"]
Performance = Float32[np.ndarray, "t controls"]


def expression(**channels: float) -> Expression:
    """An expression from channel names in lower case; the rest is at rest.

    `brow_outer` and `corner` set both sides.
    """
    row = np.zeros(len(Control), np.float32)
    for name, value in channels.items():
        if name in ("brow_outer", "corner"):
            row[Control[f"{name}_left".upper()]] = value
            row[Control[f"{name}_right".upper()]] = value
        else:
            row[Control[name.upper()]] = value
    return row
