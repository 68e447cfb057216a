"""The page: what it shows and how it reacts. Gradio draws it; the work is `Studio`'s.

Fields come here as Gradio received them (`preprocess=False`); `fields` reads them.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from eamm_jax.animate.timeline import MAX_STRENGTH
from eamm_jax.app import panels
from eamm_jax.app.fields import (
    ACCENTS,
    LAYOUT_LABELS,
    Example,
    examples,
    face_number,
    form_of,
    offered_emotions,
    offered_heads,
    path_of,
    words_of,
)
from eamm_jax.app.form import (
    FROM_VIDEO,
    GENTLE,
    HEAD_FILE,
    HEAD_VIDEO,
    NEUTRAL,
    SOUND,
    TEXT,
    Form,
)
from eamm_jax.app.studio import Progress, Studio
from eamm_jax.errors import UserError

_log = logging.getLogger(__name__)

TITLE = "Studio"
SUBTITLE = "One portrait, a voice and a feeling become a talking face."

FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"]
MONO_FONTS = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]

CSS = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
HEAD = f"<script>{Path(__file__).with_name('live.js').read_text(encoding='utf-8')}</script>"
"""What the Live tab does; the rest is Gradio's."""

EXAMPLE_FIELDS = ("portrait", "voice", "sound", "emotion")

_INTERNAL_ERROR = (
    "Something went wrong inside the studio, and not through you. Its log says what; "
    "please report it"
)


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


