"""Hyperparameters of all networks: one dataclass per network, nested in `ModelConfig`.

The defaults are the published model (`docs/architecture.md` section 5). Widths are numbers of
channels or units, blocks are the levels of an hourglass, and kernels are the sides of square
kernels. Every number has limits, and so have the feature maps: an edited file cannot ask for absurd
amounts of memory. (Its networks cannot either: their shapes must be those of the stored weights.)
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from eamm_jax.errors import UserError

PUBLISHED_HEADS = ("linear_4", "linear_10", "linear_np_4", "linear_np_10")
"""Published emotion heads: the number of keypoints they move; `np` reads raw keypoint numbers."""

EMOTION_HEADS = (*PUBLISHED_HEADS, "dense")
"""`dense` is ours: a displacement of each of `emotion.keypoints` from the whole embedding."""

MAX_MAP = 2**26
"""Numbers in the largest feature map of one frame; 4 million in the published model."""


def _field(default: Any, low: float, high: float, *, length: tuple[int, int] = (1, 16)) -> Any:
    """A number, or a tuple of `length` numbers, with limits."""
    return dataclasses.field(default=default, metadata={"limits": (low, high), "length": length})


def _width(default: int | tuple[int, ...], *, length: tuple[int, int] = (1, 16)) -> Any:
    return _field(default, 1, 8192, length=length)


def _scale(default: float | tuple[float, ...]) -> Any:
    return _field(default, 1 / 32, 1.0)


@dataclasses.dataclass(frozen=True)
class HourglassConfig:
    """A U-Net on the reduced image; level i has min(max_width, width 2^(i+1)) channels."""

    width: int = _width(32)  # channels of its output
    max_width: int = _width(1024)  # limit of the channels of any level
    blocks: int = _field(5, 1, 10)  # number of levels
    scale: float = _scale(0.25)  # the image is reduced to this size first


@dataclasses.dataclass(frozen=True)
class KeypointDetectorConfig(HourglassConfig):
    """Keypoint detector. The audio keypoint head shares the fields that are its own.

    Attributes:
        shared_jacobian: all keypoints of an image have one Jacobian, the mean of those predicted:
            for keypoints that follow the rotation of one head. Not in the published model.
    """

    kernel: int = _field(7, 1, 15)  # of the convolutions that give heatmaps and Jacobians
    temperature: float = _field(0.1, 1e-6, 1e3)  # of the heatmaps' softmax
    shared_jacobian: bool = False


@dataclasses.dataclass(frozen=True)
class DenseMotionConfig(HourglassConfig):
    """Dense motion network. The last three fields are not in the published model.

    Attributes:
        half_pixel: grid points are pixel centers as `grid_sample` places them, so that what
            does not move stays sharp.
        mask_radius: distance over which a keypoint's motion is preferred at initialization:
            the nearest keypoint's, and the background's farther than three radii from all of
            them. 0 is no preference.
        mask_peak: with `mask_radius`, added to the score of a keypoint's motion where the
            keypoint lies. Heatmaps are differences, so they hide a keypoint that hardly moves;
            without it the motion of lips and brows is mixed with their neighbours'.
    """

    width: int = _width(64)
    kernel: int = _field(7, 1, 15)  # of the convolutions that give masks and occlusion
    variance: float = _field(0.01, 1e-6, 1e3)  # of the keypoints' Gaussians
    half_pixel: bool = False
    mask_radius: float = _field(0.0, 0.0, 10.0)
    mask_peak: float = _field(0.0, 0.0, 100.0)


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """Generator. `pixel_block` over 1, `motion_skip` and `blend` are not in the published model.

    Attributes:
        pixel_block: side of the blocks of pixels that are folded into channels at the input
            and unfolded at the output.
        motion_skip: the last layers also read the features of the dense motion network, and
            so know where the keypoints are.
        blend: the output is blended with the warped source image by a predicted mask.
    """

    width: int = _width(64)  # after the first convolution; doubles with each downsampling
    max_width: int = _width(512)
    downs: int = _field(2, 0, 8)  # number of times the features are downsampled by 2
    res_blocks: int = _field(6, 0, 64)  # residual blocks on the warped features
    kernel: int = _field(7, 1, 15)  # of the first and the last convolution
    pixel_block: int = _field(1, 1, 16)
    motion_skip: bool = False
    blend: bool = False
    dense_motion: DenseMotionConfig = DenseMotionConfig()

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels before and after each downsampling."""
        return tuple(min(self.max_width, self.width * 2**i) for i in range(self.downs + 1))


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """Multi-scale patch discriminator."""

    width: int = _width(32)  # half the channels of the first block; doubles with each block
    max_width: int = _width(512)
    blocks: int = _field(4, 1, 10)
    scales: tuple[float, ...] = _scale((1.0,))  # of the images; one discriminator for each
    spectral_norm: bool = True  # kernels are divided by their largest singular value
    use_keypoints: bool = False  # Gaussians of the keypoints are given beside the image
    keypoint_variance: float = _field(0.01, 1e-6, 1e3)  # of those Gaussians


