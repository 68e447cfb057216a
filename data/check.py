"""`python -m data.check ROOT`: audits every frame of a folder in the published layout.

The exit code is 0 if there are no problems, otherwise 2.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from eamm_jax.cli.tool import EXIT_BAD_INPUT, OneLineParser, run, whole_number
from eamm_jax.constants import EMOTIONS, FRAME_RATE

if TYPE_CHECKING:
    from eamm_jax.input_pipeline.clips import ClipName

CLIPS_A_TASK = 16
"""Clips per task of a worker process."""

SHOWN_PROBLEMS = 20
"""Problems shown in the table; `--json` lists all."""


@dataclass
class Audit:
    """The contents and problems of a folder.

    Attributes:
        root: the folder.
        kind: kind of the data set.
        clips: number of clips.
        good_clips: number of clips without problems.
        frames: number of frames of good clips.
        identities: number of people, or of words in LRW.
        sizes: frame size -> number of good clips of that size.
        emotions: emotion -> number of good clips, for data sets with emotion labels.
        problems: clip, identity or file -> problem.
    """

    root: str
    kind: str
    clips: int = 0
    good_clips: int = 0
    frames: int = 0
    identities: int = 0
    sizes: dict[int, int] = field(default_factory=dict)
    emotions: dict[str, int] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


class ClipReport(NamedTuple):
    """The number of frames of a clip and their sizes, or its fault."""

    frames: int
    sizes: frozenset[int]
    fault: str | None


def guess_kind(names: Sequence[ClipName]) -> str:
    """Guesses the kind of the data set from clip names."""
    from eamm_jax.input_pipeline.clips import KINDS, BadClip

    if any(name.is_album for name in names):
        return "synthetic"

    def is_labelled(name: ClipName) -> bool:
        try:
            return KINDS["mead"].emotion(name) >= 0
        except BadClip:
            return False

    labelled = sum(map(is_labelled, names))
    if 2 * labelled > len(names):
        return "mead"
    numbered = sum(
        re.fullmatch(rf"{re.escape(name.identity)}_\d+", name.clip) is not None for name in names
    )
    if 2 * numbered > len(names):
        return "lrw"
    return "voxceleb"


def check_clips(
    names: Sequence[ClipName], *, root: str, kind: str, frames_only: bool
) -> list[ClipReport]:
    """Reads all files of the clips; of albums, which have neither sound nor label, the frames."""
    from eamm_jax.input_pipeline.clips import KINDS, BadClip, Tracks, decode_frames
    from eamm_jax.input_pipeline.published import PublishedFolder

    folder = PublishedFolder(root, Tracks(motion=not frames_only), names=names)
    reports = []
    for index, name in enumerate(names):
        with_motion = not (frames_only or name.is_album)
        try:
            if with_motion:
                KINDS[kind].emotion(name)
            clip = folder.open(index)
            if with_motion:
                clip.motion()
            frames = decode_frames(clip, range(clip.num_frames), None)
        except BadClip as fault:
            reports.append(ClipReport(0, frozenset(), str(fault)))
        else:
            sizes = frozenset(len(frame) for frame in frames)
            reports.append(ClipReport(clip.num_frames, sizes, None))
    return reports


def audit(
    root: str, kind: str | None = None, *, frames_only: bool = False, workers: int = 1
) -> Audit:
    """Reads a whole folder and reports its contents and problems.

    Args:
        root: a folder in the published layout.
        kind: kind of the data set; None guesses it from the names.
        frames_only: do not check audio features and pose.
        workers: number of processes.

    Raises:
        UserError: the folder does not exist or contains no clips.
    """
    from data.progress import progress_bar
    from eamm_jax.input_pipeline.clips import KINDS, Tracks
    from eamm_jax.input_pipeline.published import PublishedFolder
    from eamm_jax.io.parallel import run_parallel

    names = PublishedFolder(root, Tracks(motion=not frames_only)).names
    result = Audit(root=root, kind=kind or guess_kind(names), clips=len(names))
    result.identities = len({name.identity for name in names})
    job = partial(check_clips, root=root, kind=result.kind, frames_only=frames_only)
    tasks = [names[n : n + CLIPS_A_TASK] for n in range(0, len(names), CLIPS_A_TASK)]
    good: list[ClipName] = []
    sizes: Counter[int] = Counter()
    checking = closing(run_parallel(job, tasks, workers))
    with progress_bar("checking") as progress, checking as checked:
        bar = progress.add_task("checking", total=len(names))
        for task, reports in checked:
            progress.advance(bar, len(task))
            for name, report in zip(task, reports, strict=True):
                if report.fault is None:
                    good.append(name)
                    sizes.update(report.sizes)
                    result.frames += report.frames
                else:
                    result.problems[str(name)] = report.fault
    result.good_clips = len(good)
    result.sizes = dict(sorted(sizes.items()))
    if KINDS[result.kind].emotional and not frames_only:
        emotion = {n: KINDS[result.kind].emotion(n) for n in good if not n.is_album}
        labels = Counter(emotion.values())
        result.emotions = {label: labels[n] for n, label in enumerate(EMOTIONS)}
        neutral = {name.identity for name, label in emotion.items() if label == _NEUTRAL}
        for identity in sorted({n.identity for n in names if not n.is_album} - neutral):
            result.problems[identity] = "has no good neutral clip to take portraits from"
    if not frames_only:
        result.problems.update(_strays(Path(root), names) | _timing(Path(root)))
    result.problems = dict(sorted(result.problems.items()))
    return result


_NEUTRAL = EMOTIONS.index("neutral")


def _strays(root: Path, names: Sequence[ClipName]) -> dict[str, str]:
    """Finds tracks without a clip."""
    from eamm_jax.input_pipeline.published import POSE_FOLDER, SOUND_FOLDER

    clips = {(name.identity, name.clip) for name in names}
    return {
        str(path.relative_to(root)): "belongs to no folder of frames"
        for folder in (POSE_FOLDER, SOUND_FOLDER)
        for path in (root / folder).glob("*/*.npy")
        # Names in "._" are what a Mac leaves beside files on other disks.
        if (path.parent.name, path.stem) not in clips and not path.name.startswith("._")
    }


def _timing(root: Path) -> dict[str, str]:
    """Whether clips were prepared before sound and picture were matched by time."""
    from data.layout import RECIPE_FILE, TIMING

    try:
        recipe = json.loads((root / RECIPE_FILE).read_text())
    except (OSError, ValueError):  # not made by data.prepare
        return {}
    if isinstance(recipe, dict) and recipe.items() >= TIMING.items():
        return {}
    return {
        RECIPE_FILE: "an older version prepared these clips and matched sound and picture by "
        "count, not by time; prepare them again"
    }


def print_audit(result: Audit) -> None:
    """Prints an audit as tables."""
    from rich.console import Console
    from rich.table import Table

    from eamm_jax.input_pipeline.clips import KINDS

    console = Console()
    table = Table(title=f"{result.root} ({result.kind})", show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    table.add_row("clips", f"{result.clips:,}")
    table.add_row("  good", f"{result.good_clips:,}")
    table.add_row("frames of good clips", f"{result.frames:,}")
    table.add_row("  minutes", f"{result.frames / FRAME_RATE / 60:,.1f}")
    for size, count in result.sizes.items():
        table.add_row(f"  clips of {size}x{size}", f"{count:,}")
    by_clip = KINDS[result.kind].split_by_clip
    table.add_row("words" if by_clip else "identities", f"{result.identities:,}")
    for label, count in result.emotions.items():
        table.add_row(f"  {label}", f"{count:,}")
    table.add_row("problems", f"{len(result.problems):,}")
    console.print(table)
    if result.problems:
        faults = Table(title="problems", title_justify="left")
        faults.add_column("where")
        faults.add_column("what", overflow="fold")
        for where, fault in list(result.problems.items())[:SHOWN_PROBLEMS]:
            faults.add_row(where, fault)
        console.print(faults)
        if len(result.problems) > SHOWN_PROBLEMS:
            console.print(f"and {len(result.problems) - SHOWN_PROBLEMS} more; --json lists all")


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the flags and audits the folder."""
    parser = OneLineParser(
        prog="python -m data.check",
        description="Audits training data in the published folder layout.",
    )
    parser.add_argument("root", help="folder that holds fomm_crop/")
    parser.add_argument(
        "--kind",
        choices=("lrw", "mead", "voxceleb", "synthetic"),
        help="kind of the data set; default: guessed from the clip names",
    )
    parser.add_argument("--frames_only", action="store_true", help="skip audio and pose (stage 0)")
    parser.add_argument(
        "--workers", type=whole_number(1), default=os.cpu_count() or 1, help="number of processes"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    flags = parser.parse_args(argv)

    def job() -> None:
        result = audit(flags.root, flags.kind, frames_only=flags.frames_only, workers=flags.workers)
        if flags.json:
            print(json.dumps(dataclasses.asdict(result), indent=2))
        else:
            print_audit(result)
        if result.problems:
            raise SystemExit(EXIT_BAD_INPUT)

    run(job)


if __name__ == "__main__":
    main()
