"""One raw video to a clip in the published layout: frames, poses, sound."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from data import layout
from data.prepare.names import RawClip
from eamm_jax import features
from eamm_jax.checkpoint import load_networks
from eamm_jax.errors import UserError
from eamm_jax.faces import detection
from eamm_jax.faces.face import FaceFinder
from eamm_jax.faces.framing import frame_face, read_template
from eamm_jax.faces.head_pose import (
    LandmarkEstimator,
    NetworkEstimator,
    PoseEstimator,
    framed,
)
from eamm_jax.faces.similarity import Similarity, crop
from eamm_jax.faces.tracking import fill_gaps, follow
from eamm_jax.input_pipeline.clips import LENGTH_TOLERANCE, WINDOW_FRAMES
from eamm_jax.input_pipeline.published import POSE_FOLDER, SOUND_FOLDER
from eamm_jax.io.audio import read_speech
from eamm_jax.io.decoding import start_time
from eamm_jax.io.files import cannot_write
from eamm_jax.io.video import read_video

SKIPPED_FOLDER = ".skipped"
"""Below the output: for each video that was left out a file that says why."""

MISSING_FACES = 0.25
"""Share of a clip's frames without a face from which on it is left out."""

_COMPRESS_LEVEL = 2  # of PNG: quick rather than small


@dataclass(frozen=True)
class Recipe:
    """What every clip is made with.

    Attributes:
        size: rows and columns of the frames.
        pose_network: folder of a converted head pose network; None goes by the landmarks.
        template: `.npy` of 68 landmarks; None is the mean face.
    """

    size: int = 256
    pose_network: str | None = None
    template: str | None = None


@dataclass(frozen=True)
class Task:
    """A clip to be prepared, and all that a worker needs to know."""

    root: str
    raw: RawClip
    recipe: Recipe

    @property
    def done(self) -> bool:
        """Whether its frames are there, and so everything."""
        return layout.frames_of(self.root, self.raw.name).is_dir()

    @property
    def skipped(self) -> Path:
        """Where it says why the video was left out."""
        return Path(self.root, SKIPPED_FOLDER, self.raw.name.identity, f"{self.raw.name.clip}.txt")


class BadVideo(Exception):  # noqa: N818 - it names a video, and is always caught
    """Why a video makes no clip."""


class Tools(NamedTuple):
    """What every clip of a recipe is prepared with."""

    finder: FaceFinder
    estimator: PoseEstimator
    template: Float[np.ndarray, "68 2"]


@cache
def tools_for(recipe: Recipe) -> Tools:
    """The tools of a recipe, made once in each process."""
    estimator: PoseEstimator = LandmarkEstimator()
    if recipe.pose_network is not None:
        _, networks = load_networks(recipe.pose_network, ["head_pose"])
        estimator = NetworkEstimator(networks["head_pose"])
    finder = detection.make_finder()
    return Tools(finder, estimator, read_template(recipe.template, finder))


def check_tools(recipe: Recipe) -> str:
    """Makes sure that clips can be made, before many are begun.

    Returns:
        What poses are told by.

    Raises:
        UserError: the extra `faces` is missing, or the network or the template is bad.
    """
    return tools_for(recipe).estimator.name


def prepare(task: Task) -> str | None:
    """Makes a clip, or notes why it cannot be made.

    Returns:
        None, or why the video was left out.

    Raises:
        UserError: the output cannot be written.
    """
    try:
        try:
            _make(task)
        except BadVideo as fault:
            layout.write_whole(layout.parent(task.skipped), str(fault).encode(errors="replace"))
            return str(fault)
    except OSError as error:
        raise cannot_write(layout.frames_of(task.root, task.raw.name), error) from error
    return None


def _make(task: Task) -> None:
    raw, root, name = task.raw, Path(task.root), task.raw.name
    tools = tools_for(task.recipe)
    try:
        # A sound in a file of its own begins with the picture.
        start = start_time(raw.video, "video") if raw.sound is None else None
        speech = read_speech(raw.sound or raw.video, start)
        windows = features.mfcc_windows(features.speech_mfcc(speech))
        place = _place(raw.video, tools, task.recipe.size, len(windows))
        video = read_video(raw.video, None)
    except UserError as error:
        raise BadVideo(str(error)) from error
    if len(windows) < WINDOW_FRAMES:
        raise BadVideo(f"its sound lasts {len(windows)} frames; {WINDOW_FRAMES} are needed")
    # Without sound there is nothing to learn from a frame.
    wanted = itertools.islice(video, len(windows) + LENGTH_TOLERANCE)
    with layout.unfinished_frames(root, name) as folder:

        def cropped() -> Iterator[UInt8[np.ndarray, "s s 3"]]:
            for n, frame in enumerate(wanted):
                square = crop(frame, place, task.recipe.size)
                Image.fromarray(square).save(folder / f"{n}.png", compress_level=_COMPRESS_LEVEL)
                yield square

        try:
            poses = list(tools.estimator.poses(framed(follow(tools.finder, cropped()))))
        except UserError as error:
            raise BadVideo(str(error)) from error
        if len(poses) < WINDOW_FRAMES:
            raise BadVideo(f"it has {len(poses)} frames; {WINDOW_FRAMES} are needed")
        missing = sum(pose is None for pose in poses)
        if missing > MISSING_FACES * len(poses):
            raise BadVideo(f"no face was found in {missing} of its {len(poses)} frames")
        # A sound that goes on after the last frame is cut, like frames after the sound.
        windows = windows[: len(poses) + LENGTH_TOLERANCE]
        layout.write_track(root, POSE_FOLDER, name, fill_gaps(poses).astype(np.float32))
        layout.write_track(root, SOUND_FOLDER, name, windows.astype(np.float32))


def _place(video: Path, tools: Tools, size: int, length: int) -> Similarity:
    """Where the crop of all frames lies, by the first frame that shows a face.

    Raises:
        BadVideo: too many frames show none.
    """
    tried = int(MISSING_FACES * length) + 1
    for frame in itertools.islice(read_video(video, None), tried):
        for face in tools.finder.find(frame)[:1]:
            return frame_face(face.landmarks, tools.template, size)
    raise BadVideo(f"no face was found in its first {tried} frames")


def read_skipped(task: Task) -> str | None:
    """Why a video was left out before, if it was."""
    try:
        return task.skipped.read_text()
    except OSError:
        return None


def forget_skipped(tasks: list[Task]) -> None:
    """Has videos that were left out tried again."""
    for task in tasks:
        if task.skipped.is_file():
            os.remove(task.skipped)
