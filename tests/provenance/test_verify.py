"""What is said of files of every kind."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import zlib

import av
import numpy as np
import pytest

from eamm_jax.cli import verify as command
from eamm_jax.errors import UserError
from eamm_jax.io.video import read_video
from eamm_jax.io.video_writer import video_writer
from eamm_jax.provenance import credentials
from eamm_jax.provenance.verify import verify


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*words) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["eamm-verify", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            command.main()
        return (ended.value.code, *capsys.readouterr())

    return run


def test_a_marked_video(files, run):
    code, out, _ = run(files["marked.mp4"])
    assert code == 0
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["credentials"].startswith("self-signed: unchanged since it was made, but")
    assert lines["IPTC"].startswith("trainedAlgorithmicMedia, eamm_jax 0.")
    assert lines["IPTC"].endswith("identifier c0ffee42")
    assert lines["watermark"].startswith("found, identifier c0ffee42; ")
    assert lines["result"].startswith("made by eamm_jax")


def test_an_unmarked_video_is_not_called_real(files, run):
    code, out, _ = run("verify", files["plain.mp4"])
    assert code == 1
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["credentials"] == lines["IPTC"] == "none"
    assert lines["watermark"] == "none found"
    assert "does not mean that it is a recording" in lines["result"]


def test_pictures(files, run):
    code, out, _ = run("--json", files["marked.png"])
    read = json.loads(out)
    assert (code, read["marked"]) == (0, True)
    assert read["iptc"]["identifier"] == "c0ffee42"
    assert read["watermark"] is None
    assert not read["watermark_sought"]
    assert run(files["plain.png"])[0] == 1


def test_a_video_too_short_to_tell(tmp_path, run):
    with video_writer(tmp_path / "x.mp4", 64, 64) as video:
        for _ in range(11):
            video.write(np.zeros((64, 64, 3), np.uint8))
    _, out, _ = run(tmp_path / "x.mp4")
    assert "watermark    not read: takes half a second of video" in out


def test_a_marked_video_within_a_marked_video(files):
    report = verify(files["marked.mp4"])
    other = report._replace(fields={**report.fields, "identifier": "00000001"})
    assert "another one" in other.lines()["watermark"]
    assert "another one" not in report.lines()["watermark"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a full device")
def test_a_full_disk(files):
    """Not exit code 1, which says that there is no mark."""
    command = [sys.executable, "-m", "eamm_jax.provenance", "verify", str(files["plain.png"])]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
        silent = subprocess.run([*command[:-1], "none.mp4"], check=False, stderr=full)
    assert done.returncode == silent.returncode == 2
    assert done.stderr == "error: Cannot write to standard output: No space left on device\n"


def test_json_of_a_video(files, run):
    read = json.loads(run(files["marked.mp4"], "--json")[1])
    assert read["credentials"]["state"] == "self-signed"
    assert read["watermark"]["identifier"] == "c0ffee42"
    assert read["watermark"]["log10_chance"] < -6


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [("x.webm", "libvpx-vp9", "yuv420p"), ("x.mov", "mpeg4", "yuv420p")],
)
def test_the_watermark_survives_another_format(files, tmp_path, name, codec, pixels):
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "30", "cpu-used": "8"})
        stream.bit_rate = 600_000
        stream.width, stream.height, stream.pix_fmt = 128, 128, pixels
        for frame in read_video(files["marked.mp4"], None):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    report = verify(path)
    assert report.credentials.state == credentials.NONE
    assert not report.fields
    assert report.watermark.payload == 0xC0FFEE42
    assert report.marked


def test_a_changed_video_is_broken_and_still_known(files, tmp_path, run):
    content = bytearray(files["marked.mp4"].read_bytes())
    content[content.find(b"mdat") + 3000] ^= 1
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    code, out, _ = run(path)
    assert code == 0  # the watermark says so
    assert "broken: " in out
    report = verify(path)._replace(watermark=None, fields={})
    assert report.lines()["result"].startswith("no mark of eamm_jax that is intact.")


def test_what_cannot_be_read(files, tmp_path, run):
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    huge = b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, b"IDAT" + zlib.compress(bytes(100)))
    )
    contents = {
        "text.mp4": (b"no video", "text file"),
        "cut.png": (files["marked.png"].read_bytes()[:300], "not one frame"),
        "cut.mp4": (files["marked.mp4"].read_bytes()[:300], "can be decoded"),
        "huge.png": (b"\x89PNG\r\n\x1a\n" + huge, "more than 89 million pixels"),
    }
    for name, (content, _) in contents.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe.mp4")
    reasons = {name: words for name, (_, words) in contents.items()}
    reasons |= {"pipe.mp4": "pipe", "none.mp4": "No such file", ".": "folder"}
    for name, words in reasons.items():
        code, out, err = run(tmp_path / name)
        assert code == 2, name
        assert not out
        assert re.fullmatch(rf"error: .*({words}).*\n", err), err


def test_what_others_wrote_is_printed_safely(files, tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(
        files["plain.png"].read_bytes()
        + b'<x:xmpmeta Iptc4xmpExt:AISystemUsed="evil\x1b[31m\n'
        + b"x" * 500
        + b'"></x:xmpmeta>'
    )
    line = verify(path).lines()["IPTC"]
    assert line.isprintable()
    assert len(line) < 200


def test_sound_alone_is_no_video(tmp_path):
    from eamm_jax import bundled

    with pytest.raises(UserError):
        verify(bundled.SPEECH)
