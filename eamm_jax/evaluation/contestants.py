"""Who makes frames for a case: the model, and what it is compared with.

`truth`: the true frames, what a perfect model would score.
`still`: the portrait, again and again.
`keypoints`: keypoints seen in the true frames move the portrait; the best that the generator can
do if sound and emotion are understood perfectly (the upper bound that stage 0 sets).
`silence`: the model, hearing only the quietest moment of the sound; head and emotion move, the
mouth does not speak.
`neutral`: the model, without an emotion.
`model`: the model, from portrait, sound, pose and emotion.
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
    """Makes frames that should be like the true ones."""

    @property
    def name(self) -> str:
        """In the table."""

    def frames(self, case: Case) -> Frames:
        """As many frames as the case has."""


class Truth:
    """The true frames."""

    name = TRUTH

    def frames(self, case: Case) -> Frames:
        """As they are."""
        return case.truth


class Still:
    """The portrait, unmoved."""

    name = STILL

    def frames(self, case: Case) -> Frames:
        """The same in every frame."""
        return np.broadcast_to(case.portrait, case.truth.shape)


class Made:
    """Frames that somebody made before."""

    def __init__(self, name: str):
        self.name = name

    def frames(self, case: Case) -> Frames:
        """Those that belong to the case."""
        return case.made[self.name]


class Driven:
    """The portrait, moved by the keypoints of the true frames."""

    name = KEYPOINTS

    def __init__(self, config: ModelConfig, variables: Variables):
        missing = [name for name in ("kp_detector", "generator") if name not in variables]
        if missing:
            raise UserError(f"the checkpoint holds no {', '.join(missing)}")
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
        """Frames drawn from absolute keypoints, not filtered."""
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
    """An emotion as `Animator.animate` takes it: frames of a face, or part of the model's bank."""

    emotion_frames: Iterable[UInt8[np.ndarray, "h w 3"]] | None = None
    emotions: Sequence[Span] = ()
    level: int | None = None


class EmotionSource(Protocol):
    """Where emotions are taken from."""

    def feeling(self, case: Case, emotion: str) -> Feeling:
        """An emotion for a case; raises `UserError` if it is not to be had."""


class OwnClips:
    """Emotions as the same person shows them: in the clip itself, else in another of theirs.

    The animator hides the mouth of these frames, as training does, so that it is not copied.
    """

    def __init__(self, data: DataSet):
        self._data = data

    def feeling(self, case: Case, emotion: str) -> Feeling:
        """The clip's own frames, or those of the strongest clip of that emotion."""
        if case.emotion >= 0 and EMOTIONS[case.emotion] == emotion:
            return Feeling(case.truth)
        clips = self._data.clips_of(case.identity, emotion)
        if not clips:
            raise UserError(f"{case.identity} has no clip of the emotion {emotion}")
        return Feeling(self._data.frames(max(clips, key=self._data.level)))


class Bank:
    """Emotions of the model's own bank; as strong as the case's, or most for another."""

    def feeling(self, case: Case, emotion: str) -> Feeling:
        """A span over the whole clip."""
        own = case.emotion >= 0 and EMOTIONS[case.emotion] == emotion
        return Feeling(emotions=(Span(emotion),), level=case.level if own else None)


class Animated:
    """The portrait, animated from sound, pose and emotion."""

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
        """Sets it up.

        Args:
            name: in the table.
            animator: the model.
            settings: of the animation.
            emotions: where emotions are taken from; None: a neutral face.
            emotion: which; None: that of the case, if it is known.
            silent: hear the quietest moment of the sound only.
        """
        self.name = name
        self._animator = animator
        self._settings = dataclasses.replace(settings, neutral=False)
        self._emotions = emotions
        self._emotion = emotion
        self._silent = silent

    def frames(self, case: Case) -> Frames:
        """Frames for the case's sound and pose."""
        if case.sound is None:
            raise ValueError(f"{case.name} was read without its sound")
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
    """The sound replaced by its quietest window, forwards and backwards again and again.

    The window is as long as a frame hears; how loud it is, is told by the first column (the
    log energy).
    """
    length = AUDIO_WINDOW[0]
    energy = np.convolve(mfcc[:, 0], np.ones(length), "valid")
    quiet = mfcc[energy.argmin() :][:length]
    turn = np.arange(len(mfcc)) % (2 * length)
    return quiet[np.minimum(turn, 2 * length - 1 - turn)]
