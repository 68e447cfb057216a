"""An invisible mark in moving pictures: 32 bits that survive re-encoding, scaling and trimming.

A pattern of low frequencies, which covers a square of the picture, is added to the luminance. Its
sign swings slowly, once in two seconds: what a picture shows stays nearly still meanwhile and
cancels in the detector, which would otherwise drown in it. So a mark is read from a second or two
of video, and not from a single frame.

The pattern is a sum of cosines whose signs (chips) are the message: some are a known pilot, which
tells whether there is a mark, when it swings and where it lies; the others spell a payload and its
check bits, in blocks of 16 bits, each one of 65536 words. All signs are public constants, so the
mark says where a video comes from as long as nobody removes it on purpose; it is no secret.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import zlib
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from scipy import fft, ndimage

PAYLOAD_BITS = 32
PERIOD = 2.0
"""Seconds of a whole swing; also the shortest video that is read reliably."""

FALSE_ALARMS = 1e-6
"""Probability of finding a mark in a video that has none."""

_CHECK_BITS = 16
_BLOCKS, _BLOCK_BITS = 3, 16
_ALIKE, _GUESSES = 64, 512
"""Words of each block, and messages of them, that are tried: the most alike."""
_PILOT_SHARE = 0.28

_GRID = 64
"""Cells per side of the mark."""
_LOWEST, _HIGHEST = 4, 28
"""Half-periods per side. Lower ones are drowned by light and motion, higher ones by codecs."""

_RMS = 2.04
"""Root mean square of the change in levels of RGB, at most; rounding takes a little of it."""
_LARGEST = 8.0
"""Levels by which luminance changes at most."""
_FLAT, _MASKED = 0.37, 0.26
"""Amplitude where nothing covers it, and per standard deviation around a place."""
_PEAKED = 1.4
"""Exponent of the pattern: codecs drop small changes, so fewer and larger ones survive better."""
_PEAK = 3.0
"""Standard deviations at which the pattern is cut off: flat places change by 1 level at most."""
_COVER = 3
"""Cells around a place that cover it."""
_SHARPNESS = 2.0
"""The swing is a cosine cut off at half its height: mostly it rests."""
_FADE = 4
"""Cells in which a mark begins inside a picture."""

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_TINT = (1 + _LUMINANCE / np.square(_LUMINANCE).sum()) / 2
"""Change of RGB that changes luminance by 1: between neutral and the smallest, which is seen as
green and magenta."""

_STRIP_ROWS = 128

_LONGEST = 256
"""Pixels of pictures' longer side in the detector."""
_NOISE = 1.0
"""Variance that every place has, of rounding and coding."""
_NEIGHBOURHOOD = 7
"""Frequencies around each, of which the usual magnitude is taken."""
_OUTLIER = 2.5
FEWEST_FRAMES = 12
"""In which a mark is looked for."""

_LARGEST_CROP = 0.34
"""Share of the longer side that may be missing."""
_SIDE_STEP = 1.03
_SLACK = 12
"""Cells by which a square may lie beyond where it is expected."""
_CANDIDATES = 3
_FAINTEST = 5.0
"""Energy of a pilot after which the message is read: noise has it once in 150 places."""
_FINER = (1.0, 0.5, 0.25)
"""Steps in cells."""
_BETWEEN = 8
"""Places around each that is tried at first: refining it counts as trying these."""
_HYPOTHESES = 3
"""Places are sought in so many ways, which share the false alarms."""

Grid = Float32[np.ndarray, "64 64"]
Map = Float32[np.ndarray, "h w"]
Swinging = Float32[np.ndarray, "2 h w"]
Picture = UInt8[np.ndarray, "h w 3"]


class Rectangle(NamedTuple):
    """A place in a picture, in pixels; it may reach beyond the picture."""

    left: float
    top: float
    width: float
    height: float

    @classmethod
    def of(cls, place: tuple[slice, slice]) -> Rectangle:
        """Rows and columns of an array."""
        rows, columns = place
        width, height = columns.stop - columns.start, rows.stop - rows.start
        return cls(columns.start, rows.start, width, height)

    def scaled(self, across: float, down: float) -> Rectangle:
        """In a picture that is so many times as large."""
        return Rectangle(
            self.left * across, self.top * down, self.width * across, self.height * down
        )


def square_around(place: Rectangle) -> Rectangle:
    """The smallest square around a place."""
    left, top, width, height = place
    side = max(width, height)
    return Rectangle(left - (side - width) / 2, top - (side - height) / 2, side, side)


