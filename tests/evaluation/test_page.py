"""The HTML report: what is in it, and how a browser shows it."""

from __future__ import annotations

import importlib.util
import re
import shutil

import numpy as np
import pytest

from eamm_jax.evaluation.page import ShownClip, evenly, page
from eamm_jax.evaluation.tables import Sheet
from eamm_jax.io.video_writer import video_writer

SHEET = Sheet(
    "Means <of> clips",
    ("", "method", "PSNR"),
    [("sad", "ours", "9.5 [9.0, 9.9]"), ("happy", "theirs", "-"), ("fear", "a&b", "+20.1")],
    labels=2,
)


def test_clips_are_chosen_evenly():
    names = [str(n) for n in range(25)]
    chosen = evenly(names, 4)
    assert chosen == ["0", "8", "16", "24"]
    assert evenly(names[:3], 4) == ["0", "1", "2"]


def test_names_cannot_break_the_page():
    clip = ShownClip("<script>", "a & b", ["truth", '"ours"'], b"video")
    text = page("T", {"pairs": "a<b"}, [SHEET], [clip])
    assert "<h2>Means &lt;of&gt; clips</h2>" in text
    assert "<h3>&lt;script&gt;</h3>" in text
    assert "a&lt;b" in text
    assert "a&amp;b" in text
    assert text.count("<script>") == 1
    assert "data:video/mp4;base64,dmlkZW8=" in text
    # With "metadata" Chromium shows nothing of longer clips before they are played.
    assert 'preload="auto"' in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)  # nothing else is loaded


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("playwright") is None, reason="needs the package playwright"
)
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_tables_are_sorted_and_clips_play_in_a_browser(tmp_path):
    from playwright.sync_api import sync_playwright

    with video_writer(tmp_path / "clip.mp4", 96, 48) as video:
        for level in range(25):
            video.write(np.full((48, 96, 3), 10 * level, np.uint8))
    clip = ShownClip("anna", "", ["truth", "ours"], (tmp_path / "clip.mp4").read_bytes())
    (tmp_path / "report.html").write_text(page("Report", {}, [SHEET], [clip]))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        view = browser.new_page()
        faults, requests = [], []
        view.on("pageerror", lambda error: faults.append(str(error)))
        view.on("request", lambda request: requests.append(request.url))
        view.goto((tmp_path / "report.html").as_uri())

        def column(number: int) -> list[str]:
            return view.locator(f"tbody td:nth-child({number})").all_inner_texts()

        button = view.get_by_role("button", name="PSNR")
        button.click()
        assert column(3) == ["9.5 [9.0, 9.9]", "+20.1", "-"]
        button.click()
        assert column(3) == ["+20.1", "9.5 [9.0, 9.9]", "-"]
        view.get_by_role("button", name="method").click()
        assert column(2) == ["a&b", "ours", "theirs"]
        assert view.locator("th[aria-sort]").count() == 1
        player = view.locator("video")
        player.evaluate("video => { video.muted = true; return video.play() }")
        view.wait_for_function("document.querySelector('video').currentTime > 0.2")
        assert player.evaluate("video => [video.videoWidth, video.videoHeight]") == [96, 48]
        browser.close()
    assert faults == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
