"""Emotion videos: a face followed through its frames, laid on the first, without jitter."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eamm_jax.errors import UserError
from eamm_jax.faces import detection
from eamm_jax.faces.emotion_video import VIDEO_POINTS, EmotionVideo, places, ranges
from eamm_jax.faces.framing import frame_face
from eamm_jax.faces.similarity import Similarity, corners, crop
from eamm_jax.faces.tracking import Track
from eamm_jax.io.video import read_video
from eamm_jax.io.video_writer import video_writer

needs_faces = pytest.mark.skipif(not detection.is_installed(), reason="needs the extra 'faces'")

ANGLES = np.linspace(0, 2 * np.pi, 68, endpoint=False)
OVAL = np.stack([0.4 * np.cos(ANGLES), 0.5 * np.sin(ANGLES)], axis=-1)
TEMPLATE = 140 * OVAL + (128, 150)


def head(t: np.ndarray, noise: np.ndarray | float = 0.0) -> Track:
    """A head that sways and nods in 50 frames, about 2 seconds a sway."""
    turn = (0.9 + 0.02 * np.sin(t / 9)) * np.exp(0.06j * np.sin(t / 8))
    shift = 50 + 12 * np.sin(t / 8) + 1j * (20 + 5 * np.cos(t / 10))
    track = [Similarity(a, b)(TEMPLATE) for a, b in zip(turn, shift, strict=True)]
    return Track(np.stack(track) + noise, [], [])


def test_places_follow_the_head():
    moving = head(np.arange(50))
    found = places(moving, TEMPLATE, 256)
    for place, landmarks in zip(found, moving.landmarks, strict=True):
        off = place(TEMPLATE[VIDEO_POINTS]) - landmarks[VIDEO_POINTS]
        assert np.linalg.norm(off, axis=1).max() < 0.5


def test_the_mean_face_is_framed_as_a_source_image():
    still = Track(np.repeat(head(np.zeros(1)).landmarks, 9, axis=0), [], [])
    place = places(still, TEMPLATE, 128)[0]
    expected = frame_face(still.landmarks[0], TEMPLATE, 128)
    np.testing.assert_allclose(place(corners(128)), expected(corners(128)), atol=1e-6)


def test_no_single_frame_decides_where_the_face_is(rng):
    """Landmarks of the first frame are a tenth too large, as in a frame that fades in."""
    landmarks = np.repeat(head(np.zeros(1)).landmarks, 40, axis=0)
    landmarks[0] = 1.1 * (landmarks[0] - landmarks[0].mean(axis=0)) + landmarks[0].mean(axis=0)
    found = places(Track(landmarks, [], []), TEMPLATE, 256)[20]
    expected = frame_face(landmarks[20], TEMPLATE, 256)
    np.testing.assert_allclose(found(corners(256)), expected(corners(256)), atol=1.5)


def test_jitter_is_removed(rng):
    """All landmarks shaking together by a pixel, as they do when the detector's box moves."""
    t = np.arange(50)
    noise = rng.normal(size=(50, 1, 2))
    still, shaken = (
        np.array([p(corners(256)) for p in places(where, TEMPLATE, 256)])
        for where in (head(t), head(t, noise))
    )

    def shake(path):
        return np.linalg.norm(np.diff(path, 2, axis=0), axis=-1).mean()

    raw = np.array([frame_face(x, TEMPLATE, 256)(corners(256)) for x in head(t, noise).landmarks])
    assert shake(shaken - still) < 0.25 * shake(raw - still)


def test_a_cut_is_not_smoothed_over():
    landmarks = np.concatenate([np.tile(TEMPLATE, (9, 1, 1)), np.tile(TEMPLATE + 50, (9, 1, 1))])
    found = places(Track(landmarks, [], [9]), TEMPLATE, 256)
    np.testing.assert_allclose([place.shift for place in found[:9]], 0, atol=1e-6)
    np.testing.assert_allclose([place.shift for place in found[9:]], 50 + 50j, atol=1e-6)


def test_a_single_frame_is_a_video():
    (place,) = places(head(np.zeros(1)), TEMPLATE, 256)
    np.testing.assert_allclose(place.factor, 0.9, atol=1e-9)


def test_numbers_in_words():
    assert ranges([3, 7, 8, 9, 12]) == "3, 7-9, 12"


# --- Files ---------------------------------------------------------------------------------


def write(path: Path, frames: list[np.ndarray]) -> Path:
    height, width = frames[0].shape[:2]
    with video_writer(path, width, height, 25) as video:
        for frame in frames:
            video.write(frame)
    return path


@pytest.fixture
def noise_video(tmp_path, rng):
    def make(height: int, width: int) -> Path:
        frames = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(4)]
        return write(tmp_path / f"{height}x{width}.mp4", frames)

    return make


