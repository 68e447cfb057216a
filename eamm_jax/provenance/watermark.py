"""An invisible mark in moving pictures: 32 bits that survive re-encoding, scaling and trimming.

A pattern of low frequencies, fixed relative to the picture, is added to the luminance. Its sign
swings slowly, once in two seconds: what a picture shows stays nearly still meanwhile and cancels
in the detector, which would otherwise drown in it. So a mark is read from a second or two of
video, and not from a single frame.

The pattern is a sum of cosines whose signs (chips) are the message: some are a known pilot, which
tells whether there is a mark, when it swings and what was cropped; the others spell a payload
and its check bits, in blocks of 12 bits, each one of 4096 words. All signs are public constants, so
the mark says where a video comes from as long as nobody removes it on purpose; it is no secret.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import zlib
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from scipy import ndimage

PAYLOAD_BITS = 32
PERIOD = 2.0
"""Seconds of a whole swing; also the shortest video that is read reliably."""

FALSE_ALARMS = 1e-6
"""Probability of finding a mark in a video that has none."""

_CHECK_BITS = 16
_BLOCKS, _BLOCK_BITS = 4, 12
_GUESSES = 8
"""Messages tried, of those that are most alike."""
_PILOT_SHARE = 0.28

_GRID = 64
"""Sides of the grid on which pictures are analysed and the pattern is computed."""
_LOWEST, _HIGHEST = 4, 28
"""Half-periods per side. Lower ones are drowned by light and motion, higher ones by codecs."""

_RMS = 2.15
"""Root mean square of the change in levels of RGB, at most; rounding takes a little of it."""
_LARGEST = 6.0
"""Levels by which luminance changes at most."""
_FLAT, _MASKED = 0.5, 0.16
"""Amplitude where nothing covers it, and per standard deviation around a place. SSIM falls by the
same everywhere so."""
_PEAK = 2.0
"""Standard deviations at which the pattern is cut off: flat places change by 1 level at most."""
_NEIGHBOURHOOD = 7
_SHARPNESS = 2.0
"""The swing is a cosine cut off at half its height: mostly it rests."""

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_TINT = _LUMINANCE / np.square(_LUMINANCE).sum()
"""The smallest change of RGB that changes luminance by 1."""

_STRIP_ROWS = 128

_NOISE = 0.3
"""Variance that every place has, of rounding and coding."""
_TRUST = 0.7
"""Exponent: places that move are trusted less."""
_OUTLIER = 2.5

_LARGEST_CROP, _CROP_STEP = 0.07, 0.01
"""Shares of a side that may be missing at each edge, and the steps in which they are tried."""
_FINER_STEPS = (0.005, 0.0025)

_FEWEST_FRAMES = 12

Grid = Float32[np.ndarray, "64 64"]
Swinging = Float32[np.ndarray, "2 64 64"]
Picture = UInt8[np.ndarray, "h w 3"]

Crop = tuple[float, float, float, float]
"""Shares of the sides that are missing: left, right, top, bottom."""
_WHOLE = (0.0, 0.0, 0.0, 0.0)


class Found(NamedTuple):
    """A mark in a video.

    Attributes:
        payload: its 32 bits, or None if they are damaged.
        log10_chance: logarithm of the probability that a video without a mark looks so, or more.
        crop: what was cut off.
    """

    payload: int | None
    log10_chance: float
    crop: Crop


class _Chips(NamedTuple):
    """Places of the cosines in the spectrum, in the order of the message.

    Attributes:
        rows: half-periods from top to bottom.
        columns: from left to right.
        signs: that hide the message's structure.
        pilot: how many belong to the pilot; the rest are blocks of equal length.
        words: (4096, block) the signs of all words.
    """

    rows: np.ndarray
    columns: np.ndarray
    signs: np.ndarray
    pilot: int
    words: np.ndarray

    def blocks(self) -> list[slice]:
        length = self.words.shape[1]
        return [slice(a, a + length) for a in range(self.pilot, len(self.signs), length)]


def _bits(name: str, count: int) -> np.ndarray:
    """Random bits that are the same on every machine and for ever."""
    digest = hashlib.shake_256(f"eamm_jax watermark 1 {name}".encode()).digest(-(-count // 8))
    return np.unpackbits(np.frombuffer(digest, np.uint8))[:count]


def _signs(name: str, *shape: int) -> np.ndarray:
    return (1 - 2 * _bits(name, math.prod(shape)).reshape(shape).astype(np.float32)).astype("f4")


@cache
def _chips() -> _Chips:
    rows, columns = np.mgrid[1 : _HIGHEST + 1, 1 : _HIGHEST + 1]
    radius = np.hypot(rows, columns)
    used = (radius >= _LOWEST) & (radius <= _HIGHEST)
    rows, columns = rows[used], columns[used]
    shuffled = np.packbits(_bits("order", 32 * len(rows))).view(">u4").argsort(kind="stable")
    length = int(len(rows) * (1 - _PILOT_SHARE)) // _BLOCKS
    return _Chips(
        rows[shuffled],
        columns[shuffled],
        _signs("signs", len(rows)),
        len(rows) - _BLOCKS * length,
        _signs("words", 2**_BLOCK_BITS, length),
    )


@cache
def _cosines(before: float = 0.0, after: float = 0.0) -> Float32[np.ndarray, "frequencies 64"]:
    """The cosines on the grid of a picture that lacks shares of its side before and after it."""
    places = before + (1 - before - after) * (np.arange(_GRID) + 0.5) / _GRID
    waves = np.cos(np.pi * np.outer(np.arange(_HIGHEST + 1), places))
    return (waves * math.sqrt(2 / _GRID)).astype(np.float32)


def _message(payload: int) -> int:
    """The payload with its check bits."""
    check = zlib.crc32(payload.to_bytes(PAYLOAD_BITS // 8, "big")) % 2**_CHECK_BITS
    return payload << _CHECK_BITS | check


def _spelled(message: int) -> Float32[np.ndarray, " chips"]:
    chips = _chips()
    numbers = [message >> _BLOCK_BITS * k & 2**_BLOCK_BITS - 1 for k in range(_BLOCKS)]
    words = [chips.words[number] for number in numbers]
    return np.concatenate([np.ones(chips.pilot, np.float32), *words])


def _luminance(frame: Picture) -> Grid:
    grey = Image.fromarray(frame).convert("L")
    return np.asarray(grey.resize((_GRID, _GRID), Image.Resampling.BOX), np.float32)


def _amplitude(luminance: Grid) -> Grid:
    """By how much each place may change before it is seen."""
    mean = ndimage.uniform_filter(luminance, _NEIGHBOURHOOD, mode="nearest")
    square = ndimage.uniform_filter(luminance * luminance, _NEIGHBOURHOOD, mode="nearest")
    variance = np.maximum(square - mean * mean, 0)
    return np.sqrt(_FLAT**2 + _MASKED**2 * variance)


class Watermark:
    """Marks the frames of one video.

    Args:
        payload: 32 bits.
    """

    def __init__(self, payload: int):
        if not 0 <= payload < 2**PAYLOAD_BITS:
            raise ValueError(f"a payload has {PAYLOAD_BITS} bits, got {payload}")
        chips, waves = _chips(), _cosines()
        spectrum = np.zeros((len(waves), len(waves)), np.float32)
        spectrum[chips.rows, chips.columns] = chips.signs * _spelled(_message(payload))
        pattern = waves.T @ spectrum @ waves
        self._pattern = np.clip(pattern / pattern.std(), -_PEAK, _PEAK)

    def __call__(self, frame: Picture, seconds: float) -> Picture:
        """A marked copy of a frame.

        Args:
            frame: RGB.
            seconds: since the beginning of the video.
        """
        change = _amplitude(_luminance(frame)) * self._pattern
        rms = math.sqrt(np.square(change).mean() * np.square(_TINT).mean())
        swing = np.clip(_SHARPNESS * math.cos(2 * math.pi * seconds / PERIOD), -1, 1)
        change = np.clip(change * (min(1.0, _RMS / rms) * swing), -_LARGEST, _LARGEST)
        coarse = Image.fromarray(change.astype(np.float32))
        height, width = frame.shape[:2]
        marked = np.empty_like(frame)
        for top in range(0, height, _STRIP_ROWS):  # a large photo takes little memory so
            bottom = min(top + _STRIP_ROWS, height)
            box = (0, top * _GRID / height, _GRID, bottom * _GRID / height)
            size = width, bottom - top
            fine = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC, box=box))
            for channel, share in enumerate(_TINT):
                levels = np.rint(fine * share).astype(np.int16)
                levels += frame[top:bottom, :, channel]
                marked[top:bottom, :, channel] = np.clip(levels, 0, 255)
        return marked


def detect(frames: Iterable[tuple[float, Picture]]) -> Found | None:
    """Looks for a mark.

    Args:
        frames: seconds and pictures of a video; each is needed once.

    Returns:
        The mark, or None where there is none, or less than can be told from chance. The
        probability that it is found in a video without one is less than `FALSE_ALARMS`.
    """
    swinging = _swinging(frames)
    if swinging is None:
        return None
    found = _judge(swinging, _WHOLE, tried=1)
    if found is None or found.payload is None:
        crop, tried = _search(swinging)
        found = _judge(swinging, crop, tried) or found
    return found


def _swinging(frames: Iterable[tuple[float, Picture]]) -> Swinging | None:
    """What swings as a mark does, in two phases, with places weighted by how well they tell.

    A period at a time, as what else moves has less time for it so.
    """
    total, window, complete = np.zeros((2, _GRID, _GRID)), _Window(), False
    for seconds, frame in frames:
        if window.times and seconds - window.times[0] >= PERIOD:
            total, window, complete = total + window.swinging(), _Window(), True
        window.add(seconds, frame)
    if len(window.times) >= _FEWEST_FRAMES and (not complete or window.is_long):
        total, complete = total + window.swinging(), True
    return total.astype(np.float32) if complete else None


class _Window:
    """Frames of a period, or less."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._levels: list[np.ndarray] = []

    def add(self, seconds: float, frame: Picture) -> None:
        self.times.append(seconds)
        self._levels.append(_luminance(frame).reshape(-1))

    @property
    def is_long(self) -> bool:
        """Whether it tells more than it confuses, beside whole periods."""
        return self.times[-1] - self.times[0] >= 0.6 * PERIOD

    def swinging(self) -> Swinging:
        angles = 2 * np.pi * np.array(self.times, np.float32) / PERIOD
        basis = np.stack([np.cos(angles), np.sin(angles), np.ones_like(angles)], axis=1)
        levels = np.stack(self._levels)
        fit = np.linalg.lstsq(basis, levels, rcond=None)[0]
        noise = np.square(levels - basis @ fit).mean(0).reshape(_GRID, _GRID)
        noise = ndimage.uniform_filter(noise, 3, mode="nearest")
        weight = _amplitude(fit[2].reshape(_GRID, _GRID)) / (noise + _NOISE) ** _TRUST
        return fit[:2].reshape(2, _GRID, _GRID) * weight


