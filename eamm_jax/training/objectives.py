"""What each stage learns and from what: networks, inputs, loss terms (ARCHITECTURE.md 5).

An objective is a set of pure functions that know nothing of optimisers, devices or files.
Time is folded into the batch for the networks that see images, so that batch statistics are
those of all frames of all clips.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray
from ml_collections import ConfigDict

from eamm_jax.models import Networks
from eamm_jax.models.audio_to_motion import AudioToMotion
from eamm_jax.models.config import ModelConfig
from eamm_jax.models.emotion import Emotion
from eamm_jax.models.generator import Generator, Rendering, deform
from eamm_jax.ops.augmentation import (
    ColourJitter,
    EmotionAugmentation,
    augment_emotion_frames,
    augment_pair,
    jitter_colours,
    mask_mouth,
)
from eamm_jax.ops.keypoints import add_displacement
from eamm_jax.ops.resizing import antialias_downsample, scale_sigma
from eamm_jax.ops.thin_plate import Warp, random_warp, warp_image
from eamm_jax.training import guidance, losses
from eamm_jax.training.panels import Panel
from eamm_jax.training.stage import PyTree
from eamm_jax.types import EMOTIONS, Array, Clips, FaceTruth, Keypoints, Pairs

Terms = dict[str, Array]
BatchT = TypeVar("BatchT")
InputsT = TypeVar("InputsT")

REGION_SHARE = 0.5
"""Where a soft region is more than this, it counts for the figures of mouth and eyes."""

RENDERED_EVERY = 4
"""Part 1 fine-tune renders frames 0, 4, 8, 12 of a clip (ARCHITECTURE.md section 5)."""


class Forward:
    """Applies networks with given variables, and gathers what their batch norms have seen.

    Attributes:
        stats: new collections (`batch_stats`, `spectral_stats`) of the networks that were
            applied in training mode, by name.
    """

    def __init__(
        self,
        networks: Networks,
        variables: Mapping[str, PyTree],
        *,
        training: Collection[str] = (),
        remat: Collection[str] = (),
    ):
        """Names are those of the fields of `Networks`.

        Args:
            networks: the modules.
            variables: their collections, by name.
            training: networks that use and update statistics of the batch; the others use
                those that are stored.
            remat: networks whose activations are computed again in the backward pass
                instead of being kept.
        """
        self.stats: dict[str, PyTree] = {}
        self._networks = networks
        self._variables = variables
        self._training = frozenset(training)
        self._remat = frozenset(remat)

    def __call__(self, name: str, *inputs: PyTree, method: Callable[..., Any] | None = None) -> Any:
        """What network `name`, or a method of it, returns for these inputs."""
        module = getattr(self._networks, name)
        variables = self._variables[name]
        stats = sorted(set(variables) - {"params"})
        updates = bool(stats) and name in self._training
        if updates and name in self.stats:
            raise ValueError(f"{name} is applied twice: fold its inputs into one batch")

        def apply(variables: PyTree, *inputs: PyTree) -> Any:
            if updates:
                return module.apply(variables, *inputs, train=True, mutable=stats, method=method)
            return module.apply(variables, *inputs, method=method), None

        if name in self._remat:
            apply = jax.checkpoint(apply)
        outputs, new_stats = apply(variables, *inputs)
        if updates:
            self.stats[name] = new_stats
        return outputs


class Objective(ABC, Generic[BatchT, InputsT]):
    """One stage's networks and losses.

    Attributes:
        trained: networks that the loss trains.
        adversary: the network that is trained against them, or None.
        frozen: networks that are only applied.
        needed: networks that must have been trained before.
    """

    trained: tuple[str, ...]
    adversary: str | None = None
    frozen: tuple[str, ...]
    needed: tuple[str, ...]

    def __init__(self, config: ConfigDict, model_config: ModelConfig):
        """Takes the configuration of a stage (`configs/`) and of the networks."""
        self.config = config
        self.model_config = model_config

    @abstractmethod
    def inputs(self, batch: BatchT, rng: PRNGKeyArray | None = None) -> InputsT:
        """What the networks see of a batch: floats, and augmented if a key is given."""

    @abstractmethod
    def losses(self, forward: Forward, inputs: InputsT) -> tuple[Terms, Terms, Any]:
        """The terms of the loss and what else is known of a batch.

        Returns:
            The weighted terms, whose sum is the loss; figures that are only reported; and
            what `adversary_losses` wants of the networks' outputs.
        """

    def adversary_losses(self, forward: Forward, outputs: Any) -> Terms:
        """The weighted terms of the adversary's loss, given what `losses` returned last."""
        raise NotImplementedError(f"{type(self).__name__} has no adversary")

    @abstractmethod
    def panel(self, forward: Forward, batch: BatchT) -> Panel:
        """What there is to look at in a batch."""

    def _perceptual(
        self,
        forward: Forward,
        drawn: Float[Array, "b h w 3"],
        real: Float[Array, "b h w 3"],
        weight: Float[Array, "b h w 1"] | None = None,
    ) -> Array:
        """The weighted perceptual loss over a pyramid of scales, with VGG-19 or without.

        How much each place counts is heeded without VGG-19 only.
        """
        config = self.config
        drawn_pyramid = self._pyramid(drawn, config.scales)
        real_pyramid = self._pyramid(real, config.scales)
        if config.perceptual == "pyramid":
            weights = None if weight is None else self._pyramid(weight, config.scales)
            return config.pyramid_weight * losses.pyramid_distance(
                drawn_pyramid, real_pyramid, weights
            )
        total = jnp.zeros(())
        for ours, theirs in zip(drawn_pyramid, real_pyramid, strict=True):
            total += losses.weighted_feature_distance(
                forward("vgg19", ours), forward("vgg19", theirs), config.perceptual_weights
            )
        return total

    def _pyramid(
        self, image: Float[Array, "b h w 3"], scales: Sequence[float]
    ) -> tuple[Float[Array, "b _ _ 3"], ...]:
        """The image at each scale."""
        sigma = self.config.pyramid_sigma
        return tuple(
            antialias_downsample(image, scale, sigma=sigma or scale_sigma(scale))
            for scale in scales
        )

    def _with_vgg(self, *names: str) -> tuple[str, ...]:
        return (*names, "vgg19") if self.config.perceptual == "vgg" else names

    def _jitter(self) -> ColourJitter:
        return ColourJitter(*(self.config.jitter,) * 4)


