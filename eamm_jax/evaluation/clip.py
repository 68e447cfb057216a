"""One clip: measures all contestants, and writes what the report shows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from PIL import Image
from safetensors.numpy import save_file

from eamm_jax.errors import UserError
from eamm_jax.evaluation import report
from eamm_jax.evaluation.cases import Case, Frames, changes
from eamm_jax.evaluation.contestants import TRUTH, Contestant
from eamm_jax.evaluation.measurement import Values, measure, prepare
from eamm_jax.evaluation.perception import PERCEPTION_EVERY
from eamm_jax.evaluation.tools import Tools
from eamm_jax.input_pipeline.clips import Labels
from eamm_jax.io.image import write_png
from eamm_jax.io.video_writer import video_writer

SHEET, VIDEO, FEATURES = ".png", ".mp4", ".safetensors"
"""Suffixes of the files of a clip: its sheet, its video of all contestants side by side, and
features by contestant for the distance FID."""

VIDEO_CELL = 192
"""Side of a contestant in the video; larger frames are downsampled."""

_QUALITY = 26  # of the video


class ClipResult(NamedTuple):
    """What is known of a clip.

    Attributes:
        labels: its person, emotion and level.
        values: metrics by contestant.
        faults: why a contestant, or the whole clip (by the name `truth`), is missing or lacks
            metrics.
    """

    labels: Labels
    values: Mapping[str, Values]
    faults: Mapping[str, str]


def file_name(clip: str) -> str:
    """The name of a clip's files in the report, without suffix."""
    return clip.replace("/", "_")


def measure_clip(case: Case, field: Sequence[Contestant], tools: Tools, folder: Path) -> ClipResult:
    """Measures all contestants on a case, and writes its files.

    Args:
        case: the case.
        field: the contestants, the main one last.
        tools: to measure with.
        folder: where the clip's files are written.
    """
    shown = {TRUTH.name: _reduced(case.truth)}
    rows = [report.Row(TRUTH.name, report.spread(case.truth))]
    features: dict[str, Float32[np.ndarray, "n d"]] = {}

    def keep(name: str, frames: Frames) -> None:
        if name != TRUTH.name:
            rows.append(report.Row(name, report.spread(frames)))
            shown[name] = _reduced(frames)
        if tools.inception is not None:
            features[name] = tools.inception.features(frames)

    try:
        values, faults = measure_contestants(case, field, tools, keep)
    except UserError as error:
        return ClipResult(case.labels, {}, {TRUTH.name: f"{TRUTH.name}: {error}"})
    main = field[-1].name
    line = report.one_line(main, values[main]) if main in values else f"no {main}"
    path = folder / file_name(case.name)
    write_png(f"{path}{SHEET}", report.sheet(f"{case.name}   {line}", rows))
    _write_video(Path(f"{path}{VIDEO}"), shown, case.sound_file)
    if features:
        save_file(features, f"{path}{FEATURES}")
    return ClipResult(case.labels, values, faults)


def measure_contestants(
    case: Case,
    field: Sequence[Contestant],
    tools: Tools,
    keep: Callable[[str, Frames], None],
) -> tuple[dict[str, Values], dict[str, str]]:
    """Measures contestants on a case, one after the other.

    Those named in the case's `faults` are left out.

    Args:
        case: the case.
        field: the contestants.
        tools: to measure with.
        keep: is given the name and the frames of each.

    Returns:
        Metrics by contestant, without those of faces where no frame shows one; and faults.

    Raises:
        UserError: no face is seen in the ground truth.
    """
    reference = prepare(case, tools)
    values: dict[str, Values] = {}
    faults = dict(case.faults)
    some: dict[str, Frames] = {}
    for contestant in field:
        name = contestant.name
        if name in faults:
            continue
        frames = contestant.frames(case)
        try:
            values[name] = measure(reference, frames, tools, case.mfcc_under(name))
        except UserError as error:
            faults[name] = f"{name}: {error}"
            values[name] = measure(reference, frames, tools._replace(reader=None))
        some[name] = frames[::PERCEPTION_EVERY]
        keep(name, frames)
    if tools.perception is not None:
        try:
            distances = tools.perception.distances(some, case.truth[::PERCEPTION_EVERY])
        except UserError as error:
            faults[TRUTH.name], distances = f"{TRUTH.name}: {error}", {}
        for metric, by_name in distances.items():
            for name, of_frames in by_name.items():
                values[name][metric] = float(of_frames.mean())
    return values, faults


def _reduced(frames: Frames) -> Frames:
    side = min(VIDEO_CELL, frames.shape[1])
    if side == frames.shape[1]:
        return frames
    new, number = changes(frames)
    box = Image.Resampling.BOX
    reduced = [np.asarray(Image.fromarray(f).resize((side, side), box)) for f in frames[new]]
    return np.stack(reduced)[number]


def _write_video(path: Path, shown: Mapping[str, Frames], sound: Path | None) -> None:
    height, width = next(iter(shown.values())).shape[1:3]
    with video_writer(path, width * len(shown), height, sound=sound, crf=_QUALITY) as video:
        for row in zip(*shown.values(), strict=True):
            video.write(np.concatenate(row, axis=1))
