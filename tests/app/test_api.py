"""Animations over HTTP: the whole way of one, refusals in words, limits, and what stays behind."""

from __future__ import annotations

import base64
import io
import json
import re
import secrets
import threading
import time

import numpy as np
import pytest
from PIL import Image

from eamm_jax import features
from eamm_jax.animate import job as jobs
from eamm_jax.app.form import Form, job_of
from eamm_jax.io.audio import read_audio, read_speech
from eamm_jax.io.video import read_video

fastapi = pytest.importorskip("fastapi")
from fastapi import WebSocketDisconnect  # noqa: E402
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


@pytest.fixture
def same_mark(monkeypatch):
    """Every watermark carries the same number, so that videos can be compared."""
    monkeypatch.setattr(secrets, "randbits", lambda count: 7)


def frames_of(path) -> np.ndarray:
    return np.stack(list(read_video(path, None)))


@pytest.mark.usefixtures("same_mark")
def test_the_video_is_that_of_the_same_job(client, files, animator, tmp_path):
    names = "portrait=face.png", "sound=voice.wav", "timeline=keys.csv"
    answer = ask(client, files, *names, strength="1.5")
    assert answer.status_code == 202
    assert answer.json()["links"]["self"] == answer.headers["location"]
    found = ended(client, answer)
    assert found["status"] == "done", found
    assert found["frames"]["done"] == found["frames"]["total"] > 0
    video = client.get(found["links"]["video"])
    assert video.headers["content-type"] == "video/mp4"
    # As from the command line with files of the server's names.
    uploads = {}
    for name, source in (
        ("portrait.png", "face.png"), ("sound.wav", "voice.wav"), ("timeline.csv", "keys.csv")
    ):  # fmt: skip
        uploads[name] = tmp_path / name
        uploads[name].write_bytes(files[source].read_bytes())
    form = Form(
        portrait=uploads["portrait.png"], sound=uploads["sound.wav"], crop=False,
        timeline=uploads["timeline.csv"], strength=1.5,
    )  # fmt: skip
    job = job_of(form, form.sound, tmp_path)
    jobs.run(animator, job)
    (tmp_path / "served.mp4").write_bytes(video.content)
    np.testing.assert_array_equal(frames_of(tmp_path / "served.mp4"), frames_of(job.output))


def test_uploads_end_with_their_animation_and_results_with_their_time(serve, files):
    client = serve(keep_minutes=1e-9)
    answer = ask(client, files, "portrait=face.png", "sound=word.wav")
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
    third = ask(client, files, "portrait=face.png", "sound=word.wav")
    assert ended(client, third)["status"] == "done"
    assert client.delete(third.headers["location"]).status_code == 204
    assert left_behind(client) == []
    assert 'ended_total{status="cancelled"} 2' in client.get("/metrics").text


def test_more_than_may_wait_are_told_when_to_come_again(serve, files, animator):
    client = serve(waiting=2)
    animator.stop_before = 0
    word = "portrait=face.png", "sound=word.wav"
    answers = [ask(client, files, *word)]
    assert animator.stopped.wait(60)
    answers += [ask(client, files, *word) for _ in range(2)]
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


def test_a_video_can_be_watched_while_it_is_made(client, files, animator, tmp_path):
    animator.stop_before = 13  # the last frame but one
    answer = ask(client, files)
    assert animator.stopped.wait(60)
    waiting = ask(client, files)
    assert "waiting" in problem_of(client.get(waiting.json()["links"]["video"]), 409)
    (order,) = (o for o in map(client.orders.get, [answer.json()["id"]]) if o)
    assert order.status == "running"
    # A test client answers with the whole: it is let go on as soon as it has begun to read.
    threading.Timer(0.3, animator.go_on.set).start()
    growing = client.get(answer.json()["links"]["video"])
    assert growing.status_code == 200
    (tmp_path / "growing.mp4").write_bytes(growing.content)
    assert ended(client, answer)["status"] == "done"
    whole = client.get(answer.json()["links"]["video"]).content
    (tmp_path / "whole.mp4").write_bytes(whole)
    watched, kept = (frames_of(tmp_path / name) for name in ("growing.mp4", "whole.mp4"))
    np.testing.assert_array_equal(watched, kept)
    grown, sound = (read_audio(tmp_path / name) for name in ("growing.mp4", "whole.mp4"))
    np.testing.assert_allclose(grown[: len(sound)], sound, atol=1e-4)
    assert len(grown) - len(sound) < 1024  # FFmpeg 9 plays the last packet whole


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
             "sound": (name, files["word.wav"].read_bytes())}  # fmt: skip
    answer = client.post("/v1/animations", files=given, data={"crop": "false"})
    assert answer.status_code == 202, answer.text
    assert ended(client, answer)["status"] == "done"


