"""Media files of many kinds, made on the spot."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest


def write_sound(path: Path, samples: np.ndarray, rate: int, codec: str) -> Path:
    """Writes (channels, n) floats in [-1, 1] with any codec."""
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1", 16: "hexadecagonal"}[len(samples)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        for start in range(0, samples.shape[1], 1000):
            block = np.ascontiguousarray(samples[:, start : start + 1000].T, np.float32)
            frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), "flt", layout)
            frame.rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_frames(
    path: Path,
    frames: list[np.ndarray],
    *,
    times: list[int] | None = None,
    ticks: int = 25,
    codec: str = "libx264",
    pixel_format: str = "yuv444p",
    rotation: int = 0,
    pixel_aspect_ratio: Fraction | None = None,
    options: dict[str, str] | None = None,
    faststart: bool = False,
) -> Path:
    """Writes RGB frames at given times, in units of 1/ticks seconds (default: one each)."""
    placing = {"movflags": "+faststart"} if faststart else {}
    with av.open(str(path), "w", options=placing) as container:
        stream = container.add_stream(codec, rate=ticks, options=options or {"crf": "5"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = Fraction(1, ticks)
        if pixel_aspect_ratio:
            stream.codec_context.sample_aspect_ratio = pixel_aspect_ratio
        if rotation:
            stream.set_display_rotation(rotation)
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts = times[i] if times else i
            frame.time_base = Fraction(1, ticks)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def make_sound():
    return write_sound


@pytest.fixture(scope="session")
def make_video():
    return write_frames


@pytest.fixture(scope="session")
def silent_film(tmp_path_factory) -> Path:
    """A video without sound."""
    path = tmp_path_factory.mktemp("media") / "silent_film.mp4"
    return write_frames(path, [np.full((64, 64, 3), 10 * i, np.uint8) for i in range(10)])


@pytest.fixture(scope="session")
def tone(tmp_path_factory) -> Path:
    """Two seconds of sound, a stereo wav of 44.1 kHz."""
    path = tmp_path_factory.mktemp("media") / "tone.wav"
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * 44100) / 44100)
    return write_sound(path, np.stack([wave, wave]), 44100, "pcm_s16le")
