"""What a visitor fills in, checked against limits and turned into a job.

Nothing here knows how the page looks. A form leads to the same `Job` as the flags of `infer.py`
that `command` names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from eamm_jax import bundled
from eamm_jax.animate import Animator, Settings
from eamm_jax.animate.emotion_bank import Span
from eamm_jax.animate.job import Job
from eamm_jax.animate.timeline import MAX_STRENGTH, read_timeline
from eamm_jax.app.limits import Limits
from eamm_jax.constants import EMOTIONS, LAYOUTS
from eamm_jax.errors import UserError
from eamm_jax.faces import detection
from eamm_jax.faces.head_pose import HeadPose
from eamm_jax.io import speech
from eamm_jax.io.audio import sound_blocks
from eamm_jax.io.files import joined_name
from eamm_jax.io.video import video_seconds

NEUTRAL = "neutral"

FROM_VIDEO = "video"
"""The emotion of a face in a video, in place of one of the model's own."""

SOUND, TEXT = "sound", "text"
"""Sources of the voice."""

GENTLE, STILL, HEAD_VIDEO, HEAD_FILE = "gentle", "still", "video", "file"
"""Motions of the head."""

_PADDING_SECONDS = 0.1
"""By which a file may be longer than what somebody cut it to: encoders fill their last block."""


class Choices(NamedTuple):
    """What a model, and what is installed, leave to choose from.

    Attributes:
        emotions: neutral, and those of the model's bank.
        video: whether an emotion can be taken from a video.
        text: whether a text can be spoken.
        faces: whether faces are found, in photos and in videos of a head that moves.
        gaze: whether the eyes can be turned.
    """

    emotions: tuple[str, ...]
    video: bool
    text: bool
    faces: bool
    gaze: bool = False

    @property
    def heads(self) -> tuple[str, ...]:
        """Motions of the head."""
        return (GENTLE, STILL, *([HEAD_VIDEO] if self.faces else []), HEAD_FILE)

    @property
    def sources(self) -> tuple[str, ...]:
        """Emotions, and a video of one."""
        return (*self.emotions, *([FROM_VIDEO] if self.video else []))

    @property
    def voices(self) -> tuple[str, ...]:
        """Sources of the voice."""
        return (SOUND, *([TEXT] if self.text else []))


def choices_of(animator: Animator) -> Choices:
    """What can be asked of a model."""
    try:
        speech.check_available()
        text = True
    except UserError:
        text = False
    banked = animator.bank.emotions if animator.bank else ()
    others = [emotion for emotion in EMOTIONS if emotion in banked and emotion != NEUTRAL]
    return Choices(
        (NEUTRAL, *others),
        animator.has_emotion_network,
        text,
        detection.is_installed(),
        bool(animator.config.inference.pupil_keypoints),
    )


@dataclasses.dataclass(frozen=True)
class Form:
    """The page's fields.

    Attributes:
        portrait: picture of a face.
        crop: whether the face is looked for and cut out.
        face: of several, 1 for the largest; None is that one.
        paste_back: whether the face is put back into the picture.
        voice: which of the next two counts, `SOUND` or `TEXT`.
        sound: what is said, as a recording.
        text: what is said, as words.
        accent: voice that speaks the text, as `io.speech` names it.
        emotion: `NEUTRAL`, one of the bank's, or `FROM_VIDEO`.
        emotion_video: with `FROM_VIDEO`, whose emotion.
        strength: factor on the emotion, 0 to `MAX_STRENGTH`.
        head: how the head moves.
        head_video: with `HEAD_VIDEO`, of a person whose head's motion is taken.
        head_file: with `HEAD_FILE`, head poses as `.npy`.
        layout: one of `LAYOUTS`.
        timeline: key frames, as CSV or JSON.
    """

    portrait: Path | None = None
    crop: bool = True
    face: int | None = None
    paste_back: bool = False
    voice: str = SOUND
    sound: Path | None = None
    text: str = ""
    accent: str = "en-us"
    emotion: str = NEUTRAL
    emotion_video: Path | None = None
    strength: float = 1.0
    head: str = GENTLE
    head_video: Path | None = None
    head_file: Path | None = None
    layout: str = LAYOUTS[0]
    timeline: Path | None = None

    def chosen(self) -> Form:
        """The form without fields that its other fields make meaningless."""
        return dataclasses.replace(
            self,
            face=self.face if self.crop else None,
            sound=self.sound if self.voice == SOUND else None,
            text=self.text if self.voice == TEXT else "",
            emotion_video=self.emotion_video if self.emotion == FROM_VIDEO else None,
            head_video=self.head_video if self.head == HEAD_VIDEO else None,
            head_file=self.head_file if self.head == HEAD_FILE else None,
        )


