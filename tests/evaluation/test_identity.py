"""Features of faces: invariance to where the face is, and what stands for another person."""

from __future__ import annotations

import base64
import importlib.util

import numpy as np
import pytest
from PIL import Image

from eamm_jax.errors import UserError
from eamm_jax.evaluation import identity
from eamm_jax.evaluation.identity import DlibEmbedder, OnnxEmbedder, cosine_similarity
from eamm_jax.faces.detection import make_finder
from tests.evaluation.faces import template


def test_similarity_is_the_cosine():
    vectors = np.array([[2.0, 0], [0, 3], [-1, 0], [1, 1]])
    expected = [1, 0, -1, 0.5**0.5]
    np.testing.assert_allclose(cosine_similarity(vectors, np.array([5.0, 0])), expected, atol=1e-12)


def test_people_are_told_apart_wherever_they_are(shared):
    finder, embedder = make_finder(), DlibEmbedder()

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


MEAN_COLOUR = base64.b64decode(
    "CAg6YwoZCgFpEgFwIhFHbG9iYWxBdmVyYWdlUG9vbAoPCgFwEgFvIgdGbGF0dGVuEgFnWhwKAWkSFwoVCAESEQoDEgFu"
    "CgIIAwoCCHAKAghwYhQKAW8SDwoNCAESCQoDEgFuCgIIA0IECgAQDQ=="
)
"""A network in ONNX format (n, 3, 112, 112) to (n, 3): a global mean."""


def test_networks_in_onnx_format_see_the_aligned_face(tmp_path):
    path = tmp_path / "mean.onnx"
    path.write_bytes(MEAN_COLOUR)
    embedder = OnnxEmbedder(path)
    points = 0.4 * template()
    pixels = ((points + 1) * 256 - 1) / 2
    frames = np.zeros((2, 256, 256, 3), np.uint8)
    left, top, right, bottom = np.r_[pixels.min(0) - 40, pixels.max(0) + 40].astype(int)
    frames[:, top:bottom, left:right] = (255, 0, 51)  # all that the network sees, and more
    found = embedder.embed(frames, np.stack([points, points]))
    np.testing.assert_allclose(found, [[1, -1, -0.6]] * 2, atol=1e-4)  # float32 sums
    assert embedder.name == "mean.onnx"
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match=r"x\.onnx is not a network in ONNX format"):
        OnnxEmbedder(tmp_path / "x.onnx")
    path.write_bytes(MEAN_COLOUR.replace(b"\x08p", b"\x08q"))  # of 113x113
    with pytest.raises(UserError, match="of other shapes than"):
        OnnxEmbedder(path)


def test_missing_weights_are_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "dlib" else find(name)
    )
    assert not identity.is_installed()
    with pytest.raises(UserError, match=r"eamm_jax\[dlib\]"):
        DlibEmbedder()
