"""One animation, files in, files out: reads the inputs, animates, writes the video."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from eamm_jax import __version__, features
from eamm_jax.animate.animator import AnimatedFrame, Animator, Settings
from eamm_jax.animate.emotion_bank import Span
from eamm_jax.animate.timeline import Timeline, read_timeline
from eamm_jax.checkpoint import check_networks, load_networks
from eamm_jax.constants import FRAME_RATE, LAYOUTS, SAMPLE_RATE
from eamm_jax.errors import UserError
from eamm_jax.faces.emotion_video import EmotionVideo
from eamm_jax.faces.head_pose import HeadPose, NetworkEstimator
from eamm_jax.faces.pasting import Patch
from eamm_jax.faces.source import FramedSource, read_source
from eamm_jax.io.audio import read_speech
from eamm_jax.io.decoding import start_time
from eamm_jax.io.files import InputFiles, atomic_output, check_readable, check_writable
from eamm_jax.io.image import fit_height, png_sequence, tile, to_uint8, write_png
from eamm_jax.io.video_writer import LARGEST_SIDE, VideoWriter, video_writer
from eamm_jax.provenance.marking import OutputMark, Provenance
from eamm_jax.provenance.watermark import Rectangle

SHEET_FRAMES = 24
"""Frames in a contact sheet."""

_SHEET_HEIGHT = 256
"""Largest height of the pictures in a contact sheet."""

_PLAYED_SIDE = 4096
"""Pixels. Not every player shows larger videos."""

_log = logging.getLogger(__name__)

Frame = UInt8[np.ndarray, "h w 3"]


@dataclasses.dataclass(frozen=True)
class Job:
    """The files of one animation.

    Attributes:
        source_image: photo of a face, or a picture cropped as in training.
        speech: any file with an audio track.
        output: mp4 to be written.
        head: how the head is held and moved.
        emotion_video: of an emotional face, or None for a neutral one.
        emotions: of the model's emotion bank, where there is no video.
        level: intensity of the bank's emotions, 1 to 3; None is the strongest.
        emotion: name of the emotion; for the video's metadata.
        pose_network: folder of a converted head pose network, or None to use landmarks.
        neutral_output: mp4 of the same animation without emotion, or None.
        frames: folder for the frames as PNG, or None.
        contact_sheet: PNG of some of the frames, or None.
        report: JSON of what was made, from what, in which time and with which mark, or None.
        layout: one of `LAYOUTS`.
        crop: whether faces in the source image and the emotion video are found and cropped.
        template: `.npy` of where their landmarks belong, or None for the mean face.
        face: number of the face in the source image, 1 for the largest; None is that one, with
            a notice where there are several.
        paste_back: whether the animated face is put back into the whole source image.
        provenance: how the outputs are marked; None is not at all.
        fragments: the same video once more, which plays while it grows; None is not at all.
        timeline: CSV or JSON of key frames, or None.
        settings: of the animation, but for the timeline.
    """

    source_image: Path
    speech: Path
    output: Path
    head: HeadPose = dataclasses.field(default_factory=HeadPose)
    emotion_video: Path | None = None
    emotions: tuple[Span, ...] = ()
    level: int | None = None
    emotion: str | None = None
    pose_network: Path | None = None
    neutral_output: Path | None = None
    frames: Path | None = None
    contact_sheet: Path | None = None
    report: Path | None = None
    layout: str = "single"
    crop: bool = True
    template: Path | None = None
    face: int | None = None
    paste_back: bool = False
    provenance: Provenance | None = dataclasses.field(default_factory=Provenance)
    fragments: Path | None = None
    timeline: Path | None = None
    settings: Settings = dataclasses.field(default_factory=Settings)

    @property
    def inputs(self) -> list[tuple[str, Path]]:
        """All files that are read, and what each is."""
        files = {
            "portrait": self.source_image,
            "speech": self.speech,
            "head pose": self.head.file,
            "pose track": self.head.motion,
            "head video": self.head.video,
            "emotion video": self.emotion_video,
            "template": self.template,
            "timeline": self.timeline,
        }
        return [(what, path) for what, path in files.items() if path is not None]

    @property
    def outputs(self) -> list[Path]:
        """All that is written."""
        paths = (
            self.output, self.neutral_output, self.frames, self.contact_sheet, self.report,
            self.fragments,
        )  # fmt: skip
        return [path for path in paths if path is not None]

    @cached_property
    def keys(self) -> Timeline:
        """What the timeline holds.

        Raises:
            UserError: it cannot be read.
        """
        return Timeline() if self.timeline is None else read_timeline(self.timeline)

    @property
    def emotional(self) -> bool:
        """Whether there is an emotion."""
        return self.emotion_video is not None or bool(self.emotions or self.keys.emotions)


@dataclasses.dataclass
class Summary:
    """Where the time of an animation went.

    Attributes:
        output: the file.
        frames: number of frames.
        mark: identifier that the video carries, or None.
        neutral_mark: that of the video without emotion, if there is one.
        seconds: reading the inputs; from there to the first frame, compilation included; waiting
            for all other frames; handing frames to the encoder, and closing the files.
    """

    output: Path
    frames: int = 0
    mark: str | None = None
    neutral_mark: str | None = None
    seconds: dict[str, float] = dataclasses.field(
        default_factory=lambda: dict.fromkeys(("reading", "first frame", "rendering", "writing"), 0)
    )

    def __post_init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """Adds the time since the last call to that of a part."""
        now = time.perf_counter()
        self.seconds[part] += now - self._last
        self._last = now

    @property
    def total(self) -> float:
        """Everything but loading the model."""
        return sum(self.seconds.values())

    def write(self, path: Path, job: Job) -> None:
        """Writes it as JSON, with the files that the animation was made from and into."""
        made = {
            "inputs": {what: str(file) for what, file in job.inputs},
            "outputs": [str(file) for file in job.outputs],
            "frames": self.frames,
            "mark": self.mark,
            "neutral_mark": self.neutral_mark,
            "seconds": {part: round(seconds, 3) for part, seconds in self.seconds.items()},
            "version": __version__,
        }
        with atomic_output(path) as unfinished:
            unfinished.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")

    def __str__(self) -> str:
        """One line for a person."""
        parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in self.seconds.items())
        return (
            f"{self.output}: {self.frames} frames in {self.total:.1f} s "
            f"({self.frames / self.total:.2f} frames/s, "
            f"{self.total / (self.frames / FRAME_RATE):.1f} x real time; {parts})"
        ) + (f", marked {self.mark}" if self.mark else "")


def check(jobs: Mapping[str, Job]) -> None:
    """Finds what is wrong with jobs before a model is loaded or anything is decoded.

    Args:
        jobs: by what the user calls each; the name of a single job may be empty.

    Raises:
        UserError: an input does not exist, an output cannot be written, would replace an input
            or another output of any of the jobs, or a job contradicts itself.
    """
    inputs = InputFiles(path for job in jobs.values() for _, path in job.inputs)
    writers: dict[Path, str] = {}
    for name, job in jobs.items():
        try:
            _check_one(job)
            inputs.check_kept(job.outputs)
            for path in job.outputs:
                if path.resolve() in writers:
                    writer = writers[path.resolve()]
                    by = "given for two outputs" if writer == name else f"written by {writer} too"
                    raise UserError(f"{path} is {by}; name another")
                writers[path.resolve()] = name
        except UserError as error:
            raise UserError(f"{name}: {error}" if name else str(error)) from None


def _check_one(job: Job) -> None:
    for what, path in job.inputs:
        check_readable(path, what)
    job.head.check()
    if job.keys.emotions and (job.emotions or job.emotion_video is not None):
        raise UserError(
            f"{job.timeline} has emotions, and another one is given; leave one of them out"
        )
    if job.provenance is not None:
        job.provenance.check()
    if job.pose_network is not None:
        check_networks(job.pose_network, ["head_pose"])
    for path in job.outputs:
        check_writable(path)
    for output in (job.output, job.neutral_output):
        if output is not None and output.suffix.lower() != ".mp4":
            raise UserError(f"{output}: videos are written as mp4; give a name that ends in .mp4")
    if job.contact_sheet is not None and job.contact_sheet.suffix.lower() != ".png":
        raise UserError(f"{job.contact_sheet}: contact sheets are PNG; give a name in .png")
    if job.report is not None and job.report.suffix.lower() != ".json":
        raise UserError(f"{job.report}: reports are JSON; give a name in .json")
    if job.layout not in LAYOUTS:
        raise UserError(f"layout is {job.layout!r}; allowed are {', '.join(LAYOUTS)}")
    if not job.crop and (job.template is not None or job.face is not None):
        raise UserError(
            "a template, or the face to take, is given, but faces are not to be cropped; choose one"
        )


def run(
    animator: Animator, job: Job, progress: Callable[[int, int], None] | None = None
) -> Summary:
    """Does one job.

    Args:
        animator: the model.
        job: what to do; `check` has passed.
        progress: called with (frames done, total frames) after each frame.

    Raises:
        UserError: an input is bad or an output cannot be written; nothing is left of the
            outputs then.
    """
    doing = steps(animator, job)
    try:
        while True:
            done, total = next(doing)
            if progress is not None:
                progress(done, total)
    except StopIteration as ended:
        return ended.value
    finally:
        doing.close()


def steps(animator: Animator, job: Job) -> Generator[tuple[int, int], None, Summary]:
    """Does one job as `run` does, a frame each time it is asked for the next.

    Yields:
        Frames done and total frames. Closing the generator leaves nothing of the outputs.

    Returns:
        What it took.

    Raises:
        UserError: as `run`.
    """
    summary = Summary(job.output)
    size = animator.image_size
    speech = read_speech(job.speech)
    source = read_source(
        job.source_image, size, align=job.crop, template=job.template, number=job.face
    )
    length = features.num_frames(features.mfcc_rows(len(speech)))
    estimator = None
    if job.pose_network is not None:
        _, networks = load_networks(job.pose_network, ["head_pose"])
        estimator = NetworkEstimator(networks["head_pose"])
    pose = job.head.track(
        to_uint8(source.crop),
        length,
        estimator,
        seed=job.settings.seed,
        start=_start(job.speech, job.head.video),
    )
    video = None
    if job.emotion_video is not None:
        # Frames after the end of the speech are not read.
        wanted = math.ceil(len(speech) / SAMPLE_RATE * FRAME_RATE) + 1
        video = EmotionVideo(
            job.emotion_video,
            size,
            align=job.crop,
            template=job.template,
            frames=wanted,
            start=_start(job.speech, job.emotion_video),
        )
    view = _View(job, source, video)
    settings = dataclasses.replace(
        job.settings,
        timeline=job.keys,
        neutral=view.shows_neutral or job.neutral_output is not None,
    )
    animation = animator.animate(
        source.crop, speech, pose, video, settings, emotions=job.emotions, level=job.level
    )
    summary.lap("reading")
    mark = _mark(job, animator, view.region)
    neutral_mark = _mark(job, animator, view.neutral_region, output=1)
    if mark is not None:
        summary.mark = mark.identifier
    if neutral_mark is not None and job.neutral_output is not None:
        summary.neutral_mark = neutral_mark.identifier
    sheet: list[Frame] = []
    wanted_in_sheet = np.linspace(0, len(animation) - 1, min(len(animation), SHEET_FRAMES)).round()
    with ExitStack() as outputs:
        write = _open_outputs(job, view, mark, neutral_mark, outputs)
        for index, frame in enumerate(animation):
            summary.lap("rendering" if index else "first frame")
            picture, neutral = view.show(frame)
            write(picture, neutral)
            if job.contact_sheet is not None and index in wanted_in_sheet:
                sheet.append(fit_height(picture, min(len(picture), _SHEET_HEIGHT)))
            del picture, neutral  # those of a large photo take much memory
            summary.lap("writing")
            yield index + 1, len(animation)
    if job.contact_sheet is not None:
        write_png(job.contact_sheet, tile(sheet), mark)
    summary.lap("writing")
    summary.frames = len(animation)
    if job.report is not None:
        summary.write(job.report, job)
    return summary


def _mark(
    job: Job, animator: Animator, region: Rectangle | None, output: int = 0
) -> OutputMark | None:
    if job.provenance is None:
        return None
    return job.provenance.mark(
        job.inputs, animator.weights, composite=job.paste_back, region=region, output=output
    )


def _start(speech: Path, video: Path | None) -> Fraction | None:
    """When a video begins: with the speech, if both are in one file; else with its first frame."""
    if video is None or video.resolve() != speech.resolve():
        return None
    return start_time(speech, "audio")


class _View:
    """What a frame of the video shows: the face, or the whole photo; alone or beside others.

    Attributes:
        width: of a frame with all its panels.
        panel_width: of the panel with the animated face.
        height: of all panels.
        shows_neutral: whether the animation without emotion is one of the panels.
        region: of the frame that shows the animated face; None is all of it.
        neutral_region: likewise, of the face without emotion alone.
    """

    def __init__(self, job: Job, source: FramedSource, video: EmotionVideo | None):
        still = to_uint8(source.crop)
        self._place: Callable[[Frame], Frame] = lambda frame: frame
        self.neutral_region: Rectangle | None = None
        if job.paste_back:
            check_size(job.source_image, source.picture)
            patch = Patch(source.picture, still, source.to_picture)
            self._place, still = patch.paste, source.picture
            self.neutral_region = Rectangle.of(patch.place)
        self.height, self.panel_width = still.shape[:2]
        self.width = self.panel_width
        self.shows_neutral = job.layout == "side_by_side" and job.emotional
        self._beside: list[Iterator[Frame]] = []
        if job.layout == "side_by_side":
            self._beside = [itertools.repeat(still)]
            self.width *= 2 + self.shows_neutral
            if video is not None:
                repeated = itertools.chain.from_iterable(itertools.repeat(video))
                self._beside.append(fit_height(frame, self.height) for frame in repeated)
                self.width += self.height
        self.region = self.neutral_region
        if self._beside:
            panel = self.neutral_region or Rectangle(0, 0, self.panel_width, self.height)
            self.region = panel._replace(left=panel.left + self.width - self.panel_width)

    def show(self, frame: AnimatedFrame) -> tuple[Frame, Frame | None]:
        """The frame with all its panels, and the face without emotion, if there is one."""
        neutral = None if frame.neutral is None else self._place(frame.neutral)
        panels = [next(pictures) for pictures in self._beside]
        if self.shows_neutral:
            assert neutral is not None
            panels.append(neutral)
        image = self._place(frame.image)
        return np.concatenate([*panels, image], axis=1) if panels else image, neutral


def check_size(path: Path, picture: Frame) -> None:
    """Makes sure that a video can have the size of a picture.

    Raises:
        UserError: it is too large.
    """
    side = max(picture.shape)
    if side > LARGEST_SIDE:
        raise UserError(
            f"{path} has a side of {side} pixels, and videos have at most {LARGEST_SIDE}; make it "
            "smaller, or do not paste the face back"
        )
    if side > _PLAYED_SIDE:
        _log.info("the video has a side of %d pixels: not every player shows that", side)


def _open_outputs(
    job: Job,
    view: _View,
    mark: OutputMark | None,
    neutral_mark: OutputMark | None,
    outputs: ExitStack,
) -> Callable[[Frame, Frame | None], None]:
    """Opens all outputs; returns what writes one frame to each. Here frames leave the program."""
    name = job.source_image.name
    origin = (
        f"Synthetic video: a still portrait ({name}) animated from speech ({job.speech.name}) by "
        f"eamm_jax {__version__}. This is not a recording."
    )

    def video(
        path: Path, width: int, emotion: str, mark: OutputMark | None, fragments: Path | None = None
    ) -> VideoWriter:
        metadata = {"title": f"{job.source_image.stem}, {emotion}", "comment": origin}
        return outputs.enter_context(
            video_writer(
                path, width, view.height, FRAME_RATE, job.speech, metadata=metadata, mark=mark,
                fragments=fragments,
            )
        )  # fmt: skip

    main = video(job.output, view.width, job.emotion or "neutral", mark, job.fragments)
    neutral = pictures = None
    if job.neutral_output is not None:
        neutral = video(job.neutral_output, view.panel_width, "neutral", neutral_mark)
    if job.frames is not None:
        pictures = outputs.enter_context(png_sequence(job.frames, mark=mark))

    def write(picture: Frame, neutral_picture: Frame | None) -> None:
        if pictures is not None:
            pictures(picture)
        main.write(picture)  # which may mark it in place
        if neutral is not None:
            assert neutral_picture is not None
            neutral.write(neutral_picture)

    return write
