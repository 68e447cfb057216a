"""Whole evaluations on tiny models and data sets, and `python -m eamm_jax.evaluation`."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from eamm_jax import bundled
from eamm_jax.animate import Settings
from eamm_jax.checkpoint import save_networks
from eamm_jax.cli import evaluate as command
from eamm_jax.constants import EMOTIONS
from eamm_jax.errors import UserError
from eamm_jax.evaluation import job as evaluation
from eamm_jax.evaluation.asked import cases_to_ask
from eamm_jax.evaluation.cases import DataSet
from eamm_jax.evaluation.job import Job
from eamm_jax.evaluation.measurement import METRICS, RECOGNIZED
from eamm_jax.input_pipeline.sources import Source
from tests.conftest import ROOT
from tests.evaluation.faces import write_drawn
from tests.tiny import tiny_variables

FRAMES = 18


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn")
    emotions = tuple(e for e in EMOTIONS if e != "neutral")
    return write_drawn(root, people=("s0", "s1"), emotions=emotions, frames=FRAMES)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A tiny model, and what stage 0 leaves of it in a work directory."""
    folder = tmp_path_factory.mktemp("weights")
    config, variables = tiny_variables()
    save_networks(folder / "all", config, variables)
    first = {name: variables[name] for name in ("kp_detector", "generator")}
    (folder / "stage0").mkdir()
    save_networks(folder / "stage0" / "model", config, first)
    return folder


