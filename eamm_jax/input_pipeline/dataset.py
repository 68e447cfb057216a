"""Batches of training examples: split, shuffled, mixed, sharded over processes, resumable.

Grain first makes cheap *plans* (which group of which source, and a seed), shuffles and mixes
those, and groups them into the batches of the whole run; then each process loads the rows
that are its own. So batch number k is the same, row for row, whatever the number of processes
and workers, and where a run stands is one number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import grain
import jax
import numpy as np

from eamm_jax.errors import UserError
from eamm_jax.input_pipeline.clips import KINDS, ClipName
from eamm_jax.input_pipeline.examples import (
    ClipReader,
    Example,
    ExampleReader,
    OnBadClip,
    PairReader,
)
from eamm_jax.input_pipeline.sources import Source, open_folder
from eamm_jax.types import CLIP_FRAMES, EMOTIONS, Clips, Pairs

Split = Literal["train", "validation", "all"]

DEFAULT_VALIDATION_FRACTION = 0.05


class _Plan(NamedTuple):
    """An example before anything is read."""

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
    """Reads one process's rows of a batch of plans."""

    readers: tuple[ExampleReader, ...]
    batch_size: int
    rows: slice

    def __call__(self, plans: Sequence[_Plan]) -> _Loaded:
        # The last batch of a single pass is filled up with its own examples, without names.
        filled = [plans[row % len(plans)] for row in range(self.batch_size)]
        examples = [self._load(plan) for plan in filled[self.rows]]
        first_row = self.rows.start
        return _Loaded(
            data=_stack([example.data for example in examples]),
            names=tuple(
                example.name if first_row + row < len(plans) else ""
                for row, example in enumerate(examples)
            ),
            skipped=dict(fault for example in examples for fault in example.skipped),
        )

    def _load(self, plan: _Plan) -> Example:
        return self.readers[plan.source].read(plan.group, plan.seed)


def _stack(examples: Sequence[Clips | Pairs]) -> Clips | Pairs:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *examples)


class Batches:
    """An iterator of `(Clips | Pairs, names)`: one process's rows of each batch.

    `names` tells where each row came from (`<kind>:<identity>/<clip>`); rows that only fill
    up the last batch of a single pass have the name "" and must not be counted. Arrays are
    NumPy, images uint8.

    Attributes:
        num_examples: examples in an epoch: clips (or identities) in the split.
        steps_per_epoch: batches in an epoch, at least one.
        skipped: name and fault of each bad clip this process has met since `end_epoch`.
    """

    def __init__(
        self,
        plans: grain.MapDataset,
        load: _LoadRows,
        *,
        num_examples: int,
        steps_per_epoch: int,
        identity: dict[str, Any],
        threads: int,
        workers: int,
    ):
        """Made by `make_dataset`."""
        self.num_examples = num_examples
        self.steps_per_epoch = steps_per_epoch
        self.skipped: dict[str, str] = {}
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
        # Workers deal whole batches out among themselves, so their number changes no batch;
        # and as any batch can be made from its number, resuming is starting there.
        batches = self._plans[self._step :].map(self._load)
        reading = grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=self._threads)
        dataset = batches.to_iter_dataset(reading)
        if self._workers:
            from absl import flags

            if not flags.FLAGS.is_parsed():  # Grain reads its own flags where it starts workers
                flags.FLAGS.mark_as_parsed()
            dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(self._workers))
        return iter(dataset)

    def end_epoch(self) -> dict[str, str]:
        """The bad clips this process met since the last call, and starts counting anew."""
        skipped, self.skipped = self.skipped, {}
        return skipped

    def reset(self) -> None:
        """Goes back to the first batch (to validate once more)."""
        self.close()
        self._step = 0
        self.skipped = {}

    def close(self) -> None:
        """Ends the readers; the next batch would start them again where they were."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def get_state(self) -> dict[str, Any]:
        """Where the iterator stands, as JSON: alike on all processes but for `skipped`.

        The state suits any number of processes, workers and threads.
        """
        return {"step": self._step, "skipped": dict(self.skipped), **self._identity}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on after the last batch that was taken before `get_state`.

        Raises:
            UserError: the state was saved with other data or another order of it.
        """
        for key, value in self._identity.items():
            if state.get(key) != value:
                raise UserError(
                    "the saved position in the training data does not fit: it was saved with "
                    f"{key} {state.get(key)}, now it is {value}; resume with what it was saved "
                    "with, or start a new work directory from its parameters (--init_from)"
                )
        self.close()
        self._step = int(state["step"])
        self.skipped = dict(state["skipped"])


def describe_skipped(skipped: dict[str, str], shown: int = 3) -> str:
    """One line for the end of an epoch: how many bad clips there were, and the first few."""
    if not skipped:
        return "no bad clips"
    faults = [f"{name}: {fault}" for name, fault in sorted(skipped.items())[:shown]]
    more = f"; and {len(skipped) - shown} more" if len(skipped) > shown else ""
    noun = "clip" if len(skipped) == 1 else "clips"
    return f"skipped {len(skipped)} bad {noun}: {'; '.join(faults)}{more}"