def build(studio: Studio, *, live: bool = False) -> gr.Blocks:
    """The page of a studio, ready to be served; with a Live tab where WebRTC is installed."""
    keep = round(studio.limits.keep_minutes * 60)
    with gr.Blocks(
        title=f"EAMM {TITLE}", analytics_enabled=False, delete_cache=(keep // 10 + 1, keep)
    ) as page:
        _Page(studio, live)
    # Animations alone are queued.
    page.queue(max_size=studio.limits.waiting, api_open=False)
    return page


class _Page:
    """Makes the components inside an open `gr.Blocks` and says how they react."""

    def __init__(self, studio: Studio, live: bool):
        self._studio = studio
        self._examples = examples(studio.choices)
        self._fields: dict[str, Any] = {}
        _html(f"<header><h1>{TITLE}</h1><p>{SUBTITLE}</p></header>")
        with gr.Tabs():
            with gr.Tab("Video"):
                self._make_gallery()
                with gr.Row(elem_id="desk", equal_height=False):
                    with gr.Column(elem_id="inputs", scale=5, min_width=320):
                        self._make_portrait()
                        self._make_voice()
                        self._make_emotion()
                        self._make_more()
                    with gr.Column(elem_id="output", scale=4, min_width=320):
                        self._make_result()
            if live:
                with gr.Tab("Live", elem_id="live"):
                    _html(panels.live(studio.choices, offered_emotions(studio.choices)))
            with gr.Tab("Verify", elem_id="verify"):
                self._make_verify()
        _html(self._footer())
        self._connect()

    # What there is to see.

    def _add(self, field: str, kind: type[gr.components.Component], **options: Any) -> None:
        """Makes the component of a field of the form."""
        self._fields[field] = kind(elem_id=field.replace("_", "-"), **options)

    def _make_portrait(self) -> None:
        with gr.Column(elem_classes="card"):
            _html(panels.heading("Portrait", "A picture of one face, seen from the front.", 1))
            self._add(
                "portrait",
                gr.Image,
                sources=["upload", "webcam"],
                type="filepath",
                image_mode=None,
                height=240,
                label="Portrait",
                show_label=False,
                buttons=["fullscreen"],
            )
            self._preview = gr.HTML(elem_id="preview", visible=False, padding=False)
            self._add("face", gr.Radio, choices=[], label="Who is animated", visible=False)
            self._add(
                "paste_back", gr.Checkbox, **_switch("Put the face back into the whole picture")
            )

    def _make_voice(self) -> None:
        limits = self._studio.limits
        with gr.Column(elem_classes="card"):
            hint = f"What is said, up to {limits.speech_seconds:g} seconds of it."
            _html(panels.heading("Voice", hint, 2))
            self._add(
                "voice",
                gr.Radio,
                choices=[("Recording", SOUND), ("Text", TEXT)],
                value=SOUND,
                show_label=False,
                container=False,
                visible=self._studio.choices.text,
            )
            self._add(
                "sound",
                gr.Audio,
                sources=["upload", "microphone"],
                type="filepath",
                label="Voice",
                show_label=False,
                buttons=[],
            )
            with gr.Column(visible=False, elem_id="speak") as self._speak:
                self._add(
                    "text",
                    gr.Textbox,
                    label="Text",
                    lines=3,
                    max_length=limits.text_letters,
                    placeholder="Write what is to be said.",
                )
                self._add(
                    "accent", gr.Dropdown, choices=ACCENTS, value=ACCENTS[0][1], label="Spoken in"
                )

    def _make_emotion(self) -> None:
        offered = offered_emotions(self._studio.choices)
        hint = "How the face feels."
        if len(offered) == 1:
            hint = "This model knows no emotions: the face stays neutral."
        with gr.Column(elem_classes="card"):
            _html(panels.heading("Emotion", hint, 3))
            self._add(
                "emotion",
                gr.Radio,
                choices=offered,
                value=NEUTRAL,
                show_label=False,
                container=False,
                visible=len(offered) > 1,
            )
            self._add("emotion_video", gr.Video, **_upload("Video of an emotional face"))
            self._add(
                "strength",
                gr.Slider,
                maximum=MAX_STRENGTH,
                value=1.0,
                step=0.1,
                label="Strength",
                visible=False,
                buttons=[],
            )

    def _make_more(self) -> None:
        with gr.Accordion("More", open=False, elem_classes="card", elem_id="more"):
            heads = offered_heads(self._studio.choices)
            self._add("head", gr.Radio, choices=heads, value=GENTLE, label="The head")
            self._add("head_video", gr.Video, **_upload("Video of one person whose head moves"))
            self._add(
                "head_file",
                gr.File,
                label="Head poses (.npy)",
                file_types=[".npy"],
                type="filepath",
                visible=False,
                height=120,
            )
            faces, label = self._studio.choices.faces, "Look for the face and cut it out"
            self._add("crop", gr.Checkbox, **_switch(label, value=True, visible=faces))
            layouts = [(label, key) for key, label in LAYOUT_LABELS.items()]
            self._add("layout", gr.Radio, choices=layouts, value="single", label="The video shows")
            self._add(
                "timeline",
                gr.File,
                label="Key frames (.csv, .json)",
                file_types=[".csv", ".json"],
                type="filepath",
                height=120,
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
            self._stage = gr.HTML(panels.idle(), elem_id="stage", padding=False)
            with gr.Row(elem_id="actions"):
                self._make = gr.Button("Make the video", variant="primary", elem_id="make")
                self._stop = gr.Button("Stop", visible=False, elem_id="stop")
                self._download = gr.DownloadButton("Download", visible=False, elem_id="download")

    def _make_verify(self) -> None:
        with gr.Column(elem_classes="card"):
            hint = "Does a video or a picture say that this program made it?"
            _html(panels.heading("Verify", hint))
            self._file = gr.File(
                label="Video or picture", type="filepath", height=120, elem_id="verify-file"
            )
            self._report = gr.HTML(elem_id="report", visible=False, padding=False)

    def _make_gallery(self) -> None:
        with gr.Column(elem_id="examples"):
            _html("<p>Begin with an example, or with your own picture below.</p>")
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
            "synthetic; every video says so itself.</p>"
            "<p>What you give stays on the computer that serves this page and is deleted after "
            f"{minutes:g} minutes.</p></footer>"
        )

    # What it does.

    def _connect(self) -> None:
        private: dict[str, Any] = {"preprocess": False, "api_visibility": "private"}
        quick = {"queue": False, "show_progress": "hidden", **private}
        fields = self._fields
        portrait = [fields["portrait"], fields["crop"]]
        seen = [self._preview, fields["face"], fields["paste_back"]]
        fields["portrait"].change(self._show_portrait, portrait, seen, **quick)
        fields["crop"].input(self._show_portrait, portrait, seen, **quick)
        fields["face"].input(self._show_face, [*portrait, fields["face"]], self._preview, **quick)
        self._file.change(self._verify, self._file, self._report, **quick)
        felt = [emotion for emotion in self._studio.choices.sources if emotion != NEUTRAL]
        for choice, shown_for in (
            ("voice", {"sound": [SOUND], "speak": [TEXT]}),
            ("emotion", {"emotion_video": [FROM_VIDEO], "strength": felt}),
            ("head", {"head_video": [HEAD_VIDEO], "head_file": [HEAD_FILE]}),
        ):
            fields[choice].change(
                partial(_visible, list(shown_for.values())),
                fields[choice],
                [fields.get(name, self._speak) for name in shown_for],
                **quick,
            )
        self._gallery.select(
            self._fill_in, None, [fields[name] for name in EXAMPLE_FIELDS], **quick
        )
        shown = [self._stage, self._video, self._make, self._stop, self._download]
        running = self._make.click(
            lambda: _showing(panels.waiting(), busy=True), None, shown, **quick
        ).then(
            self._run,
            [fields[field.name] for field in dataclasses.fields(Form)],
            shown,
            concurrency_limit=self._studio.limits.jobs,
            show_progress="minimal",
            show_progress_on=self._stage,
            **private,
        )

        def stopped() -> tuple[Any, ...]:
            return _showing(panels.stopped())

        # It fails where too many wait, which Gradio says itself; errors are shown by `_run`.
        running.failure(stopped, None, shown, **quick)
        self._stop.click(stopped, None, shown, cancels=[running], **quick)

    def _show_portrait(self, portrait: Any, crop: Any) -> tuple[Any, Any, Any]:
        """Preview, choice of faces and of putting the face back, for a new picture."""
        nothing = gr.update(value=None, visible=False), gr.update(value=False, visible=False)
        path = self._path(portrait)
        if path is None:
            return gr.update(value="", visible=False), *nothing
        try:
            preview = self._studio.preview(path, bool(crop))
        except UserError as error:
            return gr.update(value=panels.preview_error(self._words(error)), visible=True), *nothing
        count = len(preview.boxes)
        numbers = [(f"Face {number}", str(number)) for number in range(1, count + 1)]
        return (
            gr.update(value=panels.preview(preview, 1), visible=True),
            gr.update(choices=numbers, value="1" if count > 1 else None, visible=count > 1),
            gr.update(value=False, visible=preview.cut),
        )

    def _show_face(self, portrait: Any, crop: Any, face: Any) -> Any:
        """Preview of another face in the same picture."""
        path = self._path(portrait)
        if path is None:
            return gr.skip()
        try:
            number = face_number(face)
            preview = self._studio.preview(path, bool(crop), number)
        except UserError as error:
            return gr.update(value=panels.preview_error(self._words(error)), visible=True)
        return gr.update(value=panels.preview(preview, number or 1), visible=True)

    def _verify(self, file: Any) -> Any:
        """What a file says about itself."""
        path = self._path(file)
        if path is None:
            return gr.update(value="", visible=False)
        try:
            report = panels.report(self._studio.verify(path))
        except UserError as error:
            report = panels.preview_error(self._words(error))
        return gr.update(value=report, visible=True)

    def _fill_in(self, event: gr.SelectData) -> tuple[Any, ...]:
        """Values of `EXAMPLE_FIELDS`."""
        example: Example = self._examples[event.index]
        return str(example.portrait), SOUND, str(example.speech), example.emotion

    def _run(self, *values: Any) -> Iterator[tuple[Any, ...]]:
        try:
            for news in self._studio.work(form_of(values, self._studio.folder)):
                if isinstance(news, Progress):
                    yield _showing(panels.progress(news), busy=True)
                else:
                    yield _showing(panels.done(news), video=news.video)
        except UserError as error:
            yield _showing(panels.failed(self._words(error)))
        except Exception:
            _log.exception("an animation failed")
            yield _showing(panels.failed(_INTERNAL_ERROR))

    def _path(self, value: Any) -> Path | None:
        return path_of(value, self._studio.folder)

    def _words(self, error: UserError) -> str:
        return words_of(error, self._studio.folder)


def _html(content: str) -> None:
    gr.HTML(content, padding=False)


def _switch(label: str, *, value: bool = False, visible: bool = False) -> dict[str, Any]:
    return {"label": label, "value": value, "visible": visible, "container": False}


def _upload(label: str) -> dict[str, Any]:
    return {
        "label": label,
        "sources": ["upload"],
        "visible": False,
        "height": 220,
        "buttons": [],
    }


def _visible(shown_for: list[list[str]], chosen: str) -> list[Any]:
    """Updates of components that are each shown for some choices."""
    return [gr.update(visible=chosen in choices) for choices in shown_for]


def _showing(stage: str, *, busy: bool = False, video: Path | None = None) -> tuple[Any, ...]:
    """Updates of stage, video, and the buttons to make, to stop and to download."""
    return (
        stage,
        gr.update(value=None if video is None else str(video), visible=video is not None),
        gr.update(visible=not busy, value="Make the video" if video is None else "Make another"),
        gr.update(visible=busy),
        gr.update(value=None if video is None else str(video), visible=video is not None),
    )
