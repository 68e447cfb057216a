"""What the eight emotions do to a face, a head and a voice.

The faces follow the prototypes of Ekman and Friesen, drawn strongly enough to be told apart in
a small picture; what speech needs of the mouth is laid over them in `performance`.
"""

from __future__ import annotations

from dataclasses import dataclass

from data.synthetic.controls import Expression, expression

NEUTRAL_BLINK_RATE = 17.0
"""Blinks a minute."""


@dataclass(frozen=True)
class Emotion:
    """One emotion at full strength.

    Attributes:
        face: the expression held while it lasts.
        head: degrees of yaw, pitch and roll added to the pose.
        rate: pace of speech relative to neutral.
        pitch: added to the voice's pitch setting.
        pitch_range: factor on the liveliness of the melody.
        energy: factor on the loudness, and on how far the jaw opens in speech.
        blink_rate: blinks a minute.
        restless: factor on the movements of the head.
    """

    face: Expression
    head: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rate: float = 1.0
    pitch: float = 0.0
    pitch_range: float = 1.0
    energy: float = 1.0
    blink_rate: float = NEUTRAL_BLINK_RATE
    restless: float = 1.0


EMOTION_LOOKS: dict[str, Emotion] = {
    "angry": Emotion(
        expression(
            brow_inner=-1.6,
            brow_outer=-0.3,
            brow_furrow=1.0,
            lid_upper=-0.05,
            lid_lower=0.7,
            nose_wrinkle=1.0,
            corner=-0.85,
            mouth_width=0.3,
            lip_upper_raise=0.8,
            lip_lower_drop=0.75,
            jaw_open=0.1,
            flush=0.8,
        ),
        head=(0.0, 4.0, 0.0),
        rate=1.12,
        pitch=4,
        pitch_range=1.4,
        energy=1.25,
        blink_rate=9,
        restless=1.5,
    ),
    "contempt": Emotion(
        expression(
            brow_inner=-0.20,
            brow_outer_left=-0.25,
            brow_outer_right=0.85,
            lid_upper=-0.55,
            lid_lower=0.30,
            cheek_raise=0.10,
            corner_left=-0.22,
            corner_right=1.05,
            mouth_width=-0.05,
            lip_press=0.55,
            chin_raise=0.25,
            gaze_y=0.30,
            gaze_x=-0.25,
        ),
        head=(4.0, -6.0, 5.0),
        rate=0.92,
        pitch=-5,
        pitch_range=0.8,
        energy=0.9,
        blink_rate=12,
        restless=0.7,
    ),
    "disgusted": Emotion(
        expression(
            brow_inner=-0.55,
            brow_outer=-0.45,
            brow_furrow=0.6,
            lid_upper=-0.55,
            lid_lower=0.85,
            nose_wrinkle=1.0,
            cheek_raise=0.55,
            corner_left=-0.8,
            corner_right=-0.45,
            mouth_width=-0.12,
            lip_upper_raise=0.7,
            chin_raise=0.75,
            flush=-0.3,
        ),
        head=(-7.0, -4.0, -4.0),
        rate=0.92,
        pitch=-6,
        pitch_range=0.9,
        energy=0.95,
    ),
    "fear": Emotion(
        expression(
            brow_inner=1.0,
            brow_outer=0.15,
            brow_furrow=0.75,
            lid_upper=0.95,
            lid_lower=0.25,
            corner=-0.35,
            mouth_width=0.95,
            lip_lower_drop=0.6,
            lip_upper_raise=0.1,
            jaw_open=0.2,
            flush=-0.8,
        ),
        head=(0.0, -3.0, 0.0),
        rate=1.15,
        pitch=16,
        pitch_range=1.2,
        energy=0.9,
        blink_rate=30,
        restless=1.6,
    ),
    "happy": Emotion(
        expression(
            brow_inner=0.1,
            brow_outer=0.25,
            lid_lower=0.4,
            cheek_raise=0.85,
            corner=1.1,
            mouth_width=0.5,
            lip_upper_raise=0.50,
            lip_lower_drop=0.22,
            jaw_open=0.22,
            flush=0.4,
        ),
        head=(0.0, -1.0, 2.0),
        rate=1.06,
        pitch=9,
        pitch_range=1.5,
        energy=1.1,
        restless=1.3,
    ),
    "neutral": Emotion(expression(corner=0.04)),
    "sad": Emotion(
        expression(
            brow_inner=1.6,
            brow_outer=-1.6,
            brow_furrow=0.45,
            lid_upper=-0.9,
            lid_lower=0.10,
            gaze_y=0.5,
            corner=-1.8,
            lip_press=0.4,
            chin_raise=1.0,
            flush=-0.25,
        ),
        head=(0.0, 7.0, 2.0),
        rate=0.82,
        pitch=-8,
        pitch_range=0.5,
        energy=0.8,
        blink_rate=22,
        restless=0.6,
    ),
    "surprised": Emotion(
        expression(
            brow_inner=1.0,
            brow_outer=1.0,
            lid_upper=1.0,
            jaw_open=0.7,
            mouth_round=0.5,
            mouth_width=-0.1,
        ),
        head=(0.0, -4.0, 0.0),
        rate=1.05,
        pitch=14,
        pitch_range=1.6,
        energy=1.05,
        blink_rate=8,
        restless=1.2,
    ),
}
"""By name, as in `eamm_jax.constants.EMOTIONS`."""

LEVEL_STRENGTH = {1: 0.55, 2: 0.78, 3: 1.0}
"""How much of the full expression each of MEAD's three levels shows."""
