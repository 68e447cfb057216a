"""The photograph: found in a folder, its face cropped as portraits are, cut out from behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from eamm_jax.errors import UserError
from eamm_jax.faces import detection
from eamm_jax.faces.face import FaceFinder
from eamm_jax.faces.framing import TEMPLATE_SIZE, frame_face, no_face
from eamm_jax.faces.similarity import Similarity, crop, resized
from eamm_jax.io.files import PICTURE_SUFFIXES, is_file_of
from eamm_jax.io.image import read_picture

MARGIN = 1.3
"""Of the photograph as much is kept, in frames: heads move, and what is beyond comes into view."""

FINE = 2
"""Pixels of the photograph, rows and columns, for each of a frame."""

SMALLEST = 0.5
"""Pixels of the photograph for one of a frame of 256x256; with fewer there is no detail."""

_NO_FACE = 0.4
"""Of the largest face's width; smaller ones are in the background, or none."""

_CLOSED = 0.1
"""Height of the inside of a closed mouth, of its width."""

_SHIFTS = ((0, 0), (-0.04, 0), (0.04, 0), (0, -0.04), (0, 0.04))
"""Of the detector's box, in widths: the mean of the landmarks found is steadier than one."""


class Portrait(NamedTuple):
    """A photograph and the face in it.

    Attributes:
        picture: RGB.
        frame: from pixels of a frame of `TEMPLATE_SIZE` to those of the picture.
        marks: 68 landmarks in the frame, (x, y) in [-1, 1].
    """

    picture: UInt8[np.ndarray, "h w 3"]
    frame: Similarity
    marks: Float[np.ndarray, "68 2"]


class Plate(NamedTuple):
    """A portrait at the resolution that it is rendered from, `MARGIN` frames wide.

    Attributes:
        size: rows and columns of a frame.
        rgb: `FINE` pixels for each of a frame, 0 to 255.
        matte: share of each pixel that is the person.
        openings: share of each pixel that is within lips or lids, and a little more.
        backdrop: what is behind, of a frame only, `FINE` pixels for each.
    """

    size: int
    rgb: Float32[np.ndarray, "p p 3"]
    matte: Float32[np.ndarray, "p p"]
    openings: Float32[np.ndarray, "p p"]
    backdrop: Float32[np.ndarray, "f f 3"]

    @property
    def border(self) -> int:
        """Rows above the frame."""
        return border(self.size)


def border(size: int) -> int:
    """Rows of a plate above a frame of a size."""
    return round(FINE * size * (MARGIN - 1) / 2)


