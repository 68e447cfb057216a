"""Sound of any format, rate and layout comes out as the same 16 kHz; files without any do not."""

import logging

import av
import numpy as np
import pytest

from eamm_jax.constants import SAMPLE_RATE
from eamm_jax.errors import UserError
from eamm_jax.io import audio
from eamm_jax.io.audio import read_audio, read_speech, sound_blocks, write_wav


def tones(seconds: float, rate: int, channels: int) -> np.ndarray:
    """A tone for each channel (channels, n), faded in and out."""
    time = np.arange(int(seconds * rate)) / rate
    envelope = np.sin(np.pi * time / seconds) ** 2
    waves = [np.sin(2 * np.pi * 220 * (c + 1) * time) * 0.8 / (c + 1) for c in range(channels)]
    return np.stack(waves) * envelope


def assert_heard(samples: np.ndarray, seconds: float, channels: int, tolerance: float) -> None:
    """The average of the tones, at 16 kHz; a coder may add some silence at the end."""
    expected = tones(seconds, SAMPLE_RATE, channels).mean(axis=0)
    assert samples.dtype == np.float32
    assert -2 <= len(samples) - len(expected) < 0.2 * SAMPLE_RATE
    heard = samples[: len(expected)]
    np.testing.assert_allclose(heard, expected[: len(heard)], atol=tolerance)
    assert np.abs(samples[len(expected) :]).max(initial=0) < tolerance


@pytest.mark.parametrize(
    ("name", "codec", "tolerance"),
    [
        ("x.ogg", "libopus", 5e-2),
        ("x.wav", "pcm_u8", 2e-2),
        ("x.wav", "pcm_s16le", 1e-3),
        ("x.wav", "pcm_s24le", 1e-3),
        ("x.wav", "pcm_s32le", 1e-3),
        ("x.wav", "pcm_f32le", 1e-3),
        ("x.wav", "pcm_f64le", 1e-3),
        ("x.mov", "pcm_s16be", 1e-3),
        ("x.flac", "flac", 1e-3),
        ("x.m4a", "alac", 1e-3),
        ("x.m4a", "aac", 5e-2),
        ("x.mp4", "aac", 5e-2),
        ("x.mp3", "libmp3lame", 5e-2),
        ("x.mkv", "aac", 5e-2),
    ],
)
def test_formats(tmp_path, make_sound, name, codec, tolerance):
    rate = 48000 if codec == "libopus" else 44100  # which Opus does not know
    path = make_sound(tmp_path / name, tones(1.5, rate, 2), rate, codec)
    assert_heard(read_audio(path), 1.5, 2, tolerance)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 96000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_rates_and_layouts(tmp_path, make_sound, rate, channels):
    path = make_sound(tmp_path / "x.wav", tones(1, rate, channels), rate, "pcm_f32le")
    assert_heard(read_audio(path), 1, channels, 2e-3)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_whole_is_resampled_as_in_one_piece(tmp_path, make_sound, rng, rate, channels):
    """The published MFCC were computed from `librosa.load`."""
    librosa = pytest.importorskip("librosa")
    noise = rng.uniform(-1, 1, (channels, 50_000)).astype(np.float32)
    path = make_sound(tmp_path / "x.wav", noise, rate, "pcm_f32le")
    expected = librosa.resample(librosa.to_mono(noise), orig_sr=rate, target_sr=SAMPLE_RATE)
    # Both average and resample by soxr's HQ in float32; librosa rounds the length up.
    ours = read_audio(path)
    np.testing.assert_allclose(ours, expected[: len(ours)], atol=2e-5)
    assert abs(len(ours) - len(expected)) <= 1


def test_sound_at_16_khz_is_untouched(tmp_path, make_sound):
    steps = np.random.default_rng(0).integers(-(2**15), 2**15, (1, 5000)) / 2**15
    path = make_sound(tmp_path / "x.wav", steps, 16000, "pcm_s16le")
    np.testing.assert_array_equal(read_audio(path), steps[0].astype(np.float32))


def test_golden_samples(goldens):
    arrays = goldens.load("mfcc.npz")
    for path in goldens.media("audio"):
        samples = read_audio(path)
        golden = arrays[f"{path.name}_first_samples"]
        assert len(samples) == arrays[f"{path.name}_num_samples"]
        np.testing.assert_allclose(samples[: len(golden)], golden, atol=5e-6)


