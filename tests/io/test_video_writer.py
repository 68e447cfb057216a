"""Videos that are written play in browsers, keep sound and picture together, and are whole."""

import errno
import os
import resource
import shutil
import threading
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from eamm_jax.constants import FRAME_RATE, SAMPLE_RATE
from eamm_jax.errors import UserError
from eamm_jax.io import video_writer as module
from eamm_jax.io.audio import read_audio
from eamm_jax.io.video import read_video
from eamm_jax.io.video_writer import video_writer
from tests.io.test_video import grey, levels, quarters

# --- What the file is -----------------------------------------------------------------------


def moving(n: int, size: int = 64) -> np.ndarray:
    """A bright ball on a dark ground that goes from the left to the right."""
    y, x = np.mgrid[:size, :size]
    at = np.linspace(10, size - 10, n)
    ball = np.exp(-((x - at[:, None, None]) ** 2 + (y - size / 2) ** 2) / 20)
    return (40 + ball[..., None] * [200, 100, 30]).astype(np.uint8)


def streams(path: Path) -> dict[str, dict]:
    with av.open(str(path)) as container:
        return {
            s.type: {
                "codec": s.codec_context.name,
                "seconds": float(s.duration * s.time_base),
                "frames": s.frames,
                "start": s.start_time,
                "format": s.codec_context.format.name,
                "context": s.codec_context,
                "rate": s.average_rate if s.type == "video" else s.rate,
            }
            for s in container.streams
        }


@pytest.fixture(scope="module")
def film(tmp_path_factory, tone) -> tuple[Path, np.ndarray]:
    path = tmp_path_factory.mktemp("video") / "film.mp4"
    frames = moving(40)
    metadata = {"title": "A face", "comment": "synthetic: made by eamm_jax"}
    with video_writer(path, 64, 64, sound=tone, metadata=metadata) as video:
        for frame in frames:
            video.write(frame)
    return path, frames


def test_codecs_that_browsers_play(film):
    path, frames = film
    found = streams(path)
    assert found["video"]["codec"] == "h264"
    assert found["video"]["format"] == "yuv420p"
    assert found["video"]["rate"] == FRAME_RATE
    assert found["video"]["frames"] == len(frames)
    assert found["video"]["start"] == 0
    assert found["audio"]["codec"] == "aac"
    content = path.read_bytes()
    assert 0 < content.find(b"moov") < content.find(b"mdat")


def test_frames_are_a_25th_of_a_second_apart(film):
    with av.open(str(film[0])) as container:
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(40) / 25, atol=1e-9)


def test_pictures_come_back(film):
    path, frames = film
    read = np.stack(list(read_video(path, 64)))
    assert read.shape == frames.shape
    assert np.abs(read.astype(int) - frames).mean() < 3
    ball = np.clip(read[..., 0].astype(float) - 60, 0, None).sum(axis=1)  # above the ground
    centres = ball @ np.arange(64) / ball.sum(axis=1)
    np.testing.assert_allclose(centres, np.linspace(10, 54, 40), atol=0.5)


def test_sound_and_pictures_are_equally_long(film):
    found = streams(film[0])
    assert found["video"]["seconds"] == pytest.approx(40 / 25)
    assert found["audio"]["seconds"] == pytest.approx(40 / 25, abs=1 / FRAME_RATE)


def test_sound_keeps_its_rate_and_channels(film, tone):
    context = streams(film[0])["audio"]["context"]
    assert (context.sample_rate, context.channels) == (44100, 2)
    written, original = read_audio(film[0]), read_audio(tone)
    middle = slice(2000, 40 * 640 - 2000)
    np.testing.assert_allclose(written[middle], original[middle], atol=0.02)


def test_metadata_can_be_read(film):
    with av.open(str(film[0])) as container:
        assert container.metadata["title"] == "A face"
        assert container.metadata["comment"] == "synthetic: made by eamm_jax"


