"""Part 2: the displacement that an emotion adds to audio keypoints (EAMM 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import jax
from jaxtyping import Float, PRNGKeyArray

from eamm_jax.models.emotion import Emotion
from eamm_jax.ops.augmentation import EmotionAugmentation, augment_emotion_frames, mask_mouth
from eamm_jax.ops.keypoints import add_displacement
from eamm_jax.training import losses
from eamm_jax.training.losses import Scalar
from eamm_jax.training.objectives.audio_to_motion import (
    ClipInputs,
    clip_inputs,
    clip_panel,
    find_image_keypoints,
    predict_keypoints,
)
from eamm_jax.training.objectives.base import (
    Forward,
    Losses,
    Objective,
    fold,
    unfold,
)
from eamm_jax.types import Array, Clips, Keypoints


class EmotionInputs(NamedTuple):
    """Clips as floats, and the same frames as the emotion network sees them."""

    clips: ClipInputs
    emotion_frames: Float[Array, "b t h w 3"]


class EmotionDisplacement(Objective[Clips, EmotionInputs]):
    """The emotion network learns what audio keypoints lack of the image keypoints."""

    trained = ("emo_detector",)
    frozen = ("kp_detector", "audio_feature", "kp_detector_a", "generator")
    needed = frozen

    def inputs(self, batch: Clips, rng: PRNGKeyArray | None = None) -> EmotionInputs:
        """Only the emotion network's frames are augmented; their mouths are always masked."""
        config = self.config
        clips = clip_inputs(batch)
        frames = clips.frames
        if rng is not None and config.augment:
            fields = {name: config[name] for name in EmotionAugmentation._fields}
            frames = augment_emotion_frames(rng, frames, EmotionAugmentation(**fields))
        elif config.mask_mouth:
            frames = mask_mouth(frames)
        return EmotionInputs(clips, frames)

    def losses(self, forward: Forward, inputs: EmotionInputs) -> Losses:
        """Distances of displaced audio keypoints from image keypoints; cross-entropy."""
        config = self.config
        audio_keypoints = predict_keypoints(forward, inputs.clips)
        emotion = read_emotion(forward, inputs.emotion_frames, audio_keypoints)
        distances = self.distances(forward, inputs.clips, emotion.displacement, audio_keypoints)
        entropy, accuracy = losses.emotion_cross_entropy(emotion.logits, inputs.clips.emotion)
        terms = {
            "value": config.value_weight * distances["value"],
            "jacobian": config.jacobian_weight * distances["jacobian"],
            "classification": config.classification_weight * entropy,
        }
        return Losses(terms, {"accuracy": accuracy})

    def distances(
        self,
        forward: Forward,
        clips: ClipInputs,
        displacement: Keypoints,
        audio_keypoints: Keypoints,
    ) -> dict[str, Scalar]:
        """Of displaced audio keypoints from image keypoints: `value` and `jacobian`."""
        return losses.displacement_distances(
            displacement,
            audio_keypoints,
            find_image_keypoints(forward, clips),
            self.model_config.moved_keypoints,
        )

    def panel(self, forward: Forward, batch: Clips) -> Float[Array, "b h w6 3"]:
        """The middle frame of each clip, rendered from displaced audio keypoints."""
        inputs = self.inputs(batch)
        audio_keypoints = predict_keypoints(forward, inputs.clips)
        emotion = read_emotion(forward, inputs.emotion_frames, audio_keypoints)
        moved = self.model_config.moved_keypoints
        driving = add_displacement(audio_keypoints, emotion.displacement, moved, [1.0] * len(moved))
        return clip_panel(forward, inputs.clips, driving)


def read_emotion(
    forward: Forward, frames: Float[Array, "b t h w 3"], audio_keypoints: Keypoints
) -> Emotion:
    """Displacement, logits and features of every frame, (b, t, ...)."""
    keypoints = jax.tree.map(fold, Keypoints(audio_keypoints.value, audio_keypoints.jacobian))
    return unfold(forward("emo_detector", fold(frames), keypoints), frames.shape[:2])
