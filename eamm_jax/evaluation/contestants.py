"""The model and its baselines; each renders frames for a case.

`truth`: the ground-truth frames, the score of a perfect model.
`still`: the source image, repeated.
`keypoints`: the source image driven by keypoints of the ground-truth frames; the upper bound that
stage 0 sets.
`silence`: silent-audio baseline, the model driven by the quietest moment of the audio; head and
emotion move, the mouth does not speak.
`neutral`: the model without an emotion.
`model`: the model with source image, audio, pose and emotion.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from eamm_jax.animate.animator import Animator, Settings
from eamm_jax.animate.emotion_bank import Span
from eamm_jax.constants import AUDIO_WINDOW, EMOTIONS
from eamm_jax.errors import UserError
from eamm_jax.evaluation.cases import Case, DataSet, Frames
from eamm_jax.models import build
from eamm_jax.models.config import ModelConfig
from eamm_jax.models.generator import SourceFeatures
from eamm_jax.types import Array, Keypoints

Variables = dict[str, Any]

_CHUNK = 8  # frames computed at a time


class Contestant(NamedTuple):
    """Renders frames to compare with the ground truth.

    Attributes:
        name: the name in the table.
        frames: a case to as many frames as it has.
    """

    name: str
    frames: Callable[[Case], Frames]


class Feeling(NamedTuple):
    """An emotion for `Animator.animate`: frames of a face, or part of the model's bank."""

    emotion_frames: Iterable[UInt8[np.ndarray, "h w 3"]] | None = None
    emotions: Sequence[Span] = ()
    level: int | None = None


EmotionSource = Callable[[Case, str], Feeling]
"""An emotion for a case; raises `UserError` if it is not available."""

TRUTH = Contestant("truth", lambda case: case.truth)
STILL = Contestant("still", lambda case: np.broadcast_to(case.portrait, case.truth.shape))


def rendered(name: str) -> Contestant:
    """Frames rendered beforehand by another method."""
    return Contestant(name, lambda case: case.made[name])


def keypoints(config: ModelConfig, variables: Variables) -> Contestant:
    """The source image, driven by absolute keypoints of the ground truth, without smoothing."""
    missing = [name for name in ("kp_detector", "generator") if name not in variables]
    if missing:
        raise UserError(f"the checkpoint has no {', '.join(missing)}")
    networks = build(config)
    given = {name: variables[name] for name in ("kp_detector", "generator")}

    @jax.jit
    def encode(variables: Variables, image: Array) -> tuple[SourceFeatures, Keypoints]:
        source = networks.generator.apply(variables["generator"], image, method="encode")
        return source, networks.kp_detector.apply(variables["kp_detector"], image)

    @jax.jit
    def drive(variables: Variables, source: SourceFeatures, at: Keypoints, frames: Array) -> Array:
        driving = networks.kp_detector.apply(variables["kp_detector"], as_floats(frames))
        generator = variables["generator"]
        warped, _ = networks.generator.apply(generator, source, at, driving, method="warp")
        images = networks.generator.apply(generator, warped, method="decode")
        return jnp.round(images * 255).astype(jnp.uint8)

    def frames(case: Case) -> Frames:
        source, at = encode(given, as_floats(case.portrait[None]))
        images = []
        for start in range(0, len(case.truth), _CHUNK):
            piece = case.truth[start : start + _CHUNK]
            filled = np.concatenate([piece, np.repeat(piece[-1:], _CHUNK - len(piece), axis=0)])
            images.append(np.asarray(drive(given, source, at, filled))[: len(piece)])
        return np.concatenate(images)

    return Contestant("keypoints", frames)


def as_floats(images: Array | np.ndarray) -> Array:
    """Images of bytes in [0, 1]."""
    return jnp.asarray(images, jnp.float32) / 255


def own_clips(data: DataSet) -> EmotionSource:
    """Emotions shown by the same person: in the clip itself, or else in another clip.

    That is the one of the highest level. The animator masks the mouth in these frames, as in
    training, so it cannot be copied.
    """

    def feeling(case: Case, emotion: str) -> Feeling:
        if case.emotion >= 0 and EMOTIONS[case.emotion] == emotion:
            return Feeling(case.truth)
        clips = data.clips_of(case.identity, emotion)
        if not clips:
            raise UserError(f"{case.identity} has no clip of the emotion {emotion}")
        return Feeling(data.frames(max(clips, key=data.level)))

    return feeling


def from_bank(case: Case, emotion: str) -> Feeling:
    """Emotions of the model's bank, at the level of the case, or the highest for another one."""
    own = case.emotion >= 0 and EMOTIONS[case.emotion] == emotion
    return Feeling(emotions=(Span(emotion),), level=case.level if own else None)


def animated(
    name: str,
    animator: Animator,
    settings: Settings,
    emotions: EmotionSource | None,
    *,
    emotion: str | None = None,
    silent: bool = False,
) -> Contestant:
    """The source image, animated from audio, pose and emotion.

    Args:
        name: the name in the table.
        animator: the model.
        settings: settings of the animation.
        emotions: the source of the emotions; None: a neutral face.
        emotion: the emotion; None: that of the case, if known.
        silent: replace the audio by its quietest moment.
    """
    settings = dataclasses.replace(settings, neutral=False)

    def frames(case: Case) -> Frames:
        if case.sound is None or case.sound.pose is None:
            raise ValueError(f"{case.name} was read without audio and pose")
        mfcc = quietest_moment(case.sound.mfcc) if silent else case.sound.mfcc
        wanted = emotion or (EMOTIONS[case.emotion] if case.emotion >= 0 else None)
        feeling = Feeling()
        if emotions is not None and wanted is not None:
            feeling = emotions(case, wanted)
        animation = animator.animate(
            case.portrait.astype(np.float32) / 255,
            mfcc,
            case.sound.pose,
            settings=settings,
            **feeling._asdict(),
        )
        return np.stack([frame.image for frame in animation])

    return Contestant(name, frames)


def quietest_moment(mfcc: Float[np.ndarray, "n 13"]) -> Float[np.ndarray, "n 13"]:
    """Replaces the audio by its quietest window, looped back and forth.

    The window has the length of one frame's audio window. Loudness is the first column, the log
    energy.
    """
    length = AUDIO_WINDOW[0]
    energy = np.convolve(mfcc[:, 0], np.ones(length), "valid")
    quiet = mfcc[energy.argmin() :][:length]
    turn = np.arange(len(mfcc)) % (2 * length)
    return quiet[np.minimum(turn, 2 * length - 1 - turn)]
