"""Evaluation cases: clips of a data set, or pairs of rendered and ground-truth videos.

A folder of pairs contains a folder `truth` and one folder per method, with the same names inside.
Names are videos or folders of frames; other files are passed over:

    <root>/truth/<name>.mp4          or  <root>/truth/<name>/0.png, 1.png, ...
    <root>/<method>/<name>.mp4       likewise; <name> may lie in folders, such as <person>/<clip>
    <root>/portrait/<name>.png       the source image; by default the first ground-truth frame

Names as those of MEAD give person, emotion and level (`input_pipeline.clips.labels_in`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage

from eamm_jax import features
from eamm_jax.constants import AUDIO_WINDOW
from eamm_jax.errors import UserError
from eamm_jax.input_pipeline.clips import (
    KINDS,
    LANDMARKS,
    LENGTH_TOLERANCE,
    BadClip,
    Clip,
    ClipName,
    Labels,
    Split,
    Tracks,
    decode_frames,
    labels_in,
)
from eamm_jax.input_pipeline.published import LANDMARKS_FOLDER, PUPILS_FOLDER
from eamm_jax.input_pipeline.sources import Source, open_folder
from eamm_jax.io.audio import read_speech
from eamm_jax.io.decoding import start_time
from eamm_jax.io.files import PICTURE_SUFFIXES, VIDEO_SUFFIXES, is_file_of
from eamm_jax.io.image import read_image, to_uint8
from eamm_jax.io.video import read_video

Frames = UInt8[np.ndarray, "t h w 3"]


def changes(frames: Frames) -> tuple[Bool[np.ndarray, " t"], Int[np.ndarray, " t"]]:
    """Which frames are not the one before again, and the number of each frame's among those.

    What stands still, such as a portrait, is measured once.
    """
    new = np.array([True, *(not np.array_equal(*pair) for pair in itertools.pairwise(frames))])
    return new, np.cumsum(new) - 1


PortraitFrom = Literal["neutral", "first"]


class Sound(NamedTuple):
    """The driving audio and head pose.

    Attributes:
        mfcc: 100 rows per second, from `features.speech_mfcc`.
        pose: one row per frame; None if no model is evaluated.
    """

    mfcc: Float[np.ndarray, "n 13"]
    pose: Float[np.ndarray, "t 7"] | None = None


@dataclass(frozen=True)
class Case:
    """A clip with its ground truth.

    Attributes:
        name: `<identity>/<clip>`, or the name of a pair.
        identity: the person, or empty if unknown.
        portrait: the source image.
        truth: ground-truth frames.
        emotion: index into `EMOTIONS`, or -1 if unknown.
        level: level of the emotion, 1 to 3, or 0 if unknown.
        landmarks: ground-truth landmarks, if the data set has them.
        sound: driving audio and pose, if known.
        made: frames rendered beforehand, by method.
        heard: MFCC of the sound under them, where they have their own.
        faults: why frames of a method are missing.
        sound_file: file with the sound, if there is one.
    """

    name: str
    identity: str
    portrait: UInt8[np.ndarray, "h w 3"]
    truth: Frames
    emotion: int = -1
    level: int = 0
    landmarks: Float[np.ndarray, "t 68 2"] | None = None
    sound: Sound | None = None
    made: Mapping[str, Frames] = field(default_factory=dict)
    heard: Mapping[str, Float[np.ndarray, "n 13"]] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    sound_file: Path | None = None

    def mfcc_under(self, method: str) -> Float[np.ndarray, "n 13"] | None:
        """MFCC of the sound under a method's frames: its own, or else the ground truth's."""
        return self.heard.get(method, self.sound.mfcc if self.sound else None)

    @property
    def labels(self) -> Labels:
        """Person, emotion and its level."""
        return Labels(self.identity, self.emotion, self.level)


def mfcc_rows(windows: Float[np.ndarray, "t 28 13"]) -> Float[np.ndarray, "n 13"]:
    """Recovers the MFCC rows from overlapping windows."""
    step = features.ROWS_PER_FRAME
    return np.concatenate([windows[:-1, :step].reshape(-1, windows.shape[-1]), windows[-1]])


SILENCE_DECIBELS = 40.0
"""Silence is quieter than the loudest moment by this much."""

SILENCE_FRAMES = 5
"""Shortest silence; the closures of stops are shorter."""


def silent_frames(mfcc: Float[np.ndarray, "n 13"]) -> Bool[np.ndarray, " t"]:
    """Frames in silence, before, between and after the words.

    Args:
        mfcc: from `features.speech_mfcc`. Its first column is the log energy.
    """
    first = (AUDIO_WINDOW[0] - features.ROWS_PER_FRAME) // 2
    length = features.num_frames(len(mfcc))
    energy = mfcc[first:, 0][: length * features.ROWS_PER_FRAME]
    loudness = 10 / np.log(10) * energy.reshape(length, -1).mean(axis=1)
    quiet = loudness < loudness.max() - SILENCE_DECIBELS
    return ndimage.binary_opening(np.pad(quiet, SILENCE_FRAMES, "edge"), np.ones(SILENCE_FRAMES))[
        SILENCE_FRAMES:-SILENCE_FRAMES
    ]


class DataSet:
    """The clips of one split of a data set, read one by one.

    Attributes:
        names: sorted names of the clips.
    """

    def __init__(
        self,
        source: Source,
        *,
        size: int,
        split: Split,
        validation_fraction: float,
        with_motion: bool,
        portrait_from: PortraitFrom = "neutral",
        max_frames: int = 0,
    ):
        """Lists the clips without reading them.

        Args:
            source: the data set; its landmarks are used if it has them.
            size: width and height of the frames.
            split: as in training.
            validation_fraction: approximate fraction of the identities, as in training.
            with_motion: also read audio features and pose.
            portrait_from: the source image: the first frame of a neutral clip of the same person,
                if clips are labelled, or the clip's own first frame.
            max_frames: number of frames to use of each clip; 0: all.

        Raises:
            UserError: there are no clips.
        """
        self._kind = KINDS[source.kind]
        root = Path(source.path)
        self._knows_faces = all((root / f).is_dir() for f in (LANDMARKS_FOLDER, PUPILS_FOLDER))
        self._folder = open_folder(source, Tracks(with_motion, truth=self._knows_faces))
        self._with_motion = with_motion
        self._size = size
        self._portrait_from = portrait_from if self._kind.emotional else "first"
        self._max_frames = max_frames
        self._index = {
            name: index
            for index, name in enumerate(self._folder.names)
            if self._kind.is_in(split, name, validation_fraction)
        }
        self.names = list(self._index)
        if not self.names:
            raise UserError(
                f"{source.path} has no clip in the {split} split with a validation fraction of "
                f"{validation_fraction}; use another split or fraction"
            )

    def emotion(self, name: ClipName) -> int:
        """The emotion in a clip's name, as an index, or -1."""
        try:
            return self._kind.emotion(name)
        except BadClip as fault:
            raise UserError(f"{name}: {fault}") from fault

    def level(self, name: ClipName) -> int:
        """The level of the emotion in a clip's name, 1 to 3, or 0."""
        return int(name.clip.split("_")[2]) if self.emotion(name) >= 0 else 0

    def choose(self, count: int) -> list[ClipName]:
        """Selects clips, about equally many of each emotion, from all people; 0 selects all.

        The selection depends only on the names.
        """
        if not 0 < count < len(self.names):
            return self.names
        groups: dict[int, list[ClipName]] = {}
        for place in np.random.default_rng(0).permutation(len(self.names)):
            name = self.names[place]
            groups.setdefault(self.emotion(name), []).append(name)
        turns = itertools.zip_longest(*(groups[key] for key in sorted(groups)))
        dealt = [name for turn in turns for name in turn if name is not None]
        return sorted(dealt[:count])

    def case(self, name: ClipName) -> Case:
        """Reads a clip.

        Raises:
            UserError: a file is missing or damaged.
        """
        try:
            return self._read(name)
        except BadClip as fault:
            raise UserError(
                f"bad clip {name}: {fault} (look for more with python -m data.check)"
            ) from fault

    def _read(self, name: ClipName) -> Case:
        clip = self._folder.open(self._index[name])
        length, sound = clip.num_frames, None
        if self._with_motion:
            pose, windows, length = clip.motion()
        if self._max_frames:
            length = min(length, self._max_frames)
        if self._with_motion:
            sound = Sound(mfcc_rows(windows[:length]), pose[:length])
        truth = np.stack(decode_frames(clip, range(length), self._size))
        points = None
        if self._knows_faces:
            points = np.stack([clip.truth(n).points[:LANDMARKS] for n in range(length)])
        return Case(
            name=str(name),
            identity=name.identity,
            portrait=self._portrait(name, clip),
            truth=truth,
            emotion=self.emotion(name),
            level=self.level(name),
            landmarks=points,
            sound=sound,
        )

    def _portrait(self, name: ClipName, clip: Clip) -> UInt8[np.ndarray, "h w 3"]:
        if self._portrait_from == "neutral":
            neutral = [n for n in self.clips_of(name.identity, "neutral") if n != name]
            if not neutral:
                raise BadClip(f"{name.identity} has no other neutral clip for the source image")
            clip = self._folder.open(self._index[neutral[0]])
        return decode_frames(clip, [0], self._size)[0]

    def clips_of(self, identity: str, emotion: str) -> list[ClipName]:
        """A person's clips of an emotion, by level and take."""
        return [
            name
            for name in self.names
            if name.identity == identity and name.clip.startswith(f"{emotion}_")
        ]

    def frames(self, name: ClipName) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Reads the frames of a clip one by one."""
        clip = self._folder.open(self._index[name])
        for n in range(clip.num_frames):
            yield from decode_frames(clip, [n], self._size)


_TRUTH, _PORTRAIT = "truth", "portrait"


class PairFiles(NamedTuple):
    """The files of one case.

    Attributes:
        name: of the case, its path below `truth` without suffix.
        truth: the ground truth.
        portrait: the source image, or None.
        made: video of each method; None if there is none.
    """

    name: str
    truth: Path
    portrait: Path | None
    made: Mapping[str, Path | None]


class Pairs:
    """A folder of rendered and ground-truth videos (see the module).

    Attributes:
        methods: names of the methods.
        names: sorted names of the videos.
    """

    def __init__(self, root: Path):
        """Lists the videos without reading them.

        Raises:
            UserError: the folder has another layout.
        """
        if not root.is_dir():
            raise UserError(f"No such folder of pairs: {root}")
        if not (root / _TRUTH).is_dir():
            raise UserError(
                f"{root} has no folder {_TRUTH}; put the ground-truth videos there, and each "
                "method's videos of the same names into a folder beside it"
            )
        self.methods = sorted(
            entry.name
            for entry in root.iterdir()
            if entry.is_dir() and entry.name not in (_TRUTH, _PORTRAIT) and entry.name[0] != "."
        )
        if not self.methods:
            raise UserError(f"{root} has no folder of rendered videos beside {_TRUTH}")
        self._truth = _videos(root / _TRUTH)
        self._made = {method: _videos(root / method) for method in self.methods}
        portraits = root / _PORTRAIT
        self._portraits = {
            path.relative_to(portraits).with_suffix("").as_posix(): path
            for path in sorted(portraits.rglob("*"))
            if is_file_of(path, PICTURE_SUFFIXES)
        }
        self.names = sorted(self._truth)
        if not self.names:
            raise UserError(
                f"{root / _TRUTH} holds no videos ({', '.join(VIDEO_SUFFIXES)}) and no folders of "
                "pictures"
            )
        nothing = [
            method for method, videos in self._made.items() if not videos.keys() & self._truth
        ]
        if nothing:
            raise UserError(
                f"{root / nothing[0]} has no video of the same name as any in {root / _TRUTH}, "
                f"such as {self.names[0]}"
            )

    def files(self, name: str) -> PairFiles:
        """The files of a case."""
        made = {method: videos.get(name) for method, videos in self._made.items()}
        return PairFiles(name, self._truth[name], self._portraits.get(name), made)

    def size(self) -> int:
        """Side of the frames of the first ground-truth video that can be read.

        Raises:
            UserError: none of them can.
        """
        fault: UserError | None = None
        for path in self._truth.values():
            try:
                return _square_side(path)
            except UserError as error:
                fault = fault or error
        raise UserError(f"no ground-truth video can be read; the first: {fault}")


def read_pair(files: PairFiles, size: int, max_frames: int = 0) -> Case:
    """Reads a ground-truth video and the rendered videos of the same name.

    Lengths may differ by `LENGTH_TOLERANCE` frames; longer videos are cut.

    Args:
        files: from `Pairs.files`.
        size: width and height of the frames.
        max_frames: number of frames to use of each video; 0: all.

    Returns:
        The case, and in its `faults` why a method's video is not in it.

    Raises:
        UserError: the ground truth cannot be read.
    """
    truth = _read(files.truth, size, max_frames)
    made, faults = {}, {}
    for method, path in files.made.items():
        try:
            if path is None:
                raise UserError(f"{method} has no video of this name")
            frames = _read(path, size, max_frames)
            if abs(len(frames) - len(truth)) > LENGTH_TOLERANCE:
                raise UserError(
                    f"{method} has {len(frames)} frames, the ground truth {len(truth)} "
                    "(at 25 fps); both must have the same length"
                )
            made[method] = frames
        except UserError as error:
            faults[method] = str(error)
    length = min([len(truth), *(len(frames) for frames in made.values())])
    portrait = truth[0]
    if files.portrait is not None:
        portrait = to_uint8(read_image(files.portrait, size))
    mfcc = _mfcc(files.truth)
    heard = {method: _mfcc(path) for method, path in files.made.items() if path is not None}
    return Case(
        name=files.name,
        portrait=portrait,
        truth=truth[:length],
        **labels_in(files.name)._asdict(),
        sound=None if mfcc is None else Sound(mfcc),
        made={method: frames[:length] for method, frames in made.items()},
        heard={method: rows for method, rows in heard.items() if rows is not None},
        faults=faults,
        sound_file=None if mfcc is None else files.truth,
    )


def _read(path: Path, size: int, max_frames: int) -> Frames:
    shots: Iterator[np.ndarray]
    if path.is_dir():
        shots = (to_uint8(read_image(picture, size)) for picture in _pictures(path))
    else:
        shots = read_video(path, size)
    return np.stack(list(itertools.islice(shots, max_frames or None)))


def _mfcc(path: Path) -> Float[np.ndarray, "n 13"] | None:
    """Of the sound in a video, from its first frame on; None without one."""
    if path.is_dir():
        return None
    try:
        return features.speech_mfcc(read_speech(path, start_time(path, "video")))
    except UserError:
        return None


def _videos(folder: Path) -> dict[str, Path]:
    """Videos and folders of frames at any depth, by their path without suffix."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if _is_video(path):
            found[path.stem] = path
        elif _is_folder(path):
            if any(_is_video(entry) or _is_folder(entry) for entry in path.iterdir()):
                found |= {f"{path.name}/{name}": inner for name, inner in _videos(path).items()}
            else:  # frames
                found[path.name] = path
    return found


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _is_video(path: Path) -> bool:
    return is_file_of(path, VIDEO_SUFFIXES)


def _pictures(folder: Path) -> Sequence[Path]:
    """Images in the order of their numbers."""
    numbered = (path for path in folder.iterdir() if path.stem.isdecimal())
    pictures = {int(path.stem): path for path in numbered if is_file_of(path, PICTURE_SUFFIXES)}
    if not pictures:
        raise UserError(f"{folder} has no images named 0.png, 1.png, ...")
    return [pictures[number] for number in sorted(pictures)]


def _square_side(path: Path) -> int:
    """Side of the central square of a video's first frame."""
    if path.is_dir():
        return min(read_image(_pictures(path)[0], None).shape[:2])
    return min(next(iter(read_video(path, None))).shape[:2])
