"""Animates a source image: arrays in, frames out as they are rendered.

Drives `program.py`. What does not change from frame to frame is computed once; the rest runs in
chunks of a fixed number of frames, each of which hands its state to the next. So a new length
compiles nothing, memory does not grow with it, and the size of a chunk does not change the
result.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, UInt8

from eamm_jax import features
from eamm_jax.animate import program
from eamm_jax.animate.emotion_bank import EmotionBank, Span
from eamm_jax.animate.program import EMOTION_NETWORK, REQUIRED_NETWORKS, Variables
from eamm_jax.animate.session import Session, padded
from eamm_jax.animate.stream import Pose, Stream
from eamm_jax.animate.timeline import MAX_STRENGTH, Timeline
from eamm_jax.checkpoint import WEIGHTS_NAME, load_networks, model_folder, stored_networks
from eamm_jax.constants import DTYPES, POSE_NUMBERS
from eamm_jax.errors import UserError
from eamm_jax.models import Networks, build
from eamm_jax.models.config import ModelConfig
from eamm_jax.ops.smoothing import POSE_FILTER, smooth_track
from eamm_jax.types import Array

DEFAULT_CHUNK = 8
"""Frames in flight: enough to share the reading of weights, few enough to start soon."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a user may choose for one animation; the defaults are the published demo's.

    Attributes:
        audio_weight: factor on the audio features; None is the model's default.
        emotion_strength: factor on the emotion's displacement, 0 (neutral) to `MAX_STRENGTH`.
        smoothing: whether keypoints, displacement and pose tracks are filtered; None is the
            model's default.
        relative: whether the motion since the first frame moves the source keypoints, instead
            of the driving keypoints replacing them; None is the model's default.
        adapt_scale: in relative mode, whether motion is scaled to the size of the face.
        mask_mouth: whether the mouth in the emotion frames is hidden, as in training.
        augment_emotion: whether those frames are also flipped, rotated and warped at random,
            as the published demo does.
        blinks: whether the face blinks, where the model knows which keypoints are its lids.
        timeline: key frames of emotions, head, gaze and more.
        strict: whether what the model cannot do of the timeline is an error, and not left out.
        neutral: whether each frame is rendered without emotion as well.
        seed: of everything random.
    """

    audio_weight: float | None = None
    emotion_strength: float = 1.0
    smoothing: bool | None = None
    relative: bool | None = None
    adapt_scale: bool = False
    mask_mouth: bool = True
    augment_emotion: bool = False
    blinks: bool = True
    timeline: Timeline = dataclasses.field(default_factory=Timeline)
    strict: bool = False
    neutral: bool = False
    seed: int = 0

    def resolved(self, config: ModelConfig) -> Settings:
        """The settings with the model's defaults in place of None."""
        model = config.inference
        return dataclasses.replace(
            self,
            audio_weight=model.audio_weight if self.audio_weight is None else self.audio_weight,
            smoothing=model.smooth_motion if self.smoothing is None else self.smoothing,
            relative=model.relative_motion if self.relative is None else self.relative,
        )


class AnimatedFrame(NamedTuple):
    """One frame, RGB.

    Attributes:
        image: with the emotion, if there is one.
        neutral: the same frame without emotion, where `Settings.neutral` asks for it.
    """

    image: np.ndarray
    neutral: np.ndarray | None


class Animation:
    """The frames of one animation, rendered as they are asked for; the length is known before."""

    def __init__(self, length: int, frames: Iterator[AnimatedFrame]):
        self._length, self._frames = length, frames

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[AnimatedFrame]:
        return self._frames


class Parts:
    """The functions of `program.py`, each compiled once, for all chunks, source images and lengths.

    They take the arguments of those functions but for the modules and the configuration; the
    states that they are given are donated.
    """

    def __init__(self, networks: Networks, config: ModelConfig, device: jax.Device):
        """Prepares the functions; each is compiled when it is first called."""
        self.initial_state = jax.jit(
            partial(program.initial_state, networks, config),
            out_shardings=jax.sharding.SingleDeviceSharding(device),
        )
        self.encode_source = jax.jit(partial(program.encode_source, networks))
        self.audio_to_keypoints = jax.jit(
            partial(program.audio_to_keypoints, networks), donate_argnames="state"
        )
        self.read_emotion = jax.jit(
            partial(program.read_emotion, networks), static_argnames="mask_mouth"
        )
        self.combine = jax.jit(
            partial(program.combine, networks, config),
            static_argnames=("smooth", "relative"),
            donate_argnames="state",
        )
        self.render = jax.jit(partial(program.render, networks), static_argnames="as_uint8")


