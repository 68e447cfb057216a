"""A mark cannot be seen, survives what happens to videos, and is not found where there is none."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from skimage.metrics import structural_similarity

from eamm_jax.constants import FRAME_RATE
from eamm_jax.io.video import read_video
from eamm_jax.io.video_writer import video_writer
from eamm_jax.provenance.watermark import PERIOD, Rectangle, Watermark, detect
from tests.provenance.conftest import NUMBER, swaying

PAYLOAD = NUMBER


def marked(frames, payload: int = PAYLOAD) -> list[np.ndarray]:
    mark = Watermark(payload)
    return [mark(frame, number / FRAME_RATE) for number, frame in enumerate(frames)]


def timed(frames, rate: float = FRAME_RATE):
    return ((number / rate, frame) for number, frame in enumerate(frames))


def resized(frames, width: int, height: int) -> list[np.ndarray]:
    size = (width, height)
    return [np.asarray(Image.fromarray(f).resize(size, Image.Resampling.BICUBIC)) for f in frames]


@pytest.fixture(scope="module")
def plain() -> list[np.ndarray]:
    return swaying()


@pytest.fixture(scope="module")
def carrying(plain) -> list[np.ndarray]:
    return marked(plain)


def test_it_cannot_be_seen(plain, carrying):
    for before, after in zip(plain, carrying, strict=True):
        assert 10 * np.log10(255**2 / np.mean((before.astype(float) - after) ** 2)) >= 42
    assert structural_similarity(plain[0], carrying[0], channel_axis=2) >= 0.99


def test_it_is_steady(plain, carrying):
    """From one frame to the next the mark changes by less than the eye can tell in motion."""
    marks = np.stack(carrying).astype(float) - np.stack(plain)
    assert np.sqrt(np.square(np.diff(marks, axis=0)).mean(axis=(1, 2, 3))).max() < 1


@pytest.mark.parametrize("level", [0, 20, 128, 255])
def test_flat_pictures_change_by_one_level_at_most(level):
    flat = np.full((96, 128, 3), level, np.uint8)
    assert np.abs(Watermark(PAYLOAD)(flat, 0.0).astype(int) - flat).max() <= 1


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=3, deadline=None)
def test_any_payload_is_read(plain, payload):
    found = detect(timed(marked(plain[: round(PERIOD * FRAME_RATE)], payload)))
    assert found.payload == payload
    assert found.log10_chance < -6


@pytest.mark.parametrize("start", [0, 7, 19])
def test_any_two_seconds_are_enough(carrying, start):
    assert detect(timed(carrying[start : start + round(PERIOD * FRAME_RATE)])).payload == PAYLOAD


@pytest.mark.parametrize("size", [(96, 96), (192, 192), (300, 200)])
def test_scaling_leaves_it(carrying, size):
    assert detect(timed(resized(carrying, *size))).payload == PAYLOAD


def test_the_size_may_change_on_the_way(carrying):
    frames = [*carrying[:30], *resized(carrying[30:], 96, 96)]
    assert detect(timed(frames)).payload == PAYLOAD


@pytest.mark.parametrize("edge", range(4))
def test_a_crop_leaves_it(carrying, edge):
    cut = [round(0.05 * 128) if edge == k else 0 for k in range(4)]
    left, right, top, bottom = cut
    rest = [frame[top : 128 - bottom, left : 128 - right] for frame in carrying]
    assert detect(timed(rest)).payload == PAYLOAD


def test_a_crop_of_a_sixth_on_all_sides_leaves_it(carrying):
    rest = [frame[20:108, 20:108] for frame in carrying]
    assert detect(timed(rest)).payload == PAYLOAD


@pytest.mark.parametrize(("top", "left"), [(20, 30), (50, 110)], ids=["whole", "cropped"])
def test_a_region_alone_carries_it(plain, top, left):
    """A face in a photo, scaled and cropped with it: around the face the photo stays as it was."""
    region = Rectangle(90, 40, 128, 120)
    photo = np.random.default_rng(0).integers(90, 110, (200, 300, 3), dtype=np.uint8)
    frames = [photo.copy() for _ in plain]
    for frame, face in zip(frames, plain, strict=True):
        frame[40:160, 90:218] = face[:120]
    mark = Watermark(PAYLOAD, region)
    carrying = [mark(frame, number / FRAME_RATE) for number, frame in enumerate(frames)]
    beside = np.ones(photo.shape[:2], bool)
    beside[40:160, 90:218] = False
    assert all((frame == photo)[beside].all() for frame in carrying)
    width, height = round((300 - left) * 7 / 9), round((200 - top) * 7 / 9)
    found = detect(timed(resized([frame[top:, left:] for frame in carrying], width, height)))
    assert found.payload == PAYLOAD
    place = np.array([90 - left, 36 - top, 128, 128]) * 7 / 9
    np.testing.assert_allclose(found.place, place, atol=3)


def test_a_frame_is_marked_in_place(plain):
    frame = plain[0].copy()
    expected = Watermark(PAYLOAD)(frame, 0.0)
    np.testing.assert_array_equal(frame, plain[0])
    assert Watermark(PAYLOAD)(frame, 0.0, frame) is frame
    np.testing.assert_array_equal(frame, expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: 1.2 * x,
        lambda x: 0.8 * x,
        lambda x: 128 + 1.2 * (x - 128),
        lambda x: 255 * (x / 255) ** 1.2,
        lambda x: ndimage.gaussian_filter(x, (0.7, 0.7, 0)),
        lambda x: x + np.random.default_rng(int(x.sum())).normal(0, 5, x.shape),
    ],
    ids=["brighter", "darker", "contrast", "gamma", "blur", "noise"],
)
def test_light_and_blur_leave_it(carrying, change):
    frames = [np.clip(change(frame.astype(float)), 0, 255).astype(np.uint8) for frame in carrying]
    assert detect(timed(frames)).payload == PAYLOAD


def test_encoding_leaves_it(tmp_path, carrying):
    with video_writer(tmp_path / "x.mp4", 128, 128, crf=23) as video:
        for frame in carrying:
            video.write(frame)
    assert detect(timed(read_video(tmp_path / "x.mp4", None))).payload == PAYLOAD


def test_another_frame_rate_leaves_it(carrying):
    frames = [carrying[int(number * FRAME_RATE / 30)] for number in range(80)]
    assert detect(timed(frames, 30)).payload == PAYLOAD


def test_wide_and_large_pictures_carry_it(plain):
    """Strips of a large picture fit together: the mark of the whole is smooth."""
    frames = resized(plain[: round(PERIOD * FRAME_RATE)], 400, 300)
    carrying = marked(frames)
    assert detect(timed(carrying)).payload == PAYLOAD
    mark = (carrying[0].astype(float) - frames[0])[..., 1]
    rows = np.abs(np.diff(mark, axis=0)).mean(axis=1)
    assert rows[127] < 2 * np.median(rows)  # where two strips meet


def test_no_mark_is_found_where_there_is_none(plain, rng):
    assert detect(timed(plain)) is None
    noise = rng.integers(0, 256, (60, 2, 400, 3), dtype=np.uint8)
    assert detect(timed(noise)) is None
    still = itertools.repeat(plain[0], 60)
    assert detect(timed(still)) is None
    assert detect(timed([np.zeros((64, 64, 3), np.uint8)] * 60)) is None


def test_another_rhythm_is_no_mark(plain):
    """A pattern that stands still, or swings at another pace, is not ours."""
    mark = Watermark(PAYLOAD)
    assert detect(timed([mark(frame, 0.0) for frame in plain])) is None


def test_a_single_picture_tells_nothing(carrying):
    assert detect(timed(carrying[:1])) is None
    assert detect(timed([])) is None


@pytest.mark.parametrize("payload", [-1, 2**32])
def test_payloads_have_32_bits(payload):
    with pytest.raises(ValueError, match="32 bits"):
        Watermark(payload)
