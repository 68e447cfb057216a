"""Pieces of the page as HTML: previews, progress, results and errors."""

from __future__ import annotations

import base64
import html
import io
import shlex
from collections.abc import Sequence

import numpy as np
from PIL import Image

from eamm_jax import bundled
from eamm_jax.animate.timeline import MAX_STRENGTH
from eamm_jax.app.form import Choices
from eamm_jax.app.studio import Preview, Progress, Result
from eamm_jax.constants import FRAME_RATE
from eamm_jax.provenance.verify import Report

_UNKNOWN = '<div class="bar unknown"><span></span></div>'


def preview(seen: Preview, number: int) -> str:
    """The crop, and the whole picture with its faces marked where that is more."""
    shown = f'<img class="crop" src="{_as_data(seen.crop)}" alt="The face as it will be animated">'
    if seen.cut:
        marks = "".join(
            f'<span class="{"mark chosen" if index == number else "mark"}" style="left: '
            f"{100 * left:.1f}%; top: {100 * top:.1f}%; width: {100 * (right - left):.1f}%; "
            f'height: {100 * (bottom - top):.1f}%">{index if len(seen.boxes) > 1 else ""}</span>'
            for index, (left, top, right, bottom) in enumerate(seen.boxes, 1)
        )
        small = Image.fromarray(seen.picture)
        small.thumbnail((480, 320))
        whole = _as_data(np.asarray(small))
        shown = (
            f'<div class="whole"><img src="{whole}" alt="The whole picture">{marks}</div>{shown}'
        )
    return f'<div class="preview">{shown}<p>{html.escape(seen.message)}</p></div>'


def preview_error(words: str) -> str:
    """What is wrong with a portrait."""
    return f'<div class="preview"><p class="wrong" role="alert">{words.rstrip(".")}.</p></div>'


def heading(title: str, hint: str, number: int | None = None) -> str:
    """Of a tab, or of one of the form's parts."""
    counted = "" if number is None else f'<span class="number">{number}</span>'
    return f'<div class="heading">{counted}<h2>{title}</h2><p>{hint}</p></div>'


def live(choices: Choices, emotions: Sequence[tuple[str, str]]) -> str:
    """The Live tab, which `live.js` works.

    Args:
        choices: of the studio.
        emotions: labels and values.
    """
    options = "".join(f'<option value="{value}">{label}</option>' for label, value in emotions)
    sliders = [("strength", "Strength", 0, 1), ("head", "Head motion", 0, 1)]
    if choices.gaze:
        sliders += [("gaze-x", "Gaze, right", -1, 0), ("gaze-y", "Gaze, up", -1, 0)]
    ways = "".join(
        f'<label>{label}<input type="range" id="live-{name}" min="{low}" '
        f'max="{MAX_STRENGTH if low == 0 else 1:g}" step="0.1" value="{value}"></label>'
        for name, label, low, value in sliders
    )
    poster = f"gradio_api/file={bundled.PORTRAIT}"
    hint = "Speak into the microphone, and the portrait speaks with you. Use headphones."
    return (
        f'<div class="card live">{heading("Live", hint)}<div class="live-columns">'
        f'<div><video id="live-video" poster="{html.escape(poster)}" autoplay playsinline></video>'
        '<p id="live-said" role="status">The microphone is heard by this studio alone.</p>'
        '<div class="live-buttons"><button id="live-start" class="primary">Start</button>'
        '<button id="live-mute" hidden>Mute</button><button id="live-stop" hidden>Stop</button>'
        '</div></div><div id="live-controls">'
        '<label>Portrait<input type="file" id="live-portrait" accept="image/*"></label>'
        f'<label>Emotion<select id="live-emotion">{options}</select></label>{ways}'
        '<label class="live-check"><input type="checkbox" id="live-blink" checked>Blinks</label>'
        "</div></div></div>"
    )


def _panel(kind: str, title: str, text: str, bar: str = "", role: str = "status") -> str:
    return (
        f'<div class="panel {kind}" role="{role}"><p class="title">{title}</p>'
        f'{bar}<p class="text">{text}</p></div>'
    )


def idle() -> str:
    """Before anything is made."""
    return _panel("idle", "Your video appears here", "Give a portrait and a voice, then make it.")


def waiting() -> str:
    """While others come first; Gradio shows the place in its queue beside it."""
    return _panel("busy", "Waiting", "It begins when it is its turn.", _UNKNOWN)


def progress(news: Progress) -> str:
    """While an animation is rendered."""
    if not news.done:
        text = "The first time this takes some seconds more."
        return _panel("busy", "Getting ready", text, _UNKNOWN)
    share = 100 * news.done / news.total
    bar = (
        f'<div class="bar" role="progressbar" aria-valuenow="{share:.0f}" aria-valuemin="0" '
        f'aria-valuemax="100"><span style="width: {share:.1f}%"></span></div>'
    )
    text = f"{news.done} of {news.total} frames"
    if news.seconds_left is not None:
        text += f" · {_duration(news.seconds_left)} left"
    return _panel("busy", "Rendering", text, bar)


def done(result: Result) -> str:
    """Below the video that was made."""
    seconds = result.summary.frames / FRAME_RATE
    command = html.escape(shlex.join(result.command))
    return (
        f'<div class="done" role="status"><p>{seconds:.1f} seconds of video, made in '
        f"{_duration(result.summary.total)}.</p><details><summary>The same from a command line"
        f"</summary><pre>{command}</pre></details></div>"
    )


def report(found: Report) -> str:
    """What a file says about how it was made, a line for each kind of mark."""
    lines = "".join(
        f"<dt>{html.escape(what)}</dt><dd>{html.escape(line)}</dd>"
        for what, line in found.lines().items()
    )
    return f'<dl class="report" role="status">{lines}</dl>'


def stopped() -> str:
    """After an animation was called off."""
    return _panel("idle", "Stopped", "Nothing of it was kept.")


def failed(words: str) -> str:
    """What went wrong, in a sentence."""
    return _panel("wrong", "That did not work", f"{words.rstrip('.')}.", role="alert")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min"


def _as_data(picture: np.ndarray) -> str:
    """A picture as part of the page."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
