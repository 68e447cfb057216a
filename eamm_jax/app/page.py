"""The page: what it shows and how it reacts. Gradio draws it; the work is `Studio`'s.

Fields come here as Gradio received them (`preprocess=False`), so that a damaged file is answered
by the project's own words. Gradio has made sure by then that a file is one that was uploaded;
`_path` makes sure again.
"""

from __future__ import annotations

import base64
import html
import io
import logging
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from eamm_jax.app.examples import Example, examples
from eamm_jax.app.form import (
    FROM_VIDEO,
    GENTLE,
    HEAD_FILE,
    HEAD_VIDEO,
    MAX_STRENGTH,
    NEUTRAL,
    SOUND,
    STILL,
    TEXT,
    Form,
)
from eamm_jax.app.studio import CalledOffError, Preview, Progress, Result, Studio
from eamm_jax.constants import FRAME_RATE
from eamm_jax.errors import UserError

_log = logging.getLogger(__name__)

TITLE = "Studio"
SUBTITLE = "One portrait, a voice and a feeling become a talking face."

EMOTION_LABELS = {
    "angry": "Angry",
    "contempt": "Contempt",
    "disgusted": "Disgusted",
    "fear": "Afraid",
    "happy": "Happy",
    "neutral": "Neutral",
    "sad": "Sad",
    "surprised": "Surprised",
}

ACCENTS = (
    ("English (US), lower voice", "en-us+m3"),
    ("English (US), higher voice", "en-us+f3"),
    ("English (UK)", "en-gb"),
    ("Deutsch", "de"),
    ("Español", "es"),
    ("Français", "fr"),
    ("Italiano", "it"),
    ("Nederlands", "nl"),
    ("Polski", "pl"),
    ("Português", "pt"),
    ("Svenska", "sv"),
    ("Türkçe", "tr"),
)

HEAD_LABELS = {
    GENTLE: "Moves gently",
    STILL: "Stays still",
    HEAD_VIDEO: "Moves as in a video",
    HEAD_FILE: "Moves as in a file",
}

LAYOUT_LABELS = {"single": "The face", "side_by_side": "Side by side with the portrait"}

FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"]
MONO_FONTS = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]

CSS = Path(__file__).with_name("page.css").read_text(encoding="utf-8")

_INTERNAL_ERROR = (
    "Something went wrong inside the studio, and not through you. Its log says what; "
    "please report it"
)


_PAGE_WORDS = {
    "--no_crop takes its middle as it is": "or have no face looked for, under More",
    ", or leave out --paste_back": ", or do not put the face back into it",
}
"""What messages say of flags, and what it is called here."""


