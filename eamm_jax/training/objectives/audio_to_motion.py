"""Part 1 and its fine-tune: keypoints from speech, head pose and a source image (EAMM 3.1)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray
from ml_collections import ConfigDict

from eamm_jax.models.audio_to_motion import AudioToMotion
from eamm_jax.models.config import ModelConfig
from eamm_jax.models.generator import Generator, Rendering
from eamm_jax.ops.augmentation import jitter_colours
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
    perceptual_loss,
    to_float,
    unfold,
)
from eamm_jax.training.objectives.first_order_motion import detect_pair
from eamm_jax.training.panels import draw_panel
from eamm_jax.types import Array, Clips, Keypoints

RENDERED_EVERY = 4
"""The fine-tune renders frames 0, 4, 8, 12 of a clip (docs/architecture.md, section 8)."""


class ClipInputs(NamedTuple):
    """Clips as floats.

    Attributes:
        source: one image of each clip.
        frames: all, or the last of every `frame_stride`; none where keypoints stand for them.
        audio: of all frames.
        pose: of all frames.
        emotion: index into `EMOTIONS`, -1 where unlabelled.
        keypoints: image keypoints of the frames, if they came with the data.
    """

    source: Float[Array, "b h w 3"]
    frames: Float[Array, "b t h w 3"]
    audio: Float[Array, "b t 28 12"]
    pose: Float[Array, "b t 6"]
    emotion: Array
    keypoints: Keypoints | None = None


def clip_inputs(batch: Clips) -> ClipInputs:
    """A batch as floats."""
    return ClipInputs(
        source=to_float(batch.source),
        frames=to_float(batch.frames),
        audio=jnp.asarray(batch.audio),
        pose=jnp.asarray(batch.pose),
        emotion=jnp.asarray(batch.emotion),
        keypoints=jax.tree.map(lambda x: jnp.asarray(x).astype(float), batch.keypoints),
    )


class AudioKeypoints(Objective[Clips, ClipInputs]):
    """Part 1: audio keypoints are taught by image keypoints."""

    reads_frames = False
    reads_heatmaps = True
    trained: tuple[str, ...] = ("audio_feature", "kp_detector_a")
    frozen: tuple[str, ...] = ("kp_detector", "generator")  # the generator for panels only
    needed: tuple[str, ...] = ("kp_detector", "generator")

    def inputs(self, batch: Clips, rng: PRNGKeyArray | None = None) -> ClipInputs:
        """Source image and frames get the same colour jitter.

        The published code jitters the frames alone. Then an image rendered from the source
        cannot match them in the fine-tune's perceptual loss.
        """
        inputs = clip_inputs(batch)
        if rng is not None and self.config.augment:
            together = jnp.concatenate([inputs.source[:, None], inputs.frames], axis=1)
            together = jitter_colours(rng, together, self.config.jitter)
            inputs = inputs._replace(source=together[:, 0], frames=together[:, 1:])
        return inputs

    def losses(self, forward: Forward, inputs: ClipInputs) -> Losses:
        """L1 between audio and image keypoints: value, heatmap, Jacobian."""
        image_keypoints = find_image_keypoints(forward, inputs)
        audio_keypoints = predict_keypoints(forward, inputs)
        return Losses(self.keypoint_terms(audio_keypoints, image_keypoints), {})

    def keypoint_terms(self, audio_keypoints: Keypoints, image_keypoints: Keypoints) -> Terms:
        """The weighted distances of part 1."""
        distances = losses.keypoint_distances(audio_keypoints, image_keypoints)
        return {name: self.config[f"{name}_weight"] * value for name, value in distances.items()}

    def panel(self, forward: Forward, batch: Clips) -> Float[Array, "b h w6 3"]:
        """The middle frame of each clip, rendered from audio keypoints."""
        inputs = self.inputs(batch)
        return clip_panel(forward, inputs, predict_keypoints(forward, inputs))


class AudioKeypointsFineTune(AudioKeypoints):
    """Part 1 fine-tune: the generator learns to render from audio keypoints, too."""

    reads_frames = True
    trained = ("audio_feature", "kp_detector_a", "generator")

    def __init__(self, config: ConfigDict, model_config: ModelConfig):
        """See `Objective`."""
        super().__init__(config, model_config)
        self.frozen = ("kp_detector", *PERCEPTUAL_NETWORKS[config.perceptual])
        # Trained here, but starting from what the stages before have learned.
        self.needed = (*self.trained, *self.frozen)

    def losses(self, forward: Forward, inputs: ClipInputs) -> Losses:
        """The terms of part 1, and the perceptual loss of every fourth frame."""
        images = jnp.concatenate([inputs.source[:, None], inputs.frames], axis=1)
        image_keypoints = detect_keypoints(forward, images)
        audio_keypoints = predict_keypoints(forward, inputs)
        of_frames = jax.tree.map(lambda x: x[:, 1:], image_keypoints)
        driving = jax.tree.map(lambda x: fold(x[:, ::RENDERED_EVERY]), audio_keypoints)
        prediction = forward(
            "generator", inputs.source, frame(image_keypoints, 0), driving, method=render_clips
        ).prediction
        target = fold(inputs.frames[:, ::RENDERED_EVERY])
        terms = {
            **self.keypoint_terms(audio_keypoints, of_frames),
            "perceptual": perceptual_loss(self.config, forward, prediction, target),
        }
        return Losses(terms, {"psnr": losses.peak_signal_to_noise(prediction, target)})


def find_image_keypoints(forward: Forward, inputs: ClipInputs) -> Keypoints:
    """Image keypoints of every frame: those that came with the data, or else detected."""
    if inputs.keypoints is not None:
        return inputs.keypoints
    return detect_keypoints(forward, inputs.frames)


def predict_keypoints(forward: Forward, inputs: ClipInputs) -> Keypoints:
    """Audio keypoints of every frame there is, (b, t, ...).

    Where only some frames of a clip were read, the network still gets all of its audio.
    """
    shown = inputs.frames if inputs.keypoints is None else inputs.keypoints.value
    stride = inputs.audio.shape[1] // shown.shape[1]

    def feature_maps(
        module: AudioToMotion, source: Array, audio: Array, pose: Array, *, train: bool = False
    ) -> Array:
        return module(source, audio, pose, frame_stride=stride, train=train)[0]

    maps = forward("audio_feature", inputs.source, inputs.audio, inputs.pose, method=feature_maps)
    return unfold(forward("kp_detector_a", fold(maps)), maps.shape[:2])


def render_clips(
    generator: Generator,
    source: Float[Array, "b h w 3"],
    source_keypoints: Keypoints,
    driving: Keypoints,
    *,
    train: bool = False,
) -> Rendering:
    """A method of the generator that encodes each source image once for all frames of its clip.

    Args:
        generator: the bound module.
        source: one for each of the b clips.
        source_keypoints: of these.
        driving: of b * n frames, clip by clip.
        train: as in the networks.
    """
    frames = driving.value.shape[0] // source.shape[0]
    features = generator.encode(source, train=train)
    features, keypoints = jax.tree.map(
        lambda x: jnp.repeat(x, frames, axis=0), (features, source_keypoints)
    )
    warped, motion = generator.warp(features, keypoints, driving, train=train)
    return Rendering(generator.decode(warped, train=train), motion)


def clip_panel(
    forward: Forward, inputs: ClipInputs, driving: Keypoints
) -> Float[Array, "b h w6 3"]:
    """The panel of the middle frame of each clip, rendered from the driving keypoints.

    Where the frames were not read, the target is rendered, too, from its image keypoints.
    """
    middle = driving.value.shape[1] // 2
    keypoints = frame(driving, middle)
    if inputs.frames.shape[1]:
        target = inputs.frames[:, middle]
        of_source, of_target = detect_pair(forward, inputs.source, target)
    else:
        assert inputs.keypoints is not None
        of_source = frame(detect_keypoints(forward, inputs.source[:, None]), 0)
        of_target = frame(inputs.keypoints, middle)
        target = forward("generator", inputs.source, of_source, of_target).prediction
    rendering = forward("generator", inputs.source, of_source, keypoints)
    return draw_panel(inputs.source, target, rendering, of_source, of_target, keypoints)
