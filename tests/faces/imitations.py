"""Imitations of packages that find faces."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path


class Box:
    """dlib's rectangle, as far as it is used."""

    def __init__(self, left, top, right, bottom):
        self.corners = left, top, right, bottom

    def left(self):
        return self.corners[0]

    def top(self):
        return self.corners[1]

    def right(self):
        return self.corners[2]

    def bottom(self):
        return self.corners[3]


def imitate_dlib(monkeypatch, folder: Path) -> types.ModuleType:
    """A dlib that finds what `faces` says, and puts landmark n at the box's corner + (n, 2 n).

    `searched` holds the shapes of the pictures it looked at, and by how much it enlarged them.
    """
    dlib = types.ModuleType("dlib")
    dlib.faces = []
    dlib.searched = []
    dlib.rectangle = Box

    def detect(frame, enlarged):
        dlib.searched.append((frame.shape, enlarged))
        return dlib.faces.pop(0)

    dlib.get_frontal_face_detector = lambda: detect

    def predictor(path):
        assert Path(path).is_file()

        def predict(frame, box):
            left, top, *_ = box.corners
            return types.SimpleNamespace(
                part=lambda n: types.SimpleNamespace(x=left + n, y=top + 2 * n)
            )

        return predict

    dlib.shape_predictor = predictor
    data = folder / "models" / "shape_predictor_68_face_landmarks.dat"
    data.parent.mkdir()
    data.touch()
    monkeypatch.setitem(sys.modules, "dlib", dlib)
    spec = types.SimpleNamespace(origin=str(folder / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    return dlib
