"""Animations over HTTP: the whole way of one, refusals in words, limits, and what stays behind."""

from __future__ import annotations

import threading
import time

import pytest

from eamm_jax.animate import job as jobs
from eamm_jax.app.form import Form, job_of

fastapi = pytest.importorskip("fastapi")
from fastapi.testclient import TestClient  # noqa: E402

from eamm_jax.app.api import PROBLEM, make_app  # noqa: E402
from eamm_jax.app.orders import Orders  # noqa: E402


@pytest.fixture
def serve(make_studio):
    """Makes clients of servers, and closes them."""
    made = []

    def make(token=None, **limits) -> TestClient:
        studio = make_studio(**limits)
        orders = Orders(studio)
        client = TestClient(make_app(studio, orders, "tiny", token), raise_server_exceptions=False)
        client.studio, client.orders = studio, orders
        made.append(client)
        return client

    yield make
    for client in made:
        client.studio.close()
        client.orders.close()


@pytest.fixture
def client(serve) -> TestClient:
    return serve()


def ask(client, files, *names, **fields):
    """Posts a form; files by their fields."""
    names = names or ("portrait=face.png", "sound=voice.wav")
    given = {}
    for field, _, name in (name.partition("=") for name in names):
        given[field] = (name, files[name].read_bytes())
    return client.post("/v1/animations", files=given, data={"crop": "false", **fields})


