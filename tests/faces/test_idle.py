"""Idle motion of the head, and blinks."""

import numpy as np
import pytest

from eamm_jax.faces import idle


def idle_motion(length: int, strength: float, seed: int) -> np.ndarray:
    return idle.IdleMotion(strength, seed).next(length)


def blinks(length: int, seed: int) -> np.ndarray:
    return idle.Blinks(seed).next(length)


def test_idle_motion_grows_from_the_still_pose_and_stays_gentle():
    motion = idle_motion(5000, 1.0, seed=3)
    assert motion.shape == (5000, 6)
    assert motion.dtype == np.float32
    np.testing.assert_array_equal(motion[0], 0)
    spread = motion[100:].std(axis=0)
    np.testing.assert_allclose(spread[:3], [2.1, 1.4, 0.95], rtol=0.25)
    # Nothing jumps: a calm head turns by some degrees a second.
    assert np.abs(np.diff(motion[:, [0, 2]], axis=0)).max() < 0.6
    # The crop follows the face, as in the published poses.
    slope = np.polyfit(motion[:, 0], motion[:, 4], 1)[0]
    assert abs(slope - idle.FOLLOWED) < 0.05


def test_idle_motion_is_of_its_seed_strength_and_not_of_its_length():
    motion = idle_motion(300, 1.0, seed=3)
    np.testing.assert_array_equal(idle_motion(120, 1.0, seed=3), motion[:120])
    np.testing.assert_allclose(idle_motion(300, 0.5, seed=3), motion / 2, atol=1e-6)
    assert np.abs(idle_motion(300, 1.0, seed=4) - motion).max() > 1
    assert idle_motion(0, 1.0, seed=3).shape == (0, 6)


def test_motion_and_blinks_come_in_any_pieces():
    moving, blinking = idle.IdleMotion(0.7, 5), idle.Blinks(5)
    pieces = [(moving.next(n), blinking.next(n)) for n in (1, 0, 7, 300, 1, 191)]
    motion, closed = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    np.testing.assert_allclose(motion, idle_motion(500, 0.7, 5), atol=1e-6)
    np.testing.assert_array_equal(closed, blinks(500, 5))


def test_idle_heads_dip_as_with_blinks(monkeypatch):
    with_nods = idle_motion(3000, 1.0, seed=0)
    monkeypatch.setattr(idle, "NOD_DEGREES", 0.0)
    dips = (with_nods - idle_motion(3000, 1.0, seed=0))[:, 1]
    begins = np.flatnonzero((dips[1:] > 0) & (dips[:-1] == 0))
    assert 15 < len(begins) < 45  # in two minutes
    assert dips.max() == pytest.approx(0.8, abs=0.01)
    assert (dips > 0).mean() < 0.15


def test_blinks_are_short_and_rare_and_go_with_the_nods():
    closed = blinks(25 * 60, 3)
    assert closed.min() == 0
    assert closed.max() == 1
    begun = int(((closed[1:] > 0) & (closed[:-1] == 0)).sum())
    assert 6 <= begun <= 26
    assert (closed > 0).mean() < 0.15
    np.testing.assert_array_equal(blinks(100, 3), closed[:100])
    assert len(blinks(0, 3)) == 0
    nodding = idle_motion(25 * 60, 1.0, 3)[:, 1]
    shut, open_ = nodding[50:][closed[50:] == 1], nodding[50:][closed[50:] == 0]
    assert shut.mean() > open_.mean() + 0.3
