"""The studio as a visitor sees it: the command serves it, a real browser uses it.

One server for all tests, with the bundled model. The browser cannot resolve any name, and every
request it makes is looked at: all must go to the studio.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from eamm_jax import bundled
from eamm_jax.constants import FRAME_RATE, SAMPLE_RATE
from eamm_jax.io.audio import read_speech, write_wav
from eamm_jax.io.video import read_video
from eamm_jax.io.video_writer import video_writer
from eamm_jax.provenance.marking import Provenance

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gradio") is None, reason="needs the extra 'app' (gradio)"
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None, reason="needs the package playwright"
    ),
    pytest.mark.skipif(CHROMIUM is None, reason="needs the browser chromium"),
]

BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
SECONDS = 1.2
START = 240  # seconds in which a busy machine has imported everything
WAIT = 120_000  # milliseconds in which it has compiled and drawn


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


class Server:
    """The command at work."""

    def __init__(self, temporary: Path, *flags: str, **environment: str):
        self.url = f"http://127.0.0.1:{free_port()}"
        self.temporary = temporary
        self.log = temporary.with_suffix(".log")
        words = [sys.executable, "-m", "eamm_jax.app", "--port", str(urlsplit(self.url).port)]
        given = {"TMPDIR": str(temporary), "JAX_PLATFORMS": "cpu", **environment}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*words, *flags],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **given},
            )
        end = time.monotonic() + START
        while "open at" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.1)

    def files(self) -> list[Path]:
        return [path for path in self.temporary.rglob("*") if path.is_file()]

    def videos(self) -> list[Path]:
        return [path for path in self.files() if path.suffix == ".mp4"]

    def unfinished(self) -> list[Path]:
        """Files of animations that are being made."""
        return [f for f in self.files() if "work" in f.relative_to(self.temporary).parts]

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    limits = "--max_seconds=9", "--max_upload=1", "--max_waiting=1", "--listeners=2"
    server = Server(tmp_path_factory.mktemp("studio"), *limits)
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture(scope="module")
def quick_server(tmp_path_factory):
    """Compiled as for users: it keeps up with the sound."""
    server = Server(tmp_path_factory.mktemp("studio"), XLA_FLAGS="")
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from playwright.sync_api import sync_playwright

    microphone = tmp_path_factory.mktemp("microphone") / "voice.wav"
    # A second of speech, a second of silence: the mouth must do the same.
    seconds = read_speech(bundled.SPEECH)[: 6 * SAMPLE_RATE].reshape(-1, SAMPLE_RATE)
    write_wav(microphone, np.stack([seconds, np.zeros_like(seconds)], axis=1).ravel())
    flags = [*BROWSER_FLAGS, f"--use-file-for-fake-audio-capture={microphone}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, request):
    """Opens the studio; afterwards no request may have gone elsewhere, and nothing have failed."""
    server = request.getfixturevalue(getattr(request, "param", "server"))
    contexts, asked, failed = [], [], []

    def open_page(width: int = 1280, height: int = 900, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(WAIT)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.on("console", lambda said: failed.append(said.text) if said.type == "error" else None)
        page.goto(server.url)
        page.wait_for_selector("#make")
        return page

    open_page.failed = failed
    yield open_page
    for context in contexts:
        context.close()
    hosts = {urlsplit(url.removeprefix("blob:")).netloc for url in asked if url[:5] != "data:"}
    assert hosts == {urlsplit(server.url).netloc}
    assert not failed


@pytest.fixture(scope="module")
def brought(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("brought")
    speech = read_speech(bundled.SPEECH)[: int(SECONDS * SAMPLE_RATE)]
    write_wav(folder / "voice.wav", speech)
    write_wav(folder / "long.wav", np.tile(speech, 9))
    (folder / "broken.png").write_bytes(bundled.PORTRAIT.read_bytes()[:5000])
    (folder / "large.wav").write_bytes(bytes(2 << 20))
    shutil.copy(bundled.PORTRAIT, folder / "me.png")
    return {path.name: path for path in folder.iterdir()}


def give(page, field: str, path: Path) -> None:
    page.locator(f"#{field} input[type=file]").set_input_files(path)


def fill_in(page, brought, voice: str = "voice.wav") -> None:
    give(page, "portrait", brought["me.png"])
    page.wait_for_selector("#preview img")
    give(page, "sound", brought[voice])
    page.wait_for_selector("#sound button[aria-label='Play'], #sound .play-pause-button")


def test_a_portrait_and_a_voice_become_a_video_that_plays(open_page, server, brought):
    page = open_page()
    fill_in(page, brought)
    assert "picture is used as it is" in page.inner_text("#preview").lower()
    before = set(server.videos())
    page.click("#make")
    page.wait_for_selector("#stop")
    video = page.wait_for_selector("#video video")
    page.wait_for_function("document.querySelector('#video video').readyState === 4")
    duration, width = video.evaluate("video => [video.duration, video.videoWidth]")
    assert abs(duration - SECONDS) < 2 / FRAME_RATE
    assert width == 256
    video.evaluate("video => video.play()")
    page.wait_for_function("document.querySelector('#video video').currentTime > 0.3")
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "me_voice_neutral.mp4"
    (made,) = set(server.videos()) - before
    assert Path(download.value.path()).read_bytes() == made.read_bytes()
    assert len(list(read_video(made, None))) == round(duration * FRAME_RATE)
    page.click("#stage summary")
    assert "eamm-infer --source_image me.png --in_file voice.wav" in page.inner_text("#stage pre")


def test_an_example_fills_in_the_form(open_page):
    page = open_page()
    assert page.locator("#gallery img").count() == 6
    page.locator("#gallery button").nth(1).click()
    page.wait_for_selector("#preview img")
    assert page.locator("#portrait img").count() == 1
    page.wait_for_selector("#sound button[aria-label='Play'], #sound .play-pause-button")


WRONG = {
    "nothing": (None, "There is no portrait yet"),
    "no voice": ({}, "There is no voice yet"),
    "too long": ({"sound": "long.wav"}, "The voice is longer than 9 seconds"),
    "broken": (
        {"portrait": "broken.png"},
        "Cannot read the picture broken.png: the file is damaged",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_a_sentence(case, open_page, brought):
    page = open_page()
    given, words = WRONG[case]
    if given is not None:
        give(page, "portrait", brought[given.get("portrait", "me.png")])
        page.wait_for_selector("#preview p")
    if given and "sound" in given:
        give(page, "sound", brought[given["sound"]])
        page.wait_for_selector("#sound button[aria-label='Play'], #sound .play-pause-button")
    if case != "broken":
        page.click("#make")
        page.wait_for_selector("#stage [role=alert]")
        said = page.inner_text("#stage [role=alert]")
        assert page.is_visible("#make")
    else:
        said = page.inner_text("#preview [role=alert]")
    assert words in said
    assert "/" not in said
    assert "--" not in said


def test_a_file_that_is_too_large_is_refused(open_page, brought):
    page = open_page()
    give(page, "sound", brought["large.wav"])
    toast = page.wait_for_selector(".toast-body, [data-testid=toast-body]")
    assert "maximum" in toast.inner_text().lower()


def test_stop_stops_and_leaves_nothing(open_page, server):
    page = open_page()
    before = set(server.videos())
    give(page, "portrait", bundled.PORTRAIT)
    give(page, "sound", bundled.SPEECH)  # long enough to be stopped before it is done
    page.wait_for_selector("#sound button[aria-label='Play'], #sound .play-pause-button")
    page.click("#make")
    page.click("#stop")
    page.wait_for_selector("#make")
    assert "Nothing of it was kept" in page.inner_text("#stage")
    page.wait_for_timeout(1500)
    assert set(server.videos()) == before
    assert "Nothing of it was kept" in page.inner_text("#stage")
    assert server.unfinished() == []


def test_leaving_the_page_calls_off_what_was_wanted(open_page, server, brought):
    page = open_page()
    before = set(server.videos())
    give(page, "portrait", bundled.PORTRAIT)
    give(page, "sound", bundled.SPEECH)  # 8 seconds: long enough to be late
    page.wait_for_selector("#sound button[aria-label='Play'], #sound .play-pause-button")
    page.click("#make")
    page.wait_for_selector("#stop")
    end = time.monotonic() + 60
    while not server.unfinished():
        assert time.monotonic() < end
        page.wait_for_timeout(50)
    page.close()
    while server.unfinished():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert set(server.videos()) == before


def test_one_is_rendered_one_waits_and_the_next_is_asked_to_come_back(open_page):
    pages = [open_page() for _ in range(3)]
    for page in pages:
        give(page, "portrait", bundled.PORTRAIT)
        give(page, "sound", bundled.SPEECH)
        page.wait_for_selector("#sound button[aria-label='Play'], #sound .play-pause-button")
    first, second, third = pages
    first.click("#make")
    first.wait_for_selector("#stage [role=progressbar]")
    second.click("#make")
    second.wait_for_function("document.querySelector('#stage').innerText.includes('Waiting')")
    second.wait_for_timeout(500)
    third.click("#make")
    toast = third.wait_for_selector(".toast-body, [data-testid=toast-body]")
    assert "busy" in toast.inner_text().lower()
    third.wait_for_selector("#make")
    (refused,) = open_page.failed
    assert "503" in refused
    open_page.failed.clear()
    first.click("#stop")
    first.wait_for_selector("#make")
    second.wait_for_selector("#stage [role=progressbar]")
    second.click("#stop")
    second.wait_for_selector("#make")


# Pixels of the mouth and loudness, tick by tick; how far sound and picture are apart.
MEASURE = """async (ticks) => {
  const video = document.getElementById("live-video");
  const sound = new AudioContext();
  const analyser = sound.createAnalyser();
  sound.createMediaStreamSource(video.srcObject).connect(analyser);
  const paint = new OffscreenCanvas(17, 10).getContext("2d", { willReadFrequently: true });
  const heard = new Float32Array(analyser.fftSize), mouth = [], loudness = [];
  for (let tick = 0; tick < ticks; tick++) {
    await new Promise((resolve) => setTimeout(resolve, 40));
    paint.drawImage(video, 96, 168, 68, 40, 0, 0, 17, 10);
    mouth.push([...paint.getImageData(0, 0, 17, 10).data]);
    analyser.getFloatTimeDomainData(heard);
    loudness.push(Math.hypot(...heard));
  }
  const played = {};
  (await window.call.getStats()).forEach((report) => {
    if (report.type === "inbound-rtp") played[report.kind] = report.estimatedPlayoutTimestamp;
  });
  await sound.close();
  return [mouth, loudness, played.audio - played.video];
}"""


def go_live(page) -> None:
    page.evaluate(
        "const Call = RTCPeerConnection; window.RTCPeerConnection = class extends Call "
        "{ constructor(...given) { super(...given); window.call = this; } }; null"
    )
    page.get_by_role("tab", name="Live").click()
    page.uncheck("#live-blink")
    page.locator("#live-head").evaluate("slider => { slider.value = 0; }")
    page.click("#live-start")


def wait_until_it_moves(page) -> None:
    page.wait_for_function("document.getElementById('live-video').currentTime > 3")


def alike(mouth: np.ndarray, loudness: np.ndarray, later: int) -> float:
    """Correlation of the sound and how the mouth differs from the closed one, some ticks later."""
    closed = mouth[np.argsort(loudness)[:20]].mean(axis=0)
    opening = np.abs(mouth - closed).mean(axis=1)
    tracks = [np.convolve(track, np.ones(9) / 9, "valid") for track in (opening, loudness)]
    first, last = max(later, 0), min(later, 0)
    moved = tracks[0][first : len(tracks[0]) + last], tracks[1][-last : len(tracks[1]) - first]
    return np.corrcoef(*moved)[0, 1]


@pytest.mark.exhaustive
@pytest.mark.parametrize("open_page", ["quick_server"], indirect=True)
def test_the_portrait_speaks_with_the_microphone(open_page):
    """On a machine that does nothing else: a busy one does not keep up."""
    page = open_page()
    go_live(page)
    wait_until_it_moves(page)
    measured = [page.evaluate(MEASURE, 200) for _ in range(3)]
    # Of 18 windows one was 446 ms apart: at 256x256 the studio and the browser fill two cores.
    assert np.median([abs(apart) for *_, apart in measured]) < 80
    tracks = [(np.array(mouth), np.array(loudness)) for mouth, loudness, _ in measured]
    together, half_a_second_off = (
        [np.mean([alike(*track, later) for track in tracks]) for later in ticks]
        for ticks in ((0,), (-12, 12))
    )
    assert together[0] > 0.4
    assert together[0] > max(half_a_second_off)

    page.click("#live-mute")
    page.wait_for_timeout(4000)  # what was held back has been sent
    still, silence, _ = page.evaluate(MEASURE, 20)
    mouth, loudness = tracks[-1]
    assert max(silence) < 0.01 * max(loudness)
    # The rest is the watermark, which changes from frame to frame, and the codec's.
    assert np.std(still, axis=0).mean() < 0.7 * np.std(mouth, axis=0).mean()


def test_without_a_network_live_says_what_to_do(open_page):
    page = open_page()
    page.evaluate(
        "const Call = RTCPeerConnection; window.RTCPeerConnection = class extends Call {"
        "  get iceGatheringState() { return 'gathering'; }"
        "  get localDescription() { return { sdp: 'v=0' }; } }; null"
    )
    page.get_by_role("tab", name="Live").click()
    page.click("#live-start")
    said = page.wait_for_selector("#live-said.wrong")
    assert "--allow-loopback-in-peer-connection" in said.inner_text()
    assert page.is_visible("#live-start")


def test_live_portraits_move_stop_and_make_room(open_page):
    first, second, third = (open_page() for _ in range(3))
    for page in (first, second):
        go_live(page)
        wait_until_it_moves(page)
    go_live(third)
    said = third.wait_for_selector("#live-said.wrong")
    assert said.inner_text() == "2 streams are animated already; wait until one ends"
    (refused,) = open_page.failed
    assert "422" in refused

    second.click("#live-stop")
    assert second.inner_text("#live-said") == "Stopped."
    assert second.evaluate("document.getElementById('live-video').srcObject") is None
    first.close()  # makes room, as stopping does
    for page in (second, third):
        end = time.monotonic() + 10
        while page.is_visible("#live-start"):
            assert time.monotonic() < end
            page.click("#live-start")
            page.wait_for_timeout(500)
        wait_until_it_moves(page)
    open_page.failed.clear()


def test_a_file_is_verified(open_page, brought, tmp_path):
    mark = Provenance().mark(inputs=[])
    with video_writer(tmp_path / "made.mp4", 64, 64, mark=mark) as video:
        for _ in range(5):
            video.write(np.zeros((64, 64, 3), np.uint8))
    for path, words in (
        (tmp_path / "made.mp4", "made by eamm_jax"),
        (brought["me.png"], "no mark of eamm_jax"),
    ):
        page = open_page()
        page.get_by_role("tab", name="Verify").click()
        give(page, "verify-file", path)
        page.wait_for_selector("#report .report")
        assert words in page.inner_text("#report")


def test_a_phone_shows_all_of_it_one_below_the_other(open_page):
    page = open_page(390, 844, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    left = [page.locator(box).bounding_box() for box in ("#portrait", "#sound", "#result")]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in left)
    assert left[0]["y"] < left[1]["y"] < left[2]["y"]


def test_files_of_the_computer_are_not_served(server):
    import urllib.error
    import urllib.request

    for path in ("/etc/passwd", str(Path(__file__))):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{server.url}/gradio_api/file={path}")


def test_told_to_end_it_ends_and_leaves_nothing(server):
    """The last one: the server is gone afterwards."""
    assert server.files()
    assert server.end(signal.SIGTERM) == 0
    assert server.files() == []
    log = server.log.read_text()
    assert "Traceback" not in log, log
    loading, address = log.splitlines()
    assert loading == "Loading the model ..."
    assert address.startswith("The studio is open at")
