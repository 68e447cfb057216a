"""Runs an evaluation: reads clips, animates, measures, and writes the report folder."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax

from eamm_jax import __version__
from eamm_jax.animate.animator import Animator, Settings
from eamm_jax.animate.emotion_bank import EmotionBank
from eamm_jax.animate.program import EMOTION_NETWORK, REQUIRED_NETWORKS
from eamm_jax.checkpoint import load_networks, model_folder
from eamm_jax.errors import UserError
from eamm_jax.evaluation import contestants, identity, perception, report, tables
from eamm_jax.evaluation.asked import Asked, ask, cases_to_ask
from eamm_jax.evaluation.cases import Case, DataSet, Pairs, PortraitFrom
from eamm_jax.evaluation.contestants import STILL, TRUTH, Contestant, EmotionSource, animated
from eamm_jax.evaluation.identity import DlibEmbedder
from eamm_jax.evaluation.measurement import METRICS, Tools, Values, measure, prepare
from eamm_jax.evaluation.perception import Perception
from eamm_jax.evaluation.readers import make_reader
from eamm_jax.input_pipeline.clips import Labels, Split
from eamm_jax.input_pipeline.dataset import DEFAULT_VALIDATION_FRACTION
from eamm_jax.input_pipeline.sources import Source
from eamm_jax.io.files import atomic_output_dir
from eamm_jax.io.image import read_image, to_uint8, write_png

RESULTS_FILE, PICTURES_FILE, ASKED_FILE, SHEETS = (
    "metrics.json",
    "pictures.png",
    "asked.png",
    "clips",
)
MARKDOWN_FILE, LATEX_FILE = "tables.md", "tables.tex"
RESULTS = (RESULTS_FILE, PICTURES_FILE, ASKED_FILE, SHEETS, MARKDOWN_FILE, LATEX_FILE)
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
        clips: number of clips, selected evenly; 0: all.
        max_frames: frames per clip; 0: all.
        portrait: the source image (see `cases.DataSet`).
        faces: face reader (`readers.KINDS`); None: `drawn` for synthetic data, else `real`.
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
    clips: int = DEFAULT_CLIPS
    max_frames: int = 0
    portrait: PortraitFrom = "neutral"
    faces: str | None = None
    emotions: Literal["own", "bank"] = "own"
    people: int = DEFAULT_PEOPLE
    only: tuple[str, ...] = ()
    settings: Settings = dataclasses.field(default_factory=Settings)
    overwrite: bool = False


class Result(NamedTuple):
    """Results of an evaluation.

    Attributes:
        by_clip: metrics by clip and contestant.
        labels: person, emotion and level of each clip.
        asked: results of the test of emotion control, or None.
        seconds: duration.
    """

    by_clip: dict[str, dict[str, Values]]
    labels: dict[str, Labels]
    asked: Asked | None
    seconds: float


class Measured(NamedTuple):
    """Metrics by clip and contestant, and the labels of each clip."""

    by_clip: dict[str, dict[str, Values]]
    labels: dict[str, Labels]


def run(job: Job, advance: Advance = lambda what, done, total: None) -> Result:
    """Runs an evaluation and writes its folder atomically.

    The folder contains `metrics.json`, all tables as `tables.md` and `tables.tex`, a sheet per clip
    in `clips`, the best, median and worst of them in `pictures.png`, and `asked.png` if emotion
    control was tested.

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
        result = Result(*measured, asked, time.perf_counter() - start)
        text = json.dumps(_as_json(result, facts), indent=1)
        (folder / RESULTS_FILE).write_text(text + "\n")
        sheets = tables.all_sheets(result.by_clip, result.labels)
        (folder / MARKDOWN_FILE).write_text("\n".join(map(tables.to_markdown, sheets)))
        (folder / LATEX_FILE).write_text("\n".join(map(tables.to_latex, sheets)))
    return result


def _as_json(result: Result, facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "evaluated": facts,
        "eamm_jax": __version__,
        "seconds": round(result.seconds, 1),
        "metrics": {key: metric._asdict() for key, metric in METRICS.items()},
        **report.statistics_json(result.by_clip),
        "asked": None if result.asked is None else report.asked_json(result.asked),
        "clips": result.by_clip,
        "labels": {name: labels._asdict() for name, labels in result.labels.items()},
    }


def _evaluate_pairs(
    job: Job, root: Path, folder: Path, advance: Advance
) -> tuple[Measured, None, dict[str, Any]]:
    pairs = Pairs(root, max_frames=job.max_frames)
    tools = make_tools(job.faces or "real")
    field = _wanted([TRUTH, STILL, *map(contestants.rendered, pairs.methods)], job.only)
    names = pairs.names[: job.clips or None]
    measured = _measure_all(map(pairs.case, names), len(names), field, tools, folder, advance)
    facts = {"pairs": str(root), **tools.names}
    return measured, None, facts


def _evaluate_model(
    job: Job, source: Source, checkpoint: Path, folder: Path, advance: Advance
) -> tuple[Measured, Asked | None, dict[str, Any]]:
    tools = make_tools(job.faces or ("drawn" if source.kind == "synthetic" else "real"))
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
    names = data.choose(job.clips)
    measured = _measure_all(
        map(data.case, names), len(names), _wanted(field, job.only), tools, folder, advance
    )
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


def make_tools(faces: str) -> Tools:
    """What can be measured of a kind of faces (`readers.KINDS`) with the packages that are there.

    Raises:
        UserError: as `make_reader`.
    """
    knows_people = faces == "real" and identity.is_installed()
    return Tools(
        make_reader(faces),
        DlibEmbedder() if knows_people else None,
        Perception() if perception.is_installed() else None,
    )


def _wanted(field: list[Contestant], only: tuple[str, ...]) -> list[Contestant]:
    there = [contestant.name for contestant in field]
    unknown = [name for name in only if name not in there]
    if unknown:
        raise UserError(f"there is no contestant {unknown[0]!r} here; there are {', '.join(there)}")
    return [contestant for contestant in field if not only or contestant.name in only]


def _measure_all(
    cases: Iterable[Case],
    count: int,
    field: list[Contestant],
    tools: Tools,
    folder: Path,
    advance: Advance,
) -> Measured:
    """Measures all contestants on all cases, and writes the sheets."""
    by_clip: dict[str, dict[str, Values]] = {}
    labels: dict[str, Labels] = {}
    sheets: dict[str, Path] = {}
    total = count * len(field)
    main = field[-1].name
    for case in cases:
        reference = prepare(case, tools)
        rows = [report.Row(TRUTH.name, report.spread(case.truth))]
        by_clip[case.name], labels[case.name] = {}, case.labels
        for contestant in field:
            frames = contestant.frames(case)
            by_clip[case.name][contestant.name] = measure(reference, frames, tools)
            if contestant.name != TRUTH.name:
                rows.append(report.Row(contestant.name, report.spread(frames)))
            advance("measuring", sum(map(len, by_clip.values())), total)
        sheets[case.name] = folder / SHEETS / f"{case.name.replace('/', '_')}.png"
        figures = report.one_line(main, by_clip[case.name][main])
        write_png(sheets[case.name], report.sheet(f"{case.name}   {figures}", rows))
    chosen = report.best_median_worst(by_clip, main)
    pages = {rank: to_uint8(read_image(sheets[name], None)) for rank, name in chosen.items()}
    write_png(folder / PICTURES_FILE, report.stacked(pages))
    return Measured(by_clip, labels)
