"""`python -m data.teach`: finds the image keypoints of all frames once, to be kept with the data.

The targets of part 1 and part 2 are what a frozen detector finds in the true frames. Kept with the
data, they need not be computed in every step, and part 1 does not even read the frames. Written
beside the clips of a folder in the published layout (`eamm_jax.input_pipeline.published`), clip by
clip; a packed data set takes them along (`--keypoints`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eamm_jax.cli.tool import OneLineParser, run, start_jax, whole_number
from eamm_jax.errors import UserError

if TYPE_CHECKING:
    from eamm_jax.models.config import ModelConfig
    from eamm_jax.types import FaceTruth, Keypoints

FRAMES_AT_ONCE = 16
"""Frames that the detector gets at once, which fixes the shape of its program."""


def make_detector(
    checkpoint: str,
) -> tuple[Callable[[Any], Keypoints], ModelConfig, str]:
    """The detector of a checkpoint: its compiled function, its configuration, its fingerprint.

    Raises:
        UserError: the checkpoint cannot be used, or has no detector.
    """
    import jax

    from eamm_jax.checkpoint import load_networks
    from eamm_jax.models import build
    from eamm_jax.training.objectives.base import to_float
    from eamm_jax.training.taught import fingerprint

    config, networks = load_networks(checkpoint, ["kp_detector"])
    variables, network = networks["kp_detector"], build(config).kp_detector
    apply = jax.jit(lambda variables, images: network.apply(variables, to_float(images)))
    placed = jax.device_put(variables)

    return partial(_in_blocks, partial(apply, placed)), config, fingerprint(config, variables)


def _in_blocks(find: Callable[[Any], Keypoints], clip: Any) -> Keypoints:
    """What a compiled function finds in a clip: an array, or a tree of them, of any length."""
    import jax

    count = len(jax.tree.leaves(clip)[0])
    rows = np.arange(count + -count % FRAMES_AT_ONCE).clip(max=count - 1)
    found = [
        jax.device_get(find(jax.tree.map(lambda x, block=block: x[block], clip)))
        for block in rows.reshape(-1, FRAMES_AT_ONCE)
    ]
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *found)


def make_truth(count: int) -> Callable[[FaceTruth], Keypoints]:
    """Where a detector of the bundled model is taught to find keypoints, without heatmaps.

    Args:
        count: of keypoints.
    """
    import jax

    from eamm_jax.training.bundled_config import KEYPOINTS
    from eamm_jax.training.objectives.guided import guided_values, head_rotation
    from eamm_jax.types import Keypoints

    @jax.jit
    def find(truth: FaceTruth) -> Keypoints:
        rotation = head_rotation(truth)[:, None].repeat(count, axis=1)
        return Keypoints(guided_values(truth, KEYPOINTS[:count]), rotation)

    return partial(_in_blocks, find)


def teach(
    root: str,
    checkpoint: str,
    *,
    heatmaps: bool = True,
    from_truth: bool = False,
    threads: int = 1,
    skip_bad: bool = False,
) -> tuple[int, dict[str, str]]:
    """Writes the keypoints of all clips that have none yet.

    Args:
        root: a folder in the published layout.
        checkpoint: has the trained detector: a converted one, or a work directory.
        heatmaps: also keep heatmaps, which part 1 reads and part 2 does not.
        from_truth: take them from the landmarks and poses of `data.synthetic`, as the bundled
            model's detector was taught; there are no heatmaps then.
        threads: that decode frames.
        skip_bad: leave bad clips out.

    Returns:
        How many clips were done now, and the faults of those that were left out.

    Raises:
        UserError: a bad clip, or keypoints of another detector are there.
    """
    import grain
    import jax

    from data import layout
    from data.progress import progress_bar
    from eamm_jax.input_pipeline.clips import BadClip, Tracks, decode_frames
    from eamm_jax.input_pipeline.published import (
        HEATMAPS_FOLDER,
        KEYPOINTS_FOLDER,
        PublishedFolder,
    )

    if heatmaps and from_truth:
        raise UserError("the truth has no heatmaps: leave them out with --no-heatmaps")
    folder = PublishedFolder(root, Tracks(truth=from_truth))
    find, config, detector = make_detector(checkpoint)
    if from_truth:
        find = make_truth(config.num_keypoints)
    _stamp(folder.root, detector, heatmaps)
    tracks = {name: layout.track_of(folder.root, KEYPOINTS_FOLDER, name) for name in folder.names}
    done = {name for name, track in tracks.items() if track.is_file()}
    missing = [index for index, name in enumerate(folder.names) if name not in done]
    skipped: dict[str, str] = {}

    def read(index: int) -> np.ndarray | FaceTruth | str:
        try:
            clip = folder.open(index)
            if from_truth:
                truths = [clip.truth(n) for n in range(clip.num_frames)]
                return jax.tree.map(lambda *rows: np.stack(rows), *truths)
            return np.stack(decode_frames(clip, range(clip.num_frames), config.image_size))
        except BadClip as fault:
            return str(fault)

    clips = grain.MapDataset.source(missing).map(read)
    reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    with progress_bar("teaching") as progress:
        task = progress.add_task("teaching", total=len(folder.names), completed=len(done))
        for index, frames in zip(missing, clips.to_iter_dataset(reading), strict=True):
            name = folder.names[index]
            if isinstance(frames, str):
                if not skip_bad:
                    raise UserError(
                        f"bad clip {name} in {root}: {frames} (repair or remove it, or skip it "
                        "with --on_bad_clip skip)"
                    )
                skipped[str(name)] = frames
            else:
                found = find(frames)
                jacobian = found.jacobian.reshape(*found.value.shape[:2], 4)
                if heatmaps:
                    maps = np.asarray(found.heatmap, np.float16)
                    layout.write_track(folder.root, HEATMAPS_FOLDER, name, maps)
                # Written last: a clip that has keypoints has everything.
                keypoints = np.concatenate([found.value, jacobian], axis=-1)
                layout.write_track(folder.root, KEYPOINTS_FOLDER, name, keypoints)
            progress.advance(task)
    return len(missing) - len(skipped), skipped


def _stamp(root: Path, detector: str, heatmaps: bool) -> None:
    """Says whose keypoints a folder holds.

    Raises:
        UserError: it holds those of another detector, or with other tracks.
    """
    from data import layout
    from eamm_jax.input_pipeline.published import (
        KEYPOINTS_FOLDER,
        STAMP_NAME,
        Teacher,
        find_teacher,
    )

    ours, there = Teacher(detector, heatmaps), find_teacher(root)
    if there is None:
        path = layout.parent(root / KEYPOINTS_FOLDER / STAMP_NAME)
        layout.write_whole(path, json.dumps(ours._asdict()).encode())
    elif there != ours:
        raise UserError(
            f"{root / KEYPOINTS_FOLDER} holds keypoints of the detector {there.detector}, with"
            f"{'' if there.heatmaps else 'out'} heatmaps; this would write those of {detector}, "
            f"with{'' if heatmaps else 'out'}: remove the folder first"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the flags and teaches a folder."""
    parser = OneLineParser(
        prog="python -m data.teach",
        description=(
            "Finds the image keypoints of all frames and keeps them with the data, for "
            "--config.taught=True. Run the same command again to resume."
        ),
    )
    parser.add_argument("--root", required=True, help="folder that contains fomm_crop/")
    parser.add_argument(
        "--checkpoint", required=True, help="has the trained detector, as train.py's --init_from"
    )
    parser.add_argument(
        "--heatmaps",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also keep heatmaps, which part 1 needs and part 2 does not",
    )
    parser.add_argument(
        "--from_truth",
        action="store_true",
        help="take keypoints from the landmarks of rendered faces instead of finding them, as the "
        "bundled model's detector was taught; needs --no-heatmaps",
    )
    parser.add_argument("--on_bad_clip", choices=("error", "skip"), default="error")
    parser.add_argument(
        "--threads", type=whole_number(1), default=os.cpu_count() or 1, help="that decode frames"
    )
    flags = parser.parse_args(argv)

    def job() -> None:
        start_jax()
        count, skipped = teach(
            flags.root,
            flags.checkpoint,
            heatmaps=flags.heatmaps,
            from_truth=flags.from_truth,
            threads=flags.threads,
            skip_bad=flags.on_bad_clip == "skip",
        )
        for name, fault in skipped.items():
            print(f"skipped {name}: {fault}", file=sys.stderr)
        print(f"found the keypoints of {count} clips of {flags.root}, skipped {len(skipped)}")

    run(job)


if __name__ == "__main__":
    main()
