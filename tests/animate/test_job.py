"""Sizes of photos and panels; whole jobs are tested through the command."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from eamm_jax.animate import job
from eamm_jax.errors import UserError
from eamm_jax.io.image import fit_height


def test_a_photo_that_no_video_holds():
    with pytest.raises(UserError, match=r"wide\.png has a side of 20000 .* at most 16384"):
        job.check_size(Path("wide.png"), np.zeros((2, 20_000, 3), np.uint8))


def test_a_photo_that_few_players_show(caplog):
    caplog.set_level(logging.INFO, logger="eamm_jax")
    job.check_size(Path("photo.png"), np.zeros((2, 4096, 3), np.uint8))
    assert not caplog.text
    job.check_size(Path("photo.png"), np.zeros((2, 6000, 3), np.uint8))
    assert "6000 pixels: not every player" in caplog.text


def test_pictures_are_fitted_to_a_height(rng):
    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    assert fit_height(image, 40) is image
    assert fit_height(image, 10).shape == (10, 15, 3)
