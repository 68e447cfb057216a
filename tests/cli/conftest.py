"""infer.py on a tiny checkpoint, and one of each input."""

from __future__ import annotations

import logging
import sys
import wave
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
from PIL import Image

from eamm_jax.checkpoint import save_networks
from eamm_jax.cli import infer as infer_command
from eamm_jax.constants import SAMPLE_RATE
from eamm_jax.io.video_writer import video_writer
from tests.conftest import ROOT
from tests.tiny import tiny_variables

SECONDS = 1.0
FRAMES = 24  # what one second gives: the last window must lie within the sound


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> dict[str, Path]:
    """A checkpoint and one of each input."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    config, variables = tiny_variables()
    save_networks(folder / "weights", config, variables)
    Image.fromarray(rng.integers(0, 256, (80, 64, 3), dtype=np.uint8)).save(folder / "face.png")
    write_wav(folder / "voice.wav", 0.2 * rng.normal(size=int(SECONDS * SAMPLE_RATE)))
    np.save(folder / "pose.npy", np.array([[5, 2, 1, 5e-4, 60, 60, -66.7]]))
    np.save(folder / "track.npy", np.cumsum(rng.normal(scale=0.1, size=(9, 7)), axis=0))
    with video_writer(folder / "happy.mp4", 96, 96, 30) as video:
        for _ in range(12):
            video.write(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8))
    return {path.name: path for path in folder.iterdir()}


def write_wav(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


class Done(NamedTuple):
    """How a run ended, and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture
def infer(files, tmp_path, monkeypatch, capsys, caplog):
    """Runs infer.py on the good inputs, but for the flags that a test changes (None drops).

    In this process: starting Python anew and compiling again would take most of the time.
    """
    logger = logging.getLogger("eamm_jax")
    level = logger.level

    def run(**changes) -> Done:
        monkeypatch.setattr(sys, "argv", command(files, tmp_path, changes)[1:])
        caplog.clear()
        with pytest.raises(SystemExit) as ended:
            infer_command.main()
        out, err = capsys.readouterr()
        return Done(ended.value.code, out, caplog.text + err)

    yield run
    logger.setLevel(level)  # `--quiet` silences the package's notices


def command(files, tmp_path, changes) -> list[str]:
    flags = {
        "checkpoint": files["weights"],
        "source_image": files["face.png"],
        "in_file": files["voice.wav"],
        "pose_file": files["pose.npy"],
        "output": tmp_path / "out.mp4",
        "no_crop": True,  # the portrait is noise
        "chunk": 5,
        **changes,
    }
    words = [sys.executable, str(ROOT / "infer.py")]
    for name, value in flags.items():
        if value is not None:
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return words


def described(path: Path) -> dict:
    with av.open(str(path)) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        return {
            "rate": video.average_rate,
            "size": (video.width, video.height),
            "format": video.codec_context.pix_fmt,
            "metadata": dict(container.metadata),
            "sound": float(sound.duration * sound.time_base),
            "frames": sum(1 for _ in container.decode(video=0)),
        }
