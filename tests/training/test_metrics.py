"""Metrics on disk: JSON lines, TensorBoard events, and going on from an earlier step."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from eamm_jax.errors import UserError
from eamm_jax.training.metrics import (
    JSONL_NAME,
    TENSORBOARD_FOLDER,
    MetricWriter,
)
from tests.training.reports import read_metrics

_RECORD_HEADER, _RECORD_FOOTER = 12, 4


def read_events(workdir) -> list[event_pb2.Event]:
    """All events of a work directory: records of a length, a checksum, the event, a checksum."""
    events = []
    for path in sorted((workdir / TENSORBOARD_FOLDER).iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 8], "little")
            start = at + _RECORD_HEADER
            events.append(event_pb2.Event.FromString(data[start : start + length]))
            at = start + length + _RECORD_FOOTER
    return events


def test_numbers_reach_both_files(tmp_path):
    writer = MetricWriter(tmp_path, first_step=1)
    writer.scalars(1, "train", {"loss": 0.5, "psnr": 20.0})
    writer.scalars(1, "validation", {"loss": 0.75})
    writer.scalars(2, "train", {"loss": math.nan, "psnr": math.inf})
    # While the run goes on, too.
    lines = (tmp_path / JSONL_NAME).read_text().splitlines()
    writer.close()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "split": "train", "loss": 0.5, "psnr": 20.0},
        {"step": 1, "split": "validation", "loss": 0.75},
        {"step": 2, "split": "train", "loss": None, "psnr": None},
    ]
    assert read_metrics(tmp_path, "validation") == [{"step": 1, "loss": 0.75}]
    assert math.isnan(read_metrics(tmp_path, "train")[1]["loss"])
    scalars = {
        (event.step, value.tag): value.simple_value
        for event in read_events(tmp_path)
        for value in event.summary.value
    }
    assert scalars == {(1, "train/loss"): 0.5, (1, "train/psnr"): 20, (1, "validation/loss"): 0.75}


def test_pictures_reach_tensorboard(tmp_path):
    writer = MetricWriter(tmp_path, first_step=1)
    writer.image(3, "validation/panel", np.zeros((8, 24, 3), np.uint8))
    writer.close()
    (image,) = [value.image for event in read_events(tmp_path) for value in event.summary.value]
    assert (image.height, image.width, image.colorspace) == (8, 24, 3)
    assert image.encoded_image_string.startswith(b"\x89PNG")


def test_going_on_replaces_what_was_said_of_later_steps(tmp_path):
    for first, last, loss in ((1, 5, 1.0), (3, 6, 2.0)):
        writer = MetricWriter(tmp_path, first_step=first)
        for step in range(first, last + 1):
            writer.scalars(step, "train", {"loss": loss})
        writer.close()
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path, "train")] == [
        (1, 1.0),
        (2, 1.0),
        *((step, 2.0) for step in (3, 4, 5, 6)),
    ]
    # TensorBoard is told from which step on to forget what it read before.
    starts = [
        event.step
        for event in read_events(tmp_path)
        if event.session_log.status == event_pb2.SessionLog.START
    ]
    assert 3 in starts


def test_half_a_line_is_no_line(tmp_path):
    (tmp_path / JSONL_NAME).write_text('{"step": 1, "split": "train", "loss": 1}\n{"step": 2, "sp')
    writer = MetricWriter(tmp_path, first_step=2)
    writer.scalars(2, "train", {"loss": 3.0})
    writer.close()
    assert [line["step"] for line in read_metrics(tmp_path, "train")] == [1, 2]


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / JSONL_NAME).mkdir()
    with pytest.raises(UserError, match=JSONL_NAME):
        MetricWriter(tmp_path, first_step=1)
