"""Bounds on visitors of the studio and the server; light, so that flags can name the defaults."""

from __future__ import annotations

import dataclasses

from eamm_jax.errors import UserError


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
        listeners: streams of speech that are animated at a time.
        keep_minutes: how long uploads and results stay.
    """

    upload_megabytes: int = 50
    speech_seconds: float = 60
    video_seconds: float = 30
    text_letters: int = 1000
    jobs: int = 1
    waiting: int = 8
    listeners: int = 3
    keep_minutes: float = 60

    def __post_init__(self) -> None:
        """Refuses bounds that let nothing through."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise UserError(f"{field.name} is {value}; it must be greater than 0")