@cache
def parts_of(networks: Networks, config: ModelConfig, device: jax.Device) -> Parts:
    """Those that models of one configuration share."""
    return Parts(networks, config, device)


class Animator:
    """A loaded model, ready to animate any number of source images.

        animator = Animator.from_checkpoint("weights")
        for frame in animator.animate(source_image, speech, pose, emotion_frames):
            show(frame.image)

    Args:
        config: of the model.
        variables: parameters and statistics by network name, as `load_networks` returns
            them; `emo_detector` may be missing, if no emotion is asked for.
        bank: emotions that need no video, if the checkpoint has some.
        chunk: frames computed at a time.
        dtype: `float32`, or `bfloat16` for what computes faster in it: accelerators, and
            processors with AMX.
        device: to compute on; by default JAX's first.
        weights: the file that the variables are from, if there is one.

    Attributes:
        parts: the compiled functions.
    """

    def __init__(
        self,
        config: ModelConfig,
        variables: Variables,
        *,
        bank: EmotionBank | None = None,
        chunk: int = DEFAULT_CHUNK,
        dtype: str = "float32",
        device: jax.Device | None = None,
        weights: Path | None = None,
    ):
        if dtype not in DTYPES:
            raise UserError(f"dtype is {dtype!r}; allowed are {', '.join(DTYPES)}")
        if chunk < 1:
            raise UserError(f"chunk is {chunk}; it must be 1 or more frames")
        self.config, self.bank, self.chunk, self.dtype = config, bank, chunk, dtype
        self.weights = weights
        self.device = jax.devices()[0] if device is None else device
        self.networks = build(config, jnp.dtype(dtype))
        self.parts = parts_of(self.networks, config, self.device)
        self.variables = self.put(program.select_networks(variables))

    @classmethod
    def from_checkpoint(
        cls, folder: str | Path, *, emotion: bool | None = True, **options: Any
    ) -> Animator:
        """Loads a converted checkpoint, or the one a training run keeps.

        Args:
            folder: written by `eamm-convert` or `eamm-train`.
            emotion: whether the emotion network is loaded too; None: if there is one.
            **options: as for `Animator`.

        Raises:
            UserError: it is not such a folder, or something in it is missing or damaged.
        """
        if emotion is None:
            emotion = EMOTION_NETWORK in stored_networks(folder)
        networks = (*REQUIRED_NETWORKS, EMOTION_NETWORK) if emotion else REQUIRED_NETWORKS
        config, variables = load_networks(folder, networks)
        width = config.emotion.stage_widths[-1]
        model = model_folder(folder)
        bank = EmotionBank.load(model, width) if emotion else None
        return cls(config, variables, bank=bank, weights=model / WEIGHTS_NAME, **options)

    def replace(self, **options: Any) -> Animator:
        """The same model with other options, as for `Animator`: on another device, say."""
        names = ("bank", "chunk", "dtype", "device", "weights")
        own = {name: getattr(self, name) for name in names}
        return Animator(self.config, self.variables, **{**own, **options})

    @property
    def image_size(self) -> int:
        """Side of the square source images, emotion frames and results."""
        return self.config.image_size

    @property
    def has_emotion_network(self) -> bool:
        """Whether emotions can be read from a video or taken from a bank."""
        return EMOTION_NETWORK in self.variables

    def animate(
        self,
        source_image: Float32[np.ndarray, "s s 3"],
        speech: Float[np.ndarray, " n"] | Float[np.ndarray, "n 13"],
        pose: Float[np.ndarray, "m _"],
        emotion_frames: Iterable[UInt8[np.ndarray, "s s 3"]] | None = None,
        settings: Settings | None = None,
        *,
        emotions: Sequence[Span] = (),
        level: int | None = None,
        as_uint8: bool = True,
    ) -> Animation:
        """The frames of an animation, 25 a second.

        Args:
            source_image: RGB in [0, 1].
            speech: mono samples at 16 kHz; or their MFCC (`features.speech_mfcc`), which data
                sets keep instead.
            pose: head poses (yaw, pitch, roll in degrees, scale, tx, ty and, unused, tz); a
                single one is held, a track is continued or cut to the length of the speech.
            emotion_frames: aligned frames of an emotional face at 25 a second, repeated from
                the start when they end; read as they are needed, each once. Without them the
                face stays neutral.
            settings: see `Settings`.
            emotions: of the model's emotion bank, where there is no video and the timeline of the
                settings has none.
            level: intensity of the bank's emotions, 1 to 3; None is the strongest.
            as_uint8: whether frames are bytes, or float32 in [0, 1].

        Returns:
            The frames, rendered as they are asked for.

        Raises:
            UserError: an input has a wrong size, or the checkpoint lacks the emotion network,
                the emotion bank or the emotion.
        """
        settings = self._resolved(settings)
        timeline = settings.timeline
        emotional = emotion_frames is not None or bool(emotions)
        self._check(source_image, emotional, settings)
        if emotional and timeline.emotions:
            raise UserError(
                "the timeline has emotions, and another one is given; leave one of them out"
            )
        if pose.ndim != 2 or len(pose) == 0 or pose.shape[1] < POSE_NUMBERS:
            raise UserError(f"the pose has shape {pose.shape}; (frames, 6 or 7) is needed")
        mfcc = features.speech_mfcc(speech) if speech.ndim == 1 else speech
        length = features.num_frames(len(mfcc))
        if settings.smoothing and len(pose) > 1:
            pose = smooth_track(pose, POSE_FILTER)
        poses = features.pose_track(pose, length)
        emotion: Iterator[Array] | None = None
        if settings.emotion_strength == 0:
            pass
        elif emotion_frames is not None:
            emotion = self._video_features(emotion_frames, settings)
        elif timeline.emotions or emotions:
            emotion = self._bank_features(timeline, emotions, length, level)
        chunks = self._chunks(source_image, mfcc, poses, emotion, settings, as_uint8)
        return Animation(length, _one_behind(chunks))

    def stream(
        self,
        source_image: Float32[np.ndarray, "s s 3"],
        pose: Pose,
        settings: Settings | None = None,
        *,
        emotion: str | None = None,
        level: int | None = None,
        most_waiting: int | None = None,
        as_uint8: bool = True,
    ) -> Stream:
        """An animation of speech as it comes (`eamm_jax/animate/stream.py`).

        Frames are rendered in chunks of the animator's: with 1, each as soon as it can be.

        Args:
            source_image: RGB in [0, 1].
            pose: of the head, held until it is changed; or one for each frame.
            settings: see `Settings`.
            emotion: of the model's emotion bank, to begin with; None stays neutral for good, but
                for the emotions of the settings' timeline.
            level: intensity of the emotion, 1 to 3; None is the strongest.
            most_waiting: frames that may be due at once before the oldest are dropped; None
                drops none.
            as_uint8: whether frames are bytes, or float32 in [0, 1].

        Raises:
            UserError: an input has a wrong size, or there is no such emotion.
        """
        settings = self._resolved(settings)
        self._check(source_image, emotion is not None, settings)
        return Stream(
            self,
            source_image,
            pose,
            settings,
            emotion=emotion,
            level=level,
            most_waiting=most_waiting,
            as_uint8=as_uint8,
        )

    def read_emotion(
        self, frames: Iterable[UInt8[np.ndarray, "s s 3"]]
    ) -> Float32[np.ndarray, "t n"]:
        """Emotion features of each frame of an aligned video, for an emotion bank.

        Raises:
            UserError: the checkpoint lacks the emotion network, or there are no frames.
        """
        if not self.has_emotion_network:
            raise UserError("the checkpoint holds no emotion network (emo_detector)")
        read = self._read(frames, Settings())
        return np.concatenate([jax.device_get(encoded)[:count] for count, encoded in read])

    def put(self, tree: Any) -> Any:
        """Arrays of the host on the device."""
        return jax.device_put(tree, self.device)

    def check_source(self, source_image: np.ndarray) -> None:
        """Makes sure that a source image has the size of the model's."""
        shape = (self.image_size, self.image_size, self.config.num_channels)
        if source_image.shape != shape:
            raise UserError(
                f"the source image has shape {source_image.shape}; this model needs {shape}"
            )

    def _resolved(self, settings: Settings | None) -> Settings:
        """With the model's defaults, and without what it cannot do."""
        settings = (settings or Settings()).resolved(self.config)
        timeline = settings.timeline.within(self.config, self.bank, strict=settings.strict)
        return dataclasses.replace(settings, timeline=timeline)

    def _check(self, source_image: np.ndarray, emotional: bool, settings: Settings) -> None:
        self.check_source(source_image)
        if emotional and not self.has_emotion_network:
            raise UserError(
                "the checkpoint holds no emotion network (emo_detector); convert it again with "
                "the published file that does, or leave the emotion out for a neutral face"
            )
        if not np.isfinite(settings.audio_weight or 0.0):
            raise UserError("audio_weight must be a finite number")
        strength = settings.emotion_strength
        if not 0 <= strength <= MAX_STRENGTH:
            raise UserError(f"emotion_strength is {strength:g}; allowed is 0 to {MAX_STRENGTH:g}")

    def _chunks(
        self,
        source_image: np.ndarray,
        mfcc: np.ndarray,
        poses: np.ndarray,
        emotion: Iterator[Array] | None,
        settings: Settings,
        as_uint8: bool,
    ) -> Iterator[tuple[int, Array, Array | None]]:
        """(frames, images, neutral images) of each chunk, without waiting for the device."""
        session = Session(self, settings, as_uint8=as_uint8)
        session.show(source_image)
        mfcc, _ = features.silenced(mfcc, self.config.inference.loudness_range)
        for start in range(0, len(poses), self.chunk):
            stop = min(start + self.chunk, len(poses))
            images = session.step(
                features.audio_windows(mfcc, start, stop),
                poses[start:stop],
                None if emotion is None else next(emotion),
            )
            assert images is not None
            yield stop - start, *images

    def _read(
        self, frames: Iterable[np.ndarray], settings: Settings
    ) -> Iterator[tuple[int, Float[Array, "chunk n"]]]:
        """Emotion features of a video, a chunk at a time, and how many of them are of frames."""
        rng = self.put(jax.random.key(settings.seed)) if settings.augment_emotion else None
        remaining, length = iter(frames), 0
        while batch := list(itertools.islice(remaining, self.chunk)):
            images, first = self.put((padded(np.stack(batch), self.chunk), np.int32(length)))
            with jax.transfer_guard("disallow"):
                encoded = self.parts.read_emotion(
                    self.variables, images, rng, first, mask_mouth=settings.mask_mouth
                )
            yield len(batch), encoded
            length += len(batch)
        if not length:
            raise UserError("the emotion video has no frames")

    def _video_features(
        self, frames: Iterable[np.ndarray], settings: Settings
    ) -> Iterator[Float[Array, "chunk n"]]:
        """Emotion features of a video, a chunk at a time; repeated without end.

        Each frame is encoded once, when it is first needed; its features (512 numbers) are kept.
        """
        known: list[Array] = []
        length = 0
        for count, encoded in self._read(frames, settings):
            known.append(encoded)
            length += count
            if count == self.chunk:
                yield encoded
        # The video has ended. Picked on the host, so that no length compiles anything.
        table = np.concatenate(jax.device_get(known))[:length]
        for start in itertools.count(length // self.chunk * self.chunk, self.chunk):
            yield self.put(table[np.arange(start, start + self.chunk) % length])

    def _bank_features(
        self, timeline: Timeline, emotions: Sequence[Span], length: int, level: int | None
    ) -> Iterator[Float32[Array, "chunk n"]]:
        """Emotion features of the bank, a chunk at a time."""
        if self.bank is None:
            raise UserError(
                "this model has no emotion bank, so an emotion needs a video; "
                "python -m eamm_jax.cli.emotion_bank makes a bank from labelled clips"
            )
        if timeline.emotions:
            track = timeline.emotion_features(self.bank, level, 0, length)
        else:
            track = self.bank.features(emotions, length, level)
        starts = range(0, length, self.chunk)
        return (self.put(padded(track[at : at + self.chunk], self.chunk)) for at in starts)


def _one_behind(
    chunks: Iterator[tuple[int, Array, Array | None]],
) -> Iterator[AnimatedFrame]:
    """Frames one by one; while a chunk's are used, the next chunk is being computed."""
    ready = next(chunks)
    for following in itertools.chain(chunks, [None]):
        count = ready[0]
        images, neutral = jax.device_get(ready[1:])
        for index in range(count):
            yield AnimatedFrame(images[index], None if neutral is None else neutral[index])
        if following is not None:
            ready = following
