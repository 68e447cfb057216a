"""Sound and picture of one file meet at their presentation times, whatever the file looks like."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from eamm_jax.constants import FRAME_RATE, SAMPLE_RATE
from eamm_jax.errors import UserError
from eamm_jax.io.audio import read_audio, read_speech
from eamm_jax.io.decoding import start_time
from eamm_jax.io.video import read_video
from eamm_jax.io.video_writer import video_writer

RATE = 16_000
LENGTH = 0.12
"""Seconds of a flash and of the beep with it."""

CONTAINERS = {
    "mp4": ("libx264", "aac"),
    "mov": ("libx264", "aac"),
    "mkv": ("libx264", "pcm_s16le"),
    "ts": ("libx264", "mp2"),
    "avi": ("mpeg4", "pcm_s16le"),
}


def write_film(
    path: Path, events: list[float], picture: list[tuple[float, float]], sound: list
) -> Path:
    """A dark, silent film that flashes and beeps at the same times.

    Args:
        path: the file; its ending says the container.
        events: seconds at which it does.
        picture: spans of seconds that have frames.
        sound: spans of seconds that have sound.
    """
    video_codec, audio_codec = CONTAINERS[path.suffix[1:]]
    packets = []
    with av.open(str(path), "w") as container:
        video = container.add_stream(video_codec, rate=25, options={"bf": "0"})
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        audio = container.add_stream(audio_codec, rate=RATE, layout="mono")

        def is_on(time: np.ndarray) -> np.ndarray:
            return np.any([(time >= e) & (time < e + LENGTH) for e in events], axis=0)

        for start, stop in picture:
            for n in range(round(start * 25), round(stop * 25)):
                level = 250 if is_on(np.array((n + 0.5) / 25)) else 5
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), level, np.uint8), "rgb24")
                frame.pts, frame.time_base = n, Fraction(1, 25)
                packets += video.encode(frame)
        packets += video.encode(None)
        for start, stop in sound:
            time = np.arange(round(start * RATE), round(stop * RATE)) / RATE
            samples = np.where(is_on(time), 0.5 * np.sin(2 * np.pi * 500 * time), 0)
            for first in range(0, len(samples), 1024):
                block = (samples[None, first : first + 1024] * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(block, "s16", "mono")
                frame.rate, frame.time_base = RATE, Fraction(1, RATE)
                frame.pts = round(start * RATE) + first
                packets += audio.encode(frame)
        packets += audio.encode(None)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            container.mux(packet)
    return path


def flashes(frames) -> list[float]:
    """Seconds at which a video begins to flash."""
    bright = np.array([frame.mean() > 127 for frame in frames]).astype(int)
    return (np.nonzero(np.diff(bright, prepend=0) == 1)[0] / FRAME_RATE).tolist()


def beeps(samples: np.ndarray) -> list[float]:
    """Seconds at which a sound begins to beep."""
    loud = np.convolve(np.abs(samples) > 0.1, np.ones(200), "same") > 50
    return (np.nonzero(np.diff(loud.astype(int), prepend=0) == 1)[0] / SAMPLE_RATE).tolist()


FILMS = {
    "together": ([(0, 3)], [(0, 3)], [0.6, 2.2]),
    "the sound later": ([(0, 3)], [(0.5, 3)], [0.8, 2.2]),
    "the picture later": ([(0.5, 3)], [(0, 3)], [0.8, 2.2]),
    "a gap in the sound": ([(0, 4)], [(0, 1.2), (1.8, 4)], [0.6, 2.2, 3.2]),
    "two gaps in the sound": ([(0, 4)], [(0, 1.2), (1.5, 2), (2.7, 4)], [0.6, 3.2]),
    "a gap in the picture": ([(0, 1.2), (2, 4)], [(0, 4)], [0.6, 2.2, 3.2]),
    "a long pause in the picture": ([(0, 1.2), (14, 16)], [(0, 16)], [0.6, 15.2]),
    "a long pause in the sound": ([(0, 16)], [(0, 1.2), (14, 16)], [0.6, 15.2]),
}


def films_of_all_kinds():
    for name in FILMS:
        for container in CONTAINERS:
            # An avi has no timestamps: each stream begins at once and knows no gaps. Long pauses
            # take long to write; of the containers one has an index, the other has none.
            if container in (("mp4", "ts") if "long" in name else CONTAINERS) and (
                container != "avi" or name == "together"
            ):
                yield pytest.param(name, container, id=f"{name}, {container}")


@pytest.mark.parametrize(("name", "container"), list(films_of_all_kinds()))
def test_sound_and_picture_meet(tmp_path, name, container):
    picture, sound, events = FILMS[name]
    path = write_film(tmp_path / f"x.{container}", events, picture, sound)
    # The sound on the picture's clock, and the picture on the sound's.
    for seen, heard in (
        (read_video(path, None), read_audio(path, start_time(path, "video"))),
        (read_video(path, None, start=start_time(path, "audio")), read_audio(path)),
    ):
        seen_at, heard_at = flashes(seen), beeps(heard)
        assert len(seen_at) == len(heard_at) == len(events)
        np.testing.assert_allclose(seen_at, heard_at, atol=0.05)
        np.testing.assert_allclose(np.diff(heard_at), np.diff(events), atol=0.05)


@pytest.mark.parametrize("name", ["the sound later", "two gaps in the sound"])
def test_the_sound_of_a_video_that_is_written_is_what_was_read(tmp_path, name):
    picture, sound, events = FILMS[name]
    path = write_film(tmp_path / "x.mkv", events, picture, sound)
    samples = read_speech(path)
    with video_writer(tmp_path / "y.mp4", 32, 32, sound=path) as video:
        for _ in range(round(len(samples) / SAMPLE_RATE * FRAME_RATE)):
            video.write(np.zeros((32, 32, 3), np.uint8))
    np.testing.assert_allclose(beeps(read_audio(tmp_path / "y.mp4")), beeps(samples), atol=0.02)


UNKNOWN = {b"mp4a": b"apac", b"esds": b"dapa", b"avc1": b"zzz1", b"avcC": b"zzzC"}


@pytest.mark.parametrize("kind", ["audio", "video"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_codec_that_nobody_knows_is_not_chosen(tmp_path, kind, place):
    """As phones record a second track of sound; the better one by its header is unknown."""
    path = tmp_path / "x.mov"
    layouts = ["mono", "mono"]
    layouts[place] = "stereo"
    with av.open(str(path), "w") as container:
        if kind == "audio":
            streams = [container.add_stream("aac", rate=48_000, layout=name) for name in layouts]
        else:
            streams = [container.add_stream("libx264", rate=25) for _ in layouts]
            for number, stream in enumerate(streams):
                stream.width = stream.height = 64 if number == place else 32
                stream.pix_fmt = "yuv420p"
        streams[place].disposition = av.stream.Disposition.default
        container.start_encoding()
        for stream, layout in zip(streams, layouts, strict=True):
            if kind == "audio":
                wave = 0.5 * np.sin(np.arange(48_000) / 20, dtype=np.float32)
                channels = stream.layout.nb_channels
                frame = av.AudioFrame.from_ndarray(np.tile(wave, (channels, 1)), "fltp", layout)
                frame.rate = 48_000
            else:
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 200, np.uint8), "rgb24")
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
    head, *tracks = path.read_bytes().split(b"trak")
    # Of one stream, then of both.
    for number in (place, 1 - place):
        for known, unknown in UNKNOWN.items():
            tracks[number] = tracks[number].replace(known, unknown)
        path.write_bytes(b"trak".join([head, *tracks]))
        if number != place:
            with pytest.raises(UserError, match="its codec is not known; convert it"):
                read_audio(path) if kind == "audio" else read_video(path, None)
        elif kind == "audio":
            assert np.abs(read_audio(path)).max() > 0.4
        else:
            assert next(read_video(path, None)).shape == (32, 32, 3)


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_what_cannot_be_decoded_is_not_chosen(tmp_path, kind):
    """Of two streams the better one by its header is damaged from beginning to end."""
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as container:
        if kind == "audio":
            streams = [container.add_stream("aac", rate=48_000, layout="stereo") for _ in range(2)]
            wave = 0.5 * np.sin(np.arange(48_000) / 20, dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(np.tile(wave, (2, 1)), "fltp", "stereo")
            frame.rate = 48_000
        else:
            streams = [container.add_stream("mjpeg", rate=25) for _ in range(2)]
            for stream, side in zip(streams, (64, 32), strict=True):
                stream.width, stream.height, stream.pix_fmt = side, side, "yuvj420p"
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 200, np.uint8), "rgb24")
        streams[0].disposition = av.stream.Disposition.default
        container.start_encoding()
        for packet in [*streams[0].encode(frame), *streams[0].encode(None)]:
            broken = av.Packet(b"\x55" * packet.size)
            broken.stream, broken.time_base = streams[0], packet.time_base
            broken.pts, broken.dts = packet.pts, packet.dts
            container.mux(broken)
        for packet in [*streams[1].encode(frame), *streams[1].encode(None)]:
            container.mux(packet)
    if kind == "audio":
        assert np.abs(read_audio(path)).max() > 0.4
    else:
        assert next(read_video(path, None)).shape == (32, 32, 3)