def test_colours_are_tagged_and_come_back_in_other_players(tmp_path):
    # One of them honours the tags; OpenCV leaves the choice to its own FFmpeg.
    colours = np.array(
        [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [200, 150, 120]],
        np.uint8,
    )
    path = tmp_path / "x.mp4"
    with video_writer(path, 64, 64, crf=5) as video:
        for colour in colours:
            video.write(np.broadcast_to(colour, (64, 64, 3)))
    context = streams(path)["video"]["context"]
    assert (context.colorspace, context.color_range) == (6, 1)
    assert (context.color_primaries, context.color_trc) == (1, 13)
    ours = np.array([f[32, 32] for f in read_video(path, 64)], int)
    capture = cv2.VideoCapture(str(path))
    theirs = np.array([capture.read()[1][32, 32, ::-1] for _ in colours], int)
    capture.release()
    for read in (ours, theirs):
        np.testing.assert_allclose(read, colours, atol=4)


def test_a_flash_and_a_click_stay_together(tmp_path, make_sound):
    # A click in the middle of frame 30 of the sound, a white frame in the pictures.
    at = round(30.5 / FRAME_RATE * 48000)
    sound = np.zeros((1, 2 * 48000))
    sound[0, at : at + 96] = np.hanning(96)
    path = make_sound(tmp_path / "click.wav", sound, 48000, "pcm_s16le")
    with video_writer(tmp_path / "x.mp4", 64, 64, sound=path) as video:
        for t in range(50):
            video.write(grey(255 if t == 30 else 16))
    with av.open(str(tmp_path / "x.mp4")) as container:
        flash = max((f.to_ndarray()[:64].mean(), f.time) for f in container.decode(video=0))[1]
    with av.open(str(tmp_path / "x.mp4")) as container:
        click = max(
            (float(np.abs(x).max()), f.time + int(np.abs(x).argmax()) / f.rate)
            for f in container.decode(audio=0)
            for x in [f.to_ndarray()[0]]
        )[1]
    assert flash == pytest.approx(30 / FRAME_RATE)
    assert click == pytest.approx(30.5 / FRAME_RATE, abs=0.005)


