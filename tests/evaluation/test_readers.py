"""Who looks at the frames, and words where nobody can."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from eamm_jax.errors import UserError
from eamm_jax.evaluation import readers
from eamm_jax.evaluation.readers import Reader, make_reader
from eamm_jax.faces import detection, mediapipe_finder
from eamm_jax.faces.dlib_finder import DlibFinder
from eamm_jax.io.image import read_image, to_uint8
from tests.faces.imitations import Box, imitate_dlib


def test_none_has_no_reader():
    assert make_reader("none") is None


def test_unknown_kind_is_an_error():
    with pytest.raises(UserError, match=r"'painted'; allowed are real, none"):
        make_reader("painted")


def test_without_a_finder(monkeypatch):
    monkeypatch.setattr(mediapipe_finder, "is_installed", lambda: True)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(UserError, match=r"\[faces\].*faces 'none'"):
        make_reader("real")


@pytest.fixture
def imitation(monkeypatch, tmp_path):
    return imitate_dlib(monkeypatch, tmp_path)


def test_landmarks_are_those_of_the_largest_face_and_pixels_become_coordinates(imitation):
    small, large = Box(0, 0, 10, 10), Box(20, 40, 120, 140)
    imitation.faces = [[small, large]]
    seen = Reader(DlibFinder()).read(np.zeros((1, 100, 200, 3), np.uint8))
    assert seen.emotion is None
    # The middle of pixel (20, 40) in a frame of 200 by 100.
    np.testing.assert_allclose(seen.landmarks[0, 0], (41 / 200 - 1, 81 / 100 - 1), atol=1e-6)
    np.testing.assert_allclose(seen.landmarks[0, 3], (47 / 200 - 1, 93 / 100 - 1), atol=1e-6)


def test_undetected_faces_keep_the_last_box(imitation):
    imitation.faces = [[], [Box(20, 40, 120, 140)], []]
    frames = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((100, 100, 3), np.uint8)
    reading = Reader(DlibFinder()).read(frames)
    assert reading.found
    found = reading.landmarks[:, 0]
    left, top, *_ = readers.USUAL_FACE
    np.testing.assert_allclose(found[0], (2 * left + 0.01 - 1, 2 * top + 0.01 - 1), atol=1e-6)
    np.testing.assert_allclose(found[1], found[2])
    assert (found[1] != found[0]).any()


def test_landmarks_without_any_face_are_a_guess(imitation):
    imitation.faces = [[]]
    assert not Reader(DlibFinder()).read(np.zeros((2, 100, 100, 3), np.uint8)).found


def test_a_frame_that_is_shown_again_is_searched_once(imitation):
    imitation.faces = [[Box(20, 40, 120, 140)], [Box(0, 0, 50, 50)]]
    frames = np.zeros((3, 100, 100, 3), np.uint8)
    frames[2] = 9
    found = Reader(DlibFinder()).read(frames).landmarks
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[2] != found[1]).any()


def test_a_portrait(shared):
    if not detection.is_installed():
        pytest.skip("needs the extra 'faces'")
    frame = to_uint8(read_image(shared / "media" / "image" / "60.png", 256))
    template = np.load(shared / "media" / "alignment_landmarks.npy")
    found = 128 * (make_reader("real").read(frame[None]).landmarks[0] + 1)
    # The portrait was aligned to the template.
    assert np.linalg.norm(found[:47] - template[:47], axis=-1).mean() < 6
