"""The synthetic data set on disk and on the fly: layout, truth, repeatability, resuming."""

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data.builder import Packing
from data.synthetic import album, writer
from data.synthetic.__main__ import main
from data.synthetic.camera import REST_SCALE
from data.synthetic.clip import record_clip
from data.synthetic.controls import Control
from data.synthetic.folder import SyntheticFolder
from data.synthetic.heads.figure import HALF_FRAME, stance
from data.synthetic.renderer import Renderer
from data.synthetic.script import Take, takes_of
from data.synthetic.synthetic_dataset_builder import Builder
from eamm_jax.errors import UserError
from eamm_jax.input_pipeline import make_dataset
from eamm_jax.input_pipeline.clips import KINDS, Tracks, decode_frame
from eamm_jax.input_pipeline.examples import ExampleReader
from eamm_jax.input_pipeline.published import PublishedFolder
from eamm_jax.input_pipeline.sources import Source, open_folder
from eamm_jax.io.audio import read_audio
from eamm_jax.io.parallel import run_parallel
from eamm_jax.types import Region
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs the extra 'speech'"
)

SEED, SIZE = 4, 64
TAKES = [Take(0, "neutral", 1, 1), Take(0, "sad", 2, 1)]
NAMES = ["neutral_level_1_001", "sad_level_2_001"]


def jobs_in(root: Path, renderer: Renderer) -> list[writer.Job]:
    recipe = writer.Recipe(SEED, SIZE)
    return [writer.Job(str(root), recipe, take.number, take, renderer) for take in TAKES]