@pytest.mark.slow
@pytest.mark.usefixtures("same_mark")
def test_twenty_at_once_lose_nothing(serve, files, animator, tmp_path):
    client = serve(jobs=2, waiting=30)
    answers = []
    given = "portrait=face.png", "sound=word.wav"
    threads = [
        threading.Thread(target=lambda: answers.append(ask(client, files, *given)))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {ended(client, answer)["status"] for answer in answers} == {"done"}
    seen = set()
    for answer in answers:
        (tmp_path / "one.mp4").write_bytes(client.get(answer.json()["links"]["video"]).content)
        seen.add(frames_of(tmp_path / "one.mp4").tobytes())
    assert len(seen) == 1


def test_a_page_describes_all_and_loads_nothing_from_elsewhere(client):
    described = client.get("/openapi.json").json()
    assert "/v1/animations/{name}/video" in described["paths"]
    page = client.get("/docs").text
    assert "/openapi.json" in page
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(loaded) == 3
    for address in loaded:
        assert client.get(address).status_code == 200


def hello(files, **words) -> dict:
    portrait = base64.b64encode(files["face.png"].read_bytes()).decode()
    return {"portrait": portrait, "emotion": "neutral", **words}


def sound_of(files) -> bytes:
    return (read_speech(files["voice.wav"]) * 32767).round().astype("<i2").tobytes()


def test_speech_is_animated_as_it_comes(client, files):
    sound = sound_of(files)
    with client.websocket_connect("/v1/live") as socket:
        socket.send_json(hello(files))
        assert socket.receive_json() == {"size": 64, "frame_rate": 25}
        for start in range(0, len(sound), 1600):
            socket.send_bytes(sound[start : start + 1600])
        socket.send_json({"emotion": "happy", "strength": 0.5})
        socket.send_json({"head": 0, "gaze": [1, -0.5], "blink": False})
        socket.send_json({"end": True})
        numbers, last = [], None
        while last is None:
            message = socket.receive()
            if message.get("bytes") is None:
                last = json.loads(message["text"])
                continue
            numbers.append(int.from_bytes(message["bytes"][:4], "big"))
            with Image.open(io.BytesIO(message["bytes"][4:])) as picture:
                assert (picture.format, picture.size) == ("JPEG", (64, 64))
                assert b"trainedAlgorithmicMedia" in picture.info["xmp"]
    frames = features.num_frames(features.mfcc_rows(len(sound) // 2))
    assert numbers == sorted(numbers)
    assert last == {"frames": len(numbers), "dropped": frames - len(numbers)}
    assert left_behind(client) == []


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"emotion": "happy"}], "names no portrait"),
        (["not json"], "neither sound nor a JSON object"),
        ([{"portrait": "x"}], "names no portrait"),
        ([{"portrait": base64.b64encode(b"no picture").decode()}], "portrait: it is not an image"),
        (["hello", b"odd"], "whole 16-bit samples"),
        (["hello", {"strength": "much"}], "strength is 'much'"),
        (["hello", {"emotion": "glad"}], "no 'glad'"),
        (["hello", {"gaze": 1}], "the gaze is two numbers"),
        (["hello", {"head": 9}], "the head is 9; give a number from 0 to 2"),
        (["hello", b"\0" * 400_000], "faster than it can be animated"),
    ],
)
def test_what_is_wrong_in_a_stream_is_said(serve, files, messages, words):
    client = serve(speech_seconds=4)
    with client.websocket_connect("/v1/live") as socket:
        for message in messages:
            if isinstance(message, bytes):
                socket.send_bytes(message)
            elif message == "hello":
                socket.send_json(hello(files))
                assert socket.receive_json()["size"] == 64
            else:
                socket.send_text(message if isinstance(message, str) else json.dumps(message))
        while (answer := socket.receive()).get("bytes") is not None:
            pass
    assert words in json.loads(answer["text"])["problem"]
    assert left_behind(client) == []


def test_more_listeners_than_may_are_told_to_wait_and_who_leaves_makes_room(serve, files):
    client = serve(listeners=1)
    with client.websocket_connect("/v1/live") as first:
        first.send_json(hello(files))
        first.receive_json()
        with client.websocket_connect("/v1/live") as second:
            second.send_json(hello(files))
            assert "1 streams are animated already" in second.receive_json()["problem"]
    deadline = time.monotonic() + 10
    while True:
        with client.websocket_connect("/v1/live") as third:
            third.send_json(hello(files))
            if "size" in third.receive_json():
                break
        assert time.monotonic() < deadline


def test_a_stream_needs_the_token_too(serve, files):
    client = serve(token="secret")
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/live") as socket:
        socket.receive_json()
    known = {"Authorization": "Bearer secret"}
    with client.websocket_connect("/v1/live", headers=known) as socket:
        socket.send_json(hello(files))
        assert socket.receive_json()["size"] == 64
