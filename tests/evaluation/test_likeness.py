"""Identity drift: colours, alignment, and what it forgives."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy import ndimage
from skimage.color import rgb2lab

from eamm_jax.evaluation import pictures
from tests.evaluation.faces import template

SIZE = 96


@pytest.fixture
def portrait(rng) -> np.ndarray:
    """Smooth spots of colour on skin."""
    spots = ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE, 3)), (8, 8, 0))
    return np.clip([0.8, 0.6, 0.5] + 0.1 * spots / spots.std(), 0, 1)


def moved(picture: np.ndarray, points: np.ndarray, matrix: np.ndarray):
    """A picture and its landmarks after a similarity transform of coordinates."""
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    line = (2 * np.arange(SIZE) + 1) / SIZE - 1
    x, y = np.tensordot(inverse, np.stack([*np.meshgrid(line, line), np.ones((SIZE, SIZE))]), 1)
    at = [((y + 1) * SIZE - 1) / 2, ((x + 1) * SIZE - 1) / 2]
    channels = [
        ndimage.map_coordinates(picture[..., c], at, order=1, mode="nearest") for c in range(3)
    ]
    return np.stack(channels, -1), points @ matrix[:, :2].T + matrix[:, 2]


TURN = np.array([[0.97, -0.12, 0.05], [0.12, 0.97, -0.03]])


def test_rigid_motion_is_no_drift(portrait):
    points = template()
    frame, frame_points = moved(portrait, points, TURN)
    drift = pictures.identity_drift(
        portrait, points, np.stack([portrait, frame]), np.stack([points, frame_points])
    )
    assert drift[0] == pytest.approx(0, abs=1e-9)
    assert drift[1] < 0.5
    unaligned = pictures.identity_drift(portrait, points, frame[None], points[None])
    assert unaligned[0] > 4 * drift[1]


@pytest.mark.parametrize("shift", [(0, 0), (0.7, 0), (-2.5, 0.9), (3, -3)])
def test_the_whole_frame_is_as_good_as_blurred(portrait, shift):
    """Also where the face reaches beyond the frame."""
    points = template()
    frame, frame_points = moved(portrait, points, np.hstack([TURN[:, :2], np.array([shift]).T]))
    region = pictures.compared_region(points, SIZE, SIZE)
    line = (2 * np.arange(SIZE) + 1) / SIZE - 1
    places = np.stack(np.meshgrid(line, line), -1)[region] @ TURN[:, :2].T + shift
    at = ((places[:, ::-1] + 1) * SIZE - 1).T / 2
    blurred = [
        [
            cv2.GaussianBlur(channel, (0, 0), SIZE / 64, borderType=cv2.BORDER_REFLECT)
            for channel in np.moveaxis(picture, -1, 0)
        ]
        for picture in (portrait, frame)
    ]
    expected = np.stack([channel[region] for channel in blurred[0]], -1)
    seen = [ndimage.map_coordinates(c, at, order=1, mode="nearest") for c in blurred[1]]
    drift = np.linalg.norm(rgb2lab(np.stack(seen, -1)) - rgb2lab(expected), axis=-1).mean()
    found = pictures.identity_drift(portrait, points, frame[None], frame_points[None])
    np.testing.assert_allclose(found, drift, rtol=1e-9)


def test_mouth_eyes_brows_and_background_are_excluded(portrait):
    points = template()
    region = pictures.compared_region(points, SIZE, SIZE)
    line = (2 * np.arange(SIZE) + 1) / SIZE - 1
    x, y = np.meshgrid(line, line)

    def at(px, py):
        return region[np.abs(y - py).argmin(axis=0)[0], np.abs(x - px).argmin(axis=1)[0]]

    assert at(-0.35, 0.1)  # a cheek
    assert at(0.35, 0.1)
    assert at(0.0, 0.0)  # the nose
    assert not at(0.0, 0.42)
    assert not at(-0.3, -0.2)
    assert not at(0.3, -0.35)
    assert not at(0.0, 0.65)  # the chin
    assert not at(-0.9, 0.0)
    # What happens well inside the mouth is not seen through the blur either.
    talking = portrait.copy()
    talking[(np.abs(x) < 0.25) & (np.abs(y - 0.42) < 0.06)] = 0
    found = pictures.identity_drift(portrait, points, talking[None], points[None])
    assert found[0] < 0.1


def test_another_skin_colour_is_drift(portrait):
    points = template()
    even = np.full((SIZE, SIZE, 3), [0.8, 0.6, 0.5])
    darker = np.full((SIZE, SIZE, 3), [0.5, 0.35, 0.3])
    found = pictures.identity_drift(even, points, darker[None], points[None])
    expected = np.linalg.norm(rgb2lab(even[0, 0]) - rgb2lab(darker[0, 0]))
    assert found[0] == pytest.approx(expected)
    nobody = pictures.identity_drift(even, points + 5, darker[None], points[None])
    assert nobody[0] == 0