def check(form: Form, choices: Choices, limits: Limits) -> None:
    """Makes sure that a form is filled in and keeps to the limits.

    Raises:
        UserError: something is missing, out of range, too long or unreadable.
    """
    form = form.chosen()
    for what, value, allowed in (
        ("source of a voice", form.voice, choices.voices),
        ("emotion of this model", form.emotion, choices.sources),
        ("motion of the head", form.head, choices.heads),
        ("layout", form.layout, LAYOUTS),
    ):
        check_choice(what, value, allowed)
    for needed, given, words in (
        (True, form.portrait, "portrait yet: upload a picture of a face or take one"),
        (form.voice == SOUND, form.sound, "voice yet: upload a recording or make one"),
        (form.voice == TEXT, form.text.strip(), "text yet: write what is to be said"),
        (form.emotion == FROM_VIDEO, form.emotion_video, "video of an emotion yet: upload one"),
        (form.head == HEAD_VIDEO, form.head_video, "video of a moving head yet: upload one"),
        (form.head == HEAD_FILE, form.head_file, "file of head poses yet: upload one"),
    ):
        if needed and not given:
            raise UserError(f"There is no {words}")
    if len(form.text) > limits.text_letters:
        raise UserError(f"The text has {len(form.text)} letters; {limits.text_letters} are allowed")
    if not 0 <= form.strength <= MAX_STRENGTH:
        raise UserError(f"The strength is {form.strength}; allowed is 0 to {MAX_STRENGTH:g}")
    if form.timeline is not None:
        timeline = read_timeline(form.timeline)
        if timeline.emotions and form.emotion != NEUTRAL:
            raise UserError("The timeline has emotions, and another one is chosen; leave one out")
    if form.sound is not None:
        check_speech(form.sound, limits)
    for video in (form.emotion_video, form.head_video):
        if video is not None:
            check_video(video, limits)


def check_choice(what: str, value: str, allowed: Sequence[str]) -> None:
    """Makes sure that a value is one of those that there are.

    Raises:
        UserError: it is not.
    """
    if value not in allowed:
        raise UserError(f"{value!r} is no {what}; allowed are {', '.join(allowed)}")


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


def job_of(form: Form, sound: Path, folder: Path, pose_network: Path | None = None) -> Job:
    """The job that a checked form asks for.

    Args:
        form: filled in.
        sound: what is said; the form's, or its text spoken.
        folder: for the result, which is named as `infer.py` names it.
        pose_network: folder of the network that estimates head poses, if there is one.
    """
    form = form.chosen()
    assert form.portrait is not None
    emotion = form.emotion_video.stem if form.emotion_video else form.emotion
    banked = form.emotion not in (NEUTRAL, FROM_VIDEO)
    return Job(
        source_image=form.portrait,
        speech=sound,
        output=folder / joined_name([form.portrait.stem, sound.stem, emotion], ".mp4"),
        emotion_video=form.emotion_video,
        emotions=(Span(form.emotion),) if banked else (),
        emotion=None if form.emotion == NEUTRAL else emotion,
        head=HeadPose(
            file=form.head_file,
            video=form.head_video,
            idle=1.0 if form.head == GENTLE else 0.0,
            still=form.head == STILL,
        ),
        pose_network=pose_network,
        layout=form.layout,
        crop=form.crop,
        face=form.face,
        paste_back=form.paste_back,
        timeline=form.timeline,
        settings=Settings(emotion_strength=form.strength, strict=form.timeline is not None),
    )


def command(
    form: Form, checkpoint: Path, name: Callable[[Path], str] = lambda path: path.name
) -> list[str]:
    """The words that have `eamm-infer` do the same.

    Args:
        form: filled in and checked.
        checkpoint: the model.
        name: what to call a file.
    """
    form = form.chosen()
    given = {
        "checkpoint": str(checkpoint) if checkpoint != bundled.MODEL else None,
        "source_image": form.portrait,
        "no_crop": not form.crop,
        "face": form.face,
        "paste_back": form.paste_back,
        "text": form.text or None,
        "voice": form.accent if form.voice == TEXT else None,
        "in_file": form.sound,
        "pose_file": form.head_file,
        "pose_video": form.head_video,
        "idle_motion": 1 if form.head == GENTLE else None,
        "still": form.head == STILL,
        "driving_video": form.emotion_video,
        "emotion": form.emotion if form.emotion not in (NEUTRAL, FROM_VIDEO) else None,
        "timeline": form.timeline,
        "strict": form.timeline is not None,
        "emotion_strength": form.strength if form.strength != 1 else None,
        "layout": form.layout if form.layout != LAYOUTS[0] else None,
    }
    words = ["eamm-infer"]
    for flag, value in given.items():
        if value is True:
            words.append(f"--{flag}")
        elif value not in (None, False):
            text = name(value) if isinstance(value, Path) else str(value)
            # What begins with a dash would be taken for a flag.
            words += [f"--{flag}={text}"] if text.startswith("-") else [f"--{flag}", text]
    return words