@pytest.mark.parametrize("seconds", [0.5, 4.0])
@pytest.mark.parametrize(
    ("rate", "channels", "name", "codec"),
    [
        (16000, 1, "x.wav", "pcm_s16le"),
        (44100, 2, "x.mp3", "libmp3lame"),
        (48000, 6, "x.flac", "flac"),
        (48000, 8, "x.wav", "pcm_s16le"),
        (48000, 16, "x.wav", "pcm_s16le"),
        (11025, 1, "x.wav", "pcm_u8"),
        (192000, 2, "x.wav", "pcm_f32le"),
        (37800, 2, "x.wav", "pcm_s16le"),
    ],
)
def test_sound_is_cut_or_filled_up(tmp_path, make_sound, seconds, rate, channels, name, codec):
    wave = 0.2 * np.sin(2 * np.pi * 300 * np.arange(int(seconds * rate)) / rate)
    sound = make_sound(tmp_path / name, np.stack([wave] * channels), rate, codec)
    with video_writer(tmp_path / "x.mp4", 64, 64, sound=sound) as video:
        for _ in range(47):
            video.write(grey(100))
    found = streams(tmp_path / "x.mp4")
    assert found["video"]["seconds"] == pytest.approx(47 / 25)
    assert found["audio"]["seconds"] == pytest.approx(47 / 25, abs=1 / FRAME_RATE)
    expected_rate = rate if rate in (16000, 44100, 48000, 11025) else 48000
    context = found["audio"]["context"]
    assert (context.sample_rate, context.channels) == (expected_rate, min(channels, 2))
    samples = read_audio(tmp_path / "x.mp4")
    end = int(min(seconds, 47 / 25) * SAMPLE_RATE)
    loud = samples[end // 4 : end // 2]
    assert np.argmax(np.abs(np.fft.rfft(loud))) / len(loud) * SAMPLE_RATE == pytest.approx(
        300, abs=10
    )
    if seconds < 1:
        assert np.abs(samples[end + 800 :]).max() < 0.01


def test_without_sound(tmp_path):
    with video_writer(tmp_path / "x.mp4", 64, 64) as video:
        video.write(grey(100))
    assert set(streams(tmp_path / "x.mp4")) == {"video"}
    assert len(list(read_video(tmp_path / "x.mp4", None))) == 1


@pytest.mark.parametrize(("height", "width"), [(63, 64), (64, 33), (31, 33)])
def test_odd_sizes_grow_by_a_pixel(tmp_path, height, width):
    picture = quarters(height, width)
    with video_writer(tmp_path / "x.mp4", width, height, crf=5) as video:
        video.write(picture)
    (frame,) = read_video(tmp_path / "x.mp4", None)
    assert frame.shape == (height + height % 2, width + width % 2, 3)
    np.testing.assert_allclose(frame[2, 2], [255, 0, 0], atol=6)
    np.testing.assert_allclose(frame[-1, -1], [0, 0, 255], atol=6)


def test_other_rates_can_be_written(tmp_path):
    with video_writer(tmp_path / "x.mp4", 64, 64, frame_rate=30) as video:
        for i in range(30):
            video.write(grey(i))
    assert streams(tmp_path / "x.mp4")["video"]["rate"] == 30
    assert streams(tmp_path / "x.mp4")["video"]["seconds"] == pytest.approx(1)


def test_frames_may_be_changed_after_they_were_written(tmp_path):
    frame = grey(0)
    with video_writer(tmp_path / "x.mp4", 64, 64) as video:
        for i in range(30):
            frame[:] = 8 * i
            video.write(frame)
    read = levels(read_video(tmp_path / "x.mp4", 64))
    assert read == pytest.approx([8 * i for i in range(30)], abs=3)


NAMES = [
    "2024-01-01T12:30:05.mp4",
    "http:x.mp4",
    "-x.mp4",
    "a%03d.mp4",
    "b|c.mp4",
    "Gr\udcfc\udcdfe.mp4",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_a_file(tmp_path, monkeypatch, film, name):
    """Read and written by a relative name: colons make no URL, bytes need not be text."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(film[0], name)
    assert len(list(read_video(name, 64))) == len(film[1])
    assert len(read_audio(name))
    target = f"out {name}"
    with video_writer(target, 64, 64, sound=name, metadata={"title": name}) as video:
        video.write(film[1][0])
    assert len(list(read_video(target, 64))) == 1


# --- What can go wrong --------------------------------------------------------------


def no_threads_left() -> bool:
    return not [t for t in threading.enumerate() if t.name == "video encoder"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), SystemExit(143), ValueError("ours")])
def test_nothing_is_left_when_the_block_fails(tmp_path, tone, failure):
    (tmp_path / "x.mp4").write_text("old")
    with pytest.raises(type(failure)), video_writer(tmp_path / "x.mp4", 64, 64, sound=tone) as v:  # noqa: PT012
        for i in range(40):
            v.write(grey(i))
        raise failure
    assert os.listdir(tmp_path) == ["x.mp4"]
    assert (tmp_path / "x.mp4").read_text() == "old"
    assert no_threads_left()


def test_an_interrupt_during_the_last_frames(tmp_path, tone, monkeypatch):
    join, calls = threading.Thread.join, []

    def interrupted(thread, timeout=None):
        calls.append(thread)
        if len(calls) == 1:
            raise KeyboardInterrupt
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt),
        video_writer(tmp_path / "x.mp4", 64, 64, sound=tone) as v,
    ):
        for i in range(40):
            v.write(grey(i))
    assert len(calls) == 2
    assert not os.listdir(tmp_path)
    assert no_threads_left()


@pytest.mark.parametrize("when", ["add", "finish"])
def test_a_full_disk_is_said_in_words(tmp_path, monkeypatch, when):
    def full(*_args):
        raise av.error.OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.Encoder, when, full)
    with pytest.raises(UserError, match=r"x\.mp4: no space left on device") as error:  # noqa: PT012, SIM117
        with video_writer(tmp_path / "x.mp4", 64, 64) as video:
            for i in range(100):
                video.write(grey(i))
            assert when == "finish", "a failure in the thread must stop the writing"
    assert "\n" not in str(error.value)
    assert not os.listdir(tmp_path)
    assert no_threads_left()


@pytest.fixture
def small_files_only():
    """Makes the operating system refuse to let files grow, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_system_that_takes_no_more(tmp_path, small_files_only):
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    with pytest.raises(UserError) as error, video_writer(tmp_path / "x.mp4", 256, 256) as video:  # noqa: PT012
        for shift in range(60):
            video.write(np.roll(noise, 7 * shift, axis=0))
    assert str(error.value) == f"Cannot write {tmp_path}/x.mp4: file too large; nothing was kept"
    assert not os.listdir(tmp_path)
    assert no_threads_left()


def test_paths_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="there is no folder"):
        video_writer(tmp_path / "none" / "x.mp4", 64, 64).__enter__()
    with pytest.raises(UserError, match="it is a folder"):
        video_writer(tmp_path, 64, 64).__enter__()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match="permission denied"):
        video_writer(tmp_path / "x.mp4", 64, 64).__enter__()
    assert not os.listdir(tmp_path)


