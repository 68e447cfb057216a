"""Reading the published folder layout."""

import gc
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from eamm_jax.errors import UserError
from eamm_jax.input_pipeline.clips import BadClip, ClipName, Tracks, decode_frame, decode_frames
from eamm_jax.input_pipeline.published import PublishedFolder
from tests.published_layout import lay_out_lrw_clip, write_clip, write_lrw


@pytest.fixture
def root(tmp_path):
    return write_lrw(tmp_path / "lrw", clips=3, frames=18, size=16)


def test_clips_are_listed_in_order(root):
    folder = PublishedFolder(root, Tracks(motion=True))
    assert folder.names == [
        ClipName("ABOUT", "ABOUT_00000"),
        ClipName("ABOUT", "ABOUT_00002"),
        ClipName("WORLD", "WORLD_00001"),
    ]


def test_a_clip_reads_what_was_written(root):
    clip = PublishedFolder(root, Tracks(motion=True)).open(2)
    assert clip.num_frames == 18
    assert decode_frame(clip.encoded_frame(7))[0, 0].tolist() == [7, 7, 7]
    pose, windows, length = clip.motion()
    assert length == 18
    np.testing.assert_array_equal(pose[:, 0], np.arange(18) + 0.5)
    np.testing.assert_array_equal(windows[:, 0, 1], np.arange(18) + 0.5)
    assert pose.dtype == windows.dtype == np.float32


def test_tracks_are_read_in_many_threads(root):
    # Where the collector lets another thread run while NumPy reads a header, Python 3.11.7
    # mixes the two up.
    folder = PublishedFolder(root, Tracks(motion=True))
    let_others_run = [lambda *_: time.sleep(0)]
    thresholds = gc.get_threshold()
    gc.callbacks.extend(let_others_run)
    gc.set_threshold(20)
    try:
        with ThreadPoolExecutor(8) as pool:
            clips = list(pool.map(folder.open, [0, 1, 2] * 500))
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(let_others_run[0])
    assert all(clip.pose.shape == (18, 7) for clip in clips)


def test_the_real_clip_is_good(shared, tmp_path):
    # It has 29 frames and poses, but 30 windows of sound.
    folder = PublishedFolder(lay_out_lrw_clip(shared, tmp_path / "lrw"), Tracks(motion=True))
    assert folder.open(0).motion()[2] == 29


def test_frames_suffice_without_motion(root):
    shutil.rmtree(root / "MFCC")
    shutil.rmtree(root / "fomm_pose_crop")
    clip = PublishedFolder(root, Tracks()).open(0)
    assert clip.pose is None
    assert clip.windows is None


def test_other_files_are_ignored(root):
    (root / "fomm_crop" / "ABOUT" / "ABOUT_00000" / "Thumbs.db").touch()
    (root / "fomm_crop" / ".cache").mkdir()
    (root / "fomm_crop" / "readme.txt").touch()
    folder = PublishedFolder(root, Tracks(motion=True))
    assert len(folder.names) == 3
    assert folder.open(0).num_frames == 18


# A root that is not one.


def test_files_of_macos_are_ignored(root):
    expected = [PublishedFolder(root, Tracks(motion=True)).open(index) for index in range(3)]
    for path in [path for path in root.rglob("*") if path.parent != root]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    (root / "fomm_crop" / ".DS_Store").touch()
    folder = PublishedFolder(root, Tracks(motion=True))
    assert len(folder.names) == 3
    for index, clip in enumerate(expected):
        found = folder.open(index)
        assert found.num_frames == clip.num_frames
        np.testing.assert_array_equal(found.windows, clip.windows)


def test_a_missing_root_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"looked for .*nope/fomm_crop.*there is no such folder"):
        PublishedFolder(tmp_path / "nope", Tracks(motion=True))


def test_a_root_with_other_folders_is_an_error(tmp_path):
    for name in ("Image", "Pose", "MFCC"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError) as raised:
        PublishedFolder(tmp_path, Tracks(motion=True))
    message = str(raised.value)
    assert f"looked for {tmp_path}/fomm_crop and {tmp_path}/fomm_pose_crop, but" in message
    assert "found Image, MFCC, Pose" in message
    assert "\n" not in message


def test_an_empty_root_is_an_error(tmp_path):
    (tmp_path / "fomm_crop" / "someone").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds no clips: looked for .*<clip>/0.png"):
        PublishedFolder(tmp_path, Tracks())