# Stage 0.


class PairInputs(NamedTuple):
    """Two frames of a video, the warp of the equivariance loss, and what is known of them."""

    source: Float[Array, "b h w 3"]
    driving: Float[Array, "b h w 3"]
    warp: Warp
    source_truth: FaceTruth | None = None
    driving_truth: FaceTruth | None = None


class Judged(NamedTuple):
    """What the discriminator is given: both images at its scales, and keypoints or None."""

    real: tuple[Float[Array, "b _ _ 3"], ...]
    drawn: tuple[Float[Array, "b _ _ 3"], ...]
    keypoints: Float[Array, "b k 2"] | None


class FirstOrderMotion(Objective[Pairs, PairInputs]):
    """Keypoints and generator from pairs of frames, unsupervised (Siarohin et al. 2019).

    With `config.gan` a discriminator learns to tell rendered frames from real ones. Of the
    two networks one may be trained alone: the detector, where landmarks guide it; the
    generator, where a trained detector is given.
    """

    def __init__(self, config: ConfigDict, model_config: ModelConfig):
        """As `Objective`."""
        super().__init__(config, model_config)
        self.trained = tuple(config.trained)
        self.adversary = "discriminator" if config.gan else None
        if "generator" not in self.trained:
            self.frozen = self.needed = ()
            return
        given = () if "kp_detector" in self.trained else ("kp_detector",)
        self.frozen = self.needed = self._with_vgg(*given)

    def inputs(self, batch: Pairs, rng: PRNGKeyArray | None = None) -> PairInputs:
        """Without a key the warp is always the same."""
        source, driving = to_float(batch.source), to_float(batch.driving)
        warp_rng = jax.random.key(0)
        if rng is not None:
            warp_rng, augmentation_rng = jax.random.split(rng)
            if self.config.augment:
                source, driving = augment_pair(augmentation_rng, source, driving, self._jitter())
        warp = random_warp(
            warp_rng,
            source.shape[0],
            affine_noise=self.config.warp_affine_noise,
            spline_noise=self.config.warp_spline_noise,
            points=self.config.warp_points,
        )
        return PairInputs(source, driving, warp, batch.source_truth, batch.driving_truth)

    def losses(self, forward: Forward, inputs: PairInputs) -> tuple[Terms, Terms, Judged | None]:
        """Perceptual, equivariance and, with a GAN, adversarial and feature-matching loss.

        Where it is configured, also how far keypoints are from the truth, and how far the
        portrait that is only moved is from the driving frame.
        """
        config = self.config
        source, driving, warped = self._keypoints(forward, inputs)
        terms: Terms = {}
        if "kp_detector" in self.trained:
            terms |= self._keypoint_terms(source, driving, warped, inputs)
        if "generator" not in self.trained:
            return terms, {}, None
        rendering = forward("generator", inputs.source, source, driving)
        figures = {"psnr": losses.peak_signal_to_noise(rendering.prediction, inputs.driving)}
        weight = None
        if inputs.driving_truth is not None:
            size = self.model_config.image_size
            mouth = guidance.mouth_region(inputs.driving_truth, size)
            eyes = guidance.eyes_region(inputs.driving_truth, size)
            weight = 1.0 + config.mouth_weight * mouth + config.eyes_weight * eyes
            for name, region in (("psnr_mouth", mouth), ("psnr_eyes", eyes)):
                figures[name] = losses.peak_signal_to_noise(
                    rendering.prediction, inputs.driving, (region > REGION_SHARE).astype("float32")
                )
        terms["perceptual"] = self._perceptual(
            forward, rendering.prediction, inputs.driving, weight
        )
        if config.warped_weight:
            moved = deform(inputs.source, rendering.motion)
            terms["warped"] = config.warped_weight * losses.l1(moved, inputs.driving, weight)
        if not config.gan:
            return terms, figures, None
        scales = self.model_config.discriminator.scales
        judged = Judged(
            real=self._pyramid(inputs.driving, scales),
            drawn=self._pyramid(rendering.prediction, scales),
            keypoints=jax.lax.stop_gradient(driving.value)
            if self.model_config.discriminator.use_keypoints
            else None,
        )
        of_real = forward("discriminator", judged.real, judged.keypoints)
        of_drawn = forward("discriminator", judged.drawn, judged.keypoints)
        terms["generator_gan"] = config.generator_gan_weight * losses.generator_gan(
            [judgement.score for judgement in of_drawn]
        )
        terms["feature_matching"] = sum(
            (
                losses.weighted_feature_distance(
                    ours.features, theirs.features, config.feature_matching_weights
                )
                for ours, theirs in zip(of_drawn, of_real, strict=True)
            ),
            start=jnp.zeros(()),
        )
        return terms, figures, judged

    def adversary_losses(self, forward: Forward, outputs: Judged) -> Terms:
        """Least squares: real frames are 1 and rendered ones 0."""
        # Both in one batch: instance norm keeps them apart, and spectral norm iterates once.
        images = tuple(
            _fold(jnp.stack([real, drawn], axis=1))
            for real, drawn in zip(outputs.real, outputs.drawn, strict=True)
        )
        keypoints = outputs.keypoints
        if keypoints is not None:
            keypoints = jnp.repeat(keypoints, 2, axis=0)
        judgements = forward("discriminator", images, keypoints)
        value = losses.discriminator_gan(
            [judgement.score[0::2] for judgement in judgements],
            [judgement.score[1::2] for judgement in judgements],
        )
        return {"discriminator_gan": self.config.discriminator_gan_weight * value}

    def panel(self, forward: Forward, batch: Pairs) -> Panel:
        """Source and driving frame, and how the one became the other."""
        inputs = self.inputs(batch)
        source, driving, _ = self._keypoints(forward, inputs)
        if "generator" not in self.trained:
            return _keypoint_panel(inputs, source, driving, self.config.keypoint_points)
        rendering = forward("generator", inputs.source, source, driving)
        return _panel(inputs.source, inputs.driving, source, driving, driving, rendering)

    def _keypoint_terms(
        self, source: Keypoints, driving: Keypoints, warped: Keypoints | None, inputs: PairInputs
    ) -> Terms:
        """How far keypoints are from moving with the picture, and from the truth."""
        config = self.config
        terms: Terms = {}
        if warped is not None:
            distances = losses.equivariance_distances(driving, warped, inputs.warp)
            terms["equivariance_value"] = config.equivariance_value_weight * distances["value"]
            terms["equivariance_jacobian"] = (
                config.equivariance_jacobian_weight * distances["jacobian"]
            )
        if inputs.source_truth is not None and inputs.driving_truth is not None:
            known = (source, inputs.source_truth), (driving, inputs.driving_truth)
            apart = [
                guidance.distances(keypoints, truth, config.keypoint_points)
                for keypoints, truth in known
            ]
            value, turn = (sum(parts) / len(known) for parts in zip(*apart, strict=True))
            terms["landmarks"] = config.landmark_weight * value
            terms["turn"] = config.turn_weight * turn
        return terms

    def _keypoints(
        self, forward: Forward, inputs: PairInputs
    ) -> tuple[Keypoints, Keypoints, Keypoints | None]:
        """Of source, driving and warped frame; the last only where something is asked of it."""
        config = self.config
        images = [inputs.source, inputs.driving]
        if "kp_detector" in self.trained and (
            config.equivariance_value_weight or config.equivariance_jacobian_weight
        ):
            images.append(warp_image(inputs.warp, inputs.driving))
        # In one batch, so that there is one set of batch statistics, as at inference.
        seen = see(forward, jnp.stack(images, axis=1))
        source, driving, *others = (_frame(seen, index) for index in range(len(images)))
        return source, driving, others[0] if others else None


