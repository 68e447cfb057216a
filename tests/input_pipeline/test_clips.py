"""Rules of the data sets, checks of clips, and decoding."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from eamm_jax.constants import EMOTIONS
from eamm_jax.input_pipeline.clips import (
    KINDS,
    WINDOW_FRAMES,
    BadClip,
    Clip,
    ClipName,
    Labels,
    decode_frame,
    labels_in,
)

LRW, MEAD, VOXCELEB = (KINDS[name] for name in ("lrw", "mead", "voxceleb"))


# Start frames of examples, as in the published data loaders.


def test_lrw_clips_start_at_frames_3_to_7():
    assert list(LRW.starts(29)) == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("kind", [MEAD, VOXCELEB])
@pytest.mark.parametrize(
    ("length", "starts"),
    [(17, [0]), (23, [0]), (24, [3]), (25, [3, 4]), (60, list(range(3, 40)))],
)
def test_other_clips_start_from_3_unless_they_are_short(kind, length, starts):
    assert list(kind.starts(length)) == starts


@given(st.sampled_from(list(KINDS.values())), st.integers(WINDOW_FRAMES, 500))
def test_a_window_always_fits(kind, length):
    starts = kind.starts(length)
    assert len(starts) >= 1
    assert starts[0] >= 0
    assert starts[-1] + WINDOW_FRAMES <= length


# Splits.


def test_identities_stay_together_except_in_lrw():
    names = [ClipName("A", str(n)) for n in range(50)]
    for kind in (MEAD, VOXCELEB):
        assert len({kind.validation_share(name) for name in names}) == 1
    assert len({LRW.validation_share(name) for name in names}) == 50


def test_shares_are_even_and_fixed():
    shares = [VOXCELEB.validation_share(ClipName(f"id{n}", "x")) for n in range(5000)]
    counts = np.histogram(shares, 10, (0, 1))[0]
    assert counts.sum() == 5000
    np.testing.assert_allclose(counts, 500, atol=90)
    # A change of the hash would move people between the splits of runs that go on.
    # This one is from `printf id10001 | sha256sum`.
    assert VOXCELEB.validation_share(ClipName("id10001", "x")) == 0xBA25CC367975D599 / 2**64


# Labels.


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_mead_names_give_the_emotion(emotion):
    name = ClipName("M003", f"{emotion}_level_1_012")
    assert MEAD.emotion(name) == EMOTIONS.index(emotion)
    assert LRW.emotion(name) == VOXCELEB.emotion(name) == -1


@pytest.mark.parametrize(
    "clip", ["happy", "happy_level_4_001", "glad_level_1_001", "neutral_level_2_001", "happy_1_1"]
)
def test_names_without_a_label_are_bad(clip):
    with pytest.raises(BadClip, match="its name"):
        MEAD.emotion(ClipName("M003", clip))


# What makes a clip bad.


def clip(frames: int = 29, poses: int = 29, windows: int = 29) -> Clip:
    return Clip(
        frames,
        lambda n: b"",
        np.zeros((poses, 7), np.float32),
        np.zeros((windows, 28, 13), np.float32),
    )


@pytest.mark.parametrize(("windows", "length"), [(27, 27), (29, 29), (30, 29), (31, 29)])
def test_audio_length_may_differ_slightly(windows, length):
    assert clip(windows=windows).motion()[2] == length


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (clip(poses=28), r"poses have shape \(28, 7\), not \(29, 7\)"),
        (clip(windows=26), "29 frames but 26 MFCC windows"),
        (clip(windows=32), "29 frames but 32 MFCC windows"),
        (clip(16, 16, 16), "16 windows; at least 17"),
        (Clip(29, lambda n: b"", np.zeros((29, 6)), np.zeros((29, 28, 13))), r"shape \(29, 6\)"),
        (Clip(29, lambda n: b"", np.zeros((29, 7)), np.zeros((29, 28))), r"shape \(29, 28\)"),
    ],
)
def test_mismatched_tracks_are_bad(bad, fault):
    with pytest.raises(BadClip, match=fault):
        bad.motion()


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_non_finite_tracks_are_bad(number):
    bad = clip()
    bad.pose[11, 6] = number
    with pytest.raises(BadClip, match="the pose of frame 11 is not finite"):
        bad.motion()
    bad = clip()
    bad.windows[7, 3, 2] = number
    with pytest.raises(BadClip, match="the MFCC window of frame 7 is not finite"):
        bad.motion()


# Decoding.


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def test_frames_are_decoded_exactly():
    np.testing.assert_array_equal(decode_frame(png(Image.fromarray(PIXELS))), PIXELS)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA"])
def test_other_kinds_of_png_become_rgb(mode):
    image = Image.fromarray(PIXELS).convert(mode)
    decoded = decode_frame(png(image))
    np.testing.assert_array_equal(decoded, np.asarray(image.convert("RGB")))


def test_frames_are_downsampled_with_antialiasing():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = decode_frame(png(Image.fromarray(stripes)), 16)
    assert small.shape == (16, 16, 3)
    assert np.abs(small.astype(int) - 127).max() <= 20  # sampled without a filter: 0 or 255


def test_large_jpegs_are_decoded_at_the_size_that_is_needed(monkeypatch):
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    pixels = np.stack([np.add.outer(ramp // 2, ramp // 2)] * 3, axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    expected = decode_frame(png(Image.fromarray(pixels)), 16)
    resized = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, *size: resized.append(self.size) or resize(self, *size)
    )
    decoded = decode_frame(buffer.getvalue(), 16)
    assert np.abs(decoded.astype(int) - expected).max() <= 4
    assert decode_frame(buffer.getvalue(), 20).shape == (20, 20, 3)
    assert resized == [(32, 32)]  # to 16x16 the decoder alone came


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "not a readable PNG"),
        (b"not an image", "not a readable PNG"),
        (png(Image.fromarray(PIXELS))[:500], "not a readable PNG"),
        (png(Image.fromarray(PIXELS[:20])), "is 32x20, not square"),
    ],
)
def test_unusable_frames_are_bad(data, fault):
    with pytest.raises(BadClip, match=fault):
        decode_frame(data)


def test_other_image_formats_are_rejected():
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "BMP")
    with pytest.raises(BadClip, match="not a readable PNG"):
        decode_frame(buffer.getvalue())


@pytest.mark.parametrize(
    ("name", "identity", "emotion", "level"),
    [
        ("M003/angry_level_1_001", "M003", "angry", 1),
        ("M003_angry_level_3_001", "M003", "angry", 3),
        ("M003_ang_3_001", "M003", "angry", 3),
        ("M003/front/disgusted/level_2/007", "M003", "disgusted", 2),
        ("W015_W015_sur_2_005", "W015", "surprised", 2),
        ("level/happy_2", "level", "happy", 2),
        ("people/unhappy_1_2", "people", None, 0),
        ("obama", "", None, 0),
        ("sad_song_9", "", None, 0),
    ],
)
def test_labels_are_read_from_names(name, identity, emotion, level):
    index = -1 if emotion is None else EMOTIONS.index(emotion)
    assert labels_in(name) == Labels(identity, index, level)
