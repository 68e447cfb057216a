"""Tables, JSON and pages of pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

from eamm_jax.constants import EMOTIONS
from eamm_jax.evaluation import report
from eamm_jax.evaluation.asked import NONE, Asked
from eamm_jax.evaluation.report import Row

REQUESTS = (NONE, *EMOTIONS)

BY_CLIP = {
    "s0/a": {"truth": {"psnr": 58.9, "ssim": 1.0}, "model": {"psnr": 20.0, "ssim": 0.5}},
    "s0/b": {"truth": {"psnr": 58.9, "ssim": 1.0}, "model": {"psnr": 30.0, "ssim": 0.8}},
    "s1/a": {"truth": {"psnr": 58.9, "ssim": 1.0}, "model": {"psnr": 25.0, "m_lmd": 2.0}},
}


def printed(table) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_json_holds_means_and_differences():
    facts = json.loads(json.dumps(report.statistics_json(BY_CLIP)))
    psnr = facts["means"]["model"]["psnr"]
    assert (psnr["mean"], psnr["clips"]) == (25.0, 3)
    assert 20 <= psnr["low"] < 25 < psnr["high"] <= 30
    assert facts["means"]["model"]["m_lmd"]["clips"] == 1
    first = facts["differences"][0]
    assert (first["metric"], first["method"], first["against"]) == ("psnr", "model", "truth")
    assert (first["mean"], first["higher"], first["lower"]) == (pytest.approx(-33.9), 0, 3)


def test_ranks_are_by_psnr():
    assert report.best_median_worst(BY_CLIP, "model") == {
        "best": "s0/b", "median": "s1/a", "worst": "s0/a",
    }  # fmt: skip
    one = {"a": BY_CLIP["s0/a"]}
    assert set(report.best_median_worst(one, "model").values()) == {"a"}


def test_one_line_shows_the_main_metrics():
    line = report.one_line("model", {"psnr": 25.123, "mouth_correlation": 0.8, "ssim": 0.9})
    assert line == "model: PSNR 25.12 dB, mouth, lag 0 0.800 r"


@pytest.fixture
def asked() -> Asked:
    named = np.zeros((9, 8), int)
    named[0, EMOTIONS.index("neutral")] = 1
    named[0, 0] = 1
    for row in range(8):
        named[row + 1, row] = 2
    named[1] = 0
    named[1, 3] = 2
    return Asked(["s0", "s1"], REQUESTS, named, [0.9] * 8 + [0.7], [1.0] * 9)


def test_emotion_control_table(asked):
    assert asked.share_right == pytest.approx(7 / 8)
    assert asked.neutral_without == pytest.approx(0.5)
    assert asked.mouth_lost == pytest.approx(0.2)
    text = printed(report.asked_table(asked))
    assert "88% named right, 2 people" in text
    assert "50% named neutral" in text
    assert "surprised" in text
    facts = json.loads(json.dumps(report.asked_json(asked)))
    assert facts["asked"] == list(REQUESTS)
    assert facts["named"][1][3] == 2
    assert facts["mouth_lost"] == pytest.approx(0.2)


def test_some_emotions_can_be_requested():
    named = np.zeros((3, 8), int)
    named[1, EMOTIONS.index("sad")], named[1, 0], named[2, EMOTIONS.index("happy")] = 1, 1, 2
    asked = Asked(["a", "b"], (NONE, "sad", "happy"), named, [0.0] * 3, [0.0] * 3)
    assert asked.share_right == pytest.approx(3 / 4)


def test_a_sheet_shows_each_picture_in_its_place():
    colours = np.arange(1, 7) * 40
    pictures = [np.full((24, 24, 3), colour, np.uint8) for colour in colours]
    page = report.sheet("title", [Row("first", pictures[:3]), Row("second", pictures[3:])])
    assert page.shape == (18 + 48, 104 + 72, 3)
    for row in range(2):
        for column in range(3):
            cell = page[18 + 24 * row :, 104 + 24 * column :][:24, :24]
            np.testing.assert_array_equal(cell, pictures[3 * row + column])
    for label in (page[:18, :104], page[18:42, :104], page[42:, :104]):
        assert (label < 100).any()  # something is written there
    large = report.sheet("title", [Row("", [np.full((256, 256, 3), 7, np.uint8)])])
    assert large.shape == (18 + 128, 104 + 128, 3)


def test_sheets_are_stacked_under_headings():
    small, wide = np.full((10, 20, 3), 50, np.uint8), np.full((30, 90, 3), 90, np.uint8)
    page = report.stacked({"best": small, "worst": wide})
    assert page.shape == (26 + 10 + 26 + 30, 90, 3)
    np.testing.assert_array_equal(page[26:36, :20], small)
    np.testing.assert_array_equal(page[62:], wide)


def test_sheet_frames_are_evenly_spaced():
    frames = np.arange(29)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    shown = [int(frame[0, 0, 0]) for frame in report.spread(frames)]
    assert shown == [0, 4, 8, 12, 16, 20, 24, 28]
    assert len(report.spread(frames[:2])) == 8


def test_people_are_shown_in_all_emotions(asked):
    frames = [np.full((16, 16, 3), n, np.uint8) for n in range(len(REQUESTS))]
    page = report.asked_sheet(asked, [frames, frames])
    assert page.shape == (18 + 2 * 16, 104 + 9 * 16, 3)