@dataclasses.dataclass(frozen=True)
class AudioToMotionConfig:
    """Audio-to-motion network: encoders of source image, head pose and audio, LSTM, decoder."""

    image_width: int = _width(4)  # of the image encoder's first block; doubles with each
    image_max_width: int = _width(512)
    pose_widths: tuple[int, ...] = _width((128, 256))  # linear layers
    conv_widths: tuple[int, ...] = _width((64, 128, 256, 256, 512), length=(2, 16))  # of audio
    dense_widths: tuple[int, ...] = _width((2048, 256))  # linear layers of the audio encoder
    lstm_width: int = _width(256)
    lstm_layers: int = _field(3, 1, 16)
    deconv_widths: tuple[int, int] = _width((256, 128), length=(2, 2))  # first, middle ones


@dataclasses.dataclass(frozen=True)
class EmotionConfig(HourglassConfig):
    """Emotion network: a ResNet on an hourglass; widths of linear layers for its heads."""

    stage_widths: tuple[int, ...] = _width((64, 128, 256, 512), length=(1, 6))  # of the ResNet
    code_widths: tuple[int, ...] = _width((1024, 512))  # on the keypoints' positional code
    raw_widths: tuple[int, ...] = _width((128, 512))  # on raw keypoint numbers
    joint_widths: tuple[int, ...] = _width((512, 256))  # on features and keypoints
    frequencies: int = _field(10, 0, 32)  # of the positional code
    num_emotions: int = _field(8, 1, 1000)  # that are classified
    head: str = dataclasses.field(default="linear_4", metadata={"choices": EMOTION_HEADS})
    # That the head displaces (`linear_4` and `dense`).
    keypoints: tuple[int, ...] = _field((1, 4, 6, 8), 0, 255, length=(1, 256))
    # Of those, as numbers in that list: what these do together, moving, turning and growing, the
    # head does, and an expression does not. None: displacements are as the head predicts them.
    rigid: tuple[int, ...] = _field((), 0, 255, length=(0, 256))
    # Of each of `keypoints`, towards the viewer, in any unit: with them, rigid motion includes that
    # of a head that turns to the side or nods.
    depths: tuple[float, ...] = _field((), -100.0, 100.0, length=(0, 256))


