"""Portraits: found, aligned as the published ones, cropped, or left alone."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eamm_jax.errors import UserError
from eamm_jax.faces import detection, dlib_finder, framing, mediapipe_finder
from eamm_jax.faces.face import Face
from eamm_jax.faces.framing import frame_face
from eamm_jax.faces.similarity import Similarity, corners
from eamm_jax.faces.source import FramedSource, read_source
from eamm_jax.io.image import read_image, to_uint8
from tests.conftest import ROOT

SIZE = 256

RAW = {"brade2.jpg": "brade2.jpg", "dune_1.png": "dune_1.jpg", "scarlett.jpg": "scarlett.jpg"}
"""Raw photos, and the published crops made of them."""

needs_faces = pytest.mark.skipif(not detection.is_installed(), reason="needs the extra 'faces'")
needs_dlib = pytest.mark.skipif(not dlib_finder.is_installed(), reason="needs the extra 'dlib'")


@pytest.fixture
def astronaut() -> np.ndarray:
    """NASA's portrait of Eileen Collins, in the public domain: 512 x 512."""
    data = pytest.importorskip("skimage.data")
    return data.astronaut()


@pytest.fixture
def saved(tmp_path):
    """Saves a picture and gives its path."""

    def save(image: np.ndarray, name: str = "photo.png", **options) -> Path:
        Image.fromarray(image).save(tmp_path / name, **options)
        return tmp_path / name

    return save


@pytest.fixture
def notices(caplog):
    caplog.set_level(logging.INFO, logger="eamm_jax")
    return caplog


class Finder:
    """Finds what it was told."""

    def __init__(self, *found: Face):
        self.found = list(found)

    def find(self, image):
        return self.found

    def template(self):
        return TEMPLATE


@pytest.fixture
def finding(monkeypatch):
    """Puts an imitation in the place of a finder; the template is an oval of points."""

    def install(*found: Face) -> None:
        monkeypatch.setattr(detection, "is_installed", lambda: True)
        monkeypatch.setattr(detection, "make_finder", lambda: Finder(*found))

    return install


ANGLES = np.linspace(0, 2 * np.pi, 68, endpoint=False)
OVAL = np.stack([0.5 + 0.4 * np.cos(ANGLES), 0.5 + 0.5 * np.sin(ANGLES)], -1).astype(np.float32)


TEMPLATE = 150 * (OVAL - 0.5) + (134, 140)


def face_at(x: float, y: float, width: float) -> Face:
    """An oval face, upright."""
    points = (OVAL - 0.5) * width + (x, y)
    box = (x - width / 2, y - width / 2, x + width / 2, y + width / 2)
    return Face(box, points.astype(np.float32))


# --- Raw photos against the published crops ------------------------------------------------


@pytest.fixture(scope="module")
def published(shared) -> dict[str, FramedSource]:
    """The raw photos as they were published: by dlib, to the published template."""
    template = shared / "media" / "alignment_landmarks.npy"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(detection.VARIABLE, detection.DLIB)
        folder = shared / "media" / "raw_image"
        return {raw: read_source(folder / raw, SIZE, template=template) for raw in RAW}


@needs_dlib
@pytest.mark.parametrize("finder", ["", detection.DLIB])
@pytest.mark.parametrize("raw", RAW)
def test_corners_lie_where_the_published_template_puts_them(
    shared, published, monkeypatch, finder, raw
):
    """Within 4 of 256 pixels, whatever finds the face; the published one was found by dlib."""
    monkeypatch.setenv(detection.VARIABLE, finder)
    ours = read_source(shared / "media" / "raw_image" / raw, SIZE).to_picture
    theirs = published[raw].to_picture
    apart = np.linalg.norm(ours(corners(SIZE)) - theirs(corners(SIZE)), axis=1) / theirs.scale
    assert apart.max() <= 4


@needs_dlib
@pytest.mark.parametrize("raw", RAW)
def test_with_the_published_template_the_crop_is_the_published_one(shared, published, raw):
    """At 45 dB or more, once it is through the same JPEG compression."""
    with Image.open(shared / "media" / "image" / RAW[raw]) as image:
        file = io.BytesIO()
        Image.fromarray(to_uint8(published[raw].crop)).save(
            file, "JPEG", qtables=image.quantization, subsampling="4:2:0"
        )
        expected = np.asarray(image.convert("RGB"), np.float64)
    crop = np.asarray(Image.open(file))
    assert 10 * np.log10(255**2 / np.mean((crop - expected) ** 2)) >= 45


