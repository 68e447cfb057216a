"""The painting primitives of the synthetic faces: coverage, curves, decals, and the camera."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from data.synthetic import camera, raster
from data.synthetic.camera import Camera, held
from data.synthetic.curves import CURVE_T, Curve, Polar, along, mirrored
from data.synthetic.decal import Decal
from data.synthetic.raster import Patch


def blank(size: int, planes: int = 3) -> Patch:
    """A patch over [-1, 1] x [-1, 1]."""
    line = ((np.arange(size) + 0.5) * (2 / size) - 1).astype(np.float32)
    x, y = np.meshgrid(line, line)
    half = size / 2

    def locate(px: float, py: float) -> tuple[float, float]:
        return (px + 1) * half - 0.5, (py + 1) * half - 0.5

    rgb = np.zeros((planes, size, size), np.float32)
    return Patch(rgb, x, y, half, locate, ((half, 0.0), (0.0, half)))


@settings(deadline=None, max_examples=40)
@given(st.floats(0.15, 0.9), st.floats(-0.05, 0.05), st.floats(-0.05, 0.05))
def test_coverage_of_a_disc_adds_up_to_its_area(radius, cx, cy):
    patch = blank(64)
    cover = patch.inside(raster.norm(patch.x - cx, patch.y - cy) - radius)
    inside_frame = radius + max(abs(cx), abs(cy)) < 0.95
    if inside_frame:
        assert cover.sum() / 32**2 == pytest.approx(np.pi * radius**2, rel=0.02)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.001, 0.2), st.floats(-0.3, 0.3))
def test_slits_thinner_than_a_pixel_keep_their_area(thickness, middle):
    patch = blank(32)
    above = patch.y - (middle - thickness / 2)
    below = patch.y - (middle + thickness / 2)
    cover = patch.between(above, below)
    assert cover.mean() * 2 == pytest.approx(thickness, abs=1e-4)


def test_smoothstep_runs_both_ways():
    x = np.linspace(-1, 2, 31, dtype=np.float32)
    up, down = raster.smoothstep(0, 1, x), raster.smoothstep(1, 0, x)
    np.testing.assert_allclose(up + down, 1, atol=1e-6)
    assert np.all(np.diff(up) >= 0)
    assert up[0] == 0
    assert up[-1] == 1


@settings(deadline=None, max_examples=40)
@given(st.floats(0.3, 1.0), st.floats(0.3, 1.0), st.floats(0, 6.28))
def test_distance_from_an_ellipse_vanishes_on_it_and_has_unit_slope(rx, ry, angle):
    on = np.array([rx * np.cos(angle)]), np.array([ry * np.sin(angle)])
    assert raster.ellipse(*on, rx, ry)[0] == pytest.approx(0, abs=1e-6)
    normal = np.array([np.cos(angle) / rx, np.sin(angle) / ry])
    normal *= 0.01 / np.linalg.norm(normal)
    out = raster.ellipse(on[0] + normal[0], on[1] + normal[1], rx, ry)[0]
    assert out == pytest.approx(0.01, rel=0.15)


def test_painting_on_a_clear_sheet_and_laying_it_over_is_painting():
    rng = np.random.default_rng(0)
    masks = rng.uniform(0, 1, (3, 8, 8)).astype(np.float32)
    colours = rng.uniform(0, 1, (3, 3)).tolist()
    direct, sheet = blank(8), blank(8, planes=4)
    direct.rgb[:] = 0.25
    layered = blank(8)
    layered.rgb[:] = 0.25
    for mask, colour in zip(masks, colours, strict=True):
        direct.over(mask, colour)
        sheet.over(mask, colour)
    layered.overlay(sheet.rgb)
    np.testing.assert_allclose(layered.rgb, direct.rgb, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.floats(-0.9, 0.5), st.floats(0.05, 0.4), st.floats(-0.9, 0.5), st.floats(0.05, 0.4))
def test_a_crop_shows_all_of_its_rectangle(left, width, top, height):
    patch = blank(40)
    right, bottom = left + width, top + height
    part = patch.crop(left, right, top, bottom)
    wanted = (patch.x >= left) & (patch.x <= right) & (patch.y >= top) & (patch.y <= bottom)
    shown = (part.x >= left) & (part.x <= right) & (part.y >= top) & (part.y <= bottom)
    assert wanted.sum() == shown.sum()
    part.rgb[:] = 1
    assert np.all(patch.rgb[0][wanted] == 1)
    nested = part.crop(left, right, top, bottom)
    assert nested.x.shape == part.x.shape


def test_a_crop_out_of_the_picture_is_empty_and_can_be_painted():
    part = blank(16).crop(3, 4, 3, 4)
    assert part.x.size == 0
    part.over(part.inside(part.x), (1, 1, 1))
    part.darken(part.x)


def test_a_curve_is_looked_up_and_its_distance_measured_across_it():
    slope = 1.7
    curve = Curve(slope * CURVE_T + 0.1, unit=1.0)
    patch = blank(32)
    places = along(patch.x)
    np.testing.assert_allclose(curve.height(places), slope * patch.x + 0.1, atol=1e-4)
    expected = (patch.y - slope * patch.x - 0.1) / np.sqrt(1 + slope**2)
    np.testing.assert_allclose(curve.distance(places, patch.y), expected, atol=1e-4)
    assert curve.at(0.3) == pytest.approx(0.61, abs=1e-4)


def test_an_outline_passes_its_points_and_measures_distance():
    half = [(0.0, -0.8), (0.5, -0.6), (0.7, 0.0), (0.5, 0.5), (0.0, 0.7)]
    points = mirrored(half)
    assert len(points) == 8
    outline = Polar(0.0, points)
    x, y = points.astype(np.float32).T
    angle, radius = outline.polar(x, y)
    assert np.abs(outline.distance(outline.places(angle), radius)).max() < 3e-3
    np.testing.assert_allclose(outline.points(angle), points, atol=3e-3)
    # Against the nearest of many points of the outline.
    many = outline.points(np.linspace(-np.pi, np.pi, 4000))
    patch = blank(24)
    angle, radius = outline.polar(patch.x, patch.y)
    got = outline.distance(outline.places(angle), radius)
    grid = np.stack([patch.x, patch.y], -1)[..., None, :]
    nearest = np.linalg.norm(grid - many, axis=-1).min(-1)
    close = nearest < 0.06
    np.testing.assert_allclose(np.abs(got)[close], nearest[close], atol=0.01)


def test_a_circle_is_a_circle():
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    circle = Polar(0.2, np.stack([0.5 * np.sin(angle), 0.2 - 0.5 * np.cos(angle)], -1))
    many = circle.points(np.linspace(-3, 3, 50))
    np.testing.assert_allclose(np.linalg.norm(many - (0, 0.2), axis=1), 0.5, atol=2e-3)


def test_a_decal_is_what_was_painted_and_clear_beyond():
    def paint(patch: Patch) -> None:
        patch.over(patch.inside(raster.norm(patch.x, patch.y) - 0.3), (0.2, 0.5, 0.8))

    patch = blank(64)
    decal = Decal((-0.5, 0.5, -0.5, 0.5), patch.sharpness, paint)
    direct = blank(64)
    paint(direct)
    decal.lay_on(patch)
    assert np.abs(patch.rgb - direct.rgb).mean() < 2e-3
    np.testing.assert_allclose(patch.rgb[:, 32, 32], (0.2, 0.5, 0.8), atol=1e-5)
    assert np.all(patch.rgb[:, :10] == 0)


# The camera.

angles = st.floats(-25, 25)


@settings(deadline=None, max_examples=40)
@given(angles, angles, angles)
def test_rotation_is_the_published_one_with_y_turned_down(yaw, pitch, roll):
    # 3DDFA_V2: R = R_z(roll) R_y(yaw) R_x(pitch) in coordinates with y up, where its
    # rotation about y is by minus the angle.
    up = Rotation.from_euler("xyz", [pitch, -yaw, roll], degrees=True).as_matrix()
    flip = np.diag([1, -1, 1])
    np.testing.assert_allclose(camera.rotation(yaw, pitch, roll), flip @ up @ flip, atol=1e-12)


def test_at_rest_head_coordinates_are_picture_coordinates():
    eye = Camera(camera.Pose()).project(0.25, -0.12, 0.3)
    np.testing.assert_allclose(eye, (0.25, -0.12), atol=1e-12)


def test_turning_moves_the_face_the_published_way():
    nose, ear = (0.0, 0.15, 0.5), (0.55, 0.0, 0.0)

    def moved(point, **pose):
        x, y = Camera(camera.Pose(**pose)).project(*point)
        return x - point[0], y - point[1]

    assert moved(nose, yaw=10)[0] < -0.05  # to picture left
    assert moved(nose, pitch=10)[1] > 0.05  # down
    assert moved(ear, roll=10)[1] < -0.05  # picture right rises: counter-clockwise
    assert moved(nose, tx=camera.REST_TX + 3)[0] == pytest.approx(3 * 1.94 / 128)
    assert moved(nose, ty=camera.REST_TY + 3)[1] == pytest.approx(-3 * 1.94 / 128)
    x, _ = Camera(camera.Pose(scale=camera.REST_SCALE * 1.1)).project(*ear)
    assert x == pytest.approx(0.55 * 1.1)


@settings(deadline=None, max_examples=40)
@given(angles, angles, angles)
def test_a_held_pose_turns_the_face_and_leaves_it_in_its_place(yaw, pitch, roll):
    middle = Camera(held(yaw, pitch, roll)).project(0.0, 0.15, 0.373)
    assert np.hypot(middle[0], middle[1] - 0.15) < 0.12


@settings(deadline=None, max_examples=40)
@given(angles, angles, st.floats(-20, 20), st.floats(0.9, 1.1))
def test_what_a_pixel_sees_projects_to_the_pixel(yaw, pitch, roll, zoom):
    def depth(x, y):
        return 0.42 * np.exp(-((x / 0.46) ** 2) - ((y - 0.15) / 1.1) ** 2)

    seen = Camera(held(yaw, pitch, roll, zoom))
    patch = blank(24)
    x, y = seen.unproject(patch.x, patch.y, depth)
    u, v = seen.project(x, y, depth(x, y))
    face = (np.abs(x) < 0.5) & (np.abs(y) < 0.8)
    assert np.abs(u - patch.x)[face].max() < 0.02
    assert np.abs(v - patch.y)[face].max() < 0.02
    x, y = seen.unproject(patch.x, patch.y, 0.1)
    u, v = seen.project(x, y, np.full_like(x, 0.1))
    np.testing.assert_allclose(u, patch.x, atol=1e-5)
    np.testing.assert_allclose(v, patch.y, atol=1e-5)


def test_published_poses_lie_where_a_held_head_has_them(shared):
    files = [
        *(shared / "media" / "pose").glob("*.npy"),
        *(shared / "media/pose_long").glob("*.npy"),
    ]
    poses = np.concatenate([np.load(f).reshape(-1, 7) for f in files])
    off = []
    for yaw, pitch, roll, scale, tx, ty, _ in poses:
        expected = held(yaw, pitch, roll)
        off.append((tx - expected.tx, ty - expected.ty, scale / camera.REST_SCALE - 1))
    off = np.abs(off)
    # Pixels of the 120x120 region, and relative size.
    assert np.all(off.mean(0) < (1.0, 2.0, 0.03)), off.mean(0)
