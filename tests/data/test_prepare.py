"""Raw videos become clips in the published layout, or it is said why not."""

from __future__ import annotations

import json
import re
import shutil
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
from PIL import Image

from data.check import audit
from data.layout import RECIPE_FILE
from data.prepare import clip as clip_module
from data.prepare import job
from data.prepare.__main__ import main
from data.prepare.clip import Recipe, Task, Tools, prepare
from data.prepare.names import (
    RawClip,
    Selection,
    guess_kind,
    name_clips,
    read_labels,
    videos_in,
)
from eamm_jax.constants import EMOTIONS, SAMPLE_RATE
from eamm_jax.errors import UserError
from eamm_jax.faces import detection, generic_face
from eamm_jax.faces.face import Face
from eamm_jax.faces.head_pose import LandmarkEstimator
from eamm_jax.faces.pose_geometry import Region, project
from eamm_jax.input_pipeline.clips import KINDS, ClipName
from eamm_jax.io.audio import write_wav
from eamm_jax.io.video_writer import video_writer
from tests.io.test_video import write_sizes

SIZE = 96
MAC = b"\0\5\x16\7" * 99
POSE = np.array([6.0, 4.0, 2.0, 4.7e-4, 61.0, 67.0])


def drawn_face(x: float, y: float, side: float) -> np.ndarray:
    """Landmarks of the generic face in a region around (x, y), the rest of them inside."""
    seen = Region(x - side / 2, y - side / 2, side).to_picture(project(generic_face.POINTS, POSE))
    landmarks = np.stack(
        [np.linspace(a, b, 68) for a, b in zip(seen.min(0), seen.max(0), strict=True)], 1
    )
    landmarks[generic_face.LANDMARKS] = seen
    return landmarks.astype(np.float32)


real_tools = clip_module.tools_for


class SpotFinder:
    """The face is a white square."""

    def find(self, image: np.ndarray) -> list[Face]:
        white = image[..., 1] > 150
        if not white.any():
            return []
        y, x = (n.mean() for n in np.nonzero(white))
        side = white.sum() ** 0.5
        return [Face((x - side, y - side, x + side, y + side), drawn_face(x, y, 4 * side))]


@pytest.fixture(autouse=True, scope="module")
def tools():
    """A finder of spots, and the landmarks of one in the middle as the template."""
    found = Tools(SpotFinder(), LandmarkEstimator(), drawn_face(128, 128, 230).astype(float))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_module, "tools_for", lambda recipe: found)
        yield


def picture(x: float, y: float = 60, seen: bool = True) -> np.ndarray:
    image = np.zeros((120, 160, 3), np.uint8)
    image[..., 2] = 90
    if seen:
        image[round(y) - 12 : round(y) + 12, round(x) - 12 : round(x) + 12] = 255
    return image


