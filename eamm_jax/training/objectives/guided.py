"""Objectives of the bundled model: keypoints guided by known landmarks.

Unsupervised keypoints take millions of images. On rendered faces, whose landmarks and head
pose are known, a small model learns in hours: the detector alone first (`GuidedKeypoints`),
then the generator alone (`GuidedGenerator`), then audio to motion (`GuidedAudioKeypoints`).
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Float
from ml_collections import ConfigDict

from eamm_jax.errors import UserError
from eamm_jax.models.config import ModelConfig
from eamm_jax.models.generator import deform
from eamm_jax.training import guidance, losses
from eamm_jax.training.objectives.audio_to_motion import (
    AudioKeypoints,
    ClipInputs,
    predict_keypoints,
)
from eamm_jax.training.objectives.base import (
    Forward,
    Losses,
    detect_keypoints,
    frame,
)
from eamm_jax.training.objectives.first_order_motion import FirstOrderMotion, PairInputs
from eamm_jax.training.objectives.perceptual import PyramidLoss
from eamm_jax.training.panels import Panel
from eamm_jax.types import EMOTIONS, Array, FaceTruth, Keypoints, Pairs

REGION_THRESHOLD = 0.5
"""Pixels whose soft region weight is above this count for the PSNR of mouth and eyes."""


class _GuidedPairs(FirstOrderMotion):
    """Pairs of frames with their truth, which does not follow augmentation."""

    with_truth = True

    def __init__(self, config: ConfigDict, model_config: ModelConfig):
        """See `Objective`.

        Raises:
            UserError: `augment` is set.
        """
        super().__init__(config, model_config)
        if config.augment:
            raise UserError("config.augment must be False: landmarks do not follow augmentation")


def _detect_pair(forward: Forward, inputs: PairInputs) -> tuple[Keypoints, Keypoints]:
    images = jnp.stack([inputs.source, inputs.driving], axis=1)
    image_keypoints = detect_keypoints(forward, images)
    return frame(image_keypoints, 0), frame(image_keypoints, 1)


def _truth(inputs: PairInputs) -> tuple[FaceTruth, FaceTruth]:
    if inputs.source_truth is None or inputs.driving_truth is None:
        raise ValueError("the examples come without their truth")
    return inputs.source_truth, inputs.driving_truth


class GuidedKeypoints(_GuidedPairs):
    """The keypoint detector alone, taught by landmarks and head pose."""

    trained = ("kp_detector",)

    def __init__(self, config: ConfigDict, model_config: ModelConfig):
        """See `Objective`.

        Raises:
            UserError: `keypoint_points` does not fit the networks.
        """
        super().__init__(config, model_config)
        self.frozen = self.needed = ()
        groups = config.keypoint_points
        if len(groups) != model_config.num_keypoints:
            raise UserError(
                f"config.keypoint_points has {len(groups)} groups; the networks have "
                f"{model_config.num_keypoints} keypoints"
            )
        if any(not group or not set(group) <= set(range(guidance.NUM_POINTS)) for group in groups):
            raise UserError(
                f"config.keypoint_points must name points 0 to {guidance.NUM_POINTS - 1}, at "
                "least one for each keypoint"
            )

    def losses(self, forward: Forward, inputs: PairInputs) -> Losses:
        """L1 of positions from their points, and of Jacobians from the head's rotation."""
        config = self.config
        pairs = zip(_detect_pair(forward, inputs), _truth(inputs), strict=True)
        found = [guidance.distances(*pair, config.keypoint_points) for pair in pairs]
        value, rotation = (sum(parts) / len(found) for parts in zip(*found, strict=True))
        terms = {
            "landmarks": config.landmark_weight * value,
            "rotation": config.rotation_weight * rotation,
        }
        return Losses(terms, {})

    def panel(self, forward: Forward, batch: Pairs) -> Panel:
        """The frames; the truth stands where a rendering would."""
        inputs = self.inputs(batch)
        source, driving = _detect_pair(forward, inputs)
        empty = jnp.zeros((*inputs.source.shape[:3], 1))
        return Panel(
            source=inputs.source,
            target=inputs.driving,
            warped=inputs.source,
            prediction=inputs.driving,
            occlusion=empty,
            masks=jnp.tile(empty, source.value.shape[1] + 1),
            source_keypoints=source.value,
            target_keypoints=driving.value,
            driving_keypoints=guidance.guided_values(
                _truth(inputs)[1], self.config.keypoint_points
            ),
        )


