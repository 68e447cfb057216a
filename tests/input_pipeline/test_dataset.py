"""Batches: windows, order, shards, splits, mixtures, resuming, bad clips."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from eamm_jax.constants import AUDIO_WINDOW, CLIP_FRAMES, EMOTIONS
from eamm_jax.errors import UserError
from eamm_jax.input_pipeline import Source, describe_skipped, make_dataset, parse_sources
from eamm_jax.ops.smoothing import TRAINING_POSE_FILTER, smooth_track
from eamm_jax.types import Clips, Pairs
from tests.published_layout import (
    lay_out_lrw_clip,
    write_clip,
    write_lrw,
    write_mead,
    write_voxceleb,
)

SIZE = 16


@pytest.fixture(scope="module")
def lrw(tmp_path_factory) -> Path:
    return write_lrw(tmp_path_factory.mktemp("lrw"), clips=7, size=SIZE)


@pytest.fixture(scope="module")
def mead(tmp_path_factory) -> Path:
    return write_mead(tmp_path_factory.mktemp("mead"), frames=40, size=SIZE)


@pytest.fixture(scope="module")
def voxceleb(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("voxceleb")
    return write_voxceleb(root, people=4, clips=3, frames=30, size=SIZE)


def dataset(*sources: tuple[str, Path] | Source, **options):
    sources = [s if isinstance(s, Source) else Source(s[0], str(s[1])) for s in sources]
    settings = {"batch_size": 2, "size": SIZE, "split": "all", "threads": 1} | options
    return make_dataset(sources, **settings)


def take(batches, count: int) -> list:
    return [next(batches) for _ in range(count)]


def names_of(batches: list) -> list[str]:
    return [name for _, names in batches for name in names]


def assert_same(first: list, second: list) -> None:
    assert names_of(first) == names_of(second)
    for (data, _), (other, _) in zip(first, second, strict=True):
        for leaf, other_leaf in zip(data, other, strict=True):
            np.testing.assert_array_equal(leaf, other_leaf)


def frame_numbers(images: np.ndarray) -> np.ndarray:
    """Which frame of its clip each image is (see `published_layout.write_clip`)."""
    return images[..., 0, 0, 0].astype(int)


# What is in a batch.


def test_clips_have_the_shapes_and_types_that_steps_expect(lrw):
    clips, names = next(dataset(("lrw", lrw), batch_size=3))
    assert isinstance(clips, Clips)
    assert len(names) == 3
    assert all(name.startswith("lrw:") for name in names)
    shapes = {
        "source": ((3, SIZE, SIZE, 3), np.uint8),
        "frames": ((3, CLIP_FRAMES, SIZE, SIZE, 3), np.uint8),
        "audio": ((3, CLIP_FRAMES, *AUDIO_WINDOW), np.float32),
        "pose": ((3, CLIP_FRAMES, 6), np.float32),
        "emotion": ((3,), np.int32),
    }
    for field, (shape, dtype) in shapes.items():
        leaf = getattr(clips, field)
        assert (leaf.shape, leaf.dtype) == (shape, dtype), field


def test_a_window_has_its_own_audio_and_pose(lrw):
    starts = set()
    for clips, _ in take(dataset(("lrw", lrw)), 30):
        sources = frame_numbers(clips.source)
        starts |= set(sources.tolist())
        expected = sources[:, None] + 1 + np.arange(CLIP_FRAMES)
        np.testing.assert_array_equal(frame_numbers(clips.frames), expected)
        # Column 0 of the sound is dropped, so that column 1 has come first.
        np.testing.assert_array_equal(clips.audio[:, :, 0, 0], expected + 0.5)
        np.testing.assert_array_equal(clips.pose[:, :, 0], expected + 0.5)
        assert (clips.emotion == -1).all()
    assert starts == {3, 4, 5, 6, 7}


def test_frame_stride_keeps_all_audio_and_the_last_frame_of_each_stride(lrw, mead):
    whole, sparse = dataset(("lrw", lrw)), dataset(("lrw", lrw), frame_stride=4)
    for (clips, names), (fewer, same_names) in zip(take(whole, 5), take(sparse, 5), strict=True):
        assert names == same_names
        np.testing.assert_array_equal(fewer.frames, clips.frames[:, 3::4])
        np.testing.assert_array_equal(fewer.source, clips.source)
        np.testing.assert_array_equal(fewer.audio, clips.audio)
    with pytest.raises(UserError, match="frame_stride is 3"):
        dataset(("mead", mead), frame_stride=3)


def test_voxceleb_clips_start_anywhere_but_at_the_ends(voxceleb):
    batches = take(dataset(("voxceleb", voxceleb)), 60)
    starts = {n for clips, _ in batches for n in frame_numbers(clips.source).tolist()}
    assert starts == set(range(3, 30 - 20))


def test_mead_source_images_are_neutral_and_labels_come_from_names(mead):
    folder = mead / "fomm_crop"
    sources_of = {}
    for clips, names in take(dataset(("mead", mead)), 30):
        for row, name in enumerate(names):
            person, clip = name.removeprefix("mead:").split("/")
            assert EMOTIONS[clips.emotion[row]] == clip.split("_")[0]
            # Backgrounds are of a clip's own colour; the last row and column shows it.
            sources_of.setdefault(person, set()).add(clips.source[row].tobytes())
    for person, sources in sources_of.items():
        neutral = [
            from_file(path).tobytes()
            for take_ in ("001", "002")
            for path in (folder / person / f"neutral_level_1_{take_}").glob("*.png")
        ]
        assert sources <= set(neutral)
        assert len(sources) > 3


def from_file(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image)


def test_mead_poses_are_smoothed(mead):
    clips, names = next(dataset(("mead", mead)))
    for row, name in enumerate(names):
        stored = np.load(mead / "fomm_pose_crop" / f"{name.removeprefix('mead:')}.npy")
        smoothed = smooth_track(stored.astype(np.float32), TRAINING_POSE_FILTER)
        frames = frame_numbers(clips.frames[row])
        np.testing.assert_array_equal(clips.pose[row], smoothed[frames, :6])


def test_pairs_are_two_frames_of_a_clip_in_order(voxceleb):
    gaps = []
    for pairs, names in take(dataset(("voxceleb", voxceleb), batch_of="pairs"), 40):
        assert isinstance(pairs, Pairs)
        assert pairs.source.shape == pairs.driving.shape == (2, SIZE, SIZE, 3)
        for row, name in enumerate(names):
            folder = voxceleb / "fomm_crop" / name.removeprefix("voxceleb:")
            first, second = (frame_numbers(images)[row] for images in pairs[:2])
            np.testing.assert_array_equal(pairs.source[row], from_file(folder / f"{first}.png"))
            np.testing.assert_array_equal(pairs.driving[row], from_file(folder / f"{second}.png"))
            gaps.append(second - first)
    assert min(gaps) >= 0
    assert max(gaps) > 15


def test_pairs_need_no_audio_or_pose(tmp_path):
    root = write_voxceleb(tmp_path, people=1, clips=2, frames=3, size=SIZE)
    shutil.rmtree(root / "MFCC")
    shutil.rmtree(root / "fomm_pose_crop")
    next(dataset(("voxceleb", root), batch_of="pairs"))
    with pytest.raises(UserError, match=r"looked for .*fomm_pose_crop"):
        dataset(("voxceleb", root))


def test_frames_are_resized_when_they_differ(tmp_path):
    write_clip(tmp_path, "A", "A_1", size=32)
    write_clip(tmp_path, "A", "A_2", size=8)
    clips, _ = next(dataset(("lrw", tmp_path)))
    assert clips.frames.shape == (2, CLIP_FRAMES, SIZE, SIZE, 3)


def test_the_real_clip_trains(shared, tmp_path):
    root = lay_out_lrw_clip(shared, tmp_path)
    clips, names = next(dataset(("lrw", root), batch_size=2, size=256))
    assert names == ("lrw:ABOUT/ABOUT_00001",) * 2
    mfcc = np.load(shared / "media" / "lrw_clip" / "mfcc.npy").astype(np.float32)
    (start,) = (n for n in range(8) if (clips.audio[0, 0] == mfcc[n, :, 1:]).all())
    stored = [from_file(root / f"fomm_crop/ABOUT/ABOUT_00001/{n}.png") for n in range(29)]
    np.testing.assert_array_equal(clips.source[0], stored[start - 1])
    np.testing.assert_array_equal(clips.frames[0], stored[start : start + CLIP_FRAMES])


# Order.


def test_an_epoch_has_every_clip_once_and_epochs_differ(lrw):
    batches = dataset(("lrw", lrw), batch_size=7)
    assert batches.num_examples == 7
    epochs = [names for _, names in take(batches, 4)]
    assert all(len(set(names)) == 7 for names in epochs)
    assert len(set(epochs)) == 4


def test_the_order_depends_on_the_seed_only(lrw):
    first = take(dataset(("lrw", lrw), seed=5), 6)
    assert_same(first, take(dataset(("lrw", lrw), seed=5, threads=3), 6))
    assert names_of(first) != names_of(take(dataset(("lrw", lrw), seed=6), 6))


def test_a_single_pass_is_in_order_and_padded(lrw):
    batches = dataset(("lrw", lrw), batch_size=4, single_pass=True)
    passed = list(batches)
    names = names_of(passed)
    assert names[:7] == sorted(names[:7])
    assert names[7:] == [""]
    (first, _), (last, _) = passed
    assert len(last.frames) == 4
    batches.reset()
    assert_same(passed, list(batches))
    assert len(first.frames) == 4


def test_per_identity_draws_one_clip_of_each(voxceleb):
    batches = dataset(("voxceleb", voxceleb), batch_of="pairs", batch_size=4, per_identity=True)
    assert batches.num_examples == 4
    drawn = [names for _, names in take(batches, 12)]
    for names in drawn:
        assert len({name.split("/")[0] for name in names}) == 4
    assert {name for names in drawn for name in names} == {
        f"voxceleb:id1000{person}/video_{n}" for person in range(4) for n in range(3)
    }


@pytest.mark.slow
def test_workers_do_not_change_batches(lrw, mead):
    sources = (("lrw", lrw), ("mead", mead))
    expected = take(dataset(*sources, seed=3), 7)
    batches = dataset(*sources, seed=3, workers=2)
    try:
        assert_same(expected[:4], take(batches, 4))
        state = json.loads(json.dumps(batches.get_state()))
    finally:
        batches.close()
    # Nor does resuming with another number of them.
    resumed = dataset(*sources, seed=3)
    resumed.set_state(state)
    assert_same(expected[4:], take(resumed, 3))


# Processes.


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_load_shares_of_the_same_batches(lrw, processes):
    whole = take(dataset(("lrw", lrw), batch_size=4), 5)
    shards = [
        take(dataset(("lrw", lrw), batch_size=4, process_index=p, process_count=processes), 5)
        for p in range(processes)
    ]
    for step, (clips, names) in enumerate(whole):
        rows = [shard[step] for shard in shards]
        assert names == sum((row_names for _, row_names in rows), ())
        joined = jax.tree.map(lambda *parts: np.concatenate(parts), *(data for data, _ in rows))
        jax.tree.map(np.testing.assert_array_equal, clips, joined)


def test_shards_of_a_single_pass_are_disjoint_and_complete(lrw):
    shards = [
        list(
            dataset(("lrw", lrw), batch_size=4, single_pass=True, process_index=p, process_count=2)
        )
        for p in range(2)
    ]
    assert len(shards[0]) == len(shards[1])
    names = [set(names_of(shard)) - {""} for shard in shards]
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 7


# Splits.


@pytest.mark.parametrize("kind", ["lrw", "voxceleb"])
def test_splits_are_disjoint_and_complete(kind, lrw, voxceleb):
    root = {"lrw": lrw, "voxceleb": voxceleb}[kind]

    def found(split):
        batches = dataset(
            (kind, root), batch_size=1, split=split, validation_fraction=0.4, single_pass=True
        )
        return {name.removeprefix(f"{kind}:") for name in names_of(list(batches))}

    train, validation, everything = found("train"), found("validation"), found("all")
    assert train
    assert validation
    assert not train & validation
    assert train | validation == everything
    if kind == "voxceleb":
        people = [{name.split("/")[0] for name in names} for names in (train, validation)]
        assert not people[0] & people[1]
    else:  # divided by clip: a word may be in both
        words = [{name.split("/")[0] for name in names} for names in (train, validation)]
        assert words[0] & words[1]


@pytest.mark.parametrize("kind", ["lrw", "voxceleb"])
def test_a_clip_is_in_the_same_split_in_every_stage(kind, lrw, voxceleb):
    source = (kind, {"lrw": lrw, "voxceleb": voxceleb}[kind])
    options = {"batch_size": 1, "validation_fraction": 0.5}

    def clips(split):
        passed = dataset(source, split=split, single_pass=True, **options)
        return set(names_of(list(passed)))

    train, validation = clips("train"), clips("validation")
    assert train
    assert validation
    # Stage 0 draws a random clip of each identity; all of them within some epochs.
    for split, allowed in (("train", train), ("validation", validation)):
        pairs = dataset(source, split=split, batch_of="pairs", per_identity=True, **options)
        assert set(names_of(take(pairs, 20 * pairs.num_examples))) == allowed


def test_an_empty_split_is_explained(lrw):
    with pytest.raises(UserError, match=r"has no clip in the validation split"):
        dataset(("lrw", lrw), split="validation", validation_fraction=0.0)


# Mixtures.


def test_mixtures_keep_their_weights(lrw, voxceleb):
    batches = dataset(
        Source("lrw", str(lrw), 3), Source("voxceleb", str(voxceleb), 1), batch_size=8
    )
    assert batches.num_examples == 7 + 12
    kinds = [name.split(":")[0] for name in names_of(take(batches, 10))]
    assert kinds.count("lrw") == 60
    assert kinds.count("voxceleb") == 20


def test_a_single_pass_covers_all_sources_once(lrw, voxceleb):
    names = names_of(list(dataset(("lrw", lrw), ("voxceleb", voxceleb), single_pass=True)))
    assert len(set(names) - {""}) == 7 + 12


def test_sources_are_parsed():
    assert parse_sources("lrw=/data/LRW") == (Source("lrw", "/data/LRW", 1.0),)
    assert parse_sources("lrw=/a=b@2.5, mead=rel/path@1") == (
        Source("lrw", "/a=b", 2.5),
        Source("mead", "rel/path", 1.0),
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no training data was named"),
        ("/data/LRW", "is not a source of clips"),
        ("grid=/data/GRID", "'grid' is not a kind of data set: choose from lrw"),
        ("lrw=/data@1.2.3", "is not a number"),
        ("lrw=/data@0", "must be above 0"),
    ],
)
def test_bad_sources_are_explained(text, fault):
    with pytest.raises(UserError, match=fault):
        parse_sources(text)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"batch_size": 3, "process_count": 2}, "multiple of the number of processes, 2"),
        ({"size": 0}, "size and threads must be at least 1"),
        ({"seed": -1}, "seed is -1"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
    ],
)
def test_bad_arguments_are_explained(lrw, options, fault):
    with pytest.raises(UserError, match=fault):
        dataset(("lrw", lrw), **options)


# Resuming.


@pytest.mark.parametrize("after", [0, 1, 5])
def test_resuming_is_exact(lrw, mead, after):
    sources = (("lrw", lrw), ("mead", mead))
    straight = dataset(*sources)
    take(straight, after)
    state = json.loads(json.dumps(straight.get_state()))
    expected = take(straight, 4)
    resumed = dataset(*sources, threads=2)
    resumed.set_state(state)
    assert_same(expected, take(resumed, 4))
    assert resumed.get_state() == straight.get_state()


def test_setting_an_earlier_state_rewinds(lrw):
    batches = dataset(("lrw", lrw), threads=2)
    take(batches, 2)
    state = batches.get_state()
    expected = take(batches, 3)
    batches.set_state(state)
    assert_same(expected, take(batches, 3))


def test_resuming_with_other_data_is_rejected(lrw, voxceleb):
    state = dataset(("lrw", lrw)).get_state()
    with pytest.raises(UserError, match="saved with examples 7, now it is 12"):
        dataset(("voxceleb", voxceleb)).set_state(state)
    with pytest.raises(UserError, match="saved with batch_size 2, now it is 4"):
        dataset(("lrw", lrw), batch_size=4).set_state(state)
    with pytest.raises(UserError, match="saved with seed 0, now it is 1"):
        dataset(("lrw", lrw), seed=1).set_state(state)
    with pytest.raises(UserError, match="saved with clips digest"):
        dataset(Source("lrw", str(lrw), 2.0)).set_state(state)


# Bad clips.


@pytest.fixture
def damaged(tmp_path) -> Path:
    """Six clips of which two are bad."""
    root = write_lrw(tmp_path / "damaged", clips=6, size=SIZE)
    (root / "fomm_crop" / "ABOUT" / "ABOUT_00002" / "9.png").write_bytes(b"\x89PNG but no more")
    pose = root / "fomm_pose_crop" / "WORLD" / "WORLD_00003.npy"
    track = np.load(pose)
    track[4] = np.nan
    np.save(pose, track)
    return root


def test_a_bad_clip_is_an_error_that_names_it(damaged):
    with pytest.raises(UserError) as raised:
        take(dataset(("lrw", damaged), batch_size=6), 1)
    message = str(raised.value)
    assert "bad clip lrw:" in message
    assert "frame 9 is not a readable PNG, JPEG or WebP" in message or "pose of frame 4" in message
    assert "on_bad_clip" in message
    assert "\n" not in message


def test_bad_clips_are_skipped_counted_and_replaced(damaged):
    batches = dataset(("lrw", damaged), batch_size=6, on_bad_clip="skip")
    names = names_of(take(batches, 1))
    bad = {"lrw:ABOUT/ABOUT_00002", "lrw:WORLD/WORLD_00003"}
    assert len(names) == 6
    assert len(set(names)) == 4
    assert not bad & set(names)
    assert batches.skipped == {
        "lrw:ABOUT/ABOUT_00002": "frame 9 is not a readable PNG, JPEG or WebP",
        "lrw:WORLD/WORLD_00003": "the pose of frame 4 is not finite",
    }
    report = describe_skipped(batches.end_epoch())
    assert report.startswith("skipped 2 bad clips: lrw:ABOUT/ABOUT_00002: frame 9 is not")
    assert "\n" not in report
    assert batches.skipped == {}
    take(batches, 1)
    assert set(batches.end_epoch()) == bad


def test_skipping_is_repeatable_and_resumes_exactly(damaged):
    straight = dataset(("lrw", damaged), on_bad_clip="skip")
    take(straight, 2)
    state = json.loads(json.dumps(straight.get_state()))
    expected = take(straight, 4)
    resumed = dataset(("lrw", damaged), on_bad_clip="skip", threads=2)
    resumed.set_state(state)
    assert_same(expected, take(resumed, 4))
    assert resumed.skipped == straight.skipped
    assert len(resumed.skipped) == 2


def test_only_bad_clips_is_an_error_even_with_skip(tmp_path):
    root = write_lrw(tmp_path, clips=3, frames=16, size=SIZE)
    with pytest.raises(UserError, match=r"3 bad clips in a row.* at least 17 are needed"):
        next(dataset(("lrw", root), on_bad_clip="skip"))


def test_a_bad_neutral_clip_is_skipped(mead, tmp_path):
    root = shutil.copytree(mead, tmp_path / "mead")
    for path in (root / "fomm_crop" / "M003" / "neutral_level_1_001").iterdir():
        path.write_bytes(b"")
    batches = dataset(("mead", root), on_bad_clip="skip")
    names = set(names_of(take(batches, 24)))
    assert "mead:M003/happy_level_2_001" in names
    assert set(batches.skipped) == {"mead:M003/neutral_level_1_001"}


def test_a_person_without_neutral_clips_is_skipped(mead, tmp_path):
    root = shutil.copytree(mead, tmp_path / "mead")
    for folder in (root / "fomm_crop" / "M005").glob("neutral_*"):
        shutil.rmtree(folder)
    batches = dataset(("mead", root), on_bad_clip="skip")
    names = names_of(take(batches, 24))
    assert not any("M005" in name for name in names)
    assert batches.skipped == {
        f"mead:M005/{emotion}_level_2_001": (
            "M005 has no usable neutral clip to take the source image from"
        )
        for emotion in ("angry", "happy")
    }


def test_only_the_first_bad_clips_are_named():
    many = describe_skipped({f"lrw:A/{n}": "it has no frames" for n in range(10)})
    assert many.startswith("skipped 10 bad clips: ")
    assert many.endswith("; and 7 more")


def test_only_clips_of_the_given_emotions_are_used(mead, lrw):
    batches = dataset(("mead", mead), emotions=("happy",))
    assert batches.num_examples == 3
    clips, names = next(batches)
    batches.close()
    assert all("/happy_" in name for name in names)
    assert (clips.emotion == EMOTIONS.index("happy")).all()
    # What has no labels is used whole.
    assert dataset(("lrw", lrw), emotions=("happy",)).num_examples == 7
    with pytest.raises(UserError, match="'glad' is not an emotion"):
        dataset(("mead", mead), emotions=("glad",))
    with pytest.raises(UserError, match="no clip whose emotion is sad"):
        dataset(("mead", mead), emotions=("sad",))
