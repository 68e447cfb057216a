"""The one-euro filter, against a loop written from its definition."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from eamm_jax.ops.smoothing import (
    EMOTION_FILTER,
    KEYPOINT_FILTER,
    POSE_FILTER,
    TRAINING_POSE_FILTER,
    OneEuro,
    initial_state,
    one_euro,
    smooth_track,
)

FILTERS = [EMOTION_FILTER, KEYPOINT_FILTER, POSE_FILTER, TRAINING_POSE_FILTER]


def oracle(track: np.ndarray, p: OneEuro) -> np.ndarray:
    """Casiez et al. 2012, algorithm 1, in float64."""

    def alpha(cutoff):
        tau = 1 / (2 * np.pi * cutoff)
        return 1 / (1 + tau * p.frequency)

    track = track.astype(np.float64) * p.gain
    out, speed = [track[0]], np.zeros_like(track[0])
    for before, now in itertools.pairwise(track):
        speed = alpha(p.dcutoff) * (now - before) * p.frequency + (1 - alpha(p.dcutoff)) * speed
        a = alpha(p.mincutoff + p.beta * np.abs(speed))
        out.append(a * now + (1 - a) * out[-1])
    return np.stack(out) / p.gain


@pytest.mark.parametrize("parameters", FILTERS)
def test_filter_is_its_definition(rng, parameters):
    track = np.cumsum(rng.normal(scale=0.02, size=(40, 3, 2)), axis=0).astype(np.float32)
    filtered, _ = one_euro(track, parameters, initial_state((3, 2)))
    np.testing.assert_allclose(filtered, oracle(track, parameters), atol=1e-5)
    on_host = smooth_track(track, parameters)
    assert on_host.dtype == np.float32
    np.testing.assert_allclose(on_host, oracle(track, parameters), rtol=2e-7, atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(cut=st.integers(1, 19), seed=st.integers(0, 99))
def test_pieces_with_carried_state_equal_the_whole(cut, seed):
    track = np.random.default_rng(seed).normal(size=(20, 2)).astype(np.float32)
    whole, _ = one_euro(track, KEYPOINT_FILTER, initial_state((2,)))
    head, state = one_euro(track[:cut], KEYPOINT_FILTER, initial_state((2,)))
    tail, _ = one_euro(track[cut:], KEYPOINT_FILTER, state)
    np.testing.assert_allclose(np.concatenate([head, tail]), whole, atol=1e-6)


@pytest.mark.parametrize("parameters", FILTERS)
def test_a_constant_signal_passes_unchanged(parameters):
    track = np.full((10, 2), 0.7, np.float32)
    filtered, _ = one_euro(track, parameters, initial_state((2,)))
    np.testing.assert_allclose(filtered, track, rtol=1e-6)


def test_jitter_shrinks(rng):
    track = rng.normal(scale=1e-4, size=(200, 1)).astype(np.float32)
    filtered, _ = one_euro(track, KEYPOINT_FILTER, initial_state((1,)))
    assert np.std(np.diff(filtered, axis=0)) < 0.2 * np.std(np.diff(track, axis=0))