def ended(client, answer, seconds=60) -> dict:
    """What an animation says when it waits and runs no longer."""
    deadline = time.monotonic() + seconds
    while (found := client.get(answer.headers["location"]).json())["status"] in (
        "waiting",
        "running",
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def left_behind(client) -> list:
    return [path for path in client.studio.folder.rglob("*") if path.is_file()]


def problem_of(answer, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    found = answer.json()
    assert found.keys() == {"type", "title", "status", "detail"}
    assert found["status"] == status
    return found["detail"]


def test_the_video_is_that_of_the_same_job(client, files, animator, tmp_path):
    answer = ask(client, files, emotion="happy", strength="1.5")
    assert answer.status_code == 202
    assert answer.json()["links"]["self"] == answer.headers["location"]
    found = ended(client, answer)
    assert found["status"] == "done", found
    assert found["frames"]["done"] == found["frames"]["total"] > 0
    video = client.get(found["links"]["video"])
    assert video.headers["content-type"] == "video/mp4"
    # As from the command line with files of the server's names.
    uploads = {}
    for name, source in (("portrait.png", "face.png"), ("sound.wav", "voice.wav")):
        uploads[name] = tmp_path / name
        uploads[name].write_bytes(files[source].read_bytes())
    form = Form(
        portrait=uploads["portrait.png"], sound=uploads["sound.wav"], crop=False,
        emotion="happy", strength=1.5,
    )  # fmt: skip
    job = job_of(form, form.sound, tmp_path)
    jobs.run(animator, job)
    assert video.content == job.output.read_bytes()


def test_uploads_end_with_their_animation_and_results_with_their_time(serve, files):
    client = serve(keep_minutes=1e-9)
    answer = ask(client, files)
    while client.get(answer.headers["location"]).status_code != 404:
        time.sleep(0.02)
    assert left_behind(client) == []


def test_a_deleted_animation_ends_and_leaves_nothing(client, files, animator):
    animator.stop_before = 3
    running, waiting = ask(client, files), ask(client, files)
    assert animator.stopped.wait(60)
    for answer in (waiting, running):
        assert client.delete(answer.headers["location"]).status_code == 204
        assert "no such animation" in problem_of(client.get(answer.headers["location"]), 404)
    animator.go_on.set()
    animator.stop_before = None
    third = ask(client, files)
    assert ended(client, third)["status"] == "done"
    assert client.delete(third.headers["location"]).status_code == 204
    assert left_behind(client) == []
    assert 'ended_total{status="cancelled"} 2' in client.get("/metrics").text


def test_more_than_may_wait_are_told_when_to_come_again(serve, files, animator):
    client = serve(waiting=2)
    animator.stop_before = 0
    answers = [ask(client, files)]
    assert animator.stopped.wait(60)
    answers += [ask(client, files) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202] * 3
    refused = ask(client, files)
    assert "Too many animations are waiting" in problem_of(refused, 429)
    assert int(refused.headers["retry-after"]) >= 1
    metrics = client.get("/metrics").text
    assert 'eamm_animations{status="waiting"} 2' in metrics
    assert 'eamm_animations{status="running"} 1' in metrics
    animator.go_on.set()
    animator.stop_before = None
    assert [ended(client, answer)["status"] for answer in answers] == ["done"] * 3


def test_a_video_that_is_not_there_yet_is_a_conflict(client, files, animator):
    animator.stop_before = 0
    answer = ask(client, files)
    assert animator.stopped.wait(60)
    assert "running" in problem_of(client.get(answer.json()["links"]["video"]), 409)
    animator.go_on.set()


def test_refusals_are_sentences(client, files):
    def refused(*names, **fields):
        return problem_of(ask(client, files, *names, **fields), 422)

    assert "There is no voice yet" in refused("portrait=face.png")
    assert "portrait: Field required" in refused("sound=voice.wav")
    assert "'glad' is no emotion of this model" in refused(emotion="glad")
    assert "strength: " in refused(strength="nan")
    assert "'up' is no layout" in refused(layout="up")
    assert "sound.png has no sound track" in refused("portrait=face.png", "sound=face.png")
    # What is wrong with a picture shows when it is read.
    broken = ended(client, ask(client, files, "portrait=broken.png", "sound=voice.wav"))
    assert broken["status"] == "failed"
    assert "the file is damaged" in broken["problem"]["detail"]
    assert str(client.studio.folder) not in broken["problem"]["detail"]
    assert left_behind(client) == []


def test_large_requests_are_refused_before_they_are_read(serve, files):
    client = serve(upload_megabytes=1)
    large = {"portrait": ("a.png", b"x" * (1 << 20) + b"x"), "sound": ("b.wav", b"x")}
    assert "portrait is larger than 1 MB" in problem_of(
        client.post("/v1/animations", files=large), 413
    )
    larger = {"portrait": ("a.png", b"x" * (7 << 20))}
    assert "request is larger" in problem_of(client.post("/v1/animations", files=larger), 413)
    unknown = client.post("/v1/animations", content=iter([b"x"]))
    assert "length" in problem_of(unknown, 411)
    assert left_behind(client) == []


def test_a_token_is_asked_for_where_one_is_set(serve, files):
    client = serve(token="secret")
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
        assert "token" in problem_of(client.get("/v1/models", headers=header), 401)
    assert problem_of(ask(client, files), 401)
    assert client.get("/healthz").json() == {"status": "ok"}
    known = client.get("/v1/models", headers={"Authorization": "Bearer secret"})
    assert known.json()["models"][0]["emotions"] == ["neutral", "happy", "sad"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "x" * 5000])
def test_no_file_of_the_machine_is_reached(client, files, name):
    for path in (f"/v1/animations/{name}", f"/v1/animations/{name}/video", f"/{name}"):
        assert client.get(path).status_code == 404
    name = name[:200]
    given = {"portrait": (f"../{name}.png", files["face.png"].read_bytes()),
             "sound": (name, files["voice.wav"].read_bytes())}  # fmt: skip
    answer = client.post("/v1/animations", files=given, data={"crop": "false"})
    assert answer.status_code == 202, answer.text
    assert ended(client, answer)["status"] == "done"


def test_twenty_at_once_lose_nothing(serve, files, animator):
    client = serve(jobs=2, waiting=30)
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(client, files))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {ended(client, answer)["status"] for answer in answers} == {"done"}
    videos = {client.get(answer.json()["links"]["video"]).content for answer in answers}
    assert len(videos) == 1
    described = client.get("/openapi.json").json()
    assert "/v1/animations/{name}/video" in described["paths"]
