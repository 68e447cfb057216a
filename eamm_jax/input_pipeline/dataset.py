"""Batches of training examples: split, shuffled, mixed, sharded over processes, resumable.

Grain shuffles, mixes and batches cheap *plans* (a group of a source, and a seed); then each process
loads its own rows of the global batch. Batch k therefore has the same rows for any number of
processes and workers, and the data position is a single number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import grain
import jax
import numpy as np

from eamm_jax.constants import CLIP_FRAMES, EMOTIONS
from eamm_jax.errors import UserError
from eamm_jax.input_pipeline.clips import KINDS, ClipName, Split, Tracks
from eamm_jax.input_pipeline.examples import BatchOf, ExampleReader, OnBadClip
from eamm_jax.input_pipeline.sources import Source, open_folder
from eamm_jax.types import Clips, Pairs

DEFAULT_VALIDATION_FRACTION = 0.05


class _Plan(NamedTuple):
    """An example that has not been read yet."""

    source: int
    group: int
    seed: int


class _Loaded(NamedTuple):
    data: Clips | Pairs
    names: tuple[str, ...]
    skipped: dict[str, str]


@dataclass(frozen=True)
class _MakePlan:
    source: int

    def __call__(self, group: int, rng: np.random.Generator) -> _Plan:
        return _Plan(self.source, int(group), int(rng.integers(2**63)))


@dataclass(frozen=True)
class _LoadRows:
    """Loads one process's rows of a batch of plans."""

    readers: tuple[ExampleReader, ...]
    batch_size: int
    rows: slice

    def __call__(self, plans: Sequence[_Plan]) -> _Loaded:
        # The last batch of a single pass is padded with its own examples, without names.
        rows = range(self.batch_size)[self.rows]
        chosen = [plans[row % len(plans)] for row in rows]
        examples = [self.readers[plan.source].read(plan.group, plan.seed) for plan in chosen]
        skipped: dict[str, str] = {}
        for example in examples:
            skipped |= example.skipped
        return _Loaded(
            data=jax.tree.map(lambda *leaves: np.stack(leaves), *(x.data for x in examples)),
            names=tuple(
                example.name if row < len(plans) else ""
                for row, example in zip(rows, examples, strict=True)
            ),
            skipped=skipped,
        )


