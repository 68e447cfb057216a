"""An album: stills of a person, a few from each of several sittings.

What stage 0 learns, it learns from pictures of many people. Of each, a few stills in all moods
and poses serve as well as minutes of video and take a hundredth of the time to render. Pairs are
taken from one sitting: from one to the next people sit down anew, which is more than a generator
can learn to draw. A sitting has a neutral face and others in random moods, for a calm portrait
is what is asked to smile: a generator that saw smiles made of smiles alone draws no teeth.
The frame stays where it is and so do the shoulders: heads turn on their necks. In some sittings
people also turn and lean farther between stills than they do while they talk, for those of real
clips do: a generator that never saw it tears them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float16, Float32

from data.synthetic import movement
from data.synthetic.camera import Pose
from data.synthetic.clip import Clip, record_clip
from data.synthetic.controls import Expression
from data.synthetic.heads.figure import HALF_FRAME, Shown, seated, stance
from data.synthetic.renderer import HEADS, Renderer
from data.synthetic.script import Take, takes_of

STILLS = 4
"""Of a sitting, or a few more."""

TURNS, LEANS = (0.0, 0.25, 0.5, 1.0), (0.0, 0.0, 0.25, 0.5, 1.0)
"""How far people turn and lean between the stills of a sitting (`movement`): any of these."""

_STREAM = 5  # of random numbers; `clip` and `script` have others


@dataclass(frozen=True)
class Still:
    """The face of a frame of a recording, with its truth.

    Attributes:
        clip: the recording.
        frame: number of the frame in it.
        held: pose of the head in the sitting.
        window: what the frame hears.
    """

    clip: Clip
    frame: int
    held: Pose
    window: Float32[np.ndarray, "28 13"]

    @property
    def pose(self) -> Float32[np.ndarray, " 7"]:
        """The pose, as the published data sets store it."""
        return movement.pose_rows([self.held])[0].astype(np.float32)

    @property
    def row(self) -> Expression:
        """The controls of the face."""
        return self.clip.acting.performance[self.frame]

    @property
    def strength(self) -> float:
        """Of the emotion at this moment."""
        return float(self.clip.acting.strength[self.frame])

    def landmarks(self) -> Float32[np.ndarray, "68 2"]:
        """The 68 landmarks, (x, y) in [-1, 1]."""
        return self.clip.actor.landmarks(self.row, self.held)

    def pupils(self) -> Float32[np.ndarray, "2 2"]:
        """The pupils, in the same units."""
        return self.clip.actor.pupils(self.row, self.held)

    def opening(self) -> float:
        """Gap between the lips of the face seen frontally, in half frames."""
        return self.clip.actor.opening(self.row)

    def shown(self, size: int) -> Shown:
        """The picture, `size` rows and columns, and what it shows."""
        return self.clip.actor.shown(self.row, self.held, size, self.frame)


def flows(stills: Sequence[Still], size: int) -> Float16[np.ndarray, "t t 64 64 2"]:
    """Where in still m of a sitting that is which each square of still n shows (`Figure`)."""
    return stills[0].clip.actor.flows([(still.row, still.held) for still in stills], size)


def stills(
    seed: int, number: int, count: int, renderer: Renderer = HEADS
) -> list[tuple[Still, ...]]:
    """Takes the stills of a person's album, the same ones for the same numbers.

    Args:
        seed: of the data set.
        number: of the person.
        count: how many stills.
        renderer: what people are rendered from.

    Returns:
        Those of each sitting, a neutral face first; two at least, if there are two in all.

    Raises:
        UserError: the extra `speech` is not installed.
    """
    rng = np.random.default_rng([seed, number, _STREAM])
    takes = takes_of(number, 1)
    neutral = [take for take in takes if take.emotion == "neutral"]
    others = [take for take in takes if take.emotion != "neutral"]
    sittings = max(1, count // STILLS)
    result = []
    for place in range(sittings):
        chosen = rng.integers(len(others), size=len(range(place, count, sittings)) - 1)
        moods = [neutral[place % len(neutral)], *(others[n] for n in chosen)]
        result.append(tuple(_sitting(rng, seed, moods, renderer)))
    return result


def _sitting(
    rng: np.random.Generator, seed: int, moods: Sequence[Take], renderer: Renderer
) -> Iterator[Still]:
    """A random face of each recording, in poses of the first."""
    clips = [record_clip(seed, take, renderer) for take in moods]
    seen = clips[0].acting.poses
    poses = [seen[n] for n in rng.integers(len(seen), size=len(clips))]
    if not renderer.photos:
        poses = _moved(rng, poses, seen[0])
    for clip, held in zip(clips, poses, strict=True):
        frame = int(rng.integers(clip.num_frames))
        yield Still(clip, frame, held, clip.mfcc()[frame])


def _moved(rng: np.random.Generator, poses: list[Pose], first: Pose) -> list[Pose]:
    """Poses of a recording, farther apart, with the neck where it is in the recording's first."""
    turn, lean = (float(rng.choice(amounts)) for amounts in (TURNS, LEANS))
    neck, moved = stance(first).neck, []
    for pose in poses:
        held = movement.turned(rng, pose, turn)
        at = neck * (held.scale / first.scale)
        at[:2] += HALF_FRAME * movement.leant(rng, lean)
        moved.append(seated(held, at))
    return moved
