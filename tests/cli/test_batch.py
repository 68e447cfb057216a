"""infer.py --batch: many videos from a table, on one device and on several."""

from __future__ import annotations

import csv
import os
import secrets
import subprocess
from pathlib import Path

import numpy as np
import pytest

from eamm_jax.cli.infer import flag_parser
from eamm_jax.cli.table import read_table
from eamm_jax.errors import UserError
from eamm_jax.io.video import read_video
from tests.cli.conftest import command, described, write_wav


def write_table(path: Path, rows: list[dict]) -> Path:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def jobs(files, tmp_path) -> Path:
    """Four videos; the third row's sound is found to be silent only when it is read."""
    write_wav(tmp_path / "silent.wav", np.zeros(16_000))
    write_wav(tmp_path / "short.wav", 0.2 * np.random.default_rng(1).normal(size=8_000))
    return write_table(
        tmp_path / "jobs.csv",
        [
            {"output": tmp_path / "a.mp4", "driving_video": files["happy.mp4"]},
            {"output": tmp_path / "b.mp4", "in_file": tmp_path / "short.wav"},
            {"output": tmp_path / "c.mp4", "in_file": tmp_path / "silent.wav"},
            {"output": tmp_path / "d.mp4", "relative": "yes", "audio_weight": "-1.5"},
        ],
    )


def check_outcome(code: int, out: str, err: str, jobs: Path) -> None:
    assert code == 1, err
    assert f"error: {jobs}, row 4: " in err
    assert "silent" in err
    assert "3 of 4 rows have no emotion" in err
    assert "3 of 4 videos, 60 frames" in out
    assert "failed: " in out
    folder = jobs.parent
    frames = {name: described(folder / f"{name}.mp4")["frames"] for name in "abd"}
    assert frames == {"a": 24, "b": 12, "d": 24}
    assert not (folder / "c.mp4").exists()


@pytest.mark.slow
def test_one_failure_does_not_stop_the_rest(infer, jobs, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(secrets, "randbits", lambda count: 7)  # what the watermark carries
    done = infer(batch=jobs, output=None)
    check_outcome(*done, jobs)
    # A row is what the same flags are on a command line of their own.
    alone = tmp_path / "alone.mp4"
    assert infer(relative=True, audio_weight=-1.5, output=alone).code == 0
    for a, b in zip(read_video(alone, 64), read_video(tmp_path / "d.mp4", 64), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("default")  # Beam's own
def test_beam_renders_what_is_missing_once(infer, jobs, tmp_path):
    pytest.importorskip("apache_beam", reason="needs eamm_jax[beam]")
    (tmp_path / "b.mp4").write_bytes(b"there")
    for expected in ("2 videos made, 1 were there, 1 failed", "0 videos made, 3 were there, 1"):
        done = infer(batch=jobs, output=None, beam_runner="DirectRunner")
        assert done.code == 1, done.err
        assert expected in done.out
        assert f"error: {jobs}, row 4: " in done.err
        assert "silent" in done.err
    assert (tmp_path / "b.mp4").read_bytes() == b"there"
    assert described(tmp_path / "a.mp4")["frames"] == described(tmp_path / "d.mp4")["frames"] == 24
    assert not list(tmp_path.glob("*.fault"))
    assert not (tmp_path / "c.mp4").exists()


def test_beam_is_for_tables(infer, jobs):
    assert "give one with --batch" in infer(beam_runner="DirectRunner").err
    assert "row 2" not in (done := infer(batch=jobs, output=None, beam_runner="NoSuchRunner")).err
    assert done.code == 2
    assert "Beam" in done.err


@pytest.mark.slow
def test_jobs_are_dealt_to_devices(files, jobs, tmp_path):
    environment = {"JAX_PLATFORMS": "cpu", "COLUMNS": "300", "JAX_NUM_CPU_DEVICES": "2"}
    done = subprocess.run(
        command(files, tmp_path, {"batch": jobs, "output": None}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **environment},
    )
    check_outcome(done.returncode, done.stdout, done.stderr, jobs)
    assert {"cpu:0", "cpu:1"} <= set(done.stdout.split())


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"ouput": "a.mp4"}], "did you mean 'output'?"),
        ([{"chunk": "3"}], "--chunk is the same for all rows"),
        ([{"output": "x.mp4", "in_file": "no.wav"}], "row 2: No such speech: no.wav"),
        ([{"output": "x.mp4"}, {"output": "./x.mp4"}], "row 3: x.mp4 is written by"),
        ([{"output": "x.mp4"}, {"output": "y.mp4", "contact_sheet": "x.mp4"}], "row 3: "),
        ([{"seed": "1"}, {"seed": "one"}], "row 3: argument --seed: 'one' is not a whole number"),
        ([{"seed": "-1"}], "row 2: argument --seed: -1 is out of range"),
        ([{"idle_motion": "nan"}], "row 2: argument --idle_motion: nan is out of range"),
        ([{"relative": "maybe"}], "row 2: relative is 'maybe'; allowed are yes and no"),
        ([{"adapt_scale": "no"}], "row 2: adapt_scale is no, but the command line has"),
        ([{"emotion": "smug"}], "row 2: 'smug'"),
        ([{"text": "Hello", "in_file": "x.wav"}], "row 2: --in_file and --text"),
        ([{"output": ""}], "holds no jobs"),
    ],
)
def test_a_bad_row_is_named_before_anything_runs(infer, tmp_path, monkeypatch, rows, words):
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "jobs.csv", rows)
    # There is no such model: whatever is answered was found before one was looked for.
    given = {"checkpoint": "no", "batch": "jobs.csv", "quiet": True, "adapt_scale": True}
    inputs = dict.fromkeys(["source_image", "in_file", "pose_file", "output", "no_crop"])
    code, _, err = infer(**given, result_path=".", **inputs)
    assert code == 2
    assert err.startswith("error: jobs.csv")
    assert err.count("\n") == 1
    assert words in err
    assert [p.name for p in tmp_path.iterdir()] == ["jobs.csv"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no jobs|empty"),
        (b"output,output\na.mp4,b.mp4\n", "two columns 'output'"),
        (b"output\na.mp4,b.wav\n", "row 2: 2 cells, but the table has 1 columns"),
        (b"PK\x03\x04\xff\xfe", "not a table in CSV"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path, content, words):
    (tmp_path / "jobs.csv").write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_table(tmp_path / "jobs.csv", flag_parser(), [])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_cells_are_flags_and_the_command_line_is_for_all(tmp_path, delimiter):
    table = tmp_path / "jobs.csv"
    # As a spreadsheet writes it: a mark of the encoding, quotes, blank rows.
    rows = (
        ("\ufeffaudio", "text", "relative", "emotion_strength"),
        ('"a, b.wav"', "", "no", ""),
        ("", "", "", ""),
        ("", '"-Hello, ""you""; bye"', "yes", "2"),
    )
    table.write_text("\n".join(delimiter.join(row) for row in rows) + "\n", encoding="utf-8")
    words = ["--seed", "7", "--emotion_strength", "0.5", "--batch", str(table)]
    first, second = read_table(table, flag_parser(), words).items()
    assert (first[0], second[0]) == (f"{table}, row 2", f"{table}, row 4")
    assert first[1].speech == Path("a, b.wav")
    assert (first[1].relative, second[1].relative) == (False, True)
    assert (first[1].emotion_strength, second[1].emotion_strength) == (0.5, 2.0)
    assert second[1].text == '-Hello, "you"; bye'
    assert first[1].seed == second[1].seed == 7
