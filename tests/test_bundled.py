"""What comes with the package works, and the mouth of the bundled portrait follows the voice."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from eamm_jax import bundled
from eamm_jax.animate import Animator
from eamm_jax.checkpoint import load_config
from eamm_jax.constants import FRAME_RATE, SAMPLE_RATE
from eamm_jax.io.arrays import read_pose
from eamm_jax.io.audio import read_speech
from eamm_jax.io.image import read_image
from eamm_jax.io.video import read_video
from eamm_jax.models.presets import demo
from tests.conftest import ROOT

UPPER_LIP, LOWER_LIP = 18, 19
"""Keypoints inside the lips (`configs/bundled_keypoints.py`)."""


def test_it_is_small_and_complete():
    folder = bundled.MODEL.parent
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 20e6
    assert load_config(bundled.MODEL) == demo()
    assert read_image(bundled.PORTRAIT, 256).shape == (256, 256, 3)
    assert 5 < len(read_speech(bundled.SPEECH)) / SAMPLE_RATE < 15
    assert len(read_pose(bundled.POSE)) > 10 * FRAME_RATE
    assert (folder / "MODEL_CARD.md").is_file()


@pytest.mark.slow
def test_infer_without_arguments_makes_the_demonstration(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "infer.py")],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=tmp_path,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "python infer.py --in_file my.wav" in done.stdout
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == [
        "demo.mp4",
        "demo.png",
    ]
    frames = np.stack(list(read_video(tmp_path / "outputs" / "demo.mp4", None)))
    seconds = len(read_speech(bundled.SPEECH)) / SAMPLE_RATE
    assert abs(len(frames) / FRAME_RATE - seconds) < 0.1


def opening_and_loudness(speech):
    """Of the mouth in every frame, and of the sound then."""
    animator = Animator.from_checkpoint(bundled.MODEL, emotion=False)
    portrait = read_image(bundled.PORTRAIT, animator.image_size)
    animation = animator.animate(portrait, speech, read_pose(bundled.POSE), as_uint8=False)
    detect = jax.jit(
        lambda variables, image: animator.networks.kp_detector.apply(variables, image).value
    )
    opening = []
    for frame in animation:
        points = detect(animator.variables["kp_detector"], np.asarray(frame.image)[None])[0]
        opening.append(float(points[LOWER_LIP, 1] - points[UPPER_LIP, 1]))
    step = SAMPLE_RATE // FRAME_RATE
    sound = speech[: len(opening) * step].reshape(-1, step)
    return np.array(opening), np.sqrt((sound**2).mean(axis=1))


@pytest.mark.slow
@pytest.mark.parametrize("voice", [pytest.param("bundled", marks=pytest.mark.exhaustive), "real"])
def test_the_mouth_moves_with_the_voice_and_rests_in_silence(voice, request):
    if voice == "bundled":
        speech = read_speech(bundled.SPEECH)
    else:
        media = request.getfixturevalue("shared") / "media" / "audio"
        speech = read_speech(media / "sample1.mov")
    quiet = np.zeros(SAMPLE_RATE, np.float32)
    speech = np.concatenate([quiet, speech[: 2 * SAMPLE_RATE], quiet])
    opening, loudness = opening_and_loudness(speech)
    silent = np.r_[4:21, len(opening) - 16 : len(opening) - 4]
    talking = loudness > np.quantile(loudness, 0.5)
    assert opening[silent].std() < 0.5 * opening[talking].std()
    assert opening[silent].mean() < opening[talking].mean() - 2 * opening[silent].std()
    assert np.corrcoef(opening, loudness)[0, 1] > 0.3
