"""Packs a folder in the published layout into ArrayRecord, as a TFDS data set.

The base of the builders in `data.lrw`, `data.mead` and `data.voxceleb`. Neither writing nor
reading needs TensorFlow.

Sorted clips are split into shards of a fixed number of clips. A pool of processes or Apache Beam
packs each shard into a temporary folder beside the final one. A finished shard has a receipt, so
that an interrupted run resumes. When all receipts exist, the data set's metadata is written and
the folder renamed: a data set is complete or absent.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from jaxtyping import UInt8
from PIL import Image
from tensorflow_datasets.core.dataset_builder import FileReaderBuilder

from data.progress import progress_bar
from eamm_jax.errors import UserError
from eamm_jax.input_pipeline.clips import (
    KEYPOINT_NUMBERS,
    KINDS,
    STORED_POSE_NUMBERS,
    STORED_WINDOW,
    BadClip,
    Clip,
    ClipName,
    Tracks,
    decode_frame,
    decode_frames,
)
from eamm_jax.input_pipeline.published import PublishedFolder, Teacher
from eamm_jax.input_pipeline.sources import FRAMES_A_RECORD, SPLIT
from eamm_jax.io.beam import run_with_beam
from eamm_jax.io.parallel import run_parallel

FILE_FORMAT = "array_record"

DEFAULT_QUALITY = 95
"""Of JPEG and WebP, where 100 is best."""

PLAN_FILE = "plan"
"""Identifies the clips and settings of an unfinished data set."""


def features() -> tfds.features.FeaturesDict:
    """The features of a record: the tracks of a clip, or some of its frames or heatmaps.

    Frames are encoded images stored as bytes, not as Image features, so that a reader decodes
    only the frames of its window.
    """
    return tfds.features.FeaturesDict(
        {
            "identity": tfds.features.Text(),
            "clip": tfds.features.Text(),
            "frames": tfds.features.Sequence(tfds.features.Text()),
            "pose": tfds.features.Tensor(
                shape=(None, STORED_POSE_NUMBERS), dtype=np.float32, encoding="bytes"
            ),
            "mfcc": tfds.features.Tensor(
                shape=(None, *STORED_WINDOW), dtype=np.float32, encoding="bytes"
            ),
            # Keypoint by keypoint and frame by frame; heatmaps as the bytes of float16.
            "keypoints": tfds.features.Tensor(
                shape=(None, KEYPOINT_NUMBERS), dtype=np.float32, encoding="bytes"
            ),
            "heatmaps": tfds.features.Sequence(tfds.features.Text()),
        }
    )


@dataclass(frozen=True)
class Packing:
    """Packing options.

    Attributes:
        root: a folder in the published layout.
        frames_only: pack no audio features and pose; they need not exist (for stage 0).
        keypoints: also pack the image keypoints that `data.teach` has found.
        encoding: of the frames: `original` stores their files as they are.
        quality: of JPEG and WebP, from 1 to 100.
        on_bad_clip: `error` stops at the first bad clip, `skip` skips bad clips and lists them
            in the data set's metadata.
        clips_per_shard: None uses the builder's default.
        workers: number of processes; 1 packs in this process.
        restart: discard an unfinished run first.
    """

    root: str
    frames_only: bool = False
    keypoints: bool = False
    encoding: Literal["original", "jpeg", "webp"] = "original"
    quality: int = DEFAULT_QUALITY
    on_bad_clip: Literal["error", "skip"] = "error"
    clips_per_shard: int | None = None
    workers: int = os.cpu_count() or 1
    restart: bool = False


class Shard(NamedTuple):
    """One file of the packed data set, with everything a worker needs to write it."""

    root: str
    kind: str
    frames_only: bool
    teacher: Teacher | None
    encoding: str
    quality: int
    on_bad_clip: str
    names: tuple[ClipName, ...]
    path: str

    @property
    def receipt(self) -> Path:
        """Written when the shard is complete: its clips, its size, faults and frames' errors."""
        return Path(f"{self.path}.json")

    @property
    def fault(self) -> Path:
        """Written by a Beam worker if packing fails: the reason."""
        return Path(f"{self.path}.fault")


