"""What a visitor fills in, checked and turned into a job.

Nothing here knows how the page looks. A form leads to the same `Job` as the flags of `infer.py`
that `command` names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from eamm_jax import bundled
from eamm_jax.animate import Animator, Settings
from eamm_jax.animate.emotion_bank import Span
from eamm_jax.animate.job import Job
from eamm_jax.app.limits import Limits, check_speech, check_video
from eamm_jax.constants import EMOTIONS, LAYOUTS
from eamm_jax.errors import UserError
from eamm_jax.faces import detection
from eamm_jax.io import speech
from eamm_jax.io.files import joined_name

NEUTRAL = "neutral"

FROM_VIDEO = "video"
"""The emotion of a face in a video, in place of one of the model's own."""

MAX_STRENGTH = 2.0

SOUND, TEXT = "sound", "text"
VOICE_SOURCES = (SOUND, TEXT)

GENTLE, STILL, HEAD_VIDEO, HEAD_FILE = "gentle", "still", "video", "file"
HEADS = (GENTLE, STILL, HEAD_VIDEO, HEAD_FILE)


class Choices(NamedTuple):
    """What a model, and what is installed, leave to choose from.

    Attributes:
        emotions: of the model's bank, and neutral; in the order in which labels are numbered.
        video: whether an emotion can be taken from a video.
        text: whether a text can be spoken.
        faces: whether faces are found, in photos and in videos of a head that moves.
    """

    emotions: tuple[str, ...]
    video: bool
    text: bool
    faces: bool


def choices_of(animator: Animator) -> Choices:
    """What can be asked of a model."""
    found = set(animator.bank.emotions if animator.bank else ()) | {NEUTRAL}
    try:
        speech.check_available()
        text = True
    except UserError:
        text = False
    emotions = tuple(emotion for emotion in EMOTIONS if emotion in found)
    return Choices(emotions, animator.has_emotion_network, text, detection.is_installed())


