"""Emotion videos: a face followed through its frames, laid on the first, without jitter."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eamm_jax.errors import UserError
from eamm_jax.faces import detection
from eamm_jax.faces.cropping import corners, crop
from eamm_jax.faces.detection import Face
from eamm_jax.faces.emotion_video import (
    VIDEO_POINTS,
    EmotionVideo,
    Track,
    follow,
    places,
    ranges,
    shots,
)
from eamm_jax.faces.framing import frame_face, read_template
from eamm_jax.faces.similarity import Similarity
from eamm_jax.io.video import VideoWriter, read_video

needs_dlib = pytest.mark.skipif(not detection.is_installed(), reason="needs the extra 'faces'")

HEIGHT, WIDTH = 180, 240
ANGLES = np.linspace(0, 2 * np.pi, 68, endpoint=False)
OVAL = np.stack([0.4 * np.cos(ANGLES), 0.5 * np.sin(ANGLES)], axis=-1)
TEMPLATE = 140 * OVAL + (128, 150)


def numbered_frames(count: int) -> list[np.ndarray]:
    """Frames whose every pixel tells their number and where in them it is."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return [
        np.stack([np.full_like(x, number), x, y], axis=-1).astype(np.uint8)
        for number in range(count)
    ]


class Finder:
    """Knows the face of each numbered frame, also when it is given a part of it."""

    name = "imitation"

    def __init__(self, known: dict[int, list[tuple[float, float, float]]]):
        self.known = known
        self.shapes: list[tuple[int, int]] = []

    def find(self, image: np.ndarray) -> list[Face]:
        self.shapes.append(image.shape[:2])
        number, left, top = image[0, 0].tolist()
        found = []
        for x, y, width in self.known.get(number, []):
            x, y = x - left, y - top
            if 0 <= x < image.shape[1] and 0 <= y < image.shape[0]:
                points = (OVAL * width + (x, y)).astype(np.float32)
                box = x - width / 2, y - width / 2, x + width / 2, y + width / 2
                found.append(Face(box, points))
        return sorted(found, key=lambda face: face.area, reverse=True)


def middles(track: Track) -> np.ndarray:
    return track.landmarks.mean(axis=1)


def test_a_face_is_followed_near_where_it_was():
    known = {n: [(60 + 2 * n, 80, 40)] for n in range(8)}
    finder = Finder(known)
    track = follow(finder, numbered_frames(8))
    np.testing.assert_allclose(middles(track), [(60 + 2 * n, 80) for n in range(8)], atol=1e-4)
    assert (track.missing, track.cuts) == ([], [])
    assert finder.shapes[0] == (HEIGHT, WIDTH)
    assert max(max(shape) for shape in finder.shapes[1:]) < 80  # a part of the frame


def test_the_same_of_two_is_followed_though_the_other_grows():
    known = {n: [(60, 80, 40), (150, 90, 30 + 3 * n)] for n in range(8)}
    track = follow(Finder(known), numbered_frames(8))
    np.testing.assert_allclose(middles(track), np.tile((60, 80), (8, 1)), atol=1e-4)


def test_lost_frames_are_interpolated_and_counted():
    known = {n: [(60 + 2 * n, 80 - n, 40)] for n in range(1, 12) if n not in (4, 5, 6, 11)}
    track = follow(Finder(known), numbered_frames(12))
    assert track.missing == [0, 4, 5, 6, 11]
    expected = [(60 + 2 * n, 80 - n) for n in range(12)]
    expected[0], expected[11] = expected[1], expected[10]  # held where nothing is known
    np.testing.assert_allclose(middles(track), expected, atol=1e-4)


def test_a_jump_is_a_cut_and_nothing_is_interpolated_across_it():
    known = {n: [(60, 80, 40)] for n in range(5)} | {n: [(180, 90, 40)] for n in range(6, 9)}
    frames = numbered_frames(9)
    frames[5] = 255 - frames[5]  # another scene, in which no face is found
    track = follow(Finder(known), frames)
    assert track.missing == [5]
    assert track.cuts == [5, 6]
    np.testing.assert_allclose(middles(track)[5], (60, 80), atol=1e-4)
    jumped = follow(
        Finder({n: [(60 + 100 * (n > 3), 80, 40)] for n in range(8)}), numbered_frames(8)
    )
    assert jumped.cuts == [4]


def test_no_face_in_any_frame():
    assert follow(Finder({}), numbered_frames(3)) is None


def test_a_frame_that_is_shown_longer_is_looked_at_once():
    frame = numbered_frames(1)[0]
    finder = Finder({0: [(60, 80, 40)]})
    assert len(follow(finder, [frame] * 5).landmarks) == 5
    assert len(finder.shapes) == 1


