"""Hyperparameters of all networks: one dataclass per network, nested in `ModelConfig`.

The defaults are the published model (`docs/architecture.md` section 5). Widths are numbers of
channels or units, blocks are the levels of an hourglass, and kernels are the sides of square
kernels. Every number has limits, so that an edited file cannot ask for absurd amounts of memory.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import reprlib
from collections.abc import Mapping
from typing import Any

from eamm_jax.errors import UserError

PUBLISHED_HEADS = ("linear_4", "linear_10", "linear_np_4", "linear_np_10")
"""Published emotion heads: the number of keypoints they move; `np` reads raw keypoint numbers."""

EMOTION_HEADS = (*PUBLISHED_HEADS, "dense")
"""`dense` is ours: a displacement of each of `emotion.keypoints` from the whole embedding."""

MAX_PARAMETERS = 1_000_000_000
"""Of all networks together; the published ones have about 126 million."""

MAX_MAP = 2**26
"""Numbers in the largest feature map of one frame; 4 million in the published model."""


def _field(default: Any, low: float, high: float, *, length: tuple[int, int] = (1, 16)) -> Any:
    """A number, or a tuple of `length` numbers, with limits."""
    return dataclasses.field(default=default, metadata={"limits": (low, high), "length": length})


def _width(default: int | tuple[int, ...], *, length: tuple[int, int] = (1, 16)) -> Any:
    return _field(default, 1, 8192, length=length)


def _scale(default: float | tuple[float, ...]) -> Any:
    return _field(default, 1 / 64, 1.0)


@dataclasses.dataclass(frozen=True)
class HourglassConfig:
    """A U-Net on the image, reduced to `scale`.

    Attributes:
        width: channels of the last level; level i of the encoder has
            min(max_width, width 2^(i+1)).
        max_width: limit of the channels of any level.
        blocks: number of levels.
        scale: the image is reduced to this size first.
    """

    width: int = _width(32)
    max_width: int = _width(1024)
    blocks: int = _field(5, 1, 10)
    scale: float = _scale(0.25)


@dataclasses.dataclass(frozen=True)
class KeypointDetectorConfig(HourglassConfig):
    """Keypoint detector. The audio keypoint head shares its kernel and temperature.

    Attributes:
        kernel: of the convolutions that give heatmaps and Jacobians.
        temperature: of the heatmaps' softmax.
    """

    kernel: int = _field(7, 1, 15)
    temperature: float = _field(0.1, 1e-6, 1e3)


@dataclasses.dataclass(frozen=True)
class DenseMotionConfig(HourglassConfig):
    """Dense motion network.

    Attributes:
        kernel: of the convolutions that give masks and occlusion.
        variance: of the keypoints' Gaussians.
        half_pixel: grid points are pixel centers as `grid_sample` places them, so that what
            does not move stays sharp. Not in the published model.
        mask_radius: distance over which a keypoint's motion is preferred at initialization:
            the nearest keypoint's, and the background's farther than three radii from all of
            them. 0 is the published model: no preference.
    """

    width: int = _width(64)
    kernel: int = _field(7, 1, 15)
    variance: float = _field(0.01, 1e-6, 1e3)
    half_pixel: bool = False
    mask_radius: float = _field(0.0, 0.0, 10.0)


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """Generator.

    Attributes:
        width: channels after the first convolution; they double with each downsampling.
        max_width: limit of the channels.
        downs: number of times the features are downsampled by 2.
        res_blocks: residual blocks on the warped features.
        kernel: of the first and the last convolution.
        pixel_block: side of the blocks of pixels that are folded into channels at the input
            and unfolded at the output. 1 is the published model.
        motion_skip: the last layers also read the features of the dense motion network, and
            so know where the keypoints are. Not in the published model.
        blend: the output is blended with the warped source image by a predicted mask. Not in
            the published model.
    """

    width: int = _width(64)
    max_width: int = _width(512)
    downs: int = _field(2, 0, 8)
    res_blocks: int = _field(6, 0, 64)
    kernel: int = _field(7, 1, 15)
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
    """Multi-scale patch discriminator.

    Attributes:
        width: half the channels of the first block; they double with each block.
        max_width: limit of the channels.
        blocks: number of blocks.
        scales: of the images that are judged, one discriminator for each.
        spectral_norm: kernels are divided by their largest singular value.
        use_keypoints: Gaussians of the keypoints are given beside the image.
        keypoint_variance: of those Gaussians.
    """

    width: int = _width(32)
    max_width: int = _width(512)
    blocks: int = _field(4, 1, 10)
    scales: tuple[float, ...] = _scale((1.0,))
    spectral_norm: bool = True
    use_keypoints: bool = False
    keypoint_variance: float = _field(0.01, 1e-6, 1e3)


@dataclasses.dataclass(frozen=True)
class AudioToMotionConfig:
    """Audio-to-motion network.

    Attributes:
        image_width: channels of the source image encoder's first block; they double.
        image_max_width: limit of those channels.
        pose_widths: linear layers of the head pose encoder.
        conv_widths: convolutions of the audio encoder.
        dense_widths: linear layers of the audio encoder.
        lstm_width: of each LSTM layer.
        lstm_layers: number of LSTM layers.
        deconv_widths: of the first transposed convolution, and of those between it and the last.
    """

    image_width: int = _width(4)
    image_max_width: int = _width(512)
    pose_widths: tuple[int, ...] = _width((128, 256))
    conv_widths: tuple[int, ...] = _width((64, 128, 256, 256, 512), length=(2, 16))
    dense_widths: tuple[int, ...] = _width((2048, 256))
    lstm_width: int = _width(256)
    lstm_layers: int = _field(3, 1, 16)
    deconv_widths: tuple[int, int] = _width((256, 128), length=(2, 2))


@dataclasses.dataclass(frozen=True)
class EmotionConfig(HourglassConfig):
    """Emotion network.

    Attributes:
        stage_widths: stages of the ResNet.
        code_widths: linear layers on the keypoints' positional code.
        raw_widths: linear layers on raw keypoint numbers.
        joint_widths: linear layers on features and keypoints.
        frequencies: of the positional code.
        num_emotions: that are classified.
        head: one of `EMOTION_HEADS`.
        keypoints: that the head displaces (`linear_4` and `dense`).
    """

    stage_widths: tuple[int, ...] = _width((64, 128, 256, 512), length=(1, 6))
    code_widths: tuple[int, ...] = _width((1024, 512))
    raw_widths: tuple[int, ...] = _width((128, 512))
    joint_widths: tuple[int, ...] = _width((512, 256))
    frequencies: int = _field(10, 0, 32)
    num_emotions: int = _field(8, 1, 1000)
    head: str = dataclasses.field(default="linear_4", metadata={"choices": EMOTION_HEADS})
    keypoints: tuple[int, ...] = _field((1, 4, 6, 8), 0, 255, length=(1, 256))


@dataclasses.dataclass(frozen=True)
class InferenceConfig:
    """What inference does by default; the published demo's choices (section 7).

    Attributes:
        audio_weight: factor on the audio features.
        emotion_shares: factor on the displacement of each of `emotion.keypoints`.
        lid_keypoints: upper and lower lid of one eye, then of the other; these keypoints make
            the face blink. Empty where no keypoint stands for a lid.
        smooth_motion: keypoint and pose tracks are filtered.
        relative_motion: the motion since the first frame moves the source keypoints, instead
            of the driving keypoints replacing them.
    """

    audio_weight: float = _field(1.6, -100.0, 100.0)
    emotion_shares: tuple[float, ...] = _field((0.2, 1.0, 1.0, 0.0), -100.0, 100.0, length=(1, 256))
    lid_keypoints: tuple[int, ...] = _field((), 0, 255, length=(0, 16))
    smooth_motion: bool = True
    relative_motion: bool = False


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """All networks and what they share; the defaults are the published model.

    Attributes:
        image_size: side of the square images; a power of two.
        num_channels: of the images.
        num_keypoints: of both detectors.
    """

    image_size: int = _field(256, 32, 2048)
    num_channels: int = _field(3, 1, 4)
    num_keypoints: int = _field(10, 1, 256)
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
        size, motion = self.image_size, self.generator.dense_motion
        if size & (size - 1):
            raise _wrong("image_size", size, "a power of two")
        for name, hourglass in (
            ("keypoint_detector", self.keypoint_detector),
            ("generator.dense_motion", motion),
            ("emotion", self.emotion),
        ):
            if not math.log2(hourglass.scale).is_integer():
                raise _wrong(f"{name}.scale", hourglass.scale, "1, 0.5, 0.25 or a smaller half")
            reduced = int(size * hourglass.scale)
            if reduced >> hourglass.blocks < 1:
                raise _wrong(
                    f"{name}.blocks",
                    hourglass.blocks,
                    f"{int(math.log2(reduced))} at most: a {reduced}x{reduced} map can be halved "
                    "no further",
                )
        for name, network in (
            ("keypoint_detector", self.keypoint_detector),
            ("generator", self.generator),
            ("generator.dense_motion", motion),
        ):
            if network.kernel % 2 == 0:
                raise _wrong(f"{name}.kernel", network.kernel, "odd")
        if self.feature_size - self.keypoint_detector.kernel < 1 or self.feature_size < 4:
            raise _wrong(
                "keypoint_detector.scale",
                self.keypoint_detector.scale,
                f"larger: a kernel of {self.keypoint_detector.kernel} does not fit a "
                f"{self.feature_size}x{self.feature_size} map",
            )
        rendered = size // self.generator.pixel_block
        if size % self.generator.pixel_block or rendered >> self.generator.downs < 1:
            raise _wrong(
                "generator.pixel_block", self.generator.pixel_block, "a small power of two"
            )
        if self.generator.motion_skip and rendered != int(size * motion.scale):
            raise UserError(
                "model configuration field generator.motion_skip needs a dense motion map of "
                f"{rendered}x{rendered}, but generator.dense_motion.scale is {motion.scale}"
            )
        inside = f"in 0..{self.num_keypoints - 1}"
        lids, shares = self.inference.lid_keypoints, self.inference.emotion_shares
        if max(self.emotion.keypoints) >= self.num_keypoints:
            raise _wrong("emotion.keypoints", self.emotion.keypoints, inside)
        if len(lids) % 2 or max(lids, default=0) >= self.num_keypoints:
            raise _wrong("inference.lid_keypoints", lids, f"pairs {inside}")
        if len(shares) != len(self.emotion.keypoints):
            raise _wrong(
                "inference.emotion_shares",
                shares,
                f"{len(self.emotion.keypoints)} numbers, one for each of emotion.keypoints",
            )
        self._check_size()

    def _check_size(self) -> None:
        """Refuses networks that would fill the memory, though each field is within its limits."""
        largest = max(_largest_maps(self).items(), key=lambda item: item[1])
        if largest[1] > MAX_MAP:
            raise UserError(
                f"model configuration field {largest[0]}: the largest feature map would hold "
                f"{largest[1]:,} numbers; at most {MAX_MAP:,} are allowed"
            )
        counts = approximate_parameters(self)
        if sum(counts.values()) > MAX_PARAMETERS:
            name = max(counts, key=lambda name: counts[name])
            raise UserError(
                f"model configuration field {name}: the networks would have about "
                f"{sum(counts.values()):,} parameters; at most {MAX_PARAMETERS:,} are allowed"
            )

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
        return dict(_flatten(self.to_dict()))

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
        values = self.to_dict()
        for name, value in changes.items():
            *groups, last = name.split(".")
            node = values
            for group in groups:
                node = node.get(group, {})
            if last not in node:
                raise UserError(f"unknown model configuration field: {name}")
            node[last] = value
        return self.from_dict(values)


def published() -> ModelConfig:
    """The model of the paper, 256 x 256."""
    return ModelConfig()


def approximate_parameters(config: ModelConfig) -> dict[str, int]:
    """Number of parameters of each network but VGG-19, within a few percent."""
    detector, emotion, audio = config.keypoint_detector, config.emotion, config.audio_to_motion
    generator, discriminator, motion = (
        config.generator,
        config.discriminator,
        config.generator.dense_motion,
    )
    channels, k = config.num_channels, config.num_keypoints
    motion_channels = (k + 1) * (channels + 1)
    pixels = generator.pixel_block**2
    levels = int(math.log2(config.image_size))
    image = [min(audio.image_max_width, audio.image_width * 2**level) for level in range(levels)]
    # Two poolings leave 12 x 2 of the 28 x 12 numbers of an audio window.
    heard = _chain(3, 1, *audio.conv_widths) + _chain(
        1, 24 * audio.conv_widths[-1], *audio.dense_widths
    )
    joined = image[-1] + audio.pose_widths[-1] + audio.dense_widths[-1]
    lstm = 4 * audio.lstm_width * (joined + audio.lstm_width * (2 * audio.lstm_layers - 1))
    first, width = audio.deconv_widths
    maps = _chain(6, audio.lstm_width, first) + _chain(4, first, width)
    maps += (levels - 3) * _chain(4, width, width) + _chain(4, width, config.feature_channels)
    stages = list(zip((emotion.width, *emotion.stage_widths), emotion.stage_widths, strict=False))
    trunk = sum(_chain(3, a, b, b, b, b) for a, b in stages)
    numbers = 6 * k
    coded = _chain(1, numbers * (1 + 2 * emotion.frequencies), *emotion.code_widths)
    joint = emotion.stage_widths[-1] + emotion.code_widths[-1]
    head = _chain(1, joint, *emotion.joint_widths) + _chain(1, numbers, *emotion.raw_widths)
    blocks = [
        min(discriminator.max_width, discriminator.width * 2 ** (block + 1))
        for block in range(discriminator.blocks)
    ]
    return {
        "keypoint_detector": _hourglass(detector, channels)
        + _chain(detector.kernel, config.feature_channels, 5 * k),
        "generator.dense_motion": _hourglass(motion, motion_channels)
        + _chain(motion.kernel, motion.width + motion_channels, k + 2),
        "generator": _chain(generator.kernel, channels * pixels, generator.width)
        + 2 * _chain(3, *generator.widths)
        + generator.res_blocks * _chain(3, *(generator.widths[-1],) * 3)
        + _chain(generator.kernel, generator.width, (channels + 1) * pixels),
        "audio_to_motion": _chain(3, channels, *image)
        + _chain(1, 6, *audio.pose_widths)
        + heard
        + lstm
        + maps,
        "emotion": _hourglass(emotion, channels) + trunk + coded + head,
        "discriminator": len(discriminator.scales) * _chain(4, channels, *blocks),
    }


def _chain(kernel: int, *widths: int) -> int:
    """Parameters of layers one behind the other."""
    return sum(kernel**2 * a * b for a, b in itertools.pairwise(widths))


def _hourglass(config: HourglassConfig, channels: int) -> int:
    widths = [min(config.max_width, config.width * 2**i) for i in range(config.blocks + 1)]
    # The decoder reads twice the channels, beside its skip connections.
    return 3 * _chain(3, *widths) - _chain(3, *widths[-2:]) + _chain(3, channels, widths[1])


def _largest_maps(config: ModelConfig) -> dict[str, int]:
    """Numbers in the largest map of a frame, by the field that decides it."""
    size, generator = config.image_size, config.generator
    motion = generator.dense_motion
    motion_channels = (config.num_keypoints + 1) * (config.num_channels + 1)
    return {
        "generator.width": (size // generator.pixel_block) ** 2 * generator.width,
        "generator.dense_motion.scale": int(size * motion.scale) ** 2
        * (2 * motion.width + motion_channels),
        "keypoint_detector.scale": config.feature_size**2
        * (2 * config.keypoint_detector.width + 5 * config.num_keypoints),
        "emotion.scale": int(size * config.emotion.scale) ** 2
        * max(2 * config.emotion.width, config.emotion.stage_widths[0]),
        "discriminator.width": size**2 * 2 * config.discriminator.width,
        "audio_to_motion.image_width": size**2 * config.audio_to_motion.image_width,
        "audio_to_motion.deconv_widths": config.feature_size**2
        * max(config.audio_to_motion.deconv_widths),
    }


def _wrong(name: str, value: Any, allowed: str) -> UserError:
    return UserError(
        f"model configuration field {name} is {reprlib.repr(value)}; it must be {allowed}"
    )


def _check_fields(config: Any, prefix: str = "") -> None:
    """Types and limits of every field, those of nested dataclasses included."""
    for field in dataclasses.fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        expected = type(field.default)
        if dataclasses.is_dataclass(expected):
            if type(value) is not expected:
                raise _wrong(name, value, f"a {expected.__name__}")
            _check_fields(value, f"{name}.")
        elif expected is bool:
            if type(value) is not bool:
                raise _wrong(name, value, "true or false")
        elif expected is str:
            choices = field.metadata["choices"]
            if value not in choices:
                raise _wrong(name, value, f"one of {', '.join(choices)}")
        else:
            _check_numbers(name, value, expected is tuple, **field.metadata)


def _check_numbers(
    name: str, value: Any, many: bool, limits: tuple[float, float], length: tuple[int, int]
) -> None:
    low, high = limits
    kind = type(high)
    allowed = f"{'whole numbers' if kind is int else 'numbers'} from {low:g} to {high:g}"
    if many:
        fits = isinstance(value, tuple) and length[0] <= len(value) <= length[1]
        counts = f"{length[0]} to {length[1]}" if length[0] != length[1] else f"{length[0]}"
        allowed = f"{counts} {allowed}"
    else:
        fits, value, allowed = True, (value,), f"in the {allowed}"
    if not fits or any(type(item) is not kind or not low <= item <= high for item in value):
        raise _wrong(name, value if many else value[0], allowed)


def _from_dict(cls: Any, values: Any, prefix: str = "") -> Any:
    """A dataclass of nested dictionaries, lists and numbers as JSON has them."""
    if not isinstance(values, Mapping):
        raise _wrong(prefix.rstrip(".") or "(the whole)", values, "a dictionary of fields")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    unknown = sorted(str(name) for name in set(values) - set(fields))
    if unknown:
        names = ", ".join(prefix + name for name in unknown)
        raise UserError(f"unknown model configuration field: {reprlib.repr(names)[1:-1]}")
    given = {}
    for name, value in values.items():
        field = fields[name]
        if dataclasses.is_dataclass(type(field.default)):
            given[name] = _from_dict(type(field.default), value, f"{prefix}{name}.")
            continue
        if isinstance(value, list):
            value = tuple(value)
        if isinstance(field.metadata.get("limits", (0,))[-1], float):
            value = _as_floats(value)
        given[name] = value
    return cls(**given)


def _as_floats(value: Any) -> Any:
    """Whole numbers as floats, where they can be (JSON does not tell them apart)."""
    if isinstance(value, tuple):
        return tuple(_as_floats(item) for item in value)
    return float(value) if type(value) is int and abs(value) < 2**53 else value


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Any:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