def make_dataset(
    sources: Sequence[Source],
    *,
    batch_size: int,
    size: int,
    batch_of: Literal["clips", "pairs"] = "clips",
    split: Split = "train",
    validation_fraction: float = DEFAULT_VALIDATION_FRACTION,
    seed: int = 0,
    single_pass: bool = False,
    per_identity: bool = False,
    emotions: Sequence[str] = (),
    frame_stride: int = 1,
    with_truth: bool = False,
    on_bad_clip: OnBadClip = "error",
    threads: int = 4,
    workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Batches:
    """Batches of training or validation examples.

    Args:
        sources: folders of clips; several are mixed by their weights.
        batch_size: examples in a batch of the whole run; a process gets its equal share.
        size: rows and columns of the images.
        batch_of: `clips` for `Clips`, `pairs` for `Pairs` (which need no sound or pose).
        split: `train` and `validation` share no identity (LRW: no clip); `all` is both.
        validation_fraction: of the identities, about; which ones depends on their names only.
        seed: of the order and of all that is drawn.
        single_pass: one pass in the order of names, for validation, its last batch filled up;
            otherwise an endless stream, shuffled anew in each epoch.
        per_identity: an epoch has one example of each identity instead of each clip, from a
            random clip of theirs, so that prolific speakers do not dominate (the parent's
            `id_sampling`, stage 0).
        emotions: those whose clips are used, of sources with labelled clips; none is all.
        frame_stride: of a clip's 16 frames every so many-th is read; their sound is whole.
        with_truth: pairs come with landmarks and pose, which the folder must hold.
        on_bad_clip: `error` raises `UserError` at the first bad clip, `skip` takes the next
            good one and notes it in `Batches.skipped`.
        threads: batches read at once, in every worker.
        workers: reader processes beside the main one; needs a main guard in the script.
        process_index: which of the run's processes this is.
        process_count: processes in the run.

    Returns:
        The iterator; reading starts with its first batch.

    Raises:
        UserError: no data, or arguments that make no sense.
    """
    if size < 1 or threads < 1 or workers < 0 or not 0 <= validation_fraction < 1:
        raise UserError(
            "size and threads must be at least 1, workers at least 0 and validation_fraction "
            f"from 0 up to 1, but they are {size}, {threads}, {workers} and {validation_fraction}"
        )
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"batch_size is {batch_size}: it must be a multiple of the run's {process_count} "
            "processes"
        )
    unknown = [emotion for emotion in emotions if emotion not in EMOTIONS]
    if unknown:
        raise UserError(f"{unknown[0]!r} is no emotion; choose from {', '.join(EMOTIONS)}")
    if not 0 <= seed < 2**32:
        raise UserError(f"the data's seed is {seed}; it must be from 0 up to 2^32")
    if frame_stride < 1 or CLIP_FRAMES % frame_stride:
        raise UserError(
            f"frame_stride is {frame_stride}; it must divide the {CLIP_FRAMES} frames of a clip"
        )
    reader_of = (
        partial(ClipReader, frame_stride=frame_stride) if batch_of == "clips" else PairReader
    )

    digest = hashlib.sha256()
    readers: list[ExampleReader] = []
    streams, lengths = [], []
    for number, source in enumerate(sources):
        kind = KINDS[source.kind]
        folder = open_folder(source, with_motion=batch_of == "clips", with_truth=with_truth)
        names = folder.names
        felt = tuple(f"{emotion}_" for emotion in emotions) if kind.emotional else ()
        wanted = [i for i, name in enumerate(names) if not felt or name.clip.startswith(felt)]
        if not wanted:
            raise UserError(f"{source.path} holds no clip whose emotion is {', '.join(emotions)}")
        if split != "all":
            # Clip by clip, before they are grouped: a clip is in the same split in every stage.
            wanted = [
                i
                for i in wanted
                if (kind.validation_share(names[i]) < validation_fraction)
                == (split == "validation")
            ]
        groups = _grouped(names, wanted, per_identity=per_identity)
        if not groups:
            raise UserError(
                f"no clip of {source.path} falls into the {split} split: of its "
                f"{len(folder.names)} clips, validation takes whole "
                f"{'clips' if kind.split_by_clip else 'identities'} with a probability of "
                f"{validation_fraction}; change validation_fraction or add data"
            )
        readers.append(reader_of(folder, kind, groups, size=size, on_bad_clip=on_bad_clip))
        order_seed, draw_seed = np.random.SeedSequence([seed, number]).generate_state(2).tolist()
        stream = grain.MapDataset.range(len(groups))
        if not single_pass:
            stream = stream.shuffle(seed=order_seed).repeat()
        streams.append(stream.random_map(_MakePlan(number), seed=draw_seed))
        lengths.append(len(groups))
        digest.update(f"{source.kind} {source.weight}\n".encode())
        for group in groups:
            digest.update("".join(f"{folder.names[i]}\n" for i in group).encode())

    if len(streams) == 1:
        plans = streams[0]
    elif single_pass:
        plans = grain.MapDataset.concatenate(streams)
    else:
        plans = grain.MapDataset.mix(streams, [source.weight for source in sources])
    num_examples = sum(lengths)
    steps = -(-num_examples // batch_size) if single_pass else num_examples // batch_size
    rows = batch_size // process_count
    return Batches(
        plans.batch(batch_size, drop_remainder=not single_pass, batch_fn=list),
        _LoadRows(
            tuple(readers), batch_size, slice(process_index * rows, (process_index + 1) * rows)
        ),
        num_examples=num_examples,
        steps_per_epoch=max(1, steps),
        identity={
            "examples": num_examples,
            "batch_size": batch_size,
            "seed": seed,
            "clips digest": digest.hexdigest()[:16],
        },
        threads=threads,
        workers=workers,
    )


def _grouped(
    names: Sequence[ClipName], wanted: Sequence[int], *, per_identity: bool
) -> list[list[int]]:
    """Indices of clips that one example may be cut from."""
    if not per_identity:
        return [[index] for index in wanted]
    groups: dict[str, list[int]] = {}
    for index in wanted:
        groups.setdefault(names[index].identity, []).append(index)
    return list(groups.values())
