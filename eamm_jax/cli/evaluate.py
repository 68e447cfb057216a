"""`python -m eamm_jax.evaluation`: measures a model, or videos, against ground truth."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from eamm_jax import bundled
from eamm_jax.cli.tool import (
    EXIT_BAD_INPUT,
    OneLineParser,
    add_shared,
    fields_of,
    on_or_off,
    run,
    start_jax,
    whole_number,
)
from eamm_jax.errors import UserError
from eamm_jax.io.files import InputFiles

if TYPE_CHECKING:
    from rich.console import Console

    from eamm_jax.evaluation.job import Job, Result

DESCRIPTION = """\
Measures talking faces against ground truth and against baselines: images (PSNR, SSIM), landmarks
(M-LMD, F-LMD), mouth timing, sharpness, jitter, flicker, identity and emotion. Prints a table
with 95 % intervals; writes HTML, JSON, Markdown, LaTeX and sheets of frames.
docs/evaluation.md defines every metric."""

EXAMPLE = """\
examples:
  python -m eamm_jax.evaluation --data synthetic=DATA --output report
  python -m eamm_jax.evaluation --data synthetic=DATA --checkpoint runs/stage2 --output report
  python -m eamm_jax.evaluation --data mead=DATA --checkpoint weights --output report
  python -m eamm_jax.evaluation --pairs FOLDER --output report

FOLDER contains a folder `truth` of ground-truth videos, and beside it one folder per method with
videos of the same names.
"""


def flag_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    # A flag that is not given is absent: the job and its settings have the defaults.
    parser = OneLineParser(
        description=DESCRIPTION, epilog=EXAMPLE, argument_default=argparse.SUPPRESS
    )
    what = parser.add_argument_group("what to measure")
    what.add_argument(
        "--pairs", type=Path, metavar="DIR", help="folder of rendered and ground-truth videos"
    )
    what.add_argument(
        "--data", metavar="KIND=DIR", help="data set of clips that the model is compared with"
    )
    what.add_argument(
        "--checkpoint",
        type=Path,
        metavar="DIR",
        help="folder written by eamm-convert, or work directory of eamm-train (a stage 0 is "
        "only measured without audio); default: the bundled model",
    )
    what.add_argument(
        "--split",
        choices=("validation", "train", "all"),
        help="split of the data set; default: validation",
    )
    what.add_argument(
        "--validation_fraction",
        type=float,
        metavar="SHARE",
        help="as in training; default: 0.05",
    )
    what.add_argument(
        "--clips",
        type=int,
        metavar="N",
        help="number of clips; 0: all; default: 40 of a data set, all pairs",
    )
    what.add_argument("--max_frames", type=int, metavar="N", help="frames per clip; default: all")
    what.add_argument(
        "--people",
        type=int,
        metavar="N",
        help="people for the test of emotion control; 0: none; default: 8",
    )
    what.add_argument(
        "--only",
        default="",
        metavar="NAMES",
        help="methods to compare, such as truth,keypoints; default: all",
    )

    how = parser.add_argument_group("how")
    how.add_argument(
        "--portrait",
        choices=("neutral", "first"),
        help="source image: first frame of a neutral clip of the same person, or of the clip "
        "itself (self-reconstruction); default: neutral",
    )
    how.add_argument(
        "--faces",
        choices=("real", "none"),
        help="reader of landmarks: what finds faces in photographs (extra 'faces'), or none; "
        "default: real",
    )
    how.add_argument(
        "--protocol",
        choices=("plain", "evaluation_eat"),
        help="evaluation_eat also compares aligned faces, as yuangan/evaluation_eat does; "
        "default: plain",
    )
    how.add_argument(
        "--networks",
        type=Path,
        metavar="DIR",
        help="networks that measure, converted by convert_torch_weights.py: SyncNet, Inception "
        "(FID), Emotion-FAN, AlexNet and VGG-16 (LPIPS)",
    )
    how.add_argument(
        "--embedder",
        type=Path,
        metavar="FILE",
        help="recognition network for CSIM in ONNX format, with ArcFace's input; default: dlib's "
        "for real faces, if it is installed",
    )
    how.add_argument(
        "--emotions",
        choices=("own", "bank"),
        help="source of the model's emotions: clips of the same person, or its emotion bank; "
        "default: own",
    )
    how.add_argument("--audio_weight", type=float, help="as in eamm-infer")
    how.add_argument("--emotion_strength", type=float, help="as in eamm-infer")
    how.add_argument("--smoothing", type=on_or_off, metavar="{on,off}", help="as in eamm-infer")

    outputs = parser.add_argument_group("what to write")
    outputs.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder to write"
    )
    add_shared(outputs, "overwrite")

    running = parser.add_argument_group("running")
    running.add_argument(
        "--workers",
        type=whole_number(1),
        metavar="N",
        help="processes that measure pairs; default: one per core",
    )
    add_shared(running, "cpu", "quiet")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Parses the flags and runs; exits with the codes of `cli.tool`."""
    flags = flag_parser().parse_args(argv)
    run(lambda: _evaluate(flags))


