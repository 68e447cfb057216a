"""Every width, depth and resolution of the networks, in one place."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from eamm_jax.errors import UserError

PUBLISHED_HEADS = ("linear_4", "linear_10", "linear_np_4", "linear_np_10")
"""Published emotion heads: how many keypoints they move; `np` reads raw keypoint numbers."""

EMOTION_HEADS = (*PUBLISHED_HEADS, "dense")
"""`dense` is ours: a displacement of each of `emotion_keypoints` from the whole code."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Hyperparameters of all networks; the defaults are the published model.

    Sources: ARCHITECTURE.md section 2, and the published configuration files. Widths are
    channels; "blocks" are the levels of an hourglass; kernels are those of first and last
    convolutions.

    What the published model does not have, and smaller ones gain by:

    Attributes:
        half_pixel_grids: pixels of the dense motion stand at their centres, as bilinear
            sampling takes them, so that what does not move is not blurred.
        mask_radius: distance, in half images, over which a keypoint's motion is preferred
            before anything is learned (the nearest keypoint's wins, beyond three radii of all
            of them the background's); 0 prefers none.
        generator_pixel_block: side of the blocks of pixels that the generator treats as one,
            in its input and its output.
        generator_sees_motion: its last layers see the features of the dense motion network,
            and so where the keypoints are.
        generator_blends: what it draws is mixed with the portrait itself, moved, by a mask
            that it draws too.
        audio_weight: how strongly sound counts beside portrait and pose.
        emotion_shares: share of the displacement of each of `emotion_keypoints` that is added.
        lid_keypoints: keypoints on the upper and the lower lid of one eye, and of the other,
            with which the face blinks; (): it is not known which they are.
        smooth_motion: tracks of keypoints and poses are filtered.
        relative_motion: motion since the first frame is applied to the portrait's own
            keypoints, instead of the keypoints that are heard.
    """

    image_size: int = 256
    num_channels: int = 3
    num_keypoints: int = 10

    # Keypoint detector; its map size and channels are also those of the audio feature maps.
    keypoint_width: int = 32
    keypoint_max_width: int = 1024
    keypoint_blocks: int = 5
    keypoint_scale: float = 0.25
    keypoint_kernel: int = 7
    heatmap_temperature: float = 0.1

    # Dense motion.
    motion_width: int = 64
    motion_max_width: int = 1024
    motion_blocks: int = 5
    motion_scale: float = 0.25
    motion_kernel: int = 7
    gaussian_variance: float = 0.01
    half_pixel_grids: bool = False
    mask_radius: float = 0.0

    # Generator.
    generator_width: int = 64
    generator_max_width: int = 512
    generator_downs: int = 2
    generator_res_blocks: int = 6
    generator_kernel: int = 7
    generator_pixel_block: int = 1
    generator_sees_motion: bool = False
    generator_blends: bool = False

    # Audio-to-motion network.
    audio_image_width: int = 4
    audio_image_max_width: int = 512
    audio_pose_widths: tuple[int, ...] = (128, 256)
    audio_conv_widths: tuple[int, ...] = (64, 128, 256, 256, 512)
    audio_dense_widths: tuple[int, ...] = (2048, 256)
    lstm_width: int = 256
    lstm_layers: int = 3
    deconv_widths: tuple[int, int] = (256, 128)

    # Emotion network.
    emotion_width: int = 32
    emotion_max_width: int = 1024
    emotion_blocks: int = 5
    emotion_scale: float = 0.25
    emotion_stage_widths: tuple[int, ...] = (64, 128, 256, 512)
    emotion_code_widths: tuple[int, ...] = (1024, 512)
    emotion_raw_widths: tuple[int, ...] = (128, 512)
    emotion_joint_widths: tuple[int, ...] = (512, 256)
    emotion_frequencies: int = 10
    num_emotions: int = 8
    emotion_head: str = "linear_4"
    emotion_keypoints: tuple[int, ...] = (1, 4, 6, 8)

    # Inference: what the published demo chooses (ARCHITECTURE.md section 4).
    audio_weight: float = 1.6
    emotion_shares: tuple[float, ...] = (0.2, 1.0, 1.0, 0.0)
    lid_keypoints: tuple[int, ...] = ()
    smooth_motion: bool = True
    relative_motion: bool = False

    # Discriminator.
    discriminator_width: int = 32
    discriminator_max_width: int = 512
    discriminator_blocks: int = 4
    discriminator_scales: tuple[float, ...] = (1.0,)
    discriminator_spectral_norm: bool = True
    discriminator_use_keypoints: bool = False

    def __post_init__(self) -> None:
        """Checks what would otherwise fail deep inside a network."""
        if self.emotion_head not in EMOTION_HEADS:
            raise UserError(
                f"emotion_head is {self.emotion_head!r}; allowed are {', '.join(EMOTION_HEADS)}"
            )
        if self.image_size < 32 or self.image_size & (self.image_size - 1):
            raise UserError(
                f"image_size is {self.image_size}; it must be a power of two, 32 or more"
            )
        for name in ("keypoint", "motion", "emotion"):
            size = int(self.image_size * getattr(self, f"{name}_scale"))
            blocks = getattr(self, f"{name}_blocks")
            if size >> blocks < 1:
                raise UserError(
                    f"{name}_blocks is {blocks}, but a {size}x{size} map can be halved only "
                    f"{int(math.log2(size))} times"
                )
        drawn = self.image_size // self.generator_pixel_block
        if self.generator_sees_motion and drawn != int(self.image_size * self.motion_scale):
            raise UserError(
                f"generator_sees_motion needs a dense motion map of the size that is drawn, "
                f"{drawn}x{drawn}, but motion_scale is {self.motion_scale}"
            )
        if any(not 0 <= index < self.num_keypoints for index in self.emotion_keypoints):
            raise UserError(
                f"emotion_keypoints are {self.emotion_keypoints}; "
                f"they must lie in 0..{self.num_keypoints - 1}"
            )

        lids = self.lid_keypoints
        if len(lids) % 2 or any(not 0 <= index < self.num_keypoints for index in lids):
            raise UserError(
                f"lid_keypoints are {lids}; they must be pairs in 0..{self.num_keypoints - 1}"
            )

        if len(self.emotion_shares) != len(self.emotion_keypoints):
            raise UserError(
                f"emotion_shares are {len(self.emotion_shares)}, but emotion_keypoints are "
                f"{len(self.emotion_keypoints)}"
            )

    @property
    def feature_size(self) -> int:
        """Side of the audio feature maps and of the keypoint detector's last map."""
        return int(self.image_size * self.keypoint_scale)

    @property
    def feature_channels(self) -> int:
        """Channels of those maps: the hourglass's width and its input beside it."""
        return self.keypoint_width + self.num_channels

    @property
    def moved_keypoints(self) -> tuple[int, ...]:
        """The keypoints that the emotion head displaces, in its order."""
        if self.emotion_head.endswith("_10"):
            return tuple(range(self.num_keypoints))
        return self.emotion_keypoints

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """From JSON; unknown or misshapen fields are refused by name."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise UserError(f"unknown model configuration field: {', '.join(unknown)}")
        default = cls()
        checked = {}
        for name, value in values.items():
            value = tuple(value) if isinstance(value, list) else value
            expected = type(getattr(default, name))
            if expected is float and type(value) is int:
                value = float(value)
            if type(value) is not expected:
                raise UserError(
                    f"model configuration field {name} is {value!r}; expected {expected.__name__}"
                )
            checked[name] = value
        return cls(**checked)


def published() -> ModelConfig:
    """The model of the paper, 256 x 256."""
    return ModelConfig()


def demo() -> ModelConfig:
    """The bundled model: small enough to be trained on a CPU, 128 x 128.

    Its keypoints are points of a face (`configs/demo.py` says which).
    """
    return ModelConfig(
        image_size=128,
        num_keypoints=20,
        keypoint_width=16,
        keypoint_max_width=128,
        keypoint_blocks=4,
        keypoint_scale=0.5,
        keypoint_kernel=3,
        motion_width=24,
        motion_max_width=128,
        motion_blocks=4,
        motion_scale=0.5,
        motion_kernel=3,
        gaussian_variance=0.004,
        half_pixel_grids=True,
        mask_radius=0.12,
        generator_width=48,
        generator_max_width=112,
        generator_downs=1,
        generator_res_blocks=3,
        generator_kernel=3,
        generator_pixel_block=2,
        generator_sees_motion=True,
        generator_blends=True,
        audio_image_width=8,
        audio_image_max_width=128,
        audio_pose_widths=(64, 64),
        audio_conv_widths=(32, 32, 64, 64, 96),
        audio_dense_widths=(384, 192),
        lstm_width=224,
        lstm_layers=2,
        deconv_widths=(96, 48),
        emotion_width=8,
        emotion_max_width=64,
        emotion_blocks=3,
        emotion_scale=0.5,
        emotion_stage_widths=(24, 48, 64, 128),
        emotion_code_widths=(256, 128),
        emotion_raw_widths=(64, 128),
        emotion_joint_widths=(256, 192),
        emotion_frequencies=4,
        emotion_head="dense",
        emotion_keypoints=tuple(range(20)),
        audio_weight=1.0,
        lid_keypoints=(8, 9, 10, 11),
        smooth_motion=False,
        relative_motion=True,
        emotion_shares=(*(1.5, 1.5, 1.0), *(1.5,) * 13, *(1.0,) * 4),  # as configs/stage2.py
        discriminator_width=16,
        discriminator_max_width=64,
        discriminator_blocks=3,
    )


def tiny() -> ModelConfig:
    """The smallest model with every part of the published one; for tests."""
    return ModelConfig(
        image_size=64,
        keypoint_width=8,
        keypoint_max_width=32,
        keypoint_blocks=3,
        motion_width=8,
        motion_max_width=32,
        motion_blocks=3,
        generator_width=8,
        generator_max_width=32,
        generator_res_blocks=2,
        audio_image_max_width=32,
        audio_pose_widths=(16, 16),
        audio_conv_widths=(8, 8, 16, 16, 16),
        audio_dense_widths=(64, 32),
        lstm_width=32,
        lstm_layers=2,
        deconv_widths=(32, 16),
        emotion_width=8,
        emotion_max_width=32,
        emotion_blocks=3,
        emotion_stage_widths=(8, 16, 16, 32),
        emotion_code_widths=(64, 32),
        emotion_raw_widths=(16, 32),
        emotion_joint_widths=(64, 64),
        discriminator_width=4,
        discriminator_max_width=16,
        discriminator_blocks=2,
    )
