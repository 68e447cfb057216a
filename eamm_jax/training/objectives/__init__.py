"""What each stage learns and from what: one file for each stage's losses."""

from __future__ import annotations

from typing import Any

from eamm_jax.training.objectives.audio_to_motion import AudioKeypoints, AudioKeypointsFineTune
from eamm_jax.training.objectives.base import Forward, Losses, Objective, Terms
from eamm_jax.training.objectives.emotion import EmotionDisplacement
from eamm_jax.training.objectives.first_order_motion import FirstOrderMotion, FirstOrderMotionGan
from eamm_jax.training.objectives.guided import (
    GuidedAudioKeypoints,
    GuidedEmotion,
    GuidedGenerator,
    GuidedKeypoints,
)

__all__ = ["OBJECTIVES", "Forward", "Losses", "Objective", "Terms"]

OBJECTIVES: dict[str, type[Objective[Any, Any]]] = {
    "stage0": FirstOrderMotion,
    "stage0_gan": FirstOrderMotionGan,
    "stage1": AudioKeypoints,
    "stage1_finetune": AudioKeypointsFineTune,
    "stage2": EmotionDisplacement,
    "guided_keypoints": GuidedKeypoints,
    "guided_generator": GuidedGenerator,
    "guided_stage1": GuidedAudioKeypoints,
    "guided_stage2": GuidedEmotion,
}
