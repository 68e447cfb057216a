"""Pictures from any file that Pillow reads, and PNG files written whole.

Pictures are RGB throughout. Transparent parts are laid over white; 16-bit grey is scaled to 8
bits; colours of an embedded profile are converted to sRGB; of metadata the orientation alone is
used.
"""

from __future__ import annotations

import io
import itertools
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Shaped, UInt8
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from eamm_jax.constants import FRAME_RATE
from eamm_jax.errors import UserError
from eamm_jax.io.files import atomic_output, atomic_output_dir, check_readable
from eamm_jax.io.marking import Mark
from eamm_jax.io.metadata import without_metadata

_log = logging.getLogger(__name__)

_XMP_KEYWORD = "XML:com.adobe.xmp"
"""Of the PNG chunk that holds XMP (XMP specification, part 3)."""


def read_image(path: str | os.PathLike[str], size: int | None) -> Float32[np.ndarray, "h w 3"]:
    """Reads a picture.

    Args:
        path: any format, mode and orientation that Pillow reads; of animations the first frame.
        size: side of the square that is wanted. A picture that is not square is cut to its
            middle (and that is logged); another size is resized with Lanczos' filter; one
            that fits already keeps its exact pixels. None keeps the whole picture as it is.

    Returns:
        RGB in [0, 1], of shape (size, size, 3) if a size was given.

    Raises:
        UserError: the file cannot be read, is not a picture, is damaged or too large.
    """
    picture = read_picture(path)
    return picture.astype(np.float32) / 255 if size is None else middle(path, picture, size)


_STRIP_ROWS = 256


def read_picture(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "h w 3"]:
    """Reads a whole picture as `read_image` does, but for its pixels, which stay 0..255."""
    image = _open(check_readable(path, "picture"))
    # In strips: at once, Pillow would make two copies on the way.
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _STRIP_ROWS):
        rows = pixels[top : top + _STRIP_ROWS]
        rows[:] = np.asarray(image.crop((0, top, image.width, top + len(rows))))
    return pixels


# OpenCV's weights of red, green and blue, in 15 bits. The published landmarks were found in its
# greys; another rounding moves single landmarks by a pixel.
_GREY_BITS = 15
_GREY_WEIGHTS = np.array([9798, 19235, 3735], np.int32)


