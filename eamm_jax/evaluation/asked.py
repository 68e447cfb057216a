"""Emotion control: is the requested emotion recognized, and does the mouth still follow the audio?

The model renders a neutral clip of each person in every emotion and in none. There is no ground
truth for these videos, so frames cannot be compared. But the emotion can be recognized, and the
mouth opening compared with that of the neutral clip, which has the same audio.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from eamm_jax.animate.animator import Animator, Settings
from eamm_jax.constants import EMOTIONS
from eamm_jax.errors import UserError
from eamm_jax.evaluation import landmarks
from eamm_jax.evaluation.cases import Case, DataSet
from eamm_jax.evaluation.contestants import EmotionSource, animated
from eamm_jax.evaluation.readers import Reader, named_emotion

NONE = "none"
"""The request for no emotion."""


class Asked(NamedTuple):
    """Results of the test.

    Attributes:
        people: the people tested.
        requests: `NONE`, then the requested emotions: the rows below.
        named: confusion matrix: requests (rows) by recognized emotions (columns, `EMOTIONS`).
        mouth: mean mouth-opening correlation at lag 0, for each row.
        jitter: mean jitter of the landmarks, for each row.
    """

    people: list[str]
    requests: tuple[str, ...]
    named: Int[np.ndarray, "r 8"]
    mouth: list[float]
    jitter: list[float]

    @property
    def share_right(self) -> float:
        """Emotion accuracy: the fraction of clips whose requested emotion is recognized."""
        columns = [EMOTIONS.index(emotion) for emotion in self.requests[1:]]
        right = self.named[1:][np.arange(len(columns)), columns]
        return float(right.sum() / self.named[1:].sum())

    @property
    def neutral_without(self) -> float:
        """The fraction of clips without an emotion that are recognized as neutral."""
        return float(self.named[0, EMOTIONS.index("neutral")] / self.named[0].sum())

    @property
    def mouth_lost(self) -> float:
        """The largest loss of mouth-opening correlation due to an emotion."""
        return self.mouth[0] - min(self.mouth[1:])


def cases_to_ask(data: DataSet, people: int) -> list[Case]:
    """A neutral clip of each person who has another one for the source image.

    Raises:
        UserError: nobody has two neutral clips.
    """
    identities = dict.fromkeys(name.identity for name in data.names)
    neutral = [data.clips_of(identity, "neutral") for identity in identities]
    chosen = [clips[-1] for clips in neutral if len(clips) > 1][:people]
    if not chosen:
        raise UserError(
            "nobody in this split has two neutral clips, which the test of emotion control needs"
        )
    return [data.case(name) for name in chosen]


def ask(
    cases: Sequence[Case],
    animator: Animator,
    settings: Settings,
    emotions: EmotionSource,
    reader: Reader,
    advance: Callable[[int, int], None],
    requested: Sequence[str] = EMOTIONS,
) -> tuple[Asked, list[list[UInt8[np.ndarray, "h w 3"]]]]:
    """Renders every case in every requested emotion and in none, and measures the result.

    Args:
        cases: neutral clips with audio.
        animator: the model.
        settings: settings of the animations.
        emotions: the source of the emotions.
        reader: a reader that recognizes emotions.
        advance: called after each animation with the number of those done, and of all.
        requested: emotions to request.

    Returns:
        The results, and by person and request the frame where the mouth should be open widest.
    """
    requests = (NONE, *requested)
    named = np.zeros((len(requests), len(EMOTIONS)), int)
    mouth: list[list[float]] = [[] for _ in requests]
    jitter: list[list[float]] = [[] for _ in requests]
    shown: list[list[np.ndarray]] = []
    for case in cases:
        track = case.landmarks
        if track is None:
            track = reader.read(case.truth).landmarks
        opening = landmarks.mouth_opening(track)
        pictures = []
        for row, emotion in enumerate(requests):
            source = None if emotion == NONE else emotions
            contestant = animated(emotion, animator, settings, source, emotion=emotion)
            frames = contestant.frames(case)
            seen = reader.read(frames)
            if seen.emotion is None:
                raise ValueError(f"{reader.name} does not recognize emotions")
            named[row, named_emotion(seen.emotion)] += 1
            found = landmarks.mouth_opening(seen.landmarks)
            mouth[row].append(landmarks.correlation(found, opening))
            jitter[row].append(landmarks.jitter(seen.landmarks))
            pictures.append(frames[int(opening.argmax())])
            advance(len(shown) * len(requests) + row + 1, len(cases) * len(requests))
        shown.append(pictures)
    means = [[float(np.mean(values)) for values in rows] for rows in (mouth, jitter)]
    return Asked([case.identity for case in cases], requests, named, *means), shown
