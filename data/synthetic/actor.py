"""Who is in front of the camera: a drawn face, a rendered head or a photographed person."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float32, UInt8

from data.synthetic import cast, head_model, landmarks
from data.synthetic.camera import Camera, Pose
from data.synthetic.cast import Person
from data.synthetic.controls import Expression
from data.synthetic.face import build
from data.synthetic.heads import looks
from data.synthetic.heads.person import Person as Head
from data.synthetic.identity import Identity
from data.synthetic.portrait import Portrait
from data.synthetic.renderer import DRAWN, PHOTOS, Renderer

_HEAD_STREAM = 6  # of random numbers; `cast`, `script`, `clip` and `album` have others


class Actor(Protocol):
    """A person in any expression and pose."""

    def limited(self, poses: list[Pose]) -> list[Pose]:
        """Poses that the person can be shown in, as near as can be to those given."""

    def picture(
        self, row: Expression, pose: Pose, size: int, moment: int
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Renders frame number `moment` with `size` rows and columns."""

    def landmarks(self, row: Expression, pose: Pose) -> Float32[np.ndarray, "68 2"]:
        """The 68 landmarks, (x, y) in [-1, 1]."""

    def pupils(self, row: Expression, pose: Pose) -> Float32[np.ndarray, "2 2"]:
        """The pupils, picture left first, in the same units."""

    def opening(self, row: Expression) -> float:
        """Gap between the lips of the face seen frontally, in half frames."""


@lru_cache(maxsize=4)
def actor_of(renderer: Renderer, seed: int, number: int) -> Actor:
    """The actor of somebody of the cast.

    Raises:
        UserError: there is no head model, or the person's photograph cannot be used.
    """
    person = cast.person(seed, number)
    if renderer.kind == DRAWN:
        return _Drawn(person)
    model = head_model.load(renderer.head_model)
    rng = np.random.default_rng([seed, number, _HEAD_STREAM])
    if renderer.kind == PHOTOS:
        from data.synthetic.photo.portrait import read_portrait
        from data.synthetic.photo.sitter import Sitter

        return Sitter(model, rng, read_portrait(Path(renderer.photos[number])))
    look = looks.sample(
        rng, person.identity.feminine, len(model.identity), len(model.expression_names)
    )
    return Head(model, look)


class _Drawn:
    """A drawn face."""

    def __init__(self, person: Person):
        self._identity = person.identity

    def limited(self, poses: list[Pose]) -> list[Pose]:
        return poses

    def picture(
        self, row: Expression, pose: Pose, size: int, moment: int
    ) -> UInt8[np.ndarray, "h w 3"]:
        return _portrait(self._identity, size).draw(pose, row)

    def landmarks(self, row: Expression, pose: Pose) -> Float32[np.ndarray, "68 2"]:
        return landmarks.landmarks(build(self._identity, row), Camera(pose))

    def pupils(self, row: Expression, pose: Pose) -> Float32[np.ndarray, "2 2"]:
        return landmarks.pupils(build(self._identity, row), Camera(pose))

    def opening(self, row: Expression) -> float:
        return build(self._identity, row).mouth.opening


@lru_cache(maxsize=4)
def _portrait(identity: Identity, size: int) -> Portrait:
    return Portrait(identity, size)
