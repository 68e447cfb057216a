"""Takes the picture of the studio's Live tab that docs/live.md shows.

    python benchmarks/live_tab.py [docs/live.png]

opens the studio on the bundled model, and Chromium (through Playwright) with the bundled voice as
its microphone, smiles, and writes what the page looks like in the middle of a word.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

ADDRESS = "http://127.0.0.1:7861"
SPOKEN_SECONDS = 9.0


def take(output: Path, microphone: Path) -> None:
    from playwright.sync_api import sync_playwright

    flags = [
        "--no-sandbox",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.goto(ADDRESS)
        page.get_by_role("tab", name="Live").click()
        page.select_option("#live-emotion", "happy")
        page.click("#live-start")
        page.wait_for_function(
            f"document.getElementById('live-video').currentTime > {SPOKEN_SECONDS}", timeout=120_000
        )
        page.screenshot(path=str(output))
        browser.close()


def main() -> None:
    from eamm_jax import bundled
    from eamm_jax.io.audio import read_speech, write_wav

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", type=Path, nargs="?", default=ROOT / "docs" / "live.png")
    flags = parser.parse_args()
    port = ADDRESS.rpartition(":")[2]
    words = [sys.executable, "-m", "eamm_jax.app", "--port", port]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT) as studio,
    ):
        try:
            assert studio.stdout is not None
            studio.stdout.readline()  # it is open
            microphone = Path(folder) / "voice.wav"
            write_wav(microphone, read_speech(bundled.SPEECH))
            take(flags.output, microphone)
        finally:
            studio.terminate()


if __name__ == "__main__":
    main()
