"""Lip sync: offsets, crops and sound; the network itself is tested with the models."""

from __future__ import annotations

import numpy as np
import pytest

from eamm_jax import features
from eamm_jax.evaluation import sync
from eamm_jax.evaluation.sync import MAX_SHIFT, SyncMeter, as_published, face_crops, mean_distances
from tests.evaluation.faces import template


@pytest.mark.parametrize("late", [-5, -1, 0, 3, 5])
def test_the_offset_is_read_off_to_the_frame(rng, late):
    """Features that belong together are equal, others are as far apart as chance has it."""
    sound = rng.normal(size=(80, 16)).astype(np.float32)
    lips = np.roll(sound, late, axis=0)[20:60]
    found = sync.sync_of(mean_distances(lips, sound[20:60]))
    # Late lips are beside sound that has passed: the sound is ahead.
    assert found.offset == late
    assert found.distance < found.distance + found.confidence


def test_the_sound_is_that_of_16_bits(rng):
    samples = rng.uniform(-0.5, 0.5, 8000)
    whole = np.round(samples * 32768)
    found = as_published(features.speech_mfcc(whole / 32768))
    expected = features.mfcc(whole)
    # Rows at the very end reach into the silence behind.
    np.testing.assert_allclose(found[:45], expected[:45], atol=1e-9)


def test_faces_are_cropped_with_some_air_and_more_below():
    frames = np.zeros((3, 200, 200, 3), np.uint8)
    points = 0.5 * template()
    pixels = ((points + 1) * 200 - 1) / 2
    for x, y in pixels.round().astype(int):
        frames[:, y - 1 : y + 2, x - 1 : x + 2] = 255
    crops = face_crops(frames, np.repeat(points[None], 3, axis=0))
    assert crops.shape == (3, 224, 224, 3)
    rows, columns = np.nonzero(crops[0, ..., 0] > 60)
    assert columns.mean() == pytest.approx(112, abs=10)
    assert 20 < columns.min() < columns.max() < 204
    assert rows.max() < 224 - 40  # below the chin there is air
    assert rows.min() > 30  # and the forehead above the brows


def test_clips_too_short_to_tell_are_left_out():
    meter = SyncMeter({})
    frames = np.zeros((5, 64, 64, 3), np.uint8)
    track = np.repeat(template()[None], 5, axis=0)
    assert meter.measure(frames, track, np.zeros((200, 13))) is None
    frames, track = np.repeat(frames, 2, axis=0), np.repeat(track, 2, axis=0)
    assert meter.measure(frames, track, np.zeros((30, 13))) is None
    assert MAX_SHIFT == 15
