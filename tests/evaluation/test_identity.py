"""Features of faces: invariance to where the face is, and what stands for another person."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from PIL import Image

from eamm_jax.errors import UserError
from eamm_jax.evaluation import identity
from eamm_jax.evaluation.identity import DlibEmbedder, cosine_similarity
from eamm_jax.faces.detection import FaceFinder


def test_similarity_is_the_cosine():
    vectors = np.array([[2.0, 0], [0, 3], [-1, 0], [1, 1]])
    expected = [1, 0, -1, 0.5**0.5]
    np.testing.assert_allclose(cosine_similarity(vectors, np.array([5.0, 0])), expected, atol=1e-12)


def test_people_are_told_apart_wherever_they_are(shared):
    finder, embedder = FaceFinder(), DlibEmbedder()

    def embed(picture):
        landmarks = finder.find(picture)[0].landmarks
        height, width = picture.shape[:2]
        return embedder.embed(picture[None], ((2 * landmarks + 1) / (width, height) - 1)[None])[0]

    first, second = (
        Image.open(shared / "media" / "image" / f"{name}.jpg").convert("RGB")
        for name in ("brade2", "scarlett")
    )
    moved = first.rotate(10, Image.Resampling.BICUBIC).resize((320, 320))
    source = embed(np.asarray(first))
    assert source.shape == (128,)
    same = cosine_similarity(embed(np.asarray(moved))[None], source)[0]
    other = cosine_similarity(embed(np.asarray(second))[None], source)[0]
    assert same > 0.97
    assert other < 0.9 < same


def test_missing_weights_are_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "dlib" else find(name)
    )
    assert not identity.is_installed()
    with pytest.raises(UserError, match=r"eamm_jax\[faces\]"):
        DlibEmbedder()
