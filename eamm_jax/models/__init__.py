"""The networks, built from one configuration."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from eamm_jax.models.audio_to_motion import AudioToMotion
from eamm_jax.models.config import ModelConfig
from eamm_jax.models.discriminator import MultiScaleDiscriminator
from eamm_jax.models.emotion import EmotionNetwork
from eamm_jax.models.generator import Generator
from eamm_jax.models.keypoint_detector import KeypointDetector, KeypointHead
from eamm_jax.models.layers import Dtype
from eamm_jax.models.vgg19 import VGG19


class Networks(NamedTuple):
    """Every network, under the name it has in the published checkpoints and in ours."""

    kp_detector: KeypointDetector
    generator: Generator
    discriminator: MultiScaleDiscriminator
    audio_feature: AudioToMotion
    kp_detector_a: KeypointHead
    emo_detector: EmotionNetwork
    vgg19: VGG19


def build(config: ModelConfig, dtype: Dtype = jnp.float32, *, fast: bool = False) -> Networks:
    """The networks of a configuration; they hold no parameters.

    Args:
        config: widths, depths, resolutions.
        dtype: what they compute in.
        fast: whether what runs for every frame uses the algorithms of `ops/convolution.py`,
            which pay on a CPU (in bfloat16 on one with units for it); the parameters are
            the same.
    """
    return Networks(
        kp_detector=KeypointDetector(
            num_keypoints=config.num_keypoints,
            width=config.keypoint_width,
            blocks=config.keypoint_blocks,
            max_width=config.keypoint_max_width,
            scale=config.keypoint_scale,
            kernel=config.keypoint_kernel,
            temperature=config.heatmap_temperature,
            dtype=dtype,
        ),
        generator=Generator(
            num_channels=config.num_channels,
            num_keypoints=config.num_keypoints,
            width=config.generator_width,
            max_width=config.generator_max_width,
            downs=config.generator_downs,
            res_blocks=config.generator_res_blocks,
            kernel=config.generator_kernel,
            pixel_block=config.generator_pixel_block,
            sees_motion=config.generator_sees_motion,
            blends=config.generator_blends,
            motion_width=config.motion_width,
            motion_blocks=config.motion_blocks,
            motion_max_width=config.motion_max_width,
            motion_scale=config.motion_scale,
            motion_kernel=config.motion_kernel,
            gaussian_variance=config.gaussian_variance,
            half_pixel_grids=config.half_pixel_grids,
            mask_radius=config.mask_radius,
            dtype=dtype,
            fast=fast,
        ),
        discriminator=MultiScaleDiscriminator(
            num_scales=len(config.discriminator_scales),
            width=config.discriminator_width,
            max_width=config.discriminator_max_width,
            blocks=config.discriminator_blocks,
            spectral_norm=config.discriminator_spectral_norm,
            keypoint_variance=config.gaussian_variance,
            dtype=dtype,
        ),
        audio_feature=AudioToMotion(
            image_width=config.audio_image_width,
            image_max_width=config.audio_image_max_width,
            pose_widths=config.audio_pose_widths,
            conv_widths=config.audio_conv_widths,
            dense_widths=config.audio_dense_widths,
            lstm_width=config.lstm_width,
            lstm_layers=config.lstm_layers,
            deconv_widths=config.deconv_widths,
            feature_size=config.feature_size,
            feature_channels=config.feature_channels,
            dtype=dtype,
        ),
        kp_detector_a=KeypointHead(
            num_keypoints=config.num_keypoints,
            kernel=config.keypoint_kernel,
            temperature=config.heatmap_temperature,
            dtype=dtype,
        ),
        emo_detector=EmotionNetwork(
            num_keypoints=config.num_keypoints,
            num_emotions=config.num_emotions,
            num_moved=len(config.emotion_keypoints),
            head=config.emotion_head,
            width=config.emotion_width,
            blocks=config.emotion_blocks,
            max_width=config.emotion_max_width,
            scale=config.emotion_scale,
            stage_widths=config.emotion_stage_widths,
            code_widths=config.emotion_code_widths,
            raw_widths=config.emotion_raw_widths,
            joint_widths=config.emotion_joint_widths,
            frequencies=config.emotion_frequencies,
            dtype=dtype,
            fast=fast,
        ),
        vgg19=VGG19(dtype=dtype),
    )
