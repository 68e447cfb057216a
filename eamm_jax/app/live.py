"""Speech in as it comes, frames out: a session, and the web socket that carries one.

`LiveSession` is what a client of either transport talks to (`webrtc.py` is the other). Over the
web socket (`/v1/live`, docs/serving.md) the client names portrait, emotion and strength, then sends
sound and, in between, what is to change; the server answers with marked frames and at last with
their number, or what is wrong.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import json
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import WebSocket, WebSocketDisconnect, status
from jaxtyping import Float
from PIL import Image

from eamm_jax.animate import StreamedFrame
from eamm_jax.animate.timeline import MAX_STRENGTH
from eamm_jax.app.studio import Listening, Studio
from eamm_jax.constants import FRAME_RATE
from eamm_jax.errors import UserError
from eamm_jax.io.marking import Mark

_JPEG_QUALITY = 90
_POLL_SECONDS = 0.005
"""How often sound is looked for that makes another frame due."""


class LiveSession:
    """A stream at work for one client: sound and wishes in, frames out.

    Args:
        listening: of the studio.
        most_seconds: of sound that may wait to be animated.
    """

    def __init__(self, listening: Listening, most_seconds: float):
        self._stream, self._motion = listening.stream, listening.motion
        self._most_waiting = most_seconds * FRAME_RATE
        self._wishes: deque[Callable[[], None]] = deque()
        self._ended, self._finishing = False, False

    def hear(self, samples: Float[np.ndarray, " n"]) -> None:
        """Takes more of the speech: mono samples at 16 kHz.

        Raises:
            UserError: it comes too fast.
        """
        self._stream.push(samples)
        if self._stream.waiting > self._most_waiting:
            raise UserError(
                "the sound comes faster than it can be animated; send it as it is spoken"
            )

    def wish(self, words: dict[str, Any]) -> None:
        """Changes what is named before the next frame: emotion, strength, head, gaze or blink.

        Raises:
            UserError: a value is none.
        """
        for name, value in words.items():
            if name == "emotion":
                self._later(self._stream.set_emotion, str(value))
            elif name == "strength":
                self._later(self._stream.set_strength, _number(name, value, 0, MAX_STRENGTH))
            elif name == "head":
                self._later(self._motion.set_strength, _number(name, value, 0, MAX_STRENGTH))
            elif name == "gaze":
                if not isinstance(value, list) or len(value) != 2:
                    raise UserError("the gaze is two numbers, to the right and upwards")
                self._later(self._stream.set_gaze, *(_number(name, way, -1, 1) for way in value))
            elif name == "blink":
                self._later(self._stream.set_blinking, bool(value))

    def end(self, *, finish: bool) -> None:
        """Ends the frames: after those of all sound, or at once."""
        self._ended, self._finishing = True, finish

    async def frames(self) -> AsyncIterator[StreamedFrame]:
        """The frames as they are due; computed on other threads.

        Raises:
            UserError: the model does not know an emotion that was wished for.
        """
        while not self._ended:
            self._fulfil()
            async for frame in self._computed(self._stream.pull()):
                yield frame
            await asyncio.sleep(_POLL_SECONDS)
        if self._finishing:
            async for frame in self._computed(self._stream.finish()):
                yield frame

    async def _computed(self, frames: Iterator[StreamedFrame]) -> AsyncIterator[StreamedFrame]:
        while (frame := await asyncio.to_thread(next, frames, None)) is not None:
            yield frame
            self._fulfil()

    def _later(self, call: Callable[..., None], *values: Any) -> None:
        self._wishes.append(lambda: call(*values))

    def _fulfil(self) -> None:
        while self._wishes:
            self._wishes.popleft()()

    @property
    def dropped(self) -> int:
        """Frames that were not rendered so far."""
        return self._stream.dropped

    @property
    def image_size(self) -> int:
        """Side of the frames."""
        return self._stream.image_size


async def live_animation(socket: WebSocket, studio: Studio, folder: Path) -> None:
    """Serves one client until it ends or leaves.

    Args:
        socket: accepted.
        studio: animates.
        folder: for the portrait, which is deleted with the end of the connection.
    """
    try:
        begin = words_of(await socket.receive_text())
        with tempfile.TemporaryDirectory(dir=folder) as own:
            portrait = Path(own) / "portrait"
            portrait.write_bytes(picture_of(begin, studio.limits.upload_megabytes << 20))
            opened = studio.listening(portrait, *feeling_of(begin))
            listening = await asyncio.to_thread(opened.__enter__)
            try:
                session = LiveSession(listening, studio.limits.speech_seconds)
                await _animate(socket, session, studio.mark())
            finally:
                opened.__exit__(None, None, None)
    except WebSocketDisconnect:
        return
    except UserError as error:
        await socket.send_json({"problem": str(error)})
        await socket.close(status.WS_1008_POLICY_VIOLATION)


async def _animate(socket: WebSocket, session: LiveSession, mark: Mark) -> None:
    await socket.send_json({"size": session.image_size, "frame_rate": FRAME_RATE})

    async def hear() -> None:
        finish = False
        try:
            while not finish:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message.get("code", 1000))
                if message.get("bytes") is not None:
                    sound = message["bytes"]
                    if len(sound) % 2:
                        raise UserError("the sound is not of whole 16-bit samples")
                    session.hear(np.frombuffer(sound, "<i2").astype(np.float32) / 32768)
                else:
                    words = words_of(message["text"])
                    session.wish(words)
                    finish = bool(words.get("end"))
        finally:
            session.end(finish=finish)

    sent = 0
    hearing = asyncio.create_task(hear())
    try:
        async for frame in session.frames():
            await socket.send_bytes(frame.number.to_bytes(4, "big") + _jpeg(frame, mark))
            sent += 1
        await hearing
    finally:
        hearing.cancel()
    await socket.send_json({"frames": sent, "dropped": session.dropped})
    await socket.close()


def words_of(text: str | bytes | None) -> dict[str, Any]:
    """A message of a client.

    Raises:
        UserError: it is no JSON object.
    """
    try:
        words = json.loads(text or "")
    except (ValueError, RecursionError):
        words = None
    if not isinstance(words, dict):
        raise UserError("a message is neither sound nor a JSON object")
    return words


def feeling_of(words: dict[str, Any]) -> tuple[str, float]:
    """Emotion and strength that a client begins with.

    Raises:
        UserError: the strength is none.
    """
    strength = _number("strength", words.get("strength", 1.0), 0, MAX_STRENGTH)
    return str(words.get("emotion", "neutral")), strength


def picture_of(words: dict[str, Any], limit: int) -> bytes:
    """The portrait that a client begins with.

    Raises:
        UserError: there is none, or it is too large.
    """
    try:
        picture = base64.b64decode(words.get("portrait", ""), validate=True)
    except (binascii.Error, TypeError, ValueError):
        picture = b""
    if not picture:
        raise UserError("the first message names no portrait; give a picture in base64")
    if len(picture) > limit:
        raise UserError(f"the portrait is larger than {limit >> 20} MB")
    return picture


def _number(name: str, value: Any, low: float, high: float) -> float:
    if not isinstance(value, (int, float)) or not low <= value <= high:
        raise UserError(f"the {name} is {value!r}; give a number from {low:g} to {high:g}")
    return float(value)


def _jpeg(frame: StreamedFrame, mark: Mark) -> bytes:
    encoded = io.BytesIO()
    image = mark.picture(frame.image, frame.number / FRAME_RATE)
    xmp = mark.xmp.encode()
    Image.fromarray(image).save(encoded, "JPEG", quality=_JPEG_QUALITY, xmp=xmp)
    return encoded.getvalue()
