"""One face followed through a video: found again, lost, and cut away from."""

from __future__ import annotations

import numpy as np

from eamm_jax.faces.face import Face
from eamm_jax.faces.tracking import Track, follow, shots, track

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


def middles(found: Track) -> np.ndarray:
    return found.landmarks.mean(axis=1)


def test_a_face_is_followed_near_where_it_was():
    known = {n: [(60 + 2 * n, 80, 40)] for n in range(8)}
    finder = Finder(known)
    found = track(finder, numbered_frames(8))
    np.testing.assert_allclose(middles(found), [(60 + 2 * n, 80) for n in range(8)], atol=1e-4)
    assert (found.missing, found.cuts) == ([], [])
    assert finder.shapes[0] == (HEIGHT, WIDTH)
    assert max(max(shape) for shape in finder.shapes[1:]) < 80  # a part of the frame


def test_the_same_of_two_is_followed_though_the_other_grows():
    known = {n: [(60, 80, 40), (150, 90, 30 + 3 * n)] for n in range(8)}
    found = track(Finder(known), numbered_frames(8))
    np.testing.assert_allclose(middles(found), np.tile((60, 80), (8, 1)), atol=1e-4)


def test_lost_frames_are_interpolated_and_counted():
    known = {n: [(60 + 2 * n, 80 - n, 40)] for n in range(1, 12) if n not in (4, 5, 6, 11)}
    found = track(Finder(known), numbered_frames(12))
    assert found.missing == [0, 4, 5, 6, 11]
    expected = [(60 + 2 * n, 80 - n) for n in range(12)]
    expected[0], expected[11] = expected[1], expected[10]  # held where nothing is known
    np.testing.assert_allclose(middles(found), expected, atol=1e-4)


def test_a_jump_is_a_cut_and_nothing_is_interpolated_across_it():
    known = {n: [(60, 80, 40)] for n in range(5)} | {n: [(180, 90, 40)] for n in range(6, 9)}
    frames = numbered_frames(9)
    frames[5] = 255 - frames[5]  # another scene, in which no face is found
    found = track(Finder(known), frames)
    assert found.missing == [5]
    assert found.cuts == [5, 6]
    np.testing.assert_allclose(middles(found)[5], (60, 80), atol=1e-4)
    jumped = track(
        Finder({n: [(60 + 100 * (n > 3), 80, 40)] for n in range(8)}), numbered_frames(8)
    )
    assert jumped.cuts == [4]


def test_no_face_in_any_frame():
    assert track(Finder({}), numbered_frames(3)) is None


def test_a_frame_that_is_shown_longer_is_looked_at_once():
    frame = numbered_frames(1)[0]
    finder = Finder({0: [(60, 80, 40)]})
    assert len(track(finder, [frame] * 5).landmarks) == 5
    assert len(finder.shapes) == 1


def test_frames_come_one_by_one():
    frames = iter(numbered_frames(3))
    followed = follow(Finder({n: [(60, 80, 40)] for n in range(3)}), frames)
    first = next(followed)
    assert first.frame[0, 0, 0] == 0
    assert first.face.width == 40
    assert len(list(frames)) == 2  # none was read ahead


def test_shots_lie_between_cuts():
    assert shots(10, [4]) == [slice(0, 4), slice(4, 10)]
