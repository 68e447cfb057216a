"""A clip: sound, motion and pictures of a take, and everything that is known about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from data.synthetic import cast, movement
from data.synthetic.actor import actor_of
from data.synthetic.camera import Pose
from data.synthetic.cast import Person
from data.synthetic.controls import Expression
from data.synthetic.emotion import EMOTION_LOOKS, LEVEL_STRENGTH
from data.synthetic.heads.figure import Figure
from data.synthetic.performance import Acting, act
from data.synthetic.recording import carry, record
from data.synthetic.renderer import HEADS, Renderer
from data.synthetic.script import Script, Take
from data.synthetic.voices import ESPEAK_ALONE, Voices, speak
from eamm_jax.constants import SAMPLE_RATE
from eamm_jax.features import mfcc_windows, num_frames, speech_mfcc
from eamm_jax.io.speech import Phoneme

HEAD_REACH = movement.Reach(angles=1.7, zoom=3.0, place=5.0)
"""Invented people turn farther than those of the published clips. Between their takes they also
stand elsewhere, nearer or farther: heads of real clips leave the place that the crop of the first
frame gives them."""

_STREAM, _CHANNEL_STREAM = 4, 8  # of random numbers; `voices`, `script` and `cast` have others


@dataclass(frozen=True)
class Clip:
    """A recorded take; frames are rendered when asked for.

    Attributes:
        seed: of the data set.
        renderer: what people are rendered from.
        person: who speaks.
        take: in which mood.
        script: what is said.
        sound: mono, 16 kHz.
        phonemes: of the sound, seconds from its beginning.
        acting: what face and head do.
    """

    seed: int
    renderer: Renderer
    person: Person
    take: Take
    script: Script
    sound: Float32[np.ndarray, " n"]
    phonemes: tuple[Phoneme, ...]
    acting: Acting

    @property
    def num_frames(self) -> int:
        """Frames of the clip: as many as the sound is enough for."""
        return len(self.acting.performance)

    def mfcc(self) -> Float32[np.ndarray, "t 28 13"]:
        """What each frame hears, as the published data sets store it."""
        return mfcc_windows(speech_mfcc(self.sound)).astype(np.float32)

    def pose(self) -> Float32[np.ndarray, "t 7"]:
        """The poses, as the published data sets store them."""
        return movement.pose_rows(self.acting.poses).astype(np.float32)

    @property
    def actor(self) -> Figure:
        """Who is seen."""
        return actor_of(self.renderer, self.seed, self.take.number)

    def frame(self, n: int, size: int) -> UInt8[np.ndarray, "h w 3"]:
        """Renders frame `n` with `size` rows and columns."""
        return self.actor.picture(self.acting.performance[n], self.acting.poses[n], size, n)

    def landmarks(self) -> Float32[np.ndarray, "t 68 2"]:
        """The 68 landmarks of each frame, (x, y) in [-1, 1]."""
        return np.stack([self.actor.landmarks(*moment) for moment in self._moments()])

    def pupils(self) -> Float32[np.ndarray, "t 2 2"]:
        """The pupils of each frame, in the units of the landmarks."""
        return np.stack([self.actor.pupils(*moment) for moment in self._moments()])

    def mouth_opening(self) -> Float32[np.ndarray, " t"]:
        """Gap between the lips in each frame, of the face seen frontally, in half frames."""
        return np.array([self.actor.opening(row) for row in self.acting.performance], np.float32)

    def _moments(self) -> Iterator[tuple[Expression, Pose]]:
        return zip(self.acting.performance, self.acting.poses, strict=True)


def record_clip(
    seed: int, take: Take, renderer: Renderer = HEADS, voices: Voices = ESPEAK_ALONE
) -> Clip:
    """Records a take; the same arguments give the same clip, wherever and whenever.

    Where voices are natural, the channels that carry them are, too.

    Raises:
        UserError: the extra `speech`, or what the voices need, is not installed.
    """
    person = cast.person(seed, take.number)
    speech = speak(voices, seed, take)
    rng = np.random.default_rng([seed, *take.key, _STREAM])
    mood, strength = EMOTION_LOOKS[take.emotion], LEVEL_STRENGTH[take.level]
    before, after = float(rng.uniform(0.25, 0.5)), float(rng.uniform(0.25, 0.5))
    energy = 1 + (mood.energy - 1) * strength
    sound = record(rng, speech.samples, energy=energy, before=before, after=after)
    if voices.kinds != ESPEAK_ALONE.kinds:
        sound = carry(np.random.default_rng([seed, *take.key, _CHANNEL_STREAM]), sound)
    phonemes = (
        Phoneme("", 0.0, before),
        *(p._replace(start=p.start + before, end=p.end + before) for p in speech.phonemes),
        Phoneme("", speech.phonemes[-1].end + before, len(sound) / SAMPLE_RATE),
    )
    count = num_frames(len(speech_mfcc(sound)))
    reach = None if renderer.photos else HEAD_REACH
    acting = act(rng, person, mood, strength, phonemes, count, reach)
    poses = actor_of(renderer, seed, take.number).limited(acting.poses)
    return Clip(
        seed, renderer, person, take, speech.script, sound, phonemes, acting._replace(poses=poses)
    )
