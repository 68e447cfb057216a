"""A studio with a tiny model, and what visitors bring."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eamm_jax.animate import Animation, Animator
from eamm_jax.animate.emotion_bank import EmotionBank, Entry
from eamm_jax.app.limits import Limits
from eamm_jax.app.studio import Studio
from eamm_jax.constants import SAMPLE_RATE
from eamm_jax.io.audio import write_wav
from eamm_jax.io.video_writer import video_writer
from tests.tiny import TINY, tiny_variables

SECONDS = 0.6


def random_bank(emotions=("neutral", "happy", "sad")) -> EmotionBank:
    rng = np.random.default_rng(3)
    width, face = TINY.emotion.stage_widths[-1], np.zeros((8, 8, 3), np.uint8)
    return EmotionBank(
        {(e, 2): Entry(rng.normal(size=(6, width)).astype(np.float32), face) for e in emotions}
    )


class Gated(Animator):
    """Stops before a frame of every animation until it is let go on."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.stop_before = None
        self.stopped, self.go_on = threading.Event(), threading.Event()

    def animate(self, *args, **options) -> Animation:
        animation = super().animate(*args, **options)

        def gated():
            for index, frame in enumerate(animation):
                if index == self.stop_before:
                    self.stopped.set()
                    assert self.go_on.wait(60)
                yield frame

        return Animation(len(animation), gated())


@pytest.fixture(scope="session")
def _animator() -> Gated:
    return Gated(*tiny_variables(), bank=random_bank(), chunk=4)


@pytest.fixture
def animator(_animator: Gated) -> Gated:
    _animator.stop_before = None
    _animator.stopped.clear()
    _animator.go_on.clear()
    return _animator


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> dict[str, Path]:
    """One of each input, by name."""
    folder = tmp_path_factory.mktemp("brought")
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(picture).save(folder / "face.png")
    write_wav(folder / "voice.wav", 0.1 * rng.normal(size=int(SECONDS * SAMPLE_RATE)))
    write_wav(folder / "word.wav", 0.1 * rng.normal(size=int(0.32 * SAMPLE_RATE)))
    np.save(folder / "track.npy", np.cumsum(rng.normal(scale=0.1, size=(9, 7)), axis=0))
    with video_writer(folder / "joy.mp4", 64, 64, 25) as video:
        for _ in range(25):
            video.write(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    (folder / "keys.csv").write_text("time,happy,yaw\n0,0,1\n0.3,1,2\n")
    (folder / "broken.png").write_bytes((folder / "face.png").read_bytes()[:100])
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture
def make_studio(animator, tmp_path):
    """Makes studios, and closes them."""
    made = []

    def make(**limits) -> Studio:
        folder = tmp_path / f"studio{len(made)}"
        folder.mkdir()
        made.append(Studio(animator, Path("weights"), folder, Limits(**limits)))
        return made[-1]

    yield make
    animator.go_on.set()
    for studio in made:
        studio.close()


@pytest.fixture
def studio(make_studio) -> Studio:
    return make_studio()