# Stages 1 and 1 fine-tune.


class ClipInputs(NamedTuple):
    """Clips as floats.

    Attributes:
        portrait: one of each clip.
        frames: all, or the last of each `frame_stride`.
        audio: of all frames.
        pose: of all frames.
        placed: which clips tell where keypoints are; None: all. The others tell motion only.
    """

    portrait: Float[Array, "b h w 3"]
    frames: Float[Array, "b t h w 3"]
    audio: Float[Array, "b t 28 12"]
    pose: Float[Array, "b t 6"]
    placed: Float[Array, " b"] | None = None


class AudioKeypoints(Objective[Clips, ClipInputs]):
    """Part 1: keypoints heard in speech, taught by those seen in the frames (EAMM 3.1)."""

    trained: tuple[str, ...] = ("audio_feature", "kp_detector_a")
    frozen: tuple[str, ...] = ("kp_detector", "generator")  # the generator for panels only
    needed: tuple[str, ...] = ("kp_detector", "generator")

    def inputs(self, batch: Clips, rng: PRNGKeyArray | None = None) -> ClipInputs:
        """Colours are jittered, the portrait's as those of its clip.

        The published code jitters the clip alone; then what is rendered of the portrait
        could not match the clip in the fine-tune's perceptual loss.
        """
        portrait, frames = to_float(batch.portrait), to_float(batch.frames)
        if rng is not None and self.config.augment:
            together = jnp.concatenate([portrait[:, None], frames], axis=1)
            together = jitter_colours(rng, together, self._jitter())
            portrait, frames = together[:, 0], together[:, 1:]
        placed = None
        if self.config.get("place_emotions", ()):
            labels = [EMOTIONS.index(emotion) for emotion in self.config.place_emotions]
            placed = jnp.isin(batch.emotion, jnp.array(labels)).astype(jnp.float32)
        audio, pose = jnp.asarray(batch.audio), jnp.asarray(batch.pose)
        return ClipInputs(portrait, frames, audio, pose, placed)

    def losses(self, forward: Forward, inputs: ClipInputs) -> tuple[Terms, Terms, None]:
        """L1 between keypoints heard and seen: value, heatmap, jacobian."""
        seen = see(forward, inputs.frames)
        return self._keypoint_terms(hear(forward, inputs), seen, inputs.placed), {}, None

    def panel(self, forward: Forward, batch: Clips) -> Panel:
        """The middle frame of each clip, rendered from keypoints heard."""
        inputs = self.inputs(batch)
        return _clip_panel(forward, inputs, hear(forward, inputs))

    def _keypoint_terms(
        self, heard: Keypoints, seen: Keypoints, placed: Float[Array, " b"] | None = None
    ) -> Terms:
        config = self.config
        distances = losses.keypoint_distances(heard, seen, placed)
        terms = {
            "value": config.value_weight * distances["value"],
            "heatmap": config.heatmap_weight * distances["heatmap"],
            "jacobian": config.jacobian_weight * distances["jacobian"],
        }
        if config.motion_weight:
            shares = jnp.asarray(config.motion_shares) if config.motion_shares else None
            terms["motion"] = config.motion_weight * losses.motion_distance(
                heard.value, seen.value, shares
            )
        return terms


