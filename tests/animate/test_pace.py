"""The time left: neither the compilation before the first frame nor chunks spoil it."""

import pytest

from eamm_jax.animate.pace import Pace


def test_whole_chunks_after_the_first_frame_count():
    now = [100.0]  # compiling
    pace = Pace(4, lambda: now[0])
    assert [pace.seconds_left(done, 20) for done in (1, 2, 3, 4)] == [None] * 4
    now[0] = 102.0  # four frames took two seconds
    assert pace.seconds_left(5, 20) == pytest.approx(8)
    assert pace.rate == pytest.approx(2)
    now[0] = 103.0
    assert pace.seconds_left(6, 20) == pytest.approx(7)
    now[0] = 106.0
    assert pace.seconds_left(9, 20) == pytest.approx(9)  # eight frames in six seconds


def test_the_rest_is_never_negative():
    now = [0.0]
    pace = Pace(2, lambda: now[0])
    pace.seconds_left(1, 3)
    now[0] = 1.0
    pace.seconds_left(3, 3)
    now[0] = 9.0
    assert pace.seconds_left(3, 3) == 0
