"""`infer.py`, `eamm-infer`: portrait + speech + emotion video + head pose -> a talking video."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from eamm_jax import bundled
from eamm_jax.cli.provenance import add_provenance, provenance_of
from eamm_jax.cli.tool import (
    EXIT_SOME_FAILED,
    OneLineParser,
    add_shared,
    fields_of,
    on_or_off,
    program,
    run,
    start_jax,
)
from eamm_jax.constants import EMOTIONS, LAYOUTS, LEVELS
from eamm_jax.errors import UserError
from eamm_jax.io.files import joined_name, make_folder, removed_if_empty, temporary_folder

if TYPE_CHECKING:
    from eamm_jax.animate.job import Job

PLAIN_PROGRESS_SECONDS = 10.0

DEMO_EMOTION = "happy"

NEXT = """\
That was the portrait, the voice and the model that come with the package. Now try
  {program} --in_file my.wav
"""

UNMARKED = (
    "note: --no_provenance: no watermark, IPTC metadata or Content Credentials say that this is "
    "synthetic; say so where you show it"
)

DESCRIPTION = """\
Animates a portrait: a face that says what is said in a recording, with an emotion. Writes an
mp4 (H.264 and AAC, 25 frames a second). What is not given is taken from what comes with the
package: a small model of rendered faces, a portrait, a voice, a gently moving head."""

EXAMPLE = """\
examples:
  %(prog)s
  %(prog)s --in_file my.wav
  %(prog)s --text "Good news first. And then the bad news."
  %(prog)s --checkpoint weights --source_image 21.png --in_file speech.mp3 \\
      --pose_file 21.npy --driving_video happy.mp4 --emotion happy
  %(prog)s --checkpoint weights --batch jobs.csv
