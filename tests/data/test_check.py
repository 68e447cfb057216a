"""The audit of a folder."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from data.check import audit, guess_kind, main
from eamm_jax.errors import UserError
from eamm_jax.input_pipeline.clips import ALBUM, ClipName
from tests.published_layout import (
    lay_out_lrw_clip,
    write_clip,
    write_lrw,
    write_mead,
    write_voxceleb,
)

SIZE = 16


@pytest.fixture
def mead(tmp_path) -> Path:
    return write_mead(tmp_path / "mead", frames=20, size=SIZE)


def run_main(capsys, *flags: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main([*flags, "--workers", "1"])
    out, err = capsys.readouterr()
    return exit_.value.code, out, err


def test_a_good_folder(mead):
    found = audit(str(mead))
    assert found.kind == "mead"
    assert (found.clips, found.good_clips, found.frames) == (12, 12, 240)
    assert found.identities == 3
    assert found.sizes == {SIZE: 12}
    assert {label: n for label, n in found.emotions.items() if n} == {
        "angry": 3,
        "happy": 3,
        "neutral": 6,
    }
    assert found.problems == {}


def test_everything_that_is_wrong_is_named(mead):
    frames, poses, sound = (mead / name for name in ("fomm_crop", "fomm_pose_crop", "MFCC"))
    (frames / "M003" / "happy_level_2_001" / "7.png").unlink()
    (frames / "M003" / "angry_level_2_001" / "7.png").write_bytes(b"")
    np.save(poses / "M005" / "happy_level_2_001.npy", np.full((20, 7), np.nan))
    np.save(sound / "M005" / "angry_level_2_001.npy", np.zeros((12, 28, 13)))
    for take in ("001", "002"):
        shutil.rmtree(frames / "W009" / f"neutral_level_1_{take}")
    (frames / "W009" / "angry_level_2_001").rename(frames / "W009" / "furious")
    found = audit(str(mead))
    assert found.good_clips == 5
    assert found.emotions["angry"] == 0
    assert {where: what[:25] for where, what in found.problems.items()} == {
        "M003/happy_level_2_001": "frame 7 is missing (19.pn",
        "M003/angry_level_2_001": "frame 7 is not a readable",
        "M005/happy_level_2_001": "the pose of frame 0 is no",
        "M005/angry_level_2_001": "it has 20 frames but 12 M",
        "W009": "has no good neutral clip ",
        "W009/furious": "its name is not <emotion>",
        **{
            f"{folder}/W009/{clip}.npy": "belongs to no folder of f"
            for folder in ("MFCC", "fomm_pose_crop")
            for clip in ("neutral_level_1_001", "neutral_level_1_002", "angry_level_2_001")
        },
    }


def test_every_frame_is_read(mead):
    (mead / "fomm_crop" / "W009" / "happy_level_2_001" / "19.png").write_bytes(b"no image")
    assert audit(str(mead)).problems == {
        "W009/happy_level_2_001": "frame 19 is not a readable PNG, JPEG or WebP"
    }


def test_frames_only(mead):
    shutil.rmtree(mead / "MFCC")
    with pytest.raises(UserError, match=r"looked for .*MFCC"):
        audit(str(mead))
    assert audit(str(mead), frames_only=True).problems == {}


def test_albums_are_no_clips_and_no_problem(mead):
    write_clip(mead, "s00001", ALBUM.format(2), frames=3, size=SIZE)
    found = audit(str(mead))
    assert found.kind == "synthetic"
    assert (found.good_clips, found.problems) == (13, {})
    assert sum(found.emotions.values()) == 12


@pytest.mark.slow
def test_processes_find_the_same(tmp_path):
    root = write_voxceleb(tmp_path, people=5, clips=8, frames=17, size=SIZE)
    (root / "fomm_crop" / "id10003" / "video_2" / "3.png").unlink()
    alone, together = audit(str(root), workers=1), audit(str(root), workers=2)
    assert alone == together
    assert together.good_clips == 39


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ([("ABOUT", "ABOUT_00001"), ("WORLD", "WORLD_00020")], "lrw"),
        ([("M003", "happy_level_1_001"), ("M003", "neutral_level_1_001"), ("M003", "x")], "mead"),
        ([*[("ABOUT", f"ABOUT_{n:05d}") for n in range(9)], ("backup", "old")], "lrw"),
        ([("id10001", "1zcIwhmdeo4_00001"), ("id10002", "a_1")], "voxceleb"),
    ],
)
def test_kinds_are_guessed_from_names(names, kind):
    assert guess_kind([ClipName(*name) for name in names]) == kind


def test_the_command_prints_a_table(mead, capsys):
    code, out, _ = run_main(capsys, str(mead))
    assert code == 0
    for words in ("mead", "clips", "identities", "neutral", "problems"):
        assert words in out
    (mead / "MFCC" / "M003" / "happy_level_2_001.npy").unlink()
    code, out, _ = run_main(capsys, str(mead), "--kind", "mead")
    assert code == 2
    assert "M003/happy_level_2_001" in out


def test_the_command_prints_json(tmp_path, capsys):
    root = write_lrw(tmp_path, clips=3, size=SIZE)
    code, out, _ = run_main(capsys, str(root), "--json")
    assert code == 0
    found = json.loads(out)
    assert found["kind"] == "lrw"
    assert found["clips"] == found["good_clips"] == 3
    assert found["sizes"] == {str(SIZE): 3}


def test_the_command_says_what_it_looked_for(tmp_path, capsys):
    code, _, err = run_main(capsys, str(tmp_path / "nothing"))
    assert code == 2
    assert err.startswith("error: ")
    assert "fomm_crop" in err


def test_the_real_clip_is_good(shared, tmp_path):
    found = audit(str(lay_out_lrw_clip(shared, tmp_path)))
    assert (found.kind, found.good_clips, found.frames) == ("lrw", 1, 29)
    assert found.problems == {}
