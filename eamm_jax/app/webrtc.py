"""The studio's Live tab: a microphone in, an animated portrait and the voice out, by WebRTC.

The page offers a connection with what `LiveSession` begins with, and gets an answer (`Calls`).
Its microphone goes two ways: at 16 kHz into the stream, and as it is into `Voice`, which holds it
back until frames of that moment can be there. What is sent of the voice says which frame is
shown, so that sound and picture stay together. No server elsewhere (STUN, TURN) is asked.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import aioice.ice
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidStateError
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, AudioResampler, VideoFrame
from jaxtyping import Int16
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from eamm_jax import bundled
from eamm_jax.app.api import problem
from eamm_jax.app.live import LiveSession, feeling_of, picture_of, words_of
from eamm_jax.app.orders import without_folder
from eamm_jax.app.studio import Studio
from eamm_jax.constants import FRAME_RATE, SAMPLE_RATE
from eamm_jax.errors import UserError

VOICE_RATE = 48_000
"""Hz of the sound that comes and goes."""

_PACKET = VOICE_RATE // 50
_FRAME = VOICE_RATE // FRAME_RATE

DELAY_SECONDS = 0.4
"""By which the voice is held back, at least: a frame needs 0.175 s of sound after it, and
computing. Where that takes longer, the voice waits for it."""

_MOST_HELD_SECONDS = 2.0
"""Of voice; more comes from a stall, and would stay as a delay."""

_GONE_SECONDS = 5.0
"""Without a packet of sound, after which a listener has left; muted microphones send silence."""

_VIDEO_CLOCK = 90_000

_SDP_BYTES = 1 << 16
"""Of a description of a connection."""

_log = logging.getLogger(__name__)

_addresses_of_interfaces = aioice.ice.get_host_addresses


def _addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:
    """Those where this computer is reached; where it has no network, it reaches itself."""
    return _addresses_of_interfaces(use_ipv4, use_ipv6) or ["127.0.0.1"]


aioice.ice.get_host_addresses = _addresses  # leaves loopback out, and has no setting for it


def offers(calls: Calls, most_bytes: int) -> Route:
    """Where the page offers its connections.

    Args:
        calls: take them on.
        most_bytes: of a portrait.
    """

    async def offer(request: Request) -> Response:
        # A page of another site cannot send this type unasked.
        if request.headers.get("content-type") != "application/json":
            return problem(415, "An offer is JSON")
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > 2 * most_bytes + _SDP_BYTES:
            return problem(413, "The portrait is too large")
        try:
            return JSONResponse(await calls.answer(words_of(await request.body())))
        except UserError as error:
            return problem(422, str(without_folder(error, calls.folder)))

    return Route("/live/offer", offer, methods=["POST"])


class Voice:
    """The sound on its way back to the listener.

    Attributes:
        position: samples sent so far, which are also those that came: none is left out.
    """

    def __init__(self) -> None:
        self.position = 0
        self._held = np.zeros(0, np.int16)
        self._flowing, self._pause = False, 0

    def push(self, samples: Int16[np.ndarray, " n"]) -> None:
        """Takes what came."""
        held = np.concatenate([self._held, samples])
        self._held = held[-int(_MOST_HELD_SECONDS * VOICE_RATE) :]
        self.position += len(held) - len(self._held)

    def wait(self, samples: int) -> None:
        """Falls back by so much: frames come later than their sound."""
        self._pause = max(self._pause, samples)

    def next(self, count: int) -> Int16[np.ndarray, " count"]:
        """What is to be sent; silence until enough is held, and while it waits."""
        if self._pause > 0:
            self._pause -= count
            return np.zeros(count, np.int16)
        if len(self._held) >= DELAY_SECONDS * VOICE_RATE:
            self._flowing = True
        if not self._flowing or len(self._held) < count:
            self._flowing = False
            return np.zeros(count, np.int16)
        sent, self._held = self._held[:count], self._held[count:]
        self.position += count
        return sent


class _Paced(MediaStreamTrack):
    """A track that sends at an even pace."""

    seconds: float

    def __init__(self) -> None:
        super().__init__()
        self._start, self._count = time.monotonic(), 0

    async def _due(self) -> int:
        """Waits until the next packet is due; returns its number."""
        if self.readyState != "live":
            raise MediaStreamError
        number, self._count = self._count, self._count + 1
        await asyncio.sleep(self._start + number * self.seconds - time.monotonic())
        return number


class _Sound(_Paced):
    kind, seconds = "audio", _PACKET / VOICE_RATE

    def __init__(self, voice: Voice):
        super().__init__()
        self._voice = voice

    async def recv(self) -> AudioFrame:
        number = await self._due()
        frame = AudioFrame.from_ndarray(self._voice.next(_PACKET)[None], "s16", "mono")
        frame.sample_rate, frame.time_base = VOICE_RATE, Fraction(1, VOICE_RATE)
        frame.pts = number * _PACKET
        return frame


class Picture(_Paced):
    """Shows the frame of the sound that is being sent."""

    kind, seconds = "video", 1 / FRAME_RATE

    def __init__(self, voice: Voice, still: np.ndarray):
        super().__init__()
        self._voice, self._shown = voice, still
        self._coming: deque[tuple[int, np.ndarray]] = deque()

    def put(self, number: int, image: np.ndarray) -> None:
        """Takes a frame, to be shown with its sound."""
        self._voice.wait(self._voice.position - number * _FRAME)
        self._coming.append((number, image))

    async def recv(self) -> VideoFrame:
        """The next frame, when it is due."""
        number = await self._due()
        while self._coming and self._coming[0][0] * _FRAME <= self._voice.position:
            _, self._shown = self._coming.popleft()
        frame = VideoFrame.from_ndarray(self._shown, "rgb24")
        frame.pts, frame.time_base = number * _VIDEO_CLOCK // FRAME_RATE, Fraction(1, _VIDEO_CLOCK)
        return frame


class Calls:
    """The connections of a studio's listeners.

    Args:
        studio: animates.
    """

    def __init__(self, studio: Studio):
        self._studio, self.folder = studio, studio.folder
        self._open: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def answer(self, offer: dict[str, Any]) -> dict[str, str]:
        """Takes a listener on.

        Args:
            offer: `sdp` of the page's connection, `emotion`, `strength`, and `portrait` (a
                picture in base64; without it the bundled one).

        Returns:
            `sdp` of this side's.

        Raises:
            UserError: something in the offer cannot be used, or too many are listened to.
        """
        self._loop = asyncio.get_running_loop()
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        answered: asyncio.Future[dict[str, str]] = self._loop.create_future()
        call = asyncio.create_task(self._serve(connection, offer, answered))
        self._open.add(call)
        call.add_done_callback(self._open.discard)
        either: list[asyncio.Future[Any]] = [call, answered]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            call.result()  # raises what went wrong
        return answered.result()

    def close(self) -> None:
        """Ends all calls; from another thread."""
        if self._loop is not None and not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()

    async def _close(self) -> None:
        for call in self._open:
            call.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(
        self, connection: RTCPeerConnection, offer: dict[str, Any], answered: asyncio.Future
    ) -> None:
        studio = self._studio
        try:
            with ExitStack() as held:
                portrait = bundled.PORTRAIT
                if offer.get("portrait"):
                    picture = picture_of(offer, studio.limits.upload_megabytes << 20)
                    folder = held.enter_context(tempfile.TemporaryDirectory(dir=studio.folder))
                    portrait = Path(folder) / "portrait"
                    portrait.write_bytes(picture)
                opened = studio.listening(portrait, *feeling_of(offer))
                listening = await asyncio.to_thread(opened.__enter__)
                held.callback(opened.__exit__, None, None, None)
                session = LiveSession(listening, studio.limits.speech_seconds)
                voice = Voice()
                mark = studio.mark()
                picture_track = Picture(voice, mark.picture(listening.still, 0))
                hearing: list[asyncio.Task[None]] = []

                @connection.on("track")
                def heard(track: MediaStreamTrack) -> None:
                    if track.kind == "audio" and not hearing:
                        hearing.append(asyncio.create_task(_hear(track, session, voice)))

                @connection.on("datachannel")
                def opened_channel(channel: RTCDataChannel) -> None:
                    channel.on("message", lambda message: _obey(message, session, channel))

                try:
                    description = RTCSessionDescription(str(offer.get("sdp")), "offer")
                    await connection.setRemoteDescription(description)
                    connection.addTrack(_Sound(voice))
                    connection.addTrack(picture_track)
                    await connection.setLocalDescription(await connection.createAnswer())
                except (ValueError, InvalidStateError, AssertionError) as error:
                    raise UserError(f"this is no offer of a connection: {error}") from None
                if not hearing:
                    raise UserError("the offer has no microphone")
                answered.set_result({"sdp": connection.localDescription.sdp, "type": "answer"})
                held.callback(hearing[0].cancel)
                async for frame in session.frames():
                    seconds = frame.number / FRAME_RATE
                    image = await asyncio.to_thread(mark.picture, frame.image, seconds)
                    picture_track.put(frame.number, image)
                await hearing[0]
        except UserError as error:
            if not answered.done():
                raise
            _log.warning("a live session ended: %s", error)
        finally:
            await connection.close()


async def _hear(track: MediaStreamTrack, session: LiveSession, voice: Voice) -> None:
    """Feeds the microphone to the session and to the way back, until it ends or is gone."""
    # PyAV resamples packet by packet, and keeps what is between two of them.
    back = AudioResampler("s16", "mono", VOICE_RATE)
    forth = AudioResampler("flt", "mono", SAMPLE_RATE)
    try:
        while True:
            frame = await asyncio.wait_for(track.recv(), _GONE_SECONDS)
            assert isinstance(frame, AudioFrame)
            for piece in back.resample(frame):
                voice.push(piece.to_ndarray()[0])
            for piece in forth.resample(frame):
                session.hear(piece.to_ndarray()[0])
    except (MediaStreamError, TimeoutError):
        pass
    finally:
        session.end(finish=False)


def _obey(message: str | bytes, session: LiveSession, channel: RTCDataChannel) -> None:
    """Does what the page asks for, or says what is wrong with it."""
    try:
        session.wish(words := words_of(message))
        if words.get("end"):
            session.end(finish=False)
    except UserError as error:
        channel.send(json.dumps({"problem": str(error)}))
