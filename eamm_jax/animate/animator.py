"""Animates a portrait: arrays in, frames out as they are made.

The data flow of ARCHITECTURE.md section 1. What does not change from frame to frame (the
portrait's features, keypoints and code) is computed once; the rest runs in chunks of a fixed
number of frames that hand on their state (LSTM, filters), so that nothing is compiled again
for a sound of another length, memory does not grow with it, and the chunk's size does not
change the result.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, UInt8

from eamm_jax import features
from eamm_jax.conversion.checkpoint import load_checkpoint, stored_networks
from eamm_jax.emotion_bank import EmotionBank, Span
from eamm_jax.errors import UserError
from eamm_jax.models import build
from eamm_jax.models.audio_to_motion import LSTMState
from eamm_jax.models.config import ModelConfig
from eamm_jax.models.generator import SourceFeatures, WarpedFeatures
from eamm_jax.ops import augmentation
from eamm_jax.ops.keypoints import add_displacement, close_lids, movement_scale, relative_keypoints
from eamm_jax.ops.smoothing import (
    EMOTION_FILTER,
    KEYPOINT_FILTER,
    POSE_FILTER,
    OneEuro,
    OneEuroState,
    initial_state,
    one_euro,
)
from eamm_jax.types import POSE_NUMBERS, Array, Keypoints

Variables = dict[str, Any]

DEFAULT_CHUNK = 8
"""Frames in flight: enough to share the reading of weights, few enough to start soon."""

POSE_CHUNK = 64
"""Rows of a pose track that are filtered at once."""

TALKING_NETWORKS = ("kp_detector", "generator", "audio_feature", "kp_detector_a")

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a user may choose for one animation; the defaults are the published demo's.

    Attributes:
        audio_weight: how strongly sound counts beside portrait and pose; None is the model's.
        emotion_strength: factor on the emotion's displacement; 0 is neutral.
        smoothing: whether keypoints, displacement and pose tracks are filtered; None is as the
            model was made for.
        relative: whether motion since the first frame is applied to the portrait's own
            keypoints, instead of the keypoints themselves; None is as the model was made for.
        adapt_scale: in relative mode, whether motion is scaled to the size of the face.
        mask_mouth: whether the mouth in the emotional frames is hidden, as in training.
        augment_emotion: whether those frames are also flipped, rotated and tilted at random,
            as the published demo does.
        blinks: whether the face blinks, where the model knows which keypoints are its lids.
        neutral: whether each frame is drawn without emotion as well.
        seed: of what is random.
    """

    audio_weight: float | None = None
    emotion_strength: float = 1.0
    smoothing: bool | None = None
    relative: bool | None = None
    adapt_scale: bool = False
    mask_mouth: bool = True
    augment_emotion: bool = False
    blinks: bool = True
    neutral: bool = False
    seed: int = 0


class AnimatedFrame(NamedTuple):
    """One frame, RGB.

    Attributes:
        image: with the emotion, if there is one.
        neutral: the same moment without emotion, where `Settings.neutral` asks for it.
    """

    image: np.ndarray
    neutral: np.ndarray | None


class Animation:
    """The frames of one animation, made as they are asked for; its length is known before."""

    def __init__(self, length: int, frames: Iterator[AnimatedFrame]):
        self._length, self._frames = length, frames

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[AnimatedFrame]:
        return self._frames


class Portrait(NamedTuple):
    """All that the networks need of a portrait."""

    code: SourceFeatures
    keypoints: Keypoints
    audio_code: Float[Array, "1 n"]


class FilterState(NamedTuple):
    """What the filters of keypoints and of displacement remember."""

    keypoints: tuple[OneEuroState, OneEuroState]
    displacement: tuple[OneEuroState, OneEuroState]