class Batches:
    """An iterator of `(Clips | Pairs, names)`: one process's rows of each batch.

    `names` gives the clip of each row (`<kind>:<identity>/<clip>`); padding rows of the last batch
    of a single pass have the name "" and must not be counted. Arrays are NumPy, images uint8.

    Attributes:
        num_examples: examples per epoch: clips (or identities) in the split.
        skipped: fault of each bad clip that this process found since `end_epoch`, by name.
        detectors: fingerprint of the detector whose keypoints are read, by source.
    """

    def __init__(
        self,
        plans: grain.MapDataset,
        load: _LoadRows,
        *,
        identity: dict[str, Any],
        detectors: dict[str, str],
        threads: int,
        workers: int,
    ):
        """Called by `make_dataset`."""
        self.num_examples: int = identity["examples"]
        self.skipped: dict[str, str] = {}
        self.detectors = detectors
        self._plans = plans
        self._load = load
        self._identity = identity
        self._threads = threads
        self._workers = workers
        self._step = 0
        self._iterator: grain.DatasetIterator | None = None

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> tuple[Clips | Pairs, tuple[str, ...]]:
        if self._iterator is None:
            self._iterator = self._start()
        loaded: _Loaded = next(self._iterator)
        self._step += 1
        self.skipped.update(loaded.skipped)
        return loaded.data, loaded.names

    def _start(self) -> grain.DatasetIterator:
        # Each worker loads whole batches, so their number does not change a batch. A batch
        # depends only on its number, so resuming means starting at that number.
        batches = self._plans[self._step :].map(self._load)
        reading = grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=self._threads)
        dataset = batches.to_iter_dataset(reading)
        if self._workers:
            from absl import flags

            if not flags.FLAGS.is_parsed():  # Grain reads its flags when it starts workers
                flags.FLAGS.mark_as_parsed()
            dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(self._workers))
        return iter(dataset)

    def end_epoch(self) -> dict[str, str]:
        """Returns the bad clips found by this process since the last call, and resets them."""
        skipped, self.skipped = self.skipped, {}
        return skipped

    def reset(self) -> None:
        """Returns to the first batch (for another validation)."""
        self.close()
        self._step = 0
        self.skipped = {}

    def close(self) -> None:
        """Stops the readers; the next batch restarts them at the same position."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def get_state(self) -> dict[str, Any]:
        """The data position as JSON; the same on all processes except for `skipped`.

        The state is valid for any number of processes, workers and threads.
        """
        return {"step": self._step, "skipped": dict(self.skipped), **self._identity}

    def set_state(self, state: dict[str, Any]) -> None:
        """Resumes after the last batch before `get_state`.

        Raises:
            UserError: the state was saved with other data or in another order.
        """
        for key, value in self._identity.items():
            if state.get(key) != value:
                raise UserError(
                    "the checkpoint's data position does not match the data: it was saved with "
                    f"{key} {state.get(key)}, now it is {value}; resume with the same data and "
                    "settings, or start a new work directory initialized from this one"
                )
        self.close()
        self._step = int(state["step"])
        self.skipped = dict(state["skipped"])


def describe_skipped(skipped: dict[str, str], shown: int = 3) -> str:
    """One line for the end of an epoch: the number of bad clips, and the first few."""
    faults = [f"{name}: {fault}" for name, fault in sorted(skipped.items())[:shown]]
    more = f"; and {len(skipped) - shown} more" if len(skipped) > shown else ""
    noun = "clip" if len(skipped) == 1 else "clips"
    return f"skipped {len(skipped)} bad {noun}: {'; '.join(faults)}{more}"


def make_dataset(
    sources: Sequence[Source],
    *,
    batch_size: int,
    size: int,
    batch_of: BatchOf = "clips",
    split: Split = "train",
    validation_fraction: float = DEFAULT_VALIDATION_FRACTION,
    seed: int = 0,
    single_pass: bool = False,
    per_identity: bool = False,
    emotions: Sequence[str] = (),
    frame_stride: int = 1,
    with_truth: bool = False,
    with_frames: bool = True,
    with_keypoints: bool = False,
    with_heatmaps: bool = False,
    on_bad_clip: OnBadClip = "error",
    threads: int = 4,
    workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Batches:
    """Batches of training or validation examples.

    Args:
        sources: data sources; several are mixed by their weights.
        batch_size: global batch size; each process loads an equal share.
        size: width and height of the images.
        batch_of: `clips` for `Clips`, `pairs` for `Pairs` (without audio features and pose).
        split: `train` and `validation` share no identity (LRW: no clip); `all` is both.
        validation_fraction: approximate fraction of the identities, selected by their names only.
        seed: seed of the order and of all sampling.
        single_pass: one pass in the order of names, for validation, with the last batch padded;
            otherwise an endless stream, reshuffled in each epoch.
        per_identity: an epoch has one example per identity instead of per clip, from a random
            clip, so that speakers with many clips do not dominate (`id_sampling` of the
            first-order motion model, stage 0).
        emotions: emotions whose clips are used, for sources with labelled clips; empty: all.
        frame_stride: read every n-th of a clip's 16 frames; its audio is complete.
        with_truth: pairs include landmarks and pose, which the folder must contain.
        with_frames: decode the frames of clips; if not, only their source images are decoded.
        with_keypoints: clips include their image keypoints, which `data.teach` has found.
        with_heatmaps: and the heatmaps of these.
        on_bad_clip: `error` raises `UserError` at the first bad clip, `skip` uses the next
            good one and records the bad one in `Batches.skipped`.
        threads: batches read concurrently in each worker.
        workers: number of reader processes; needs a main guard in the script.
        process_index: index of this process in the run.
        process_count: number of processes in the run.

    Returns:
        The iterator; reading starts with its first batch.

    Raises:
        UserError: there is no data, or an argument is invalid.
    """
    if size < 1 or threads < 1 or workers < 0 or not 0 <= validation_fraction < 1:
        raise UserError(
            "size and threads must be at least 1, workers at least 0 and validation_fraction "
            f"from 0 up to 1, but they are {size}, {threads}, {workers} and {validation_fraction}"
        )
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"batch_size is {batch_size}; it must be a multiple of the number of processes, "
            f"{process_count}"
        )
    unknown = [emotion for emotion in emotions if emotion not in EMOTIONS]
    if unknown:
        raise UserError(f"{unknown[0]!r} is not an emotion; choose from {', '.join(EMOTIONS)}")
    if not 0 <= seed < 2**32:
        raise UserError(f"the data's seed is {seed}; it must be from 0 up to 2^32")
    if frame_stride < 1 or CLIP_FRAMES % frame_stride:
        raise UserError(
            f"frame_stride is {frame_stride}; it must divide the {CLIP_FRAMES} frames of a clip"
        )
    tracks = Tracks(batch_of == "clips", with_truth, with_keypoints, with_heatmaps)
    digest = hashlib.sha256()
    readers: list[ExampleReader] = []
    detectors: dict[str, str] = {}
    streams = []
    for number, source in enumerate(sources):
        kind = KINDS[source.kind]
        folder = open_folder(source, tracks)
        if folder.teacher is not None:
            detectors[source.path] = folder.teacher.detector
        names = folder.names
        felt = tuple(f"{emotion}_" for emotion in emotions) if kind.emotional else ()
        wanted = [i for i, name in enumerate(names) if not felt or name.clip.startswith(felt)]
        if not wanted:
            raise UserError(f"{source.path} has no clip whose emotion is {', '.join(emotions)}")
        # Clip by clip, before they are grouped: a clip is in the same split in every stage.
        wanted = [i for i in wanted if kind.is_in(split, names[i], validation_fraction)]
        groups = _grouped(names, wanted, per_identity=per_identity)
        if not groups:
            raise UserError(
                f"{source.path} has no clip in the {split} split: validation selects "
                f"{'clips' if kind.split_by_clip else 'whole identities'} of its "
                f"{len(folder.names)} clips with probability {validation_fraction}; change "
                "validation_fraction or add data"
            )
        readers.append(
            ExampleReader(
                folder, kind, groups, size, batch_of, on_bad_clip, frame_stride, with_frames
            )
        )
        order_seed, draw_seed = np.random.SeedSequence([seed, number]).generate_state(2).tolist()
        stream = grain.MapDataset.range(len(groups))
        if not single_pass:
            stream = stream.shuffle(seed=order_seed).repeat()
        streams.append(stream.random_map(_MakePlan(number), seed=draw_seed))
        digest.update(f"{source.kind} {source.weight}\n".encode())
        for group in groups:
            digest.update("".join(f"{folder.names[i]}\n" for i in group).encode())

    if len(streams) == 1:
        plans = streams[0]
    elif single_pass:
        plans = grain.MapDataset.concatenate(streams)
    else:
        plans = grain.MapDataset.mix(streams, [source.weight for source in sources])
    rows = batch_size // process_count
    return Batches(
        plans.batch(batch_size, drop_remainder=not single_pass, batch_fn=list),
        _LoadRows(
            tuple(readers), batch_size, slice(process_index * rows, (process_index + 1) * rows)
        ),
        identity={
            "examples": sum(len(reader.groups) for reader in readers),
            "batch_size": batch_size,
            "seed": seed,
            "clips digest": digest.hexdigest()[:16],
        },
        detectors=detectors,
        threads=threads,
        workers=workers,
    )


def _grouped(
    names: Sequence[ClipName], wanted: Sequence[int], *, per_identity: bool
) -> list[list[int]]:
    """Groups of clip indices; an example is read from one of a group."""
    if not per_identity:
        return [[index] for index in wanted]
    groups: dict[str, list[int]] = {}
    for index in wanted:
        groups.setdefault(names[index].identity, []).append(index)
    return list(groups.values())