class Found(NamedTuple):
    """A mark in a video.

    Attributes:
        payload: its 32 bits, or None if they are damaged.
        log10_chance: logarithm of the probability that a video without a mark looks so, or more.
        place: of the mark.
    """

    payload: int | None
    log10_chance: float
    place: Rectangle

    @property
    def identifier(self) -> str | None:
        """The payload as people see it."""
        return None if self.payload is None else f"{self.payload:08x}"


class _Chips(NamedTuple):
    """Places of the cosines in the spectrum, in the order of the message.

    Attributes:
        rows: half-periods from top to bottom.
        columns: from left to right.
        signs: that hide the message's structure.
        pilot: how many belong to the pilot; the rest are blocks of equal length.
    """

    rows: np.ndarray
    columns: np.ndarray
    signs: np.ndarray
    pilot: int


def _bits(name: str, count: int) -> np.ndarray:
    """Random bits that are the same on every machine and for ever."""
    digest = hashlib.shake_256(f"eamm_jax watermark 1 {name}".encode()).digest(-(-count // 8))
    return np.unpackbits(np.frombuffer(digest, np.uint8))[:count]


@cache
def _chips() -> _Chips:
    rows, columns = np.mgrid[1 : _HIGHEST + 1, 1 : _HIGHEST + 1]
    radius = np.hypot(rows, columns)
    used = (radius >= _LOWEST) & (radius <= _HIGHEST)
    rows, columns = rows[used], columns[used]
    shuffled = np.packbits(_bits("order", 32 * len(rows))).view(">u4").argsort(kind="stable")
    signs = 1 - 2 * _bits("signs", len(rows)).astype(np.float32)
    block = int(len(rows) * (1 - _PILOT_SHARE)) // _BLOCKS
    return _Chips(rows[shuffled], columns[shuffled], signs, len(rows) - _BLOCKS * block)


@cache
def _words() -> Float32[np.ndarray, "words chips"]:
    """Signs of a block's chips."""
    chips = _chips()
    length = (len(chips.signs) - chips.pilot) // _BLOCKS
    bits = _bits("words", 2**_BLOCK_BITS * length).reshape(-1, length)
    return 1 - 2 * bits.astype(np.float32)


def _waves(start: float, length: float, count: int) -> Float32[np.ndarray, "frequencies count"]:
    """The cosines of a mark that lies from `start` on, at the centres of pixels; 0 beside it."""
    places = (np.arange(count) + 0.5 - start) / length
    waves = np.cos(np.pi * np.outer(np.arange(_HIGHEST + 1), places))
    waves[:, (places < 0) | (places > 1)] = 0
    return (waves * math.sqrt(2 / length)).astype(np.float32)


def _pattern(values: Float32[np.ndarray, " chips"]) -> Grid:
    """The sum of the first cosines, with a standard deviation of 1."""
    chips, waves = _chips(), _waves(0, _GRID, _GRID)
    spectrum = np.zeros((len(waves), len(waves)), np.float32)
    used = slice(len(values))
    spectrum[chips.rows[used], chips.columns[used]] = chips.signs[used] * values
    pattern = waves.T @ spectrum @ waves
    return pattern / pattern.std()


def _message(payload: int) -> int:
    """The payload with its check bits."""
    check = zlib.crc32(payload.to_bytes(PAYLOAD_BITS // 8, "big")) % 2**_CHECK_BITS
    return payload << _CHECK_BITS | check


def _spelled(message: int) -> Float32[np.ndarray, " chips"]:
    numbers = [message >> _BLOCK_BITS * k & 2**_BLOCK_BITS - 1 for k in range(_BLOCKS)]
    pilot = np.ones(_chips().pilot, np.float32)
    return np.concatenate([pilot, *_words()[numbers]]).astype(np.float32)


class _Fit(NamedTuple):
    """How a mark lies in frames of one size.

    Attributes:
        rows: of the frame that it covers.
        columns: likewise.
        pattern: that part of it which is seen.
        fade: by which it begins gently inside a picture.
    """

    rows: slice
    columns: slice
    pattern: Grid
    fade: Grid


def _luminance(frame: Picture, width: int, height: int) -> Map:
    grey = Image.fromarray(frame).convert("L")
    return np.asarray(grey.resize((width, height), Image.Resampling.BOX), np.float32)


def _amplitude(luminance: Grid) -> Grid:
    """By how much each place may change before it is seen."""
    both = np.stack([luminance, np.square(luminance)])
    mean, square = ndimage.uniform_filter(both, _COVER, mode="nearest", axes=(1, 2))
    variance = np.maximum(square - mean * mean, 0)
    return np.sqrt(_FLAT**2 + _MASKED**2 * variance)


class Watermark:
    """Marks the frames of one video.

    Args:
        payload: 32 bits.
        region: that is marked, which need not be square; None is the whole picture.
    """

    def __init__(self, payload: int, region: Rectangle | None = None):
        if not 0 <= payload < 2**PAYLOAD_BITS:
            raise ValueError(f"a payload has {PAYLOAD_BITS} bits, got {payload}")
        pattern = _pattern(_spelled(_message(payload)))
        peaked = np.sign(pattern) * np.abs(pattern) ** _PEAKED
        self._pattern = np.clip(peaked / peaked.std(), -_PEAK, _PEAK)
        self._region = region
        self._fit = lru_cache(maxsize=1)(self._fitted)

    def __call__(self, frame: Picture, seconds: float, out: Picture | None = None) -> Picture:
        """A marked frame.

        Args:
            frame: RGB.
            seconds: since the beginning of the video.
            out: what is written to, in which the frame is already: `frame` itself where a copy
                would take too much memory. None is a copy.
        """
        marked = frame.copy() if out is None else out
        fit = self._fit(*frame.shape[:2])
        change = self._change(frame[fit.rows, fit.columns], fit.pattern, seconds)
        cells = Image.fromarray(change * fit.fade)
        top, bottom = fit.rows.start, fit.rows.stop
        cell = _GRID / (bottom - top)
        for start in range(top, bottom, _STRIP_ROWS):  # a large photo takes little memory so
            end = min(start + _STRIP_ROWS, bottom)
            strip = marked[start:end, fit.columns]
            place = (0, (start - top) * cell, _GRID, (end - top) * cell)
            enlarged = cells.resize(strip.shape[1::-1], Image.Resampling.BICUBIC, place)
            luminance = np.asarray(enlarged)
            for channel, tint in enumerate(_TINT):
                levels = luminance * tint
                levels += strip[..., channel]
                levels += 0.5  # to round by cutting off
                strip[..., channel] = levels.clip(0, 255, out=levels)
        return marked

    def _fitted(self, height: int, width: int) -> _Fit:
        """What is the same in all frames of a size."""
        region = self._region or Rectangle(0, 0, width, height)
        left, top, right, bottom = _inside(region, height, width)
        square = square_around(region)
        corners = (left, top, right, bottom)
        box = [(corners[k] - square[k % 2]) * _GRID / square.width for k in range(4)]
        pattern = Image.fromarray(self._pattern).resize(
            (_GRID, _GRID), Image.Resampling.BICUBIC, tuple(np.clip(box, 0, _GRID).tolist())
        )
        fade = np.outer(_fade(top > 0, bottom < height), _fade(left > 0, right < width))
        return _Fit(slice(top, bottom), slice(left, right), np.asarray(pattern), fade)

    @staticmethod
    def _change(seen: Picture, pattern: Grid, seconds: float) -> Grid:
        """Of the luminance in that part of a region that is seen."""
        step = max(1, min(seen.shape[:2]) // (4 * _GRID))
        sampled = np.ascontiguousarray(seen[::step, ::step])
        change = _amplitude(_luminance(sampled, _GRID, _GRID)) * pattern
        change = np.clip(change, -_LARGEST, _LARGEST)
        rms = math.sqrt(np.square(change).mean() * np.square(_TINT).mean())
        swing = min(max(_SHARPNESS * math.cos(2 * math.pi * seconds / PERIOD), -1), 1)
        return change * (min(1.0, _RMS / rms) * swing)


def _fade(at_start: bool, at_end: bool) -> Float32[np.ndarray, " cells"]:
    ramp = np.minimum((np.arange(_GRID, dtype=np.float32) + 0.5) / _FADE, 1)
    return (ramp if at_start else 1) * (ramp[::-1] if at_end else np.ones_like(ramp))


def _inside(region: Rectangle, height: int, width: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is seen of a region."""
    right, bottom = region.left + region.width, region.top + region.height
    left, top = max(round(region.left), 0), max(round(region.top), 0)
    return left, top, min(round(right), width), min(round(bottom), height)


def detect(frames: Iterable[tuple[float, Picture]]) -> Found | None:
    """Looks for a mark.

    Args:
        frames: seconds and pictures of a video; each is needed once.

    Returns:
        The mark, or None where there is none, or less than can be told from chance. The
        probability that it is found in a video without one is less than `FALSE_ALARMS`.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        return None
    height, width = first[1].shape[:2]
    scale = min(1, _LONGEST / max(height, width))
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    # The size of frames may change on the way.
    maps = (
        (seconds, _luminance(frame, *size)) for seconds, frame in itertools.chain([first], frames)
    )
    swinging = _swinging(maps)
    if swinging is None:
        return None
    across, down = width / size[0], height / size[1]
    best = None
    for places, tried in _places(swinging):
        judged = [_judge(swinging, place, tried) for place in places]
        found = min((f for f in judged if f is not None), key=_preference, default=None)
        if found is not None and (best is None or _preference(found) < _preference(best)):
            best = found._replace(place=found.place.scaled(across, down))
        if best is not None and best.payload is not None:
            break
    return best


def _preference(found: Found) -> tuple[bool, float]:
    return found.payload is None, found.log10_chance


def _swinging(maps: Iterable[tuple[float, Map]]) -> Swinging | None:
    """What swings as a mark does, in two phases, in standard deviations of each place.

    A period at a time, as what else moves has less time for it so.
    """
    total: np.ndarray | float = 0.0
    window, complete = _Window(), False
    for seconds, luminance in maps:
        if window.times and seconds - window.times[0] >= PERIOD:
            total, window, complete = total + window.swinging(), _Window(), True
        window.add(seconds, luminance)
    if len(window.times) >= FEWEST_FRAMES and (not complete or window.is_long):
        total, complete = total + window.swinging(), True
    return np.asarray(total, np.float32) if complete else None


class _Window:
    """Luminance in a period, or less."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._levels: list[np.ndarray] = []

    def add(self, seconds: float, luminance: Map) -> None:
        self.times.append(seconds)
        self._levels.append(luminance)

    @property
    def is_long(self) -> bool:
        """Whether it tells more than it confuses, beside whole periods."""
        return self.times[-1] - self.times[0] >= 0.6 * PERIOD

    def swinging(self) -> Swinging:
        """Least squares, relative to what it leaves: the same everywhere, where nothing swings."""
        angles = 2 * np.pi * np.array(self.times, np.float32) / PERIOD
        basis = np.stack([np.cos(angles), np.sin(angles), np.ones_like(angles)], axis=1)
        levels = np.stack(self._levels)
        flat = levels.reshape(len(levels), -1)
        fit = np.linalg.pinv(basis) @ flat
        variance = np.square(flat - basis @ fit).mean(0) + _NOISE
        return (fit[:2] / np.sqrt(variance)).reshape(2, *levels.shape[1:])


def _places(swinging: Swinging) -> Iterator[tuple[list[Rectangle], int]]:
    """Where a mark may lie, and how many places were tried for it; the most probable first."""
    height, width = swinging.shape[1:]
    whole = Rectangle(0, 0, width, height)
    around = square_around(whole)
    yield [whole], 1
    steps = math.log(1 / (1 - _LARGEST_CROP)) / math.log(_SIDE_STEP)
    yield _search(swinging, [around.width * _SIDE_STEP**k for k in range(int(steps) + 1)], 1)
    steps = math.log(max(around.width / _GRID, 1)) / math.log(_SIDE_STEP)  # a pixel a cell
    yield _search(swinging, [around.width / _SIDE_STEP**k for k in range(int(steps) + 1)], _SLACK)


def _search(swinging: Swinging, sides: Iterable[float], slack: int) -> tuple[list[Rectangle], int]:
    """The squares of some sides that are most like the pilot, and how many were tried.

    Args:
        swinging: as `_swinging` returns it.
        sides: in pixels.
        slack: cells by which a square may reach beyond the picture, or the picture beyond it.
    """
    signs = np.ones(_chips().pilot, np.float32)
    pilot = _pattern(signs)
    height, width = swinging.shape[1:]
    likely: list[tuple[float, Rectangle]] = []
    tried = 0
    for side in sides:
        size = max(round(width * _GRID / side), 1), max(round(height * _GRID / side), 1)
        cells = np.stack(
            [np.asarray(Image.fromarray(s).resize(size, Image.Resampling.BOX)) for s in swinging]
        )
        shape = [fft.next_fast_len(n + _GRID + slack, real=True) for n in cells.shape[1:]]
        spectra = fft.rfft2(cells, shape)
        spectra /= _usual(np.abs(spectra))
        alike = fft.irfft2(spectra * np.conj(fft.rfft2(pilot, shape)), shape)
        energy = np.square(alike / (alike.std(axis=(1, 2), keepdims=True) + 1e-9)).sum(0) / 2
        offsets = [
            np.arange(min(n - _GRID, 0) - slack, max(n - _GRID, 0) + slack + 1)
            for n in cells.shape[1:]
        ]
        energy = energy[np.ix_(*offsets)]
        tried += energy.size
        for at in np.argsort(energy, axis=None)[-_CANDIDATES:]:
            row, column = np.unravel_index(at, energy.shape)
            across, down = width / size[0], height / size[1]
            place = Rectangle(float(offsets[1][column]), float(offsets[0][row]), _GRID, _GRID)
            likely.append((float(energy[row, column]), place.scaled(across, down)))
    likely.sort(reverse=True)
    places = [_refined(swinging, place, signs) for _, place in likely[:_CANDIDATES]]
    return places, tried * _BETWEEN


def _refined(
    swinging: Swinging, place: Rectangle, signs: Float32[np.ndarray, " chips"]
) -> Rectangle:
    """The place nearby where the first chips are most like these."""

    def alike(place: Rectangle) -> float:
        return _energy(_read(swinging, place)[:, : len(signs)] * signs)[0]

    for step in _FINER:
        cell = step * place.width / _GRID
        near = [
            Rectangle(
                place.left + (x - side / 2) * cell,
                place.top + (y - side / 2) * cell,
                place.width + side * cell,
                place.height + side * cell,
            )
            for x, y, side in itertools.product((0, -1, 1), repeat=3)
        ]
        place = max(near, key=alike)
    return place


def _usual(magnitudes: np.ndarray) -> np.ndarray:
    """What is usual around each frequency, in both phases together."""
    together = np.sqrt(np.square(magnitudes).sum(0))
    return ndimage.uniform_filter(together, _NEIGHBOURHOOD) + 1e-9


def _read(swinging: Swinging, place: Rectangle) -> np.ndarray:
    """The chips in both phases, (2, chips), relative to what is usual around their frequencies."""
    chips = _chips()
    height, width = swinging.shape[1:]
    down = _waves(place.top, place.height, height)
    across = _waves(place.left, place.width, width)
    spectra = down @ swinging @ across.T
    read = np.clip(spectra / _usual(spectra), -_OUTLIER, _OUTLIER)
    return read[:, chips.rows, chips.columns] * chips.signs


def _energy(read: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy of chips that should all be positive, and their phase.

    Noise, whose signs are random, has more than an energy with probability exp(-energy): the sums
    of its two phases are Gaussian, and their squares, whitened, have a chi-squared distribution.
    """
    covariance, total = read @ read.T, read.sum(1)
    if np.linalg.det(covariance) <= 1e-6 * np.trace(covariance) ** 2:  # nothing moves
        return 0.0, total
    return float(total @ np.linalg.solve(covariance, total)) / 2, total


def _pilot(read: np.ndarray) -> tuple[float, np.ndarray]:
    return _energy(read[:, : _chips().pilot])


def _judge(swinging: Swinging, place: Rectangle, tried: int) -> Found | None:
    """Reads the message of a mark at a place; None if it may be chance."""
    read = _read(swinging, place)
    energy, phase = _pilot(read)
    if energy < _FAINTEST:
        return None
    message, intact = _spelling(read, phase)
    signs = _spelled(message)  # all chips tell place and phase better than the pilot alone
    if tried > 1:
        place = _refined(swinging, place, signs)
        read = _read(swinging, place)
    if not intact:
        message, intact = _spelling(read, read @ signs)
    log10_tried = math.log10(2 * _HYPOTHESES * tried)  # 2: the pilot alone, or any message
    if intact:
        log10_tried += PAYLOAD_BITS * math.log10(2)
        energy, _ = _energy(read * _spelled(message))
    chance = log10_tried - energy / math.log(10)
    if chance > math.log10(FALSE_ALARMS):
        return None
    return Found(message >> _CHECK_BITS if intact else None, chance, place)


def _spelling(read: np.ndarray, phase: np.ndarray) -> tuple[int, bool]:
    """The message that is most alike, and whether its check bits are right."""
    # Motion is stronger in one phase than in the other.
    covariance = read @ read.T + 1e-6 * np.eye(2, dtype=np.float32)
    chosen = (np.linalg.solve(covariance, phase) @ read)[_chips().pilot :]
    scores = chosen.reshape(_BLOCKS, -1) @ _words().T
    best = np.argpartition(scores, -_ALIKE)[:, -_ALIKE:]
    likely = np.take_along_axis(scores, best, 1)
    losses = likely.max(1, keepdims=True) - likely
    total = np.sum(np.meshgrid(*losses, indexing="ij"), axis=0)
    ranks = np.unravel_index(np.argsort(total, axis=None)[:_GUESSES], total.shape)
    words = [best[k, rank].astype(np.int64) << _BLOCK_BITS * k for k, rank in enumerate(ranks)]
    messages = np.sum(words, axis=0).tolist()
    for message in messages:
        if _message(message >> _CHECK_BITS) == message:
            return message, True
    return messages[0], False
