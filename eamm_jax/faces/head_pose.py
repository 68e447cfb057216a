"""Estimates head poses in images and videos, and decides which pose a head is animated in.

A pose file comes first. Without one the pose is estimated from the source image: by 3DDFA_V2's
network if there is a converted one, else by fitting a generic face (`faces.generic_face`) to the
landmarks; without a face the head is taken to be upright. Motion may be added: from a track,
from the head in a video, or generated (`faces.idle`).
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jaxtyping import Float, Float32, UInt8

from eamm_jax import bundled, features
from eamm_jax.constants import POSE_NUMBERS
from eamm_jax.errors import UserError
from eamm_jax.faces import detection, generic_face
from eamm_jax.faces.face import Face
from eamm_jax.faces.idle import IdleMotion
from eamm_jax.faces.pose_geometry import (
    FRAMED_REGION,
    Region,
    camera_pose,
    cut_region,
    face_region,
    fit_place,
    fit_pose,
)
from eamm_jax.faces.tracking import TrackedFrame, fill_gaps, follow
from eamm_jax.io.arrays import read_pose
from eamm_jax.io.video import read_video
from eamm_jax.models.head_pose import CAMERA_OUTPUTS, SIZE, HeadPoseNetwork

_log = logging.getLogger(__name__)

TZ = -66.67
"""Seventh number of the published poses; nothing reads it."""

BATCH = 16
"""Regions per call of the network; always as many, so that it is compiled once."""

Picture = UInt8[np.ndarray, "h w 3"]


class Framed(NamedTuple):
    """An image, and where its face is.

    Attributes:
        image: RGB.
        face: in pixels of the image; None if none was found.
        region: the square that the pose refers to; None if it is not known.
    """

    image: Picture
    face: Face | None
    region: Region | None

    @classmethod
    def of(cls, image: Picture, found: list[Face]) -> Framed:
        """An image with the first of the faces that were found in it."""
        if not found:
            return cls(image, None, None)
        return cls(image, found[0], face_region(found[0].landmarks))

    def taken_as_aligned(self) -> Framed:
        """With the region of the face in an aligned crop, if none is known."""
        framed = FRAMED_REGION.scaled(self.image.shape[1])
        return self._replace(region=self.region or framed)


class PoseEstimator(Protocol):
    """Estimates head poses."""

    @property
    def name(self) -> str:
        """For messages."""

    def poses(self, pictures: Iterable[Framed]) -> Iterator[Float32[np.ndarray, " 7"] | None]:
        """The pose in each image; None where there is no estimate."""


class NetworkEstimator:
    """3DDFA_V2's network."""

    name = "3DDFA_V2's network"

    def __init__(self, variables: Any):
        """Compiles the network.

        Args:
            variables: of a `HeadPoseNetwork`, of any width.
        """
        width = variables["params"]["conv1"]["kernel"].shape[-1]
        self._variables = variables
        self._see = jax.jit(HeadPoseNetwork(width).apply)

    def poses(self, pictures: Iterable[Framed]) -> Iterator[Float32[np.ndarray, " 7"] | None]:
        """None where the region is not known."""
        pictures = iter(pictures)
        while batch := list(itertools.islice(pictures, BATCH)):
            # A single picture, as a portrait is, is worth compiling for.
            seen = np.zeros((1 if len(batch) == 1 else BATCH, SIZE, SIZE, 3), np.float32)
            for place, picture in zip(seen, batch, strict=False):
                if picture.region is not None:
                    place[...] = cut_region(picture.image, picture.region)
            outputs = np.asarray(self._see(self._variables, seen))[: len(batch), :CAMERA_OUTPUTS]
            for picture, pose in zip(batch, camera_pose(outputs.reshape(-1, 3, 4)), strict=True):
                yield None if picture.region is None else pose.astype(np.float32)


class LandmarkEstimator:
    """The pose in which a generic face projects to the landmarks that were found.

    Of a face whose rotation was measured in three dimensions, only scale and place are fitted.
    """

    name = "the landmarks"

    def poses(self, pictures: Iterable[Framed]) -> Iterator[Float32[np.ndarray, " 7"] | None]:
        """None where there is no face."""
        for picture in pictures:
            if picture.face is None or picture.region is None:
                yield None
                continue
            seen = picture.region.from_picture(picture.face.landmarks[generic_face.LANDMARKS])
            points, weights = generic_face.POINTS, generic_face.WEIGHTS
            if picture.face.rotation is None:
                pose = fit_pose(points, seen, weights)
            else:
                pose = fit_place(points, seen, picture.face.rotation, weights)
            yield np.array([*pose, TZ], np.float32)