class AudioKeypointsFineTune(AudioKeypoints):
    """Part 1 fine-tune: the generator learns to draw from keypoints that were heard."""

    trained = ("audio_feature", "kp_detector_a", "generator")

    def __init__(self, config: ConfigDict, model_config: ModelConfig):
        """As `Objective`."""
        super().__init__(config, model_config)
        self.frozen = self._with_vgg("kp_detector")
        # Trained here, but from what the stages before have learned.
        self.needed = (*self.trained, *self.frozen)

    def losses(self, forward: Forward, inputs: ClipInputs) -> tuple[Terms, Terms, None]:
        """The terms of part 1, and the perceptual loss of every fourth frame."""
        images = jnp.concatenate([inputs.portrait[:, None], inputs.frames], axis=1)
        seen = see(forward, images)
        heard = hear(forward, inputs)
        terms = self._keypoint_terms(heard, jax.tree.map(lambda x: x[:, 1:], seen))
        driving = jax.tree.map(lambda x: _fold(x[:, ::RENDERED_EVERY]), heard)
        rendering = forward(
            "generator", inputs.portrait, _frame(seen, 0), driving, method=render_clips
        )
        real = _fold(inputs.frames[:, ::RENDERED_EVERY])
        terms["perceptual"] = self._perceptual(forward, rendering.prediction, real)
        figures = {"psnr": losses.peak_signal_to_noise(rendering.prediction, real)}
        return terms, figures, None


