"""Stage 0: keypoint detector and generator from pairs of frames (Siarohin et al. 2019)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray
from ml_collections import ConfigDict

from eamm_jax.models.config import ModelConfig
from eamm_jax.ops.augmentation import augment_pair
from eamm_jax.ops.thin_plate import Warp, random_warp, warp_image
from eamm_jax.training import losses
from eamm_jax.training.objectives.base import (
    PERCEPTUAL_NETWORKS,
    Forward,
    Losses,
    Objective,
    Terms,
    detect_keypoints,
    fold,
    frame,
    image_pyramid,
    perceptual_loss,
    to_float,
)
from eamm_jax.training.panels import draw_panel
from eamm_jax.types import Array, Keypoints, Pairs


class PairInputs(NamedTuple):
    """Two frames of a video, and the warp of the equivariance loss."""

    source: Float[Array, "b h w 3"]
    driving: Float[Array, "b h w 3"]
    warp: Warp


class Rendered(NamedTuple):
    """Real and rendered frames, and the keypoints that drove them."""

    real: Float[Array, "b h w 3"]
    prediction: Float[Array, "b h w 3"]
    keypoints: Keypoints


class FirstOrderMotion(Objective[Pairs, PairInputs]):
    """Unsupervised: perceptual and equivariance losses."""

    batch_of = "pairs"
    trained: tuple[str, ...] = ("kp_detector", "generator")

    def __init__(self, config: ConfigDict, model_config: ModelConfig):
        """See `Objective`."""
        super().__init__(config, model_config)
        self.frozen = self.needed = PERCEPTUAL_NETWORKS[config.perceptual]

    def inputs(self, batch: Pairs, rng: PRNGKeyArray | None = None) -> PairInputs:
        """Without a key the warp is always the same."""
        source, driving = to_float(batch.source), to_float(batch.driving)
        warp_rng = jax.random.key(0)
        if rng is not None:
            warp_rng, augmentation_rng = jax.random.split(rng)
            if self.config.augment:
                source, driving = augment_pair(
                    augmentation_rng, source, driving, self.config.jitter
                )
        warp = random_warp(
            warp_rng,
            source.shape[0],
            affine_noise=self.config.warp_affine_noise,
            spline_noise=self.config.warp_spline_noise,
            points=self.config.warp_points,
        )
        return PairInputs(source, driving, warp)

    def losses(self, forward: Forward, inputs: PairInputs) -> Losses:
        """Perceptual and equivariance losses."""
        config = self.config
        warped = warp_image(inputs.warp, inputs.driving)
        # One batch, so that there is one set of batch statistics, as at inference.
        images = jnp.stack([inputs.source, inputs.driving, warped], axis=1)
        image_keypoints = detect_keypoints(forward, images)
        source, driving, warped_keypoints = (frame(image_keypoints, i) for i in range(3))
        prediction = forward("generator", inputs.source, source, driving).prediction
        distances = losses.equivariance_distances(driving, warped_keypoints, inputs.warp)
        terms = {
            "perceptual": perceptual_loss(config, forward, prediction, inputs.driving),
            "equivariance_value": config.equivariance_value_weight * distances["value"],
            "equivariance_jacobian": config.equivariance_jacobian_weight * distances["jacobian"],
        }
        metrics = {"psnr": losses.peak_signal_to_noise(prediction, inputs.driving)}
        return Losses(terms, metrics, Rendered(inputs.driving, prediction, driving))

    def panel(self, forward: Forward, batch: Pairs) -> Float[Array, "b h w6 3"]:
        """Source and driving frame, and the driving frame as rendered from the source."""
        return pair_panel(forward, to_float(batch.source), to_float(batch.driving))


class FirstOrderMotionGan(FirstOrderMotion):
    """The same with a discriminator: adversarial and feature-matching losses."""

    adversary = "discriminator"

    def losses(self, forward: Forward, inputs: PairInputs) -> Losses:
        """The terms of `FirstOrderMotion`, adversarial and feature-matching loss."""
        config = self.config
        terms, metrics, rendered = super().losses(forward, inputs)
        positions = self._positions(rendered)
        of_real = forward("discriminator", self._pyramid(rendered.real), positions)
        of_rendered = forward("discriminator", self._pyramid(rendered.prediction), positions)
        terms["generator_gan"] = config.generator_gan_weight * losses.generator_gan(
            [judgement.score for judgement in of_rendered]
        )
        terms["feature_matching"] = sum(
            (
                losses.weighted_feature_distance(
                    ours.features, theirs.features, config.feature_matching_weights
                )
                for ours, theirs in zip(of_rendered, of_real, strict=True)
            ),
            start=jnp.zeros(()),
        )
        return Losses(terms, metrics, rendered)

    def adversary_losses(self, forward: Forward, outputs: Rendered) -> Terms:
        """Least squares: real frames are 1 and rendered ones 0."""
        # One batch: instance norm keeps its images apart, and spectral norm iterates once.
        pyramids = self._pyramid(outputs.real), self._pyramid(outputs.prediction)
        images = tuple(fold(jnp.stack(pair, axis=1)) for pair in zip(*pyramids, strict=True))
        positions = self._positions(outputs)
        if positions is not None:
            positions = jnp.repeat(positions, 2, axis=0)
        judgements = forward("discriminator", images, positions)
        value = losses.discriminator_gan(
            [judgement.score[0::2] for judgement in judgements],
            [judgement.score[1::2] for judgement in judgements],
        )
        return {"discriminator_gan": self.config.discriminator_gan_weight * value}

    def _positions(self, rendered: Rendered) -> Float[Array, "b k 2"] | None:
        """The keypoints shown to the discriminator, if it is built to see them."""
        if not self.model_config.discriminator.use_keypoints:
            return None
        return jax.lax.stop_gradient(rendered.keypoints.value)

    def _pyramid(self, image: Float[Array, "b h w 3"]) -> tuple[Float[Array, "b _ _ 3"], ...]:
        """The image at each of the discriminator's scales."""
        return image_pyramid(
            image, self.model_config.discriminator.scales, self.config.pyramid_sigma
        )


def detect_pair(
    forward: Forward, source: Float[Array, "b h w 3"], driving: Float[Array, "b h w 3"]
) -> tuple[Keypoints, Keypoints]:
    """Image keypoints of two frames, detected as one batch."""
    image_keypoints = detect_keypoints(forward, jnp.stack([source, driving], axis=1))
    return frame(image_keypoints, 0), frame(image_keypoints, 1)


def pair_panel(
    forward: Forward, source: Float[Array, "b h w 3"], target: Float[Array, "b h w 3"]
) -> Float[Array, "b h w6 3"]:
    """The panel of the target as rendered from its own keypoints."""
    of_source, of_target = detect_pair(forward, source, target)
    rendering = forward("generator", source, of_source, of_target)
    return draw_panel(source, target, rendering, of_source, of_target, of_target)
