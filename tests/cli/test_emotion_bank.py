"""python -m eamm_jax.cli.emotion_bank: emotions of labelled clips."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from eamm_jax.animate.emotion_bank import EmotionBank
from eamm_jax.cli import emotion_bank
from eamm_jax.models.presets import tiny
from tests.published_layout import write_mead


def make(capsys, *words: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        emotion_bank.main([str(word) for word in words])
    return ended.value.code, capsys.readouterr().err


@pytest.fixture
def clips(tmp_path):
    return write_mead(
        tmp_path / "clips", people=("M003",), emotions=("happy",), neutral=1, frames=4
    )


def test_frames_are_what_training_takes_for_frames(files, clips, tmp_path, capsys):
    """PNG or JPEG by any ending, and not what a Mac leaves beside them."""
    plain, odd = (shutil.copytree(files["weights"], tmp_path / name) for name in ("a", "b"))
    assert make(capsys, "--clips", clips, "--checkpoint", plain)[0] == 0
    for folder in (clips / "fomm_crop" / "M003").iterdir():
        (folder / "._0.png").write_bytes(b"left by a Mac")
        (folder / "1.png").rename(folder / "1.PNG")
        with Image.open(folder / "2.png") as picture:
            picture.convert("RGB").save(folder / "2.jpg", quality=100, subsampling=0)
        (folder / "2.png").unlink()
    assert make(capsys, "--clips", clips, "--checkpoint", odd)[0] == 0
    width = tiny().emotion.stage_widths[-1]
    expected, found = (EmotionBank.load(folder, width).entries for folder in (plain, odd))
    assert found.keys() == expected.keys()
    for key, entry in expected.items():
        assert np.abs(found[key].face.astype(int) - entry.face).max() <= 2


def test_a_bad_clip_is_named(files, clips, tmp_path, capsys):
    next((clips / "fomm_crop" / "M003").iterdir()).joinpath("1.png").unlink()
    weights = shutil.copytree(files["weights"], tmp_path / "weights")
    code, err = make(capsys, "--clips", clips, "--checkpoint", weights)
    assert code == 2
    assert "frame 1 is missing" in err