class Animator:
    """A loaded model, ready to animate any number of portraits.

        animator = Animator.from_checkpoint("weights")
        for frame in animator.animate(portrait, speech, pose, emotion_frames):
            show(frame.image)

    Args:
        config: of the model.
        variables: parameters and statistics by network name, as `load_checkpoint` returns
            them; `emo_detector` may be missing, if no emotion is asked for.
        bank: emotions that need no video, if the checkpoint has some.
        chunk: frames computed at a time.
        dtype: `float32`, or `bfloat16` for what computes faster in it: accelerators, and
            processors with AMX.
        fast: whether to use the algorithms of `ops/convolution.py`; by default on a CPU.
        device: to compute on; by default JAX's first.
        one_by_one: whether frames are drawn one at a time; by default on a CPU, where one
            stays in the cache. Elsewhere a chunk fills the device.
    """

    def __init__(
        self,
        config: ModelConfig,
        variables: Variables,
        *,
        bank: EmotionBank | None = None,
        chunk: int = DEFAULT_CHUNK,
        dtype: str = "float32",
        fast: bool | None = None,
        device: jax.Device | None = None,
        one_by_one: bool | None = None,
    ):
        if dtype not in DTYPES:
            raise UserError(f"dtype is {dtype!r}; allowed are {', '.join(DTYPES)}")
        if chunk < 1:
            raise UserError(f"chunk is {chunk}; it must be 1 or more frames")
        missing = [name for name in TALKING_NETWORKS if name not in variables]
        if missing:
            raise UserError(
                f"the checkpoint holds no {', '.join(missing)}; convert it again with the "
                "published files that do (see docs/conversion.md)"
            )
        self.config = config
        self.bank = bank
        self.chunk = chunk
        self.device = jax.devices()[0] if device is None else device
        on_cpu = self.device.platform == "cpu"
        self._fast = on_cpu if fast is None else fast
        self._one_by_one = on_cpu if one_by_one is None else one_by_one
        self._networks = build(config, jnp.dtype(dtype), fast=self._fast)
        names = [n for n in (*TALKING_NETWORKS, "emo_detector") if n in variables]
        self._variables = self._put({name: variables[name] for name in names})
        self._compile()
        if self._fast:
            for name, prepared in self._prepare(self._variables).items():
                self._variables[name] = {**self._variables[name], **prepared}

    @classmethod
    def from_checkpoint(
        cls, folder: str | Path, *, emotion: bool | None = True, **options: Any
    ) -> Animator:
        """Loads a converted checkpoint, or the one a training run keeps.

        Args:
            folder: written by `eamm-convert` or `eamm-train`.
            emotion: whether the emotion network is loaded too; None is where there is one.
            **options: as for `Animator`.

        Raises:
            UserError: it is not such a folder, or something in it is missing or damaged.
        """
        device = options.pop("device", None)
        return cls.on_devices(folder, [device], emotion=emotion, **options)[0]

    @classmethod
    def on_devices(
        cls,
        folder: str | Path,
        devices: Sequence[jax.Device | None],
        *,
        emotion: bool | None = True,
        **options: Any,
    ) -> list[Animator]:
        """An animator on each device, of a checkpoint that is read once; as `from_checkpoint`."""
        if emotion is None:
            emotion = "emo_detector" in stored_networks(folder)
        networks = (*TALKING_NETWORKS, "emo_detector") if emotion else TALKING_NETWORKS
        config, variables = load_checkpoint(folder, networks)
        width = config.emotion.stage_widths[-1]
        bank = EmotionBank.load(Path(folder), width) if emotion else None
        return [cls(config, variables, bank=bank, device=device, **options) for device in devices]

    @property
    def image_size(self) -> int:
        """Side of the square portraits, emotional frames and results."""
        return self.config.image_size

    @property
    def has_emotion_network(self) -> bool:
        """Whether emotions can be read from a video or taken from a bank."""
        return "emo_detector" in self._variables

    def animate(
        self,
        portrait: Float32[np.ndarray, "s s 3"],
        speech: Float32[np.ndarray, " n"],
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
            portrait: RGB in [0, 1].
            speech: mono samples at 16 kHz.
            pose: head poses (yaw, pitch, roll in degrees, scale, tx, ty and, unused, tz); a
                single one is held, a track is continued or cut to the length of the speech.
            emotion_frames: aligned frames of an emotional face at 25 a second, repeated from
                the start when they end; read as they are needed, each once. Without them the
                face stays neutral.
            settings: see `Settings`.
            emotions: of the model's emotion bank, where there is no video.
            level: how strongly the bank's faces felt them, 1 to 3; None is most.
            as_uint8: whether frames are bytes, or float32 in [0, 1].

        Returns:
            What yields the frames as they are made, and knows how many there will be.

        Raises:
            UserError: an input has a wrong size, or the checkpoint lacks the emotion network,
                the emotion bank or the emotion.
        """
        return self.animate_mfcc(
            portrait,
            features.speech_mfcc(speech),
            pose,
            emotion_frames,
            settings,
            emotions=emotions,
            level=level,
            as_uint8=as_uint8,
        )

    def animate_mfcc(
        self,
        portrait: Float32[np.ndarray, "s s 3"],
        mfcc: Float[np.ndarray, "n 13"],
        pose: Float[np.ndarray, "m _"],
        emotion_frames: Iterable[UInt8[np.ndarray, "s s 3"]] | None = None,
        settings: Settings | None = None,
        *,
        emotions: Sequence[Span] = (),
        level: int | None = None,
        as_uint8: bool = True,
    ) -> Animation:
        """The frames of an animation for what a sound was turned into (`features.speech_mfcc`).

        Data sets keep that and not the sound. The rest is as for `animate`.
        """
        settings = self._filled(settings or Settings())
        self._check(portrait, pose, emotion_frames is not None or bool(emotions), settings)
        length = features.num_frames(len(mfcc))
        if settings.smoothing and len(pose) > 1:
            pose = self._smooth_pose(pose)
        poses = features.pose_track(pose, length)
        codes: Iterator[Array] | None = None
        if emotion_frames is not None and settings.emotion_strength != 0:
            codes = self._emotion_codes(iter(emotion_frames), settings)
        elif emotions and settings.emotion_strength != 0:
            codes = self._bank_codes(emotions, length, level)
        frames = self._frames(portrait, mfcc, poses, codes, settings, as_uint8)
        return Animation(length, frames)

    def read_emotion(
        self, frames: Iterable[UInt8[np.ndarray, "s s 3"]]
    ) -> Float32[np.ndarray, "t n"]:
        """What the emotion network sees in each frame of an aligned video, for an emotion bank.

        Raises:
            UserError: the checkpoint lacks the network, or there are no frames.
        """
        if not self.has_emotion_network:
            raise UserError("the checkpoint holds no emotion network (emo_detector)")
        settings = self._filled(Settings())
        stacked = np.stack(list(frames)) if frames else np.zeros((0,))
        if not len(stacked):
            raise UserError("the emotional video has no frames")
        codes = self._emotion_codes(iter(stacked), settings)
        chunks = [jax.device_get(next(codes)) for _ in range(0, len(stacked), self.chunk)]
        return np.concatenate(chunks)[: len(stacked)]

    def _check(
        self,
        portrait: np.ndarray,
        pose: np.ndarray,
        emotional: bool,
        settings: Settings,
    ) -> None:
        shape = (self.image_size, self.image_size, self.config.num_channels)
        if portrait.shape != shape:
            raise UserError(f"the portrait has shape {portrait.shape}; this model needs {shape}")
        if pose.ndim != 2 or len(pose) == 0 or pose.shape[1] < POSE_NUMBERS:
            raise UserError(f"the pose has shape {pose.shape}; (frames, 6 or 7) is needed")
        if emotional and not self.has_emotion_network:
            raise UserError(
                "the checkpoint holds no emotion network (emo_detector); convert it again with "
                "--emotion_checkpoint, or leave the driving video out for a neutral face"
            )
        assert settings.audio_weight is not None
        if not np.isfinite([settings.emotion_strength, settings.audio_weight]).all():
            raise UserError("audio_weight and emotion_strength must be finite numbers")

    def _frames(
        self,
        image: np.ndarray,
        mfcc: np.ndarray,
        poses: np.ndarray,
        codes: Iterator[Array] | None,
        settings: Settings,
        as_uint8: bool,
    ) -> Iterator[AnimatedFrame]:
        """Frames one by one; while they are used, the next chunk is being computed."""
        ready: tuple[int, Array, Array | None] | None = None
        for following in self._chunks(image, mfcc, poses, codes, settings, as_uint8):
            if ready is not None:
                yield from _unstacked(*ready)
            ready = following
        if ready is not None:
            yield from _unstacked(*ready)

    def _chunks(
        self,
        image: np.ndarray,
        mfcc: np.ndarray,
        poses: np.ndarray,
        codes: Iterator[Array] | None,
        settings: Settings,
        as_uint8: bool,
    ) -> Iterator[tuple[int, Array, Array | None]]:
        """(frames, images, neutral images) of each chunk, without waiting for the device."""
        variables = self._variables
        blinks = settings.blinks and bool(self.config.inference.lid_keypoints)
        closed = features.blinks(len(poses), settings.seed)
        audio_weight, weights, scale = self._put(
            (
                np.float32(settings.audio_weight),
                self._emotion_weights(settings.emotion_strength),
                np.float32(1.0),
            )
        )
        portrait = self._see(variables, self._put(image[None]))
        lstm, filters = self._start()
        first: Keypoints | None = None
        for start in range(0, len(poses), self.chunk):
            stop = min(start + self.chunk, len(poses))
            lids = self._put(_padded(closed[start:stop], self.chunk)) if blinks else None
            windows = features.audio_windows(mfcc, start, stop)
            audio, pose, count = self._put(
                (
                    _padded(windows, self.chunk),
                    _padded(poses[start:stop], self.chunk),
                    np.int32(stop - start),
                )
            )
            # What is computed stays on the device: between here and the frames nothing is
            # copied that is not said to be.
            with jax.transfer_guard("disallow"):
                keypoints, lstm = self._hear(
                    variables, portrait.audio_code, audio, pose, lstm, audio_weight
                )
            if first is None:
                first = self._first(keypoints)
                if settings.relative and settings.adapt_scale:
                    values = jax.device_get((portrait.keypoints.value[0], first.value[0]))
                    scale = self._put(np.float32(movement_scale(*values)))
            code = None if codes is None else next(codes)
            with jax.transfer_guard("disallow"):
                driving, filters = self._feel(
                    variables,
                    portrait.keypoints,
                    keypoints,
                    first,
                    scale,
                    code,
                    weights,
                    filters,
                    settings.smoothing,
                    settings.relative,
                )
                if lids is not None:
                    driving = self._blink(driving, lids)
                # Without an emotion there is nothing between neutral and emotional.
                wanted = [driving[-1], driving[0]] if settings.neutral else [driving[-1]]
                drawn = [
                    self._draw(variables, portrait.code, portrait.keypoints, k, count, as_uint8)
                    for k in (wanted if len(driving) > 1 else wanted[:1])
                ]
            yield stop - start, drawn[0], drawn[-1] if settings.neutral else None

    def _emotion_codes(
        self, frames: Iterator[np.ndarray], settings: Settings
    ) -> Iterator[Float[Array, "chunk n"]]:
        """Codes of the emotional frames, a chunk at a time, endlessly.

        Every frame is encoded once, when it is first needed, and its code kept (512 numbers).
        """
        rng = self._put(jax.random.key(settings.seed))
        known: list[Array] = []
        length = 0
        while batch := list(itertools.islice(frames, self.chunk)):
            images, first = self._put((_padded(np.stack(batch), self.chunk), np.int32(length)))
            with jax.transfer_guard("disallow"):
                codes = self._read_emotion(
                    self._variables,
                    images,
                    rng,
                    first,
                    settings.mask_mouth,
                    settings.augment_emotion,
                )
            known.append(codes)
            length += len(batch)
            if len(batch) < self.chunk:
                break
            yield codes
        if not known:
            raise UserError("the emotional video has no frames")
        # The video has ended. Picked on the host, whatever its length nothing is compiled.
        table = np.concatenate(jax.device_get(known))[:length]
        for start in itertools.count(length // self.chunk * self.chunk, self.chunk):
            yield self._put(table[np.arange(start, start + self.chunk) % length])

    def _bank_codes(
        self, emotions: Sequence[Span], length: int, level: int | None
    ) -> Iterator[Float32[Array, "chunk n"]]:
        """Codes of the bank, a chunk at a time."""
        if self.bank is None:
            raise UserError(
                "this model has no emotion bank, so an emotion needs a video (--driving_video); "
                "python -m eamm_jax.emotion_bank makes a bank from labelled clips"
            )
        codes = self.bank.codes(emotions, length, level)
        starts = range(0, length, self.chunk)
        return (
            self._put(_padded(codes[start : start + self.chunk], self.chunk)) for start in starts
        )

    def _filled(self, settings: Settings) -> Settings:
        """The settings, with what the model says where the user says nothing."""
        config, weight, relative = self.config, settings.audio_weight, settings.relative
        smoothing = settings.smoothing
        return dataclasses.replace(
            settings,
            audio_weight=config.inference.audio_weight if weight is None else weight,
            relative=config.inference.relative_motion if relative is None else relative,
            smoothing=config.inference.smooth_motion if smoothing is None else smoothing,
        )

    def _emotion_weights(self, strength: float) -> Float32[np.ndarray, " k"]:
        config = self.config
        shares = dict(zip(config.emotion.keypoints, config.inference.emotion_shares, strict=True))
        return strength * np.array([shares.get(i, 1.0) for i in config.moved_keypoints], np.float32)

    def _smooth_pose(self, pose: np.ndarray) -> Float32[np.ndarray, "m _"]:
        """Filters a pose track, in chunks so that its length compiles nothing new."""
        state = self._put(initial_state(pose.shape[1:]))
        pieces = []
        for start in range(0, len(pose), POSE_CHUNK):
            piece = pose[start : start + POSE_CHUNK].astype(np.float32)
            smooth, state = self._smooth(self._put(_padded(piece, POSE_CHUNK)), state)
            pieces.append(jax.device_get(smooth)[: len(piece)])
        return np.concatenate(pieces)

    def _put(self, tree: Any) -> Any:
        """Arrays of the host on the device."""
        return jax.device_put(tree, self.device)

    def _initial_filters(self) -> FilterState:
        def states(count: int) -> tuple[OneEuroState, OneEuroState]:
            return initial_state((count, 2)), initial_state((count, 2, 2))

        return FilterState(
            keypoints=states(self.config.num_keypoints),
            displacement=states(len(self.config.moved_keypoints)),
        )

    # The compiled parts.

    def _compile(self) -> None:
        """Makes the functions that are compiled, each once for all chunks and portraits."""
        networks, config = self._networks, self.config

        @jax.jit
        def see(variables: Variables, image: Array) -> Portrait:
            """The portrait's features, keypoints and code."""
            return Portrait(
                networks.generator.apply(variables["generator"], image, method="encode"),
                networks.kp_detector.apply(variables["kp_detector"], image),
                networks.audio_feature.apply(
                    variables["audio_feature"], image, method="encode_source"
                ),
            )

        @partial(jax.jit, donate_argnames="lstm")
        def hear(
            variables: Variables,
            audio_code: Array,
            audio: Array,
            pose: Array,
            lstm: LSTMState,
            audio_weight: Array,
        ) -> tuple[Keypoints, LSTMState]:
            """Keypoints of a chunk from sound and pose."""
            maps, lstm = networks.audio_feature.apply(
                variables["audio_feature"],
                audio_code,
                audio[None],
                pose[None],
                lstm,
                audio_weight=audio_weight,
                method="decode",
            )
            keypoints = networks.kp_detector_a.apply(variables["kp_detector_a"], maps[0])
            return keypoints._replace(heatmap=None), lstm

        @partial(jax.jit, static_argnums=(4, 5))
        def read_emotion(
            variables: Variables,
            frames: Array,
            rng: Array,
            first: Array,
            mask_mouth: bool,
            augment: bool,
        ) -> Array:
            """Codes of emotional frames."""
            frames = frames.astype(jnp.float32) / 255
            if augment:
                frames = augment_video(rng, frames, first)
            elif mask_mouth:
                frames = augmentation.mask_mouth(frames)
            return networks.emo_detector.apply(variables["emo_detector"], frames, method="encode")

        @partial(jax.jit, static_argnums=(8, 9), donate_argnames="filters")
        def feel(
            variables: Variables,
            portrait: Keypoints,
            raw: Keypoints,
            first: Keypoints,
            scale: Array,
            code: Array | None,
            weights: Array,
            filters: FilterState,
            smoothing: bool,
            relative: bool,
        ) -> tuple[tuple[Keypoints, ...], FilterState]:
            """Driving keypoints: neutral and, given a code, emotional."""
            keypoints, displacement_filters = raw, filters.displacement
            if smoothing:
                keypoints, keypoint_filters = _filtered(raw, KEYPOINT_FILTER, filters.keypoints)
                filters = filters._replace(keypoints=keypoint_filters)
            driving = [keypoints]
            if code is not None:
                # The network is shown what is heard, not what is smoothed.
                displacement = networks.emo_detector.apply(
                    variables["emo_detector"], code, raw, method="displace"
                )
                if smoothing:
                    displacement, displacement_filters = _filtered(
                        displacement, EMOTION_FILTER, filters.displacement
                    )
                    filters = filters._replace(displacement=displacement_filters)
                moved = config.moved_keypoints
                driving.append(add_displacement(keypoints, displacement, moved, weights))
            if relative:
                driving = [relative_keypoints(portrait, k, first, scale) for k in driving]
            return tuple(driving), filters

        @partial(jax.jit, static_argnums=5)
        def draw(
            variables: Variables,
            code: SourceFeatures,
            portrait: Keypoints,
            driving: Keypoints,
            count: Array,
            as_uint8: bool,
        ) -> Array:
            """The first `count` frames of a chunk; the rest stays black."""
            generator = variables["generator"]
            moved, _ = networks.generator.apply(generator, code, portrait, driving, method="warp")

            def finished(moved: WarpedFeatures) -> Array:
                frames = networks.generator.apply(generator, moved, method="decode")
                return jnp.round(frames * 255).astype(jnp.uint8) if as_uint8 else frames

            if not self._one_by_one:
                return finished(moved)
            shape = (len(moved.features), config.image_size, config.image_size, config.num_channels)
            blank = jnp.zeros(shape, jnp.uint8 if as_uint8 else jnp.float32)

            def draw_one(index: Array, frames: Array) -> Array:
                one = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, index, 1), moved)
                return jax.lax.dynamic_update_slice_in_dim(frames, finished(one), index, 0)

            return jax.lax.fori_loop(0, count, draw_one, blank)

        @jax.jit
        def prepare(variables: Variables) -> Variables:
            """What the fast algorithms derive from kernels, by network."""
            size = config.image_size
            image = jnp.zeros((1, size, size, config.num_channels))
            keypoints = Keypoints(
                jnp.zeros((1, config.num_keypoints, 2)),
                jnp.broadcast_to(jnp.eye(2), (1, config.num_keypoints, 2, 2)),
            )
            _, generator = networks.generator.apply(
                variables["generator"], image, keypoints, keypoints, mutable=["prepared"]
            )
            if "emo_detector" not in variables:
                return {"generator": generator}
            _, emotion = networks.emo_detector.apply(
                variables["emo_detector"], image, method="encode", mutable=["prepared"]
            )
            return {"generator": generator, "emo_detector": emotion}

        @jax.jit
        def blink(driving: tuple[Keypoints, ...], closed: Array) -> tuple[Keypoints, ...]:
            """Driving keypoints with their eyes closed so far."""
            return tuple(close_lids(k, config.inference.lid_keypoints, closed) for k in driving)

        self._blink = blink
        self._see, self._hear, self._read_emotion = see, hear, read_emotion
        self._feel, self._draw, self._prepare = feel, draw, prepare
        self._start = jax.jit(
            lambda: (networks.audio_feature.initial_state(1), self._initial_filters()),
            out_shardings=jax.sharding.SingleDeviceSharding(self.device),
        )
        self._first = jax.jit(lambda keypoints: jax.tree.map(lambda x: x[:1], keypoints))
        self._smooth = jax.jit(lambda track, state: one_euro(track, POSE_FILTER, state))