@dataclasses.dataclass(frozen=True)
class InferenceConfig:
    """What inference does by default; the published demo's choices (section 7).

    Attributes:
        audio_weight: factor on the audio features.
        emotion_shares: factor on the displacement of each of `emotion.keypoints`.
        lid_keypoints: upper and lower lid of one eye, then of the other; these keypoints make
            the face blink. Empty where no keypoint stands for a lid.
        pupil_keypoints: of the eye on the picture's left, then of the other; these keypoints
            turn the eyes. Empty where no keypoint stands for a pupil.
        smooth_motion: keypoint and pose tracks are filtered.
        relative_motion: the motion since the first frame moves the source keypoints, instead
            of the driving keypoints replacing them.
        relative_to_silence: with it, the motion is that since a first frame without a sound, for
            portraits keep silent.
        loudness_range: log energy below that of the speech from which on there is silence
            (`features.silenced`).
    """

    audio_weight: float = _field(1.6, -100.0, 100.0)
    emotion_shares: tuple[float, ...] = _field((0.2, 1.0, 1.0, 0.0), -100.0, 100.0, length=(1, 256))
    lid_keypoints: tuple[int, ...] = _field((), 0, 255, length=(0, 16))
    pupil_keypoints: tuple[int, ...] = _field((), 0, 255, length=(0, 2))
    smooth_motion: bool = True
    relative_motion: bool = False
    relative_to_silence: bool = False
    loudness_range: float = _field(100.0, 0.0, 100.0)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """All networks and what they share; the defaults are the published model."""

    image_size: int = _field(256, 32, 2048)  # side of the square images; a power of two
    num_channels: int = _field(3, 1, 4)  # of the images
    num_keypoints: int = _field(10, 1, 256)  # of both detectors
    keypoint_detector: KeypointDetectorConfig = KeypointDetectorConfig()
    generator: GeneratorConfig = GeneratorConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    audio_to_motion: AudioToMotionConfig = AudioToMotionConfig()
    emotion: EmotionConfig = EmotionConfig()
    inference: InferenceConfig = InferenceConfig()

    def __post_init__(self) -> None:
        """Refuses values out of their limits, and those that do not go together.

        Raises:
            UserError: names the first such field, its value and what is allowed.
        """
        _check_fields(self)
        for name, fits, allowed in self._relations():
            if not fits:
                raise _wrong(name, self.flat()[name], allowed)

    def _relations(self) -> Iterator[tuple[str, bool, str]]:
        """What must hold between fields: the field to blame, whether it does, what is allowed."""
        size, k, lids = self.image_size, self.num_keypoints, self.inference.lid_keypoints
        motion, generator = self.generator.dense_motion, self.generator
        hourglasses = {
            "keypoint_detector": self.keypoint_detector,
            "generator.dense_motion": motion,
            "emotion": self.emotion,
        }
        kernels = (self.keypoint_detector.kernel, generator.kernel, motion.kernel)
        rendered = size // generator.pixel_block
        inside = f"in 0..{k - 1}"
        yield "image_size", not size & (size - 1), "a power of two"
        for name, hourglass in hourglasses.items():
            reduced = int(size * hourglass.scale)
            halvings = f"{reduced.bit_length() - 1} at most: a {reduced}x{reduced} map can be"
            is_half = math.log2(hourglass.scale).is_integer()
            yield f"{name}.scale", is_half, "1, 0.5, 0.25 or a smaller half"
            yield (
                f"{name}.blocks",
                reduced >> hourglass.blocks >= 1,
                f"{halvings} halved no further",
            )
        names = ("keypoint_detector", "generator", "generator.dense_motion")
        for name, kernel in zip(names, kernels, strict=True):
            yield f"{name}.kernel", kernel % 2 == 1, "odd"
        yield (
            "keypoint_detector.scale",
            self.feature_size >= max(4, kernels[0] + 1),
            f"larger: a kernel of {kernels[0]} does not fit a "
            f"{self.feature_size}x{self.feature_size} map",
        )
        yield (
            "generator.pixel_block",
            not size % generator.pixel_block and rendered >> generator.downs >= 1,
            "a small power of two",
        )
        yield (
            "generator.motion_skip",
            not generator.motion_skip or rendered == int(size * motion.scale),
            f"false: it needs a dense motion map of {rendered}x{rendered}, but "
            f"generator.dense_motion.scale is {motion.scale}",
        )
        yield "emotion.keypoints", max(self.emotion.keypoints) < k, inside
        paired = len(lids) % 2 == 0 and max(lids, default=0) < k
        yield "inference.lid_keypoints", paired, f"pairs {inside}"
        pupils = self.inference.pupil_keypoints
        two = len(pupils) in (0, 2) and max(pupils, default=0) < k
        yield "inference.pupil_keypoints", two, f"two {inside}, or none"
        moved, rigid = len(self.emotion.keypoints), self.emotion.rigid
        fits = not rigid or (self.emotion.head == "dense" and len(rigid) > 1 and max(rigid) < moved)
        yield "emotion.rigid", fits, f"two at least in 0..{moved - 1} with the head dense, or none"
        depths = len(self.emotion.depths)
        yield (
            "emotion.depths",
            not depths or (depths == moved and len(rigid) > 3),
            f"{moved} numbers with four or more rigid keypoints, or none",
        )
        yield (
            "inference.emotion_shares",
            len(self.inference.emotion_shares) == moved,
            f"{moved} numbers, one for each of emotion.keypoints",
        )
        for name, (side, channels) in self._largest_maps().items():
            numbers = side**2 * channels
            yield (
                name,
                numbers <= MAX_MAP,
                f"smaller: the largest feature map would hold {numbers:,} numbers; at most "
                f"{MAX_MAP:,} are allowed",
            )

    def _largest_maps(self) -> dict[str, tuple[int, int]]:
        """Side and channels of the largest maps of a frame, by the field that decides them."""
        size, k, motion = self.image_size, self.num_keypoints, self.generator.dense_motion
        detector, emotion, audio = self.keypoint_detector, self.emotion, self.audio_to_motion
        motion_width = 2 * motion.width + (k + 1) * (self.num_channels + 1)
        emotion_width = max(2 * emotion.width, emotion.stage_widths[0])
        return {
            "generator.width": (size // self.generator.pixel_block, self.generator.width),
            "generator.dense_motion.scale": (int(size * motion.scale), motion_width),
            "keypoint_detector.scale": (self.feature_size, 2 * detector.width + 5 * k),
            "emotion.scale": (int(size * emotion.scale), emotion_width),
            "discriminator.width": (size, 2 * self.discriminator.width),
            "audio_to_motion.image_width": (size, audio.image_width),
            "audio_to_motion.deconv_widths": (self.feature_size, max(audio.deconv_widths)),
        }

    @property
    def feature_size(self) -> int:
        """Side of the audio feature maps and of the keypoint detector's last map."""
        return int(self.image_size * self.keypoint_detector.scale)

    @property
    def feature_channels(self) -> int:
        """Channels of those maps: the hourglass's width and its input."""
        return self.keypoint_detector.width + self.num_channels

    @property
    def moved_keypoints(self) -> tuple[int, ...]:
        """The keypoints that the emotion head displaces, in its order."""
        if self.emotion.head.endswith("_10"):
            return tuple(range(self.num_keypoints))
        return self.emotion.keypoints

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries, for JSON."""
        return dataclasses.asdict(self)

    def flat(self) -> dict[str, Any]:
        """Every value by its dotted name, as in `generator.dense_motion.width`."""
        return flatten_dict(self.to_dict(), sep=".")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """From JSON; fields that are absent have their defaults.

        Raises:
            UserError: names a field that is unknown, misshapen or out of its limits.
        """
        return _from_dict(cls, values)

    def replace(self, changes: Mapping[str, Any]) -> ModelConfig:
        """The configuration with other values of some fields, by their dotted names.

        Raises:
            UserError: as `from_dict`.
        """
        flat = self.flat()
        unknown = [name for name in changes if name not in flat]
        if unknown:
            raise UserError(f"unknown model configuration field: {unknown[0]}")
        return self.from_dict(unflatten_dict({**flat, **changes}, sep="."))


def published() -> ModelConfig:
    """The model of the paper, 256 x 256."""
    return ModelConfig()


def _wrong(name: str, value: Any, allowed: str) -> UserError:
    return UserError(
        f"model configuration field {name} is {reprlib.repr(value)}; it must be {allowed}"
    )


def _check_fields(config: Any, prefix: str = "") -> None:
    """Types and limits of every field, those of nested dataclasses included."""
    for field in dataclasses.fields(config):
        name, value, expected = (
            prefix + field.name,
            getattr(config, field.name),
            type(field.default),
        )
        if dataclasses.is_dataclass(expected):
            fits, allowed = type(value) is expected, f"a {expected.__name__}"
        elif expected is bool:
            fits, allowed = type(value) is bool, "true or false"
        elif expected is str:
            choices = field.metadata["choices"]
            fits, allowed = value in choices, f"one of {', '.join(choices)}"
        else:
            fits, allowed = _check_numbers(value, expected is tuple, **field.metadata)
        if not fits:
            raise _wrong(name, value, allowed)
        if dataclasses.is_dataclass(expected):
            _check_fields(value, f"{name}.")


def _check_numbers(
    value: Any, many: bool, limits: tuple[float, float], length: tuple[int, int]
) -> tuple[bool, str]:
    """Whether a number or a tuple of them is allowed, and what is."""
    low, high = limits
    kind = type(high)
    allowed = f"{'whole numbers' if kind is int else 'numbers'} from {low:g} to {high:g}"
    if many:
        sound = isinstance(value, tuple) and length[0] <= len(value) <= length[1]
        counts = f"{length[0]} to {length[1]}" if length[0] != length[1] else f"{length[0]}"
        allowed = f"{counts} {allowed}"
    else:
        sound, value, allowed = True, (value,), f"in the {allowed}"
    return sound and all(type(item) is kind and low <= item <= high for item in value), allowed


def _from_dict(cls: Any, values: Any, prefix: str = "") -> Any:
    """A dataclass of nested dictionaries, lists and numbers as JSON has them."""
    if not isinstance(values, Mapping):
        raise _wrong(prefix.rstrip(".") or "(the whole)", values, "a dictionary of fields")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    unknown = sorted(prefix + str(name) for name in values if name not in fields)
    if unknown:
        names = reprlib.repr(", ".join(unknown))[1:-1]
        raise UserError(f"unknown model configuration field: {names}")
    given = {}
    for name, value in values.items():
        field = fields[name]
        if dataclasses.is_dataclass(type(field.default)):
            given[name] = _from_dict(type(field.default), value, f"{prefix}{name}.")
        else:
            is_float = isinstance(field.metadata.get("limits", (0,))[-1], float)
            given[name] = _from_json(value, is_float)
    return cls(**given)


def _from_json(value: Any, is_float: bool) -> Any:
    """Lists as tuples, and whole numbers as floats where they can be: JSON has neither."""
    if isinstance(value, list | tuple):
        return tuple(_from_json(item, is_float) for item in value)
    return float(value) if is_float and type(value) is int and abs(value) < 2**53 else value