def content(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def root(renderer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    writer.begin(folder, writer.Recipe(SEED, SIZE))
    for job in jobs_in(folder, renderer):
        writer.write(job)
    return folder


def test_the_pipeline_reads_what_was_written(root):
    folder = PublishedFolder(root, Tracks(motion=True))
    assert [n.clip for n in folder.names] == NAMES
    assert {n.identity for n in folder.names} == {"s00000"}
    for index in range(2):
        clip = folder.open(index)
        pose, windows, length = clip.motion()
        assert length == clip.num_frames == len(pose) == len(windows)
    reader = ExampleReader(folder, KINDS["synthetic"], [[0], [1]], SIZE)
    example = reader.read(1, seed=0)
    assert example.data.frames.shape == (16, SIZE, SIZE, 3)
    assert example.data.emotion == 6


def test_held_frames_repeat_the_last_rendered_one_with_the_truth_of_every_frame(
    root, renderer, tmp_path
):
    recipe = writer.Recipe(SEED, SIZE, hold=3)
    job = writer.Job(str(tmp_path), recipe, TAKES[0].number, TAKES[0], renderer)
    count = writer.write(job)
    every, held = content(root), content(tmp_path)
    frames = [f"fomm_crop/s00000/{NAMES[0]}/{n}.png" for n in range(count)]
    assert count % 3  # the last one is not held to its end
    for n, name in enumerate(frames):
        assert held.pop(name) == every[frames[n - n % 3]]
    assert held
    assert all(every[name] == value for name, value in held.items())


def test_the_truth_belongs_to_the_frames(root, renderer):
    clip = record_clip(SEED, TAKES[1], renderer)
    at = Path("s00000", NAMES[1])
    frames = sorted((root / "fomm_crop" / at).iterdir(), key=lambda p: int(p.stem))
    assert [p.name for p in frames] == [f"{n}.png" for n in range(clip.num_frames)]
    frame = decode_frame(frames[7].read_bytes())
    np.testing.assert_array_equal(frame, clip.frame(7, SIZE))

    def track(folder: str) -> np.ndarray:
        return np.load(root / folder / f"{at}.npy", allow_pickle=False)

    np.testing.assert_array_equal(track("landmarks"), clip.landmarks())
    np.testing.assert_array_equal(track("mouth"), clip.mouth_opening())
    np.testing.assert_array_equal(track("controls"), clip.acting.performance)
    np.testing.assert_array_equal(track("fomm_pose_crop"), clip.pose())
    np.testing.assert_array_equal(track("MFCC"), clip.mfcc())
    sound = read_audio(root / "sound" / f"{at}.wav")
    np.testing.assert_allclose(sound, clip.sound, atol=1 / 32000)
    facts = json.loads((root / "facts" / f"{at}.json").read_text())
    assert (facts["emotion"], facts["label"], facts["level"]) == ("sad", 6, 2)
    assert facts["text"] == clip.script.text
    assert len(facts["strength"]) == clip.num_frames
    assert [p[0] for p in facts["phonemes"]] == [p.symbol for p in clip.phonemes]
    recipe = json.loads((root / "synthetic.json").read_text())
    assert recipe["controls"][Control.JAW_OPEN] == "jaw_open"


def test_on_the_fly_is_what_was_written(root, renderer):
    written = PublishedFolder(root, Tracks(motion=True))
    rendered = SyntheticFolder(2, SEED, size=SIZE, renderer=renderer)
    assert len(rendered) == len(rendered.names) == 2 * len(takes_of(0, 1))
    assert rendered.names == sorted(rendered.names)
    for index, name in enumerate(written.names):
        one, other = written.open(index), rendered.open(rendered.names.index(name))
        assert one.num_frames == other.num_frames
        np.testing.assert_array_equal(one.pose, other.pose)
        np.testing.assert_array_equal(one.windows, other.windows)
        frames = [decode_frame(clip.encoded_frame(11)) for clip in (one, other)]
        np.testing.assert_array_equal(*frames)


def test_examples_are_cut_from_clips_on_the_fly(renderer):
    folder = SyntheticFolder(1, SEED, size=SIZE, first=3, renderer=renderer)
    assert folder.names[0].identity == "s00003"
    readers = [
        ExampleReader(folder, KINDS["synthetic"], [[n] for n in range(24)], SIZE, batch_of)
        for batch_of in ("pairs", "clips")
    ]
    pair, example = (reader.read(2, seed=5).data for reader in readers)
    assert pair.source.shape == (SIZE, SIZE, 3)
    assert example.audio.shape == (16, 28, 12)
    again = readers[1].read(2, seed=5).data
    np.testing.assert_array_equal(again.frames, example.frames)
    np.testing.assert_array_equal(again.source, example.source)


def test_damaged_or_unfinished_clips_are_written_again(root, renderer, tmp_path):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    first, second = jobs_in(tmp_path, renderer)
    assert first.frames.is_dir()
    before = content(tmp_path)
    # As after a stop in the middle of the second clip's frames.
    unfinished = tmp_path / ".unfinished" / "s00000" / NAMES[1]
    unfinished.mkdir(parents=True)
    (unfinished / "0.png").write_bytes(b"half a pict")
    shutil.rmtree(second.frames)
    (tmp_path / "MFCC" / "s00000" / f"{NAMES[1]}.npy").unlink()
    writer.begin(tmp_path, writer.Recipe(SEED, SIZE))
    writer.write(second)
    assert content(tmp_path) == before


@pytest.mark.slow
def test_bytes_do_not_depend_on_workers(root, renderer, tmp_path):
    jobs = jobs_in(tmp_path, renderer)[::-1]
    done = list(run_parallel(writer.write, jobs, workers=2))
    assert len(done) == 2
    expected = content(root)
    del expected["synthetic.json"]
    assert content(tmp_path) == expected


def test_another_recipe_is_refused(root):
    with pytest.raises(UserError, match=r"seed 4, size 64, takes 1.*not from .*seed 5, size 64"):
        writer.begin(root, writer.Recipe(5, SIZE))
    writer.begin(root, writer.Recipe(SEED, SIZE))


def test_a_damaged_recipe_is_told(tmp_path):
    (tmp_path / "synthetic.json").write_text("{")
    with pytest.raises(UserError, match=r"synthetic\.json is damaged"):
        writer.begin(tmp_path, writer.Recipe(SEED, SIZE))


def test_more_identities_keep_those_there_are():
    one, more = (writer.plan("x", writer.Recipe(0, 64, 2), range(n)) for n in (1, 3))
    assert more[: len(one)] == one
    assert len(more) == 3 * len(one) == 3 * 48


def test_main_renders_what_is_missing(monkeypatch, root, small_head, tmp_path, capsys):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    rendered = []
    monkeypatch.setattr(writer, "write", lambda job: rendered.append(job) or 7)
    flags = [f"--output={tmp_path}", f"--head_model={small_head}", "--size=64", "--workers=1"]
    with pytest.raises(SystemExit) as end:
        main([*flags, "--identities=1", "--seed=4"])
    assert end.value.code == 0
    assert len(rendered) == 24 - 2
    assert "24 clips of 1 people, 154 frames rendered now" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--identities=0"], "--identities: 0 is out of range; give a whole number from 1"),
        (["--size=48"], "--size: 48 is out of range; give a whole number from 64 to 512"),
        (["--workers=0"], "--workers: 0 is out of range"),
        (["--seed=-1"], "--seed: -1 is out of range"),
    ],
)
def test_wrong_flags_are_told_in_one_line(flags, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main([f"--output={tmp_path}", "--identities=1", "--seed=0", *flags])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_missing_speech_is_told_before_anything_is_made(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as end:
        main([f"--output={tmp_path / 'new'}", "--identities=1", "--seed=0"])
    assert end.value.code == 2
    assert "eamm_jax[speech]" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_full_disk_is_told_in_words(monkeypatch, renderer, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "encode_png", full)
    job = jobs_in(tmp_path, renderer)[0]
    with pytest.raises(UserError, match="no space left on device"):
        writer.write(job)
    assert not job.frames.exists()


def test_packed_is_what_was_written(root, tmp_path):
    assert Builder.name == "synthetic"
    packing = Packing(str(root), workers=1)
    Builder(data_dir=str(tmp_path), packing=packing).download_and_prepare()
    packed, plain = (
        open_folder(Source("synthetic", str(path)), Tracks(motion=True))
        for path in (tmp_path, root)
    )
    assert packed.names == plain.names
    one, other = packed.open(1), plain.open(1)
    assert one.encoded_frame(3) == other.encoded_frame(3)
    np.testing.assert_array_equal(one.pose, other.pose)


# Albums.


@pytest.fixture(scope="module")
def album_root(renderer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("album")
    recipe = writer.Recipe(SEED, SIZE, stills=9)
    writer.begin(folder, recipe)
    (job,) = writer.plan(folder, recipe, [3], renderer)
    assert writer.write(job) == 9
    return folder


def test_each_sitting_of_an_album_has_a_neutral_face_and_other_moods(album_root):
    facts = [json.loads(p.read_text()) for p in sorted((album_root / "facts/s00003").iterdir())]
    assert [len(of_one["strength"]) for of_one in facts] == [5, 4]
    for of_one in facts:
        first, *others = of_one["emotion"]
        assert first == "neutral"
        assert "neutral" not in others
        assert len(set(others)) > 1


@pytest.mark.parametrize("count", [1, 2, 3, 13, 14, 40])
def test_albums_of_any_size_have_pairs_from_each_sitting(count, renderer):
    sizes = [len(stills) for stills in album.stills(SEED, 3, count, renderer)]
    assert sum(sizes) == count
    assert min(sizes) >= min(count, 2)
    assert len(sizes) == max(1, count // 4)


def test_an_albums_truth_is_that_of_the_sittings(album_root, renderer):
    folder = PublishedFolder(album_root, Tracks(motion=True, truth=True))
    sittings = album.stills(SEED, 3, 9, renderer)
    assert [name.clip for name in folder.names] == ["stills_001", "stills_002"]
    for index, stills in enumerate(sittings):
        found = folder.open(index)
        assert found.num_frames == len(stills)
        flows = album.flows(stills, SIZE).astype(np.float32)
        for n, still in enumerate(stills):
            actor, moment = still.clip.actor, (still.row, still.held)
            truth = found.truth(n)
            np.testing.assert_array_equal(truth.points[:68], actor.landmarks(*moment))
            np.testing.assert_array_equal(truth.points[68:], actor.pupils(*moment))
            np.testing.assert_array_equal(truth.pose, np.float32(still.held))
            np.testing.assert_array_equal(found.windows[n], still.clip.mfcc()[still.frame])
            np.testing.assert_array_equal(truth.regions, still.shown(SIZE).regions)
            assert truth.flow is None
            flow, person_seen = found.truth(n, 0).flow, truth.regions != Region.BACKDROP
            np.testing.assert_array_equal(flow[person_seen], flows[n, 0][person_seen])
            assert np.isfinite(flow).mean() > 0.1
            assert np.isnan(flow[~person_seen]).all()
            picture = decode_frame(found.encoded_frame(n))
            np.testing.assert_array_equal(picture, actor.picture(*moment, SIZE, still.frame))


def test_people_of_albums_turn_on_their_necks_which_stay_or_lean_far(renderer):
    turned, leant = [], []
    for stills in (one for n in range(4) for one in album.stills(SEED, n, 14, renderer)):
        # A person who comes nearer is larger about the middle of the frame.
        necks = [stance(still.held).neck[:2] / still.held.scale for still in stills]
        leant.append(np.ptp(necks, axis=0).max() * REST_SCALE / HALF_FRAME)
        recorded = np.array([pose.roll for pose in stills[0].clip.acting.poses])
        turned.append(max(np.abs(still.held.roll - recorded).min() for still in stills))
    seated = [far for far in leant if far < 1e-6]
    assert 0 < len(seated) < len(leant)
    assert max(leant) > 0.3
    assert 0 < sum(far == 0 for far in turned) < len(turned)
    assert max(turned) > 8


def test_pupils_lie_between_the_lids_of_open_eyes(renderer):
    clip = record_clip(SEED, takes_of(3, 1)[0], renderer)
    points = clip.landmarks()
    for eye, pupil in ((slice(36, 42), 0), (slice(42, 48), 1)):
        corners = points[:, eye][:, [0, 3], 0]
        assert (clip.pupils()[:, pupil, 0] > corners.min(axis=1)).all()
        assert (clip.pupils()[:, pupil, 0] < corners.max(axis=1)).all()
        apart = clip.pupils()[:, pupil] - points[:, eye].mean(axis=1)
        assert np.abs(apart).max() < 0.1


def test_pairs_come_with_the_truth_of_their_frames(album_root):
    source = Source("synthetic", str(album_root))
    batches = make_dataset(
        [source],
        batch_size=4,
        size=SIZE,
        batch_of="pairs",
        validation_fraction=0.0,
        per_identity=True,
        with_truth=True,
        threads=1,
    )
    pairs, _ = next(batches)
    batches.close()
    folder = PublishedFolder(album_root, Tracks(truth=True))
    clips = [folder.open(index) for index in range(2)]
    frames = {
        decode_frame(clip.encoded_frame(n)).tobytes(): (index, n)
        for index, clip in enumerate(clips)
        for n in range(clip.num_frames)
    }
    for row in range(4):
        sittings, numbers = set(), []
        for images, truths in (
            (pairs.source, pairs.source_truth),
            (pairs.driving, pairs.driving_truth),
        ):
            sitting, n = frames[images[row].tobytes()]
            truth = clips[sitting].truth(n)
            sittings.add(sitting)
            np.testing.assert_array_equal(truths.points[row], truth.points)
            np.testing.assert_array_equal(truths.pose[row], truth.pose)
            np.testing.assert_array_equal(truths.regions[row], truth.regions)
            numbers.append(n)
        assert len(sittings) == 1
        flow = clips[sitting].truth(numbers[1], numbers[0]).flow
        np.testing.assert_array_equal(pairs.driving_truth.flow[row], flow)
        assert not np.array_equal(pairs.source[row], pairs.driving[row])


def test_truth_that_is_not_there_is_asked_for_in_words(root, tmp_path):
    shutil.copytree(root, tmp_path / "set", ignore=shutil.ignore_patterns("pupils"))
    with pytest.raises(UserError, match=r"looked for .*pupils"):
        PublishedFolder(tmp_path / "set", Tracks(truth=True))


@pytest.mark.slow
def test_sigterm_ends_the_rendering_soon(small_head, tmp_path):
    flags = ["--identities=500", "--seed=0", "--size=64", "--workers=2"]
    flags += ["--stills=4", f"--head_model={small_head}"]
    command = [sys.executable, "-m", "data.synthetic", "--output", str(tmp_path), *flags]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        frames = tmp_path / "fomm_crop"
        deadline = time.monotonic() + 120
        while not frames.is_dir() and time.monotonic() < deadline:
            time.sleep(0.2)
        process.terminate()
        assert process.wait(timeout=60) == 143
    assert 0 < len(list(frames.glob("*/*"))) < 40