def write_video(path: Path, *, frames=36, rate=30, sound=1.2, hidden=()) -> Path:
    """A spot that wanders to the right, with a noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wav = None
    if sound:
        wav = path.with_suffix(".wav")
        noise = np.random.default_rng(0).normal(size=int(sound * SAMPLE_RATE))
        write_wav(wav, 0.1 * noise)
    with video_writer(path, 160, 120, rate, sound=wav) as video:
        for n in range(frames):
            video.write(picture(70 + n / 4, seen=n not in hidden))
    if wav:
        wav.unlink()
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("raw") / "good.mp4")


def write_mead(folder: Path, good: Path) -> Path:
    for name in ("M030_neutral_1_001", "M030_sad_3_001", "W009_neutral_1_004"):
        target = folder / "flat" / f"{name}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(good, target)
    return folder


@pytest.fixture
def mead(tmp_path, good) -> Path:
    """Three good videos of two people."""
    return write_mead(tmp_path / "raw", good)


class Prepared(NamedTuple):
    """Raw videos, what a Mac leaves among them, and the clips made of them."""

    raw: Path
    out: Path
    report: job.Report


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, good) -> Prepared:
    folder = tmp_path_factory.mktemp("prepared")
    raw = write_mead(folder / "raw", good)
    for path in list(raw.rglob("*.mp4")):
        path.with_name(f"._{path.name}").write_bytes(MAC)
    return Prepared(raw, folder / "out", run(raw, folder / "out"))


def run(source: Path, root: Path, **options) -> job.Report:
    return job.run(source, root, options.pop("recipe", Recipe(size=SIZE)), **options)


# --- Names ----------------------------------------------------------------------------------

NAMES = {
    "lipread_mp4/ABOUT/train/ABOUT_00001.mp4": ("lrw", "ABOUT/ABOUT_00001"),
    "lipread_mp4/ABOUT/val/ABOUT_00001.mp4": ("lrw", "it is in the split 'val'"),
    "lipread_mp4/ABOUT/train/OTHER_00001.mp4": ("lrw", "its name is not <WORD>"),
    "M003/video/front/happy/level_2/014.mp4": ("mead", "M003/happy_level_2_014"),
    "M003/video/left_30/happy/level_2/014.mp4": ("mead", "its view is 'left_30'"),
    "x/M030_sad_3_001.mp4": ("mead", "M030/sad_level_3_001"),
    "x/M030_gloomy_3_001.mp4": ("mead", "its name is neither"),
    "mp4/id10270/5r0dWxy17C8/00001.mp4": ("voxceleb", "id10270/5r0dWxy17C8_00001"),
    "mp4/5r0dWxy17C8/00001.mp4": ("voxceleb", "its name is not <id>"),
}


@pytest.mark.parametrize("path", NAMES)
def test_names_of_the_data_sets(path):
    kind, expected = NAMES[path]
    ((_, found),) = name_clips([Path("/raw", path)], kind, Selection())
    if isinstance(found, RawClip):
        assert str(found.name) == expected
        assert guess_kind(Path("/raw"), [Path("/raw", path)]) == kind
    else:
        assert found.startswith(expected)


ANY = {
    "anna/hello.mp4": "anna/hello",
    "anna/2024/hello there.mov": "anna/2024_hello there",
    "speech.mp4": "speech/speech",
    "M030_sad_3_001.mp4": "M030/sad_level_3_001",
    "anna/neu_2_007.mp4": "anna/neutral_level_1_007",
    "anna/video/happy/level_2/014.mp4": "anna/happy_level_2_014",
}


@pytest.mark.parametrize("path", ANY)
def test_any_names_are_relative_to_the_input(path):
    ((_, found),) = name_clips([Path("/raw", path)], "any", Selection(folder=Path("/raw")))
    assert isinstance(found, RawClip)
    assert str(found.name) == ANY[path]


def write_labels(folder: Path, *lines: str) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join(lines))
    return path


def test_labels_come_from_a_file(tmp_path):
    videos = [tmp_path / "anna" / "a.b.mp4", tmp_path / "clip.mp4", tmp_path / "other.mp4"]
    path = write_labels(
        tmp_path, "video,emotion,level,person", "anna/a.b.mp4,happy,2,", "clip,SUR,,bob"
    )
    labels = read_labels(path, tmp_path, videos)
    selection = Selection(folder=tmp_path, labels=labels)
    names = [str(raw.name) for _, raw in name_clips(videos, "any", selection)]
    happy, surprised, other = names
    assert re.fullmatch(r"anna/happy_level_2_\d+", happy)
    assert re.fullmatch(r"bob/surprised_level_1_\d+", surprised)
    assert other == "other/other"
    assert KINDS["mead"].emotion(ClipName(*happy.split("/"))) == EMOTIONS.index("happy")
    # A name does not depend on the other videos.
    ((_, alone),) = name_clips(videos[1:2], "any", selection)
    assert str(alone.name) == surprised


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["file,emotion", "clip,sad"], "must name the columns video and emotion"),
        (["video,emotion", "clip,sad", "no.mp4,sad"], "line 3: no video 'no.mp4'"),
        (["video,emotion", "clip,gloomy"], "line 2: 'gloomy' is none of the emotions angry"),
        (["video,emotion,level", "clip,sad,4"], "line 2: the level '4'"),
        (["\0"], "must name the columns"),
    ],
)
def test_wrong_labels_are_named_by_line(tmp_path, lines, words):
    with pytest.raises(UserError, match=words):
        read_labels(write_labels(tmp_path, *lines), tmp_path, [tmp_path / "clip.mp4"])


def test_own_videos_are_prepared(tmp_path, good):
    raw = tmp_path / "raw"
    for path in ("anna/one.mp4", "two.mp4"):
        (raw / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(good, raw / path)
    labels = write_labels(tmp_path, "video,emotion", "two.mp4,sad")
    report = run(raw, tmp_path / "out", kind="any", labels=labels)
    assert (report.kind, report.clips, report.skipped) == ("any", 2, {})
    assert set(report.videos.values()) == {"anna/one.mp4", "two.mp4"}
    assert (tmp_path / "out" / "fomm_crop" / "anna" / "one" / "0.png").is_file()
    write_labels(tmp_path, "video,emotion", "two.mp4,happy")
    with pytest.raises(UserError, match="use the same settings"):
        run(raw, tmp_path / "out", kind="any", labels=labels)
    with pytest.raises(UserError, match="labels are for videos of the kind 'any'"):
        run(raw, tmp_path / "other", kind="mead", labels=labels)


def test_two_videos_of_one_clip_are_not_mixed():
    paths = [Path("/raw/a/M030_sad_3_001.mp4"), Path("/raw/b/M030_sad_3_001.avi")]
    (_, first), (_, second) = name_clips(paths, "mead", Selection())
    assert isinstance(first, RawClip)
    assert "/raw/a/M030_sad_3_001.mp4" in str(second)


def test_the_sound_of_mead_stands_beside_its_videos(tmp_path):
    video = tmp_path / "M003" / "video" / "front" / "sad" / "level_1" / "002.mp4"
    sound = tmp_path / "M003" / "audio" / "sad" / "level_1" / "002.m4a"
    for path in (video, sound):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    ((_, raw),) = name_clips(videos_in(tmp_path), "mead", Selection())
    assert raw.sound == sound


def test_strange_names_are_refused(tmp_path):
    with pytest.raises(UserError, match="not a folder"):
        videos_in(tmp_path / "no")
    with pytest.raises(UserError, match="no video"):
        videos_in(tmp_path)
    (tmp_path / "holiday.mp4").write_bytes(b"x")
    with pytest.raises(UserError, match="match no known data set"):
        run(tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match=r"for example, holiday\.mp4: "):
        run(tmp_path, tmp_path / "out", kind="mead")


# --- Clips ----------------------------------------------------------------------------------


def test_a_data_set_is_complete_and_passes_the_audit(prepared):
    report = prepared.report
    assert (report.kind, report.clips, report.made, report.skipped) == ("mead", 3, 3, {})
    assert report.pose == "the landmarks"
    found = audit(str(prepared.out))
    assert found.problems == {}
    assert (found.good_clips, found.sizes) == (3, {SIZE: 3})
    # 36 frames at 30 a second are 30 at 25, and last as long as the sound.
    assert found.frames == pytest.approx(90, abs=3)
    assert not (prepared.out / ".unfinished").exists()


def test_all_frames_are_cropped_as_the_first(prepared):
    folder = prepared.out / "fomm_crop" / "M030" / "sad_level_3_001"
    frames = [np.asarray(Image.open(folder / f"{n}.png")) for n in range(29)]
    middles = np.array([np.nonzero(f[..., 1] > 150)[1].mean() for f in frames])
    # The face is where the template has it, and then moves on in its frame.
    assert middles[0] == pytest.approx(SIZE / 2, abs=1.5)
    zoom = (230 / 4) * SIZE / 256 / 24
    assert middles[25] - middles[0] == pytest.approx(zoom * 30 / 4, abs=1.5)
    assert (np.diff(middles) > -0.6).all()


@pytest.mark.parametrize("zoom", [2, 0.5])
def test_a_size_that_changes_on_the_way_changes_no_crop(tmp_path, zoom):
    folder = tmp_path / "raw" / "M003"
    video = folder / "video" / "front" / "sad" / "level_1" / "002.avi"
    sound = folder / "audio" / "sad" / "level_1" / "002.wav"
    for path in (video, sound):
        path.parent.mkdir(parents=True)
    later = Image.fromarray(picture(90)).resize((round(160 * zoom), round(120 * zoom)))
    write_sizes(video, [picture(90)] * 15 + [np.asarray(later)] * 15)
    write_wav(sound, 0.1 * np.random.default_rng(0).normal(size=round(1.2 * SAMPLE_RATE)))
    assert run(tmp_path / "raw", tmp_path / "out").clips == 1
    frames = tmp_path / "out" / "fomm_crop" / "M003" / "sad_level_1_002"
    spots = [np.asarray(Image.open(frames / f"{n}.png"))[..., 1] > 150 for n in range(30)]
    middles = [[axis.mean() for axis in np.nonzero(spot)] for spot in spots]
    np.testing.assert_allclose(middles, [[SIZE / 2] * 2] * 30, atol=1.5)
    sides = np.sqrt([spot.sum() for spot in spots])
    np.testing.assert_allclose(sides, sides[0], atol=2)  # edges blur where pixels grow


def test_poses_are_those_of_the_frames(prepared):
    poses = np.load(prepared.out / "fomm_pose_crop" / "M030" / "sad_level_3_001.npy")
    assert poses.dtype == np.float32
    # The face that is drawn has its own region; in it, it stands as it does in each frame.
    np.testing.assert_allclose(poses[:, :3], np.tile(POSE[:3], (len(poses), 1)), atol=1.0)
    np.testing.assert_allclose(poses[:, 6], -66.67)


BAD = {
    "M030_sad_1_001.mp4": ({"sound": 0}, "no sound track"),
    "M030_sad_1_002.mp4": ({"frames": 12}, "frames; 17 are needed"),
    "M030_sad_1_003.mp4": ({"hidden": range(30)}, "no face was found in its first 8 frames"),
    "M030_sad_1_004.mp4": ({"hidden": range(9, 30)}, "no face was found in 18 of its"),
}


def test_bad_videos_are_skipped_and_it_is_said_why(tmp_path, good):
    mead = tmp_path / "raw"
    (mead / "flat").mkdir(parents=True)
    shutil.copy(good, mead / "flat" / "M030_neutral_1_001.mp4")
    for name, (options, _) in BAD.items():
        write_video(mead / "bad" / name, **options)
    (mead / "bad" / "M030_sad_1_006.mp4").write_text("not a video")
    report = run(mead, tmp_path / "out")
    assert report.clips == 1
    assert len(report.skipped) == len(BAD) + 1
    for name, (_, words) in BAD.items():
        assert words in report.skipped[f"bad/{name}"], name
    assert "text file" in report.skipped["bad/M030_sad_1_006.mp4"]
    saved = json.loads((tmp_path / "out" / job.REPORT_FILE).read_text())
    assert saved["skipped"] == report.skipped
    assert audit(str(tmp_path / "out")).problems == {}


def test_short_gaps_are_bridged(tmp_path):
    write_video(tmp_path / "raw" / "M030_sad_1_001.mp4", hidden=range(20, 23))
    assert run(tmp_path / "raw", tmp_path / "out").clips == 1
    poses = np.load(tmp_path / "out" / "fomm_pose_crop" / "M030" / "sad_level_1_001.npy")
    assert np.isfinite(poses).all()


def write_flashing(path: Path, later: dict[str, float], gap: tuple[float, float]) -> Path:
    """A spot that turns grey while a tone sounds; sound or picture may begin later.

    Args:
        path: of the video.
        later: seconds that "sound" or "picture" begins after the file does.
        gap: seconds from and to which there are no packets of sound.
    """
    on = [(0.8, 1.1), (2.0, 2.3)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")
        packets = []
        for n in range(round(25 * later.get("picture", 0)), 75):
            image = picture(80)
            image[image > 200] = 180 if any(a <= n / 25 < b for a, b in on) else 255
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode(None)
        step = SAMPLE_RATE // 50
        for n in range(round(50 * later.get("sound", 0)), 150):
            time = n / 50 + np.arange(step) / SAMPLE_RATE
            if gap[0] <= n / 50 < gap[1]:
                continue
            loud = np.any([(time >= a) & (time < b) for a, b in on], axis=0)
            wave = (loud * 9000 + 30) * np.sin(2 * np.pi * 440 * time)
            frame = av.AudioFrame.from_ndarray(wave[None].astype(np.int16), "s16", "mono")
            frame.rate, frame.pts = SAMPLE_RATE, n * step
            frame.time_base = Fraction(1, SAMPLE_RATE)
            packets += audio.encode(frame)
        packets += audio.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("container", "later", "gap"),
    [
        ("mkv", {"picture": 0.5}, (0, 0)),
        ("mkv", {"sound": 0.3}, (1.4, 1.7)),
        # With an edit list; PCM in it has no gaps.
        ("mov", {"sound": 0.5}, (0, 0)),
        ("mov", {"picture": 0.5}, (0, 0)),
    ],
    ids=["picture later", "sound later and a gap", "mov sound", "mov picture"],
)
def test_frames_and_sound_of_a_clip_meet(tmp_path, container, later, gap):
    write_flashing(tmp_path / "raw" / f"M030_sad_1_001.{container}", later, gap)
    assert run(tmp_path / "raw", tmp_path / "out").clips == 1
    folder = tmp_path / "out" / "fomm_crop" / "M030" / "sad_level_1_001"
    count = len(list(folder.iterdir()))
    grey = [np.asarray(Image.open(folder / f"{n}.png")).max() < 220 for n in range(count)]
    windows = np.load(tmp_path / "out" / "MFCC" / "M030" / "sad_level_1_001.npy")
    # Log energy in the middle of a frame's window.
    loud = windows[:, 14, 0] > 0.5 * (windows[:, 14, 0].max() + np.median(windows[:, 14, 0]))
    seen, heard = (
        np.nonzero(np.diff(x[: min(count, len(loud))], prepend=0) == 1)[0]
        for x in (np.array(grey, int), loud.astype(int))
    )
    assert len(seen) == len(heard) == 2
    np.testing.assert_allclose(seen, heard, atol=1)


def test_a_video_that_fades_in_is_no_bad_video(tmp_path):
    write_video(tmp_path / "raw" / "M030_sad_1_001.mp4", hidden=range(3))
    assert run(tmp_path / "raw", tmp_path / "out").clips == 1


def test_what_a_mac_leaves_is_no_clip(prepared, tmp_path):
    shutil.copytree(prepared.out, tmp_path / "out")
    (tmp_path / "out" / "MFCC" / "M030" / "._sad_level_3_001.npy").write_bytes(MAC)
    assert audit(str(tmp_path / "out")).problems == {}


def test_clips_that_were_matched_by_count_are_noticed(prepared, tmp_path):
    out = shutil.copytree(prepared.out, tmp_path / "out")
    recipe = json.loads((out / RECIPE_FILE).read_text())
    del recipe["timing"]
    (out / RECIPE_FILE).write_text(json.dumps(recipe))
    assert "by count, not by time" in audit(str(out)).problems[RECIPE_FILE]
    with pytest.raises(UserError, match="timing presentation"):
        run(prepared.raw, out)


@pytest.mark.parametrize("seconds", [0.9, 5.0])
def test_sound_and_frames_are_cut_to_each_other(tmp_path, good, seconds):
    write_wav(tmp_path / "s.wav", 0.1 * np.random.default_rng(0).normal(size=int(seconds * 16e3)))
    raw = RawClip(ClipName("A", "neutral_level_1_003"), good, tmp_path / "s.wav")
    assert prepare(Task(str(tmp_path / "out"), raw, Recipe(size=SIZE))) is None
    found = audit(str(tmp_path / "out"), "mead")
    assert found.problems == {}
    assert found.frames == pytest.approx(min(30, 25 * seconds), abs=3)


def test_a_short_sound_is_no_clip(tmp_path, good):
    write_wav(tmp_path / "s.wav", 0.1 * np.random.default_rng(0).normal(size=8000))
    raw = RawClip(ClipName("A", "neutral_level_1_003"), good, tmp_path / "s.wav")
    task = Task(str(tmp_path / "out"), raw, Recipe(size=SIZE))
    assert prepare(task) == "its sound lasts 12 frames; 17 are needed"
    assert task.skipped.read_text() == "its sound lasts 12 frames; 17 are needed"
    assert not task.done


# --- Runs -----------------------------------------------------------------------------------


def test_a_run_that_was_stopped_goes_on(mead, tmp_path, monkeypatch):
    seen = []

    def stopped(task):
        seen.append(str(task.raw.name))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return prepare(task)

    monkeypatch.setattr(job, "prepare", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(mead, tmp_path / "out")
    before = next((tmp_path / "out" / "fomm_crop").glob("*/*/0.png")).stat().st_mtime_ns
    report = run(mead, tmp_path / "out")
    assert (report.clips, report.made) == (3, 2)
    assert len(set(seen)) == 3
    assert seen.count(seen[0]) == 1
    done = tmp_path / "out" / "fomm_crop" / Path(seen[0]) / "0.png"
    assert done.stat().st_mtime_ns == before


def test_a_clip_that_fails_midway_leaves_no_frames(mead, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(clip_module, "fill_gaps", killed)
    with pytest.raises(KeyboardInterrupt):
        run(mead, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.png"))


def test_skipped_videos_are_tried_again_when_asked(prepared, good, tmp_path):
    raw = shutil.copytree(prepared.raw, tmp_path / "raw")
    out = shutil.copytree(prepared.out, tmp_path / "out")
    bad = write_video(raw / "M030_happy_1_001.mp4", sound=0)
    assert run(raw, out).made == 0
    shutil.copy(good, bad)
    again = run(raw, out)
    assert (again.made, len(again.skipped)) == (0, 1)
    retried = run(raw, out, retry=True)
    assert (retried.made, retried.clips, retried.skipped) == (1, 4, {})


def test_clips_of_another_recipe_are_not_mixed(prepared):
    with pytest.raises(UserError, match="prepared with kind mead, size 96"):
        run(prepared.raw, prepared.out, recipe=Recipe(size=64))


def test_the_command_line_reports(mead, tmp_path, capsys):
    write_video(mead / "M030_happy_1_001.mp4", sound=0)
    flags = ["--input", str(mead), "--output", str(tmp_path / "out"), "--size", str(SIZE)]
    with pytest.raises(SystemExit) as ended:
        main([*flags, "--workers", "1"])
    out, err = capsys.readouterr()
    assert ended.value.code == 0
    assert "3 clips of mead (3 new), poses by the landmarks, skipped videos: 1" in out
    assert "skipped M030_happy_1_001.mp4:" in err
    for wrong, words in (
        (["--workers", "0"], "--workers: 0 is out of range"),
        (["--size", "7"], "--size: 7 is out of range; give a whole number from 64 to 512"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*flags, *wrong])
        assert ended.value.code == 2
        assert words in capsys.readouterr().err


def test_beam_makes_the_same_clips(mead, tmp_path):
    pytest.importorskip("apache_beam", reason="needs eamm_jax[beam]")
    write_video(mead / "M030_happy_1_001.mp4", sound=0)
    own, beams = (
        run(mead, tmp_path / name, beam_runner=runner)
        for name, runner in (("own", None), ("beam", "DirectRunner"))
    )
    assert own.skipped == beams.skipped
    assert beams.made == 3
    for path in (tmp_path / "own").rglob("*.*"):
        other = tmp_path / "beam" / path.relative_to(tmp_path / "own")
        if path.suffix in (".png", ".npy"):
            assert other.read_bytes() == path.read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(not detection.is_installed(), reason="needs the extra 'faces'")
def test_a_real_video(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(clip_module, "tools_for", real_tools)
    clip_module.tools_for.cache_clear()
    source = shared / "media" / "raw_video" / "M030_sad_3_001.mp4"
    template = str(shared / "media" / "alignment_landmarks.npy")
    name = ClipName("M030", "sad_level_3_001")
    task = Task(str(tmp_path), RawClip(name, source), Recipe(template=template))
    assert prepare(task) is None
    poses = np.load(tmp_path / "fomm_pose_crop" / "M030" / "sad_level_3_001.npy")
    windows = np.load(tmp_path / "MFCC" / "M030" / "sad_level_3_001.npy")
    frames = list((tmp_path / "fomm_crop" / "M030" / "sad_level_3_001").iterdir())
    published = {
        what: np.load(shared / "media" / "lrw_clip" / f"{what}.npy") for what in ("pose", "mfcc")
    }
    assert len(frames) == len(poses) > 80
    assert abs(len(windows) - len(frames)) <= 2
    assert poses.shape[1:] == published["pose"].shape[1:]
    assert windows.shape[1:] == published["mfcc"].shape[1:]
    # Of the scale of published ones: a head thrown back, that moves a little.
    assert np.abs(poses[:, 3] / published["pose"][:, 3].mean() - 1).max() < 0.2
    assert np.abs(poses[:, 4:6] - published["pose"][:, 4:6].mean(0)).max() < 25
    assert np.abs(poses[:, 0]).max() < 12
    assert np.abs(np.diff(poses[:, :3], axis=0)).max() < 8
    assert 0.5 < windows[..., 1:].std() / published["mfcc"][..., 1:].std() < 2
