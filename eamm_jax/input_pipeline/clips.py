"""Clips, the rules of each kind of data set, and checks that a clip can be used.

The rules are those of the published training code (docs/architecture.md, section 8).
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float16, Float32, UInt8
from PIL import Image

from eamm_jax.constants import AUDIO_WINDOW, CLIP_FRAMES, EMOTIONS, POSE_NUMBERS
from eamm_jax.types import FaceTruth, Keypoints

WINDOW_FRAMES = CLIP_FRAMES + 1
"""Consecutive frames per example: the source image, then the clip."""

STORED_POSE_NUMBERS = 7
"""Numbers per frame in a pose file: the six used, and tz."""

LANDMARKS, PUPILS = 68, 2

REGION_PIXELS = 64
"""Rows and columns of the map that says what a frame shows."""

KEYPOINT_NUMBERS = 6
"""Of an image keypoint that is kept with a clip: (x, y), and the Jacobian row by row."""

ALBUM = "stills_{:03d}"
"""Name in place of a clip's, of unrelated frames for stage 0 (`data.synthetic`, `--stills`)."""

STORED_WINDOW = (AUDIO_WINDOW[0], AUDIO_WINDOW[1] + 1)
"""MFCC rows and columns per frame on disk; column 0, the log energy, is not used."""

LENGTH_TOLERANCE = 2
"""Frames by which audio and video may differ in length, because codecs use packets."""


Split = Literal["train", "validation", "all"]


class BadClip(Exception):  # noqa: N818 - it names a clip, and is always caught
    """A clip that cannot be used; the message gives the fault without the clip's name."""


class ClipName(NamedTuple):
    """The name of a clip, `<identity>/<clip>`; sorted by both."""

    identity: str
    clip: str

    @property
    def is_album(self) -> bool:
        """Whether it names stills, which have neither sound nor label."""
        return self.clip.startswith(ALBUM.partition("{")[0])

    def __str__(self) -> str:
        return f"{self.identity}/{self.clip}"


class Labels(NamedTuple):
    """What is known of a clip beside its content.

    Attributes:
        identity: the person; empty if unknown.
        emotion: index into `EMOTIONS`, or -1 if unknown.
        level: level of the emotion, 1 to 3, or 0 if unknown.
    """

    identity: str = ""
    emotion: int = -1
    level: int = 0


class Tracks(NamedTuple):
    """What is read of clips beside their frames; it must be there then.

    Attributes:
        motion: audio features and pose.
        truth: landmarks, pupils and pose; regions and flows, if there are any.
        keypoints: image keypoints, which `data.teach` has found.
        heatmaps: their heatmaps.
    """

    motion: bool = False
    truth: bool = False
    keypoints: bool = False
    heatmaps: bool = False


EMOTION_NAMES = {
    name: index for index, emotion in enumerate(EMOTIONS) for name in (emotion, emotion[:3])
}
_LABELLED = re.compile(rf"(?:^|[/_])({'|'.join(EMOTION_NAMES)})[/_](?:level_)?([1-3])(?=[/_]|$)")


def labels_in(name: str) -> Labels:
    """The labels in a name such as `M003/angry_level_1_001` (MEAD) or `M003_ang_1_001`.

    The person is the first folder, or in flat names what stands before the first underscore. Other
    names have no emotion, and the person only if there is a folder.
    """
    folder, slash, _ = name.partition("/")
    found = _LABELLED.search(name)
    if not found:
        return Labels(folder if slash else "")
    before = folder if slash else name[: found.start()].partition("_")[0]
    return Labels(before, EMOTION_NAMES[found[1]], int(found[2]))