def _transformed(swinging: Swinging, crop: Crop) -> np.ndarray:
    """The two spectra of a picture that lacks a part."""
    left, right, top, bottom = crop
    return _cosines(top, bottom) @ swinging @ _cosines(left, right).T


def _usual(spectra: np.ndarray) -> np.ndarray:
    """What is usual around each frequency."""
    return ndimage.uniform_filter(np.hypot(*spectra), _NEIGHBOURHOOD) + 1e-9


def _read(swinging: Swinging, crop: Crop) -> np.ndarray:
    """The chips in both phases, (2, chips), relative to what is usual around their frequencies."""
    chips, spectra = _chips(), _transformed(swinging, crop)
    read = np.clip(spectra / _usual(spectra), -_OUTLIER, _OUTLIER)
    return read[:, chips.rows, chips.columns] * chips.signs


def _pilot(read: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy of the pilot, and its phase.

    Noise, whose signs are random, has more than an energy with probability exp(-energy): the sums
    of its two phases are Gaussian, and their squares, whitened, have a chi-squared distribution.
    """
    pilot = read[:, : _chips().pilot]
    covariance, total = pilot @ pilot.T, pilot.sum(1)
    if np.linalg.det(covariance) <= 1e-6 * np.trace(covariance) ** 2:  # nothing moves
        return 0.0, total
    return float(total @ np.linalg.solve(covariance, total)) / 2, total


def _judge(swinging: Swinging, crop: Crop, tried: int) -> Found | None:
    """Reads the message of a picture of which a part is missing; None if it may be chance."""
    read = _read(swinging, crop)
    energy, phase = _pilot(read)
    message, intact = _spelling(read, phase)
    if not intact:  # all chips tell the phase better than the pilot alone
        message, intact = _spelling(read, read @ _spelled(message))
    chance = math.log10(2 * tried) - energy / math.log(10)
    if intact:
        chance += math.log10(2 * _GUESSES) - _CHECK_BITS * math.log10(2)
    if chance > math.log10(FALSE_ALARMS):
        return None
    return Found(message >> _CHECK_BITS if intact else None, chance, crop)


def _spelling(read: np.ndarray, phase: np.ndarray) -> tuple[int, bool]:
    """The message that is most alike, and whether its check bits are right."""
    chips = _chips()
    # Motion is stronger in one phase than in the other.
    covariance = read @ read.T + 1e-6 * np.eye(2)
    chosen = np.linalg.solve(covariance, phase) @ read
    scores = [chips.words @ chosen[block] for block in chips.blocks()]
    best = [np.argsort(score)[-2:][::-1].tolist() for score in scores]
    losses = [
        score[first] - score[second] for score, (first, second) in zip(scores, best, strict=True)
    ]

    def loss(places: tuple[int, ...]) -> float:
        return sum(place * loss for place, loss in zip(places, losses, strict=True))

    guesses = sorted(itertools.product((0, 1), repeat=_BLOCKS), key=loss)[:_GUESSES]
    messages = [
        sum(best[k][place] << _BLOCK_BITS * k for k, place in enumerate(places))
        for places in guesses
    ]
    for message in messages:
        if _message(message >> _CHECK_BITS) == message:
            return message, True
    return messages[0], False


def _search(swinging: Swinging) -> tuple[Crop, int]:
    """The crop at which the pilot is strongest, and how many were tried."""
    chips = _chips()
    rows, columns = chips.rows[: chips.pilot], chips.columns[: chips.pilot]
    steps = np.arange(0, _LARGEST_CROP + 1e-9, _CROP_STEP).tolist()
    edges = list(itertools.product(steps, repeat=2))
    weights = chips.signs[: chips.pilot] / _usual(_transformed(swinging, _WHOLE))[rows, columns]
    across = np.stack([_cosines(*edge) for edge in edges])[:, columns]
    best, crop = -1.0, _WHOLE
    for vertical in edges:
        downwards = (_cosines(*vertical) @ swinging)[:, rows] * weights[:, None]
        read = np.einsum("tpx,epx->etp", downwards, across, optimize=True)
        read = np.clip(read, -_OUTLIER, _OUTLIER)
        scores = np.square(read.sum(2)).sum(1) / (np.square(read).sum((1, 2)) + 1e-9)
        at = int(scores.argmax())
        if scores[at] > best:
            best, crop = float(scores[at]), (*edges[at], *vertical)
    tried = len(edges) ** 2
    for step in _FINER_STEPS:
        left, right, top, bottom = ((share - step, share, share + step) for share in crop)
        near = list(itertools.product(left, right, top, bottom))
        tried += len(near)
        crop = max(near, key=lambda c: _pilot(_read(swinging, c))[0])
    return crop, tried
