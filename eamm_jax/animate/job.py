"""One animation from files to files: reads the inputs, animates, writes the video."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from eamm_jax import __version__, features
from eamm_jax.animate.animator import AnimatedFrame, Animator, Settings
from eamm_jax.animate.emotion_bank import Span
from eamm_jax.conversion import head_pose as converted
from eamm_jax.errors import UserError
from eamm_jax.faces.emotion_video import EmotionVideo
from eamm_jax.faces.head_pose import HeadPose, NetworkEstimator
from eamm_jax.faces.pasting import Patch
from eamm_jax.faces.source import FramedSource, read_source
from eamm_jax.io.audio import read_speech
from eamm_jax.io.files import InputFiles, check_readable, check_writable
from eamm_jax.io.image import PngSequence, fit_height, tile, to_uint8, write_png
from eamm_jax.io.video import LARGEST_SIDE, VideoWriter
from eamm_jax.types import FRAME_RATE, SAMPLE_RATE

LAYOUTS = ("single", "side_by_side")

SHEET_FRAMES = 24
"""Of a contact sheet."""

_SHEET_HEIGHT = 256
"""Of pictures in it, if they are larger."""

_PLAYED_SIDE = 4096
"""Pixels. Larger videos are not played everywhere."""

_log = logging.getLogger(__name__)

Frame = UInt8[np.ndarray, "h w 3"]


@dataclasses.dataclass(frozen=True)
class Job:
    """The files of one animation.

    Attributes:
        portrait: photo of a face, or a portrait framed as in training.
        speech: any file with a sound track.
        pose: `.npy` of head poses for the portrait, or None to estimate its pose.
        output: mp4 to be written.
        emotion_video: of an emotional face, or None for a neutral one.
        emotions: of the model's emotion bank, where there is no video.
        level: how strongly the bank's faces felt them, 1 to 3; None is most.
        emotion: what the emotion is called; for the video's metadata.
        pose_motion: `.npy` track whose motion is added to the still pose, or None.
        pose_video: of a person whose head's motion is added to the still pose, or None.
        pose_network: folder of a converted head pose network, or None to go by landmarks.
        idle_motion: strength of a gentle motion that is made up; 0 is none.
        still: whether the head is held fixed.
        neutral_output: mp4 of the same animation without emotion, or None.
        frames: folder for the frames as PNG, or None.
        contact_sheet: PNG of some of the frames, or None.
        layout: `single`, or `side_by_side`: portrait, emotion video if there is one, neutral,
            emotion.
        crop: whether faces are looked for in the portrait and the emotion video, and cut out.
        template: `.npy` of where their landmarks belong, or None for the mean face.
        face: of several in the portrait, 1 for the largest; None is that one, with a notice.
        paste_back: whether the animated face is put back into the portrait's picture.
        settings: of the animation.
    """

    portrait: Path
    speech: Path
    pose: Path | None
    output: Path
    emotion_video: Path | None = None
    emotions: tuple[Span, ...] = ()
    level: int | None = None
    emotion: str | None = None
    pose_motion: Path | None = None
    pose_video: Path | None = None
    pose_network: Path | None = None
    idle_motion: float = 0.0
    still: bool = False
    neutral_output: Path | None = None
    frames: Path | None = None
    contact_sheet: Path | None = None
    layout: str = "single"
    crop: bool = True
    template: Path | None = None
    face: int | None = None
    paste_back: bool = False
    settings: Settings = dataclasses.field(default_factory=Settings)

    @property
    def head(self) -> HeadPose:
        """What is asked of the head."""
        return HeadPose(
            file=self.pose,
            motion=self.pose_motion,
            video=self.pose_video,
            idle=self.idle_motion,
            still=self.still,
            seed=self.settings.seed,
        )

    @property
    def inputs(self) -> list[Path]:
        """All files that are read."""
        paths = (
            self.portrait,
            self.speech,
            self.pose,
            self.emotion_video,
            self.pose_motion,
            self.pose_video,
            self.template,
        )
        return [path for path in paths if path is not None]

    @property
    def outputs(self) -> list[Path]:
        """All that is written."""
        paths = (self.output, self.neutral_output, self.frames, self.contact_sheet)
        return [path for path in paths if path is not None]

    @property
    def emotional(self) -> bool:
        """Whether there is an emotion."""
        return self.emotion_video is not None or bool(self.emotions)


@dataclasses.dataclass(frozen=True)
class Summary:
    """What an animation took, in seconds.

    Attributes:
        frames: written.
        reading: inputs.
        first_frame: from the inputs to the first frame, compilation included.
        drawing: waiting for all other frames.
        writing: handing frames to the encoder, and closing the files.
        output: the file.
    """

    frames: int
    reading: float
    first_frame: float
    drawing: float
    writing: float
    output: Path

    @property
    def total(self) -> float:
        """Everything but loading the model."""
        return self.reading + self.first_frame + self.drawing + self.writing

    def __str__(self) -> str:
        """One line for a person."""
        real_time = self.total / (self.frames / FRAME_RATE)
        return (
            f"{self.output}: {self.frames} frames in {self.total:.1f} s "
            f"({self.frames / self.total:.2f} frames/s, {real_time:.1f} x real time; "
            f"reading {self.reading:.1f} s, first frame {self.first_frame:.1f} s, "
            f"drawing {self.drawing:.1f} s, writing {self.writing:.1f} s)"
        )


def check(job: Job) -> None:
    """Finds what can be found wrong without loading a model or decoding anything.

    Raises:
        UserError: an input is not there, an output cannot be written, would replace an input
            or another output, or what is asked of the head contradicts itself.
    """
    for path, what in (
        (job.portrait, "picture"),
        (job.speech, "speech"),
        (job.pose, "head pose"),
        (job.pose_motion, "head pose"),
        (job.pose_video, "video"),
        (job.emotion_video, "video"),
    ):
        if path is not None:
            check_readable(path, what)
    job.head.check()
    if job.pose_network is not None:
        converted.require(job.pose_network)
    outputs = [path for path in (job.output, job.neutral_output) if path is not None]
    for path in outputs:
        if path.suffix.lower() != ".mp4":
            raise UserError(f"{path}: videos are written as mp4; give a name that ends in .mp4")
        check_writable(path)
    if job.contact_sheet is not None:
        if job.contact_sheet.suffix.lower() != ".png":
            raise UserError(f"{job.contact_sheet}: contact sheets are PNG; give a name in .png")
        check_writable(job.contact_sheet)
    if job.frames is not None:
        check_writable(job.frames)
    InputFiles(job.inputs).check_kept(job.outputs)
    for place, path in enumerate(job.outputs):
        if path.resolve() in {other.resolve() for other in job.outputs[:place]}:
            raise UserError(f"{path} is given for two outputs; name another")
    if job.layout not in LAYOUTS:
        raise UserError(f"layout is {job.layout!r}; allowed are {', '.join(LAYOUTS)}")
    if not job.crop and (job.template is not None or job.face is not None):
        raise UserError("--no_crop looks for no face; --face and --template need one")


def run(
    animator: Animator, job: Job, progress: Callable[[int, int], None] | None = None
) -> Summary:
    """Does one job.

    Args:
        animator: the model.
        job: what to do.
        progress: called with (frames done, frames in all) after each frame.

    Raises:
        UserError: an input is bad or an output cannot be written; nothing is left of the
            outputs then.
    """
    check(job)
    clock = _Clock()
    size = animator.image_size
    speech = read_speech(job.speech)
    portrait = read_source(
        job.portrait, size, align=job.crop, template=job.template, number=job.face
    )
    length = features.num_frames(features.mfcc_rows(len(speech)))
    estimator = None
    if job.pose_network is not None:
        estimator = NetworkEstimator(*converted.load(job.pose_network))
    pose = job.head.track(to_uint8(portrait.crop), length, estimator)
    video = None
    if job.emotion_video is not None:
        # No more frames than there is sound for are looked at.
        wanted = math.ceil(len(speech) / SAMPLE_RATE * FRAME_RATE) + 1
        video = EmotionVideo(
            job.emotion_video, size, align=job.crop, template=job.template, frames=wanted
        )
    stage = _Stage(job, portrait, video)
    wants_neutral = job.neutral_output is not None or (
        job.layout == "side_by_side" and job.emotional
    )
    settings = dataclasses.replace(job.settings, neutral=wants_neutral)
    animation = animator.animate(
        portrait.crop, speech, pose, video, settings, emotions=job.emotions, level=job.level
    )
    clock.lap("reading")
    with ExitStack() as outputs:
        write = _open_outputs(job, stage, outputs)
        shown = set(_sheet_frames(len(animation))) if job.contact_sheet else set()
        sheet = []
        for index, frame in enumerate(animation):
            clock.lap("drawing" if index else "first_frame")
            picture, neutral = stage.show(frame)
            write(picture, neutral)
            if index in shown:
                sheet.append(fit_height(picture, min(len(picture), _SHEET_HEIGHT)))
            clock.lap("writing")
            if progress is not None:
                progress(index + 1, len(animation))
    if job.contact_sheet is not None:
        write_png(job.contact_sheet, tile(sheet))
    clock.lap("writing")
    return Summary(len(animation), **clock.seconds, output=job.output)


class _Stage:
    """What is seen of each frame: alone or beside others, cropped or in the whole picture.

    Attributes:
        width: of a picture with all that stands side by side.
        single_width: of one.
        height: of both.
    """

    def __init__(self, job: Job, portrait: FramedSource, video: EmotionVideo | None):
        still = to_uint8(portrait.crop)
        self._place: Callable[[Frame], Frame] = lambda frame: frame
        if job.paste_back:
            _check_size(job.portrait, portrait.picture)
            self._place = Patch(portrait.picture, still, portrait.to_picture).paste
            still = portrait.picture
        self.height, self.single_width = still.shape[:2]
        self.width = self.single_width
        self._beside: list[Iterator[Frame]] = []
        self._shows_neutral = False
        if job.layout == "side_by_side":
            self._beside = [itertools.repeat(still)]
            self.width += self.single_width
            if video is not None:
                self._beside.append(fit_height(f, self.height) for f in _endless(video))
                self.width += self.height
            self._shows_neutral = job.emotional
            self.width += self.single_width * self._shows_neutral

    def show(self, frame: AnimatedFrame) -> tuple[Frame, Frame | None]:
        """The picture of a frame, and that of its face without emotion, if there is one."""
        image = self._place(frame.image)
        neutral = None if frame.neutral is None else self._place(frame.neutral)
        panels = [next(pictures) for pictures in self._beside]
        if self._shows_neutral:
            assert neutral is not None
            panels.append(neutral)
        return np.concatenate([*panels, image], axis=1), neutral


def _check_size(path: Path, picture: Frame) -> None:
    side = max(picture.shape)
    if side > LARGEST_SIDE:
        raise UserError(
            f"{path} has a side of {side} pixels, and videos are at most {LARGEST_SIDE}; make it "
            "smaller, or leave out --paste_back"
        )
    if side > _PLAYED_SIDE:
        _log.info("the video has a side of %d pixels: not every player shows that", side)


def _sheet_frames(length: int) -> list[int]:
    """The frames of a contact sheet, evenly spread."""
    return np.linspace(0, length - 1, min(length, SHEET_FRAMES)).round().astype(int).tolist()


def _endless(video: EmotionVideo) -> Iterator[Frame]:
    while True:
        yield from video


def _open_outputs(
    job: Job, stage: _Stage, outputs: ExitStack
) -> Callable[[Frame, Frame | None], None]:
    """Opens all that is to be written; what is returned writes one frame to each."""

    def video(path: Path, width: int, title: str) -> VideoWriter:
        metadata = {"title": title, "comment": _origin(job)}
        return outputs.enter_context(
            VideoWriter(path, width, stage.height, FRAME_RATE, sound=job.speech, metadata=metadata)
        )

    emotional = video(job.output, stage.width, f"{job.portrait.stem}, {job.emotion or 'neutral'}")
    neutral = None
    if job.neutral_output is not None:
        neutral = video(job.neutral_output, stage.single_width, f"{job.portrait.stem}, neutral")
    pictures = None
    if job.frames is not None:
        pictures = outputs.enter_context(PngSequence(job.frames))

    def write(picture: Frame, neutral_picture: Frame | None) -> None:
        emotional.write(picture)
        if pictures is not None:
            pictures.write(picture)
        if neutral is not None:
            assert neutral_picture is not None
            neutral.write(neutral_picture)

    return write


def _origin(job: Job) -> str:
    """What every video says of itself."""
    return (
        f"Synthetic video: a still portrait ({job.portrait.name}) animated from speech "
        f"({job.speech.name}) by eamm_jax {__version__}. This is not a recording."
    )


class _Clock:
    """Adds up where the time goes."""

    def __init__(self) -> None:
        self.seconds = {"reading": 0.0, "first_frame": 0.0, "drawing": 0.0, "writing": 0.0}
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds[part] += now - self._last
        self._last = now
