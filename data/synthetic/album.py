"""An album: unrelated stills of a person, taken from recordings of several moods.

What stage 0 learns, it learns from pictures of many people. Of each, a few stills in all moods
and poses serve as well as minutes of video and take a hundredth of the time to render.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from data.synthetic.camera import Pose
from data.synthetic.clip import Clip, record_clip
from data.synthetic.controls import Expression
from data.synthetic.renderer import HEADS, Renderer
from data.synthetic.script import Take, takes_of

EMOTIONAL_TAKES = 4
"""Recordings in other moods than neutral that an album takes its second half from."""

_STREAM = 5  # of random numbers; `clip` and `script` have others


@dataclass(frozen=True)
class Still:
    """One frame of a recording, with its truth.

    Attributes:
        clip: the recording.
        frame: number of the frame in it.
        pose: of the head, as the published data sets store it.
        window: what the frame hears.
    """

    clip: Clip
    frame: int
    pose: Float32[np.ndarray, " 7"]
    window: Float32[np.ndarray, "28 13"]

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
        return self.clip.actor.landmarks(self.row, self._held)

    def pupils(self) -> Float32[np.ndarray, "2 2"]:
        """The pupils, in the same units."""
        return self.clip.actor.pupils(self.row, self._held)

    def opening(self) -> float:
        """Gap between the lips of the face seen frontally, in half frames."""
        return self.clip.actor.opening(self.row)

    def picture(self, size: int) -> UInt8[np.ndarray, "h w 3"]:
        """The picture, `size` rows and columns."""
        return self.clip.frame(self.frame, size)

    @property
    def _held(self) -> Pose:
        return self.clip.acting.poses[self.frame]


def stills(seed: int, number: int, count: int, renderer: Renderer = HEADS) -> list[Still]:
    """Takes the stills of a person's album, the same ones for the same numbers.

    The first half is neutral: the earlier of two random frames, which training takes for the
    portrait, is then neutral in three of four cases, as portraits are.

    Args:
        seed: of the data set.
        number: of the person.
        count: how many stills.
        renderer: what people are rendered from.

    Raises:
        UserError: the extra `speech` is not installed.
    """
    rng = np.random.default_rng([seed, number, _STREAM])
    takes = takes_of(number, 1)
    neutral = [take for take in takes if take.emotion == "neutral"]
    others = [take for take in takes if take.emotion != "neutral"]
    chosen = [others[i] for i in rng.choice(len(others), EMOTIONAL_TAKES, replace=False)]
    half = count // 2
    return [
        *_from_takes(rng, seed, neutral, count - half, renderer),
        *_from_takes(rng, seed, chosen, half, renderer),
    ]


def _from_takes(
    rng: np.random.Generator, seed: int, takes: list[Take], count: int, renderer: Renderer
) -> list[Still]:
    """Random frames, as evenly from the takes as can be."""
    found = []
    for place, take in enumerate(takes):
        share = len(range(place, count, len(takes)))
        if not share:
            continue
        clip = record_clip(seed, take, renderer)
        poses, windows = clip.pose(), clip.mfcc()
        frames = np.sort(rng.choice(clip.num_frames, share, replace=share > clip.num_frames))
        found += [Still(clip, int(n), poses[n], windows[n]) for n in frames]
    return found
