"""Sizes of photos, the start of videos; whole jobs are tested through the command."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from eamm_jax.animate import job
from eamm_jax.errors import UserError
from eamm_jax.faces.head_pose import HeadPose
from eamm_jax.io.image import fit_height, write_png
from tests.io.test_timing import flashes, write_film


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


@pytest.mark.parametrize(("speech", "flash"), [("film", 0.3), ("link", 0.3), ("copy", 0.8)])
def test_a_video_that_is_the_speech_too_begins_with_its_sound(tmp_path, speech, flash):
    """The sound of the film begins after half a second, and it flashes at 0.8 s."""
    film = write_film(tmp_path / "film.mkv", [0.8], [(0, 2)], [(0.5, 2)])
    (tmp_path / "link.mkv").symlink_to(film)
    shutil.copy(film, tmp_path / "copy.mkv")
    write_png(tmp_path / "face.png", np.zeros((32, 32, 3), np.uint8))
    np.save(tmp_path / "pose.npy", np.zeros((1, 7)))
    taken = []

    class Recorder:
        image_size = 32

        def animate(self, source, speech, pose, video, *_, **__):
            taken.append(video)
            raise UserError("enough")

    asked = job.Job(
        source_image=tmp_path / "face.png",
        speech=tmp_path / f"{speech}.mkv",
        output=tmp_path / "out.mp4",
        head=HeadPose(file=tmp_path / "pose.npy"),
        emotion_video=film,
        crop=False,
    )
    with pytest.raises(UserError, match="enough"):
        job.run(Recorder(), asked)
    assert flashes(taken[0]) == pytest.approx([flash], abs=0.05)