@dataclass(frozen=True)
class Clip:
    """A video with encoded frames, audio features and head pose.

    Attributes:
        num_frames: number of frames.
        encoded_frame: function that returns frame n as the bytes of a PNG, JPEG or WebP file;
            raises `BadClip`.
        pose: 3DDFA_V2 head pose of each frame, or None if not requested.
        windows: MFCC window of each frame, or None if not requested.
        points: landmarks and pupils of each frame, or None if not requested.
        keypoints: image keypoints of each frame as `data.teach` found them, positions and
            Jacobians, or None if not requested.
        heatmap: function that returns their heatmap of frame n, or None if not requested;
            raises `BadClip`.
        regions: what the pixels of each frame show (`types.Region`), or None if not known.
        flows: for frames n and m, where in frame m that is which the pixels of frame n show; NaN
            where that is not known. None if it is known nowhere.
    """

    num_frames: int
    encoded_frame: Callable[[int], bytes]
    pose: Float32[np.ndarray, "t 7"] | None = None
    windows: Float32[np.ndarray, "t 28 13"] | None = None
    points: Float32[np.ndarray, "t 70 2"] | None = None
    keypoints: Float32[np.ndarray, "t k 6"] | None = None
    heatmap: Callable[[int], Float16[np.ndarray, "h w k"]] | None = None
    regions: Float32[np.ndarray, "t 64 64"] | None = None
    flows: Float32[np.ndarray, "t t 64 64 2"] | None = None

    def truth(self, n: int, source: int | None = None) -> FaceTruth:
        """Ground truth of the face in frame `n`, with the flow to frame `source` if there is one.

        Raises:
            BadClip: a track has the wrong length or is not finite.
        """
        if self.pose is None or self.points is None:
            raise ValueError("the clip was opened without its landmarks")
        _check_shape("poses", self.pose, (self.num_frames, STORED_POSE_NUMBERS))
        _check_shape("landmarks and pupils", self.points, (self.num_frames, LANDMARKS + PUPILS, 2))
        for what, track in (("pose", self.pose), ("landmarks and pupils", self.points)):
            if not np.isfinite(track[n]).all():
                raise BadClip(f"the {what} of frame {n} are not finite")
        regions = self.regions
        if regions is not None:
            _check_shape("regions", regions, (self.num_frames, REGION_PIXELS, REGION_PIXELS))
            regions = regions[n]
        flow = None
        if self.flows is not None and source is not None:
            square = (REGION_PIXELS, REGION_PIXELS, 2)
            _check_shape("flows", self.flows, (self.num_frames, self.num_frames, *square))
            flow = self.flows[n, source]
        return FaceTruth(self.points[n], self.pose[n, :POSE_NUMBERS], regions, flow)

    def taught(self, numbers: Sequence[int]) -> Keypoints:
        """The image keypoints of some frames, with heatmaps if the clip was opened with them.

        Raises:
            BadClip: a track has the wrong length or is not finite.
        """
        if self.keypoints is None:
            raise ValueError("the clip was opened without its keypoints")
        k = self.keypoints.shape[1] if self.keypoints.ndim == 3 else 0
        _check_shape("keypoints", self.keypoints, (self.num_frames, k, KEYPOINT_NUMBERS))
        found = self.keypoints[numbers]
        if not np.isfinite(found).all():
            raise BadClip("its keypoints are not finite")
        heatmaps = self.heatmap and np.stack([self.heatmap(n) for n in numbers])
        jacobian = found[..., 2:].reshape(*found.shape[:2], 2, 2)
        return Keypoints(found[..., :2], jacobian, heatmaps)  # type: ignore[arg-type]  # NumPy

    def motion(
        self,
    ) -> tuple[Float32[np.ndarray, "t 7"], Float32[np.ndarray, "u 28 13"], int]:
        """Pose, MFCC windows, and the number of frames that have both.

        Raises:
            BadClip: the tracks differ in length, are not finite, or are too short.
        """
        if self.pose is None or self.windows is None:
            raise ValueError("the clip was opened without pose and audio features")
        windows = len(self.windows)
        _check_shape("poses", self.pose, (self.num_frames, STORED_POSE_NUMBERS))
        _check_shape("MFCC windows", self.windows, (windows, *STORED_WINDOW))
        if abs(windows - self.num_frames) > LENGTH_TOLERANCE:
            raise BadClip(f"it has {self.num_frames} frames but {windows} MFCC windows")
        for what, track in (("pose", self.pose), ("MFCC window", self.windows)):
            finite = np.isfinite(track).reshape(len(track), -1).all(axis=1)
            if not finite.all():
                raise BadClip(f"the {what} of frame {np.argmin(finite)} is not finite")
        length = min(self.num_frames, windows)
        if length < WINDOW_FRAMES:
            raise BadClip(f"it has {length} windows; at least {WINDOW_FRAMES} are needed")
        return self.pose, self.windows, length


