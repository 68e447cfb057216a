"""Pictures of every mode and orientation come out as upright RGB; files that are none do not."""

import contextlib
import logging
import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw
from PIL.PngImagePlugin import PngInfo

from eamm_jax.errors import UserError
from eamm_jax.io import image as module
from eamm_jax.io.image import (
    fit_inside,
    fit_square,
    png_sequence,
    read_image,
    read_picture,
    tile,
    to_grey,
    to_uint8,
    write_png,
)

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
    grey = Image.new("LA", (4, 4), (0, 0))
    grey.putpixel((1, 1), (9, 255))
    grey.save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png", None)[0], 1)
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


def test_a_picture_is_fitted_into_a_frame(rng):
    pixels = rng.integers(0, 256, (20, 40, 3), dtype=np.uint8)
    assert fit_inside(pixels, 40, 20, 40, 20) is pixels
    assert fit_inside(pixels, 40, 20, 20, 10).shape == (10, 20, 3)
    boxed = fit_inside(np.full_like(pixels, 255), 40, 20, 40, 40)
    assert (boxed[10:30] == 255).all()
    assert not boxed[:10].any()
    assert not boxed[30:].any()


# --- Metadata and colours -----------------------------------------------------------------


def tiff_block(entries: list[tuple[int, int, int, bytes]], order: str = "<") -> bytes:
    """EXIF of (tag, type, count, four bytes of value)."""
    body = b"".join(struct.pack(order + "HHI4s", *entry) for entry in entries)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "IH", 8, len(entries)) + body + bytes(4)


def with_exif(path: Path, exif: bytes, extension: str, orientation: int = 1) -> Path:
    """An upright picture as a camera in some orientation stores it, with a block of EXIF."""
    stored = corners(32, 48)
    if orientation in module.TRANSPOSED:
        undo = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
        stored = stored.transpose(undo.get(orientation, module.TRANSPOSED[orientation]))
    path = path.with_suffix(f".{extension}")
    options = {"lossless": True} if extension == "webp" else {}
    stored.save(path, exif=b"Exif\0\0" + exif, quality=95, **options)
    return path


def assert_upright(path: Path) -> None:
    image = read_image(path, None)
    assert image.shape == (48, 32, 3)
    np.testing.assert_allclose(corner_colours(image), [RED, GREEN, BLUE, WHITE], atol=6)


ODD_ENTRIES = {
    "a resolution that is text": (0x011A, 2, 3, b"72\0\0"),
    "a resolution beyond the end": (0x011A, 5, 1, b"\xff\xff\xff\x7f"),
    "a type nobody knows": (0x9C9B, 77, 1 << 30, b"\0\0\0\0"),
    "a sub-block that is itself": (0x8769, 4, 1, b"\x08\0\0\0"),
    "a maker's note of 4 GB": (0x927C, 7, 0xFFFFFFFF, b"\x08\0\0\0"),
}


@pytest.mark.parametrize("extension", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("odd", [None, *ODD_ENTRIES])
def test_of_exif_the_orientation_alone_counts(tmp_path, extension, orientation, odd):
    order = "<>"[orientation % 2] if odd is None else "<"
    value = struct.pack(order + "HH", orientation, 0)
    entries = [(0x0112, 3, 1, value)] + ([ODD_ENTRIES[odd]] if odd else [])
    assert_upright(with_exif(tmp_path / "x", tiff_block(entries, order), extension, orientation))


@pytest.mark.parametrize(
    "entry",
    [(0x0112, 2, 2, b"6\0\0\0"), (0x0112, 3, 1, b"\x09\0\0\0"), (0x0112, 3, 1, bytes(4))],
    ids=["text", "nine", "zero"],
)
def test_an_orientation_that_is_none_changes_nothing(tmp_path, entry):
    assert_upright(with_exif(tmp_path / "x", tiff_block([entry]), "jpg"))


def test_orientation_in_xmp_and_in_text_is_read(tmp_path):
    xmp = b'<x tiff:Orientation="6"/>'
    stored = corners(32, 48).transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "x.jpg", xmp=xmp, quality=95)
    assert_upright(tmp_path / "x.jpg")
    exif = tiff_block([(0x0112, 3, 1, b"\x06\0\0\0")])
    for packed in (False, True):
        text = PngInfo()
        text.add_text("Raw profile type exif", f"\nexif\n{len(exif)}\n{exif.hex()}\n", zip=packed)
        stored.save(tmp_path / "x.png", pnginfo=text)
        assert_upright(tmp_path / "x.png")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", ["tEXt", "iTXt"])
