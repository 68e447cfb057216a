"""The network that reads drawn faces: its output, its weights on disk, and its training."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data.synthetic import train_reader
from data.synthetic.train_reader import Change, Examples, Look
from eamm_jax import bundled
from eamm_jax.constants import EMOTIONS
from eamm_jax.errors import UserError
from eamm_jax.evaluation import face_reader
from eamm_jax.evaluation.face_reader import SIZE, FaceReader
from tests.evaluation.faces import template

MOODS = "happy", "sad"


def dot_faces(count: int, seed: int = 0) -> Examples:
    """Plain faces that are shifted about: dark where landmarks are, brighter if happy."""
    rng = np.random.default_rng(seed)
    shift = rng.uniform(-0.15, 0.15, (count, 1, 2))
    points = (template() + shift).astype(np.float32)
    emotion = np.array([EMOTIONS.index(MOODS[n % 2]) for n in range(count)])
    line = (2 * np.arange(SIZE) + 1) / SIZE - 1
    x, y = np.meshgrid(line, line)
    frames = (
        np.full((count, SIZE, SIZE, 3), 120.0)
        + 80 * (emotion == EMOTIONS.index("happy"))[:, None, None, None]
    )
    for face, marks in zip(frames, points, strict=True):
        near = np.hypot(x[..., None] - marks[:, 0], y[..., None] - marks[:, 1]).min(axis=-1)
        face *= 1 - 0.8 * np.exp(-((near / 0.03) ** 2))[..., None]
    ones = np.ones(count)
    return Examples(
        frames.astype(np.uint8), points, emotion, ones.astype(int), ones.astype(np.float32)
    )


@pytest.fixture(scope="module")
def untrained() -> FaceReader:
    rng = np.random.default_rng(0)
    return FaceReader(train_reader.initial_params(rng, template()))


def test_readings_do_not_depend_on_the_batch(untrained):
    frames = dot_faces(40).frames
    seen = untrained.read(frames)
    assert seen.landmarks.shape == (40, 68, 2)
    assert seen.emotion.shape == (40, len(EMOTIONS))
    np.testing.assert_allclose(np.exp(seen.emotion).sum(axis=1), 1, atol=1e-5)
    alone = untrained.read(frames[33:34])
    np.testing.assert_allclose(alone.landmarks[0], seen.landmarks[33], atol=1e-4)


def test_larger_frames_are_reduced(untrained):
    def waves(size):
        x, y = np.meshgrid(*[(np.arange(size) + 0.5) / size] * 2)
        colours = [np.sin(5 * x + 3 * y + n) for n in range(3)]
        return (128 + 100 * np.stack(colours, -1)).astype(np.uint8)[None]

    large = np.asarray(face_reader.shrink(jnp.asarray(waves(256))))
    np.testing.assert_allclose(large, waves(SIZE) / 255, atol=0.02)
    found, expected = (untrained.read(waves(size)).landmarks for size in (256, SIZE))
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_it_starts_where_landmarks_usually_are(untrained):
    flat = untrained.read(np.full((1, SIZE, SIZE, 3), 128, np.uint8)).landmarks[0]
    assert np.linalg.norm(flat - template(), axis=-1).mean() < 0.15


def test_heatmaps_reach_their_place():
    for row, column in ((0, 0), (3, 12), (15, 15)):
        heatmap = jnp.zeros((1, 16, 16, 68)).at[0, row, column].set(50.0)
        found = face_reader.expected_places(heatmap)[0, 0]
        np.testing.assert_allclose(found, [(2 * column - 15) / 16, (2 * row - 15) / 16], atol=1e-5)


def test_weights_come_back_from_the_disk(untrained, tmp_path):
    face_reader.save_weights(tmp_path / "w.npz", untrained.params)
    again = FaceReader(face_reader.load_weights(tmp_path / "w.npz"))
    frames = dot_faces(2).frames
    np.testing.assert_allclose(
        again.read(frames).landmarks, untrained.read(frames).landmarks, atol=0.02
    )


def no_change(batch: int, **changes: object) -> Change:
    zeros, ones = np.zeros(batch), np.ones(batch)
    nothing = Change(
        zeros, ones, np.zeros((batch, 2)), zeros,
        np.ones((batch, 3)), np.zeros((batch, 3)), np.zeros((batch, SIZE, SIZE, 3)),
    )  # fmt: skip
    return Change(*(np.asarray(x, np.float32) for x in nothing._replace(**changes)))


def test_augmentation_moves_picture_and_points_alike():
    examples = dot_faces(1)
    frames, points = examples.frames / np.float32(255), examples.landmarks
    still, same = train_reader.augment(frames, points, no_change(1))
    np.testing.assert_allclose(still, frames, atol=1e-5)
    np.testing.assert_allclose(same, points, atol=1e-6)
    change = no_change(1, turn=[0.3], zoom=[1.2], shift=[[0.1, -0.05]])
    moved, where = train_reader.augment(frames, points, change)
    expected = 1.2 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    np.testing.assert_allclose(where[0], points[0] @ expected.T + (0.1, -0.05), atol=1e-6)
    # It is dark where the landmarks went, and bright on the forehead.
    pixels = np.round((np.asarray(where[0]) + 1) * SIZE / 2 - 0.5).astype(int)
    inside = (pixels >= 0).all(axis=1) & (pixels < SIZE).all(axis=1)
    assert inside.sum() > 60
    at_marks = np.asarray(moved)[0, pixels[inside, 1], pixels[inside, 0]]
    assert at_marks.mean() < 0.55 * np.median(moved)


def test_augmentation_changes_colours_as_it_is_told():
    examples = dot_faces(2)
    frames = examples.frames / np.float32(255)
    change = no_change(2, gain=[[1, 1, 1], [0.5, 1, 1]], bias=[[0.1, 0, 0], [0, 0, 0]])
    found, _ = train_reader.augment(frames, examples.landmarks, change)
    np.testing.assert_allclose(found[0, ..., 0], np.clip(frames[0, ..., 0] + 0.1, 0, 1), atol=1e-5)
    np.testing.assert_allclose(found[1, ..., 0], frames[1, ..., 0] / 2, atol=1e-5)
    np.testing.assert_allclose(found[..., 1:], frames[..., 1:], atol=1e-5)
    soft, _ = train_reader.augment(frames, examples.landmarks, no_change(2, softness=[0, 1]))
    np.testing.assert_allclose(soft[0], frames[0], atol=1e-5)
    sharpness = [np.abs(np.diff(x, axis=1)).mean() for x in (frames[1], soft[1])]
    assert sharpness[1] < 0.8 * sharpness[0]


def test_changes_are_drawn_anew():
    rng = np.random.default_rng(0)
    first, second = (train_reader.draw_changes(rng, 500) for _ in range(2))
    assert first.noise.shape == (500, SIZE, SIZE, 3)
    assert (first.turn != second.turn).all()
    assert first.turn.std() == pytest.approx(train_reader.TURN, rel=0.15)
    assert np.log(first.zoom).std() == pytest.approx(train_reader.ZOOM, rel=0.15)
    assert 0 <= first.softness.min() < 0.05


def test_emotions_are_drawn_as_often_as_they_should():
    emotion = np.array([EMOTIONS.index("neutral")] * 900 + [0] * 10 + [1] * 40)
    chances = train_reader.sampling(emotion)
    neutral = chances[:900].sum()
    others = chances[900:910].sum(), chances[910:].sum()
    assert others[0] == pytest.approx(others[1])
    share = train_reader.NEUTRAL_SHARE
    assert neutral / others[0] == pytest.approx(share / ((1 - share) / 7))
    assert chances.sum() == pytest.approx(1)


@pytest.mark.exhaustive
def test_it_learns():
    """Landmarks of faces that are shifted about, and which of two emotions they show."""
    examples, unseen = dot_faces(256), dot_faces(64, seed=1)
    before = train_reader.measure_stills(
        FaceReader(
            train_reader.initial_params(np.random.default_rng(0), examples.landmarks.mean(axis=0))
        ),
        unseen,
    )
    done = []
    params = train_reader.train(
        examples, seed=0, steps=90, advance=lambda step, steps: done.append((step, steps))
    )
    assert done[-1] == (90, 90)
    after = train_reader.measure_stills(FaceReader(params), unseen)
    assert after["landmark_error"] < 0.5 * before["landmark_error"]
    assert after["frames_named"]["happy"] == after["frames_named"]["sad"] == 1
    assert np.isnan(after["frames_named"]["angry"])


class Known(FaceReader):
    """Says what is right, but names all that is sad happy."""

    def __init__(self, examples: Examples):
        self._examples = examples

    def read(self, frames):
        scores = np.zeros((len(frames), 8), np.float32)
        scores[:, EMOTIONS.index("happy")] = 1
        return face_reader.Reading(self._examples.landmarks[: len(frames)] + 0.01, scores)


def test_measures_of_stills():
    examples = dot_faces(6)
    examples.level[:] = [1, 1, 2, 2, 3, 3]
    found = train_reader.measure_stills(Known(examples), examples)
    assert found["frames"] == 6
    assert found["landmark_error"] == pytest.approx(1.28 * 2**0.5, rel=1e-3)
    assert found["f_lmd"] == pytest.approx(0, abs=1e-4)
    assert found["mouth_correlation"] == 0  # the mouths are all alike
    named = found["frames_named"]
    assert (named["happy"], named["sad"], named["level 2"]) == (1, 0, 0.5)


def test_people_are_told_apart():
    def looks(colour):
        even = np.full((SIZE, SIZE, 3), colour, np.uint8)
        return [Look(even + np.uint8(n), template()) for n in range(3)]

    found = train_reader.tell_apart([looks(60), looks(120), looks(180)])
    assert found["same is nearer"] == 1
    assert found["same person"] < 2
    assert found["another person"] > 20
    assert train_reader.tell_apart([looks(60)] * 2)["same is nearer"] < 0.5


def write_people(root, numbers, *, stills: bool):
    """People as the drawn data sets have them, their faces made of dots."""
    for number in numbers:
        for clip in ["stills_001"] if stills else ["happy_level_2_001", "sad_level_2_001"]:
            examples = dot_faces(6, seed=number)
            name = f"s{number:05d}"
            frames = root / "fomm_crop" / name / clip
            frames.mkdir(parents=True)
            for n, frame in enumerate(examples.frames):
                Image.fromarray(frame).resize((80, 80)).save(frames / f"{n}.png")
            shapes = {"landmarks": examples.landmarks, "pupils": np.zeros((6, 2, 2), np.float32),
                      "fomm_pose_crop": np.zeros((6, 7), np.float32)}  # fmt: skip
            for kind, track in shapes.items():
                (root / kind / name).mkdir(parents=True, exist_ok=True)
                np.save(root / kind / name / f"{clip}.npy", track)
            words = [EMOTIONS[e] for e in examples.emotion]
            facts = {
                "emotion": words if stills else clip.split("_")[0],
                "level": [2] * 6 if stills else 2,
                "strength": [0.7] * 6,
            }
            (root / "facts" / name).mkdir(parents=True, exist_ok=True)
            (root / "facts" / name / f"{clip}.json").write_text(json.dumps(facts))
    return root


VALIDATING = 7
"""The first person of the validation split, by the hash of the name."""


@pytest.mark.slow
def test_the_command_trains_measures_and_writes(tmp_path, capsys):
    album = write_people(tmp_path / "album", [0, 1, 2, VALIDATING], stills=True)
    clips = write_people(tmp_path / "clips", [0], stills=False)
    output = tmp_path / "reader.npz"
    flags = ["--album", str(album), "--clips", str(clips), "--steps", "2", "--output", str(output)]
    with pytest.raises(SystemExit) as end:
        train_reader.main(flags)
    assert end.value.code == 0
    assert "reader.npz" in capsys.readouterr().out
    card = json.loads(output.with_suffix(".json").read_text())
    assert card["trained on"] == "18 stills of the training split of an album"
    stills, whole = card["measured"].values()
    assert stills["frames"] == 6
    assert (whole["clips"], whole["people"]) == (2, 1)
    assert np.array(whole["confusion"]).sum() == 2
    assert -1 <= whole["mouth_correlation"] <= 1
    FaceReader(face_reader.load_weights(output)).read(dot_faces(1).frames)
    drift = whole["identity_drift"]
    assert drift["same person"] == drift["another person"]  # there is only one
    # Measured again without training, it says the same.
    flags[flags.index("2")] = "0"
    with pytest.raises(SystemExit) as end:
        train_reader.main(flags)
    assert end.value.code == 0
    assert json.loads(output.with_suffix(".json").read_text()) == card


def test_people_are_split_as_in_training(tmp_path):
    album = write_people(tmp_path, [0, 1, VALIDATING], stills=True)
    silent = lambda done, total: None  # noqa: E731
    train = train_reader.read_examples(album, validation=False, advance=silent)
    held_out = train_reader.read_examples(album, validation=True, advance=silent)
    assert (len(train.frames), len(held_out.frames)) == (12, 6)
    assert train.frames.shape[1:] == (SIZE, SIZE, 3)
    np.testing.assert_array_equal(held_out.landmarks, dot_faces(6, VALIDATING).landmarks)
    assert {EMOTIONS[e] for e in train.emotion} == set(MOODS)


def test_bad_albums_are_named(tmp_path):
    silent = lambda done, total: None  # noqa: E731
    album = write_people(tmp_path, [0], stills=True)
    with pytest.raises(UserError, match="nobody in the validation split"):
        train_reader.read_examples(album, validation=True, advance=silent)
    facts = album / "facts" / "s00000" / "stills_001.json"
    for text, words in (
        ('{"emotion": "bored", "level": 1, "strength": [1, 1, 1, 1, 1, 1]}', "does not have"),
        ('{"emotion": "sad", "level": 1, "strength": [1]', "does not have"),
        ('{"emotion": ["sad", "sad"], "level": 1, "strength": 1}', "of 6 frames"),
    ):
        facts.write_text(text)
        with pytest.raises(UserError, match=words):
            train_reader.read_examples(album, validation=False, advance=silent)
    facts.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        train_reader.read_examples(album, validation=False, advance=silent)
    (album / "landmarks" / "s00000" / "stills_001.npy").unlink()
    with pytest.raises(UserError, match="s00000/stills_001"):
        train_reader.read_examples(album, validation=False, advance=silent)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--steps", "-1"], "--steps: -1"),
        (["--output", "weights.bin"], "must end in .npz"),
    ],
)
def test_wrong_flags_are_answered(flags, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        train_reader.main(["--album", "a", "--clips", "c", *flags])
    assert end.value.code == 2
    assert words in capsys.readouterr().err


# The one that is part of the package.


def test_the_bundled_reader_is_small_and_has_its_card():
    assert bundled.FACE_READER.stat().st_size <= 1_000_000
    card = face_reader.card()
    assert card["bytes"] == bundled.FACE_READER.stat().st_size
    stills, clips = card["measured"].values()
    assert stills["frames_named"].keys() == clips["clips_named"].keys()
    FaceReader.bundled()