def read(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def evaluated(drawn, weights, tmp_path_factory):
    """One evaluation of a model with all there is, and what it told on the way."""
    output = tmp_path_factory.mktemp("evaluated") / "report"
    told = []
    job = Job(
        output=output,
        source=Source("synthetic", str(drawn)),
        checkpoint=weights / "all",
        split="all",
        clips=3,
        people=1,
    )
    result = evaluation.run(job, lambda *progress: told.append(progress))
    return output, result, told


@pytest.mark.slow
def test_all_contestants_are_measured_on_all_clips(evaluated):
    output, result, told = evaluated
    facts = read(output)
    contestants = ["truth", "still", "keypoints", "silence", "neutral", "model"]
    assert len(facts["clips"]) == 3
    for clip in facts["clips"].values():
        assert list(clip) == contestants
        for values in clip.values():
            # The clips' audio is noise without silence, and drawn people have no embedder.
            absent = ("mouth_silence", "csim")
            assert list(values) == [*(key for key in METRICS if key not in absent), RECOGNIZED]
    assert list(facts["means"]) == contestants
    mean = np.mean([clip["model"]["psnr"] for clip in facts["clips"].values()])
    assert facts["means"]["model"]["psnr"]["mean"] == pytest.approx(mean)
    assert facts["means"]["truth"]["ssim"]["mean"] == pytest.approx(1)
    assert facts["means"]["still"]["mouth_correlation"]["mean"] == 0
    assert facts["clips"] == result.by_clip
    assert [labels["identity"] for labels in facts["labels"].values()] == [
        name.partition("/")[0] for name in facts["clips"]
    ]
    assert "## Means by emotion" in (output / "tables.md").read_text()
    assert (output / "tables.tex").read_text().count("\\toprule") >= 3
    assert ("measuring", 18, 18) in told
    assert facts["evaluated"]["data"].startswith("synthetic=")
    assert facts["metrics"]["psnr"]["unit"] == "dB"


@pytest.mark.slow
def test_emotion_control_is_measured(evaluated):
    output, result, told = evaluated
    facts = read(output)["asked"]
    assert facts["people"] == ["s0"]
    named = np.array(facts["named"])
    assert named.shape == (9, 8)
    np.testing.assert_array_equal(named.sum(axis=1), 1)
    assert len(facts["mouth_correlation"]) == 9
    assert result.asked is not None
    assert told[-1] == ("emotion control", 9, 9)
    with Image.open(output / "asked.png") as page:
        assert page.size == (104 + 9 * 64, 18 + 64)


@pytest.mark.slow
def test_sheets_are_written(evaluated):
    output, result, _ = evaluated
    sheets = sorted(path.name for path in (output / "clips").iterdir())
    assert sheets == sorted(f"{name.replace('/', '_')}.png" for name in result.by_clip)
    with Image.open(output / "clips" / sheets[0]) as sheet:
        assert sheet.size == (104 + 8 * 64, 18 + 6 * 64)
        height = sheet.height
    with Image.open(output / "pictures.png") as page:
        assert page.height == 3 * (26 + height)


def test_stage_0_is_measured_without_audio(drawn, weights, tmp_path):
    job = Job(
        output=tmp_path / "report",
        source=Source("synthetic", str(drawn)),
        checkpoint=weights / "stage0",
        split="all",
        clips=1,
        max_frames=6,
        portrait="first",
        faces="none",
    )
    result = evaluation.run(job)
    (clip,) = result.by_clip.values()
    assert list(clip) == ["truth", "still", "keypoints"]
    assert result.asked is None
    # The landmarks are known, so there are regions, though nobody looks at generated faces.
    assert "psnr_mouth" in clip["keypoints"]
    assert "m_lmd" not in clip["keypoints"]
    assert read(tmp_path / "report")["evaluated"]["reader"] is None


def test_contestants_are_selected_by_name(drawn, weights, tmp_path):
    job = Job(
        output=tmp_path / "report",
        source=Source("synthetic", str(drawn)),
        checkpoint=weights / "stage0",
        split="all",
        clips=1,
        max_frames=6,
        only=("truth", "still"),
    )
    (clip,) = evaluation.run(job).by_clip.values()
    assert list(clip) == ["truth", "still"]
    with pytest.raises(UserError, match=r"no contestant 'model' here; there are truth"):
        evaluation.run(Job(**{**vars(job), "only": ("model",), "overwrite": True}))
    assert (tmp_path / "report" / "metrics.json").is_file()  # a failure leaves what was there


@pytest.fixture
def pairs(tmp_path, rng):
    for method, shift in (("truth", 0), ("ours", 4), ("theirs", 20)):
        frames = np.linspace(40, 200, 48)[:, None, None] + np.zeros((5, 48, 48, 3)) + shift
        folder = tmp_path / "pairs" / method / "clip"
        folder.mkdir(parents=True)
        for number, frame in enumerate(frames.astype(np.uint8)):
            Image.fromarray(frame).save(folder / f"{number}.png")
    return tmp_path / "pairs"


def run_command(*flags) -> int:
    with pytest.raises(SystemExit) as end:
        command.main([str(flag) for flag in flags])
    return end.value.code


def test_pairs_from_the_command_line(pairs, tmp_path, capsys):
    output = tmp_path / "report"
    assert run_command("--pairs", pairs, "--faces", "none", "--output", output) == 0
    text = capsys.readouterr().out
    assert "Means of 1 clip [95" in text
    assert "ours" in text
    means = read(output)["means"]
    assert list(means) == ["truth", "still", "ours", "theirs"]
    assert means["ours"]["psnr"]["mean"] == pytest.approx(20 * np.log10(255 / 4))
    assert means["theirs"]["psnr"]["mean"] == pytest.approx(20 * np.log10(255 / 20))
    with Image.open(output / "clips" / "clip.png") as sheet:
        assert sheet.size == (104 + 8 * 48, 18 + 4 * 48)
    assert run_command("--pairs", pairs, "--faces", "none", "--output", output) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    again = ("--pairs", pairs, "--faces", "none", "--output", output, "--overwrite", "--quiet")
    assert run_command(*again) == 0
    assert capsys.readouterr().out == ""
    (output / "metrics.json").rename(output / "novel.txt")
    assert run_command(*again) == 2
    assert "it also holds novel.txt" in capsys.readouterr().err
    assert (output / "novel.txt").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--output", "o"], "either --pairs or --data"),
        (["--output", "o", "--pairs", "p", "--data", "mead=x"], "either --pairs or --data"),
        (["--output", "o", "--pairs", "p", "--checkpoint", "c"], "--checkpoint needs --data"),
        (["--output", "o", "--pairs", "p", "--clips", "-1"], "--clips: -1"),
        (["--output", "o", "--pairs", "p", "--validation_fraction", "2"], "lie in 0..1"),
        (["--output", "o", "--data", "mead=x,lrw=y", "--checkpoint", "c"], "one data set"),
        (["--output", "o", "--data", "films=x", "--checkpoint", "c"], "kind of data set"),
        (["--output", "o", "--pairs", "p", "--faces", "none"], "No such folder of pairs: p"),
        (["--output", "o", "--data", "synthetic=x", "--checkpoint", "c"], "No such checkpoint"),
        (["--pairs", "p"], "--output"),
    ],
)
def test_invalid_input_gives_one_line(flags, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command(*flags) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_flags_reach_the_job(tmp_path):
    flags = command.flag_parser().parse_args(
        ["--data", "mead=DATA", "--checkpoint", "CKPT", "--output", "o", "--clips", "7",
         "--audio_weight", "1.2", "--smoothing", "off", "--faces", "real", "--people", "0",
         "--only", "truth, model", "--emotions", "bank", "--validation_fraction", "0.1"]
    )  # fmt: skip
    job = command.job_of(flags)
    assert job.source == Source("mead", "DATA")
    assert (job.clips, job.people, job.faces, job.emotions) == (7, 0, "real", "bank")
    assert job.only == ("truth", "model")
    assert (job.settings.audio_weight, job.settings.smoothing) == (1.2, False)
    assert job.validation_fraction == 0.1
    words = ["--data", "mead=DATA", "--output", "o"]
    plain = command.job_of(command.flag_parser().parse_args(words))
    assert plain.checkpoint == bundled.MODEL
    assert plain.settings == Settings()


def test_the_module_runs():
    done = subprocess.run(
        [sys.executable, "-m", "eamm_jax.evaluation", "--help"],
        cwd=ROOT, env={**os.environ, "COLUMNS": "100"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "--pairs" in done.stdout


def test_emotion_control_needs_two_neutral_clips(tmp_path):
    write_drawn(tmp_path, people=("s0",), emotions=("sad",), neutral=1, frames=FRAMES)
    data = DataSet(
        Source("synthetic", str(tmp_path)),
        size=64, split="all", validation_fraction=0, with_motion=True,
    )  # fmt: skip
    with pytest.raises(UserError, match="two neutral clips"):
        cases_to_ask(data, 3)
