"""What comes with the package, so that it works before anything is fetched.

A small model trained on drawn faces by this project's own stages (see `MODEL_CARD.md`), and a
drawn portrait, a synthetic voice and a gentle motion of the head to try it with.
"""

from pathlib import Path

_FOLDER = Path(__file__).parent

MODEL = _FOLDER / "model"
PORTRAIT = _FOLDER / "portrait.png"
SPEECH = _FOLDER / "speech.mp3"
POSE = _FOLDER / "pose.npy"
"""Head poses of somebody who looks at the viewer and talks, 25 a second."""

FACE_READER = _FOLDER / "face_reader.npz"
"""Weights of the network that sees landmarks and emotion of drawn faces; its card is beside it."""

EXAMPLES = _FOLDER / "examples"
"""A few more drawn people and what they say; `examples.json` lists them."""