def _evaluate(flags: argparse.Namespace) -> int | None:
    _check(flags)
    if find_spec("skimage") is None or find_spec("cv2") is None:
        raise UserError(
            "the evaluation needs the optional packages scikit-image and opencv-python-headless: "
            "install the extra, pip install 'eamm_jax[evaluation]'"
        )
    from rich.console import Console

    from eamm_jax.evaluation import job as evaluation

    job = job_of(flags)
    data = Path(job.source.path) if job.source else None
    given = (job.pairs, job.checkpoint, job.networks, job.embedder, data)
    inputs = [path for path in given if path is not None]
    InputFiles(inputs).check_kept([job.output], replaces_folders=True)
    start_jax(cpu=flags.cpu)
    if flags.quiet:
        result = evaluation.run(job)
    else:
        result = _run_with_progress(job)
        _print(result, job, Console())
    for clip, faults in result.measured.faults.items():
        for fault in faults.values():
            print(f"incomplete: {clip}: {fault}", file=sys.stderr)
    return EXIT_BAD_INPUT if result.measured.faults else None


def _check(flags: argparse.Namespace) -> None:
    """Rejects conflicting flags before anything heavy is imported."""
    if ("pairs" in flags) == ("data" in flags):
        raise UserError("give either --pairs or --data")
    if "pairs" in flags and "checkpoint" in flags:
        raise UserError("--checkpoint needs --data; --pairs is measured without a model")
    fraction = getattr(flags, "validation_fraction", 0)
    if not 0 <= fraction <= 1:
        raise UserError(f"--validation_fraction is {fraction}; it must lie in 0..1")


def job_of(flags: argparse.Namespace) -> Job:
    """The evaluation that the flags ask for."""
    from eamm_jax.animate.animator import Settings
    from eamm_jax.evaluation.job import Job
    from eamm_jax.input_pipeline.sources import parse_sources

    given = vars(flags).copy()
    given.setdefault("workers", os.cpu_count() or 1)
    if "data" in flags:
        sources = parse_sources(flags.data)
        if len(sources) != 1:
            raise UserError(f"--data is {flags.data}; give one data set")
        given["source"] = sources[0]
        given.setdefault("checkpoint", bundled.MODEL)
    names = (name.strip() for name in given.pop("only", "").split(","))
    return Job(
        **fields_of(Job, given),
        only=tuple(filter(None, names)),
        settings=Settings(**fields_of(Settings, given)),
    )


def _run_with_progress(job: Job) -> Result:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
    from rich.progress import TimeRemainingColumn as Left

    from eamm_jax.evaluation.job import run as run_job

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Left())
    progress = Progress(*columns, console=Console(file=sys.stderr))
    tasks: dict[str, TaskID] = {}

    def advance(what: str, done: int, total: int) -> None:
        if not tasks:  # not earlier: an error at the start should have a line of its own
            progress.start()
        if what not in tasks:
            tasks[what] = progress.add_task(what, total=total)
        progress.update(tasks[what], completed=done)

    try:
        return run_job(job, advance)
    finally:
        if tasks:
            progress.stop()


def _print(result: Result, job: Job, console: Console) -> None:
    from eamm_jax.evaluation import report, tables

    console.print(tables.to_rich(tables.means(result.measured.by_clip)))
    if result.asked is not None:
        console.print(report.asked_table(result.asked))
    console.print(
        f"Wrote {job.output} in {result.seconds:.0f} s: report.html (all tables, clips to play), "
        "tables.md, tables.tex, metrics.json, pictures.png, clips/",
        markup=False,
        highlight=False,
    )


if __name__ == "__main__":
    main()
