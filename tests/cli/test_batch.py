"""infer.py --batch: many videos from a table, on one device and on several."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eamm_jax.cli.infer import flag_parser
from eamm_jax.cli.table import read_table
from eamm_jax.errors import UserError
from eamm_jax.io.video import read_video
from tests.cli.test_infer import described, files, notices_as_before, write_wav
from tests.conftest import ROOT

__all__ = ["files", "notices_as_before"]  # fixtures


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


def defaults(files) -> list[object]:
    return ["--source_image", files["face.png"], "--in_file", files["voice.wav"],
            "--pose_file", files["pose.npy"], "--no_crop"]  # fmt: skip


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
@pytest.mark.usefixtures("notices_as_before")
def test_one_failure_does_not_stop_the_rest(files, jobs, tmp_path, monkeypatch, capsys):
    from eamm_jax.cli.infer import main

    def run(*words: object) -> int:
        given = ["--checkpoint", files["weights"], *defaults(files), *words]
        monkeypatch.setattr(sys, "argv", ["infer.py", *map(str, given)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    monkeypatch.setenv("COLUMNS", "300")
    code = run("--batch", jobs)
    check_outcome(code, *capsys.readouterr(), jobs)
    # A row is what the same flags are on a command line of their own.
    assert run("--relative", "--audio_weight=-1.5", "--output", tmp_path / "alone.mp4") == 0
    alone, row = (read_video(tmp_path / name, 64) for name in ("alone.mp4", "d.mp4"))
    for a, b in zip(alone, row, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_jobs_are_dealt_to_devices(files, jobs):
    words = ["--checkpoint", files["weights"], "--batch", jobs, *defaults(files)]
    environment = {"JAX_PLATFORMS": "cpu", "COLUMNS": "300"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "infer.py"), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **environment, "JAX_NUM_CPU_DEVICES": "2"},
    )
    check_outcome(done.returncode, done.stdout, done.stderr, jobs)
    assert {"cpu:0", "cpu:1"} <= set(done.stdout.split())


@pytest.mark.usefixtures("notices_as_before")
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
def test_a_bad_row_is_named_before_anything_runs(files, tmp_path, monkeypatch, capsys, rows, words):
    from eamm_jax.cli.infer import main

    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "jobs.csv", rows)
    # There is no such model: whatever is answered was found before one was looked for.
    words_given = ["--checkpoint", "no", "--batch", "jobs.csv", "--quiet", "--adapt_scale",
                   "--result_path", "."]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["infer.py", *words_given])
    with pytest.raises(SystemExit) as ended:
        main()
    err = capsys.readouterr().err
    assert ended.value.code == 2
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
