"""The studio at work: the same result as infer.py, stopping, closing, and what stays behind."""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time

import numpy as np
import pytest
from PIL import Image

from eamm_jax.animate import job as jobs
from eamm_jax.app import studio as module
from eamm_jax.app.form import TEXT, Form, job_of
from eamm_jax.app.studio import Progress, Result
from eamm_jax.errors import UserError
from eamm_jax.io.audio import read_speech
from eamm_jax.io.image import read_image
from eamm_jax.io.speech import Speech
from eamm_jax.io.video import read_video
from tests.app.conftest import SECONDS

FRAMES = 14  # in SECONDS of sound


@pytest.fixture
def form(files) -> Form:
    # Looking for faces takes a second, and there are none.
    return Form(portrait=files["face.png"], crop=False, sound=files["voice.wav"], emotion="happy")


def left_behind(studio) -> list:
    return [path for path in studio.folder.rglob("*") if path.is_file()]


def run_in_thread(studio, form, seen) -> threading.Thread:
    def run() -> None:
        try:
            for news in studio.work(form):
                seen.append(news)
        except BaseException as error:
            seen.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_the_result_is_that_of_the_same_job(studio, animator, form, tmp_path, monkeypatch):
    monkeypatch.setattr(secrets, "randbits", lambda count: 7)  # what the watermark carries
    news = list(studio.work(form))
    result = news[-1]
    assert isinstance(result, Result)
    assert news[0] == Progress()
    assert all(isinstance(item, Progress) for item in news[:-1])
    assert result.video.name == "face_voice_happy.mp4"
    assert result.summary.frames == FRAMES
    assert left_behind(studio) == [result.video]
    jobs.run(animator, job_of(form, form.sound, tmp_path))
    alone = tmp_path / result.video.name
    for a, b in zip(read_video(result.video, None), read_video(alone, None), strict=True):
        np.testing.assert_array_equal(a, b)
    assert result.summary.mark == "00000007"
    assert result.command[:2] == ["eamm-infer", "--checkpoint"]


def test_frames_are_counted_while_they_are_rendered(studio, form):
    _, *counted, _ = studio.work(form)
    assert [(news.done, news.total) for news in counted] == [(n + 1, FRAMES) for n in range(FRAMES)]
    assert counted[0].seconds_left is None
    assert counted[-1].seconds_left is not None


@pytest.mark.parametrize("frames", [0, 1, 6])
def test_what_is_closed_leaves_nothing_and_its_place_is_free(studio, form, frames):
    work = studio.work(form)
    for _ in range(frames + 1):
        next(work)
    work.close()
    assert left_behind(studio) == []
    assert isinstance(list(studio.work(form))[-1], Result)


def test_what_cannot_be_used_is_said_and_nothing_stays(studio, form, files):
    broken = dataclasses.replace(form, portrait=files["broken.png"])
    with pytest.raises(UserError, match=r"broken\.png: the file is damaged"):
        list(studio.work(broken))
    with pytest.raises(UserError, match="no portrait yet"):
        list(studio.work(Form()))
    assert left_behind(studio) == []


def test_memory_that_ends_is_named(studio, form, monkeypatch):
    def fail(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        yield

    monkeypatch.setattr(jobs, "steps", fail)
    with pytest.raises(UserError, match=r"^out of memory: "):
        list(studio.work(form))
    assert left_behind(studio) == []


def test_a_text_is_spoken(studio, form, monkeypatch, files):
    spoken = read_speech(files["voice.wav"])
    asked = []

    def synthesise(text, voice):
        asked.append((text, voice))
        return Speech(spoken, (), ())

    monkeypatch.setattr(module, "synthesise", synthesise)
    studio.choices = studio.choices._replace(text=True)
    text = dataclasses.replace(form, voice=TEXT, text="Good news.", accent="de", sound=None)
    result = list(studio.work(text))[-1]
    assert asked == [("Good news.", "de")]
    assert result.summary.frames == FRAMES
    assert result.video.name == "face_text_happy.mp4"


def test_a_text_that_takes_too_long_to_speak_is_refused(make_studio, form, monkeypatch):
    studio = make_studio(speech_seconds=SECONDS)
    long = Speech(np.full(16_000, 0.1, np.float32), (), ())
    monkeypatch.setattr(module, "synthesise", lambda text, voice: long)
    studio.choices = studio.choices._replace(text=True)
    with pytest.raises(UserError, match=r"longer than 0\.6 seconds"):
        list(studio.work(dataclasses.replace(form, voice=TEXT, text="x")))
    assert left_behind(studio) == []


def test_closing_ends_all_work(studio, animator, form):
    animator.stop_before = 2
    seen: list = []
    thread = run_in_thread(studio, form, seen)
    assert animator.stopped.wait(60)
    threading.Timer(0.1, animator.go_on.set).start()
    studio.close()
    thread.join()
    assert isinstance(seen[-1], UserError)
    assert left_behind(studio) == []
    with pytest.raises(UserError, match="closing"):
        list(studio.work(form))


def test_an_animation_waits_until_the_networks_are_compiled(studio, animator, form):
    animator.stop_before = 0
    studio.warm_up()
    assert animator.stopped.wait(60)
    seen: list = []
    thread = run_in_thread(studio, form, seen)
    time.sleep(0.3)
    assert seen == [Progress()]
    animator.go_on.set()
    thread.join()
    assert isinstance(seen[-1], Result)


def test_a_preview_is_what_the_job_sees(studio, files, tmp_path):
    preview = studio.preview(files["face.png"], crop=False)
    np.testing.assert_array_equal(
        preview.crop, np.round(255 * read_image(files["face.png"], 64)).astype(np.uint8)
    )
    assert not preview.cut
    assert preview.message == "The picture is used as it is."
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(tmp_path / "wide.png")
    preview = studio.preview(tmp_path / "wide.png", crop=False)
    assert preview.crop.shape == (64, 64, 3)
    assert preview.picture.shape == (64, 96, 3)
    assert preview.cut
    assert preview.message == "The square in its middle is used as it is."


def test_a_preview_shows_all_faces_and_the_one_that_is_chosen(
    studio, monkeypatch, shared, tmp_path
):
    photo = Image.open(shared / "media" / "raw_image" / "scarlett.jpg").convert("RGB")
    photo.thumbnail((240, 240))
    photo = np.asarray(photo)
    two = np.concatenate([photo, photo[:, ::-1]], axis=1)
    Image.fromarray(two).save(tmp_path / "two.png")
    if not studio.choices.faces:
        pytest.skip("needs the extra 'faces'")
    first, second = (studio.preview(tmp_path / "two.png", face=n) for n in (1, 2))
    assert len(first.boxes) == len(second.boxes) == 2
    assert all(0 <= edge <= 1 for box in first.boxes for edge in box)
    assert first.message == "2 faces were found; this is number 1."
    assert second.message == "2 faces were found; this is number 2."
    assert np.abs(first.crop.astype(int) - second.crop).mean() > 10
    job = Form(portrait=tmp_path / "two.png", face=2)
    read = module.read_source(job.portrait, 64, number=2)
    np.testing.assert_array_equal(second.crop, module.to_uint8(read.crop))


def test_a_result_says_what_it_is(studio, form):
    *_, result = studio.work(form)
    report = studio.verify(result.video)
    assert report.marked
    assert report.fields["identifier"] == result.summary.mark
