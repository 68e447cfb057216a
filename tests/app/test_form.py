"""Forms: what is missing or too long is said, and what is asked for is what infer.py would do."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import numpy as np
import pytest

from eamm_jax import bundled
from eamm_jax.animate import Animator
from eamm_jax.app.form import (
    FROM_VIDEO,
    HEAD_FILE,
    HEAD_VIDEO,
    STILL,
    TEXT,
    Form,
    check,
    check_speech,
    check_video,
    choices_of,
    command,
    job_of,
)
from eamm_jax.app.limits import Limits
from eamm_jax.cli import infer
from eamm_jax.errors import UserError
from eamm_jax.io.audio import write_wav
from tests.tiny import tiny_variables


@pytest.fixture
def form(files) -> Form:
    return Form(portrait=files["face.png"], sound=files["voice.wav"])


def test_the_emotions_of_the_bank_are_offered_in_the_order_of_labels(animator):
    choices = choices_of(animator)
    assert choices.emotions == ("neutral", "happy", "sad")
    assert choices.video


def test_a_model_without_emotions_offers_neutral_alone():
    config, variables = tiny_variables()
    talking = {name: value for name, value in variables.items() if name != "emo_detector"}
    choices = choices_of(Animator(config, talking))
    assert choices.emotions == ("neutral",)
    assert not choices.video
    with pytest.raises(UserError, match="'video' is no emotion of this model; allowed are neutral"):
        check(Form(Path("a"), voice=TEXT, text="x", emotion=FROM_VIDEO), choices, Limits())


WRONG = {
    "no portrait": ({"portrait": None}, "no portrait yet"),
    "no voice": ({"sound": None}, "no voice yet"),
    "no text": ({"voice": TEXT, "text": "  "}, "no text yet"),
    "much text": ({"voice": TEXT, "text": "a" * 1001}, "has 1001 letters; 1000 are allowed"),
    "a strange voice": ({"voice": "cat"}, "'cat' is no source of a voice"),
    "no video": ({"emotion": FROM_VIDEO}, "no video of an emotion yet"),
    "a strange emotion": ({"emotion": "angry"}, "'angry' is no emotion of this model"),
    "too much": ({"strength": 9.0}, "strength is 9.0; allowed is 0 to 2"),
    "not a number": ({"strength": float("nan")}, "strength is nan"),
    "a strange head": ({"head": "../x"}, "no motion of the head"),
    "no poses": ({"head": HEAD_FILE}, "no file of head poses yet"),
    "no moving head": ({"head": HEAD_VIDEO}, "no (video of a moving|motion of the) head"),
    "a strange layout": ({"layout": "grid"}, "'grid' is no layout"),
}


def test_key_frames_are_read_and_leave_the_emotion_to_them(form, animator, files, tmp_path):
    timed = dataclasses.replace(form, timeline=files["keys.csv"])
    check(timed, choices_of(animator), Limits())
    with pytest.raises(UserError, match="timeline has emotions, and another one is chosen"):
        check(dataclasses.replace(timed, emotion="sad"), choices_of(animator), Limits())
    (tmp_path / "keys.csv").write_text("time,yaw\n0,left\n")
    with pytest.raises(UserError, match="line 2: yaw is 'left'"):
        check(dataclasses.replace(form, timeline=tmp_path / "keys.csv"), choices_of(animator),
              Limits())  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(case, form, animator):
    changes, words = WRONG[case]
    with pytest.raises(UserError, match=words):
        check(dataclasses.replace(form, **changes), choices_of(animator), Limits())


def test_a_form_that_is_filled_in_is_in_order(form, animator):
    check(form, choices_of(animator), Limits())


def forms(files) -> dict[str, Form]:
    plain = Form(portrait=files["face.png"], sound=files["voice.wav"])

    def but(**changes) -> Form:
        return dataclasses.replace(plain, **changes)

    return {
        "plain": plain,
        "an emotion": but(emotion="happy", strength=0.5),
        "a video": but(emotion=FROM_VIDEO, emotion_video=files["joy.mp4"]),
        "poses": but(head=HEAD_FILE, head_file=files["track.npy"]),
        "a head that moves": but(head=HEAD_VIDEO, head_video=files["joy.mp4"]),
        "a still head": but(head=STILL),
        "layout": but(layout="side_by_side", emotion="sad"),
        "as it is": but(crop=False, face=2),
        "the second face": but(face=2, paste_back=True),
        "key frames": but(timeline=files["keys.csv"]),
        "text": but(voice=TEXT, text='- \'so "it" goes', accent="de+f2"),
    }


@pytest.mark.parametrize(
    "case", forms(dict.fromkeys(["face.png", "voice.wav", "joy.mp4", "track.npy", "keys.csv"]))
)
def test_the_command_does_the_same_job(case, files, tmp_path):
    form = forms(files)[case]
    spoken = tmp_path / "text.wav"
    words = shlex.split(shlex.join(command(form, Path("weights"), str)))
    assert words[0] == "eamm-infer"
    flags = infer.flag_parser().parse_args([*words[1:], "--result_path", str(tmp_path), "--quiet"])
    infer.fill_in(flags)
    if form.voice == TEXT:
        assert (flags.text, flags.voice) == (form.text, form.accent)
        flags.speech = spoken
    assert flags.checkpoint == Path("weights")
    job = job_of(form, spoken if form.voice == TEXT else form.sound, tmp_path)
    assert infer.job_of(flags) == job


def test_the_bundled_model_and_the_names_of_files_are_enough(form):
    words = command(form, bundled.MODEL)
    given = ["--source_image", "face.png", "--in_file", "voice.wav"]
    assert words == ["eamm-infer", *given, "--idle_motion", "1"]


def test_a_voice_may_be_as_long_as_is_said(tmp_path):
    write_wav(tmp_path / "two.wav", np.zeros(2 * 16_000))
    check_speech(tmp_path / "two.wav", Limits(speech_seconds=2))
    with pytest.raises(UserError, match=r"longer than 1\.8 seconds"):
        check_speech(tmp_path / "two.wav", Limits(speech_seconds=1.8))


def test_a_video_may_be_as_long_as_is_said(files):
    check_video(files["joy.mp4"], Limits(video_seconds=1))
    with pytest.raises(UserError, match=r"longer than 0\.8 seconds"):
        check_video(files["joy.mp4"], Limits(video_seconds=0.8))


def test_limits_let_something_through():
    with pytest.raises(UserError, match="jobs is 0; it must be greater than 0"):
        Limits(jobs=0)
