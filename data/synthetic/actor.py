"""Who is in front of the camera: an invented person, or the one in a photograph."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from data.synthetic import cast, head_model
from data.synthetic.heads import looks
from data.synthetic.heads.figure import Figure
from data.synthetic.heads.person import Person
from data.synthetic.renderer import Renderer

_STREAM = 6  # of random numbers; `cast`, `script`, `clip` and `album` have others


@lru_cache(maxsize=4)
def actor_of(renderer: Renderer, seed: int, number: int) -> Figure:
    """The actor of somebody of the cast.

    Raises:
        UserError: there is no head model, or the person's photograph cannot be used.
    """
    model = head_model.load(renderer.head_model)
    if renderer.photos:
        from data.synthetic.photo.portrait import read_portrait
        from data.synthetic.photo.sitter import Sitter

        return Sitter(model, _rng(seed, number), read_portrait(Path(renderer.photos[number])))
    return Person(model, look_of(model, seed, number))


def look_of(model: head_model.HeadModel, seed: int, number: int) -> looks.Look:
    """The appearance of an invented person."""
    feminine = cast.person(seed, number).feminine
    return looks.sample(
        _rng(seed, number), feminine, len(model.identity), len(model.expression_names)
    )


def _rng(seed: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, number, _STREAM])
