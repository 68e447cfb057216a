"""A clip: sound, motion and pictures of a take, and everything that is known about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float32, UInt8

from data.synthetic import cast, landmarks, movement
from data.synthetic.camera import Camera
from data.synthetic.cast import Person
from data.synthetic.emotion import EMOTION_LOOKS, LEVEL_STRENGTH
from data.synthetic.face import Face, build
from data.synthetic.identity import Identity
from data.synthetic.performance import Acting, act
from data.synthetic.portrait import Portrait
from data.synthetic.recording import record
from data.synthetic.script import Script, Take, script
from eamm_jax.constants import SAMPLE_RATE
from eamm_jax.features import mfcc_windows, num_frames, speech_mfcc
from eamm_jax.io.speech import Phoneme, synthesise

_STREAM = 4  # of random numbers; `script` and `cast` have others


@dataclass(frozen=True)
class Clip:
    """A recorded take; frames are drawn when asked for.

    Attributes:
        person: who speaks.
        take: in which mood.
        script: what is said.
        sound: mono, 16 kHz.
        phonemes: of the sound, seconds from its beginning.
        acting: what face and head do.
    """

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

    @cached_property
    def faces(self) -> list[Face]:
        """The geometry of each frame."""
        return [build(self.person.identity, row) for row in self.acting.performance]

    @cached_property
    def cameras(self) -> list[Camera]:
        """The camera of each frame."""
        return [Camera(pose) for pose in self.acting.poses]

    def frame(self, n: int, size: int) -> UInt8[np.ndarray, "h w 3"]:
        """Draws frame `n` with `size` rows and columns."""
        return self.draw(self.cameras[n], self.faces[n], size)

    def draw(self, camera: Camera, face: Face, size: int) -> UInt8[np.ndarray, "h w 3"]:
        """Draws the person with a face and a camera."""
        return _portrait(self.person.identity, size).draw_face(camera, face)

    def frames(self, size: int) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Draws all frames."""
        for n in range(self.num_frames):
            yield self.frame(n, size)

    def landmarks(self) -> Float32[np.ndarray, "t 68 2"]:
        """The 68 landmarks of each frame, (x, y) in [-1, 1]."""
        return np.stack(
            [landmarks.landmarks(*pair) for pair in zip(self.faces, self.cameras, strict=True)]
        )

    def pupils(self) -> Float32[np.ndarray, "t 2 2"]:
        """The pupils of each frame, in the units of the landmarks."""
        return np.stack(
            [landmarks.pupils(*pair) for pair in zip(self.faces, self.cameras, strict=True)]
        )

    def mouth_opening(self) -> Float32[np.ndarray, " t"]:
        """Gap between the lips in each frame, of the face seen frontally, in half frames."""
        return np.array([face.mouth.opening for face in self.faces], np.float32)


@lru_cache(maxsize=4)
def _portrait(identity: Identity, size: int) -> Portrait:
    return Portrait(identity, size)


def record_clip(seed: int, take: Take) -> Clip:
    """Records a take; the same arguments give the same clip, wherever and whenever.

    Raises:
        UserError: the extra `speech` is not installed.
    """
    person = cast.person(seed, take.number)
    words = script(seed, take)
    speech = synthesise(
        words.text, words.voice, rate=words.rate, pitch=words.pitch, pitch_range=words.pitch_range
    )
    rng = np.random.default_rng([seed, *take.key, _STREAM])
    mood, strength = EMOTION_LOOKS[take.emotion], LEVEL_STRENGTH[take.level]
    before, after = float(rng.uniform(0.25, 0.5)), float(rng.uniform(0.25, 0.5))
    energy = 1 + (mood.energy - 1) * strength
    sound = record(rng, speech.samples, energy=energy, before=before, after=after)
    phonemes = (
        Phoneme("", 0.0, before),
        *(p._replace(start=p.start + before, end=p.end + before) for p in speech.phonemes),
        Phoneme("", speech.phonemes[-1].end + before, len(sound) / SAMPLE_RATE),
    )
    count = num_frames(len(speech_mfcc(sound)))
    acting = act(rng, person, mood, strength, phonemes, count)
    return Clip(person, take, words, sound, phonemes, acting)
