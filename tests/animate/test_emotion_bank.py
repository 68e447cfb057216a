"""The emotion bank: schedules, mixing over time, files that can be trusted or are refused."""

import numpy as np
import pytest

from eamm_jax.animate.emotion_bank import (
    BANK_NAME,
    EmotionBank,
    Entry,
    Span,
    parse_schedule,
)
from eamm_jax.errors import UserError

WIDTH = 4
FACE = np.zeros((8, 8, 3), np.uint8)


def constant(value, frames=5):
    return Entry(np.full((frames, WIDTH), value, np.float32), FACE)


BANK = EmotionBank(
    {
        ("neutral", 1): constant(0.0),
        ("happy", 1): constant(1.0),
        ("happy", 3): constant(3.0),
        ("sad", 2): constant(-2.0),
    }
)


def test_one_name_is_shown_all_the_time():
    assert parse_schedule("happy") == (Span("happy", 0.0, None),)


def test_spans_are_read_in_seconds():
    expected = (Span("happy", 0.0, 2.5), Span("sad", 2.5, 4.0), Span("angry", 5.25, None))
    assert parse_schedule("happy:0-2.5, sad:2.5-4, angry:5.25-") == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("glad", "'glad' is no emotion; choose from angry"),
        ("happy:2", "is not an emotion, or emotions with their seconds"),
        ("happy:3-2", "happy ends before it starts"),
        ("happy,sad", "sad starts before happy ends"),
        ("happy:0-3,sad:2-", "sad starts before happy ends"),
        ("", "is not an emotion"),
    ],
)
def test_other_texts_are_answered_with_what_is_meant(text, words):
    with pytest.raises(UserError, match=words) as caught:
        parse_schedule(text)
    assert "\n" not in str(caught.value)


def test_the_strongest_level_is_taken_or_the_nearest_to_the_one_asked_for():
    assert BANK.entry("happy").track[0, 0] == 3
    assert BANK.entry("happy", 1).track[0, 0] == 1
    assert BANK.entry("happy", 2).track[0, 0] == 1
    assert BANK.entry("sad", 3).track[0, 0] == -2
    with pytest.raises(UserError, match="no 'fear'; it has happy, neutral, sad"):
        BANK.entry("fear")


def test_one_emotion_is_its_track():
    features = BANK.features(parse_schedule("happy"), 9)
    assert features.shape == (9, WIDTH)
    assert (features == 3).all()
    assert (BANK.features(parse_schedule("happy"), 9, level=1) == 1).all()


def test_emotions_fade_into_each_other_around_the_moment():
    features = BANK.features(parse_schedule("happy:0-2,sad:2-"), 100)[:, 0]
    assert (features[:42] == 3).all()
    assert (features[58:] == -2).all()
    assert features[50] == pytest.approx(0.5)
    assert (np.diff(features) <= 0).all()
    assert np.abs(np.diff(features)).max() < 0.5


def test_gaps_are_neutral():
    features = BANK.features(parse_schedule("happy:1-2,sad:4-5"), 150)[:, 0]
    assert features[0] == 0
    assert features[37] == 3
    assert features[75] == 0
    assert features[112] == -2
    assert features[-1] == 0


def test_an_emotion_that_starts_after_the_end_is_warned_of(caplog):
    found = BANK.features(parse_schedule("sad:0-1,happy:5-9"), 35)
    assert caplog.messages == ["happy is not shown: it starts at 5 s, but the speech ends at 1.4 s"]
    np.testing.assert_array_equal(found, BANK.features(parse_schedule("sad:0-1"), 35))


def test_a_track_goes_back_and_forth():
    track = np.arange(3, dtype=np.float32)[:, None] * np.ones(WIDTH, np.float32)
    bank = EmotionBank({("sad", 1): Entry(track, FACE)})
    features = bank.features(parse_schedule("sad"), 8)[:, 0]
    np.testing.assert_array_equal(features, [0, 1, 2, 1, 0, 1, 2, 1])
    single = EmotionBank({("sad", 1): constant(7.0, frames=1)})
    assert (single.features(parse_schedule("sad"), 3) == 7).all()


def test_the_most_typical_clip_is_kept():
    bank = EmotionBank.of_clips(("angry", 2, constant(value, 3)) for value in (0.0, 1.0, 5.0))
    assert (bank.entry("angry").track == 1).all()


def test_what_is_saved_is_loaded(tmp_path):
    BANK.save(tmp_path)
    found = EmotionBank.load(tmp_path, WIDTH)
    assert found.entries.keys() == BANK.entries.keys()
    for key, entry in found.entries.items():
        np.testing.assert_array_equal(entry.track, BANK.entries[key].track)
        assert entry.face.dtype == np.uint8
    assert [path.name for path in tmp_path.iterdir()] == [BANK_NAME]


def test_a_checkpoint_may_have_none(tmp_path):
    assert EmotionBank.load(tmp_path, WIDTH) is None


def test_a_bank_of_another_model_is_refused(tmp_path):
    BANK.save(tmp_path)
    with pytest.raises(UserError, match=r"made with another model.*this one has 9"):
        EmotionBank.load(tmp_path, 9)


def damaged(tmp_path, arrays):
    np.savez(tmp_path / BANK_NAME, **arrays)
    with pytest.raises(UserError, match="is damaged; make it again"):
        EmotionBank.load(tmp_path, WIDTH)


def test_damaged_banks_are_refused(tmp_path):
    good = np.zeros((3, WIDTH), np.float16)
    damaged(tmp_path, {})
    damaged(tmp_path, {"happy_1/track": good})
    damaged(tmp_path, {"glad_1/track": good, "glad_1/face": FACE})
    damaged(tmp_path, {"happy_1/track": good[0], "happy_1/face": FACE})
    damaged(tmp_path, {"happy_1/track": good * np.nan, "happy_1/face": FACE})
    damaged(tmp_path, {"happy_1/track": good.astype(object), "happy_1/face": FACE})
    (tmp_path / BANK_NAME).write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(UserError, match="is damaged"):
        EmotionBank.load(tmp_path, WIDTH)
