"""Does the model show the emotion it is asked for, and does the mouth still follow the sound?

Each person says one neutral clip of theirs in every emotion, and once with none. There is no
true video of that, so pictures cannot be compared; but the emotion can be named, and the mouth
compared with that of the neutral clip, whose sound it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from eamm_jax.animate.animator import Animator, Settings
from eamm_jax.errors import UserError
from eamm_jax.evaluation import landmarks
from eamm_jax.evaluation.cases import Case, DataSet
from eamm_jax.evaluation.contestants import Animated, EmotionSource
from eamm_jax.evaluation.measurement import prepare
from eamm_jax.evaluation.readers import Reader, named_emotion
from eamm_jax.types import EMOTIONS

NONE = "none"
"""What is asked for where no emotion is."""

ASKED = (NONE, *EMOTIONS)


class Asked(NamedTuple):
    """What came of it.

    Attributes:
        people: who were asked.
        named: how often each emotion (columns) was named when one (rows, `ASKED`) was asked for.
        mouth: mean correlation of the mouth's opening at lag 0, for each row.
        jitter: mean jitter of the landmarks, for each row.
    """

    people: list[str]
    named: Int[np.ndarray, "9 8"]
    mouth: list[float]
    jitter: list[float]

    @property
    def share_right(self) -> float:
        """Of the clips that were asked to show an emotion, those that it was named of."""
        return float(np.trace(self.named[1:]) / self.named[1:].sum())

    @property
    def neutral_without(self) -> float:
        """Of the clips that were asked to show none, those that neutral was named of."""
        return float(self.named[0, EMOTIONS.index("neutral")] / self.named[0].sum())

    @property
    def mouth_lost(self) -> float:
        """The most that the mouth's correlation is lower in an emotion than in none."""
        return self.mouth[0] - min(self.mouth[1:])


class Shown(NamedTuple):
    """One frame of each answer, for the page of pictures.

    Attributes:
        person: who.
        frames: by `ASKED`.
    """

    person: str
    frames: list[UInt8[np.ndarray, "h w 3"]]


def cases_to_ask(data: DataSet, people: int) -> Iterator[Case]:
    """A neutral clip of each of some people who have one (and another for the portrait)."""
    identities = list(dict.fromkeys(name.identity for name in data.names))
    found = 0
    for identity in identities:
        neutral = data.clips_of(identity, "neutral")
        if len(neutral) > 1 and found < people:
            found += 1
            yield data.case(neutral[-1])
    if not found:
        raise UserError(
            "nobody in this split has two neutral clips, which asking for emotions needs"
        )


def ask(
    cases: Sequence[Case] | Iterator[Case],
    animator: Animator,
    settings: Settings,
    emotions: EmotionSource,
    reader: Reader,
    advance: Callable[[], None],
) -> tuple[Asked, list[Shown]]:
    """Asks for all emotions.

    Args:
        cases: neutral clips with sound.
        animator: the model.
        settings: of the animations.
        emotions: where they are taken from.
        reader: sees emotions.
        advance: is told after each animation.

    Returns:
        The figures, and a frame of each animation in the middle of the mouth's widest opening.
    """
    named = np.zeros((len(ASKED), len(EMOTIONS)), int)
    mouth: list[list[float]] = [[] for _ in ASKED]
    jitter: list[list[float]] = [[] for _ in ASKED]
    shown = []
    for case in cases:
        track = prepare(case, reader).landmarks
        assert track is not None
        opening = landmarks.mouth_opening(track)
        pictures = []
        for row, emotion in enumerate(ASKED):
            source = None if emotion == NONE else emotions
            contestant = Animated(emotion, animator, settings, source, emotion=emotion)
            frames = contestant.frames(case)
            seen = reader.read(frames)
            if seen.emotion is None:
                raise ValueError(f"{reader.name} sees no emotion")
            named[row, named_emotion(seen.emotion)] += 1
            found = landmarks.mouth_opening(seen.landmarks)
            mouth[row].append(landmarks.correlation(found, opening))
            jitter[row].append(landmarks.jitter(seen.landmarks))
            pictures.append(frames[int(opening.argmax())])
            advance()
        shown.append(Shown(case.identity, pictures))
    means = [[float(np.mean(values)) for values in rows] for rows in (mouth, jitter)]
    return Asked([s.person for s in shown], named, *means), shown
