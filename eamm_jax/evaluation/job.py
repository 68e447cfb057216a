"""Runs an evaluation: reads clips, animates, measures, and writes the report folder."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from safetensors.numpy import load_file

from eamm_jax import __version__
from eamm_jax.animate.animator import Animator, Settings
from eamm_jax.animate.emotion_bank import EmotionBank
from eamm_jax.animate.program import EMOTION_NETWORK, REQUIRED_NETWORKS
from eamm_jax.checkpoint import load_networks, model_folder
from eamm_jax.errors import UserError
from eamm_jax.evaluation import contestants, report, tables
from eamm_jax.evaluation.asked import Asked, ask, cases_to_ask
from eamm_jax.evaluation.cases import DataSet, Pairs, PortraitFrom
from eamm_jax.evaluation.clip import (
    FEATURES,
    SHEET,
    VIDEO,
    ClipResult,
    file_name,
    measure_clip,
)
from eamm_jax.evaluation.contestants import STILL, TRUTH, EmotionSource, animated
from eamm_jax.evaluation.measurement import METRICS, Values
from eamm_jax.evaluation.page import ShownClip, evenly, page
from eamm_jax.evaluation.pair_job import PairTask, measure_pairs
from eamm_jax.evaluation.realism import frechet_distance
from eamm_jax.evaluation.statistics import methods_of
from eamm_jax.evaluation.tools import Protocol, make_tools
from eamm_jax.input_pipeline.clips import Labels, Split
from eamm_jax.input_pipeline.dataset import DEFAULT_VALIDATION_FRACTION
from eamm_jax.input_pipeline.sources import Source
from eamm_jax.io.files import atomic_output_dir, make_folder
from eamm_jax.io.image import read_image, to_uint8, write_png

RESULTS_FILE, PICTURES_FILE, ASKED_FILE, SHEETS = (
    "metrics.json",
    "pictures.png",
    "asked.png",
    "clips",
)
MARKDOWN_FILE, LATEX_FILE, PAGE_FILE = "tables.md", "tables.tex", "report.html"
RESULTS = (
    *(RESULTS_FILE, PICTURES_FILE, ASKED_FILE, SHEETS),
    *(MARKDOWN_FILE, LATEX_FILE, PAGE_FILE),
)
"""What an evaluation writes; another one may replace it."""

DEFAULT_CLIPS = 40
DEFAULT_PEOPLE = 8
"""Default numbers of clips, and of people for the test of emotion control."""

Advance = Callable[[str, int, int], None]
"""Called with the current task, and its done and total counts."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What to evaluate: either `pairs`, or `source` and `checkpoint`.

    Attributes:
        output: folder to write.
        pairs: folder of rendered and ground-truth videos.
        source: data set of clips that the model is compared with.
        checkpoint: the model: a converted one, or a work directory.
        split: split of the data set.
        validation_fraction: fraction of the identities, as in training.
        clips: number of clips, of a data set selected evenly; 0: all; None: `DEFAULT_CLIPS` of a
            data set, all pairs.
        max_frames: frames per clip; 0: all.
        portrait: the source image (see `cases.DataSet`).
        faces: face reader (`readers.KINDS`).
        networks: converted networks that measure (`constants.METRIC_NETWORKS`), or None.
        protocol: of comparison (`tools.Protocol`).
        embedder: network of identity in ONNX format; None: dlib's, if it is installed.
        workers: number of processes that measure pairs.
        emotions: source of emotions: the person's `own` clips, or the model's `bank`.
        people: number of people for the test of emotion control; 0: none.
        only: names of contestants; empty: all.
        settings: settings of the animations.
        overwrite: replace the contents of `output`.
    """

    output: Path
    pairs: Path | None = None
    source: Source | None = None
    checkpoint: Path | None = None
    split: Split = "validation"
    validation_fraction: float = DEFAULT_VALIDATION_FRACTION
    clips: int | None = None
    max_frames: int = 0
    portrait: PortraitFrom = "neutral"
    faces: str = "real"
    networks: Path | None = None
    protocol: Protocol = "plain"
    embedder: Path | None = None
    workers: int = 1
    emotions: Literal["own", "bank"] = "own"
    people: int = DEFAULT_PEOPLE
    only: tuple[str, ...] = ()
    settings: Settings = dataclasses.field(default_factory=Settings)
    overwrite: bool = False


class Measured(NamedTuple):
    """What was measured.

    Attributes:
        by_clip: metrics by clip and contestant.
        labels: person, emotion and level of each clip.
        faults: clips of which a contestant, or the ground truth, is missing: why, by contestant.
    """

    by_clip: dict[str, Mapping[str, Values]]
    labels: dict[str, Labels]
    faults: dict[str, Mapping[str, str]]


class Result(NamedTuple):
    """Results of an evaluation.

    Attributes:
        measured: by clip.
        fid: Frechet inception distance by contestant; empty without the network.
        asked: results of the test of emotion control, or None.
        seconds: duration.
    """

    measured: Measured
    fid: dict[str, float]
    asked: Asked | None
    seconds: float


def run(job: Job, advance: Advance = lambda what, done, total: None) -> Result:
    """Runs an evaluation and writes its folder atomically.

    The folder contains `metrics.json`; all tables as `tables.md` and `tables.tex`, and with clips
    to play as `report.html`; a sheet and a video per clip in `clips`, the best, median and worst
    sheet in `pictures.png`, and `asked.png` if emotion control was tested. Clips of a folder of
    pairs that are bad or missing are left out and named.

    Raises:
        UserError: an input is invalid or missing; nothing is written then.
    """
    start = time.perf_counter()
    with atomic_output_dir(job.output, RESULTS if job.overwrite else None) as folder:
        (folder / SHEETS).mkdir()
        if job.pairs is not None:
            measured, asked, facts = _evaluate_pairs(job, job.pairs, folder, advance)
        elif job.source is not None and job.checkpoint is not None:
            measured, asked, facts = _evaluate_model(
                job, job.source, job.checkpoint, folder, advance
            )
        else:
            raise UserError("give a folder of pairs, or a data set and a checkpoint")
        _write_best_median_worst(measured.by_clip, folder)
        fid = _distances(measured.by_clip, folder)
        result = Result(measured, fid, asked, time.perf_counter() - start)
        text = json.dumps(_as_json(result, facts), indent=1)
        (folder / RESULTS_FILE).write_text(text + "\n")
        sheets = tables.all_sheets(measured.by_clip, measured.labels, fid, measured.faults)
        (folder / MARKDOWN_FILE).write_text("\n".join(map(tables.to_markdown, sheets)))
        (folder / LATEX_FILE).write_text("\n".join(map(tables.to_latex, sheets)))
        clips = _shown_clips(measured.by_clip, folder)
        told = {name: str(fact) for name, fact in facts.items() if fact is not None}
        (folder / PAGE_FILE).write_text(page("Evaluation of talking faces", told, sheets, clips))
    if job.pairs is not None:
        shutil.rmtree(_unfinished(job.output), ignore_errors=True)
    return result


def _as_json(result: Result, facts: dict[str, Any]) -> dict[str, Any]:
    by_clip, labels, faults = result.measured
    return {
        "evaluated": facts,
        "eamm_jax": __version__,
        "seconds": round(result.seconds, 1),
        "metrics": {key: metric._asdict() for key, metric in METRICS.items()},
        **report.statistics_json(by_clip),
        "fid": result.fid,
        "asked": None if result.asked is None else report.asked_json(result.asked),
        "clips": by_clip,
        "labels": {name: found._asdict() for name, found in labels.items()},
        "faults": faults,
    }


def _unfinished(output: Path) -> Path:
    """Where results of clips are kept until the report is complete."""
    return output.with_name(f".{output.name}.unfinished")


def _evaluate_pairs(
    job: Job, root: Path, folder: Path, advance: Advance
) -> tuple[Measured, None, dict[str, Any]]:
    pairs = Pairs(root)
    methods = [method for method in pairs.methods if method != STILL.name]  # needs no files
    field = _wanted([TRUTH.name, STILL.name, *methods], job.only)
    size = pairs.size()
    tools = make_tools(job.faces, job.networks, job.protocol, job.embedder)
    names = pairs.names[: job.clips or None]
    _check_file_names(names)
    unfinished = make_folder(_unfinished(job.output))
    tasks = [
        PairTask(
            pairs.files(name),
            size=size,
            max_frames=job.max_frames,
            contestants=tuple(field),
            faces=job.faces,
            networks=job.networks,
            protocol=job.protocol,
            embedder=job.embedder,
            folder=unfinished,
            alone=job.workers == 1,
        )
        for name in names
    ]
    results: dict[str, ClipResult] = {}
    for name, result in measure_pairs(tasks, job.workers):
        results[name] = result
        advance("measuring", len(results), len(names))
    measured = _collected({name: results[name] for name in names})
    if not measured.by_clip:
        shutil.rmtree(unfinished, ignore_errors=True)
        name, faults = next(iter(measured.faults.items()))
        raise UserError(f"no clip could be measured; {name}: {'; '.join(faults.values())}")
    # Copied, not moved: if the report cannot be written, the next run has everything again.
    suffixes = (SHEET, VIDEO) if tools.inception is None else (SHEET, VIDEO, FEATURES)
    for name in measured.by_clip:
        for suffix in suffixes:
            path = unfinished / f"{file_name(name)}{suffix}"
            shutil.copyfile(path, folder / SHEETS / path.name)
    return measured, None, {"pairs": str(root), "size": size, **tools.names}


def _check_file_names(names: Sequence[str]) -> None:
    """Makes sure that no two clips would write the same files."""
    taken: dict[str, str] = {}
    for name in names:
        other = taken.setdefault(file_name(name), name)
        if other != name:
            raise UserError(
                f"the clips {other} and {name} would have files of the same name; rename one"
            )


def _collected(results: Mapping[str, ClipResult]) -> Measured:
    return Measured(
        {name: result.values for name, result in results.items() if result.values},
        {name: result.labels for name, result in results.items() if result.values},
        {name: result.faults for name, result in results.items() if result.faults},
    )


def _evaluate_model(
    job: Job, source: Source, checkpoint: Path, folder: Path, advance: Advance
) -> tuple[Measured, Asked | None, dict[str, Any]]:
    tools = make_tools(job.faces, job.networks, job.protocol, job.embedder)
    config, variables = load_networks(checkpoint)
    variables = jax.device_put(variables)
    talks = all(name in variables for name in REQUIRED_NETWORKS)
    data = DataSet(
        source,
        size=config.image_size,
        split=job.split,
        validation_fraction=job.validation_fraction,
        with_motion=talks,
        portrait_from=job.portrait,
        max_frames=job.max_frames,
    )
    field = [TRUTH, STILL, contestants.keypoints(config, variables)]
    animator: Animator | None = None
    emotions: EmotionSource | None = None
    if talks:
        bank = EmotionBank.load(model_folder(checkpoint), config.emotion.stage_widths[-1])
        animator = Animator(config, variables, bank=bank)
        if EMOTION_NETWORK in variables and data.emotion(data.names[0]) >= 0:
            own = contestants.own_clips(data)
            emotions = contestants.from_bank if job.emotions == "bank" else own
        field.append(animated("silence", animator, job.settings, emotions, silent=True))
        if emotions is not None:
            field.append(animated("neutral", animator, job.settings, None))
        field.append(animated("model", animator, job.settings, emotions))
    del variables
    clips = DEFAULT_CLIPS if job.clips is None else job.clips
    names = data.choose(clips)
    wanted = _wanted([contestant.name for contestant in field], job.only)
    field = [contestant for contestant in field if contestant.name in wanted]
    results: dict[str, ClipResult] = {}
    for case in map(data.case, names):
        results[case.name] = measure_clip(case, field, tools, folder / SHEETS)
        advance("measuring", len(results), len(names))
    measured = _collected(results)
    asked = None
    if job.people and animator is not None and emotions is not None and tools.reader is not None:
        asked, shown = ask(
            cases_to_ask(data, job.people),
            animator,
            job.settings,
            emotions,
            tools.reader,
            partial(advance, "emotion control"),
        )
        write_png(folder / ASKED_FILE, report.asked_sheet(asked, shown))
    facts = {
        "checkpoint": str(checkpoint),
        "data": f"{source.kind}={source.path}",
        "split": job.split,
        "validation_fraction": job.validation_fraction,
        "size": config.image_size,
        "portrait": job.portrait,
        "emotions": job.emotions if emotions is not None else None,
        "settings": dataclasses.asdict(job.settings),
        **tools.names,
        "device": jax.devices()[0].device_kind,
    }
    return measured, asked, facts


def _wanted(there: list[str], only: tuple[str, ...]) -> list[str]:
    unknown = [name for name in only if name not in there]
    if unknown:
        raise UserError(f"there is no contestant {unknown[0]!r} here; there are {', '.join(there)}")
    return [name for name in there if not only or name in only]


def _write_best_median_worst(by_clip: Mapping[str, Mapping[str, Values]], folder: Path) -> None:
    """Of the last contestant that any clip has."""
    chosen = report.best_median_worst(by_clip, methods_of(by_clip)[-1])
    pages = {
        rank: to_uint8(read_image(folder / SHEETS / f"{file_name(name)}{SHEET}", None))
        for rank, name in chosen.items()
    }
    write_png(folder / PICTURES_FILE, report.stacked(pages))


def _shown_clips(by_clip: Mapping[str, Mapping[str, Values]], folder: Path) -> list[ShownClip]:
    main = methods_of(by_clip)[-1]
    return [
        ShownClip(
            name,
            "; ".join(
                report.one_line(method, values)
                for method, values in by_clip[name].items()
                if method != TRUTH.name
            ),
            list(dict.fromkeys([TRUTH.name, *by_clip[name]])),
            (folder / SHEETS / f"{file_name(name)}{VIDEO}").read_bytes(),
        )
        for name in evenly(report.ranked(by_clip, main))
    ]


def _distances(by_clip: Mapping[str, Mapping[str, Values]], folder: Path) -> dict[str, float]:
    """The distance FID of each contestant to the ground truth, on the clips that it has."""
    files = {name: folder / SHEETS / f"{file_name(name)}{FEATURES}" for name in by_clip}
    if not all(path.is_file() for path in files.values()):
        return {}
    found = {}
    for method in methods_of(by_clip):
        if method == TRUTH.name:
            continue
        samples: tuple[list[np.ndarray], list[np.ndarray]] = [], []
        for name, path in files.items():
            features = load_file(path)
            if method in by_clip[name] and TRUTH.name in features:
                samples[0].append(features[method])
                samples[1].append(features[TRUTH.name])
        if sum(map(len, samples[0])) > 1:
            found[method] = frechet_distance(*map(np.concatenate, samples))
    for path in files.values():
        path.unlink()
    return found
