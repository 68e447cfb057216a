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
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from eamm_jax.animate.animator import Animator, Settings
from eamm_jax.animate.emotion_bank import Span
from eamm_jax.errors import UserError
from eamm_jax.evaluation.cases import Case, DataSet, Frames
from eamm_jax.models import build
from eamm_jax.models.config import ModelConfig
from eamm_jax.models.generator import SourceFeatures
from eamm_jax.types import AUDIO_WINDOW, EMOTIONS, Array, Keypoints

Variables = dict[str, Any]

TRUTH, STILL, KEYPOINTS = "truth", "still", "keypoints"
SILENCE, NEUTRAL, MODEL = "silence", "neutral", "model"

_CHUNK = 8  # frames computed at a time


class Contestant(Protocol):
    """Renders frames to compare with the ground truth."""

    @property
    def name(self) -> str:
        """The name in the table."""

    def frames(self, case: Case) -> Frames:
        """As many frames as the case has."""


class Truth:
    """The ground-truth frames."""

    name = TRUTH

    def frames(self, case: Case) -> Frames:
        """Unchanged."""
        return case.truth


class Still:
    """The source image, repeated."""

    name = STILL

    def frames(self, case: Case) -> Frames:
        """The same in every frame."""
        return np.broadcast_to(case.portrait, case.truth.shape)


class Made:
    """Frames rendered beforehand by another method."""

    def __init__(self, name: str):
        self.name = name

    def frames(self, case: Case) -> Frames:
        """The method's frames for the case."""
        return case.made[self.name]


class Driven:
    """The source image, driven by the keypoints of the ground-truth frames."""

    name = KEYPOINTS

    def __init__(self, config: ModelConfig, variables: Variables):
        missing = [name for name in ("kp_detector", "generator") if name not in variables]
        if missing:
            raise UserError(f"the checkpoint has no {', '.join(missing)}")
        networks = build(config)
        self._variables = {name: variables[name] for name in ("kp_detector", "generator")}

        @jax.jit
        def see(variables: Variables, image: Array) -> tuple[SourceFeatures, Keypoints]:
            code = networks.generator.apply(variables["generator"], image, method="encode")
            return code, networks.kp_detector.apply(variables["kp_detector"], image)

        @jax.jit
        def drive(
            variables: Variables, code: SourceFeatures, portrait: Keypoints, frames: Array
        ) -> Array:
            driving = networks.kp_detector.apply(
                variables["kp_detector"], frames.astype(jnp.float32) / 255
            )
            moved, _ = networks.generator.apply(
                variables["generator"], code, portrait, driving, method="warp"
            )
            drawn = networks.generator.apply(variables["generator"], moved, method="decode")
            return jnp.round(drawn * 255).astype(jnp.uint8)

        self._see, self._drive = see, drive

    def frames(self, case: Case) -> Frames:
        """Frames rendered from absolute keypoints, without smoothing."""
        portrait = case.portrait[None].astype(np.float32) / 255
        code, keypoints = self._see(self._variables, portrait)
        drawn = []
        for start in range(0, len(case.truth), _CHUNK):
            piece = case.truth[start : start + _CHUNK]
            rest = np.repeat(piece[-1:], _CHUNK - len(piece), axis=0)
            filled = np.concatenate([piece, rest])
            found = self._drive(self._variables, code, keypoints, filled)
            drawn.append(np.asarray(found)[: len(piece)])
        return np.concatenate(drawn)


class Feeling(NamedTuple):
    """An emotion for `Animator.animate`: frames of a face, or part of the model's bank."""

    emotion_frames: Iterable[UInt8[np.ndarray, "h w 3"]] | None = None
    emotions: Sequence[Span] = ()
    level: int | None = None


class EmotionSource(Protocol):
    """A source of emotions."""

    def feeling(self, case: Case, emotion: str) -> Feeling:
        """An emotion for a case; raises `UserError` if it is not available."""


class OwnClips:
    """Emotions shown by the same person: in the clip itself, or else in another clip.

    The animator masks the mouth in these frames, as in training, so it cannot be copied.
    """

    def __init__(self, data: DataSet):
        self._data = data

    def feeling(self, case: Case, emotion: str) -> Feeling:
        """The clip's own frames, or the person's clip of that emotion with the highest level."""
        if case.emotion >= 0 and EMOTIONS[case.emotion] == emotion:
            return Feeling(case.truth)
        clips = self._data.clips_of(case.identity, emotion)
        if not clips:
            raise UserError(f"{case.identity} has no clip of the emotion {emotion}")
        return Feeling(self._data.frames(max(clips, key=self._data.level)))


class Bank:
    """Emotions from the model's bank, at the level of the case, or the highest for another one."""

    def feeling(self, case: Case, emotion: str) -> Feeling:
        """A span over the whole clip."""
        own = case.emotion >= 0 and EMOTIONS[case.emotion] == emotion
        return Feeling(emotions=(Span(emotion),), level=case.level if own else None)


class Animated:
    """The source image, animated from audio, pose and emotion."""

    def __init__(
        self,
        name: str,
        animator: Animator,
        settings: Settings,
        emotions: EmotionSource | None,
        *,
        emotion: str | None = None,
        silent: bool = False,
    ):
        """Initializes the contestant.

        Args:
            name: the name in the table.
            animator: the model.
            settings: settings of the animation.
            emotions: the source of the emotions; None: a neutral face.
            emotion: the emotion; None: that of the case, if known.
            silent: replace the audio by its quietest moment.
        """
        self.name = name
        self._animator = animator
        self._settings = dataclasses.replace(settings, neutral=False)
        self._emotions = emotions
        self._emotion = emotion
        self._silent = silent

    def frames(self, case: Case) -> Frames:
        """Frames for the audio and pose of the case."""
        if case.sound is None:
            raise ValueError(f"{case.name} was read without audio")
        mfcc = quietest_moment(case.sound.mfcc) if self._silent else case.sound.mfcc
        emotion = self._emotion or (EMOTIONS[case.emotion] if case.emotion >= 0 else None)
        feeling = Feeling()
        if self._emotions is not None and emotion is not None:
            feeling = self._emotions.feeling(case, emotion)
        animation = self._animator.animate(
            case.portrait.astype(np.float32) / 255,
            mfcc,
            case.sound.pose,
            settings=self._settings,
            **feeling._asdict(),
        )
        return np.stack([frame.image for frame in animation])


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