def to_grey(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    """Grey levels (BT.601) of an RGB picture, to the bit those of OpenCV."""
    grey = np.empty(image.shape[:2], np.uint8)
    for start in range(0, len(image), _STRIP_ROWS):
        rows = slice(start, start + _STRIP_ROWS)
        levels = image[rows] @ _GREY_WEIGHTS + (1 << (_GREY_BITS - 1))
        grey[rows] = levels >> _GREY_BITS
    return grey


def middle(
    path: str | os.PathLike[str], picture: UInt8[np.ndarray, "h w 3"], size: int
) -> Float32[np.ndarray, "size size 3"]:
    """The square in the middle of a picture, in [0, 1]; logged where that is not the whole."""
    height, width = picture.shape[:2]
    if height != width:
        _log.info("%s is %d x %d pixels: used the square in its middle", path, width, height)
    return np.asarray(fit_square(Image.fromarray(picture), size), np.float32) / 255


_LARGEST_FILE = 1 << 29
"""Bytes that are read to remove metadata; larger files are decoded as they are."""

TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""


_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def _open(path: Path) -> Image.Image:
    # Read whole, once: it may be a pipe.
    content = path.read_bytes() if path.stat().st_size <= _LARGEST_FILE else None
    try:
        with warnings.catch_warnings():
            # What else Pillow has to say about a damaged file is an error soon, or no matter.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _decoded(path, content)
    except UserError:
        raise
    except UnidentifiedImageError:
        if content and content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS:
            raise UserError(
                f"Cannot read the picture {path}: it is a HEIC photo, as iPhones take them; save "
                "it as JPEG or PNG first"
            ) from None
        raise UserError(
            f"Cannot read the picture {path}: it is not an image file that can be decoded; "
            "give a PNG, JPEG or the like"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(
            f"Cannot read the picture {path}: it has more than "
            f"{(Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels; make it smaller"
        ) from None
    except Exception as error:  # decoders raise anything on files that are damaged
        reason = str(error).partition("\n")[0]
        raise UserError(f"Cannot read the picture {path}: the file is damaged ({reason})") from None


def _decoded(path: Path, content: bytes | None) -> Image.Image:
    orientation = 1
    if content is not None:
        content, orientation = without_metadata(content)
    with Image.open(path if content is None else io.BytesIO(content)) as image:
        image.load()
        if image.format not in ("PNG", "JPEG"):  # whose metadata is gone
            # Damaged metadata is as good as none.
            with suppress(Exception):
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        upright = _as_rgb(path, image)
    if orientation in TRANSPOSED:
        upright = upright.transpose(TRANSPOSED[orientation])
    return upright


def _as_rgb(path: Path, image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow would clip these to 255; the scale is that of 16-bit files.
        grey = np.clip(np.asarray(image).astype(np.float64) / 65535, 0, 1)
        image = Image.fromarray(to_uint8(grey))
    if image.mode == "F":
        raise UserError(
            f"Cannot read the picture {path}: it holds floating-point numbers of unknown "
            "range; save it with 8 bits"
        )
    profile = image.info.get("icc_profile")
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode not in ("RGB", "CMYK"):
        image = image.convert("RGB")
    if profile:
        image = _as_srgb(image, profile)
    if image.mode == "RGBA":
        if not np.asarray(image.getchannel("A")).any():
            raise UserError(f"Cannot use the picture {path}: all of it is transparent")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _as_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Colours of an embedded profile as a screen shows them; a damaged profile is ignored."""
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if _is_srgb(embedded):
            return image
        mode = "RGB" if image.mode == "CMYK" else image.mode
        screen = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, embedded, screen, outputMode=mode) or image
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image


_SRGB_ERROR = 3
"""Levels by which rounded tables of an sRGB profile may be off; Display P3 is off by 100."""


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Whether a profile leaves colours as they are. Its name does not tell: some copy it."""
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
    if profile.profile.xcolor_space.strip() != "RGB":
        return False
    screen = ImageCms.createProfile("sRGB")
    shown = ImageCms.profileToProfile(Image.fromarray(colours), profile, screen)
    return bool(np.abs(np.asarray(shown, np.int16) - colours).max() <= _SRGB_ERROR)


def fit_square(image: Image.Image, size: int, pixel_aspect_ratio: float = 1.0) -> Image.Image:
    """Cuts the square in the middle of a picture and resizes it, with antialiasing.

    Args:
        image: the picture.
        size: side of the result.
        pixel_aspect_ratio: width of a pixel divided by its height, where they are not square.

    Returns:
        A picture of size x size; the same pixels if the picture was that already.
    """
    shown_width = image.width * pixel_aspect_ratio
    side = min(shown_width, image.height)
    half_width, half_height = side / pixel_aspect_ratio / 2, side / 2
    x, y = image.width / 2, image.height / 2
    box = (x - half_width, y - half_height, x + half_width, y + half_height)
    return image.resize((size, size), Image.Resampling.LANCZOS, box=box)


def fit_height(image: UInt8[np.ndarray, "h w 3"], height: int) -> UInt8[np.ndarray, "height i 3"]:
    """Resizes a picture to a height, with antialiasing; one that fits stays as it is."""
    if len(image) == height:
        return image
    width = max(1, round(image.shape[1] * height / len(image)))
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def fit_inside(
    pixels: UInt8[np.ndarray, "h w 3"], width: int, height: int, whole_width: int, whole_height: int
) -> UInt8[np.ndarray, "i j 3"]:
    """Resizes a picture to fit into a frame, centred on black; one that fits stays as it is.

    Args:
        pixels: of the picture.
        width: that the picture should have, if only its proportions counted.
        height: likewise.
        whole_width: of the frame.
        whole_height: of the frame.
    """
    if pixels.shape[:2] == (whole_height, whole_width):
        return pixels
    scale = min(whole_width / width, whole_height / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    if size == (whole_width, whole_height):
        return np.asarray(image)
    whole = Image.new("RGB", (whole_width, whole_height))
    whole.paste(image, ((whole_width - size[0]) // 2, (whole_height - size[1]) // 2))
    return np.asarray(whole)


def to_uint8(image: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Rounds pixels in [0, 1] to 0..255, clipping what lies outside."""
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _encode(path: Path, image: Shaped[np.ndarray, "h w 3"], mark: Mark | None) -> None:
    pixels = image if image.dtype == np.uint8 else to_uint8(image)
    text = PngInfo()
    if mark is not None:
        text.add_itxt(_XMP_KEYWORD, mark.xmp)
    with path.open("xb") as file:
        Image.fromarray(pixels).save(file, "PNG", pnginfo=text)


def write_png(
    path: str | os.PathLike[str], image: Shaped[np.ndarray, "h w 3"], mark: Mark | None = None
) -> None:
    """Writes a picture: uint8, or floats in [0, 1]; RGB.

    A mark says what it is.

    Raises:
        UserError: the file cannot be written; nothing is left of it then.
    """
    if mark is not None:
        image = mark.picture(image if image.dtype == np.uint8 else to_uint8(image), None)
    with atomic_output(path) as temporary:
        _encode(temporary, image, mark)


@contextmanager
def png_sequence(
    folder: str | os.PathLike[str], mark: Mark | None = None
) -> Iterator[Callable[[UInt8[np.ndarray, "h w 3"]], None]]:
    """Writes frames as 000000.png, 000001.png ... into a folder that appears when complete.

        with png_sequence("frames") as write:
            write(frame)

    Args:
        folder: where to; it must not be there, or be empty.
        mark: says of the frames what they are.

    Raises:
        UserError: on entering or writing: the folder cannot be made, holds files, or the disk
            is full. Whatever the `with` block raises, nothing is left of the folder.
    """
    count = itertools.count()
    with atomic_output_dir(folder) as temporary:

        def write(frame: UInt8[np.ndarray, "h w 3"]) -> None:
            number = next(count)
            if mark is not None:
                frame = mark.picture(frame, number / FRAME_RATE)
            _encode(temporary / f"{number:06d}.png", frame, mark)

        yield write


def tile(pictures: Sequence[UInt8[np.ndarray, "h w 3"]]) -> UInt8[np.ndarray, "i j 3"]:
    """Pictures of one size as a contact sheet of about 3 : 2; places left over are white."""
    height, width, channels = pictures[0].shape
    columns = max(1, round((len(pictures) * 1.5 * height / width) ** 0.5))
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * height, columns * width, channels), 255, np.uint8)
    for index, picture in enumerate(pictures):
        y, x = divmod(index, columns)
        sheet[y * height : (y + 1) * height, x * width : (x + 1) * width] = picture
    return sheet
