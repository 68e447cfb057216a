"""Estimates against the published poses, and which pose a head is animated in."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eamm_jax import bundled
from eamm_jax.checkpoint import load_networks
from eamm_jax.conversion.published import convert_files
from eamm_jax.errors import UserError
from eamm_jax.faces import detection, dlib_finder, generic_face, idle
from eamm_jax.faces.dlib_finder import DlibFinder
from eamm_jax.faces.face import Face
from eamm_jax.faces.head_pose import (
    Framed,
    HeadPose,
    LandmarkEstimator,
    NetworkEstimator,
    framed,
    video_track,
)
from eamm_jax.faces.pose_geometry import Region, face_region, project
from eamm_jax.faces.tracking import fill_gaps, follow
from eamm_jax.io.video_writer import video_writer

needs_faces = pytest.mark.skipif(not detection.is_installed(), reason="needs the extra 'faces'")
needs_dlib = pytest.mark.skipif(not dlib_finder.is_installed(), reason="needs the extra 'dlib'")

POSE = np.array([8.0, -5.0, 3.0, 4.7e-4, 62.0, 66.0])


@pytest.fixture(scope="module")
def network(shared, tmp_path_factory) -> NetworkEstimator:
    """The published small network, converted."""
    folder = tmp_path_factory.mktemp("head_pose") / "network"
    convert_files({"pose": shared / "reference" / "3ddfa" / "mb05_120x120.pth"}, folder)
    return NetworkEstimator(load_networks(folder, ["head_pose"])[1]["head_pose"])


@pytest.fixture(scope="module")
def portraits(shared) -> tuple[list[np.ndarray], np.ndarray]:
    """All portraits with a published pose, and the poses."""
    poses = sorted((shared / "media" / "pose").glob("*.npy"))
    pictures = [next((shared / "media" / "image").glob(f"{p.stem}.*")) for p in poses]
    images = [np.asarray(Image.open(picture).convert("RGB")) for picture in pictures]
    return images, np.concatenate([np.load(pose) for pose in poses])


def mean_errors(estimator, seen, published) -> np.ndarray:
    """Of yaw, pitch, roll (degrees), scale (a share), tx, ty."""
    wrong = np.abs(np.stack(list(estimator.poses(seen))) - published)[:, :6]
    wrong[:, 3] /= published[:, 3]
    return wrong.mean(axis=0)


@needs_faces
def test_the_network_agrees_with_the_published_poses(network, portraits):
    finder = detection.make_finder()
    seen = [Framed.of(image, finder.find(image)) for image in portraits[0]]
    assert len(seen) >= 7
    wrong = mean_errors(network, seen, portraits[1])
    assert (wrong < [3, 3, 3, 0.06, 4, 4]).all(), wrong


def test_the_network_needs_nobody_to_find_the_face_of_an_aligned_portrait(network, portraits):
    seen = [Framed.of(image, []).taken_as_aligned() for image in portraits[0]]
    wrong = mean_errors(network, seen, portraits[1])
    assert (wrong < [3, 3, 3, 0.06, 4, 4]).all(), wrong


@needs_faces
def test_landmarks_agree_with_the_published_poses(portraits):
    finder = detection.make_finder()
    seen = [Framed.of(image, finder.find(image)) for image in portraits[0]]
    wrong = mean_errors(LandmarkEstimator(), seen, portraits[1])
    assert (wrong < [2, 2, 1, 0.08, 3, 4]).all(), wrong


@needs_dlib
def test_so_do_those_of_dlib(portraits):
    finder = DlibFinder()
    seen = [Framed.of(image, finder.find(image)) for image in portraits[0]]
    wrong = mean_errors(LandmarkEstimator(), seen, portraits[1])
    assert (wrong[:3] < 5).all(), wrong
    assert (wrong[3:] < [0.08, 4, 7]).all(), wrong


def test_many_pictures_are_as_each_alone(network, portraits):
    seen = [Framed.of(image, []).taken_as_aligned() for image in portraits[0]]
    seen[3] = seen[3]._replace(region=None)
    together = list(network.poses(seen))
    assert together[3] is None
    (alone,) = network.poses([seen[5]])
    np.testing.assert_allclose(together[5], alone, rtol=1e-4, atol=1e-3)


# --- Which pose ---------------------------------------------------------------------------


def landmarks_at(x: float, y: float, side: float, pose: np.ndarray = POSE) -> np.ndarray:
    """68 landmarks of the generic face in a pose, inside a box whose region is as given."""
    place = Region(x - side / 2, y - side / 2, side)
    points = np.tile(place.to_picture(project(generic_face.POINTS, pose)).mean(0), (68, 1))
    points[generic_face.LANDMARKS] = place.to_picture(project(generic_face.POINTS, pose))
    return points.astype(np.float32)


class Finder:
    """Finds the face where a picture is brightest, if it is bright anywhere."""

    def __init__(self):
        self.seen: list[tuple[int, int]] = []

    def find(self, image: np.ndarray) -> list[Face]:
        self.seen.append(image.shape[:2])
        if image.max() < 200:
            return []
        y, x = (n.mean() for n in np.nonzero(image[..., 0] > 150))
        side = (image[..., 0] > 150).sum() ** 0.5
        points = landmarks_at(x, y, 4 * side)
        return [Face((x - side, y - side, x + side, y + side), points)]


@pytest.fixture
def finder(monkeypatch) -> Finder:
    finder = Finder()
    monkeypatch.setattr(detection, "is_installed", lambda: True)
    monkeypatch.setattr(detection, "make_finder", lambda: finder)
    return finder


@pytest.fixture
def none_installed(monkeypatch) -> None:
    monkeypatch.setattr(detection, "is_installed", lambda: False)

    def fail():
        raise UserError("finding faces needs LiteRT")

    monkeypatch.setattr(detection, "make_finder", fail)


def spot(x: float, y: float, side: int = 24, width: int = 256, height: int = 256) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    top, left = round(y - side / 2), round(x - side / 2)
    image[top : top + side, left : left + side] = 255
    return image


@pytest.fixture
def notices(caplog):
    caplog.set_level(logging.INFO, "eamm_jax")
    return lambda: " ".join(caplog.messages)


def saved(path: Path, rows: np.ndarray) -> Path:
    np.save(path, rows)
    return path


def test_a_file_wins_and_nobody_looks(tmp_path, none_installed):
    track = np.cumsum(np.ones((5, 7)), axis=0)
    asked = HeadPose(file=saved(tmp_path / "track.npy", track))
    np.testing.assert_array_equal(asked.track(spot(128, 128), 20), track[:, :6])
    still = HeadPose(file=tmp_path / "track.npy", still=True)
    np.testing.assert_array_equal(still.track(spot(128, 128), 20), track[:1, :6])


def test_without_a_file_the_landmarks_tell(finder, notices):
    (pose,) = HeadPose().track(spot(128, 128), 20)
    np.testing.assert_allclose(pose[:3], POSE[:3], atol=0.1)
    assert "head pose by the landmarks: yaw 8.0, pitch -5.0, roll 3.0" in notices()


def test_a_network_comes_before_the_landmarks(finder, notices, network):
    (pose,) = HeadPose().track(spot(128, 128), 20, network)
    assert np.isfinite(pose).all()
    assert "head pose by 3DDFA_V2's network: yaw" in notices()


def test_a_network_sees_aligned_portraits_without_a_finder(
    network, portraits, notices, none_installed
):
    (pose,) = HeadPose().track(portraits[0][0], 20, network)
    assert np.abs(pose[:3] - portraits[1][0, :3]).max() < 6
    assert "taken to be aligned" in notices()


@pytest.mark.parametrize("installed", ["finder", "none_installed"])
def test_else_the_head_is_straight_and_that_is_said(request, notices, installed):
    request.getfixturevalue(installed)
    dark = np.zeros((64, 64, 3), np.uint8)
    pose = HeadPose().track(dark, 20)
    np.testing.assert_array_equal(pose, np.load(bundled.POSE)[:, :6].astype(np.float32))
    assert "no head pose is given" in notices()
    assert "taken to be upright" in notices()
    assert ("no face was found" in notices()) == (installed == "finder")
    assert len(HeadPose(still=True).track(dark, 20)) == 1


def test_motion_is_added_to_the_still_pose(tmp_path, finder):
    track = np.cumsum(np.ones((9, 7)), axis=0)
    motion = saved(tmp_path / "motion.npy", track)
    moved = HeadPose(motion=motion).track(spot(128, 128), 20)
    (still,) = HeadPose().track(spot(128, 128), 20)
    np.testing.assert_allclose(moved - still, (track - track[0])[:, :6], atol=1e-4)
    held = HeadPose(file=saved(tmp_path / "two.npy", track[:2]), motion=motion)
    with pytest.raises(UserError, match="must hold a single one"):
        held.track(spot(128, 128), 20)
    # What comes with the package is a track, and taken by its first pose.
    bundle = HeadPose(file=bundled.POSE, motion=motion).track(spot(128, 128), 20)
    np.testing.assert_allclose(bundle[0], np.load(bundled.POSE)[0, :6], rtol=1e-5)
    assert len(bundle) == 9


def test_idle_motion_is_of_the_seed_and_begins_in_the_still_pose(finder):
    one, two = (HeadPose(idle=1.0).track(spot(128, 128), 60, seed=n) for n in (1, 2))
    (still,) = HeadPose().track(spot(128, 128), 60)
    np.testing.assert_allclose(one[0], still, rtol=1e-6)
    np.testing.assert_allclose(one - still, idle.IdleMotion(1.0, 1).next(60), atol=1e-4)
    assert np.abs(one - two)[30:, :3].max() > 0.5


def test_what_contradicts_itself_is_refused():
    path = Path("x")
    for asked, words in (
        (HeadPose(still=True, idle=1.0), "a still head and idle motion"),
        (HeadPose(still=True, video=path), "a still head and the motion of a video"),
        (HeadPose(motion=path, video=path), "of a track and of a video"),
        (HeadPose(idle=-1.0), "0 or more"),
        (HeadPose(idle=np.nan), "0 or more"),
    ):
        with pytest.raises(UserError, match=words):
            asked.check()
    HeadPose(still=True).check()


# --- Videos -------------------------------------------------------------------------------


def test_poses_are_those_of_the_face_that_is_followed():
    places = [(700 + 20 * n, 500 - 8 * n) for n in range(10)]
    frames = [spot(x, y, 60, 1600, 900) for x, y in places]
    frames[4] = np.zeros_like(frames[4])
    followed = list(framed(follow(Finder(), frames)))
    assert [f.face is None for f in followed] == [n == 4 for n in range(10)]
    poses = [pose for pose in LandmarkEstimator().poses(followed) if pose is not None]
    np.testing.assert_allclose(np.array(poses)[:, :3], np.tile(POSE[:3], (9, 1)), atol=0.6)


def test_the_motion_of_a_video_is_as_long_as_is_needed(tmp_path, finder, notices):
    with video_writer(tmp_path / "v.mp4", 256, 256, 25) as video:
        for n in range(12):
            video.write(spot(128, 128) if n not in (3, 4) else spot(1, 1, 0))
    assert video_track(tmp_path / "v.mp4", LandmarkEstimator(), 100).shape == (12, 7)
    assert "no face was found in 2 of 12 frames" in notices()
    assert "motion of the head in" in notices()
    assert video_track(tmp_path / "v.mp4", LandmarkEstimator(), 6).shape == (6, 7)
    # From half a second before the first frame: it is held.
    early = video_track(tmp_path / "v.mp4", LandmarkEstimator(), 100, Fraction(-1, 2))
    assert len(early) == 24
    np.testing.assert_array_equal(early[:12], np.tile(early[0], (12, 1)))
    HeadPose(video=tmp_path / "v.mp4").track(spot(128, 128), 12, start=Fraction(0))


def test_a_video_without_faces_is_refused(tmp_path, finder):
    with video_writer(tmp_path / "v.mp4", 64, 64, 25) as video:
        video.write(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(UserError, match="No face was found in"):
        video_track(tmp_path / "v.mp4", LandmarkEstimator(), 10)


def test_gaps_are_filled_from_both_sides():
    rows = [np.full(7, value, np.float32) for value in (0, 3, 5)]
    filled = fill_gaps([None, rows[0], None, None, rows[1], rows[2], None])
    np.testing.assert_allclose(filled[:, 0], [0, 0, 1, 2, 3, 5, 5])


def test_the_region_of_a_found_face_is_its_own():
    points = landmarks_at(100, 120, 150)
    seen = Framed.of(spot(10, 10), [Face((0, 0, 1, 1), points)])
    assert seen.region == face_region(points) == seen.taken_as_aligned().region