class GuidedGenerator(_GuidedPairs):
    """The generator alone, from a trained detector; mouth and eyes count more."""

    trained = ("generator",)

    def __init__(self, config: ConfigDict, model_config: ModelConfig):
        """See `Objective`."""
        super().__init__(config, model_config)
        self.distance = PyramidLoss(config)
        self.frozen = self.needed = ("kp_detector",)

    def losses(self, forward: Forward, inputs: PairInputs) -> Losses:
        """Weighted distances of the rendered and of the warped source from the target."""
        config, target = self.config, inputs.driving
        source, driving = _detect_pair(forward, inputs)
        rendering = forward("generator", inputs.source, source, driving)
        prediction, warped = rendering.prediction, deform(inputs.source, rendering.motion)
        regions = self._regions(_truth(inputs)[1])
        weight = 1.0 + config.mouth_weight * regions["mouth"] + config.eyes_weight * regions["eyes"]
        terms = {
            "perceptual": self.distance(forward, prediction, target, weight),
            "warped": config.warped_weight * losses.l1(warped, target, weight),
        }
        metrics = {"psnr": losses.peak_signal_to_noise(prediction, target)}
        for name, region in regions.items():
            inside = (region > REGION_THRESHOLD).astype(prediction.dtype)
            metrics[f"psnr_{name}"] = losses.peak_signal_to_noise(prediction, target, inside)
        return Losses(terms, metrics)

    def _regions(self, truth: FaceTruth) -> dict[str, Float[Array, "b h w 1"]]:
        size = self.model_config.image_size
        return {
            "mouth": guidance.mouth_region(truth, size),
            "eyes": guidance.eyes_region(truth, size),
        }


class GuidedAudioKeypoints(AudioKeypoints):
    """Part 1 with a loss on motion, for data in which emotion changes where keypoints are.

    Clips of `place_emotions` teach positions; all clips teach motion.
    """

    def __init__(self, config: ConfigDict, model_config: ModelConfig):
        """See `Objective`.

        Raises:
            UserError: `place_emotions` or `motion_shares` do not fit.
        """
        super().__init__(config, model_config)
        for emotion in config.place_emotions:
            if emotion not in EMOTIONS:
                raise UserError(
                    f"config.place_emotions names {emotion!r}; allowed are {', '.join(EMOTIONS)}"
                )
        if len(config.motion_shares) not in (0, model_config.num_keypoints):
            raise UserError(
                f"config.motion_shares has {len(config.motion_shares)} numbers; the networks have "
                f"{model_config.num_keypoints} keypoints"
            )

    def losses(self, forward: Forward, inputs: ClipInputs) -> Losses:
        """The terms of part 1 on some clips, and the motion of all."""
        config = self.config
        image_keypoints = detect_keypoints(forward, inputs.frames)
        audio_keypoints = predict_keypoints(forward, inputs)
        clip_weight = None
        if config.place_emotions:
            labels = [EMOTIONS.index(emotion) for emotion in config.place_emotions]
            clip_weight = jnp.isin(inputs.emotion, jnp.array(labels)).astype(inputs.frames.dtype)
        shares = jnp.asarray(config.motion_shares) if config.motion_shares else None
        terms = self.keypoint_terms(audio_keypoints, image_keypoints, clip_weight)
        terms["motion"] = config.motion_weight * losses.motion_distance(
            audio_keypoints.value, image_keypoints.value, shares
        )
        return Losses(terms, {})