def test_long_texts_do_not_matter(tmp_path, packed, kind):
    text = PngInfo()
    add = text.add_text if kind == "tEXt" else text.add_itxt
    add("parameters", "a portrait, best quality " * 100_000, zip=packed)
    corners(32, 48).save(tmp_path / "x.png", pnginfo=text)
    assert_upright(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    # The same after the pixels, as some tools append it.
    start, stop = content.find(kind.encode()) - 4, content.find(b"IDAT") - 4
    end = content.find(b"IEND") - 4
    moved = content[:start] + content[stop:end] + content[start:stop] + content[end:]
    (tmp_path / "x.png").write_bytes(moved)
    assert_upright(tmp_path / "x.png")


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tiff"])
def test_mutated_metadata_is_never_a_reason_to_refuse(tmp_path, extension):
    """Some seconds of random changes in the EXIF of a good picture."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x011A], exif[0x8298] = "maker", 1, 72.0, "c"
    exif.get_ifd(0x8769)[0x9286] = b"comment" * 9
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    path = with_exif(tmp_path / "x", block, extension)
    content = path.read_bytes()
    found = content.find(block)
    place = (found, found + len(block)) if extension != "tiff" else None
    for _ in range(120):
        mutated = bytearray(content)
        start, stop = place or (8, len(content))
        for at in rng.integers(start, stop, rng.integers(1, 9)):
            mutated[at] = rng.integers(256)
        if extension == "png":  # whose checksums would hide what a decoder makes of it
            checksum = zlib.crc32(mutated[start - 4 : stop])
            mutated[stop : stop + 4] = struct.pack(">I", checksum)
        path.write_bytes(mutated)
        if place:
            assert read_image(path, None).shape in [(48, 32, 3), (32, 48, 3)]
        else:  # the tags of a tiff are how its pixels are stored
            with contextlib.suppress(UserError):
                read_image(path, None)


@pytest.mark.parametrize("name", ["P3  ", "sRGB", ""])
def test_colours_of_a_wide_gamut_are_converted(tmp_path, name):
    """Display P3, as phones store photos: its red lies outside sRGB, its greys are the same."""
    profile = display_p3(name)
    for mode in ("RGB", "RGBA", "P"):
        picture = Image.new("RGB", (8, 8), (200, 80, 60))
        picture.paste((128, 128, 128), (4, 0, 8, 8))
        stored = picture.quantize(4) if mode == "P" else picture.convert(mode)
        stored.save(tmp_path / "x.png", icc_profile=profile)
        image = np.round(read_image(tmp_path / "x.png", None) * 255)
        # By the matrices of both spaces: sRGB needs more red and less green and blue.
        np.testing.assert_allclose(image[0, 0], [216, 69, 50], atol=3)
        np.testing.assert_allclose(image[0, 7], 128, atol=1)


def display_p3(called: str = "P3  ") -> bytes:
    """A profile of Display P3: sRGB's, with the primaries of P3 (adapted to D50)."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    primaries = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    count = struct.unpack_from(">I", profile, 128)[0]
    for n in range(count):
        name, at, size = struct.unpack_from(">4sII", profile, 132 + 12 * n)
        if name in primaries:
            values = [round(x * 65536) for x in primaries[name]]
            struct.pack_into(">3i", profile, at + 8, *values)
        elif name == b"desc":
            profile[at + 8 : at + size] = profile[at + 8 : at + size].replace(
                "sRGB".encode("utf-16-be"), called.ljust(4).encode("utf-16-be")
            )
    return bytes(profile)


def test_profiles_of_srgb_and_damaged_ones_change_no_pixel(tmp_path, rng):
    pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"not a profile", display_p3()[:200], bytes(3 << 20)):
        Image.fromarray(pixels).save(tmp_path / "x.png", icc_profile=profile)
        np.testing.assert_array_equal(read_picture(tmp_path / "x.png"), pixels)


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


@pytest.mark.timeout(20)
def test_a_picture_may_come_from_a_pipe(tmp_path):
    corners().save(tmp_path / "x.png")
    for content, words in (((tmp_path / "x.png").read_bytes(), None), (b"x" * 99, "not an image")):
        os.mkfifo(tmp_path / "pipe")
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,))
        writer.start()
        if words is None:
            assert corner_colours(read_image(tmp_path / "pipe", None))[0] == RED
        else:
            assert words in refused(tmp_path / "pipe")
        writer.join()
        (tmp_path / "pipe").unlink()


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"heix"])
def test_a_heic_photo_is_named(tmp_path, brand):
    (tmp_path / "x.heic").write_bytes(struct.pack(">I4s4s", 24, b"ftyp", brand) + bytes(200))
    assert "it is a HEIC photo" in refused(tmp_path / "x.heic")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_picture_that_is_all_transparent_is_named(tmp_path, mode):
    Image.new(mode, (8, 8), 0).save(tmp_path / "x.png")
    assert "all of it is transparent" in refused(tmp_path / "x.png")


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
    with png_sequence(tmp_path / "frames") as write:
        for frame in frames:
            write(frame)
        assert not (tmp_path / "frames").exists()
    names = sorted(os.listdir(tmp_path / "frames"))
    assert names[0] == "000000.png"
    assert names[10] == "000010.png"
    for name, frame in zip(names, frames, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "frames" / name)), frame)


def test_png_sequence_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), png_sequence(tmp_path / "frames") as write:  # noqa: PT012
        write(np.zeros((8, 8, 3), np.uint8))
        raise KeyboardInterrupt
    assert not os.listdir(tmp_path)


def test_png_sequence_keeps_what_is_there(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(UserError, match="not empty"), png_sequence(tmp_path):
        pytest.fail("the block must not start")


def test_a_contact_sheet_has_its_pictures_in_rows(rng):
    pictures = list(rng.integers(0, 255, (5, 4, 3, 3), dtype=np.uint8))
    sheet = tile(pictures)
    assert sheet.shape == (8, 9, 3)
    np.testing.assert_array_equal(sheet[:4, 3:6], pictures[1])
    np.testing.assert_array_equal(sheet[4:, :3], pictures[3])
    assert (sheet[4:, 6:] == 255).all()
    assert tile(pictures[:1]).shape == (4, 3, 3)
    height, width, _ = tile([np.zeros((9, 9, 3), np.uint8)] * 24).shape
    assert (width, height) == (54, 36)


def test_greys_are_those_of_opencv(rng):
    cv2 = pytest.importorskip("cv2")
    image = rng.integers(0, 256, (300, 200, 3), dtype=np.uint8)
    np.testing.assert_array_equal(to_grey(image), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
