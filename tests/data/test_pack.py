"""Packing: the same clips in the same order, stopped and resumed, whole or not at all."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from data import builder as builder_module
from data.builder import ClipsBuilder, Packing, pack_shard
from data.lrw.lrw_dataset_builder import Builder as Lrw
from data.mead.mead_dataset_builder import Builder as Mead
from data.pack import main
from data.voxceleb.voxceleb_dataset_builder import Builder as Voxceleb
from eamm_jax.errors import UserError
from eamm_jax.input_pipeline import Source, make_dataset
from eamm_jax.input_pipeline.clips import Tracks, decode_frames
from eamm_jax.input_pipeline.published import PublishedFolder
from eamm_jax.input_pipeline.sources import PackedFolder, find_packed
from tests.published_layout import write_lrw, write_mead, write_voxceleb

REPOSITORY = Path(__file__).resolve().parents[2]
SIZE = 16


@pytest.fixture(scope="module")
def lrw(tmp_path_factory) -> Path:
    return write_lrw(tmp_path_factory.mktemp("lrw"), clips=7, size=SIZE)


def pack(builder: type[ClipsBuilder], root: Path, data_dir: Path, **options) -> ClipsBuilder:
    packing = Packing(root=str(root), **({"clips_per_shard": 3, "workers": 1} | options))
    packed = builder(data_dir=str(data_dir), packing=packing)
    packed.download_and_prepare()
    return packed


def test_packed_clips_equal_the_originals(lrw, tmp_path):
    packed = pack(Lrw, lrw, tmp_path)
    assert Path(packed.data_dir) == tmp_path / "lrw" / "1.0.0"
    ours = PackedFolder(find_packed(tmp_path, "lrw"), "lrw", Tracks(motion=True))
    theirs = PublishedFolder(lrw, Tracks(motion=True))
    assert ours.names == theirs.names
    for index in range(7):
        clip, expected = ours.open(index), theirs.open(index)
        assert clip.num_frames == expected.num_frames
        for n in range(clip.num_frames):
            assert clip.encoded_frame(n) == expected.encoded_frame(n)
        np.testing.assert_array_equal(clip.pose, expected.pose)
        np.testing.assert_array_equal(clip.windows, expected.windows)


def test_tfds_reads_packed_data_without_tensorflow(lrw, tmp_path):
    packed = pack(Lrw, lrw, tmp_path)
    assert [f.name for f in sorted(Path(packed.data_dir).glob("*array_record*"))] == [
        f"lrw-clips.array_record-0000{n}-of-00003" for n in range(3)
    ]
    again = tfds.builder_from_directory(packed.data_dir)
    # Of each clip of 29 frames: its sound and pose, 16 frames, and 13 frames.
    assert again.info.splits["clips"].num_examples == 7 * 3
    for reader in (packed, again):
        records = reader.as_data_source("clips")
        assert [len(records[n]["frames"]) for n in range(6)] == [0, 16, 13] * 2
        assert [len(records[n]["pose"]) for n in range(6)] == [29, 0, 0] * 2
        assert records[20]["identity"] == b"WORLD"
        assert records[20]["clip"] == b"WORLD_00005"
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize(
    ("builder", "write", "batch_of"),
    [(Lrw, write_lrw, "clips"), (Mead, write_mead, "clips"), (Voxceleb, write_voxceleb, "pairs")],
)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_both_sources_give_the_same_batches(builder, write, batch_of, split, tmp_path):
    root = write(tmp_path / "root", size=SIZE)
    pack(builder, root, tmp_path / "packed")
    batches = [
        make_dataset(
            [Source(builder.name, str(path))],
            batch_size=3,
            size=SIZE,
            batch_of=batch_of,
            split=split,
            validation_fraction=0.485,
            seed=4,
        )
        for path in (root, tmp_path / "packed")
    ]
    for _ in range(4):
        (data, names), (packed_data, packed_names) = (next(b) for b in batches)
        assert names == packed_names
        for leaf, packed_leaf in zip(data, packed_data, strict=True):
            np.testing.assert_array_equal(leaf, packed_leaf)
    # So a run may go on from a packed copy of its data.
    batches[1].set_state(batches[0].get_state())


@pytest.mark.parametrize(("encoding", "starts"), [("jpeg", b"\xff\xd8"), ("webp", b"RIFF")])
def test_frames_may_be_stored_with_some_loss(encoding, starts, lrw, tmp_path, capsys):
    flags = ("--root", str(lrw), "--data_dir", str(tmp_path), "--workers", "1")
    assert run_main(*flags, "--encoding", encoding, "--quality", "90") == 0
    ours = PackedFolder(find_packed(tmp_path, "lrw"), "lrw", Tracks(motion=True))
    theirs = PublishedFolder(lrw, Tracks(motion=True))
    errors = []
    for index in range(7):
        clip, expected = ours.open(index), theirs.open(index)
        assert clip.encoded_frame(0).startswith(starts)
        stored, frames = (decode_frames(c, range(c.num_frames)) for c in (clip, expected))
        errors += [np.mean((a.astype(float) - b) ** 2) for a, b in zip(stored, frames, strict=True)]
    metadata = json.loads((ours.root / "metadata.json").read_text())
    assert (metadata["encoding"], metadata["quality"]) == (encoding, 90)
    assert metadata["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean(errors)), abs=0.01)
    assert metadata["lowest_psnr"] == pytest.approx(10 * np.log10(255**2 / max(errors)), abs=0.01)
    assert metadata["lowest_psnr"] > 20  # sharp toy frames; swapped channels would give 10
    assert (
        f"PSNR {metadata['psnr']} dB, lowest {metadata['lowest_psnr']}" in capsys.readouterr().out
    )


def test_quality_without_an_encoding_is_refused(lrw, tmp_path, capsys):
    flags = ("--root", str(lrw), "--data_dir", str(tmp_path))
    assert run_main(*flags, "--quality", "90") == 2
    assert "--quality needs --encoding jpeg or webp" in capsys.readouterr().err


def test_pairs_of_long_clips_read_two_records(tmp_path, monkeypatch):
    root = write_voxceleb(tmp_path / "root", people=1, clips=1, frames=150, size=SIZE)
    packed = pack(Voxceleb, root, tmp_path / "packed")
    folder = PackedFolder(Path(packed.data_dir), "voxceleb", Tracks())
    read = []
    monkeypatch.setattr(
        folder, "read_record", lambda n: read.append(n) or PackedFolder.read_record(folder, n)
    )
    clip = folder.open(0)
    expected = PublishedFolder(root, Tracks()).open(0)
    for n in (3, 149):
        assert clip.encoded_frame(n) == expected.encoded_frame(n)
    assert read == [1, 10]


def test_data_packed_without_motion_is_for_stage_0_only(tmp_path):
    root = write_voxceleb(tmp_path / "root", people=1, frames=4, size=SIZE)
    for folder in ("MFCC", "fomm_pose_crop"):
        (root / folder).rename(tmp_path / folder)
    pack(Voxceleb, root, tmp_path / "packed", frames_only=True)
    source = Source("voxceleb", str(tmp_path / "packed"))
    options = {"batch_size": 1, "size": SIZE, "split": "all"}
    next(make_dataset([source], batch_of="pairs", **options))
    with pytest.raises(UserError, match="packed without audio and pose"):
        make_dataset([source], **options)


def test_packed_data_of_another_kind_is_rejected(lrw, tmp_path):
    packed = pack(Lrw, lrw, tmp_path)
    with pytest.raises(UserError, match="was packed as lrw, but is read as mead"):
        make_dataset([Source("mead", packed.data_dir)], batch_size=1, size=SIZE)


def test_a_damaged_record_is_a_bad_clip(lrw, tmp_path):
    packed = pack(Lrw, lrw, tmp_path)
    file = sorted(Path(packed.data_dir).glob("*array_record*"))[0]
    data = bytearray(file.read_bytes())
    data[1000:3000] = bytes(2000)
    file.write_bytes(data)
    batches = make_dataset(
        [Source("lrw", str(tmp_path))], batch_size=7, size=SIZE, split="all", single_pass=True
    )
    with pytest.raises(UserError, match=r"bad clip lrw:ABOUT/ABOUT_0000\d: its record in .*"):
        next(batches)


# Bad clips.


@pytest.fixture
def damaged(tmp_path) -> Path:
    root = write_lrw(tmp_path / "damaged", clips=5, size=SIZE)
    for clip in ("ABOUT_00000", "ABOUT_00002", "ABOUT_00004"):  # all of the first shard
        (root / "fomm_crop" / "ABOUT" / clip / "28.png").write_bytes(b"no image")
    return root


def test_a_bad_clip_stops_packing(damaged, tmp_path):
    with pytest.raises(
        UserError, match=r"ABOUT_00000 in .*frame 28 is not a readable PNG, JPEG or WebP"
    ):
        pack(Lrw, damaged, tmp_path / "packed")
    assert not (tmp_path / "packed" / "lrw" / "1.0.0").exists()


def test_bad_clips_are_skipped_and_listed(damaged, tmp_path):
    packed = pack(Lrw, damaged, tmp_path / "packed", on_bad_clip="skip")
    assert packed.info.metadata["skipped"] == [
        [f"ABOUT/ABOUT_0000{n}", "frame 28 is not a readable PNG, JPEG or WebP"] for n in (0, 2, 4)
    ]
    batches = make_dataset(
        [Source("lrw", str(tmp_path / "packed"))],
        batch_size=2,
        size=SIZE,
        split="all",
        single_pass=True,
    )
    assert [names for _, names in batches] == [("lrw:WORLD/WORLD_00001", "lrw:WORLD/WORLD_00003")]


def test_packing_resumes_after_a_bad_clip_with_skip(damaged, tmp_path):
    with pytest.raises(UserError, match="bad clip"):
        pack(Lrw, damaged, tmp_path / "packed")
    packed = pack(Lrw, damaged, tmp_path / "packed", on_bad_clip="skip")
    assert len(packed.info.metadata["clips"]) == 2


def test_all_clips_bad_is_an_error(tmp_path):
    root = write_lrw(tmp_path / "root", clips=2, frames=5, size=SIZE)
    with pytest.raises(UserError, match=r"all clips of .* are bad"):
        pack(Lrw, root, tmp_path / "packed", on_bad_clip="skip")


# Stopping and going on.


def test_finished_shards_are_not_packed_again(lrw, tmp_path, monkeypatch):
    def stop_at_the_third(shard):
        if shard.names[0].clip == "WORLD_00005":
            raise KeyboardInterrupt
        pack_shard(shard)

    monkeypatch.setattr(builder_module, "pack_shard", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        pack(Lrw, lrw, tmp_path)
    assert find_packed(tmp_path, "lrw") is None

    packed_again = []

    def record(shard):
        packed_again.append(shard.names)
        pack_shard(shard)

    monkeypatch.setattr(builder_module, "pack_shard", record)
    packed = pack(Lrw, lrw, tmp_path)
    assert [[name.clip for name in names] for names in packed_again] == [["WORLD_00005"]]

    monkeypatch.undo()
    straight = pack(Lrw, lrw, tmp_path / "straight")
    files = {file.name: file.read_bytes() for file in Path(packed.data_dir).iterdir()}
    assert files == {file.name: file.read_bytes() for file in Path(straight.data_dir).iterdir()}
    leftovers = {f.name for f in Path(packed.data_dir).parent.iterdir()}
    assert leftovers == {"1.0.0"}


def test_resuming_with_other_clips_is_rejected(lrw, damaged, tmp_path):
    with pytest.raises(UserError, match="not a readable PNG"):
        pack(Lrw, damaged, tmp_path)
    with pytest.raises(UserError, match=r"unfinished run with other clips.*--restart"):
        pack(Lrw, lrw, tmp_path)
    packed = pack(Lrw, lrw, tmp_path, restart=True)
    assert len(packed.info.metadata["clips"]) == 7


def test_a_full_disk_is_reported_and_keeps_finished_shards(lrw, tmp_path, monkeypatch):
    opened = []

    def writer_on_a_full_disk(path, options):
        opened.append(path)
        return ArrayRecordWriter(path if len(opened) < 3 else "/dev/full", options)

    monkeypatch.setattr(builder_module, "ArrayRecordWriter", writer_on_a_full_disk)
    with pytest.raises(UserError, match=r"cannot write .*-00002-of-00003: .*No space left"):
        pack(Lrw, lrw, tmp_path)
    assert len(list(tmp_path.glob("lrw/1.0.0.packing/*.json"))) == 2


def test_an_unwritable_folder_is_an_error(lrw, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run_main("--root", str(lrw), "--data_dir", str(tmp_path / "file" / "packed")) == 2
    assert "error: cannot write" in capsys.readouterr().err


def test_a_builder_without_packing_is_an_error(tmp_path):
    with pytest.raises(UserError, match="is not packed yet"):
        Lrw(data_dir=str(tmp_path)).download_and_prepare()


# The command line.


def run_main(*flags: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main("lrw", flags)
    return exit_.value.code


def test_packing_twice_is_rejected(lrw, tmp_path, capsys):
    flags = ("--root", str(lrw), "--data_dir", str(tmp_path), "--workers", "1")
    assert run_main(*flags) == 0
    assert "packed 7 clips into" in capsys.readouterr().out
    assert run_main(*flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "is already packed" in error


def test_the_command_reports_errors(tmp_path, capsys):
    assert run_main("--root", str(tmp_path), "--data_dir", str(tmp_path), "--workers", "0") == 2
    assert "--workers: 0 is out of range" in capsys.readouterr().err
    assert run_main("--root", str(tmp_path), "--data_dir", str(tmp_path / "out")) == 2
    assert "looked for" in capsys.readouterr().err


@pytest.mark.slow
def test_packing_resumes_after_a_kill(tmp_path):
    root = write_lrw(tmp_path / "root", clips=7, size=SIZE)
    # A pipe in place of the last clip's poses: packing waits there until it is killed.
    last = root / "fomm_pose_crop" / "WORLD" / "WORLD_00005.npy"
    last.rename(tmp_path / "poses")
    os.mkfifo(last)
    command = [
        *(sys.executable, "-m", "data.lrw", "--root", str(root)),
        *("--data_dir", str(tmp_path / "packed"), "--clips_per_shard", "2", "--workers", "1"),
    ]
    spool = tmp_path / "packed" / "lrw" / "1.0.0.packing"
    packing = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while len(list(spool.glob("*.json"))) < 3:
        assert packing.poll() is None, "packing ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    packing.kill()
    packing.wait()
    assert find_packed(tmp_path / "packed", "lrw") is None
    shards = [path.with_suffix("") for path in spool.glob("*.json")]
    packed_at = {shard.name: shard.stat().st_mtime_ns for shard in shards}

    last.unlink()
    (tmp_path / "poses").rename(last)
    subprocess.run(command, cwd=REPOSITORY, check=True, stderr=subprocess.DEVNULL)
    folder = find_packed(tmp_path / "packed", "lrw")
    assert len(json.loads((folder / "metadata.json").read_text())["clips"]) == 7
    for shard, time_ in packed_at.items():
        assert (folder / shard).stat().st_mtime_ns == time_


# Beam.


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Beam's own
def test_beam_packs_the_same_bytes(lrw, tmp_path):
    pytest.importorskip("apache_beam", reason="needs eamm_jax[beam]")
    straight = pack(Lrw, lrw, tmp_path / "straight")
    flags = ("--root", str(lrw), "--data_dir", str(tmp_path / "beam"), "--clips_per_shard", "3")
    assert run_main(*flags, "--beam_runner", "DirectRunner") == 0
    for file in Path(straight.data_dir).iterdir():
        other = tmp_path / "beam" / "lrw" / "1.0.0" / file.name
        assert other.read_bytes() == file.read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_beam_stops_at_a_bad_clip_and_resumes(damaged, tmp_path, capsys):
    pytest.importorskip("apache_beam", reason="needs eamm_jax[beam]")
    flags = ("--root", str(damaged), "--data_dir", str(tmp_path / "beam"))
    beam = ("--clips_per_shard", "3", "--beam_runner")
    assert run_main(*flags, *beam, "NoSuchRunner") == 2
    assert "cannot use the runner NoSuchRunner" in capsys.readouterr().err
    assert run_main(*flags, *beam, "DirectRunner") == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert "bad clip ABOUT/ABOUT_00000" in line
    for path in (damaged / "fomm_crop" / "ABOUT").glob("*/28.png"):
        path.write_bytes((path.parent / "27.png").read_bytes())
    assert run_main(*flags, *beam, "DirectRunner") == 0


def test_missing_beam_is_explained(lrw, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.setitem(sys.modules, "apache_beam.options.pipeline_options", None)
    flags = ("--root", str(lrw), "--data_dir", str(tmp_path), "--beam_runner", "DirectRunner")
    assert run_main(*flags) == 2
    assert "pip install 'eamm_jax[beam]'" in capsys.readouterr().err


def test_shards_can_be_pickled(lrw, tmp_path):
    packing = Packing(root=str(lrw), clips_per_shard=3)
    shards = Lrw(data_dir=str(tmp_path), packing=packing).plan_shards(packing, tmp_path / "spool")
    sent = multiprocessing.reduction.ForkingPickler.dumps(shards)
    assert multiprocessing.reduction.ForkingPickler.loads(sent) == shards
    assert sum(len(shard.names) for shard in shards) == 7
