"""Whole evaluations on tiny models and data sets, and `python -m eamm_jax.evaluation`."""

from __future__ import annotations

import json
import os
import re
import shutil
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
from eamm_jax.evaluation import pair_job
from eamm_jax.evaluation.asked import cases_to_ask
from eamm_jax.evaluation.cases import DataSet, read_pair
from eamm_jax.evaluation.job import Job
from eamm_jax.evaluation.measurement import METRICS, RECOGNIZED
from eamm_jax.evaluation.readers import Reading
from eamm_jax.evaluation.tools import Tools, make_tools
from eamm_jax.input_pipeline.sources import Source
from eamm_jax.io.video import read_video
from tests.conftest import ROOT
from tests.evaluation.faces import BrightnessReader, template, write_rendered
from tests.tiny import tiny_variables

FRAMES = 18


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    root = tmp_path_factory.mktemp("rendered")
    emotions = tuple(e for e in EMOTIONS if e != "neutral")
    return write_rendered(root, people=("s0", "s1"), emotions=emotions, frames=FRAMES)


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
def evaluated(rendered, weights, tmp_path_factory):
    """One evaluation of a model with all there is, and what it told on the way."""
    output = tmp_path_factory.mktemp("evaluated") / "report"
    told = []
    job = Job(
        output=output,
        source=Source("synthetic", str(rendered)),
        checkpoint=weights / "all",
        split="all",
        clips=3,
        people=1,
    )
    tools = make_tools("none")._replace(reader=BrightnessReader())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "make_tools", lambda *_: tools)
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
            # The clips' audio is noise without silence, and the imitation has no embedder.
            absent = ("mouth_silence", "csim", "lse_d", "lse_c", "sync_offset", "eat_", "lpips_")
            assert set(values) == {RECOGNIZED, *(k for k in METRICS if not k.startswith(absent))}
    assert list(facts["means"]) == contestants
    mean = np.mean([clip["model"]["psnr"] for clip in facts["clips"].values()])
    assert facts["means"]["model"]["psnr"]["mean"] == pytest.approx(mean)
    assert facts["means"]["truth"]["ssim"]["mean"] == pytest.approx(1)
    assert facts["means"]["still"]["mouth_correlation"]["mean"] == 0
    assert facts["clips"] == result.measured.by_clip
    assert (facts["fid"], facts["faults"]) == ({}, {})
    assert [labels["identity"] for labels in facts["labels"].values()] == [
        name.partition("/")[0] for name in facts["clips"]
    ]
    assert "## Means by emotion" in (output / "tables.md").read_text()
    assert (output / "tables.tex").read_text().count("\\toprule") >= 3
    assert ("measuring", 3, 3) in told
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
    sheets = sorted(path.name for path in (output / "clips").glob("*.png"))
    assert sheets == sorted(f"{name.replace('/', '_')}.png" for name in result.measured.by_clip)
    with Image.open(output / "clips" / sheets[0]) as sheet:
        assert sheet.size == (104 + 8 * 64, 18 + 6 * 64)
        height = sheet.height
    with Image.open(output / "pictures.png") as page:
        assert page.height == 3 * (26 + height)


def test_stage_0_is_measured_without_audio(rendered, weights, tmp_path):
    job = Job(
        output=tmp_path / "report",
        source=Source("synthetic", str(rendered)),
        checkpoint=weights / "stage0",
        split="all",
        clips=1,
        max_frames=6,
        portrait="first",
        faces="none",
    )
    result = evaluation.run(job)
    (clip,) = result.measured.by_clip.values()
    assert list(clip) == ["truth", "still", "keypoints"]
    assert result.asked is None
    # The landmarks are known, so there are regions, though nobody looks at generated faces.
    assert "psnr_mouth" in clip["keypoints"]
    assert "m_lmd" not in clip["keypoints"]
    assert read(tmp_path / "report")["evaluated"]["reader"] is None


