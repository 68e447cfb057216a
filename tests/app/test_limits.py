"""Lengths are measured, not believed, and answered in words."""

import numpy as np
import pytest

from eamm_jax.app.limits import Limits, check_speech, check_video
from eamm_jax.errors import UserError
from eamm_jax.io.audio import write_wav


def test_a_voice_may_be_as_long_as_is_said(files, tmp_path):
    write_wav(tmp_path / "two.wav", np.zeros(2 * 16_000))
    check_speech(tmp_path / "two.wav", Limits(speech_seconds=2))
    with pytest.raises(UserError, match=r"longer than 1\.8 seconds"):
        check_speech(tmp_path / "two.wav", Limits(speech_seconds=1.8))


def test_a_video_may_be_as_long_as_is_said(files):
    check_video(files["joy.mp4"], Limits(video_seconds=1))
    with pytest.raises(UserError, match=r"longer than 0\.8 seconds"):
        check_video(files["joy.mp4"], Limits(video_seconds=0.8))


def test_limits_let_something_through():
    with pytest.raises(UserError, match="jobs is 0; it must be greater than 0"):
        Limits(jobs=0)