"""


def flag_parser() -> OneLineParser:
    """The flags of this command."""
    parser = OneLineParser(description=DESCRIPTION, epilog=EXAMPLE)
    inputs = parser.add_argument_group("what to animate")
    add_shared(inputs, "checkpoint")
    inputs.add_argument(
        "--source_image",
        type=Path,
        default=bundled.PORTRAIT,
        metavar="PICTURE",
        help="photo of a person, whose face is found and cropped (needs the extra 'faces'), or a "
        "portrait cropped as the published examples are",
    )
    inputs.add_argument(
        "--face",
        type=int,
        metavar="N",
        help="of several in the photo, 1 for the largest; default: the largest",
    )
    inputs.add_argument(
        "--in_file",
        "--audio",
        dest="speech",
        type=Path,
        metavar="SOUND",
        help="speech: wav, mp3, m4a, mov, mp4 ...",
    )
    inputs.add_argument(
        "--text", help="what is to be said, by a synthetic voice (needs the extra 'speech')"
    )
    inputs.add_argument(
        "--voice",
        default="en-us",
        help="of --text: language, and variant if wanted (en-us+f3, de, fr+m2); "
        "default: %(default)s",
    )
    inputs.add_argument(
        "--pose_file",
        dest="pose",
        type=Path,
        metavar="NPY",
        help="head pose of the portrait, or a track of them (7 numbers a frame, from 3DDFA_V2); "
        "default: estimated from the portrait, by --pose_network or else from its landmarks "
        "(needs the extra 'faces')",
    )
    inputs.add_argument(
        "--pose_network",
        type=Path,
        metavar="DIR",
        help="head pose network converted by eamm-convert; default: that in "
        "--checkpoint, if there is one",
    )
    inputs.add_argument(
        "--pose_given",
        dest="pose_motion",
        type=Path,
        metavar="NPY",
        help="pose track whose motion is added to the still pose",
    )
    inputs.add_argument(
        "--pose_video",
        type=Path,
        metavar="VIDEO",
        help="video of a person whose head's motion is added to the still pose",
    )
    inputs.add_argument(
        "--still", action="store_true", help="hold the head fixed, in the first pose of a track"
    )
    inputs.add_argument(
        "--idle_motion",
        type=float,
        nargs="?",
        const=1.0,
        default=0.0,
        metavar="STRENGTH",
        help="let the head move gently, as --seed has it; 1 (the default without a number) is a "
        "calm speaker",
    )
    inputs.add_argument(
        "--driving_video",
        dest="emotion_video",
        type=Path,
        metavar="VIDEO",
        help="video of an emotional face, aligned frame by frame unless it is cropped already; "
        "without it the face stays neutral",
    )
    inputs.add_argument(
        "--emotion",
        metavar="NAME",
        help=f"{', '.join(EMOTIONS)}, or several with their seconds, such as "
        "'happy:0-2.5,sad:2.5-'; from the model's emotion bank, or with --driving_video what its "
        "emotion is called",
    )
    inputs.add_argument(
        "--emotion_level",
        dest="level",
        type=int,
        choices=LEVELS,
        help="how strongly the faces of the emotion bank feel; default: most",
    )

    inputs.add_argument(
        "--timeline",
        type=Path,
        metavar="FILE",
        help="key frames of emotions, strength, head, gaze, blinks and mouth, second by second, as "
        "CSV or JSON (docs/timeline.md)",
    )
    inputs.add_argument(
        "--strict",
        action="store_true",
        help="with --timeline: refuse what the model cannot do of it, instead of leaving that out",
    )

    how = parser.add_argument_group("how")
    how.add_argument(
        "--audio_weight",
        type=float,
        help="how strongly sound counts beside portrait and pose; default: as the model was made "
        "for (1.6 the published one)",
    )
    how.add_argument(
        "--emotion_strength",
        type=float,
        default=1.0,
        help="0 (neutral) to 2; default: %(default)s",
    )
    how.add_argument(
        "--template",
        type=Path,
        metavar="NPY",
        help="68 landmarks in a crop of 256x256 that faces are aligned to; default: a mean face",
    )
    how.add_argument(
        "--no_crop",
        dest="crop",
        action="store_false",
        help="look for no face: take pictures and videos as they are, or the square in their "
        "middle",
    )
    how.add_argument(
        "--smoothing",
        type=on_or_off,
        metavar="{on,off}",
        help="default: as the model was made for",
    )
    how.add_argument(
        "--relative",
        action=argparse.BooleanOptionalAction,
        help="apply the motion since the first frame only; default: as the model was made for",
    )
    how.add_argument(
        "--adapt_scale",
        action="store_true",
        help="with --relative: scale the motion to the size of the face",
    )
    how.add_argument(
        "--augment_emotion",
        action="store_true",
        help="flip, rotate and tilt the emotion video at random, as the published demo does",
    )
    how.add_argument(
        "--no_blinks",
        dest="blinks",
        action="store_false",
        help="keep the eyes open; only models whose keypoints are points of a face blink, as the "
        "bundled one",
    )
    how.add_argument("--seed", type=int, default=0, help="of what is random; default: 0")

    outputs = parser.add_argument_group("what to write")
    outputs.add_argument("--output", type=Path, metavar="MP4", help="default: in --result_path")
    outputs.add_argument(
        "--result_path",
        type=Path,
        default=Path("outputs"),
        metavar="DIR",
        help="where to write if --output is not given; default: %(default)s",
    )
    outputs.add_argument(
        "--paste_back",
        action="store_true",
        help="put the animated face back into the whole photo; the video has the photo's size",
    )
    outputs.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="single",
        help="side_by_side: portrait | emotion video | neutral | emotion",
    )
    outputs.add_argument(
        "--neutral_output", type=Path, metavar="MP4", help="also write a video without emotion"
    )
    outputs.add_argument(
        "--contact_sheet", type=Path, metavar="PNG", help="also write a picture of some frames"
    )
    outputs.add_argument("--frames", type=Path, metavar="DIR", help="also write frames as PNG")
    outputs.add_argument(
        "--report",
        type=Path,
        metavar="JSON",
        help="also write what was made from what, how long it took, and the watermark's identifier",
    )

    add_provenance(parser)

    running = parser.add_argument_group("running")
    running.add_argument(
        "--batch",
        type=Path,
        metavar="CSV",
        help="make many videos with one model: a row for each, columns named as these flags "
        "(source_image,in_file,output); other flags given here are for all rows. Exit code 1 if "
        "some failed",
    )
    running.add_argument(
        "--beam_runner",
        metavar="NAME",
        help="with --batch: render with Apache Beam on this runner, such as DirectRunner or "
        "FlinkRunner, what is not there yet; flags after -- go to the runner",
    )
    running.add_argument("beam_options", nargs="*", help=argparse.SUPPRESS)
    add_shared(running, "chunk", "dtype", "cpu", "quiet")
    return parser


def job_of(flags: argparse.Namespace) -> Job:
    """The job that the flags of one video ask for."""
    from eamm_jax.animate.animator import Settings
    from eamm_jax.animate.emotion_bank import parse_schedule
    from eamm_jax.animate.job import Job
    from eamm_jax.animate.timeline import Timeline
    from eamm_jax.faces.head_pose import HeadPose

    emotions = parse_schedule(flags.emotion) if flags.emotion else ()
    if flags.strict and flags.timeline is None:
        raise UserError("--strict is of --timeline, which is not given")
    emotion = "_".join(span.emotion for span in emotions) or None
    if flags.emotion_video:
        if len(emotions) > 1:
            raise UserError("--driving_video shows one emotion; --emotion names several")
        emotion, emotions = flags.emotion or flags.emotion_video.stem, ()
    output = flags.output
    if output is None:
        names = [flags.source_image.stem, flags.speech.stem, emotion or "neutral"]
        output = make_folder(flags.result_path) / joined_name(names, ".mp4")
    provenance = provenance_of(flags)
    given = {
        **vars(flags),
        "provenance": provenance,
        "emotions": emotions,
        "emotion": emotion,
        "output": output,
    }
    head = HeadPose(
        file=flags.pose,
        motion=flags.pose_motion,
        video=flags.pose_video,
        idle=flags.idle_motion,
        still=flags.still,
    )
    # The job reads the timeline's file.
    settings = Settings(**{**fields_of(Settings, given), "timeline": Timeline()})
    return Job(**fields_of(Job, given), head=head, settings=settings)


def _emotion_network(jobs: Collection[Job]) -> bool | None:
    """Whether jobs need the emotion network; None: they use it if there is one."""
    if any(job.emotions or job.emotion_video is not None for job in jobs):
        return True
    return None if any(job.emotional for job in jobs) else False


@contextmanager
def progress_shown(
    quiet: bool, chunk: int, note: str | None = None
) -> Iterator[Callable[[int, int], None] | None]:
    """A bar with frames per second and time left on a terminal, plain lines elsewhere.

    Args:
        quiet: show nothing.
        chunk: frames computed at a time.
        note: shown with the first frame, when no input was wrong.
    """
    if quiet:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from eamm_jax.animate.pace import Pace

    pace = Pace(chunk)
    shown = time.monotonic()
    bar = Progress(
        TextColumn("rendering"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    task = bar.add_task("", total=None, pace="")

    def report(done: int, total: int) -> None:
        nonlocal note, shown
        if note is not None:
            print(note, file=sys.stderr)
            note = None
        left = pace.seconds_left(done, total)
        words = "" if left is None else f"{pace.rate:.2f} frames/s, {left:.0f} s left"
        bar.update(task, completed=done, total=total, pace=words)
        if bar.disable and words and time.monotonic() - shown >= PLAIN_PROGRESS_SECONDS:
            shown = time.monotonic()
            print(f"{done}/{total} frames, {words}", file=sys.stderr, flush=True)

    with nullcontext() if bar.disable else bar:
        yield report


def _animate(flags: argparse.Namespace, words: Sequence[str]) -> int:
    logging.basicConfig(format="note: %(message)s", level=logging.WARNING)
    logging.getLogger("eamm_jax").setLevel(logging.ERROR if flags.quiet else logging.INFO)
    if flags.adapt_scale and not flags.relative and not flags.quiet:
        print("note: --adapt_scale changes nothing without --relative", file=sys.stderr)
    from eamm_jax.animate.job import check
    from eamm_jax.cli.table import read_table

    batch = flags.batch is not None
    if flags.beam_options and not flags.beam_runner:
        raise UserError(f"unrecognized arguments: {' '.join(flags.beam_options)}")
    if flags.beam_runner and not batch:
        raise UserError("--beam_runner renders a table of jobs; give one with --batch")
    own_words = words[: words.index("--")] if "--" in words else words
    rows = read_table(flags.batch, flag_parser(), own_words) if batch else {"": flags}
    with ExitStack() as lasting:
        jobs = {}
        for row, row_flags in rows.items():
            try:
                lasting.enter_context(removed_if_empty(row_flags.result_path))
                demo = fill_in(row_flags)
                lasting.enter_context(_spoken(row_flags))
                jobs[row] = job_of(row_flags)
            except UserError as error:
                raise UserError(f"{row}: {error}" if batch else str(error)) from None
        check(jobs)
        if flags.no_provenance and not flags.quiet:
            print(UNMARKED, file=sys.stderr)
        start_jax(cpu=flags.cpu)
        if flags.beam_runner:
            return _render_with_beam(flags, jobs)
        if batch:
            return _render_all(flags, jobs)
        _render(flags, jobs[""])
    if demo and not flags.quiet:
        print(NEXT.format(program=program()))
    return 0


def _render(flags: argparse.Namespace, job: Job) -> None:
    from eamm_jax.animate.animator import Animator
    from eamm_jax.animate.job import run as run_job

    note = None
    if not job.emotional:
        note = (
            "note: no --emotion, --driving_video or --timeline of emotions: the face stays neutral"
        )
    animator = Animator.from_checkpoint(
        flags.checkpoint, emotion=_emotion_network([job]), chunk=flags.chunk, dtype=flags.dtype
    )
    with progress_shown(flags.quiet, flags.chunk, note) as progress:
        summary = run_job(animator, job, progress)
    if not flags.quiet:
        print(summary)
        if job.contact_sheet:
            print(f"{job.contact_sheet}: some of its frames")


def _render_all(flags: argparse.Namespace, jobs: dict[str, Job]) -> int:
    import jax

    from eamm_jax.animate.animator import Animator
    from eamm_jax.animate.batch import run_all
    from eamm_jax.cli.table import print_outcomes

    neutral, note = sum(not job.emotional for job in jobs.values()), None
    if neutral:
        note = (
            f"note: {neutral} of {len(jobs)} rows have no emotion and no driving_video: their "
            "faces stay neutral"
        )
    first = Animator.from_checkpoint(
        flags.checkpoint,
        emotion=_emotion_network(jobs.values()),
        chunk=flags.chunk,
        dtype=flags.dtype,
    )
    others = jax.local_devices()[1 : len(jobs)]
    animators = [first, *(first.replace(device=device) for device in others)]
    rows = list(jobs)
    with progress_shown(flags.quiet, flags.chunk, note) as progress:
        outcomes = run_all(
            animators,
            list(jobs.values()),
            progress,
            lambda index, error: print(f"error: {rows[index]}: {error}", file=sys.stderr),
        )
    if not flags.quiet:
        print_outcomes(dict(zip(rows, outcomes, strict=True)))
    return EXIT_SOME_FAILED if any(outcome.error for outcome in outcomes) else 0


def _render_with_beam(flags: argparse.Namespace, jobs: dict[str, Job]) -> int:
    from eamm_jax.animate.batch import Model, is_done, run_with_beam
    from eamm_jax.io.beam import runner_options

    options = runner_options(flags.beam_options)
    there = sum(map(is_done, jobs.values()))
    network = _emotion_network(jobs.values())
    model = Model(flags.checkpoint.resolve(), network, flags.chunk, flags.dtype)
    failed = run_with_beam(model, list(jobs.values()), flags.beam_runner, options)
    rows = list(jobs)
    for index, error in failed.items():
        print(f"error: {rows[index]}: {error}", file=sys.stderr)
    if not flags.quiet:
        made = len(jobs) - there - len(failed)
        print(
            f"{made} videos made, {there} were there, {len(failed)} failed; run the same command "
            "again for what is missing"
        )
    return EXIT_SOME_FAILED if failed else 0


def fill_in(flags: argparse.Namespace) -> bool:
    """Puts what comes with the package in the place of what is not given.

    Returns:
        Whether nothing at all was given, and this is the demonstration.
    """
    from eamm_jax.checkpoint import BANK_NAME, stored_networks

    if flags.speech and flags.text is not None:
        raise UserError("--in_file and --text are both given; a portrait says one of them")
    chosen = (flags.speech, flags.text, flags.emotion_video, flags.emotion, flags.pose)
    own_portrait = flags.source_image != bundled.PORTRAIT
    demo = not any((*chosen, flags.batch, own_portrait)) and flags.checkpoint == bundled.MODEL
    if demo:
        # A bundled model whose emotion network is not trained yet has no bank.
        flags.emotion = DEMO_EMOTION if (bundled.MODEL / BANK_NAME).is_file() else None
        if not flags.output:
            flags.output = make_folder(flags.result_path) / "demo.mp4"
            flags.contact_sheet = flags.contact_sheet or flags.output.with_suffix(".png")
    if not flags.speech and flags.text is None:
        flags.speech = bundled.SPEECH
    if not flags.pose and not own_portrait:
        flags.pose = bundled.POSE
    if not flags.pose_network and "head_pose" in stored_networks(flags.checkpoint):
        flags.pose_network = flags.checkpoint
    return demo


@contextmanager
def _spoken(flags: argparse.Namespace) -> Iterator[None]:
    """Has the text spoken into a sound file, where there is one, while the job lasts."""
    if flags.text is None:
        yield
        return
    from eamm_jax.io.audio import write_wav
    from eamm_jax.io.speech import synthesise

    with temporary_folder() as folder:
        flags.speech = folder / "text.wav"
        write_wav(flags.speech, synthesise(flags.text, flags.voice).samples)
        yield


def main() -> None:
    """Parses the flags and animates."""
    words = sys.argv[1:]
    flags = flag_parser().parse_args(words)
    run(lambda: _animate(flags, words))


if __name__ == "__main__":
    main()