def head(t: np.ndarray, noise: np.ndarray | float = 0.0) -> Track:
    """A head that sways and nods in 50 frames, about 2 seconds a sway."""
    turn = (0.9 + 0.02 * np.sin(t / 9)) * np.exp(0.06j * np.sin(t / 8))
    shift = 50 + 12 * np.sin(t / 8) + 1j * (20 + 5 * np.cos(t / 10))
    track = [Similarity(a, b)(TEMPLATE) for a, b in zip(turn, shift, strict=True)]
    return Track(np.stack(track) + noise, [], [])


def test_places_follow_the_head():
    track = head(np.arange(50))
    found = places(track, TEMPLATE, 256)
    for place, landmarks in zip(found, track.landmarks, strict=True):
        off = place(TEMPLATE[VIDEO_POINTS]) - landmarks[VIDEO_POINTS]
        assert np.linalg.norm(off, axis=1).max() < 0.5


def test_the_first_frame_is_framed_as_a_portrait():
    track = Track(np.repeat(head(np.zeros(1)).landmarks, 9, axis=0), [], [])
    place = places(track, TEMPLATE, 128)[0]
    expected = frame_face(track.landmarks[0], TEMPLATE, 128)
    np.testing.assert_allclose(place(corners(128)), expected(corners(128)), atol=1e-6)


def test_jitter_is_removed(rng):
    """All landmarks shaking together by a pixel, as they do when the detector's box moves."""
    t = np.arange(50)
    noise = rng.normal(size=(50, 1, 2))
    still, shaken = (
        np.array([p(corners(256)) for p in places(track, TEMPLATE, 256)])
        for track in (head(t), head(t, noise))
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
    np.testing.assert_allclose(place.turn, 0.9, atol=1e-9)


def test_numbers_in_words():
    assert ranges([3, 7, 8, 9, 12]) == "3, 7-9, 12"
    assert shots(10, [4]) == [slice(0, 4), slice(4, 10)]


# --- Files ---------------------------------------------------------------------------------


def write(path: Path, frames: list[np.ndarray]) -> Path:
    height, width = frames[0].shape[:2]
    with VideoWriter(path, width, height, 25) as video:
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


@needs_dlib
def test_a_video_without_a_face(noise_video, caplog):
    caplog.set_level(logging.INFO, logger="eamm_jax")
    square = noise_video(64, 64)
    np.testing.assert_array_equal(list(EmotionVideo(square, 64)), list(read_video(square, 64)))
    assert "without a face" in caplog.text
    wide = noise_video(64, 96)
    with pytest.raises(UserError, match=r"No face.*96 x 64.*--no_crop"):
        EmotionVideo(wide, 64)
    assert len(list(EmotionVideo(wide, 64, align=False))) == 4


def test_a_video_that_is_none(tmp_path):
    with pytest.raises(UserError, match="No such video"):
        EmotionVideo(tmp_path / "no.mp4", 64)


@needs_dlib
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


@needs_dlib
@pytest.mark.parametrize("emotion", ["disgusted", "happy", "sad"])
def test_published_videos_are_left_alone(shared, emotion):
    path = shared / "media" / "emotion_video" / f"{emotion}.mp4"
    video = EmotionVideo(path, 256, frames=3)
    np.testing.assert_array_equal(
        list(video), [frame for frame, _ in zip(read_video(path, 256), range(3), strict=False)]
    )


@needs_dlib
def test_a_real_video_is_aligned(shared):
    """1080p; landmarks stay within 2 of 256 pixels of the first frame's, and hardly shake."""
    path = shared / "media" / "raw_video" / "M030_sad_3_001.mp4"
    video = EmotionVideo(path, 256, frames=12)
    aligned = list(video)
    assert len(aligned) == 12
    finder = detection.make_finder()
    track = np.stack([finder.find(frame)[0].landmarks[VIDEO_POINTS] for frame in aligned])
    assert np.linalg.norm(track - track[0], axis=-1).mean() < 2.5
    template = read_template(None)[VIDEO_POINTS]
    assert np.linalg.norm(track.mean(axis=1) - template.mean(axis=0), axis=-1).max() < 6
    scale = video.places[0].scale
    path_of_corners = np.array([place(corners(256)) for place in video.places]) / scale
    assert np.linalg.norm(np.diff(path_of_corners, 2, axis=0), axis=-1).mean() < 1
    np.testing.assert_array_equal(
        aligned[0], crop(next(read_video(path, None)), video.places[0], 256)
    )
    assert Image.fromarray(aligned[0]).size == (256, 256)
