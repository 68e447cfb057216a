"""Inference as pure functions on a chunk of t frames; `animator.py` compiles and drives them.

    encode_source        source image                        -> features, keypoints, embedding
    audio_to_keypoints   audio windows, poses, LSTM state     -> raw audio keypoints
    read_emotion         aligned frames of an emotional face  -> emotion features
    combine              keypoints, emotion, motion state     -> driving keypoints
    render               source features, driving keypoints   -> frames

EAMM sections 3.1 and 3.2, figure 2; docs/architecture.md section 2. Each function takes the modules
and their variables by network name. State comes in and goes out, so that the size of a chunk
does not change the result; zeros are the state before the first frame (`initial_state`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from eamm_jax.errors import UserError
from eamm_jax.models import Networks
from eamm_jax.models.audio_to_motion import LSTMState
from eamm_jax.models.config import ModelConfig
from eamm_jax.models.generator import SourceFeatures, WarpedFeatures
from eamm_jax.ops import augmentation
from eamm_jax.ops.keypoints import add_displacement, close_lids, move_pupils, relative_keypoints
from eamm_jax.ops.platform import map_frames
from eamm_jax.ops.smoothing import (
    EMOTION_FILTER,
    KEYPOINT_FILTER,
    OneEuro,
    OneEuroState,
    one_euro,
)
from eamm_jax.ops.smoothing import initial_state as initial_filter
from eamm_jax.types import Array, Keypoints

Variables = dict[str, Any]
"""Parameters and statistics by network name."""

REQUIRED_NETWORKS = ("kp_detector", "generator", "audio_feature", "kp_detector_a")
EMOTION_NETWORK = "emo_detector"


class Source(NamedTuple):
    """What the networks need of a source image; computed once.

    Attributes:
        features: what the generator warps.
        keypoints: of the source image.
        embedding: of the source image, for the audio-to-motion network.
    """

    features: SourceFeatures
    keypoints: Keypoints
    embedding: Float[Array, "1 n"]


class FilterState(NamedTuple):
    """State of the filters of a keypoint track."""

    value: OneEuroState
    jacobian: OneEuroState


class MotionState(NamedTuple):
    """What `combine` keeps of the frames so far.

    Attributes:
        started: whether there were any.
        first: audio keypoints of the first frame, which relative motion starts from.
        keypoints: of the filter of the keypoints.
        displacement: of the filter of the emotion's displacement.
    """

    started: Bool[Array, ""]
    first: Keypoints
    keypoints: FilterState
    displacement: FilterState


class Eyes(NamedTuple):
    """How the eyes are held in t frames, where keypoints are points of a face.

    Attributes:
        closed: 0 to 1.
        gaze: to the right and upwards, -1 to 1.
    """

    closed: Float[Array, " t"]
    gaze: Float[Array, "t 2"]


class Driving(NamedTuple):
    """Keypoints that drive the source image.

    Attributes:
        neutral: from audio and pose.
        emotional: with the emotion's displacement; None without an emotion.
    """

    neutral: Keypoints
    emotional: Keypoints | None


def select_networks(variables: Variables) -> Variables:
    """The variables that the program uses: of the required networks, and the emotion network's.

    Raises:
        UserError: a required network is missing.
    """
    missing = [name for name in REQUIRED_NETWORKS if name not in variables]
    if missing:
        raise UserError(
            f"the checkpoint holds no {', '.join(missing)}; convert it again with the published "
            "files that do (see docs/conversion.md)"
        )
    names = (*REQUIRED_NETWORKS, EMOTION_NETWORK)
    return {name: variables[name] for name in names if name in variables}


def initial_state(networks: Networks, config: ModelConfig) -> tuple[LSTMState, MotionState]:
    """The states before the first frame: zeros."""

    def filter_state(count: int) -> FilterState:
        return FilterState(initial_filter((count, 2)), initial_filter((count, 2, 2)))

    k = config.num_keypoints
    motion = MotionState(
        started=jnp.zeros((), bool),
        first=Keypoints(jnp.zeros((1, k, 2)), jnp.zeros((1, k, 2, 2))),
        keypoints=filter_state(k),
        displacement=filter_state(len(config.moved_keypoints)),
    )
    return networks.audio_feature.initial_state(1), motion


def displacement_weights(config: ModelConfig) -> Float32[np.ndarray, " k"]:
    """Factors on the displacement of each of `config.moved_keypoints` at strength 1."""
    shares = dict(zip(config.emotion.keypoints, config.inference.emotion_shares, strict=True))
    return np.array([shares.get(index, 1.0) for index in config.moved_keypoints], np.float32)


def encode_source(
    networks: Networks, variables: Variables, image: Float[Array, "1 h w 3"]
) -> Source:
    """Features, keypoints and embedding of a source image in [0, 1]."""
    return Source(
        networks.generator.apply(variables["generator"], image, method="encode"),
        networks.kp_detector.apply(variables["kp_detector"], image)._replace(heatmap=None),
        networks.audio_feature.apply(variables["audio_feature"], image, method="encode_source"),
    )


def audio_to_keypoints(
    networks: Networks,
    variables: Variables,
    embedding: Float[Array, "1 n"],
    audio: Float[Array, "t 28 12"],
    pose: Float[Array, "t 6"],
    state: LSTMState,
    audio_weight: float | Array,
) -> tuple[Keypoints, LSTMState]:
    """Keypoints predicted from audio and head pose (EAMM section 3.1).

    Args:
        networks: modules.
        variables: of `audio_feature` and `kp_detector_a`.
        embedding: `Source.embedding`.
        audio: MFCC windows.
        pose: yaw, pitch, roll, scale, tx, ty.
        state: after the frames before.
        audio_weight: factor on the audio features.

    Returns:
        Raw keypoints, without heatmaps, and the state after them.
    """
    maps, state = networks.audio_feature.apply(
        variables["audio_feature"],
        embedding,
        audio[None],
        pose[None],
        state,
        audio_weight=audio_weight,
        method="decode",
    )
    keypoints = networks.kp_detector_a.apply(variables["kp_detector_a"], maps[0])
    return keypoints._replace(heatmap=None), state


def read_emotion(
    networks: Networks,
    variables: Variables,
    frames: UInt8[Array, "t h w 3"],
    rng: Array | None = None,
    first: int | Array = 0,
    *,
    mask_mouth: bool = True,
) -> Float[Array, "t n"]:
    """Emotion features of aligned frames (EAMM section 3.2).

    Args:
        networks: modules.
        variables: of `emo_detector`.
        frames: of an emotional face.
        rng: augments the frames at random as the published demo does, if given.
        first: number of the first frame in its video; matters with `rng` only.
        mask_mouth: whether the mouth is hidden, as in training.
    """
    images = frames.astype(jnp.float32) / 255
    if rng is not None:
        images = augment_video(rng, images, first)
    elif mask_mouth:
        images = augmentation.mask_mouth(images)
    return networks.emo_detector.apply(variables[EMOTION_NETWORK], images, method="encode")


def combine(
    networks: Networks,
    config: ModelConfig,
    variables: Variables,
    source: Keypoints,
    raw: Keypoints,
    emotion: Float[Array, "t n"] | None,
    eyes: Eyes | None,
    weights: Float[Array, " k"] | Float[Array, "t k"],
    scale: float | Array,
    state: MotionState,
    *,
    smooth: bool,
    relative: bool,
) -> tuple[Driving, MotionState]:
    """Audio keypoints and emotion to driving keypoints.

    Args:
        networks: modules.
        config: of the model.
        variables: of `emo_detector`, where there is an emotion.
        source: keypoints of the source image.
        raw: audio keypoints.
        emotion: features of `read_emotion`; None for a neutral face.
        eyes: None leaves them alone.
        weights: factors on the displacement (`displacement_weights`), of all frames or of each.
        scale: of relative motion.
        state: after the frames before.
        smooth: whether keypoints and displacement are filtered.
        relative: whether the motion since the first frame moves the source keypoints, instead
            of the driving keypoints replacing them (Siarohin et al. 2019, eq. 12).

    Returns:
        The driving keypoints and the state after them.
    """
    first = jax.tree.map(
        lambda kept, new: jnp.where(state.started, kept, new[0][None]), state.first, raw
    )
    state = state._replace(started=state.started | True, first=first)
    keypoints, emotional = raw, None
    if smooth:
        keypoints, filtered = _filter(raw, KEYPOINT_FILTER, state.keypoints)
        state = state._replace(keypoints=filtered)
    if emotion is not None:
        # The network takes the raw, not the smoothed, audio keypoints.
        displacement = networks.emo_detector.apply(
            variables[EMOTION_NETWORK], emotion, raw, method="displace"
        )
        if smooth:
            displacement, filtered = _filter(displacement, EMOTION_FILTER, state.displacement)
            state = state._replace(displacement=filtered)
        emotional = add_displacement(keypoints, displacement, config.moved_keypoints, weights)

    def finish(driving: Keypoints) -> Keypoints:
        if relative:
            driving = relative_keypoints(source, driving, first, scale)
        if eyes is not None and config.inference.pupil_keypoints:
            driving = move_pupils(driving, config.inference.pupil_keypoints, eyes.gaze)
        if eyes is not None and config.inference.lid_keypoints:
            driving = close_lids(driving, config.inference.lid_keypoints, eyes.closed)
        return driving

    return Driving(finish(keypoints), None if emotional is None else finish(emotional)), state


def render(
    networks: Networks,
    variables: Variables,
    features: SourceFeatures,
    source: Keypoints,
    driving: Keypoints,
    count: int | Array | None = None,
    *,
    as_uint8: bool = True,
) -> Array:
    """Frames (t, h, w, 3): the source features warped by the dense motion, and decoded.

    Args:
        networks: modules.
        variables: of `generator`.
        features: `Source.features`.
        source: keypoints of the source image.
        driving: keypoints of the frames.
        count: how many of the t frames are wanted; all by default. The rest is undefined.
        as_uint8: bytes, or float32 in [0, 1].
    """
    generator = variables["generator"]
    warped, _ = networks.generator.apply(generator, features, source, driving, method="warp")

    def decode(warped: WarpedFeatures) -> Array:
        frames = networks.generator.apply(generator, warped, method="decode")
        return jnp.round(frames * 255).astype(jnp.uint8) if as_uint8 else frames

    return map_frames(decode, warped, driving.value.shape[0] if count is None else count)


def augment_video(
    rng: Array, frames: Float[Array, "t h w 3"], first: int | Array
) -> Float[Array, "t h w 3"]:
    """The published demo's random augmentation of an emotion video, chunk by chunk.

    Flip and rotation are drawn once per video; noise and perspective per frame, from the
    frame's number, so that chunks do not matter.

    Args:
        rng: of the video.
        frames: in [0, 1].
        first: number of the first of them.
    """
    published = augmentation.PUBLISHED_EMOTION_AUGMENTATION
    perspective = published.perspective
    assert perspective is not None
    flip_rng, rotation_rng, frame_rng = jax.random.split(rng, 3)

    def one(frame: Array, index: Array) -> Array:
        mask_rng, perspective_rng = jax.random.split(jax.random.fold_in(frame_rng, index))
        clip = augmentation.mask_mouth_with_noise(mask_rng, frame[None, None])
        clip = augmentation.flip_at_random(flip_rng, clip)
        clip = augmentation.rotate_at_random(rotation_rng, clip, published.rotation)
        return augmentation.warp_perspective_at_random(
            perspective_rng, clip, perspective, published.enlargement
        )[0, 0]

    return jax.vmap(one)(frames, first + jnp.arange(len(frames)))


def _filter(
    track: Keypoints, parameters: OneEuro, state: FilterState
) -> tuple[Keypoints, FilterState]:
    value, value_state = one_euro(track.value, parameters, state.value)
    jacobian, jacobian_state = one_euro(track.jacobian, parameters, state.jacobian)
    return Keypoints(value, jacobian), FilterState(value_state, jacobian_state)
