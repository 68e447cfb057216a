"""`make train-demo`, from the head model to the files that come with the package."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from eamm_jax.animate import Animator
from tests.conftest import ROOT


@pytest.mark.exhaustive
@pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs the extra 'speech'"
)
def test_the_recipe_runs_to_its_end_on_two_people(small_head, tmp_path):
    words = [
        *("make", "train-demo", "--old-file=.venv/.lpips"),  # what is installed is not touched
        f"BIN={Path(sys.executable).parent}",
        f"DEMO={tmp_path / 'demo'}",
        f"BUNDLE={tmp_path / 'bundle'}",
        f"HEAD_MODEL={small_head}",
        "people=--first_identity 6 --identities 2",  # the second is in the validation split
        "clips=--size 64 --hold 2 --emotions neutral,happy",
        "VARIANT=:tiny",
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = {path.name for path in (tmp_path / "bundle").iterdir()}
    assert made == {"model", "portrait.png", "speech.mp3", "pose.npy"}
    assert Animator.from_checkpoint(tmp_path / "bundle" / "model").image_size == 64