@dataclasses.dataclass(frozen=True)
class Form:
    """The page's fields.

    Attributes:
        portrait: picture of a face.
        crop: whether the face is looked for and cut out.
        face: of several, 1 for the largest; None is that one.
        paste_back: whether the face is put back into the picture.
        voice: which of the next two counts, one of `VOICE_SOURCES`.
        sound: what is said, as a recording.
        text: what is said, as words.
        accent: voice that speaks the text, as `io.speech` names it.
        emotion: `NEUTRAL`, one of the bank's, or `FROM_VIDEO`.
        emotion_video: with `FROM_VIDEO`, whose emotion.
        strength: factor on the emotion, 0 to `MAX_STRENGTH`.
        head: how the head moves, one of `HEADS`.
        head_video: with `HEAD_VIDEO`, of a person whose head's motion is taken.
        head_file: with `HEAD_FILE`, head poses as `.npy`.
        layout: one of `LAYOUTS`.
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


def check(form: Form, choices: Choices, limits: Limits) -> None:
    """Makes sure that a form is filled in and keeps to the limits.

    Raises:
        UserError: something is missing, out of range, too long or unreadable.
    """
    if form.portrait is None:
        raise UserError("There is no portrait yet: upload a picture of a face or take one")
    if form.voice == SOUND:
        if form.sound is None:
            raise UserError("There is no voice yet: upload a recording or make one")
        check_speech(form.sound, limits)
    elif form.voice == TEXT and choices.text:
        if not form.text.strip():
            raise UserError("There is no text yet: write what is to be said")
        if len(form.text) > limits.text_letters:
            raise UserError(
                f"The text has {len(form.text)} letters; {limits.text_letters} are allowed"
            )
    else:
        raise UserError(f"{form.voice!r} is no source of a voice here")
    if form.emotion == FROM_VIDEO and choices.video:
        if form.emotion_video is None:
            raise UserError("There is no video of an emotion yet: upload one, or choose an emotion")
        check_video(form.emotion_video, limits)
    elif form.emotion not in choices.emotions:
        raise UserError(
            f"This model does not know the emotion {form.emotion!r}; it knows "
            f"{', '.join(choices.emotions)}"
        )
    if not 0 <= form.strength <= MAX_STRENGTH:
        raise UserError(f"The strength is {form.strength}; allowed is 0 to {MAX_STRENGTH:g}")
    if form.head not in HEADS or (form.head == HEAD_VIDEO and not choices.faces):
        raise UserError(f"{form.head!r} is no motion of the head here")
    if form.head == HEAD_VIDEO:
        if form.head_video is None:
            raise UserError("There is no video of a moving head yet: upload one, or choose another")
        check_video(form.head_video, limits)
    if form.head == HEAD_FILE and form.head_file is None:
        raise UserError("There is no file of head poses yet: upload one, or choose another motion")
    if form.layout not in LAYOUTS:
        raise UserError(f"{form.layout!r} is no layout; allowed are {', '.join(LAYOUTS)}")


def job_of(form: Form, sound: Path, folder: Path, pose_network: Path | None = None) -> Job:
    """The job that a checked form asks for.

    Args:
        form: filled in.
        sound: what is said; the form's, or its text spoken.
        folder: for the result, which is named as `infer.py` names it.
        pose_network: folder of the network that estimates head poses, if there is one.
    """
    assert form.portrait is not None
    from_video = form.emotion == FROM_VIDEO
    banked = not from_video and form.emotion != NEUTRAL
    emotion = form.emotion if banked else None
    if from_video:
        assert form.emotion_video is not None
        emotion = form.emotion_video.stem
    return Job(
        source_image=form.portrait,
        speech=sound,
        pose=form.head_file if form.head == HEAD_FILE else None,
        output=folder / joined_name([form.portrait.stem, sound.stem, emotion or NEUTRAL], ".mp4"),
        emotion_video=form.emotion_video if from_video else None,
        emotions=(Span(form.emotion),) if banked else (),
        emotion=emotion,
        pose_video=form.head_video if form.head == HEAD_VIDEO else None,
        pose_network=pose_network,
        idle_motion=1.0 if form.head == GENTLE else 0.0,
        still=form.head == STILL,
        layout=form.layout,
        crop=form.crop,
        face=form.face if form.crop else None,
        paste_back=form.paste_back,
        settings=Settings(emotion_strength=form.strength),
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
    words = ["eamm-infer"]

    def add(flag: str, value: object) -> None:
        text = str(value)
        # What begins with a dash would be taken for a flag.
        words.extend([f"--{flag}={text}"] if text.startswith("-") else [f"--{flag}", text])

    if checkpoint != bundled.MODEL:
        add("checkpoint", checkpoint)
    assert form.portrait is not None
    add("source_image", name(form.portrait))
    if not form.crop:
        words.append("--no_crop")
    elif form.face is not None:
        add("face", form.face)
    if form.paste_back:
        words.append("--paste_back")
    if form.voice == TEXT:
        add("text", form.text)
        add("voice", form.accent)
    else:
        assert form.sound is not None
        add("in_file", name(form.sound))
    if form.head == HEAD_FILE:
        assert form.head_file is not None
        add("pose_file", name(form.head_file))
    elif form.head == HEAD_VIDEO:
        assert form.head_video is not None
        add("pose_video", name(form.head_video))
    else:
        words.extend({GENTLE: ["--idle_motion", "1"], STILL: ["--still"]}[form.head])
    if form.emotion == FROM_VIDEO:
        assert form.emotion_video is not None
        add("driving_video", name(form.emotion_video))
    elif form.emotion != NEUTRAL:
        add("emotion", form.emotion)
    if form.strength != 1:
        add("emotion_strength", form.strength)
    if form.layout != LAYOUTS[0]:
        add("layout", form.layout)
    return words
