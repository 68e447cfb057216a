"""An album: stills of a person, a few from each of several recordings.

What stage 0 learns, it learns from pictures of many people. Of each, a few stills in all moods
and poses serve as well as minutes of video and take a hundredth of the time to render. Pairs are
taken from one recording: from one to the next people sit down anew, which is more than a generator
can learn to draw. In a recording the frame stays where it is and so do the shoulders: heads turn on
their necks. In some recordings people also turn and lean farther between stills than they do while
they talk, for those of real clips do: a generator that never saw it tears them.
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

EMOTIONAL_TAKES = 4
"""Recordings in other moods than neutral."""

TURNS, LEANS = (0.0, 0.25, 0.5, 1.0), (0.0, 0.0, 0.25, 0.5, 1.0)
"""How far people turn and lean between the stills of a recording (`movement`): any of these."""

_STREAM = 5  # of random numbers; `clip` and `script` have others


@dataclass(frozen=True)
class Still:
    """One frame of a recording, with its truth.

    Attributes:
        clip: the recording.
        frame: number of the frame in it.
        held: pose of the head.
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
    """Where in still m of a recording that is which each square of still n shows (`Figure`)."""
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
        Those of each recording, neutral ones first; two at least, if there are two in all.

    Raises:
        UserError: the extra `speech` is not installed.
    """
    rng = np.random.default_rng([seed, number, _STREAM])
    takes = takes_of(number, 1)
    neutral = [take for take in takes if take.emotion == "neutral"]
    others = [take for take in takes if take.emotion != "neutral"]
    chosen = [others[i] for i in rng.choice(len(others), EMOTIONAL_TAKES, replace=False)]
    takes = [*neutral, *chosen]
    if count < 2 * len(takes):  # every second one first, so that few stills have several moods
        takes = sorted((takes[::2] + takes[1::2])[: max(1, count // 2)], key=takes.index)
    return [
        tuple(_from_take(rng, seed, take, len(range(place, count, len(takes))), renderer))
        for place, take in enumerate(takes)
    ]


def _from_take(
    rng: np.random.Generator, seed: int, take: Take, count: int, renderer: Renderer
) -> Iterator[Still]:
    """Random frames of a recording."""
    clip = record_clip(seed, take, renderer)
    windows = clip.mfcc()
    frames = np.sort(rng.choice(clip.num_frames, count, replace=count > clip.num_frames))
    poses = [clip.acting.poses[n] for n in frames]
    if not renderer.photos:
        poses = _moved(rng, poses, clip.acting.poses[0])
    for n, held in zip(map(int, frames), poses, strict=True):
        yield Still(clip, n, held, windows[n])


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