@needs_faces
@pytest.mark.parametrize(
    "name", ["14.png", "21.png", "60.png", "brade2.jpg", "dune_1.jpg", "jake4.png", "scarlett.jpg"]
)
def test_published_crops_are_left_alone(shared, name):
    path = shared / "media" / "image" / name
    portrait = read_source(path, SIZE)
    np.testing.assert_array_equal(portrait.crop, read_image(path, SIZE))
    assert portrait.to_picture == Similarity(1, 0)
    assert portrait.face is not None


# --- What is left alone --------------------------------------------------------------------


def test_the_bundled_portrait_needs_no_finder():
    code = (
        "import sys; from eamm_jax import bundled; from eamm_jax.faces import source;"
        "from eamm_jax.io import image;"
        "portrait = source.read_source(bundled.PORTRAIT, 128);"
        "assert (portrait.crop == image.read_image(bundled.PORTRAIT, 128)).all();"
        "assert not {'dlib', 'ai_edge_litert', 'skimage'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def test_without_a_finder_pictures_are_taken_as_before(saved, rng, monkeypatch, notices):
    monkeypatch.setattr(detection, "is_installed", lambda: False)
    square = saved(rng.integers(0, 256, (90, 90, 3), dtype=np.uint8), "square.png")
    np.testing.assert_array_equal(read_source(square, 64).crop, read_image(square, 64))
    assert not notices.text
    wide = saved(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8), "wide.png")
    portrait = read_source(wide, 64)
    assert "pip install" in notices.text
    np.testing.assert_array_equal(portrait.crop, read_image(wide, 64))


def test_without_a_finder_a_face_cannot_be_chosen(saved, rng, monkeypatch):
    for finder in (dlib_finder, mediapipe_finder):
        monkeypatch.setattr(finder, "packaged_file", lambda *name: None)
    monkeypatch.setattr(mediapipe_finder, "cache_folder", lambda: None)
    with pytest.raises(UserError, match=r"eamm_jax\[faces\]"):
        read_source(saved(rng.integers(0, 256, (90, 90, 3), dtype=np.uint8)), 64, number=1)


def test_when_told_so_nothing_is_cropped(saved, rng, finding):
    finding(face_at(30, 30, 20))
    path = saved(rng.integers(0, 256, (90, 130, 3), dtype=np.uint8))
    portrait = read_source(path, 64, align=False)
    np.testing.assert_array_equal(portrait.crop, read_image(path, 64))
    assert portrait.face is None
    # The middle square is 20 from the left.
    np.testing.assert_allclose(portrait.to_picture(np.array([-0.5, -0.5])), (19.5, -0.5))
    np.testing.assert_allclose(portrait.to_picture(np.array([63.5, 63.5])), (109.5, 89.5))


def test_a_square_without_a_face_is_taken_as_it_is(saved, rng, finding, notices):
    finding()
    path = saved(rng.integers(0, 256, (90, 90, 3), dtype=np.uint8))
    np.testing.assert_array_equal(read_source(path, 64).crop, read_image(path, 64))
    assert "no face" in notices.text


# --- Several faces, or none ----------------------------------------------------------------


def test_the_largest_is_taken_with_a_notice(saved, finding, notices):
    finding(face_at(300, 200, 150), face_at(100, 90, 60))
    path = saved(np.zeros((400, 500, 3), np.uint8))
    assert read_source(path, SIZE).face.width == 150
    assert "shows 2 faces, took the largest" in notices.text
    assert "2 at (100, 90) 60 wide" in notices.text


def test_another_can_be_chosen(saved, finding, notices):
    second = face_at(100, 90, 60)
    finding(face_at(300, 200, 150), second)
    portrait = read_source(saved(np.zeros((400, 500, 3), np.uint8)), SIZE, number=2)
    assert portrait.face is second
    assert not notices.text
    middle = portrait.to_picture(TEMPLATE.mean(axis=0))
    np.testing.assert_allclose(middle, (100, 90), atol=1)


@pytest.mark.parametrize("number", [0, 3])
def test_one_that_is_not_there(saved, finding, number):
    finding(face_at(300, 200, 150), face_at(100, 90, 60))
    with pytest.raises(UserError, match=rf"no face {number}: .*photo.png shows 2 faces"):
        read_source(saved(np.zeros((400, 500, 3), np.uint8)), SIZE, number=number)


def test_no_face_at_all(saved, finding):
    finding()
    path = saved(np.zeros((400, 500, 3), np.uint8))
    with pytest.raises(UserError, match=r"No face.*photo\.png \(500 x 400.*40 pixels wide") as said:
        read_source(path, SIZE)
    assert "\n" not in str(said.value)
    assert "without cropping" in str(said.value)