def test_real_speech_in_all_its_containers(shared):
    media = shared / "media"
    as_mp3, as_mov = (read_speech(media / "audio" / f"sample1.{x}") for x in ("mp3", "mov"))
    assert len(as_mp3) == len(as_mov)
    assert np.corrcoef(as_mp3, as_mov)[0, 1] > 0.99
    film = media / "raw_video" / "M030_sad_3_001.mp4"
    assert len(read_speech(film)) == pytest.approx(3.69 * SAMPLE_RATE, rel=0.01)


@pytest.mark.parametrize("codec", ["flac", "pcm_s64le"])
def test_eight_channels(tmp_path, make_sound, codec):
    """As films have them; PyAV's own arrays of eight planes read beyond the frame."""
    path = make_sound(tmp_path / "x.nut", tones(0.5, 48_000, 8), 48_000, codec)
    assert {len(block.samples) for block in sound_blocks(path)} == {8}
    assert_heard(read_audio(path), 0.5, 8, 2e-2)


def test_blocks_keep_rate_and_channels(tmp_path, make_sound):
    sound = tones(0.5, 22050, 2)
    path = make_sound(tmp_path / "x.wav", sound, 22050, "pcm_f32le")
    blocks = list(sound_blocks(path))
    assert {block.rate for block in blocks} == {22050}
    assert len(blocks) > 1
    np.testing.assert_allclose(np.concatenate([b.samples for b in blocks], 1), sound, atol=1e-6)


def test_a_rate_that_changes_on_the_way(tmp_path, make_sound):
    # MP3 frames stand alone, so that joined recordings are a valid file.
    parts = [
        make_sound(tmp_path / f"{rate}.mp3", tones(1, rate, 1), rate, "libmp3lame").read_bytes()
        for rate in (44100, 22050)
    ]
    (tmp_path / "joined.mp3").write_bytes(parts[0] + parts[1])
    samples = read_audio(tmp_path / "joined.mp3")
    assert len(samples) == pytest.approx(2 * SAMPLE_RATE, rel=0.1)
    spectrum = np.abs(np.fft.rfft(samples[-SAMPLE_RATE:]))
    assert np.argmax(spectrum) == pytest.approx(220, abs=2)


def test_titles_in_old_encodings_do_not_matter(tmp_path, make_sound):
    path = make_sound(tmp_path / "x.mp3", tones(1, 44100, 1), 44100, "libmp3lame")
    title = "Schöne Grüße".encode("latin-1")
    with path.open("ab") as file:  # an ID3v1 tag, which knows no encodings
        file.write(b"TAG" + title.ljust(30, b"\0") + bytes(95))
    assert_heard(read_audio(path), 1, 1, 5e-2)


CANCELLING = {
    "inverted": (0.8, -0.8),
    "nearly": (0.7, -0.8),
    "two of six": (0, 0.8, -0.8, 0, 0, 0),
    "pairs": (0.4, -0.4, 0.8, -0.8, 0.2, -0.2),
}


@pytest.mark.parametrize("codec", ["pcm_s16le", "aac"])
@pytest.mark.parametrize("factors", CANCELLING.values(), ids=list(CANCELLING))
def test_where_channels_cancel_the_loudest_is_heard(tmp_path, make_sound, caplog, factors, codec):
    caplog.set_level(logging.INFO, logger="eamm_jax")
    voice = tones(1, 44100, 1)
    path = make_sound(tmp_path / "x.mkv", np.outer(factors, voice), 44100, codec)
    samples = read_speech(path)
    assert "channels" in caplog.text
    expected = 0.8 * tones(1, SAMPLE_RATE, 1)[0]
    sign = np.sign(samples[: len(expected)] @ expected[: len(samples)])
    np.testing.assert_allclose(sign * samples[: len(expected)], expected, atol=0.05)


@pytest.mark.parametrize("factors", [(0.8, 0), (0.8, -0.3), (0.1, 0.8), (0.8, 0, 0, 0, 0, 0)])
def test_other_channels_are_averaged(tmp_path, make_sound, caplog, factors):
    caplog.set_level(logging.INFO, logger="eamm_jax")
    path = make_sound(tmp_path / "x.wav", np.outer(factors, tones(1, 16000, 1)), 16000, "pcm_s16le")
    expected = np.mean(factors) * tones(1, 16000, 1)[0]
    np.testing.assert_allclose(read_speech(path), expected, atol=1e-3)
    assert not caplog.text


# --- Bad input -----------------------------------------------------------------------------


