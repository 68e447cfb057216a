"""Presets beside the published model: the bundled one, and a tiny one for tests."""

from __future__ import annotations

from eamm_jax.models.config import (
    AudioToMotionConfig,
    DenseMotionConfig,
    DiscriminatorConfig,
    EmotionConfig,
    GeneratorConfig,
    InferenceConfig,
    KeypointDetectorConfig,
    ModelConfig,
)


def demo() -> ModelConfig:
    """The bundled model: small enough to be trained on a CPU, 256 x 256.

    Its keypoints are points of a face (`training.bundled_config.KEYPOINTS`). The networks work at a
    quarter of the resolution, but for the source image's pixels, which the output is blended with.
    """
    return ModelConfig(
        image_size=256,
        num_keypoints=26,
        keypoint_detector=KeypointDetectorConfig(
            width=16, max_width=128, blocks=4, scale=0.25, kernel=3, shared_jacobian=True
        ),
        generator=GeneratorConfig(
            width=48,
            max_width=112,
            downs=1,
            res_blocks=3,
            kernel=3,
            pixel_block=4,
            motion_skip=True,
            blend=True,
            dense_motion=DenseMotionConfig(
                width=24,
                max_width=128,
                blocks=4,
                scale=0.25,
                kernel=3,
                variance=0.001,  # lips that part are a few pixels from each other
                half_pixel=True,
                mask_radius=0.12,
                mask_peak=4.0,
            ),
        ),
        discriminator=DiscriminatorConfig(
            width=16, max_width=64, blocks=3, keypoint_variance=0.004
        ),
        audio_to_motion=AudioToMotionConfig(
            image_width=8,
            image_max_width=128,
            pose_widths=(64, 64),
            conv_widths=(32, 32, 64, 64, 96),
            dense_widths=(384, 192),
            lstm_width=224,
            lstm_layers=2,
            deconv_widths=(96, 48),
        ),
        emotion=EmotionConfig(
            width=8,
            max_width=64,
            blocks=3,
            scale=0.25,
            stage_widths=(24, 48, 64, 128),
            code_widths=(256, 128),
            raw_widths=(64, 128),
            joint_widths=(256, 192),
            frequencies=4,
            head="dense",
            keypoints=tuple(range(26)),
            rigid=(0, 1, 3, 8, 9, 10, 11),  # jaw, nose and eyes
            # Half frames before their mean, on the head model's mean face.
            depths=(
                *(-0.36, -0.36, 0.05, 0.19, -0.08, 0.07, 0.07, -0.08),
                *(-0.01, -0.02, -0.01, -0.02, -0.03, -0.03),
                *(0.04, 0.04, 0.16, 0.14, 0.12, 0.12),
                *(0.02, 0.02, 0.11, 0.11, 0.10, 0.10),
            ),
        ),
        inference=InferenceConfig(
            audio_weight=3.0,
            # As in configs/bundled_stage2.py.
            emotion_shares=(
                *(1.5, 1.5, 1.0, 1.5),
                *(1.3,) * 8,
                *(1.0,) * 2,
                *(2.5,) * 2,
                *(1.2,) * 4,
                *(1.3,) * 2,
                *(1.5,) * 4,
            ),
            lid_keypoints=(8, 9, 10, 11),
            pupil_keypoints=(12, 13),
            smooth_motion=False,
            relative_motion=True,
            relative_to_silence=True,
            loudness_range=9.2,  # 40 dB: most noise in training is louder
        ),
    )


def tiny() -> ModelConfig:
    """The smallest model with every part of the published one; for tests."""
    return ModelConfig(
        image_size=64,
        keypoint_detector=KeypointDetectorConfig(width=8, max_width=32, blocks=3),
        generator=GeneratorConfig(
            width=8,
            max_width=32,
            res_blocks=2,
            dense_motion=DenseMotionConfig(width=8, max_width=32, blocks=3),
        ),
        discriminator=DiscriminatorConfig(width=4, max_width=16, blocks=2),
        audio_to_motion=AudioToMotionConfig(
            image_max_width=32,
            pose_widths=(16, 16),
            conv_widths=(8, 8, 16, 16, 16),
            dense_widths=(64, 32),
            lstm_width=32,
            lstm_layers=2,
            deconv_widths=(32, 16),
        ),
        emotion=EmotionConfig(
            width=8,
            max_width=32,
            blocks=3,
            stage_widths=(8, 16, 16, 32),
            code_widths=(64, 32),
            raw_widths=(16, 32),
            joint_widths=(64, 64),
        ),
    )