def test_a_folder_that_refuses_the_file_when_it_is_opened(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise av.error.PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(UserError, match=r"x\.mp4: permission denied"):
        video_writer(tmp_path / "x.mp4", 64, 64).__enter__()
    assert not os.listdir(tmp_path)


def test_sound_that_cannot_be_read(tmp_path, silent_film):
    for sound, reason in [(tmp_path / "none.wav", "No such sound file"), (silent_film, "no sound")]:
        with pytest.raises(UserError, match=reason):
            video_writer(tmp_path / "x.mp4", 64, 64, sound=sound).__enter__()
    assert not os.listdir(tmp_path)


def test_no_frames_is_a_mistake_of_the_caller(tmp_path):
    with (
        pytest.raises(ValueError, match="at least one frame"),
        video_writer(tmp_path / "x", 64, 64),
    ):
        pass
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "frame", [np.zeros((64, 32, 3), np.uint8), np.zeros((64, 64, 3), np.float32)]
)
def test_frames_of_another_kind_are_refused(tmp_path, frame):
    with video_writer(tmp_path / "x.mp4", 64, 64) as video:
        video.write(grey(0))
        with pytest.raises(ValueError, match=r"expected uint8 of shape \(64, 64, 3\)"):
            video.write(frame)


@pytest.mark.parametrize("with_sound", [False, True])
def test_fragments_play_while_they_grow_and_end_as_the_whole(tmp_path, tone, with_sound):
    frames, growing = moving(200), tmp_path / "growing.mp4"
    sound = tone if with_sound else None
    with video_writer(tmp_path / "whole.mp4", 64, 64, sound=sound, fragments=growing) as video:
        for frame in frames[:150]:
            video.write(frame)
        video.wait()
        shutil.copy(growing, tmp_path / "so far.mp4")
        for frame in frames[150:]:
            video.write(frame)
    whole = np.stack(list(read_video(tmp_path / "whole.mp4", None)))
    so_far = np.stack(list(read_video(tmp_path / "so far.mp4", None)))
    assert 75 <= len(so_far) < 150
    sure = len(so_far) - 4  # later ones may refer to frames to come
    np.testing.assert_array_equal(so_far[:sure], whole[:sure])
    np.testing.assert_array_equal(np.stack(list(read_video(growing, None))), whole)
    if with_sound:
        expected, sound = read_audio(tmp_path / "whole.mp4"), read_audio(growing)
        np.testing.assert_allclose(sound[: len(expected)], expected, atol=1e-4)
        # Where fragments end is not known when they begin: FFmpeg 9 plays the last packet whole.
        assert len(sound) - len(expected) < 1024


def test_fragments_stay_whatever_happens_for_whoever_asked_for_them(tmp_path):
    def fail():
        with video_writer(tmp_path / "a.mp4", 64, 64, fragments=tmp_path / "b.mp4") as video:
            for frame in moving(100):
                video.write(frame)
            video.wait()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["b.mp4"]