def refused(path, read=read_speech) -> str:
    with pytest.raises(UserError) as error:
        read(path)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_missing_files_and_files_that_are_no_sound(tmp_path):
    assert "No such speech" in refused(tmp_path / "none.wav")
    for name in ("x.wav", "x.mp3", "x.txt"):
        (tmp_path / name).write_text("not a sound: \u58f0\u97f3\n" * 80)
        assert "it is a text file" in refused(tmp_path / name)
        (tmp_path / name).write_bytes(bytes(range(256)) * 8)
        assert "not a media file" in refused(tmp_path / name)
    (tmp_path / "empty.wav").touch()
    assert "the file is empty" in refused(tmp_path / "empty.wav")


def test_a_video_without_sound(silent_film):
    for read in (read_speech, read_audio):
        assert "has no sound track" in refused(silent_film, read)


@pytest.mark.parametrize("seconds", [0.01, 0.1, 0.29])
def test_too_short(tmp_path, make_sound, seconds):
    path = make_sound(tmp_path / "x.wav", tones(seconds, 16000, 1), 16000, "pcm_s16le")
    assert f"is {seconds:.2f} s long; at least 0.3 s are needed" in refused(path)


def test_the_shortest(tmp_path, make_sound):
    path = make_sound(tmp_path / "x.wav", tones(0.3, 48000, 2), 48000, "pcm_s16le")
    assert len(read_speech(path)) == 4800


def test_no_samples_at_all(tmp_path):
    header = av.open(str(tmp_path / "x.wav"), "w")
    with header:
        header.add_stream("pcm_s16le", rate=16000, layout="mono")
        header.start_encoding()
    assert (tmp_path / "x.wav").stat().st_size > 0
    assert len(read_audio(tmp_path / "x.wav")) == 0
    assert "is 0.00 s long" in refused(tmp_path / "x.wav")


@pytest.mark.parametrize("peak", [0, 0.5 * audio.SILENCE_PEAK])
def test_silence(tmp_path, make_sound, peak):
    path = make_sound(tmp_path / "x.wav", peak * tones(1, 16000, 1), 16000, "pcm_f32le")
    assert "is silent from beginning to end" in refused(path)
    assert len(read_audio(path)) == 16000


def test_whispers_are_not_silence(tmp_path, make_sound):
    path = make_sound(tmp_path / "x.wav", 1e-3 * tones(1, 16000, 1), 16000, "pcm_s16le")
    assert len(read_speech(path)) == 16000


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers(tmp_path, make_sound, value):
    sound = tones(1, 16000, 1)
    sound[0, 5000] = value
    path = make_sound(tmp_path / "x.wav", sound, 16000, "pcm_f32le")
    for read in (read_speech, read_audio):
        assert "holds NaN or infinite samples" in refused(path, read)


@pytest.mark.parametrize(("name", "codec"), [("x.wav", "pcm_s16le"), ("x.mp3", "libmp3lame")])
def test_a_file_that_is_cut_short_gives_what_is_there(tmp_path, make_sound, name, codec):
    path = make_sound(tmp_path / name, tones(2, 16000, 1), 16000, codec)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    samples = read_speech(path)
    assert len(samples) == pytest.approx(SAMPLE_RATE, rel=0.15)
    expected = tones(2, 16000, 1)[0, : len(samples)]
    np.testing.assert_allclose(samples[:-2000], expected[:-2000], atol=5e-2)


def test_an_mp4_without_its_index(tmp_path, make_sound):
    path = make_sound(tmp_path / "x.m4a", tones(1, 16000, 1), 16000, "aac")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "not a media file that can be decoded" in refused(path)


def test_damage_in_the_middle_is_passed_over_and_said(tmp_path, make_sound, caplog):
    path = make_sound(tmp_path / "x.mp3", tones(3, 16000, 1), 16000, "libmp3lame")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 500] = np.random.default_rng(0).bytes(500)
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        samples = read_speech(path)
    assert len(samples) > SAMPLE_RATE
    assert "x.mp3 is damaged or cut short" in caplog.text


@pytest.mark.timeout(20)
def test_a_playlist_does_not_make_us_open_what_it_names(tmp_path, tone):
    for name, text in [
        ("x.m3u8", f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{tone}\n"),
        ("x.ffconcat", f"ffconcat version 1.0\nfile {tone}\n"),
    ]:
        (tmp_path / name).write_text(text)
        assert "it is a text file" in refused(tmp_path / name)


def test_what_is_written_is_read(rng, tmp_path):
    samples = rng.uniform(-1, 1, SAMPLE_RATE).astype(np.float32)
    write_wav(tmp_path / "noise.wav", samples)
    np.testing.assert_allclose(read_audio(tmp_path / "noise.wav"), samples, atol=1e-4)
