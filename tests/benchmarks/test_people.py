"""People are measured by the truth of their stills, and each belongs to the groups they should."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks import people
from data import layout
from eamm_jax import bundled
from eamm_jax.checkpoint import load_networks, save_networks
from eamm_jax.errors import UserError
from eamm_jax.input_pipeline.clips import ClipName
from eamm_jax.input_pipeline.published import (
    LANDMARKS_FOLDER,
    POSE_FOLDER,
    PUPILS_FOLDER,
    PublishedFolder,
    Tracks,
)
from eamm_jax.models import build
from eamm_jax.training.bundled_config import KEYPOINTS
from tests.tiny import tiny_variables


@pytest.mark.slow
def test_keypoints_on_their_points_and_a_face_that_stays_are_measured_so(tmp_path):
    """Three times the same picture, whose landmarks are where the detector finds them."""
    picture = Image.open(bundled.PORTRAIT).convert("RGB").resize((256, 256))
    config, variables = load_networks(bundled.MODEL)
    images = np.asarray(picture, np.float32)[None] / 255
    found = build(config).kp_detector.apply(variables["kp_detector"], images)
    points = np.zeros((3, 70, 2), np.float32)
    for group, place in zip(KEYPOINTS, np.asarray(found.value[0]), strict=True):
        points[:, list(group)] = place
    name = ClipName("s00003", "stills_001")
    with layout.unfinished_frames(tmp_path, name) as frames:
        for n in range(3):
            picture.save(frames / f"{n}.png")
    layout.write_track(tmp_path, POSE_FOLDER, name, np.zeros((3, 7), np.float32))
    layout.write_track(tmp_path, LANDMARKS_FOLDER, name, points[:, :68])

    def measured() -> np.ndarray:
        layout.write_track(tmp_path, PUPILS_FOLDER, name, points[:, 68:])
        ((identity, values),) = people.measure(
            PublishedFolder(tmp_path, Tracks(truth=True)), bundled.MODEL
        )
        assert identity == "s00003"
        return values

    wrong, mouth, eyes = measured()
    assert wrong < 0.01
    assert min(mouth, eyes) > 30
    apart = np.linalg.norm(points[0, 68] - points[0, 69])
    points[:, 68:, 1] += apart / 10  # two of the keypoints are a tenth of that distance away
    np.testing.assert_allclose(measured()[0], 10 * 2 / len(KEYPOINTS), rtol=1e-2)


def test_other_keypoints_are_refused_in_words(tmp_path):
    save_networks(tmp_path / "model", *tiny_variables())
    with pytest.raises(UserError, match="only those of the bundled model"):
        next(people.measure(SimpleNamespace(names=[]), tmp_path / "model"))


@pytest.mark.parametrize(
    "text", [None, "{", '{"seed": 1, "stills": 0}', '{"seed": 1, "stills": 4, "photos": "x"}']
)
def test_people_who_are_not_known_are_refused_in_words(tmp_path, text):
    if text:
        (tmp_path / "synthetic.json").write_text(text)
    with pytest.raises(UserError, match="is of no album of invented people"):
        people.seed_of(tmp_path)


def test_groups_have_means_and_standard_errors_of_their_people():
    looks = {
        "a": SimpleNamespace(feminine=True, age=0.1, tone=5.0),
        "b": SimpleNamespace(feminine=True, age=0.5, tone=1.0),
        "c": SimpleNamespace(feminine=False, age=0.2, tone=1.0),
    }
    rows = people.table({name: np.full(3, n) for n, name in enumerate(looks)}, looks)
    assert set(rows) == {"all", "women", "under 42", "light skin"}  # others are one or nobody
    assert rows["women"] == {"people": [2], **{key: [0.5, 0.5] for key in people.METRICS}}
    assert rows["under 42"][people.METRICS[0]] == [1.0, 1.0]
    assert rows["light skin"][people.METRICS[0]] == [1.5, 0.5]
    assert rows["all"]["people"] == [3]