class ClipsBuilder(FileReaderBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A packed data set: written by `download_and_prepare`, read by `as_data_source("clips")`."""

    VERSION: ClassVar = tfds.core.Version("1.0.0")
    CLIPS_PER_SHARD: ClassVar[int]
    DESCRIPTION: ClassVar[str]
    HOMEPAGE: ClassVar[str]

    def __init__(self, *, packing: Packing | None = None, **kwargs: Any):
        """Initializes the builder.

        Args:
            packing: what to pack; not needed for reading.
            **kwargs: of `tfds.core.DatasetBuilder`; `data_dir` is where packed data is stored.
        """
        self._packing = packing
        super().__init__(file_format=FILE_FORMAT, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            homepage=self.HOMEPAGE,
            features=features(),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def download_and_prepare(
        self, *, download_config: tfds.download.DownloadConfig | None = None, **_: Any
    ) -> None:
        """Packs the folder, or resumes an interrupted run.

        Args:
            download_config: if it has a `beam_runner`, Apache Beam packs the shards. Nothing is
                ever downloaded.

        Raises:
            UserError: nothing to pack, a bad clip, or an unfinished run with other settings.
        """
        self._download_and_prepare(None, download_config)

    def _download_and_prepare(
        self, dl_manager: Any, download_config: tfds.download.DownloadConfig | None = None
    ) -> None:
        del dl_manager
        target = Path(self.data_dir)
        if target.exists():
            return
        if self._packing is None:
            raise UserError(f"{target} is not packed yet, and the builder has no `packing`")
        packing = self._packing
        spool = target.with_name(f"{target.name}.packing")
        shards = self.plan_shards(packing, spool)
        missing = [shard for shard in shards if not shard.receipt.is_file()]
        if download_config is not None and download_config.beam_runner:
            _pack_with_beam(missing, download_config.beam_runner, download_config.beam_options)
        else:
            _pack_with_processes(missing, shards, packing.workers)
        self._finish(packing, shards, spool)
        spool.rename(target)
        self.info.update_data_dir(str(target))
        for leftover in [*target.glob(f"*.{FILE_FORMAT}-*.json"), target / PLAN_FILE]:
            leftover.unlink()

    def plan_shards(self, packing: Packing, spool: Path) -> list[Shard]:
        """Splits the folder into shards, in the same way in every run."""
        tracks = Tracks(motion=not packing.frames_only, keypoints=packing.keypoints)
        folder = PublishedFolder(packing.root, tracks)
        size = packing.clips_per_shard or self.CLIPS_PER_SHARD
        pieces = [folder.names[n : n + size] for n in range(0, len(folder.names), size)]
        template = self._get_filename_template(SPLIT).replace(data_dir=spool)
        shards = [
            Shard(
                root=str(Path(packing.root).resolve()),
                kind=self.name,
                frames_only=packing.frames_only,
                teacher=folder.teacher,
                encoding=packing.encoding,
                quality=packing.quality,
                on_bad_clip=packing.on_bad_clip,
                names=tuple(names),
                path=str(template.sharded_filepath(shard_index=n, num_shards=len(pieces))),
            )
            for n, names in enumerate(pieces)
        ]
        # `on_bad_clip` is not part of the plan: shards finished under `error` contain no bad
        # clips, so a run may resume with `skip`.
        planned = [shard._replace(on_bad_clip="", path="") for shard in shards]
        plan = hashlib.sha256(repr(planned).encode()).hexdigest()
        if packing.restart:
            shutil.rmtree(spool, ignore_errors=True)
        spool.mkdir(parents=True, exist_ok=True)
        plan_file = spool / PLAN_FILE
        if plan_file.is_file() and plan_file.read_text() != plan:
            raise UserError(
                f"{spool} holds an unfinished run with other clips or settings; "
                "finish it with those settings, or start over with --restart"
            )
        plan_file.write_text(plan)
        return shards

    def _finish(self, packing: Packing, shards: list[Shard], spool: Path) -> None:
        """Writes the metadata of the whole data set."""
        receipts = [json.loads(shard.receipt.read_text()) for shard in shards]
        clips = [clip for receipt in receipts for clip in receipt["clips"]]
        if not clips:
            raise UserError(f"nothing was packed; all clips of {packing.root} are bad")
        split = tfds.core.SplitInfo(
            name=SPLIT,
            shard_lengths=[receipt["records"] for receipt in receipts],
            num_bytes=sum(receipt["bytes"] for receipt in receipts),
            filename_template=self._get_filename_template(SPLIT).replace(data_dir=spool),
        )
        self.info.metadata.update(
            kind=self.name,
            with_motion=not packing.frames_only,
            clips=clips,
            skipped=[fault for receipt in receipts for fault in receipt["skipped"]],
            encoding=packing.encoding,
            teacher=shards[0].teacher,
        )
        if packing.encoding != "original":
            total, worst = zip(*(receipt["squared_error"] for receipt in receipts), strict=True)
            self.info.metadata.update(
                quality=packing.quality,
                psnr=_psnr(sum(total) / sum(num_frames for _, _, num_frames in clips)),
                lowest_psnr=_psnr(max(worst)),
            )
        self.info.set_splits(tfds.core.splits.SplitDict([split]))
        self.info.write_to_directory(spool)


def pack_shard(shard: Shard) -> None:
    """Writes a shard and its receipt. Every frame is decoded once as a check.

    Raises:
        UserError: a clip is bad and `on_bad_clip` is `error`, or the disk is full.
    """
    tracks = Tracks(
        motion=not shard.frames_only,
        keypoints=shard.teacher is not None,
        heatmaps=shard.teacher is not None and shard.teacher.heatmaps,
    )
    folder = PublishedFolder(shard.root, tracks, names=shard.names)
    serialize = features().serialize_example
    clips: list[tuple[str, str, int]] = []
    num_records = 0
    errors: list[float] = []
    skipped: list[tuple[str, str]] = []
    unfinished = Path(f"{shard.path}.unfinished")
    with _writing(shard):
        # One record per group, for random access.
        writer = ArrayRecordWriter(str(unfinished), "group_size:1")
    for index, name in enumerate(shard.names):
        try:
            if not shard.frames_only:
                KINDS[shard.kind].emotion(name)
            clip = folder.open(index)
            records = [
                (serialize(record.fields), record.errors)
                for record in _records(name, clip, shard.encoding, shard.quality)
            ]
        except BadClip as fault:
            if shard.on_bad_clip == "error":
                raise UserError(
                    f"bad clip {name} in {shard.root}: {fault} (repair or remove it, or pack "
                    "with --on_bad_clip skip)"
                ) from fault
            skipped.append((str(name), str(fault)))
        else:
            with _writing(shard):
                for record, errors_of_frames in records:
                    writer.write(record)
                    errors += errors_of_frames
            num_records += len(records)
            clips.append((*name, clip.num_frames))
    with _writing(shard):
        writer.close()
        size = unfinished.stat().st_size
        unfinished.rename(shard.path)
        receipt = {
            "clips": clips,
            "records": num_records,
            "bytes": size,
            "skipped": skipped,
            "squared_error": (sum(errors), max(errors, default=0.0)),
        }
        _write_whole(shard.receipt, json.dumps(receipt))


@contextmanager
def _writing(shard: Shard) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # ArrayRecord's C++ code raises the latter
        raise UserError(
            f"cannot write {shard.path}: {error} (finished shards are kept; free some space or "
            "check the folder, then run the same command to resume)"
        ) from error


class Record(NamedTuple):
    """A record of a clip, as `features` describes it, and the squared error of its frames."""

    fields: dict[str, Any]
    errors: list[float]


def _records(name: ClipName, clip: Clip, encoding: str, quality: int) -> Iterator[Record]:
    """The records of a clip; checks all of it."""
    nothing: dict[str, Any] = {
        "identity": name.identity,
        "clip": name.clip,
        "frames": [],
        "pose": np.empty((0, STORED_POSE_NUMBERS), np.float32),
        "mfcc": np.empty((0, *STORED_WINDOW), np.float32),
        "keypoints": np.empty((0, KEYPOINT_NUMBERS), np.float32),
        "heatmaps": [],
    }
    tracks: dict[str, Any] = {}
    if clip.pose is not None:
        tracks["pose"], tracks["mfcc"], _ = clip.motion()
    if clip.keypoints is not None:
        clip.taught(range(clip.num_frames))
        tracks["keypoints"] = clip.keypoints.reshape(-1, KEYPOINT_NUMBERS)
    yield Record(nothing | tracks, [])
    pieces = [
        range(first, min(first + FRAMES_A_RECORD, clip.num_frames))
        for first in range(0, clip.num_frames, FRAMES_A_RECORD)
    ]
    for numbers in pieces:
        found = {n: clip.encoded_frame(n) for n in numbers}
        frames = decode_frames(replace(clip, encoded_frame=found.__getitem__), numbers)
        if encoding == "original":
            stored, errors = list(found.values()), [0.0] * len(numbers)
        else:
            stored = [_encode(frame, encoding, quality) for frame in frames]
            errors = [
                float(np.mean((decode_frame(data).astype(np.float32) - frame) ** 2))
                for data, frame in zip(stored, frames, strict=True)
            ]
        yield Record(nothing | {"frames": stored}, errors)
    if clip.heatmap is not None:
        for numbers in pieces:
            yield Record(nothing | {"heatmaps": [clip.heatmap(n).tobytes() for n in numbers]}, [])


def _encode(pixels: UInt8[np.ndarray, "h w 3"], encoding: str, quality: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, encoding, quality=quality)
    return content.getvalue()


def _psnr(squared_error: float) -> float | None:
    """In dB; None where every pixel is exact."""
    return round(10 * math.log10(255**2 / squared_error), 2) if squared_error else None


def _write_whole(path: Path, text: str) -> None:
    """Writes a file atomically."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(text)
    unfinished.rename(path)


def _pack_with_processes(missing: list[Shard], shards: list[Shard], workers: int) -> None:
    total = sum(len(shard.names) for shard in shards)
    done = total - sum(len(shard.names) for shard in missing)
    packing = closing(run_parallel(pack_shard, missing, workers))
    with progress_bar("packing") as progress, packing as packed:
        task = progress.add_task("packing", total=total, completed=done)
        for shard, _ in packed:
            progress.advance(task, len(shard.names))


def _pack_with_beam(missing: list[Shard], runner: Any, options: Any) -> None:
    run_with_beam(_pack_or_note, missing, runner, options)
    for shard in missing:
        if shard.fault.is_file():
            fault = shard.fault.read_text()
            shard.fault.unlink()
            raise UserError(fault)


def _pack_or_note(shard: Shard) -> None:
    try:
        pack_shard(shard)
    except UserError as fault:
        _write_whole(shard.fault, str(fault))
