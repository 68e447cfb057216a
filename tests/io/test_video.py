"""Videos of any rate, shape and orientation come in as 25 upright frames a second."""

import itertools
import logging
import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from PIL import ExifTags, Image, ImageCms, ImageOps

from eamm_jax.constants import FRAME_RATE, SAMPLE_RATE
from eamm_jax.errors import UserError
from eamm_jax.io.audio import read_audio
from eamm_jax.io.decoding import continuous
from eamm_jax.io.video import Shown, read_video, sample_in_time, timed, video_seconds
from eamm_jax.io.video_writer import video_writer


def grey(value: int, height: int = 64, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def levels(frames) -> list[int]:
    """The grey of each frame's middle."""
    return [int(f[f.shape[0] // 2, f.shape[1] // 2].mean().round()) for f in frames]


def quarters(height: int, width: int) -> np.ndarray:
    """Red, green, blue and white quarters, clockwise from the top left."""
    picture = np.zeros((height, width, 3), np.uint8)
    y, x = height // 2, width // 2
    picture[:y, :x, 0] = picture[:y, x:, 1] = picture[y:, x:, 2] = picture[y:, :x] = 255
    return picture


# --- Sampling in time ----------------------------------------------------------------------


def shown(starts, last):
    stops = [*starts[1:], starts[-1] + last]
    return [Shown(Fraction(a), Fraction(b), i) for i, (a, b) in enumerate(zip(starts, stops))]  # noqa: B905


@given(
    waits=st.lists(st.integers(1, 400), min_size=1, max_size=30),
    origin=st.integers(-1000, 1000),
    rate=st.sampled_from([1, 24, 25, 30, 60]),
)
@settings(max_examples=100, deadline=None)
def test_each_output_shows_what_was_on_at_its_middle(waits, origin, rate):
    starts = [Fraction(origin + sum(waits[:i]), 1000) for i in range(len(waits))]
    frames = list(sample_in_time(shown(starts, Fraction(waits[-1], 1000)), rate))
    seconds = Fraction(sum(waits), 1000)
    for k, frame in enumerate(frames):
        middle = Fraction(origin, 1000) + Fraction(2 * k + 1, 2 * rate)
        expected = max((i for i, s in enumerate(starts) if s <= middle), default=0)
        assert frame == expected
    assert abs(len(frames) - seconds * rate) <= Fraction(1, 2) or len(frames) == 1


@given(n=st.integers(1, 50), jitter=st.lists(st.integers(-15, 15), min_size=50, max_size=50))
@settings(max_examples=50, deadline=None)
def test_rounded_timestamps_at_the_same_rate_change_nothing(n, jitter):
    starts = [Fraction(40 * i + (jitter[i] if i else 0), 1000) for i in range(n)]
    assert list(sample_in_time(shown(starts, Fraction(1, 25)), 25)) == list(range(n))


def test_nothing_gives_nothing():
    assert list(sample_in_time([], 25)) == []


# --- Reading -------------------------------------------------------------------------------


def test_golden_emotion_frames(goldens):
    golden = goldens.load("demo.npz")["in_emotion_frames_u8"]
    for frame, expected in zip(
        read_video(goldens.media("emotion_video"), 256), golden, strict=False
    ):
        np.testing.assert_array_equal(frame, expected)


def test_real_videos(shared, caplog):
    media = shared / "media"
    assert len(list(read_video(media / "emotion_video" / "disgusted.mp4", 256))) == 203
    with caplog.at_level(logging.WARNING):
        sad = list(read_video(media / "emotion_video" / "sad.mp4", 256))
    # The last but one of 111 frames is lost; the one before is held.
    assert len(sad) == 111
    np.testing.assert_array_equal(sad[108], sad[109])
    assert "sad.mp4 is cut short: it announces 157 frames, used the 110" in caplog.text


def test_a_raw_clip_of_30_frames_a_second(shared):
    frames = read_video(shared / "media" / "raw_video" / "M030_sad_3_001.mp4", 64)
    first = list(itertools.islice(frames, 10))
    assert {(f.shape, f.dtype.name) for f in first} == {((64, 64, 3), "uint8")}
    with av.open(str(shared / "media" / "raw_video" / "M030_sad_3_001.mp4")) as container:
        stored = [
            f.to_ndarray(format="rgb24") for f in itertools.islice(container.decode(video=0), 12)
        ]
    middles = [Image.fromarray(f).crop((420, 0, 1500, 1080)) for f in stored]
    small = np.stack(
        [np.asarray(m.resize((64, 64), Image.Resampling.LANCZOS), int) for m in middles]
    )
    differences = [np.abs(small - frame)[:, 4:-4, 4:-4].max(axis=(1, 2, 3)) for frame in first]
    # 25 of 30: every sixth frame is left out.
    assert [int(d.argmin()) for d in differences] == [0, 1, 3, 4, 5, 6, 7, 9, 10, 11]
    assert max(d.min() for d in differences) <= 1


def test_colours_are_rgb_in_the_right_places(tmp_path, make_video):
    picture = quarters(64, 64)
    path = make_video(tmp_path / "x.mp4", [picture] * 3)
    for frame in read_video(path, 64):
        inside = np.abs(frame.astype(int) - picture)[8:24, 8:24]
        assert inside.max() < 8
        np.testing.assert_allclose(frame[10, 10], [255, 0, 0], atol=8)
        np.testing.assert_allclose(frame[10, 50], [0, 255, 0], atol=8)
        np.testing.assert_allclose(frame[50, 50], [0, 0, 255], atol=8)


@pytest.mark.parametrize("rate", [10, 24, 30, 50, 60])
def test_other_rates_keep_the_time(tmp_path, make_video, rate):
    path = make_video(tmp_path / "x.mp4", [grey(2 * i) for i in range(2 * rate)], ticks=rate)
    frames = list(read_video(path, 64))
    assert len(frames) == 2 * FRAME_RATE
    expected = [2 * ((2 * k + 1) * rate // (2 * FRAME_RATE)) for k in range(2 * FRAME_RATE)]
    np.testing.assert_allclose(levels(frames), expected, atol=1)


def test_a_variable_rate(tmp_path, make_video):
    times = [0, 40, 80, 580, 1000, 1020, 1040]  # ms: waits from 20 ms to half a second
    path = make_video(tmp_path / "x.mkv", [grey(30 * i) for i in range(7)], times=times, ticks=1000)
    frames = levels(read_video(path, 64))
    assert frames[:3] == pytest.approx([0, 30, 60], abs=1)
    # 560 to 600 ms: the new frame starts at the middle; 1000 to 1040: likewise.
    assert frames[13:15] == pytest.approx([60, 90], abs=1)
    assert frames[24:26] == pytest.approx([90, 150], abs=1)


def test_streams_without_timestamps(tmp_path, make_video):
    # A raw H.264 stream has no times at all.
    path = make_video(tmp_path / "x.h264", [grey(8 * i) for i in range(20)])
    assert levels(read_video(path, 64)) == pytest.approx([8 * i for i in range(20)], abs=1)


class Stamped:
    """What is used of PyAV's frames and packets."""

    time_base = Fraction(1, 25)
    duration = 1

    def __init__(self, pts: int | None, stream_index: int = 0):
        self.pts = self.dts = pts
        self.stream_index = stream_index


@pytest.mark.parametrize(
    "stamps",
    [
        [None] * 6,
        [0] * 6,
        [7, 8, 9, 10, 11, 12],
        [0, 1, 2, 900_000, 900_001, 900_002],
        [5000, 5001, 5002, 3, 4, 5],
        [50, 51, 52, 48, 49, 50],
        [0, 1, None, 3, None, 5],
        [0, 1, 10_000_000, 3, 4, 5],
    ],
    ids=["missing", "equal", "late", "jump", "reset", "step back", "some missing", "one wrong"],
)
def test_broken_timestamps_do_not_break_the_rhythm(stamps):
    frames = [Stamped(pts) for pts in stamps]
    shown = list(timed(continuous(frames), Fraction(25)))
    np.testing.assert_allclose(np.diff([float(s.start) for s in shown]), 1 / 25)
    assert list(sample_in_time(shown, 25)) == frames


@given(
    jump=st.integers(-(10**6), 10**6).filter(lambda n: not -26 <= n <= 251),
    order=st.permutations([0, 1]),
)
@settings(max_examples=50, deadline=None)
def test_a_jump_in_the_timestamps_moves_sound_and_picture_alike(jump, order):
    """Two recordings joined, whose clocks differ: both streams go on without a gap."""
    packets = [
        Stamped(n + jump * (n >= 40), stream_index=order[stream])
        for n in range(80)
        for stream in range(2)
    ]
    moved = list(continuous(packets))
    for stream in range(2):
        times = np.array([p.pts for p in moved if p.stream_index == stream])
        np.testing.assert_array_equal(np.diff(times), 1)


@pytest.mark.parametrize("pause", [20, 300, 5000])
def test_a_pause_in_the_picture_is_kept_while_the_sound_goes_on(pause):
    picture = [Stamped(n) for n in (0, 1, 1 + pause, 2 + pause)]
    sound = [Stamped(n, stream_index=1) for n in range(0, pause + 10, 5)]
    packets = sorted(picture + sound, key=lambda p: p.pts)
    times = [p.pts for p in continuous(packets) if p.stream_index == 0]
    assert times == [0, 1, 1 + pause, 2 + pause]


def set_display_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Overwrites the matrix in the header of an mp4's video track."""
    content = bytearray(path.read_bytes())
    at = content.find(b"tkhd") + 4 + 40
    a, b, c, d = (n << 16 for n in matrix)
    struct.pack_into(">9i", content, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


ORIENTATIONS = {
    (1, 0, 0, 1): lambda p: p,
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (-1, 0, 0, -1): lambda p: p[::-1, ::-1],
    (0, 1, 1, 0): lambda p: p.swapaxes(0, 1),
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),
    (0, -1, 1, 0): np.rot90,
    (0, -1, -1, 0): lambda p: np.rot90(p.swapaxes(0, 1), 2),
}
"""By the display matrix (a, b, c, d): a stored (x, y) is shown at (a x + c y, b x + d y)."""


@pytest.mark.parametrize("matrix", ORIENTATIONS)
@pytest.mark.parametrize("pixel_aspect_ratio", [None, Fraction(2)])
def test_the_display_matrix_is_applied(tmp_path, make_video, matrix, pixel_aspect_ratio):
    stored = quarters(64, 128)
    path = make_video(tmp_path / "x.mp4", [stored] * 2, pixel_aspect_ratio=pixel_aspect_ratio)
    set_display_matrix(path, matrix)
    wide = stored if pixel_aspect_ratio is None else quarters(64, 256)
    expected = ORIENTATIONS[matrix](wide)
    frame = next(iter(read_video(path, None)))
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).mean() < 5
    square = next(iter(read_video(path, 32)))
    assert square.shape == (32, 32, 3)
    assert np.abs(square.astype(int) - ORIENTATIONS[matrix](quarters(32, 32))).mean() < 12


@pytest.mark.parametrize("order", [["audio", "video"], ["video", "audio"]])
def test_no_last_frame_is_lost_whichever_stream_comes_first(tmp_path, order):
    """Frames that depend on later ones leave the decoder after the last packet."""
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as container:
        streams = {}
        for kind in order:
            if kind == "audio":
                streams[kind] = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
            else:
                streams[kind] = container.add_stream("libx264", rate=25, options={"bf": "3"})
                streams[kind].width = streams[kind].height = 64
                streams[kind].pix_fmt = "yuv420p"
        packets = []
        for n in range(25):
            frame = av.VideoFrame.from_ndarray(grey(10 * n), "rgb24")
            packets += streams["video"].encode(frame)
        tone = np.sin(np.arange(SAMPLE_RATE) / 9, dtype=np.float32)
        sound = av.AudioFrame.from_ndarray(tone[None], "fltp", "mono")
        sound.rate = SAMPLE_RATE
        packets += streams["audio"].encode(sound)
        for packet in [*packets, *streams["video"].encode(None), *streams["audio"].encode(None)]:
            container.mux(packet)
    expected = [10 * n for n in range(25)]
    assert levels(read_video(path, 64)) == pytest.approx(expected, abs=3)
    assert len(read_audio(path)) == pytest.approx(SAMPLE_RATE, abs=2048)


def test_the_square_in_the_middle_is_resized(tmp_path, make_video):
    picture = np.zeros((48, 96, 3), np.uint8)
    picture[:, 24:72] = [255, 0, 0]
    path = make_video(tmp_path / "x.mp4", [picture] * 2)
    frame = next(iter(read_video(path, 24)))
    assert frame.shape == (24, 24, 3)
    np.testing.assert_allclose(frame[:, 2:-2], np.broadcast_to([255, 0, 0], (24, 20, 3)), atol=8)
    assert next(iter(read_video(path, None))).shape == (48, 96, 3)


@pytest.mark.parametrize("ratio", [Fraction(2), Fraction(1, 2), Fraction(64, 45), Fraction(99, 1)])
def test_pixels_that_are_not_square(tmp_path, make_video, ratio):
    """A disc is a disc; a ratio beyond reason is a damaged header."""
    shown = ratio if ratio < 9 else Fraction(1)
    y, x = np.mgrid[:96, :96] - 47.5
    disc = (np.hypot(x * float(max(shown, 1)), y * float(max(1 / shown, 1))) < 40)[..., None]
    stored = np.where(disc, 255, 0).astype(np.uint8).repeat(3, axis=2)
    path = make_video(tmp_path / "x.mp4", [stored] * 2, pixel_aspect_ratio=ratio)
    for size in (None, 96):
        bright = next(iter(read_video(path, size)))[..., 0] > 127
        rows, columns = bright.any(axis=1).sum(), bright.any(axis=0).sum()
        assert rows == pytest.approx(columns, abs=3)
        assert 35 < rows < 90


def write_sizes(path: Path, pictures: list[np.ndarray]) -> Path:
    """Motion JPEG in AVI, whose frames tell their own size."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25, options={"qmin": "1", "qmax": "1"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuvj420p"
        for number, picture in enumerate(pictures):
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.height, encoder.width = picture.shape[:2]
            encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1, 25)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuvj420p")
            for packet in encoder.encode(frame):
                packet.stream, packet.pts, packet.dts = stream, number, number
                packet.time_base = Fraction(1, 25)
                container.mux(packet)
    return path


@pytest.mark.parametrize("later", [(32, 64), (128, 256), (64, 64)])
def test_a_size_that_changes_on_the_way_does_not_change_the_framing(tmp_path, later):
    path = write_sizes(tmp_path / "x.avi", [quarters(64, 128)] * 3 + [quarters(*later)] * 3)
    frames = list(read_video(path, None))
    assert {frame.shape for frame in frames} == {(64, 128, 3)}
    colours = [frame[16, 48] for frame in frames]  # in the upper left quarter of all
    np.testing.assert_allclose(colours, [(255, 0, 0)] * 6, atol=30)


def test_a_file_that_is_cut_short_gives_what_is_there(tmp_path, make_video):
    noise = np.random.default_rng(0).integers(0, 256, (50, 64, 64, 3), np.uint8)
    path = make_video(tmp_path / "x.mkv", list(noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 15 < len(list(read_video(path, 64))) < 35


def test_a_warning_comes_once_for_a_file(tmp_path, make_video, caplog):
    path = make_video(tmp_path / "x.mp4", [grey(9 * n) for n in range(20)], faststart=True)
    path.write_bytes(path.read_bytes()[:-400])
    for _ in range(3):
        list(read_video(path, 64))
    assert caplog.text.count("is cut short: it announces 20 frames") == 1


def test_without_one_good_frame_there_is_one_line(tmp_path, make_video, caplog):
    path = make_video(tmp_path / "x.mp4", [grey(9 * n) for n in range(20)], faststart=True)
    with av.open(str(path)) as container:
        first = min(packet.pos for packet in container.demux(video=0) if packet.size)
    path.write_bytes(path.read_bytes()[:first])
    with pytest.raises(UserError, match="not one frame of it can be decoded"):
        list(read_video(path, 64))
    assert not caplog.text


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_frame_or_two_that_are_announced_too_many_are_no_fault(
    tmp_path, make_video, caplog, missing
):
    path = make_video(tmp_path / "x.mp4", [grey(9 * n) for n in range(20)], faststart=True)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: sorted(p.pos for p in packets)[-missing]])
    list(read_video(path, 64))
    assert ("is cut short: it announces 20 frames" in caplog.text) == (missing == 3)
    assert bool(caplog.text) == (missing == 3)


@pytest.mark.parametrize("first", [-8, -1, 0])
def test_an_edit_list_is_not_a_file_cut_short(tmp_path, make_video, caplog, first):
    """An mp4 whose first frames are hidden, as editors that cut without encoding write them."""
    path = make_video(
        tmp_path / "x.mp4", [grey(9 * n) for n in range(20)], times=list(range(first, 20 + first))
    )
    assert levels(read_video(path, 64)) == pytest.approx([9 * n for n in range(-first, 20)], abs=1)
    assert not caplog.text


def refused(path) -> str:
    with pytest.raises(UserError) as error:
        list(read_video(path, 64))
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_files_that_are_no_video(tmp_path, tone):
    assert "No such video" in refused(tmp_path / "none.mp4")
    (tmp_path / "x.mp4").write_text("not a film\n" * 50)
    assert "it is a text file" in refused(tmp_path / "x.mp4")
    (tmp_path / "y.mp4").write_bytes(bytes(range(256)) * 8)
    assert "not a media file" in refused(tmp_path / "y.mp4")
    with pytest.raises(UserError, match="has no video track"):
        read_video(tone, 64)  # said at once, before the first frame is asked for


@pytest.mark.timeout(20)
def test_pipes_are_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "it is a pipe or a device" in refused(tmp_path / "pipe")


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_photo_is_a_video_of_one_picture_held_as_it_was(tmp_path, orientation):
    pixels = np.kron(np.arange(0, 240, 20).reshape(3, 4, 1), np.ones((16, 16, 3)))
    photo, path = Image.fromarray(pixels.astype(np.uint8)), tmp_path / "x.jpg"
    exif = photo.getexif()
    exif[ExifTags.Base.Orientation] = orientation
    photo.save(path, exif=exif, quality=95)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    (frame,) = read_video(path, None)
    np.testing.assert_allclose(frame.astype(int), upright, atol=8)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tiff"])
def test_a_picture_may_have_a_colour_profile(tmp_path, kind):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / f"x.{kind}"
    Image.fromarray(grey(90, 32, 48)).save(path, icc_profile=profile)
    (frame,) = read_video(path, None)
    np.testing.assert_allclose(frame.astype(int), 90, atol=3)


def test_a_cover_picture_is_no_video(tmp_path, tone):
    path = tmp_path / "x.mp3"
    with av.open(str(tone)) as source, av.open(str(path), "w") as target:
        audio = target.add_stream("libmp3lame", rate=44100)
        cover = target.add_stream("png", rate=1)
        cover.width = cover.height = 32
        cover.pix_fmt = "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        for packet in cover.encode(av.VideoFrame.from_ndarray(grey(9, 32, 32), "rgb24")):
            target.mux(packet)
        for frame in source.decode(audio=0):
            target.mux(audio.encode(frame))
        target.mux(audio.encode(None))
    assert "has no video track" in refused(path)
    assert len(read_audio(path)) == pytest.approx(2 * SAMPLE_RATE, rel=0.05)


def test_a_video_of_which_nothing_can_be_decoded(tmp_path, make_video):
    path = make_video(tmp_path / "x.mp4", [grey(5)] * 5)
    content = bytearray(path.read_bytes())
    start = content.find(b"mdat") + 4
    stop = content.find(b"moov") - 4
    content[start:stop] = bytes(stop - start)
    path.write_bytes(content)
    assert "not one frame of it can be decoded" in refused(path)


def test_a_video_lasts_as_long_as_its_frames_are_shown(tmp_path, rng):
    with video_writer(tmp_path / "one.mp4", 32, 32, 10) as video:
        for _ in range(12):
            video.write(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    assert video_seconds(tmp_path / "one.mp4", 60) == pytest.approx(1.2)
    assert 0.5 < video_seconds(tmp_path / "one.mp4", 0.5) < 0.8  # no more is decoded
