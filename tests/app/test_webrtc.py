"""What the Live tab sends: no sound is lost, and frames come with their sound; refused offers."""

from __future__ import annotations

import asyncio
import importlib.util
import re

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("aiortc") is None, reason="needs the extra 'app' (aiortc)"
)

DELAY, PACKET, FRAME = 19_200, 960, 1920


@pytest.fixture
def voice():
    from eamm_jax.app.webrtc import Voice

    return Voice()


def sound(count: int, start: int = 1) -> np.ndarray:
    return np.arange(start, start + count, dtype=np.int16)


def test_the_voice_is_held_back_and_comes_whole(voice):
    voice.push(sound(DELAY - 1))
    assert not voice.next(PACKET).any()
    assert voice.position == 0
    voice.push(sound(1, DELAY))
    sent = [voice.next(PACKET) for _ in range(DELAY // PACKET)]
    np.testing.assert_array_equal(np.concatenate(sent), sound(DELAY))
    assert voice.position == DELAY
    assert not voice.next(PACKET).any()  # nothing is left, and it is held back anew
    voice.push(sound(PACKET))
    assert not voice.next(PACKET).any()
    assert voice.position == DELAY


def test_the_voice_waits_for_frames_that_are_late(voice):
    voice.push(sound(DELAY))
    voice.next(PACKET)
    voice.wait(2 * PACKET)
    voice.wait(-5)
    for _ in range(2):
        assert not voice.next(PACKET).any()
    np.testing.assert_array_equal(voice.next(PACKET), sound(PACKET, PACKET + 1))


def test_what_is_held_is_bounded_and_counts_as_sent(voice):
    voice.push(sound(30_000))
    for _ in range(5):
        voice.push(sound(30_000))
    assert voice.position == 6 * 30_000 - 96_000


def test_a_frame_is_shown_with_its_sound_and_late_ones_hold_the_voice(voice):
    from eamm_jax.app.webrtc import Picture

    images = [np.full((16, 16, 3), 60 * n, np.uint8) for n in range(4)]

    async def shown() -> list[int]:
        track = Picture(voice, images[0])
        seen = []
        voice.push(np.ones(10 * DELAY // 4, np.int16))
        for number in (0, 1, 3):
            track.put(number, images[number])
        for _ in range(4):
            frame = await track.recv()
            seen.append(round(frame.to_ndarray(format="rgb24").mean() / 60))
            for _ in range(FRAME // PACKET):
                voice.next(PACKET)
        before = voice.position
        track.put(1, images[1])
        voice.next(PACKET)
        assert voice.position == before
        return seen

    assert asyncio.run(shown()) == [0, 1, 1, 3]


@pytest.mark.parametrize(
    ("offer", "words"),
    [
        ({"portrait": "?"}, "names no portrait"),
        ({"strength": 9}, "strength is 9"),
        ({"emotion": "glad"}, "'glad' is no emotion of this model"),
        ({"sdp": "v=0"}, "no offer of a connection|no microphone"),
        ({}, "no offer of a connection|no microphone"),
    ],
)
def test_offers_that_cannot_be_used_are_refused_and_leave_nothing(studio, offer, words):
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    from eamm_jax.app.webrtc import Calls, offers

    calls = Calls(studio)
    with TestClient(Starlette(routes=[offers(calls, 1 << 20)])) as client:
        refused = client.post("/live/offer", json=offer)
        assert refused.status_code == 422
        found = client.post("/live/offer", content=b"{}", headers={"Content-Type": "text/plain"})
        assert found.status_code == 415
        assert client.post("/live/offer", json={"portrait": "x" * (4 << 20)}).status_code == 413
    assert re.search(words, refused.json()["detail"])
    assert [path for path in studio.folder.rglob("*") if path.is_file()] == []


def test_a_computer_without_a_network_reaches_itself(monkeypatch):
    import aioice.ice

    import eamm_jax.app.webrtc  # noqa: F401 - what it changes is tested

    monkeypatch.setattr(aioice.ice.ifaddr, "get_adapters", list)
    assert aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=True) == ["127.0.0.1"]