def _check_shape(what: str, track: np.ndarray, shape: tuple[int, ...]) -> None:
    if track.shape != shape:
        raise BadClip(f"its {what} have shape {track.shape}, not {shape}")


@dataclass(frozen=True)
class Kind:
    """The rules of a kind of data set.

    Attributes:
        name: its name in sources (`kind=path`).
        split_by_clip: training and validation are split by clip instead of identity (in LRW the
            identity folder is a word, and speakers are unknown).
        starts_early: clips are short and examples start at frames 3 to 7.
        emotional: clip names carry an emotion label; the source image comes from a neutral clip
            of the same person; poses are smoothed.
    """

    name: str
    split_by_clip: bool = False
    starts_early: bool = False
    emotional: bool = False

    def starts(self, length: int) -> range:
        """Frames at which an example may start, in a clip of `length` usable frames."""
        if self.starts_early:
            last = min(7, length - WINDOW_FRAMES)
            return range(min(3, last), last + 1)
        return range(3, length - 20) if length >= 24 else range(1)

    def validation_share(self, name: ClipName) -> float:
        """A hash in [0, 1) that is equal for all clips that must be in the same split.

        Clips below the validation fraction are used for validation. The hash depends only on
        the name, so it is the same for every run, process and packed copy.
        """
        key = str(name) if self.split_by_clip else name.identity
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64

    def is_in(self, split: Split, name: ClipName, validation_fraction: float) -> bool:
        """Whether a clip is in a split; `all` has every clip."""
        validates = self.validation_share(name) < validation_fraction
        return split == "all" or validates == (split == "validation")

    def emotion(self, name: ClipName) -> int:
        """The emotion in the clip's name, as an index into `EMOTIONS`, or -1.

        Raises:
            BadClip: names of this kind must carry a label, and this one has none.
        """
        if not self.emotional:
            return -1
        match = re.fullmatch(r"([a-z]+)_level_([1-3])_(\d+)", name.clip)
        if not match or match[1] not in EMOTIONS:
            raise BadClip(
                "its name is not <emotion>_level_<1..3>_<take>, the emotion one of "
                f"{', '.join(EMOTIONS)}"
            )
        if match[1] == "neutral" and match[2] != "1":
            raise BadClip(f"its name says level {match[2]}, but neutral has level 1 only")
        return EMOTIONS.index(match[1])


KINDS = {
    kind.name: kind
    for kind in (
        Kind("lrw", split_by_clip=True, starts_early=True),
        Kind("mead", emotional=True),
        Kind("voxceleb"),
        Kind("synthetic", emotional=True),
    )
}
"""The data sets of the published system, and synthetic faces (`data.synthetic`).

Use `voxceleb` for any other speech video.
"""


def decode_frame(data: bytes, size: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes a square PNG, JPEG or WebP.

    Args:
        data: the encoded image.
        size: width and height of the result; None keeps the image's. Other sizes are resized
            with an antialiased bilinear filter; a JPEG of twice the size or more is first
            decoded at half of it, a quarter or an eighth, which takes less time.

    Raises:
        BadClip: the image cannot be decoded, or is not square.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"]) as image:
            if image.width != image.height:
                raise BadClip(f"is {image.width}x{image.height}, not square")
            if size is not None:
                image.draft("RGB", (size, size))
            pixels = image.convert("RGB")
    except BadClip:
        raise
    except Exception as error:  # Pillow raises various exceptions for damaged files
        raise BadClip("is not a readable PNG, JPEG or WebP") from error
    if size is not None and pixels.size != (size, size):
        pixels = pixels.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(pixels)


def decode_frames(
    clip: Clip, numbers: Iterable[int], size: int | None = None
) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Decodes frames of a clip by number, each of its own size or (size, size, 3).

    Raises:
        BadClip: a frame is missing or unreadable; the message gives its number.
    """
    frames = []
    for n in numbers:
        data = clip.encoded_frame(n)
        try:
            frames.append(decode_frame(data, size))
        except BadClip as error:
            raise BadClip(f"frame {n} {error}") from error
    return frames
