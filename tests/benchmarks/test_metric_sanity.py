"""Known changes of clips are what they are said to be."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from benchmarks import metric_sanity
from benchmarks.metric_sanity import Recorded, write_changes
from eamm_jax.evaluation import pair_job
from eamm_jax.evaluation.cases import Pairs, read_pair
from eamm_jax.evaluation.tools import Tools
from eamm_jax.io.audio import write_wav

FRAMES, SIZE = 8, 64


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Two people: one gets brighter from left to right, the other darker."""
    folder = tmp_path_factory.mktemp("sanity")
    rng = np.random.default_rng(0)
    ramp = np.linspace(40, 140, SIZE)[None, None, :, None] + np.zeros((FRAMES, SIZE, SIZE, 3))
    frames = (ramp + 10 * np.arange(FRAMES)[:, None, None, None]).astype(np.uint8)
    clips = []
    for person, picture in (("anna", frames), ("bob", 255 - frames[:5])):
        sound = folder / f"{person}.wav"
        write_wav(sound, rng.uniform(-0.2, 0.2, 16000))
        clips.append(Recorded(person, picture, sound))
    write_changes(clips, folder / "pairs")
    return Pairs(folder / "pairs"), clips


def test_changes_are_as_described(pairs):
    found, (_, bob) = pairs
    assert found.methods == [
        "blurred", "encoded", "late_1", "late_2", "late_3", "late_4", "late_5", "other_person",
        "other_sound",
    ]  # fmt: skip
    case = read_pair(found.files("0"), SIZE)
    assert case.faults == {}
    late = case.made["late_3"].astype(int)
    np.testing.assert_allclose(late[3:].mean(), case.truth[:-3].mean(), atol=0.5)
    np.testing.assert_array_equal(case.made["other_sound"], case.truth)
    assert not np.allclose(case.mfcc_under("other_sound"), case.mfcc_under("late_3"))
    # Bob's five frames there and back.
    expected = bob.frames[[0, 1, 2, 3, 4, 4, 3, 2]].astype(int)
    assert abs(case.made["other_person"] - expected).mean() < 2
    assert len(read_pair(found.files("1"), SIZE).truth) == 5


def test_the_table_has_a_column_for_each_change():
    values = {"psnr": 20.0, "ssim": 0.5}
    by_clip = {"0": dict.fromkeys(("truth", "still", "late_1"), values)}
    table = metric_sanity.as_markdown(by_clip).splitlines()
    assert table[0] == "| | truth | late_1 | still |"
    assert table[2] == "| PSNR, dB | 20.00 | 20.00 | 20.00 |"
    assert len(table) == 4


def test_a_stopped_run_leaves_nothing(pairs, tmp_path, monkeypatch):
    """Its clips are made anew each time, so nothing could be resumed."""
    monkeypatch.setattr(metric_sanity, "record", lambda *_: pairs[1])
    monkeypatch.setattr(metric_sanity, "find_clips", lambda _: [])
    for module in (metric_sanity.evaluation, pair_job):
        monkeypatch.setattr(module, "make_tools", lambda *_: Tools())
    monkeypatch.setattr(pair_job, "measure_clip", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as end:
        metric_sanity.main(["--output", str(tmp_path / "report"), "--cpu"])
    assert end.value.code == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