def list_photos(folder: str | os.PathLike[str]) -> list[Path]:
    """The pictures in a folder, by name.

    Raises:
        UserError: it is no folder, or there are none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give one that holds photographs")
    found = sorted(path for path in folder.iterdir() if is_file_of(path, PICTURE_SUFFIXES))
    if not found:
        raise UserError(
            f"{folder} holds no photographs; give a folder with files in "
            f"{', '.join(PICTURE_SUFFIXES)}"
        )
    return found


def read_portrait(path: Path) -> Portrait:
    """Reads a photograph of one person.

    Raises:
        UserError: it cannot be read, shows no face or several, or is too small; or no finder is
            installed.
    """
    finder = detection.make_finder()
    picture = read_picture(path)
    height, width = picture.shape[:2]
    faces = finder.find(picture)
    faces = [face for face in faces if face.width > _NO_FACE * faces[0].width]
    if not faces:
        raise UserError(no_face(path, height, width))
    if len(faces) > 1:
        raise UserError(f"{path} shows {len(faces)} faces; crop it to one of them")
    left, top, right, bottom = faces[0].box
    side = right - left
    found = [
        finder.landmarks(
            picture, (left + x * side, top + y * side, right + x * side, bottom + y * side)
        )
        for x, y in _SHIFTS
    ]
    portrait = framed(picture, np.mean(found, 0), finder)
    if portrait.frame.scale < SMALLEST:
        raise UserError(
            f"{path} ({width} x {height} pixels) shows a face only {side:.0f} pixels wide; at "
            f"least {side * SMALLEST / portrait.frame.scale:.0f} are needed"
        )
    return portrait


def framed(
    picture: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "68 2"], finder: FaceFinder
) -> Portrait:
    """A portrait from a picture and the landmarks in it, in its pixels, that were found so."""
    frame = frame_face(landmarks, finder.template(), TEMPLATE_SIZE)
    marks = (frame.inverse()(landmarks) + 0.5) * (2 / TEMPLATE_SIZE) - 1
    return Portrait(picture, frame, marks)


def develop(portrait: Portrait, size: int) -> Plate:
    """Crops a portrait, cuts the person out and fills in what is behind.

    Args:
        portrait: to be cropped.
        size: rows and columns of the frames to be rendered.
    """
    edge = border(size)
    whole = FINE * size + 2 * edge
    place = portrait.frame.after(resized(TEMPLATE_SIZE / (FINE * size)))
    rgb = crop(portrait.picture, place.after(Similarity(1, -edge * (1 + 1j))), whole)
    marks = (portrait.marks + 1) * size * FINE / 2 + edge
    matte = _cut_out(rgb, marks)
    inner = slice(edge, whole - edge)
    backdrop = _fill(rgb, matte)[inner, inner]
    openings: np.ndarray = np.zeros(matte.shape, np.float32)
    parts = [slice(36, 42), slice(42, 48)]
    if np.ptp(marks[60:68, 1]) > _CLOSED * np.ptp(marks[60:68, 0]):
        parts.append(slice(60, 68))
    for part in parts:
        outline = [np.round(marks[part] * 16 - 8).astype(np.int32)]
        cv2.fillPoly(openings, outline, 1.0, shift=4)
        cv2.polylines(openings, outline, True, 1.0, round(6 * size / 256), shift=4)
    openings = cv2.GaussianBlur(openings, (0, 0), size / 256)
    return Plate(size, rgb.astype(np.float32), matte, openings, backdrop)


def _cut_out(
    rgb: UInt8[np.ndarray, "p p 3"], marks: Float[np.ndarray, "68 2"]
) -> Float32[np.ndarray, "p p"]:
    """Share of each pixel that is the person, by GrabCut from where a head and shoulders are."""
    whole = len(rgb)
    half = (whole // 2, whole // 2)
    small = cv2.resize(rgb, half, interpolation=cv2.INTER_AREA)
    marks = marks / 2
    face = np.ptp(marks[:17, 0])
    x, brow, chin = marks[:17, 0].mean(), marks[17:27, 1].mean(), marks[8, 1]
    rows, columns = np.mgrid[: half[0], : half[0]]
    mask = np.full(half, cv2.GC_PR_BGD, np.uint8)
    head = ((columns - x) / (0.80 * face)) ** 2 + ((rows - brow) / (0.90 * face)) ** 2 < 1
    body = (rows > chin + 0.25 * face) & (np.abs(columns - x) < 1.2 * face)
    mask[head | body] = cv2.GC_PR_FGD
    beside = (np.abs(columns - x) > 0.95 * face) & (rows < brow + 0.3 * face)
    mask[beside] = cv2.GC_BGD
    forehead = marks[17:27] - [0, 0.3 * face]
    hull = cv2.convexHull(np.concatenate([marks, forehead]).astype(np.int32))
    cv2.fillConvexPoly(mask, hull, cv2.GC_FGD)
    mask[(rows > chin) & (np.abs(columns - x) < 0.22 * face)] = cv2.GC_FGD
    cv2.setRNGSeed(0)
    back, front = np.zeros((2, 1, 65))
    bgr = small[..., ::-1].copy()
    cv2.grabCut(bgr, mask, (0, 0, 0, 0), back, front, 5, cv2.GC_INIT_WITH_MASK)
    person: np.ndarray = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    person = cv2.morphologyEx(person, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    person = cv2.morphologyEx(person, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    # A little of what is behind, so that the edge of hair is the photograph's own.
    person = cv2.dilate(_largest(person), np.ones((5, 5), np.uint8))
    soft = cv2.GaussianBlur(person.astype(np.float32), (0, 0), 1.2)
    return cv2.resize(soft, (whole, whole), interpolation=cv2.INTER_LINEAR)


def _largest(mask: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """The largest piece of a mask, its holes filled."""
    for value in (1, 0):
        count, pieces, stats, _ = cv2.connectedComponentsWithStats((mask == value).astype(np.uint8))
        if count > 2:
            area = stats[1:, cv2.CC_STAT_AREA]
            keep = 1 + area.argmax() if value else 1 + np.flatnonzero(area > 0.01 * mask.size)
            mask = np.isin(pieces, keep).astype(np.uint8) ^ (1 - value)
    return mask


def _fill(
    rgb: UInt8[np.ndarray, "p p 3"], matte: Float32[np.ndarray, "p p"]
) -> Float32[np.ndarray, "p p 3"]:
    """The picture without the person, filled in smoothly from around."""
    whole, small = len(rgb), len(rgb) // 4
    hole = cv2.dilate((matte > 0.3).astype(np.uint8), np.ones((3, 3), np.uint8))
    if hole.all():
        return np.broadcast_to(np.median(rgb, (0, 1)), rgb.shape).astype(np.float32)
    coarse = cv2.resize(hole, (small, small), interpolation=cv2.INTER_AREA)
    little = cv2.resize(rgb, (small, small), interpolation=cv2.INTER_AREA)
    filled = cv2.inpaint(little, np.where(coarse > 0, 1, 0).astype(np.uint8), 5, cv2.INPAINT_TELEA)
    filled = cv2.GaussianBlur(filled.astype(np.float32), (0, 0), 2)
    filled = cv2.resize(filled, (whole, whole), interpolation=cv2.INTER_CUBIC)
    share = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), 1.5)[..., None]
    return rgb * (1 - share) + filled * share


_SHUT = 0.13
"""Height of an eye relative to its width, below which its iris is not looked for."""

_IRIS = 0.19
"""Radius of an iris in widths of an eye."""


def irises(portrait: Portrait) -> Float[np.ndarray, "2 2"]:
    """Centres of the irises in the frame, picture left first; NaN where an eye is shut.

    An iris is where a disc is darkest against the ring around it, as far as the lids show both.
    """
    size = 2 * TEMPLATE_SIZE
    rgb = crop(portrait.picture, portrait.frame.after(resized(0.5)), size)
    grey = cv2.GaussianBlur(rgb.mean(-1).astype(np.float32), (0, 0), 1)
    marks = (portrait.marks + 1) * TEMPLATE_SIZE - 0.5
    found = np.full((2, 2), np.nan)
    for n, corners in enumerate((marks[36:42], marks[42:48])):
        width = np.linalg.norm(corners[3] - corners[0])
        height = np.linalg.norm(corners[[1, 2]].mean(0) - corners[[4, 5]].mean(0))
        if height < _SHUT * width:
            continue
        mask = np.zeros((size, size), np.uint8)
        cv2.fillConvexPoly(mask, np.round(corners).astype(np.int32), 1)
        y, x = np.nonzero(mask)
        level = grey[y, x]
        best = -np.inf
        for dx in np.linspace(-0.25, 0.25, 21) * width:
            for dy in np.linspace(-0.1, 0.1, 9) * width:
                centre = corners.mean(0) + np.array([dx, dy])
                away = np.hypot(x - centre[0], y - centre[1]) / (_IRIS * width)
                disc, ring = level[away < 0.9], level[(away > 1.15) & (away < 1.8)]
                if len(disc) < 20 or len(ring) < 20:
                    continue
                # Discs that the lids hide leave little to go by.
                score = (ring.mean() - disc.mean()) * len(disc) ** 0.25
                if score > best:
                    best, found[n] = score, (centre + 0.5) / TEMPLATE_SIZE - 1
    return found