# Stage 2.


class EmotionInputs(NamedTuple):
    """Clips as floats, and the same frames as the emotion net sees them."""

    clips: ClipInputs
    emotion_frames: Float[Array, "b t h w 3"]
    emotion: Int[Array, " b"]


class EmotionDisplacement(Objective[Clips, EmotionInputs]):
    """Part 2: what an emotion adds to the keypoints that were heard (EAMM 3.2)."""

    trained = ("emo_detector",)
    frozen = ("kp_detector", "audio_feature", "kp_detector_a", "generator")
    needed = frozen

    def inputs(self, batch: Clips, rng: PRNGKeyArray | None = None) -> EmotionInputs:
        """The emotion net alone sees augmented frames; the mouth is hidden from it always."""
        frames = to_float(batch.frames)
        clips = ClipInputs(
            to_float(batch.portrait), frames, jnp.asarray(batch.audio), jnp.asarray(batch.pose)
        )
        config = self.config
        if rng is not None and config.augment:
            augmentation = EmotionAugmentation(
                mask_mouth=config.mask_mouth,
                flip=config.flip,
                rotation=config.rotation,
                perspective=config.perspective,
                enlargement=config.enlargement,
                jitter=self._jitter() if config.jitter else None,
            )
            frames = augment_emotion_frames(rng, frames, augmentation)
        elif config.mask_mouth:
            frames = mask_mouth(frames)
        return EmotionInputs(clips, frames, jnp.asarray(batch.emotion))

    def losses(self, forward: Forward, inputs: EmotionInputs) -> tuple[Terms, Terms, None]:
        """Distances of displaced keypoints from those seen; cross-entropy of the emotion."""
        config = self.config
        seen = see(forward, inputs.clips.frames)
        heard = hear(forward, inputs.clips)
        felt = feel(forward, inputs.emotion_frames, heard)
        distances = losses.displacement_distances(
            felt.displacement, heard, seen, self.model_config.moved_keypoints
        )
        entropy, accuracy = losses.emotion_cross_entropy(felt.logits, inputs.emotion)
        terms = {
            "value": config.value_weight * distances["value"],
            "jacobian": config.jacobian_weight * distances["jacobian"],
            "classification": config.classification_weight * entropy,
        }
        return terms, {"accuracy": accuracy}, None

    def panel(self, forward: Forward, batch: Clips) -> Panel:
        """The middle frame of each clip, rendered from keypoints heard and displaced."""
        inputs = self.inputs(batch)
        heard = hear(forward, inputs.clips)
        felt = feel(forward, inputs.emotion_frames, heard)
        moved = self.model_config.moved_keypoints
        driving = add_displacement(heard, felt.displacement, moved, [1.0] * len(moved))
        return _clip_panel(forward, inputs.clips, driving)


# What the networks make of clips.


def see(forward: Forward, images: Float[Array, "b t h w 3"]) -> Keypoints:
    """Keypoints of every image, (b, t, ...)."""
    return _unfold(forward("kp_detector", _fold(images)), images.shape[:2])


