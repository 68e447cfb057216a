"""Pictures of every mode and orientation come out as upright RGB; files that are none do not."""

import contextlib
import logging
import os

import numpy as np
import pytest
from PIL import Image, ImageDraw

from eamm_jax.errors import UserError
from eamm_jax.io import image as module
from eamm_jax.io.image import PngSequence, fit_square, read_image, tile, to_uint8, write_png

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners(width: int = 32, height: int = 32) -> Image.Image:
    """Red, green, blue and white quarters, clockwise from the top left."""
    picture = Image.new("RGB", (width, height), RED)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((width // 2, 0, width, height // 2 - 1), fill=GREEN)
    draw.rectangle((width // 2, height // 2, width, height), fill=BLUE)
    draw.rectangle((0, height // 2, width // 2 - 1, height), fill=WHITE)
    return picture


def corner_colours(image: np.ndarray) -> list[tuple[int, ...]]:
    pixels = np.round(image * 255).astype(int)
    return [tuple(int(c) for c in pixels[y, x]) for y, x in [(1, 1), (1, -2), (-2, -2), (-2, 1)]]


def test_pixels_that_fit_are_kept_exactly(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    for size in (48, None):
        image = read_image(tmp_path / "x.png", size)
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image, pixels.astype(np.float32) / 255)


def test_golden_portrait_pixels(goldens):
    image = read_image(goldens.media("source_image"), 256)
    golden = goldens.load("demo.npz")["in_source_u8"]
    np.testing.assert_array_equal(np.round(image * 255), golden)


def test_real_pictures(shared):
    for path in (shared / "media").glob("*image/*"):
        image = read_image(path, 128)
        assert image.shape == (128, 128, 3)
        # Faces: red above blue. A swapped channel order would turn this round.
        assert image[32:96, 32:96, 0].mean() > image[32:96, 32:96, 2].mean()


@pytest.mark.parametrize("extension", ["png", "bmp", "webp", "gif", "tiff", "jpg"])
def test_formats_are_rgb(tmp_path, extension):
    corners().save(tmp_path / f"x.{extension}", lossless=True)  # only webp has the choice
    colours = corner_colours(read_image(tmp_path / f"x.{extension}", None))
    expected = [RED, GREEN, BLUE, WHITE]
    np.testing.assert_allclose(colours, expected, atol=4 if extension == "jpg" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path, orientation):
    # What a camera stores for an upright scene: the inverse of what viewers do.
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = corners(32, 48)
    if orientation in inverse:
        stored = stored.transpose(inverse[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    image = read_image(tmp_path / "x.png", None)
    assert image.shape == (48, 32, 3)
    assert corner_colours(image) == [RED, GREEN, BLUE, WHITE]


def test_grey_pictures_have_three_equal_channels(tmp_path):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for name, mode in [("L", "L"), ("one", "1")]:
        Image.fromarray(ramp).convert(mode).save(tmp_path / f"{name}.png")
    grey = read_image(tmp_path / "L.png", None)
    np.testing.assert_array_equal(grey, np.repeat(ramp[..., None], 3, axis=2) / np.float32(255))
    assert set(np.unique(read_image(tmp_path / "one.png", None))) == {0, 1}


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for name in ("x.png", "x.tiff"):
        Image.fromarray(ramp).save(tmp_path / name)
        image = read_image(tmp_path / name, None)
        np.testing.assert_allclose(image[..., 0], ramp / 65535, atol=0.5 / 255 + 1e-6)


def test_transparent_parts_are_white(tmp_path):
    half = Image.new("RGBA", (4, 4), (*RED, 128))
    half.putpixel((0, 0), (0, 0, 0, 0))
    half.save(tmp_path / "rgba.png")
    image = read_image(tmp_path / "rgba.png", None)
    np.testing.assert_array_equal(image[0, 0], 1)
    np.testing.assert_allclose(image[2, 2], [1, 127 / 255, 127 / 255], atol=1e-6)
    Image.new("LA", (4, 4), (0, 0)).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png", None), 1)
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([*RED, *BLUE])
    palette.putpixel((0, 0), 0)
    palette.save(tmp_path / "p.png", transparency=0)
    image = read_image(tmp_path / "p.png", None)
    np.testing.assert_array_equal(image[0, 0], 1)
    np.testing.assert_array_equal(image[1, 1], [0, 0, 1])


def test_palettes_and_print_colours(tmp_path):
    corners().quantize(8).save(tmp_path / "p.png")
    assert corner_colours(read_image(tmp_path / "p.png", None)) == [RED, GREEN, BLUE, WHITE]
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=95)
    colour = read_image(tmp_path / "cmyk.jpg", None)[8, 8]
    np.testing.assert_allclose(colour, [1, 0, 0], atol=0.03)


def test_the_middle_of_a_wide_picture_is_used_and_said(tmp_path, caplog):
    picture = Image.new("RGB", (60, 20), RED)
    picture.paste(Image.new("RGB", (20, 20), BLUE), (20, 0))
    picture.save(tmp_path / "x.png")
    with caplog.at_level(logging.INFO, logger=module.__name__):
        image = read_image(tmp_path / "x.png", 20)
    np.testing.assert_array_equal(image, np.broadcast_to(np.float32([0, 0, 1]), (20, 20, 3)))
    assert "x.png is 60 x 20 pixels: used the square in its middle" in caplog.text
    assert read_image(tmp_path / "x.png", None).shape == (20, 60, 3)


def test_resizing_is_antialiased_and_centred():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    small = np.asarray(fit_square(Image.fromarray(stripes), 64))
    np.testing.assert_allclose(small[8:-8, 8:-8], 127.5, atol=2)  # no moire
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3))
    small = np.asarray(fit_square(Image.fromarray(np.ascontiguousarray(ramp)), 64))
    np.testing.assert_allclose(small[30, 4:-4, 0], np.arange(64)[4:-4] * 4 + 1.5, atol=1)


def test_pixels_that_are_not_square_are_shown_as_meant():
    # Stored 40 x 40 with pixels twice as wide as high: shown 80 x 40, a square of 20 columns.
    stored = np.zeros((40, 40, 3), np.uint8)
    stored[:, 7:33] = 255  # with room for the filter
    np.testing.assert_array_equal(fit_square(Image.fromarray(stored), 40, 2.0), 255)
    stored = np.ascontiguousarray(stored.swapaxes(0, 1))  # and the same lying on its side
    np.testing.assert_array_equal(fit_square(Image.fromarray(stored), 40, 0.5), 255)
    middle = np.asarray(fit_square(Image.fromarray(stored), 40, 1.0))
    assert middle[2, 20, 0] == 0


# --- Bad input -----------------------------------------------------------------------------


def refused(path) -> str:
    with pytest.raises(UserError) as error:
        read_image(path, 64)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_text_file_named_png(tmp_path):
    (tmp_path / "x.png").write_text("not a picture\n" * 10)
    assert "it is not an image file that can be decoded" in refused(tmp_path / "x.png")


def test_missing_and_empty_files(tmp_path):
    assert "No such picture" in refused(tmp_path / "none.png")
    (tmp_path / "x.png").touch()
    assert "empty" in refused(tmp_path / "x.png")


@pytest.mark.parametrize("extension", ["png", "jpg", "gif", "tiff", "webp", "bmp"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_files_that_are_cut_short(tmp_path, extension, kept):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = tmp_path / f"x.{extension}"
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    assert "Cannot read the picture" in refused(path)


@pytest.mark.parametrize("seed", range(20))
def test_damaged_files_are_refused_or_read_but_never_a_traceback(tmp_path, seed):
    rng = np.random.default_rng(seed)
    path = tmp_path / f"x.{['png', 'jpg', 'gif', 'tiff', 'webp'][seed % 5]}"
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    for at in rng.integers(4, len(content), 30):
        content[at] = rng.integers(256)
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        assert read_image(path, 16).shape == (16, 16, 3)


@pytest.mark.parametrize("factor", [1, 3])
def test_decompression_bombs(tmp_path, monkeypatch, factor):
    # Pillow warns above its limit and refuses above twice the limit; to us both are too large.
    Image.new("RGB", (100, 100)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100 * 100 // factor - 1)
    assert "million pixels; make it smaller" in refused(tmp_path / "x.png")


def test_floating_point_pictures(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "x.tiff")
    assert "floating-point" in refused(tmp_path / "x.tiff")


# --- Writing -------------------------------------------------------------------------------


def test_to_uint8_rounds_and_clips():
    values = np.array([-0.1, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.2])
    np.testing.assert_array_equal(to_uint8(values), [0, 0, 0, 1, 255, 255])


def test_png_round_trip(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    write_png(tmp_path / "a.png", pixels)
    write_png(tmp_path / "b.png", pixels.astype(np.float32) / 255)
    for name in ("a.png", "b.png"):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / name)), pixels)
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]


def test_png_sequence(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3), np.uint8)
    with PngSequence(tmp_path / "frames") as sequence:
        for frame in frames:
            sequence.write(frame)
        assert not (tmp_path / "frames").exists()
    names = sorted(os.listdir(tmp_path / "frames"))
    assert names[0] == "000000.png"
    assert names[10] == "000010.png"
    for name, frame in zip(names, frames, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "frames" / name)), frame)


def test_png_sequence_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), PngSequence(tmp_path / "frames") as sequence:  # noqa: PT012
        sequence.write(np.zeros((8, 8, 3), np.uint8))
        raise KeyboardInterrupt
    assert not os.listdir(tmp_path)


def test_png_sequence_keeps_what_is_there(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(UserError, match="not empty"), PngSequence(tmp_path):
        pytest.fail("the block must not start")


def test_a_contact_sheet_has_its_pictures_in_rows(rng):
    pictures = list(rng.integers(0, 255, (5, 4, 6, 3), dtype=np.uint8))
    sheet = tile(pictures, columns=3)
    assert sheet.shape == (8, 18, 3)
    np.testing.assert_array_equal(sheet[:4, 6:12], pictures[1])
    np.testing.assert_array_equal(sheet[4:, :6], pictures[3])
    assert (sheet[4:, 12:] == 255).all()
    assert tile(pictures[:1]).shape == (4, 6, 3)
    height, width, _ = tile([np.zeros((9, 9, 3), np.uint8)] * 24).shape
    assert (width, height) == (54, 36)