# Bad clips.


def remove(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[:60])


def pickle_instead(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def text_instead(path):
    np.save(path, np.array(["a", "b"]))


@pytest.mark.parametrize(
    ("file", "damage", "fault"),
    [
        ("fomm_crop/ABOUT/ABOUT_00000/4.png", remove, "frame 4 is missing"),
        ("fomm_crop/ABOUT/ABOUT_00000/0.png", remove, "frame 0 is missing"),
        (
            "fomm_crop/ABOUT/ABOUT_00000/17.png",
            remove,
            r"poses have shape \(18, 7\), not \(17, 7\)",
        ),
        ("fomm_pose_crop/ABOUT/ABOUT_00000.npy", remove, "00000.npy is missing"),
        ("MFCC/ABOUT/ABOUT_00000.npy", remove, "00000.npy is missing"),
        ("fomm_pose_crop/ABOUT/ABOUT_00000.npy", truncate, "not a readable .npy"),
        ("MFCC/ABOUT/ABOUT_00000.npy", pickle_instead, "not a readable .npy"),
        ("MFCC/ABOUT/ABOUT_00000.npy", text_instead, "not a readable .npy"),
    ],
)
def test_damaged_clips_are_named(root, file, damage, fault):
    damage(root / file)
    folder = PublishedFolder(root, Tracks(motion=True))
    with pytest.raises(BadClip, match=fault) as raised:
        folder.open(0).motion()
    assert "\n" not in str(raised.value)
    folder.open(1).motion()


def test_misnumbered_frames_are_named(root):
    frames = root / "fomm_crop" / "ABOUT" / "ABOUT_00000"
    (frames / "3.png").rename(frames / "03.png")
    with pytest.raises(BadClip, match=r"frame 03.png is not numbered"):
        PublishedFolder(root, Tracks(motion=True)).open(0)


def test_many_missing_frames_are_counted(root):
    for n in (3, 5, 6):
        (root / "fomm_crop" / "ABOUT" / "ABOUT_00000" / f"{n}.png").unlink()
    with pytest.raises(BadClip, match=r"frame 3 and 2 more are missing \(17.png is the last\)"):
        PublishedFolder(root, Tracks(motion=True)).open(0)


def test_a_clip_without_frames(root):
    write_clip(root, "WORLD", "WORLD_00009", frames=1)
    (root / "fomm_crop" / "WORLD" / "WORLD_00009" / "0.png").unlink()
    with pytest.raises(BadClip, match=r"it has no frames 0.png, 1.png, ...$"):
        PublishedFolder(root, Tracks(motion=True)).open(3)


@pytest.mark.parametrize("ending", ["PNG", "jpg", "JPEG"])
def test_frames_may_be_jpeg_and_named_in_capitals(root, ending):
    clip = root / "fomm_crop" / "ABOUT" / "ABOUT_00000"
    for frame in sorted(clip.glob("*.png")):
        with Image.open(frame) as image:
            image.save(clip / f"{frame.stem}.{ending}")
        frame.unlink()
    opened = PublishedFolder(root, Tracks(motion=True)).open(0)
    assert opened.num_frames == 18
    assert {frame.shape for frame in decode_frames(opened, range(18), 16)} == {(16, 16, 3)}
    Image.new("RGB", (16, 16)).save(clip / "3.bmp.png")
    with pytest.raises(BadClip, match=r"frame 3\.bmp\.png is not numbered"):
        PublishedFolder(root, Tracks(motion=True)).open(0)


def test_frames_that_are_there_twice_or_of_another_kind_are_named(root):
    clip = root / "fomm_crop" / "ABOUT" / "ABOUT_00000"
    Image.new("RGB", (16, 16)).save(clip / "3.jpg")
    with pytest.raises(BadClip, match=r"frame 3 is there twice, as 3\.jpg and 3\.png"):
        PublishedFolder(root, Tracks(motion=True)).open(0)
    write_clip(root, "WORLD", "WORLD_00009", frames=1)
    frame = root / "fomm_crop" / "WORLD" / "WORLD_00009" / "0.png"
    frame.rename(frame.with_suffix(".bmp"))
    with pytest.raises(BadClip, match=r"it has no frames 0.png, 1.png, ..., but found 0\.bmp"):
        PublishedFolder(root, Tracks(motion=True)).open(3)