# --- Which pose a head is animated in ---------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class HeadPose:
    """How the head is held and moved.

    Attributes:
        file: `.npy` of poses; None estimates the pose of the source image.
        motion: `.npy` track whose motion is added to the still pose.
        video: of a person whose head motion is added to the still pose.
        idle: strength of a generated gentle motion; 0 is none, 1 that of a calm speaker.
        still: whether the head does not move; of a file the first pose is used.
    """

    file: Path | None = None
    motion: Path | None = None
    video: Path | None = None
    idle: float = 0.0
    still: bool = False

    def check(self) -> None:
        """Finds contradictions before anything is read.

        Raises:
            UserError: two of the attributes exclude each other, or `idle` is out of range.
        """
        if not np.isfinite(self.idle) or self.idle < 0:
            raise UserError(f"idle motion is {self.idle}; it must be 0 or more, 1 is natural")
        moves = {
            "the motion of a track": self.motion is not None,
            "the motion of a video": self.video is not None,
            "idle motion": self.idle > 0,
        }
        asked = [what for what, given in moves.items() if given]
        if self.still and asked:
            raise UserError(f"a still head and {asked[0]} are both given; leave one of them out")
        if self.motion is not None and self.video is not None:
            raise UserError(
                "the motion of a track and of a video are both given; leave one of them out"
            )

    def track(
        self,
        source: Picture,
        length: int,
        estimator: PoseEstimator | None = None,
        *,
        seed: int = 0,
        start: Fraction | None = None,
    ) -> Float32[np.ndarray, "m _"]:
        """The pose or the track of an animation.

        Args:
            source: the source image, cropped.
            length: frames of the animation; videos are read no further.
            estimator: of poses; None fits the landmarks.
            seed: of the idle motion.
            start: second of the video's clock at which the animation begins; None is its first
                frame.

        Returns:
            One row (a still head), or a track.

        Raises:
            UserError: a file is bad, or what is needed is not installed.
        """
        estimator = estimator or LandmarkEstimator()
        pose = _of_source(source, estimator) if self.file is None else read_pose(self.file)
        pose = pose[:, :POSE_NUMBERS]
        moves = self.motion or self.video or self.idle > 0
        if self.still or (moves and self.file in (None, bundled.POSE)):
            pose = pose[:1]
        if self.motion is not None or self.video is not None:
            if len(pose) != 1:
                raise UserError(
                    f"{self.file} holds {len(pose)} head poses; to add the motion of "
                    f"{self.motion or self.video} it must hold a single one"
                )
            if self.motion is not None:
                track = read_pose(self.motion)
            else:
                assert self.video is not None
                track = video_track(self.video, estimator, length, start)
            pose = features.add_motion(pose, track[:, :POSE_NUMBERS])
        if self.idle > 0:
            pose = features.pose_track(pose, length)
            pose = pose + IdleMotion(self.idle, seed).next(length)
        return pose


def _of_source(source: Picture, estimator: PoseEstimator) -> Float32[np.ndarray, "m 7"]:
    finder = detection.make_finder() if detection.is_installed() else None
    found = [] if finder is None else finder.find(source)
    pose = next(iter(estimator.poses([Framed.of(source, found).taken_as_aligned()])))
    if pose is None:
        why = (
            "no face was found"
            if finder is not None
            else "there is no head pose network, and faces cannot be found without the extra "
            "'faces'"
        )
        _log.info("no head pose is given, and %s: the head is taken to be upright", why)
        return read_pose(bundled.POSE)
    where = "" if found else ", taken to be aligned"
    _log.info("head pose by %s%s: %s", estimator.name, where, in_words(pose))
    return pose[None]


def in_words(pose: Float[np.ndarray, " _"]) -> str:
    """The angles of a pose, for a person."""
    return "yaw {:.1f}, pitch {:.1f}, roll {:.1f} degrees".format(*pose[:3])


# --- Videos -----------------------------------------------------------------------------------


def video_track(
    path: Path, estimator: PoseEstimator, length: int, start: Fraction | None = None
) -> Float32[np.ndarray, "t 7"]:
    """The head poses in a video of one person, 25 per second.

    Frames without a face get interpolated poses.

    Args:
        path: any video, of any framing.
        estimator: of poses.
        length: frames that are read at most.
        start: second of the file's clock that the track begins at; None is the first frame.

    Raises:
        UserError: it cannot be read, no face is found in it, or the extra `faces` is missing.
    """
    finder = detection.make_finder()
    frames = itertools.islice(read_video(path, None, start=start), length)
    poses = list(estimator.poses(framed(follow(finder, frames))))
    missing = sum(pose is None for pose in poses)
    if missing == len(poses):
        raise UserError(f"No face was found in {path}; give a video of one person, seen from near")
    if missing:
        _log.warning("%s: no face was found in %d of %d frames", path, missing, len(poses))
    _log.info("motion of the head in %s by %s", path, estimator.name)
    return fill_gaps(poses).astype(np.float32)


def framed(followed: Iterable[TrackedFrame]) -> Iterator[Framed]:
    """Frames of a video, for an estimator."""
    for frame, face, _ in followed:
        yield Framed.of(frame, [] if face is None else [face])