def test_contestants_are_selected_by_name(rendered, weights, tmp_path):
    job = Job(
        output=tmp_path / "report",
        source=Source("synthetic", str(rendered)),
        checkpoint=weights / "stage0",
        split="all",
        clips=1,
        max_frames=6,
        faces="none",
        only=("truth", "still"),
    )
    (clip,) = evaluation.run(job).measured.by_clip.values()
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
    frames = list(read_video(output / "clips" / "clip.mp4", None))
    assert len(frames) == 5
    assert frames[0].shape == (48, 4 * 48, 3)  # truth, still, ours, theirs
    text = (output / "report.html").read_text()
    assert text.count("<video") == 1
    assert "<span>theirs</span>" in text
    assert re.search("still: PSNR [^;<]*; ours: PSNR 36.0[^;<]*; theirs: PSNR 22.1", text)
    assert run_command("--pairs", pairs, "--faces", "none", "--output", output) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    again = ("--pairs", pairs, "--faces", "none", "--output", output, "--overwrite", "--quiet")
    assert run_command(*again) == 0
    assert capsys.readouterr().out == ""
    (output / "metrics.json").rename(output / "novel.txt")
    assert run_command(*again) == 2
    assert "it also holds novel.txt" in capsys.readouterr().err
    assert (output / "novel.txt").exists()


def test_the_still_portrait_is_compared_once(pairs, tmp_path):
    """Also where there is a folder of that name."""
    shutil.copytree(pairs / "ours", pairs / "still")
    job = Job(output=tmp_path / "report", pairs=pairs, faces="none")
    (clip,) = evaluation.run(job).measured.by_clip.values()
    assert list(clip) == ["truth", "still", "ours", "theirs"]
    with Image.open(job.output / "clips" / "clip.png") as sheet:
        assert sheet.height == 18 + 4 * 48


def test_bad_and_missing_videos_are_named_and_the_rest_is_measured(pairs, tmp_path, capsys):
    for method in ("truth", "ours"):
        shutil.copytree(pairs / method / "clip", pairs / method / "other")
    (pairs / "truth" / "broken.mp4").write_bytes(b"no video")
    output = tmp_path / "report"
    flags = ("--pairs", pairs, "--faces", "none", "--output", output, "--workers", 1, "--quiet")
    assert run_command(*flags) == 2
    error = capsys.readouterr().err
    assert "incomplete: other: theirs has no video of this name" in error
    assert "incomplete: broken: Cannot read the video" in error
    facts = read(output)
    assert list(facts["clips"]) == ["clip", "other"]
    assert list(facts["clips"]["other"]) == ["truth", "still", "ours"]
    assert list(facts["faults"]) == ["broken", "other"]
    assert facts["means"]["theirs"]["psnr"]["clips"] == 1
    for path in (pairs / "truth").rglob("*.png"):
        path.unlink()
    assert run_command(*flags, "--overwrite") == 2
    assert "no ground-truth video can be read" in capsys.readouterr().err
    assert list(read(output)["clips"]) == ["clip", "other"]  # what was there stays


class SeesDark:
    """Sees a face in dark frames only."""

    name = "a reader"

    def read(self, frames):
        track = np.repeat(template()[None], len(frames), axis=0).astype(np.float32)
        return Reading(track, None, bool(frames[0, 0, 0, 0] < 50))


def test_videos_without_a_face_are_named(pairs, tmp_path, monkeypatch):
    shutil.copytree(pairs / "theirs" / "clip", pairs / "truth" / "bright")
    monkeypatch.setattr(evaluation, "make_tools", lambda *_: Tools(SeesDark()))
    monkeypatch.setattr(pair_job, "make_tools", lambda *_: Tools(SeesDark()))
    measured = evaluation.run(Job(output=tmp_path / "report", pairs=pairs)).measured
    assert list(measured.by_clip) == ["clip"]
    clip, faults = measured.by_clip["clip"], measured.faults
    assert list(clip) == ["truth", "still", "ours", "theirs"]
    assert "m_lmd" in clip["ours"]
    assert "m_lmd" not in clip["theirs"]
    assert {"psnr", "psnr_mouth"} <= clip["theirs"].keys()
    assert "theirs: no face was found in any of 5 frames of 48x48" in faults["clip"]["theirs"]
    assert list(faults["bright"]) == ["truth"]
    assert "python -m data.prepare" in faults["bright"]["truth"]