def augment_video(
    rng: Array, frames: Float[Array, "t h w 3"], first: int | Array
) -> Float[Array, "t h w 3"]:
    """The published demo's random treatment of an emotional video, chunk by chunk.

    Mirroring and rotation are drawn once for the video; noise and perspective for each frame,
    from its number, so that the chunks it comes in do not matter.

    Args:
        rng: of the video.
        frames: in [0, 1].
        first: number of the first of them.
    """
    published = augmentation.PUBLISHED_EMOTION_AUGMENTATION
    perspective = published.perspective
    assert perspective is not None
    flip_rng, rotation_rng, frame_rng = jax.random.split(rng, 3)

    def one(frame: Array, index: Array) -> Array:
        mask_rng, perspective_rng = jax.random.split(jax.random.fold_in(frame_rng, index))
        clip = augmentation.mask_mouth_with_noise(mask_rng, frame[None, None])
        clip = augmentation.flip_at_random(flip_rng, clip)
        clip = augmentation.rotate_at_random(rotation_rng, clip, published.rotation)
        return augmentation.warp_perspective_at_random(
            perspective_rng, clip, perspective, published.enlargement
        )[0, 0]

    return jax.vmap(one)(frames, first + jnp.arange(len(frames)))


def _filtered(
    track: Keypoints, parameters: OneEuro, states: tuple[OneEuroState, OneEuroState]
) -> tuple[Keypoints, tuple[OneEuroState, OneEuroState]]:
    value, value_state = one_euro(track.value, parameters, states[0])
    jacobian, jacobian_state = one_euro(track.jacobian, parameters, states[1])
    return Keypoints(value, jacobian), (value_state, jacobian_state)


def _padded(rows: np.ndarray, length: int) -> np.ndarray:
    """Repeats the last row until there are `length`."""
    return np.concatenate([rows, np.repeat(rows[-1:], length - len(rows), axis=0)])


def _unstacked(count: int, images: Array, neutral: Array | None) -> Iterator[AnimatedFrame]:
    on_host, neutral_on_host = jax.device_get((images, neutral))
    for index in range(count):
        yield AnimatedFrame(
            on_host[index], None if neutral_on_host is None else neutral_on_host[index]
        )