def hear(forward: Forward, inputs: ClipInputs) -> Keypoints:
    """Keypoints that follow from sound, pose and portrait, for every frame there is.

    Where only some frames of a clip were read, all its sound is listened to all the same.
    """
    stride = inputs.audio.shape[1] // inputs.frames.shape[1]

    def listen(
        module: AudioToMotion, portrait: Array, audio: Array, pose: Array, *, train: bool = False
    ) -> Array:
        return module(portrait, audio, pose, frame_stride=stride, train=train)[0]

    maps = forward("audio_feature", inputs.portrait, inputs.audio, inputs.pose, method=listen)
    return _unfold(forward("kp_detector_a", _fold(maps)), maps.shape[:2])


def feel(forward: Forward, frames: Float[Array, "b t h w 3"], heard: Keypoints) -> Emotion:
    """Displacement, logits and features for every frame, (b, t, ...)."""
    keypoints = jax.tree.map(_fold, Keypoints(heard.value, heard.jacobian))
    return _unfold(forward("emo_detector", _fold(frames), keypoints), frames.shape[:2])


def render_clips(
    generator: Generator,
    portrait: Float[Array, "b h w 3"],
    portrait_keypoints: Keypoints,
    driving: Keypoints,
    *,
    train: bool = False,
) -> Rendering:
    """A method of the generator that encodes each portrait once for all frames of its clip.

    Args:
        generator: the bound module.
        portrait: one for each of the b clips.
        portrait_keypoints: of these.
        driving: of b * n frames, clip by clip.
        train: as in the networks.
    """
    frames = driving.value.shape[0] // portrait.shape[0]
    code = generator.encode(portrait, train=train)
    code, keypoints = jax.tree.map(
        lambda x: jnp.repeat(x, frames, axis=0), (code, portrait_keypoints)
    )
    moved, motion = generator.warp(code, keypoints, driving, train=train)
    return Rendering(generator.decode(moved, train=train), motion)


def to_float(images: Array | np.ndarray) -> Float[Array, "*b h w 3"]:
    """uint8 images to [0, 1]."""
    return jnp.asarray(images).astype(jnp.float32) / 255.0


def _fold(x: Float[Array, "b t *n"]) -> Float[Array, "bt *n"]:
    return x.reshape(-1, *x.shape[2:])


def _unfold(tree: PyTree, leading: Sequence[int]) -> PyTree:
    return jax.tree.map(lambda x: x.reshape(*leading, *x.shape[1:]), tree)


def _frame(keypoints: Keypoints, index: int) -> Keypoints:
    """Frame number `index` of (b, t, ...) keypoints."""
    return jax.tree.map(lambda x: x[:, index], keypoints)


def _clip_panel(forward: Forward, inputs: ClipInputs, driving: Keypoints) -> Panel:
    """The middle frame of each clip, rendered from the driving keypoints."""
    middle = inputs.frames.shape[1] // 2
    frame, keypoints = inputs.frames[:, middle], _frame(driving, middle)
    seen = see(forward, jnp.stack([inputs.portrait, frame], axis=1))
    portrait = _frame(seen, 0)
    rendering = forward("generator", inputs.portrait, portrait, keypoints)
    return _panel(inputs.portrait, frame, portrait, _frame(seen, 1), keypoints, rendering)


def _keypoint_panel(
    inputs: PairInputs,
    source: Keypoints,
    driving: Keypoints,
    points: Sequence[Sequence[int]],
) -> Panel:
    """Where there is no generator: the frames, and the truth in the prediction's place."""
    truth = inputs.driving_truth
    where = driving.value if truth is None else guidance.guided_values(truth, points)
    nothing = jnp.zeros((*inputs.source.shape[:3], 1))
    return Panel(
        portrait=inputs.source,
        driving=inputs.driving,
        warped=inputs.source,
        prediction=inputs.driving,
        occlusion=nothing,
        masks=jnp.tile(nothing, source.value.shape[1] + 1),
        portrait_keypoints=source.value,
        driving_keypoints=driving.value,
        prediction_keypoints=where,
    )


def _panel(
    portrait: Float[Array, "b h w 3"],
    frame: Float[Array, "b h w 3"],
    portrait_keypoints: Keypoints,
    seen: Keypoints,
    driving: Keypoints,
    rendering: Rendering,
) -> Panel:
    return Panel(
        portrait=portrait,
        driving=frame,
        warped=deform(portrait, rendering.motion),
        prediction=rendering.prediction,
        occlusion=rendering.motion.occlusion,
        masks=rendering.motion.mask,
        portrait_keypoints=portrait_keypoints.value,
        driving_keypoints=seen.value,
        prediction_keypoints=driving.value,
    )
