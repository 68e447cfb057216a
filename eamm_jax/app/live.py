"""Speech in as it comes, frames out, over a web socket (`/v1/live`, docs/serving.md).

The client names portrait, emotion and strength, then sends sound and, in between, what is to
change; the server answers with marked frames and at last with their number, or what is wrong.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import json
import tempfile
from collections import deque
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import WebSocket, WebSocketDisconnect, status
from PIL import Image

from eamm_jax.animate import Stream, StreamedFrame
from eamm_jax.app.form import MAX_STRENGTH
from eamm_jax.app.studio import Studio
from eamm_jax.constants import FRAME_RATE
from eamm_jax.errors import UserError
from eamm_jax.io.marking import Mark

_JPEG_QUALITY = 90
_POLL_SECONDS = 0.005
"""How often sound is looked for that makes another frame due."""


async def live_animation(socket: WebSocket, studio: Studio, folder: Path) -> None:
    """Serves one client until it ends or leaves.

    Args:
        socket: accepted.
        studio: animates.
        folder: for the portrait, which is deleted with the end of the connection.
    """
    try:
        begin = _words(await socket.receive_text())
        with tempfile.TemporaryDirectory(dir=folder) as own:
            portrait = Path(own) / "portrait"
            portrait.write_bytes(_picture(begin, studio.limits.upload_megabytes << 20))
            emotion, strength = begin.get("emotion", "neutral"), _strength(begin)
            opened = studio.listening(portrait, str(emotion), strength)
            stream = await asyncio.to_thread(opened.__enter__)
            try:
                await _animate(socket, stream, studio.mark(), studio.limits.speech_seconds)
            finally:
                opened.__exit__(None, None, None)
    except WebSocketDisconnect:
        return
    except UserError as error:
        await socket.send_json({"problem": str(error)})
        await socket.close(status.WS_1008_POLICY_VIOLATION)


async def _animate(socket: WebSocket, stream: Stream, mark: Mark, most_seconds: float) -> None:
    await socket.send_json({"size": stream.image_size, "frame_rate": FRAME_RATE})
    said: deque[dict[str, Any]] = deque()
    ended, sent = asyncio.Event(), 0

    async def hear() -> None:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1000))
            if message.get("bytes") is not None:
                sound = message["bytes"]
                if len(sound) % 2:
                    raise UserError("the sound is not of whole 16-bit samples")
                stream.push(np.frombuffer(sound, "<i2").astype(np.float32) / 32768)
                if stream.waiting > most_seconds * FRAME_RATE:
                    raise UserError("the sound comes faster than it can be animated; send it as "
                                    "it is spoken")  # fmt: skip
                continue
            words = _words(message["text"])
            if words.get("end"):
                ended.set()
                return
            said.append(words)

    async def show(frames: Iterable[StreamedFrame]) -> int:
        count = 0
        iterator = iter(frames)
        while found := await asyncio.to_thread(lambda: list(islice(iterator, 1))):
            (frame,) = found
            await socket.send_bytes(frame.number.to_bytes(4, "big") + _jpeg(frame, mark))
            count += 1
            _change(stream, said)
        return count

    hearing = asyncio.create_task(hear())
    try:
        while not (ended.is_set() or hearing.done()):
            _change(stream, said)
            sent += await show(stream.pull())
            await asyncio.sleep(_POLL_SECONDS)
        await hearing
        sent += await show(stream.finish())
    finally:
        hearing.cancel()
    await socket.send_json({"frames": sent, "dropped": stream.dropped})
    await socket.close()


def _change(stream: Stream, said: deque[dict[str, Any]]) -> None:
    while said:
        words = said.popleft()
        if "emotion" in words:
            stream.set_emotion(str(words["emotion"]))
        if "strength" in words:
            stream.set_strength(_strength(words))


def _words(text: str | None) -> dict[str, Any]:
    try:
        words = json.loads(text or "")
    except ValueError:
        words = None
    if not isinstance(words, dict):
        raise UserError("a message is neither sound nor a JSON object")
    return words


def _strength(words: dict[str, Any]) -> float:
    value = words.get("strength", 1.0)
    if not isinstance(value, (int, float)) or not 0 <= value <= MAX_STRENGTH:
        raise UserError(f"the strength is {value!r}; give a number from 0 to {MAX_STRENGTH:g}")
    return float(value)


def _picture(words: dict[str, Any], limit: int) -> bytes:
    try:
        picture = base64.b64decode(words.get("portrait", ""), validate=True)
    except (binascii.Error, TypeError, ValueError):
        picture = b""
    if not picture:
        raise UserError("the first message names no portrait; give a picture in base64")
    if len(picture) > limit:
        raise UserError(f"the portrait is larger than {limit >> 20} MB")
    return picture


def _jpeg(frame: StreamedFrame, mark: Mark) -> bytes:
    encoded = io.BytesIO()
    image = mark.picture(frame.image, frame.number / FRAME_RATE)
    xmp = mark.xmp.encode()
    Image.fromarray(image).save(encoded, "JPEG", quality=_JPEG_QUALITY, xmp=xmp)
    return encoded.getvalue()