def theme() -> gr.themes.Base:
    """Quiet colours, and fonts that every system has: none is fetched."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.stone,
        font=FONTS,
        font_mono=MONO_FONTS,
        radius_size=gr.themes.sizes.radius_lg,
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_label_text_color="*neutral_600",
        block_title_text_weight="600",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        slider_color="*primary_600",
        checkbox_label_background_fill_selected="*primary_50",
        checkbox_label_background_fill_selected_dark="*primary_950",
        checkbox_label_border_color_selected="*primary_600",
        checkbox_background_color_selected="*primary_700",
        checkbox_border_color_selected="*primary_700",
        checkbox_label_background_fill="white",
        checkbox_label_background_fill_dark="*neutral_900",
        checkbox_label_background_fill_hover="*neutral_50",
        checkbox_label_border_width="1px",
        input_background_fill="white",
        input_background_fill_dark="*neutral_800",
    )


def build(studio: Studio) -> gr.Blocks:
    """The page of a studio, ready to be served."""
    keep = round(studio.limits.keep_minutes * 60)
    with gr.Blocks(
        title=f"EAMM {TITLE}", analytics_enabled=False, delete_cache=(keep // 10 + 1, keep)
    ) as page:
        _Page(studio)
    page.queue(
        max_size=4 * (studio.limits.jobs + studio.limits.waiting),
        default_concurrency_limit=4,
        api_open=False,
    )
    return page


class _Page:
    """Makes the components inside an open `gr.Blocks` and says how they react."""

    def __init__(self, studio: Studio):
        self._studio = studio
        self._examples = examples(studio.choices)
        gr.HTML(f"<header><h1>{TITLE}</h1><p>{SUBTITLE}</p></header>", padding=False)
        self._make_gallery()
        with gr.Row(elem_id="desk", equal_height=False):
            with gr.Column(elem_id="inputs", scale=5, min_width=320):
                self._make_portrait()
                self._make_voice()
                self._make_emotion()
                self._make_more()
            with gr.Column(elem_id="output", scale=4, min_width=320):
                self._make_result()
        gr.HTML(self._footer(), padding=False)
        self._connect()

    # What there is to see.

    def _make_portrait(self) -> None:
        with gr.Column(elem_classes="card"):
            gr.HTML(
                _heading(1, "Portrait", "A picture of one face, seen from the front."),
                padding=False,
            )
            self._portrait = gr.Image(
                sources=["upload", "webcam"],
                type="filepath",
                image_mode=None,
                height=240,
                label="Portrait",
                show_label=False,
                buttons=["fullscreen"],
                elem_id="portrait",
            )
            self._preview = gr.HTML(elem_id="preview", visible=False, padding=False)
            self._face = gr.Radio(
                [], label="Who is animated", visible=False, elem_id="face", type="value"
            )
            self._paste_back = gr.Checkbox(
                label="Put the face back into the whole picture",
                container=False,
                visible=False,
                elem_id="paste-back",
            )

    def _make_voice(self) -> None:
        limits, can_speak = self._studio.limits, self._studio.choices.text
        with gr.Column(elem_classes="card"):
            gr.HTML(
                _heading(
                    2, "Voice", f"What is said, up to {limits.speech_seconds:g} seconds of it."
                ),
                padding=False,
            )
            self._voice = gr.Radio(
                [("Recording", SOUND), ("Text", TEXT)],
                value=SOUND,
                show_label=False,
                container=False,
                visible=can_speak,
                elem_id="voice",
            )
            self._sound = gr.Audio(
                sources=["upload", "microphone"],
                type="filepath",
                label="Voice",
                show_label=False,
                buttons=[],
                elem_id="sound",
            )
            with gr.Column(visible=False, elem_id="speak") as self._speak:
                self._text = gr.Textbox(
                    label="Text",
                    lines=3,
                    max_length=limits.text_letters,
                    placeholder="Write what is to be said.",
                    elem_id="text",
                )
                self._accent = gr.Dropdown(
                    list(ACCENTS), value=ACCENTS[0][1], label="Spoken in", elem_id="accent"
                )

    def _make_emotion(self) -> None:
        choices = self._studio.choices
        others = [emotion for emotion in choices.emotions if emotion != NEUTRAL]
        offered = [(EMOTION_LABELS[emotion], emotion) for emotion in (NEUTRAL, *others)]
        if choices.video:
            offered.append(("As in a video", FROM_VIDEO))
        hint = "How the face feels."
        if len(offered) == 1:
            hint = "This model knows no emotions: the face stays neutral."
        with gr.Column(elem_classes="card"):
            gr.HTML(_heading(3, "Emotion", hint), padding=False)
            self._emotion = gr.Radio(
                offered,
                value=NEUTRAL,
                show_label=False,
                container=False,
                visible=len(offered) > 1,
                elem_id="emotion",
            )
            self._emotion_video = gr.Video(
                sources=["upload"],
                label="Video of an emotional face",
                visible=False,
                height=220,
                buttons=[],
                elem_id="emotion-video",
            )
            self._strength = gr.Slider(
                0,
                MAX_STRENGTH,
                value=1.0,
                step=0.1,
                label="Strength",
                visible=False,
                buttons=[],
                elem_id="strength",
            )

    def _make_more(self) -> None:
        with gr.Accordion("More", open=False, elem_classes="card", elem_id="more"):
            self._head = gr.Radio(
                [
                    (label, key)
                    for key, label in HEAD_LABELS.items()
                    if key != HEAD_VIDEO or self._studio.choices.faces
                ],
                value=GENTLE,
                label="The head",
                elem_id="head",
            )
            self._head_video = gr.Video(
                sources=["upload"],
                label="Video of one person whose head moves",
                visible=False,
                height=220,
                buttons=[],
                elem_id="head-video",
            )
            self._head_file = gr.File(
                label="Head poses (.npy)",
                file_types=[".npy"],
                type="filepath",
                visible=False,
                height=120,
                elem_id="head-file",
            )
            self._crop = gr.Checkbox(
                label="Look for the face in the picture and cut it out",
                value=True,
                container=False,
                visible=self._studio.choices.faces,
                elem_id="crop",
            )
            self._layout = gr.Radio(
                [(label, key) for key, label in LAYOUT_LABELS.items()],
                value="single",
                label="The video shows",
                elem_id="layout",
            )

    def _make_result(self) -> None:
        with gr.Column(elem_classes="card", elem_id="result"):
            self._video = gr.Video(
                label="Result",
                show_label=False,
                interactive=False,
                visible=False,
                buttons=[],
                elem_id="video",
            )
            self._stage = gr.HTML(_idle(), elem_id="stage", padding=False)
            with gr.Row(elem_id="actions"):
                self._make = gr.Button("Make the video", variant="primary", elem_id="make")
                self._stop = gr.Button("Stop", visible=False, elem_id="stop")
                self._download = gr.DownloadButton("Download", visible=False, elem_id="download")

    def _make_gallery(self) -> None:
        with gr.Column(elem_id="examples"):
            gr.HTML("<p>Begin with an example, or with your own picture below.</p>", padding=False)
            self._gallery = gr.Gallery(
                [(str(example.portrait), example.caption) for example in self._examples],
                columns=len(self._examples),
                height="auto",
                label="Examples",
                show_label=False,
                allow_preview=False,
                interactive=False,
                object_fit="cover",
                buttons=[],
                elem_id="gallery",
            )

    def _footer(self) -> str:
        minutes = self._studio.limits.keep_minutes
        return (
            "<footer><p>Animate only people who agreed to it, and say that the result is "
            "synthetic; every video says so in its metadata.</p>"
            "<p>What you give stays on the computer that serves this page and is deleted after "
            f"{minutes:g} minutes.</p></footer>"
        )

    # What it does.

    def _connect(self) -> None:
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "preprocess": False}
        quick["api_visibility"] = "private"
        seen: dict[str, Any] = {
            "outputs": [self._preview, self._face, self._paste_back],
            "show_progress": "hidden",
            "preprocess": False,
            "api_visibility": "private",
        }
        self._portrait.change(self._show_portrait, [self._portrait, self._crop], **seen)
        self._crop.input(self._show_portrait, [self._portrait, self._crop], **seen)
        self._face.input(
            self._show_face,
            [self._portrait, self._crop, self._face],
            self._preview,
            show_progress="hidden",
            preprocess=False,
            api_visibility="private",
        )
        self._voice.change(
            lambda voice: (gr.update(visible=voice == SOUND), gr.update(visible=voice == TEXT)),
            self._voice,
            [self._sound, self._speak],
            **quick,
        )
        self._emotion.change(
            lambda emotion: (
                gr.update(visible=emotion == FROM_VIDEO),
                gr.update(visible=emotion != NEUTRAL),
            ),
            self._emotion,
            [self._emotion_video, self._strength],
            **quick,
        )
        self._head.change(
            lambda head: (
                gr.update(visible=head == HEAD_VIDEO),
                gr.update(visible=head == HEAD_FILE),
            ),
            self._head,
            [self._head_video, self._head_file],
            **quick,
        )
        self._gallery.select(
            self._fill_in, None, [self._portrait, self._voice, self._sound, self._emotion], **quick
        )
        shown = [self._stage, self._video, self._make, self._stop, self._download]
        fields = [
            self._portrait,
            self._crop,
            self._face,
            self._paste_back,
            self._voice,
            self._sound,
            self._text,
            self._accent,
            self._emotion,
            self._emotion_video,
            self._strength,
            self._head,
            self._head_video,
            self._head_file,
            self._layout,
        ]
        running = self._make.click(self._begin, None, shown, **quick).success(
            self._run,
            fields,
            shown,
            concurrency_limit=self._studio.limits.jobs + self._studio.limits.waiting,
            concurrency_id="animations",
            show_progress="hidden",
            preprocess=False,
            api_visibility="private",
        )
        running.failure(lambda: _showing(_failed(_INTERNAL_ERROR)), None, shown, **quick)
        self._stop.click(self._end, None, shown, cancels=[running], **quick)

    def _show_portrait(self, portrait: Any, crop: Any) -> tuple[Any, Any, Any]:
        """Preview, choice of faces and of putting the face back, for a new picture."""
        nothing = gr.update(value=None, visible=False), gr.update(value=False, visible=False)
        path = self._path(portrait)
        if path is None:
            return gr.update(value="", visible=False), *nothing
        try:
            preview = self._studio.preview(path, bool(crop))
        except UserError as error:
            return gr.update(value=_preview_error(self._words(error)), visible=True), *nothing
        count = len(preview.boxes)
        numbers = [(f"Face {number}", str(number)) for number in range(1, count + 1)]
        return (
            gr.update(value=_preview(preview, 1), visible=True),
            gr.update(choices=numbers, value="1" if count > 1 else None, visible=count > 1),
            gr.update(value=False, visible=preview.cut),
        )

    def _show_face(self, portrait: Any, crop: Any, face: Any) -> Any:
        """Preview of another face in the same picture."""
        path = self._path(portrait)
        if path is None:
            return gr.skip()
        try:
            number = _face_number(face)
            preview = self._studio.preview(path, bool(crop), number)
        except UserError as error:
            return gr.update(value=_preview_error(self._words(error)), visible=True)
        return gr.update(value=_preview(preview, number or 1), visible=True)

    def _fill_in(self, event: gr.SelectData) -> tuple[Any, ...]:
        example: Example = self._examples[event.index]
        return str(example.portrait), SOUND, str(example.speech), example.emotion

    def _begin(self, request: gr.Request) -> tuple[Any, ...]:
        """Gives the visitor a place, before anything waits in Gradio's queue."""
        try:
            self._studio.admit(_visitor(request))
        except UserError as error:
            raise gr.Error(self._words(error), duration=8, print_exception=False) from None
        return _showing(_progress(Progress()), busy=True)

    def _run(self, request: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
        visitor = _visitor(request)
        try:
            ticket = self._studio.ticket(visitor)
            for news in self._studio.work(self._form(values), ticket):
                if isinstance(news, Progress):
                    yield _showing(_progress(news), busy=True)
                else:
                    yield _showing(_done(news), video=news.video)
        except CalledOffError:
            yield _showing(_stopped())
        except UserError as error:
            yield _showing(_failed(self._words(error)))
        except Exception:
            _log.exception("an animation failed")
            yield _showing(_failed(_INTERNAL_ERROR))

    def _end(self, request: gr.Request) -> tuple[Any, ...]:
        self._studio.cancel(_visitor(request))
        return _showing(_stopped())

    def _form(self, values: tuple[Any, ...]) -> Form:
        (
            portrait,
            crop,
            face,
            paste_back,
            voice,
            sound,
            text,
            accent,
            emotion,
            emotion_video,
            strength,
            head,
            head_video,
            head_file,
            layout,
        ) = values
        try:
            strength = float(strength)
        except (TypeError, ValueError):
            raise UserError(f"The strength is {strength!r}; a number is needed") from None
        return Form(
            portrait=self._path(portrait),
            crop=bool(crop),
            face=_face_number(face),
            paste_back=bool(paste_back),
            voice=str(voice),
            sound=self._path(sound),
            text=str(text or ""),
            accent=str(accent),
            emotion=str(emotion),
            emotion_video=self._path(emotion_video),
            strength=strength,
            head=str(head),
            head_video=self._path(head_video),
            head_file=self._path(head_file),
            layout=str(layout),
        )

    def _path(self, value: Any) -> Path | None:
        """The uploaded file of a field; None if it is empty."""
        if isinstance(value, dict) and isinstance(value.get("path"), str):
            path = Path(value["path"]).resolve()
            if path.is_relative_to(self._studio.folder):
                return path
        return None

    def _words(self, error: Exception) -> str:
        """An error for a visitor: files have names and no folders, and the page has no flags."""
        folder = re.escape(str(self._studio.folder))
        words = re.sub(rf"{folder}/(?:[^/\s]+/)*", "", str(error))
        for flag, here in _PAGE_WORDS.items():
            words = words.replace(flag, here)
        return html.escape(words)


def _visitor(request: gr.Request) -> str:
    return request.session_hash or ""


def _showing(stage: str, *, busy: bool = False, video: Path | None = None) -> tuple[Any, ...]:
    """Updates of stage, video, and the buttons to make, to stop and to download."""
    return (
        stage,
        gr.update(value=None if video is None else str(video), visible=video is not None),
        gr.update(visible=not busy, value="Make the video" if video is None else "Make another"),
        gr.update(visible=busy),
        gr.update(value=None if video is None else str(video), visible=video is not None),
    )


def _face_number(value: Any) -> int | None:
    if value in (None, ""):
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise UserError(f"The face is {value!r}; a number is needed") from None


def _preview(preview: Preview, number: int) -> str:
    """The crop, and the whole picture with its faces marked where that is more."""
    shown = (
        f'<img class="crop" src="{_as_data(preview.crop)}" alt="The face as it will be animated">'
    )
    if preview.cut:
        marks = "".join(
            f'<span class="{"mark chosen" if index == number else "mark"}" style="left: '
            f"{100 * left:.1f}%; top: {100 * top:.1f}%; width: {100 * (right - left):.1f}%; "
            f'height: {100 * (bottom - top):.1f}%">{index if len(preview.boxes) > 1 else ""}</span>'
            for index, (left, top, right, bottom) in enumerate(preview.boxes, 1)
        )
        small = Image.fromarray(preview.picture)
        small.thumbnail((480, 320))
        whole = _as_data(np.asarray(small))
        shown = (
            f'<div class="whole"><img src="{whole}" alt="The whole picture">{marks}</div>{shown}'
        )
    return f'<div class="preview">{shown}<p>{html.escape(preview.message)}</p></div>'


def _preview_error(words: str) -> str:
    return f'<div class="preview"><p class="wrong" role="alert">{words}.</p></div>'


def _heading(number: int, title: str, hint: str) -> str:
    return (
        f'<div class="heading"><span class="number">{number}</span><h2>{title}</h2>'
        f"<p>{hint}</p></div>"
    )


def _panel(kind: str, title: str, text: str, bar: str = "", role: str = "status") -> str:
    return (
        f'<div class="panel {kind}" role="{role}"><p class="title">{title}</p>'
        f'{bar}<p class="text">{text}</p></div>'
    )


def _idle() -> str:
    return _panel("idle", "Your video appears here", "Give a portrait and a voice, then make it.")


def _progress(progress: Progress) -> str:
    unknown = '<div class="bar unknown"><span></span></div>'
    if progress.before:
        others = "One animation is" if progress.before == 1 else f"{progress.before} animations are"
        return _panel("busy", "Waiting", f"{others} before yours.", unknown)
    if not progress.done:
        text = "The first time this takes some seconds more."
        return _panel("busy", "Getting ready", text, unknown)
    share = 100 * progress.done / progress.total
    bar = (
        f'<div class="bar" role="progressbar" aria-valuenow="{share:.0f}" aria-valuemin="0" '
        f'aria-valuemax="100"><span style="width: {share:.1f}%"></span></div>'
    )
    text = f"{progress.done} of {progress.total} frames"
    if progress.seconds_left is not None:
        text += f" · {_duration(progress.seconds_left)} left"
    return _panel("busy", "Drawing", text, bar)


def _done(result: Result) -> str:
    seconds = result.summary.frames / FRAME_RATE
    command = html.escape(shlex.join(result.command))
    return (
        f'<div class="done" role="status"><p>{seconds:.1f} seconds of video, made in '
        f"{_duration(result.summary.total)}.</p><details><summary>The same from a command line"
        f"</summary><pre>{command}</pre></details></div>"
    )


def _stopped() -> str:
    return _panel("idle", "Stopped", "Nothing of it was kept.")


def _failed(words: str) -> str:
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
