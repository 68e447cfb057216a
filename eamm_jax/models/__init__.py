"""The networks, built from one configuration."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from eamm_jax.constants import AUDIO_WINDOW, POSE_NUMBERS
from eamm_jax.models import emotion_fan, inception, lpips, syncnet
from eamm_jax.models.audio_to_motion import AudioToMotion
from eamm_jax.models.config import ModelConfig
from eamm_jax.models.discriminator import MultiScaleDiscriminator
from eamm_jax.models.emotion import EmotionNetwork
from eamm_jax.models.generator import Generator
from eamm_jax.models.keypoint_detector import KeypointDetector, KeypointHead
from eamm_jax.models.layers import Dtype
from eamm_jax.models.vgg19 import VGG19
from eamm_jax.types import Keypoints


class Networks(NamedTuple):
    """Every network, under its published name."""

    kp_detector: KeypointDetector
    generator: Generator
    discriminator: MultiScaleDiscriminator
    audio_feature: AudioToMotion
    kp_detector_a: KeypointHead
    emo_detector: EmotionNetwork
    vgg19: VGG19
    vgg16: lpips.VGG16


METRICS: dict[str, tuple[nn.Module, tuple[tuple[int, ...], ...]]] = {
    "syncnet": (
        syncnet.SyncNet(),
        (
            (1, syncnet.FRAMES, syncnet.SIZE, syncnet.SIZE, 3),
            (1, syncnet.ROWS, syncnet.COEFFICIENTS),
        ),
    ),
    "inception": (inception.Inception(), ((1, inception.SIZE, inception.SIZE, 3),)),
    "emotion_fan": (emotion_fan.EmotionFan(), ((1, emotion_fan.SIZE, emotion_fan.SIZE, 3),)),
    "lpips_alex": (lpips.AlexNet(), ((1, 64, 64, 3),)),
    "lpips_vgg": (lpips.VGG16(blurred=False), ((1, 64, 64, 3),)),
}
"""Networks that only measure (`constants.METRIC_NETWORKS`), and the shapes of their inputs."""


def build(config: ModelConfig, dtype: Dtype = jnp.float32) -> Networks:
    """The networks of a configuration; they hold no parameters.

    Args:
        config: widths, depths, resolutions.
        dtype: what convolutions and matrix products compute in.
    """
    detector, k = config.keypoint_detector, config.num_keypoints
    feature_shape = (config.feature_size, config.feature_channels)
    return Networks(
        kp_detector=KeypointDetector(detector, k, dtype),
        generator=Generator(config.generator, config.num_channels, dtype),
        discriminator=MultiScaleDiscriminator(config.discriminator, dtype),
        audio_feature=AudioToMotion(config.audio_to_motion, *feature_shape, dtype),
        kp_detector_a=KeypointHead(detector, k, dtype),
        emo_detector=EmotionNetwork(config.emotion, k, dtype),
        vgg19=VGG19(dtype),
        vgg16=lpips.VGG16(blurred=True, dtype=dtype),
    )


def example_inputs(config: ModelConfig, network: str) -> tuple[Any, ...]:
    """Zeros of the shapes that a network is applied to; for its `init`."""
    size, k = config.image_size, config.num_keypoints
    image = jnp.zeros((1, size, size, config.num_channels))
    keypoints = Keypoints(jnp.zeros((1, k, 2)), jnp.broadcast_to(jnp.eye(2), (1, k, 2, 2)))
    pyramid = [image[:, :: int(1 / s), :: int(1 / s)] for s in config.discriminator.scales]
    positions = keypoints.value if config.discriminator.use_keypoints else None
    inputs: dict[str, tuple[Any, ...]] = {
        "kp_detector": (image,),
        "generator": (image, keypoints, keypoints),
        "discriminator": (pyramid, positions),
        "audio_feature": (
            image,
            jnp.zeros((1, 1, *AUDIO_WINDOW)),
            jnp.zeros((1, 1, POSE_NUMBERS)),
        ),
        "kp_detector_a": (
            jnp.zeros((1, config.feature_size, config.feature_size, config.feature_channels)),
        ),
        "emo_detector": (image, keypoints),
        "vgg19": (image,),
        "vgg16": (image,),
    }
    return inputs[network]
