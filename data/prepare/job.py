"""Prepares all raw videos of a folder, in parallel or with Apache Beam, and reports the result.

An interrupted run resumes: a clip that has frames is done, and a skipped video has a file with the
reason. `prepare.json` records the recipe; another recipe for the same folder is rejected.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from data import layout
from data.layout import RECIPE_FILE, TIMING
from data.prepare.clip import (
    Recipe,
    Task,
    check_tools,
    forget_skipped,
    prepare,
    read_skipped,
)
from data.prepare.names import Selection, guess_kind, name_clips, read_labels, videos_in
from data.progress import progress_bar
from eamm_jax.errors import UserError
from eamm_jax.io.beam import run_with_beam
from eamm_jax.io.files import cannot_write
from eamm_jax.io.parallel import run_parallel

REPORT_FILE = "prepare_report.json"


@dataclass
class Report:
    """The outcome of a run.

    Attributes:
        input: folder of raw videos.
        output: folder of clips.
        kind: kind of the data set.
        pose: method of head pose estimation.
        clips: number of complete clips, including those of earlier runs.
        made: number of clips prepared by this run.
        skipped: path of each skipped video, relative to the input -> reason.
        videos: of the kind `any`: clip -> path of its video.
    """

    input: str
    output: str
    kind: str
    pose: str
    clips: int = 0
    made: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    videos: dict[str, str] = field(default_factory=dict)


def run(
    source: Path,
    root: Path,
    recipe: Recipe,
    *,
    kind: str | None = None,
    selection: Selection | None = None,
    labels: Path | None = None,
    workers: int = 1,
    retry: bool = False,
    beam_runner: str | None = None,
    beam_options: Any = None,
) -> Report:
    """Prepares a data set.

    Args:
        source: folder of raw videos.
        root: output folder; created if needed.
        recipe: how to prepare clips.
        kind: `lrw`, `mead`, `voxceleb` or `any`; None guesses one of the first three.
        selection: which videos to prepare.
        labels: CSV file with emotions, for the kind `any` (`names.read_labels`).
        workers: number of processes.
        retry: retry videos that were skipped before.
        beam_runner: name of an Apache Beam runner, to use instead of processes.
        beam_options: options of the runner.

    Raises:
        UserError: there is nothing to prepare, a package is not installed, `root` contains clips
            of another recipe, or it is not writable.
    """
    videos = videos_in(source)
    kind = kind or guess_kind(source, videos)
    if labels is not None and kind != "any":
        raise UserError(f"labels are for videos of the kind 'any'; the names of {kind} have them")
    selection = replace(
        selection or Selection(),
        folder=source,
        labels={} if labels is None else read_labels(labels, source, videos),
    )
    report = Report(str(source), str(root), kind, check_tools(recipe))
    tasks: list[Task] = []
    for path, raw in name_clips(videos, kind, selection):
        if isinstance(raw, str):
            report.skipped[str(path.relative_to(source))] = raw
        else:
            tasks.append(Task(str(root), raw, recipe))
            if kind == "any":
                report.videos[str(raw.name)] = str(path.relative_to(source))
    if not tasks:
        example, why = next(iter(report.skipped.items()))
        raise UserError(
            f"none of the {len(videos)} videos in {source} can be prepared as {kind}; "
            f"for example, {example}: {why}"
        )
    made_with = {"kind": kind, **asdict(recipe), **TIMING}
    if labels is not None:  # other labels would be other clips of the same videos
        made_with["labels"] = hashlib.sha256(labels.read_bytes()).hexdigest()
    _begin(root, made_with)
    if retry:
        forget_skipped(tasks)
    missing = [task for task in tasks if not task.done and read_skipped(task) is None]
    if beam_runner:
        _prepare_with_beam(missing, beam_runner, beam_options)
    else:
        try:
            _prepare_with_processes(missing, tasks, workers)
        finally:
            layout.remove_unfinished(root)
    for task in tasks:
        fault = None if task.done else read_skipped(task)
        if fault is not None:
            report.skipped[str(task.raw.video.relative_to(source))] = fault
    report.clips = sum(task.done for task in tasks)
    report.made = sum(task.done for task in missing)
    report.skipped = dict(sorted(report.skipped.items()))
    text = json.dumps(asdict(report), indent=2) + "\n"
    try:
        layout.remove_unfinished(root)
        layout.write_whole(root / REPORT_FILE, text.encode())
    except OSError as error:
        raise cannot_write(root / REPORT_FILE, error) from error
    return report


def _begin(root: Path, recipe: dict[str, Any]) -> None:
    """Creates the folder, or checks that an existing one has the same recipe."""
    path = root / RECIPE_FILE
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            layout.write_whole(path, (json.dumps(recipe, indent=2) + "\n").encode())
        found = json.loads(path.read_text())
        layout.remove_unfinished(root)
    except OSError as error:
        raise cannot_write(root, error) from error
    except ValueError as error:
        raise UserError(f"{path} is damaged; remove it, or write to another folder") from error
    if found != recipe:
        raise UserError(
            f"{root} contains clips prepared with {_words(found)}, not with {_words(recipe)}; "
            "use the same settings to resume, or another folder"
        )


def _words(recipe: Any) -> str:
    if not isinstance(recipe, dict):
        return "something else"
    return ", ".join(f"{key} {value}" for key, value in recipe.items())


def _prepare_with_processes(missing: list[Task], tasks: list[Task], workers: int) -> None:
    preparing = closing(run_parallel(prepare, missing, workers))
    with progress_bar("preparing") as progress, preparing as prepared:
        bar = progress.add_task("preparing", total=len(tasks), completed=len(tasks) - len(missing))
        for _ in prepared:
            progress.advance(bar)


def _prepare_with_beam(missing: Sequence[Task], runner: str, options: Any) -> None:
    """Prepares clips with Apache Beam; input and output must be on shared storage.

    Raises:
        UserError: Beam is not installed or does not know the runner, or a clip could not be
            written.
    """
    run_with_beam(_prepare_or_note, missing, runner, options)
    for task in missing:
        fault = _fault(task)
        if fault.is_file():
            text = fault.read_text()
            fault.unlink()
            raise UserError(text)


def _fault(task: Task) -> Path:
    """Written by a Beam worker that cannot write its output: the reason."""
    return task.skipped.with_suffix(".fault")


def _prepare_or_note(task: Task) -> None:
    try:
        prepare(task)
    except UserError as error:
        layout.write_whole(layout.parent(_fault(task)), str(error).encode(errors="replace"))


def reasons(report: Report) -> list[tuple[str, int]]:
    """Reasons for skipping and their counts, the most frequent first."""
    return Counter(report.skipped.values()).most_common()
