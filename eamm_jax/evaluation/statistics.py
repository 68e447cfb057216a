"""How certain a mean over clips is, and whether two methods differ.

A clip is one observation: frames of a clip resemble each other, so an interval over frames would
promise too much. Nothing is assumed about the distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

Table = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Metrics by clip and method."""

CONFIDENCE = 0.95
RESAMPLES = 10_000

_BATCH = 1_000
"""Resamples at a time, so that memory stays small."""


class Estimate(NamedTuple):
    """A mean over clips.

    Attributes:
        mean: the mean.
        low: lower end of its 95 % interval; the mean itself for a single clip.
        high: upper end.
        clips: how many clips have the metric.
    """

    mean: float
    low: float
    high: float
    clips: int


class Difference(NamedTuple):
    """Two methods on the same clips.

    Attributes:
        estimate: the mean of first - second over the clips that both have.
        higher: clips on which the first has the higher value.
        lower: clips on which it has the lower one.
        p: of the two-sided sign test: the probability of a split at least as uneven if either
            method were as likely to have the higher value. Ties are left out.
    """

    estimate: Estimate
    higher: int
    lower: int
    p: float


def estimate(values: Float[np.ndarray, " n"]) -> Estimate:
    """The mean with the interval of its percentile bootstrap (Efron 1979).

    The resamples are always the same, so the same values have the same interval.
    """
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Estimate(mean, mean, mean, count)
    return Estimate(mean, *_interval(tuple(values.tolist())), count)


@cache
def _interval(values: tuple[float, ...]) -> tuple[float, float]:
    """Remembered, because several tables of a report show the same means."""
    interval = stats.bootstrap(
        (np.array(values),),
        np.mean,
        n_resamples=RESAMPLES,
        batch=_BATCH,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def difference(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> Difference:
    """Compares two methods on the same clips, in the same order."""
    gap = first - second
    higher, lower = int((gap > 0).sum()), int((gap < 0).sum())
    untied = higher + lower
    p = float(stats.binomtest(higher, untied).pvalue) if untied else 1.0
    return Difference(estimate(gap), higher, lower, p)


def methods_of(by_clip: Table) -> list[str]:
    """The methods, in the order in which clips name them."""
    return list(dict.fromkeys(name for clip in by_clip.values() for name in clip))


def estimates(by_clip: Table, metrics: Iterable[str]) -> dict[str, dict[str, Estimate]]:
    """The mean of each metric over the clips that have it, by method."""
    found: dict[str, dict[str, Estimate]] = {}
    for method in methods_of(by_clip):
        clips = [clip[method] for clip in by_clip.values() if method in clip]
        found[method] = {
            key: estimate(np.array([clip[key] for clip in clips if key in clip]))
            for key in metrics
            if any(key in clip for clip in clips)
        }
    return found


def differences(
    by_clip: Table, metrics: Iterable[str]
) -> dict[str, dict[tuple[str, str], Difference]]:
    """Every two methods, by metric: each with those before it."""
    found: dict[str, dict[tuple[str, str], Difference]] = {}
    methods = methods_of(by_clip)
    for key in metrics:
        for place, second in enumerate(methods):
            for first in methods[place + 1 :]:
                pairs = [
                    (clip[first][key], clip[second][key])
                    for clip in by_clip.values()
                    if key in clip.get(first, {}) and key in clip.get(second, {})
                ]
                if pairs:
                    compared = difference(*np.array(pairs, np.float64).T)
                    found.setdefault(key, {})[first, second] = compared
    return found


def grouped(by_clip: Table, group_of: Callable[[str], str]) -> dict[str, Table]:
    """The clips of each group, sorted by its name; clips without a group ("") are left out."""
    groups: dict[str, dict[str, Mapping[str, Mapping[str, float]]]] = {}
    for name, clip in by_clip.items():
        if group_of(name):
            groups.setdefault(group_of(name), {})[name] = clip
    return {group: groups[group] for group in sorted(groups)}