def test_a_stopped_evaluation_resumes(pairs, tmp_path, monkeypatch):
    for method in ("truth", "ours", "theirs"):
        for name in ("d", "e"):
            shutil.copytree(pairs / method / "clip", pairs / method / name)
    done = []

    def stop_at_e(files, *options):
        if files.name == "e" and len(done) == 2:
            raise KeyboardInterrupt
        done.append(files.name)
        return read_pair(files, *options)

    monkeypatch.setattr(pair_job, "read_pair", stop_at_e)
    job = Job(output=tmp_path / "report", pairs=pairs, faces="none")
    with pytest.raises(KeyboardInterrupt):
        evaluation.run(job)
    assert not job.output.exists()
    assert done == ["clip", "d"]
    (pairs / "ours" / "d" / "0.png").touch()  # made again since
    done.append("e is good now")
    result = evaluation.run(job)
    assert done[3:] == ["d", "e"]
    assert list(result.measured.by_clip) == ["clip", "d", "e"]
    assert sorted(path.name for path in (job.output / "clips").glob("*.png")) == [
        "clip.png", "d.png", "e.png",
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name] == []


@pytest.mark.slow
def test_workers_measure_the_same(pairs, tmp_path):
    for method in ("truth", "ours", "theirs"):
        shutil.copytree(pairs / method / "clip", pairs / method / "other")
    jobs = [
        Job(output=tmp_path / str(workers), pairs=pairs, faces="none", workers=workers)
        for workers in (1, 2)
    ]
    alone, together = (evaluation.run(job).measured for job in jobs)
    assert together == alone


def test_clips_whose_files_would_be_mixed_are_refused(pairs, tmp_path):
    for method in ("truth", "ours", "theirs"):
        shutil.copytree(pairs / method / "clip", pairs / method / "x" / "y")
        shutil.copytree(pairs / method / "clip", pairs / method / "x_y")
    with pytest.raises(UserError, match=r"x/y and x_y would have files of the same name"):
        evaluation.run(Job(output=tmp_path / "report", pairs=pairs, faces="none"))


class Colours:
    """Three features of a frame: its mean colour."""

    name = "colours"

    def features(self, frames):
        return frames.mean(axis=(1, 2)).astype(np.float32)


def test_the_distance_of_all_frames_is_measured(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "make_tools", lambda *_: Tools(inception=Colours()))
    monkeypatch.setattr(pair_job, "make_tools", lambda *_: Tools(inception=Colours()))
    job = Job(output=tmp_path / "report", pairs=pairs)
    result = evaluation.run(job)
    # Five equal frames: the covariances are 0, the means differ by 4 and 20 in each channel.
    assert result.fid == pytest.approx({"still": 0, "ours": 3 * 4**2, "theirs": 3 * 20**2})
    assert "| ours | 48.00 |" in (job.output / "tables.md").read_text()
    assert sorted(path.name for path in (job.output / "clips").iterdir()) == [
        "clip.mp4", "clip.png",
    ]  # fmt: skip


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
        (
            ["--output=o", "--data=mead=x", "--faces=none", "--protocol=evaluation_eat"],
            "evaluation_eat needs faces 'real'",
        ),
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
    write_rendered(tmp_path, people=("s0",), emotions=("sad",), neutral=1, frames=FRAMES)
    data = DataSet(
        Source("synthetic", str(tmp_path)),
        size=64, split="all", validation_fraction=0, with_motion=True,
    )  # fmt: skip
    with pytest.raises(UserError, match="two neutral clips"):
        cases_to_ask(data, 3)