# --- Real photos -------------------------------------------------------------------


def corner_distance(first: Similarity, second: Similarity) -> float:
    """Largest, of the corners of a crop, in its pixels."""
    apart = first(corners(SIZE)) - second(corners(SIZE))
    return np.linalg.norm(apart, axis=1).max() / first.scale


@needs_faces
def test_two_people_side_by_side(saved, astronaut, notices):
    smaller = np.asarray(Image.fromarray(astronaut).resize((384, 384)))
    smaller = np.pad(smaller, ((128, 0), (0, 0), (0, 0)), "edge")
    path = saved(np.concatenate([smaller, astronaut], axis=1))
    alone = read_source(saved(astronaut, "alone.png"), SIZE)
    largest = read_source(path, SIZE)
    assert "shows 2 faces" in notices.text
    shifted = Similarity(1, 384).after(alone.to_picture)
    assert corner_distance(largest.to_picture, shifted) < 6
    other = read_source(path, SIZE, number=2)
    assert other.face.box[0] < 384
    assert other.to_picture.scale == pytest.approx(0.75 * alone.to_picture.scale, rel=0.05)


@needs_faces
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_photos_that_say_how_they_were_held(saved, astronaut, orientation):
    turns = {3: 2, 6: 1, 8: 3}[orientation]  # counter-clockwise, as the camera stored it
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(np.rot90(astronaut, turns), "held.png", exif=exif)
    upright = read_source(saved(astronaut), SIZE)
    np.testing.assert_array_equal(read_source(path, SIZE).crop, upright.crop)


@needs_faces
def test_a_photo_of_thirty_megapixels(saved, astronaut):
    """A camera's, with a face of 900 pixels; the crop is that of the small photo."""
    # 13 times, in a landscape frame of 6700 x 4480.
    large = Image.fromarray(astronaut[:320]).resize((512 * 14, 320 * 14), Image.Resampling.BICUBIC)
    path = saved(np.asarray(large), "camera.jpg", quality=90)
    with Image.open(path) as image:
        assert image.width * image.height > 30e6
    portrait = read_source(path, SIZE)
    small = read_source(saved(astronaut[:320]), SIZE)
    scaled = framing.resized(14).after(small.to_picture)
    assert corner_distance(portrait.to_picture, scaled) < 6
    assert np.abs(portrait.crop - small.crop).mean() < 0.04


@needs_faces
def test_tiny_faces_are_found_down_to_what_is_said(saved, astronaut):
    """The astronaut's face is 90 pixels wide."""
    half = np.asarray(Image.fromarray(astronaut).resize((240, 240), Image.Resampling.LANCZOS))
    portrait = read_source(saved(half[:200]), SIZE)
    assert 35 < portrait.face.width < 55
    tiny = np.asarray(Image.fromarray(astronaut).resize((60, 60), Image.Resampling.LANCZOS))
    with pytest.raises(UserError, match="40 pixels wide"):
        read_source(saved(np.pad(tiny, ((0, 100), (0, 200), (0, 0)), "edge")), SIZE)


@needs_faces
def test_a_face_at_the_edge_of_its_photo(saved, astronaut):
    """Her hair is cut off; the crop reaches beyond the picture, whose edge goes on."""
    path = saved(astronaut[60:300])
    portrait = read_source(path, SIZE)
    assert portrait.to_picture(corners(SIZE))[:, 1].min() < -10
    np.testing.assert_allclose(portrait.crop[0], portrait.crop[6], atol=0.12)


@needs_faces
def test_a_face_from_too_far_aside_is_said_not_to_be_one(saved, astronaut):
    """Squeezed to a third, as no picture of a profile is at hand."""
    narrow = np.asarray(Image.fromarray(astronaut).resize((150, 512)))
    with pytest.raises(UserError, match="look towards the camera"):
        read_source(saved(narrow), SIZE)


@needs_faces
def test_a_crop_is_upright_whatever_way_the_head_leans(saved, astronaut):
    leaning = Image.fromarray(astronaut).rotate(20, Image.Resampling.BICUBIC, center=(225, 120))
    portrait = read_source(saved(np.asarray(leaning)), SIZE)
    upright = read_source(saved(astronaut, "upright.png"), SIZE)
    turned = portrait.to_picture.degrees - upright.to_picture.degrees
    assert turned == pytest.approx(-20, abs=3)
    finder = detection.make_finder()
    assert frame_face(
        finder.find(to_uint8(portrait.crop))[0].landmarks, finder.template(), SIZE
    ).degrees == pytest.approx(0, abs=3)
