"""The Frechet distance against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from eamm_jax.evaluation.realism import frechet_distance


def definition(first, second) -> float:
    root = linalg.sqrtm(np.cov(first.T) @ np.cov(second.T)).real
    apart = ((first.mean(0) - second.mean(0)) ** 2).sum()
    return float(apart + np.trace(np.cov(first.T)) + np.trace(np.cov(second.T)) - 2 * root.trace())


def test_the_distance_is_that_of_its_definition(rng):
    first = rng.normal(size=(200, 8)) @ rng.normal(size=(8, 8))
    second = rng.normal(1, 2, size=(150, 8)) @ rng.normal(size=(8, 8))
    expected = definition(first, second)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-5)


def test_few_samples_of_many_features_are_no_trouble(rng):
    first = rng.normal(size=(5, 40))
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(first, first + 2) == pytest.approx(4 * 40)
    with pytest.raises(ValueError, match="two samples"):
        frechet_distance(first[:1], first)
