"""What the studio takes on at once, and how long it keeps what it is given."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from eamm_jax.errors import UserError
from eamm_jax.io.audio import sound_blocks
from eamm_jax.io.video import video_seconds

_PADDING_SECONDS = 0.1
"""By which a file may be longer than what somebody cut it to: encoders fill their last block."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds on a visitor and on all of them.

    Attributes:
        upload_megabytes: size of one uploaded file.
        speech_seconds: length of the voice, and with it of the result.
        video_seconds: length of a video.
        text_letters: length of a text to be spoken.
        jobs: animations computed at a time.
        waiting: animations that may wait for their turn.
        keep_minutes: how long uploads and results stay.
    """

    upload_megabytes: int = 50
    speech_seconds: float = 60
    video_seconds: float = 30
    text_letters: int = 1000
    jobs: int = 1
    waiting: int = 8
    keep_minutes: float = 60

    def __post_init__(self) -> None:
        """Refuses bounds that let nothing through."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise UserError(f"{field.name} is {value}; it must be greater than 0")


def check_speech(path: Path, limits: Limits) -> None:
    """Decodes a sound until it ends or is too long.

    Raises:
        UserError: it is too long, or cannot be read.
    """
    seconds = 0.0
    for block in sound_blocks(path):
        seconds += block.samples.shape[1] / block.rate
        if seconds > limits.speech_seconds + _PADDING_SECONDS:
            raise UserError(
                f"The voice is longer than {limits.speech_seconds:g} seconds; cut it to what is "
                "to be said"
            )


def check_video(path: Path, limits: Limits) -> None:
    """Reads a video's time stamps.

    Raises:
        UserError: it is too long, or cannot be read.
    """
    at_most = limits.video_seconds + _PADDING_SECONDS
    if video_seconds(path, at_most) > at_most:
        raise UserError(
            f"The video is longer than {limits.video_seconds:g} seconds; cut it to the part that "
            "is to be used"
        )
