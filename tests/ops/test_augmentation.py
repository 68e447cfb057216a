"""Augmentations against Pillow, NumPy, SciPy and OpenCV."""

import colorsys
import itertools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy import ndimage

from eamm_jax.ops import augmentation as aug

RNG = jax.random.key(0)

# Compiled as in training, which also saves the time of compiling each operation on its own.
rotate = jax.jit(aug.rotate)
warp_perspective = jax.jit(aug.warp_perspective)
adjust_colours = jax.jit(aug.adjust_colours)
jitter_colours = jax.jit(aug.jitter_colours)
augment_pair = jax.jit(aug.augment_pair)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Two clips of three smooth colourful frames, (2, 3, 48, 48, 3)."""
    noise = np.random.default_rng(0).normal(size=(2, 3, 48, 48, 3))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 2, 2, 0))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return smooth.astype(np.float32)


# Colour.


def through_pillow(frame: np.ndarray, change) -> np.ndarray:
    image = Image.fromarray(np.round(frame * 255).astype(np.uint8))
    return np.asarray(change(image)) / 255


@pytest.mark.parametrize("factor", [0.0, 0.6, 0.9, 1.0, 1.1, 2.5])
@pytest.mark.parametrize(
    ("which", "enhancer"),
    [(0, ImageEnhance.Brightness), (1, ImageEnhance.Color), (3, ImageEnhance.Contrast)],
)
def test_adjustments_match_pillow(frames, which, enhancer, factor):
    factors = np.array([[1, 1, 0, 1]], np.float32)
    factors[0, which] = factor
    (ours,) = adjust_colours(frames[:1], factors, np.arange(4)[None])
    for frame, result in zip(frames[0], ours, strict=True):
        expected = through_pillow(frame, lambda image: enhancer(image).enhance(factor))
        # Pillow rounds its input, its grey and its result to 8 bits.
        np.testing.assert_allclose(result, expected, atol=(1 + factor) * 1.5 / 255)


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.0, 0.04, 0.3, 1.0])
def test_hue_matches_colorsys(frames, shift):
    frame = frames[0, 0, :8, :8]
    expected = []
    for red, green, blue in frame.reshape(-1, 3).tolist():
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        expected.append(colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value))
    ours = aug.adjust_hue(frame, shift)
    np.testing.assert_allclose(ours.reshape(-1, 3), expected, atol=2e-6)


def test_hue_shift_keeps_grey():
    grey = np.broadcast_to(np.linspace(0, 1, 16, dtype=np.float32)[:, None, None], (16, 4, 3))
    np.testing.assert_allclose(aug.adjust_hue(grey, 0.37), grey, atol=1e-7)


def blend(start: np.ndarray, frames: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(start + factor * (frames - start), 0, 1)


def grey(frames: np.ndarray) -> np.ndarray:
    return frames @ np.array([[0.299], [0.587], [0.114]], np.float32)


ADJUSTMENTS = (
    lambda frames, factor: blend(np.float32(0), frames, factor),
    lambda frames, factor: blend(grey(frames), frames, factor),
    lambda frames, shift: np.asarray(aug.adjust_hue(frames, shift)),
    lambda frames, factor: blend(grey(frames).mean((-3, -2), keepdims=True), frames, factor),
)


def test_colours_are_adjusted_in_the_order_given(frames):
    # Brightness clips, so the order is seen: (brightness, saturation, hue, contrast).
    order = np.array(list(itertools.permutations(range(4))))
    clips = np.resize(frames, (len(order), *frames.shape[1:]))
    factors = np.resize(
        np.array([[1.8, 0.5, 0.1, 1.4], [0.7, 1.5, -0.2, 0.8]], np.float32), (len(order), 4)
    )
    ours = adjust_colours(clips, factors, order)
    for n in range(len(order)):
        expected = clips[n]
        for which in order[n]:
            expected = ADJUSTMENTS[which](expected, factors[n, which])
        np.testing.assert_allclose(ours[n], expected, atol=1e-6)
    other_order = adjust_colours(clips, factors, order[::-1])
    assert (jnp.abs(other_order - ours).max(axis=(1, 2, 3, 4)) > 0.01).all()


def test_jitter_treats_all_frames_of_a_clip_alike_and_clips_differently(frames):
    same = np.broadcast_to(frames[:1, :1], (8, 3, *frames.shape[2:]))
    ours = np.asarray(jitter_colours(RNG, same, 0.1))
    assert (ours == ours[:, :1]).all()
    assert len(np.unique(ours[:, 0].round(4), axis=0)) == 8
    assert ours.min() >= 0
    assert ours.max() <= 1


def test_jitter_stays_within_its_amounts():
    grey = np.full((64, 1, 4, 4, 3), 0.5, np.float32)
    # Of even grey, brightness alone changes anything.
    brightness = np.asarray(jitter_colours(RNG, grey, 0.1)) / 0.5
    assert 0.9 <= brightness.min() < 0.93
    assert 1.07 < brightness.max() <= 1.1


def test_no_jitter_changes_nothing(frames):
    np.testing.assert_allclose(jitter_colours(RNG, frames, 0.0), frames, atol=1e-6)


# Flips and the mouth mask.


def test_only_marked_clips_are_flipped(frames):
    ours = aug.flip_horizontally(frames, np.array([True, False]))
    np.testing.assert_array_equal(ours[0], frames[0, :, :, ::-1])
    np.testing.assert_array_equal(ours[1], frames[1])


def test_half_of_the_clips_are_flipped():
    ramp = np.broadcast_to(np.arange(4, dtype=np.float32)[:, None], (400, 2, 3, 4, 3))
    mirrored = np.asarray(aug.flip_at_random(RNG, ramp))[..., 0, 0] == 3
    assert (mirrored == mirrored[:, :1, :1]).all()
    assert 0.4 < mirrored.mean() < 0.6


@pytest.mark.parametrize("size", [256, 128, 64, 512])
def test_mouth_box_scales_with_the_frame(size):
    frames = np.zeros((1, 1, size, size, 3), np.float32)
    box = np.asarray(aug.mask_mouth(frames, 1.0))[0, 0, :, :, 0]
    rows, columns = np.flatnonzero(box.any(axis=1)), np.flatnonzero(box.any(axis=0))
    scale = size / 256
    assert box.sum() == len(rows) * len(columns)
    # 100x60 around (135, 190) at 256.
    assert [columns[0], columns[-1] + 1] == [round(85 * scale), round(185 * scale)]
    assert [rows[0], rows[-1] + 1] == [round(160 * scale), round(220 * scale)]


def test_mouth_mask_is_deterministic_grey(frames):
    ours = np.asarray(aug.mask_mouth(frames))
    changed = (ours != frames).any(axis=(0, 1, 4))
    assert changed.sum() == round(48 * 100 / 256) * round(48 * 60 / 256)
    assert (ours[:, :, changed] == 0.5).all()


def test_mouth_noise_is_uniform_and_new_in_every_frame():
    frames = np.full((2, 3, 256, 256, 3), 2.0, np.float32)  # a value that noise cannot have
    ours = np.asarray(aug.mask_mouth_with_noise(RNG, frames))
    noise = ours[:, :, 160:220, 85:185].reshape(6, -1)
    assert (ours == 2.0).sum() == frames.size - noise.size
    for drawn in noise:
        counts = np.histogram(drawn, 10, (0, 1))[0] / drawn.size
        np.testing.assert_allclose(counts, 0.1, atol=0.01)
    assert np.abs(np.corrcoef(noise) - np.eye(6)).max() < 0.05


# Rotation and perspective.


def sampled(frame: np.ndarray, rows: np.ndarray, columns: np.ndarray, mode: str) -> np.ndarray:
    """Bilinear sampling by SciPy, a channel at a time."""
    return np.stack(
        [
            ndimage.map_coordinates(channel, [rows, columns], order=1, mode=mode)
            for channel in np.moveaxis(frame.astype(np.float64), -1, 0)
        ],
        axis=-1,
    )


@pytest.mark.parametrize("degrees", [-30.0, -7.0, 0.0, 12.5, 30.0, 90.0])
def test_rotation_is_bilinear_about_the_centre(frames, degrees):
    matrix = cv2.getRotationMatrix2D((23.5, 23.5), degrees, 1.0)  # counter-clockwise too
    inverse = cv2.invertAffineTransform(matrix)
    row, column = np.mgrid[:48, :48]
    source = inverse @ np.stack([column.ravel(), row.ravel(), np.ones(48 * 48)])
    columns, rows = source.reshape(2, 48, 48)
    ours = rotate(frames, np.array([degrees, 0.0], np.float32))
    for frame, result in zip(frames[0], ours[0], strict=True):
        expected = sampled(frame, rows, columns, "grid-constant")
        np.testing.assert_allclose(result, expected, atol=2e-4)
    np.testing.assert_allclose(ours[1], frames[1], atol=1e-5)


def test_a_quarter_rotation_is_exact(frames):
    ours = rotate(frames, np.array([90.0, 90.0], np.float32))
    np.testing.assert_allclose(ours, np.rot90(frames, axes=(2, 3)), atol=1e-4)


def published_homography(size: int, shift: float, enlargement: float) -> np.ndarray:
    """The published perspective: where the corners of an enlarged square go."""
    low, high = -enlargement, size + enlargement
    source = np.float32([[low, low], [low, high], [high, low], [high, high]])
    target = np.float32([[low, low], [low + shift, high], [high, low], [high - shift, high]])
    return cv2.getPerspectiveTransform(source, target)


@settings(max_examples=15, deadline=None)
@given(
    shift=st.sampled_from([-29, -20, 20, 25, 29]),
    enlargement=st.sampled_from([-39, -20, 20, 31, 39]),
    size=st.sampled_from([48, 256]),
)
def test_perspective_is_the_published_homography(shift, enlargement, size):
    # Frames that hold their own coordinates tell where every pixel was taken from.
    row, column = np.mgrid[:size, :size].astype(np.float32)
    frame = np.stack([column, row, np.zeros_like(row)], axis=-1)[None, None]
    ours = warp_perspective(frame, np.full((1, 1), shift), np.full((1, 1), enlargement))
    scale = size / 256
    homography = published_homography(size, shift * scale, enlargement * scale)
    points = np.stack([column.ravel(), row.ravel()], axis=-1)[:, None].astype(np.float64)
    expected = cv2.perspectiveTransform(points, np.linalg.inv(homography))
    expected = np.clip(expected.reshape(size, size, 2), 0, size - 1)
    np.testing.assert_allclose(ours[0, 0, :, :, :2], expected, atol=2e-3 * scale)


def test_perspective_matches_opencv_and_differs_by_frame(frames):
    shift = np.array([[20.0, -25.0, 29.0], [0.0, 20.0, -20.0]], np.float32)
    enlargement = np.array([[20.0, -39.0, 30.0], [30.0, -20.0, 39.0]], np.float32)
    ours = np.asarray(warp_perspective(frames, shift, enlargement))
    scale = 48 / 256
    for clip in range(2):
        for t in range(3):
            homography = published_homography(
                48, shift[clip, t] * scale, enlargement[clip, t] * scale
            )
            expected = cv2.warpPerspective(
                frames[clip, t], homography, (48, 48), borderMode=cv2.BORDER_REPLICATE
            )
            # OpenCV places samples on a grid of 1/32 pixel.
            np.testing.assert_allclose(ours[clip, t], expected, atol=0.02)
    np.testing.assert_allclose(ours[1, 0], frames[1, 0], atol=1e-5)


def test_random_perspective_draws_whole_pixels_of_either_sign(monkeypatch):
    drawn = {}

    def record(frames, shift, enlargement):
        drawn.update(shift=np.asarray(shift), enlargement=np.asarray(enlargement))
        return frames

    monkeypatch.setattr(aug, "warp_perspective", record)
    aug.warp_perspective_at_random(RNG, jnp.zeros((200, 16, 1, 1, 3)))
    for name, sizes in (("shift", range(20, 30)), ("enlargement", range(20, 40))):
        values = drawn[name]
        assert set(np.abs(values).ravel().tolist()) == set(sizes)
        assert 0.45 < (values > 0).mean() < 0.55
    assert abs(np.corrcoef(drawn["shift"].ravel(), drawn["enlargement"].ravel())[0, 1]) < 0.1


def test_random_rotation_stays_within_its_limit(monkeypatch):
    drawn = []
    monkeypatch.setattr(aug, "rotate", lambda frames, degrees: drawn.append(degrees))
    aug.rotate_at_random(RNG, jnp.zeros((500, 1, 1, 1, 3)))
    (degrees,) = drawn
    assert degrees.shape == (500,)
    assert -30 <= degrees.min() < -28
    assert 28 < degrees.max() <= 30


# Whole chains.


def test_emotion_chain_applies_the_published_changes_in_order(frames, monkeypatch):
    calls = []
    for name in (
        "mask_mouth_with_noise",
        "flip_at_random",
        "rotate_at_random",
        "warp_perspective_at_random",
        "jitter_colours",
    ):
        monkeypatch.setattr(
            aug, name, lambda rng, frames, *rest, name=name: calls.append(name) or frames
        )
    aug.augment_emotion_frames(RNG, frames)
    assert calls == [
        "mask_mouth_with_noise",
        "flip_at_random",
        "rotate_at_random",
        "warp_perspective_at_random",
    ]


def test_emotion_chain_under_jit_is_repeatable_and_differs_by_key(frames):
    augment = jax.jit(aug.augment_emotion_frames)
    first = augment(RNG, frames)
    assert first.shape == frames.shape
    assert first.dtype == jnp.float32
    assert 0 <= first.min() < first.max() <= 1
    np.testing.assert_array_equal(first, augment(RNG, frames))
    assert jnp.abs(first - augment(jax.random.key(1), frames)).mean() > 0.02


def test_emotion_augmentation_can_be_disabled(frames):
    nothing = aug.EmotionAugmentation(
        mask_mouth=False, flip=False, rotation=0.0, perspective=None, jitter=0.0
    )
    np.testing.assert_array_equal(aug.augment_emotion_frames(RNG, frames, nothing), frames)


def test_pairs_are_swapped_flipped_or_unchanged(frames):
    source, driving = (np.repeat(frames[:1, t, :8, :8], 400, axis=0) for t in (0, 1))
    ours = [np.asarray(x) for x in augment_pair(RNG, source, driving, 0.0)]

    def share(first, second):
        same = [
            np.abs(x - y).max(axis=(1, 2, 3)) < 1e-5
            for x, y in zip(ours, (first, second), strict=True)
        ]
        return (same[0] & same[1]).mean()

    turned, left = share(driving, source), share(source, driving)
    mirrored = share(source[:, :, ::-1], driving[:, :, ::-1])
    assert turned + left + mirrored == pytest.approx(1.0)
    assert turned == pytest.approx(0.5, abs=0.07)
    assert mirrored == pytest.approx(0.25, abs=0.07)
