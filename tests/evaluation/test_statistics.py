"""Intervals of means, differences of methods, groups: against what is known of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eamm_jax.evaluation.statistics import difference, differences, estimate, estimates, grouped

BY_CLIP = {
    "a": {"ours": {"psnr": 20.0, "emotion": 1.0}, "theirs": {"psnr": 22.0}},
    "b": {"ours": {"psnr": 30.0}, "theirs": {"psnr": 35.0}},
    "c": {"ours": {"psnr": 28.0}},
}


def test_intervals_are_those_of_a_normal_mean(rng):
    """For many normal values: 1.96 standard errors on both sides."""
    values = rng.normal(5, 2, 400)
    found = estimate(values)
    assert (found.mean, found.clips) == (pytest.approx(values.mean()), 400)
    error = 1.96 * values.std() / 20
    # The ends of 10,000 resamples scatter by about a fiftieth of their distance.
    assert found.low == pytest.approx(found.mean - error, abs=0.06 * error)
    assert found.high == pytest.approx(found.mean + error, abs=0.06 * error)
    assert estimate(values) == found


def test_intervals_cover_the_true_mean(rng):
    covered = 0
    for _ in range(100):
        found = estimate(rng.exponential(1.0, 30))
        covered += found.low <= 1 <= found.high
    # Of 100 intervals of 30 skewed values about 90 cover; fewer than 80 come once in 1000 runs.
    assert covered >= 80


def test_one_value_and_equal_values_have_no_width():
    assert estimate(np.array([3.0])) == (3.0, 3.0, 3.0, 1)
    assert estimate(np.full(5, 0.25)) == (0.25, 0.25, 0.25, 5)


def test_differences_are_paired(rng):
    """Clips differ much, methods little, and always in the same direction."""
    clips = rng.normal(0, 10, 12)
    found = difference(clips + 0.1, clips)
    assert found.estimate.low == pytest.approx(0.1)
    assert found.estimate.high == pytest.approx(0.1)
    assert (found.higher, found.lower) == (12, 0)
    assert found.p == pytest.approx(2 * 0.5**12)


def test_ties_say_nothing():
    found = difference(np.array([1.0, 2, 3, 9]), np.array([1.0, 2, 5, 4]))
    assert (found.higher, found.lower, found.p) == (1, 1, 1.0)
    assert difference(np.ones(3), np.ones(3)).p == 1.0
    uneven = difference(np.array([1.0, 1, 1, 0]), np.zeros(4))
    # 3 of 3: the probability of that split or its mirror image.
    assert uneven.p == pytest.approx(2 / math.comb(3, 0) / 8)


def test_means_are_over_the_clips_that_have_the_metric():
    found = estimates(BY_CLIP, ["psnr", "emotion"])
    assert found["ours"]["psnr"].mean == 26.0
    assert found["ours"]["psnr"].clips == 3
    assert found["ours"]["emotion"] == (1.0, 1.0, 1.0, 1)
    assert list(found["theirs"]) == ["psnr"]


def test_methods_are_compared_on_the_clips_that_both_have():
    found = differences(BY_CLIP, ["psnr", "emotion"])
    assert list(found) == ["psnr"]
    (pair,) = found["psnr"]
    assert pair == ("theirs", "ours")
    assert found["psnr"][pair].estimate.mean == pytest.approx(3.5)
    assert found["psnr"][pair].estimate.clips == 2


def test_groups_are_sorted_and_leave_out_the_unknown():
    groups = grouped(BY_CLIP, {"a": "sad", "b": "happy", "c": ""}.get)
    assert list(groups) == ["happy", "sad"]
    assert list(groups["sad"]) == ["a"]