def test_without_a_finder_videos_are_taken_as_before(noise_video, monkeypatch, caplog):
    monkeypatch.setattr(detection, "is_installed", lambda: False)
    caplog.set_level(logging.INFO, logger="eamm_jax")
    square = noise_video(64, 64)
    np.testing.assert_array_equal(list(EmotionVideo(square, 64)), list(read_video(square, 64)))
    assert not caplog.text
    wide = noise_video(64, 96)
    np.testing.assert_array_equal(list(EmotionVideo(wide, 64)), list(read_video(wide, 64)))
    assert "pip install" in caplog.text


@needs_faces
def test_a_video_without_a_face(noise_video, caplog):
    caplog.set_level(logging.INFO, logger="eamm_jax")
    square = noise_video(64, 64)
    np.testing.assert_array_equal(list(EmotionVideo(square, 64)), list(read_video(square, 64)))
    assert "shows no face" in caplog.text
    wide = noise_video(64, 96)
    with pytest.raises(UserError, match=r"No face.*96 x 64.*without cropping"):
        EmotionVideo(wide, 64)
    assert len(list(EmotionVideo(wide, 64, align=False))) == 4


def test_a_video_that_is_none(tmp_path):
    with pytest.raises(UserError, match="No such video"):
        EmotionVideo(tmp_path / "no.mp4", 64)


@needs_faces
def test_what_is_lost_and_cut_is_said_with_frame_numbers(tmp_path, caplog):
    """Frames 3 and 4 with a hand before the face; from frame 8 on mirrored."""
    data = pytest.importorskip("skimage.data")
    photo = data.astronaut()[:300]
    hidden = photo.copy()
    hidden[60:200, 170:290] = (200, 150, 130)
    mirrored = np.ascontiguousarray(photo[:, ::-1])
    frames = [photo] * 3 + [hidden] * 2 + [photo] * 3 + [mirrored] * 4
    video = EmotionVideo(write(tmp_path / "cut.mp4", frames), 128)
    assert "no face in 2 of its 12 frames (3-4)" in caplog.text
    assert "cuts at frame 8 (0.32 s);" in caplog.text
    aligned = list(video)
    assert len(aligned) == 12
    np.testing.assert_allclose(video.places[3](corners(128)), video.places[0](corners(128)), atol=1)
    assert list(video)[5].shape == (128, 128, 3)  # and again


@needs_faces
@pytest.mark.parametrize("emotion", ["disgusted", "happy", "sad"])
def test_published_videos_are_left_alone(shared, emotion):
    path = shared / "media" / "emotion_video" / f"{emotion}.mp4"
    video = EmotionVideo(path, 256, frames=3)
    np.testing.assert_array_equal(
        list(video), [frame for frame, _ in zip(read_video(path, 256), range(3), strict=False)]
    )


@needs_faces
@pytest.mark.parametrize("black", [0, 1, 15])
def test_a_video_that_fades_in_from_black_is_aligned_like_any(tmp_path, black):
    data = pytest.importorskip("skimage.data")
    photo = data.astronaut()[:320, 64:384]
    frames = [photo * np.float32(min(1, max(0, n - black) / 6)) for n in range(black + 18)]
    faded = EmotionVideo(write(tmp_path / "a.mp4", [f.astype(np.uint8) for f in frames]), 128)
    plain = EmotionVideo(write(tmp_path / "b.mp4", [photo] * 18), 128)
    apart = faded.places[-1](corners(128)) - plain.places[-1](corners(128))
    assert np.abs(apart).max() / plain.places[-1].scale < 2


@needs_faces
def test_a_real_video_is_aligned(shared):
    """1080p; landmarks stay within 2 of 256 pixels of the first frame's, and hardly shake."""
    path = shared / "media" / "raw_video" / "M030_sad_3_001.mp4"
    video = EmotionVideo(path, 256, frames=12)
    aligned = list(video)
    assert len(aligned) == 12
    finder = detection.make_finder()
    found = np.stack([finder.find(frame)[0].landmarks[VIDEO_POINTS] for frame in aligned])
    assert np.linalg.norm(found - found[0], axis=-1).mean() < 2.5
    template = finder.template()[VIDEO_POINTS]
    assert np.linalg.norm(found.mean(axis=1) - template.mean(axis=0), axis=-1).max() < 6
    scale = video.places[0].scale
    path_of_corners = np.array([place(corners(256)) for place in video.places]) / scale
    assert np.linalg.norm(np.diff(path_of_corners, 2, axis=0), axis=-1).mean() < 1
    np.testing.assert_array_equal(
        aligned[0], crop(next(read_video(path, None)), video.places[0], 256)
    )
    assert Image.fromarray(aligned[0]).size == (256, 256)
