"""Files that come with the package, so that it works without downloads.

A small model trained on synthetic faces (see `MODEL_CARD.md`), and a portrait, a voice and a head
motion to try it with, all synthetic.
"""

from pathlib import Path

_FOLDER = Path(__file__).parent

MODEL = _FOLDER / "model"
PORTRAIT = _FOLDER / "portrait.png"
SPEECH = _FOLDER / "speech.mp3"
POSE = _FOLDER / "pose.npy"
"""Head poses of a talking person who faces the camera, 25 per second."""

EXAMPLES = _FOLDER / "examples"
"""More synthetic portraits and voices; `examples.json` lists them."""
