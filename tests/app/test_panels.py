"""What the page says while it works, and of what it found."""

from __future__ import annotations

import numpy as np

from eamm_jax.app import panels
from eamm_jax.app.studio import Preview, Progress
from eamm_jax.provenance.credentials import Credentials
from eamm_jax.provenance.verify import Report


def test_progress_is_told_in_words():
    assert "Waiting" in panels.waiting()
    assert "Getting ready" in panels.progress(Progress())
    shown = panels.progress(Progress(12, 48, 130.0))
    assert "12 of 48 frames · 2 min left" in shown
    assert 'aria-valuenow="25"' in shown
    assert "left" not in panels.progress(Progress(12, 48, None)).replace('style="', "")


def test_faces_are_marked_where_they_are_and_the_chosen_one_stands_out():
    picture = np.zeros((40, 80, 3), np.uint8)
    boxes = [(0.1, 0.2, 0.3, 0.6), (0.5, 0.2, 0.7, 0.6)]
    shown = panels.preview(Preview(picture[:8, :8], picture, boxes, True, "2 & more"), 2)
    assert 'class="mark" style="left: 10.0%; top: 20.0%; width: 20.0%; height: 40.0%">1' in shown
    assert 'class="mark chosen" style="left: 50.0%' in shown
    assert "2 &amp; more" in shown


def test_a_picture_that_is_used_as_it_is_is_shown_once():
    picture = np.zeros((8, 8, 3), np.uint8)
    shown = panels.preview(Preview(picture, picture, [], False, "so"), 1)
    assert shown.count("<img") == 1


def test_a_report_has_a_line_for_each_mark():
    found = Report(Credentials("valid", signer="<b>A & B</b>"), {}, None, sought=True)
    shown = panels.report(found)
    assert shown.count("<dt>") == 4
    assert "&lt;b&gt;A &amp; B&lt;/b&gt;" in shown
    assert "does not mean that it is a recording" in shown
