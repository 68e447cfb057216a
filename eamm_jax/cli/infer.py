"""`infer.py`, `eamm-infer`: portrait + speech + emotion video + head pose -> a talking video."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from eamm_jax import bundled
from eamm_jax.cli.tool import (
    EXIT_SOME_FAILED,
    LARGEST_CHUNK,
    OneLineParser,
    program,
    run,
    start_jax,
    whole_number,
)
from eamm_jax.constants import DTYPES, EMOTIONS, LAYOUTS, LEVELS
from eamm_jax.errors import UserError
from eamm_jax.io.files import joined_name, make_folder, temporary_folder

if TYPE_CHECKING:
    from eamm_jax.animate.job import Job

PLAIN_PROGRESS_SECONDS = 10.0

DEMO_EMOTION = "happy"

NEXT = """\
That was the portrait, the voice and the model that come with the package. Now try
  {program} --in_file my.wav
"""

DESCRIPTION = """\
Animates a portrait: a face that says what is said in a recording, with an emotion. Writes an
mp4 (H.264 and AAC, 25 frames a second). What is not given is taken from what comes with the
package: a small model of drawn faces, a portrait, a voice, a gently moving head."""

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
    parser = OneLineParser(
        prog=program(),
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    inputs = parser.add_argument_group("what to animate")
    inputs.add_argument(
        "--checkpoint",
        type=Path,
        default=bundled.MODEL,
        metavar="DIR",
        help="model: folder written by eamm-convert or eamm-train; default: the one "
        "that comes with the package",
    )
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
        type=int,
        choices=LEVELS,
        help="how strongly the faces of the emotion bank feel; default: most",
    )

    how = parser.add_argument_group("how")
    how.add_argument(
        "--audio_weight",
        type=float,
        help="how strongly sound counts beside portrait and pose; default: as the model was made "
        "for (1.6 the published one)",
    )
    how.add_argument(
        "--emotion_strength", type=float, default=1.0, help="0 is neutral; default: %(default)s"
    )
    how.add_argument(
        "--template",
        type=Path,
        metavar="NPY",
        help="68 landmarks in a crop of 256x256 that faces are aligned to; default: a mean face",
    )
    how.add_argument(
        "--no_crop",
        action="store_true",
        help="look for no face: take pictures and videos as they are, or the square in their "
        "middle",
    )
    how.add_argument(
        "--smoothing", choices=("on", "off"), help="default: as the model was made for"
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
        action="store_true",
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
        "--chunk",
        type=whole_number(1, LARGEST_CHUNK),
        default=8,
        metavar="N",
        help="frames computed at a time; default: %(default)s",
    )
    running.add_argument("--dtype", choices=DTYPES, default="float32", help="default: %(default)s")
    running.add_argument("--cpu", action="store_true", help="use the CPU even if there is a GPU")
    running.add_argument("--quiet", action="store_true", help="no progress and no summary")
    return parser


def job_of(flags: argparse.Namespace) -> Job:
    """The job that the flags of one video ask for."""
    from eamm_jax.animate.animator import Settings
    from eamm_jax.animate.emotion_bank import parse_schedule
    from eamm_jax.animate.job import Job

    emotions = parse_schedule(flags.emotion) if flags.emotion else ()
    if flags.driving_video:
        if len(emotions) > 1:
            raise UserError("--driving_video shows one emotion; --emotion names several")
        emotion, emotions = flags.emotion or flags.driving_video.stem, ()
    else:
        emotion = "_".join(span.emotion for span in emotions) or None
    output = flags.output
    if output is None:
        names = [flags.source_image.stem, flags.in_file.stem, emotion or "neutral"]
        output = make_folder(flags.result_path) / joined_name(names, ".mp4")
    return Job(
        source_image=flags.source_image,
        speech=flags.in_file,
        pose=flags.pose_file,
        output=output,
        emotion_video=flags.driving_video,
        emotions=emotions,
        level=flags.emotion_level,
        emotion=emotion,
        pose_motion=flags.pose_given,
        pose_video=flags.pose_video,
        pose_network=flags.pose_network,
        idle_motion=flags.idle_motion,
        still=flags.still,
        neutral_output=flags.neutral_output,
        frames=flags.frames,
        contact_sheet=flags.contact_sheet,
        layout=flags.layout,
        crop=not flags.no_crop,
        template=flags.template,
        face=flags.face,
        paste_back=flags.paste_back,
        settings=Settings(
            audio_weight=flags.audio_weight,
            emotion_strength=flags.emotion_strength,
            smoothing=None if flags.smoothing is None else flags.smoothing == "on",
            relative=flags.relative,
            adapt_scale=flags.adapt_scale,
            augment_emotion=flags.augment_emotion,
            blinks=not flags.no_blinks,
            seed=flags.seed,
        ),
    )


@contextmanager
def progress_shown(quiet: bool, chunk: int) -> Iterator[Callable[[int, int], None] | None]:
    """A bar with frames per second and time left on a terminal, plain lines elsewhere."""
    if quiet:
        yield None
        return
    from eamm_jax.animate.pace import Pace

    pace = Pace(chunk)

    def words(done: int, total: int) -> str:
        left = pace.seconds_left(done, total)
        return "" if left is None else f"{pace.rate:.2f} frames/s, {left:.0f} s left"

    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        bar = Progress(
            TextColumn("rendering"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            console=Console(stderr=True),
            transient=True,
        )
        task = bar.add_task("", total=None, pace="")
        with bar:
            yield lambda done, total: bar.update(
                task, completed=done, total=total, pace=words(done, total)
            )
    else:
        shown = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal shown
            rest = words(done, total)
            if rest and time.monotonic() - shown >= PLAIN_PROGRESS_SECONDS:
                shown = time.monotonic()
                print(f"{done}/{total} frames, {rest}", file=sys.stderr, flush=True)

        yield report


def _animate(flags: argparse.Namespace, words: Sequence[str]) -> int:
    logging.basicConfig(format="note: %(message)s", level=logging.WARNING)
    logging.getLogger("eamm_jax").setLevel(logging.ERROR if flags.quiet else logging.INFO)
    if flags.adapt_scale and not flags.relative and not flags.quiet:
        print("note: --adapt_scale changes nothing without --relative", file=sys.stderr)
    return _animate_one(flags) if flags.batch is None else _animate_all(flags, words)


def _animate_one(flags: argparse.Namespace) -> int:
    from eamm_jax.animate.animator import Animator
    from eamm_jax.animate.job import check
    from eamm_jax.animate.job import run as run_job
    from eamm_jax.io.cache import enable_compilation_cache

    demo = fill_in(flags)
    with _spoken(flags):
        job = job_of(flags)
        check({"": job})
        start_jax(cpu=flags.cpu)
        enable_compilation_cache()
        if not flags.quiet and not job.emotional:
            print(
                "note: no --emotion and no --driving_video: the face stays neutral", file=sys.stderr
            )
        animator = Animator.from_checkpoint(
            flags.checkpoint, emotion=job.emotional, chunk=flags.chunk, dtype=flags.dtype
        )
        with progress_shown(flags.quiet, flags.chunk) as progress:
            summary = run_job(animator, job, progress)
    if not flags.quiet:
        print(summary)
        if job.contact_sheet:
            print(f"{job.contact_sheet}: some of its frames")
    if demo and not flags.quiet:
        print(NEXT.format(program=program()))
    return 0


def _animate_all(flags: argparse.Namespace, words: Sequence[str]) -> int:
    """Does the jobs of a table; see `cli.table`."""
    import jax

    from eamm_jax.animate.animator import Animator
    from eamm_jax.animate.batch import run_all
    from eamm_jax.animate.job import check
    from eamm_jax.cli.table import print_outcomes, read_table
    from eamm_jax.io.cache import enable_compilation_cache

    with ExitStack() as spoken:
        jobs = {}
        for row, row_flags in read_table(flags.batch, flag_parser(), words).items():
            row_flags.quiet = True  # not a note for every row
            try:
                fill_in(row_flags)
                spoken.enter_context(_spoken(row_flags))
                jobs[row] = job_of(row_flags)
            except UserError as error:
                raise UserError(f"{row}: {error}") from None
        check(jobs)
        start_jax(cpu=flags.cpu)
        enable_compilation_cache()
        neutral = sum(not job.emotional for job in jobs.values())
        if neutral and not flags.quiet:
            print(
                f"note: {neutral} of {len(jobs)} rows have no emotion and no driving_video: their "
                "faces stay neutral",
                file=sys.stderr,
            )
        animators = Animator.on_devices(
            flags.checkpoint,
            jax.local_devices()[: len(jobs)],
            emotion=neutral < len(jobs),
            chunk=flags.chunk,
            dtype=flags.dtype,
        )
        rows = list(jobs)
        with progress_shown(flags.quiet, flags.chunk) as progress:
            outcomes = run_all(
                animators,
                list(jobs.values()),
                progress,
                lambda index, error: print(f"error: {rows[index]}: {error}", file=sys.stderr),
            )
    if not flags.quiet:
        print_outcomes(dict(zip(rows, outcomes, strict=True)))
    return EXIT_SOME_FAILED if any(outcome.error for outcome in outcomes) else 0


def fill_in(flags: argparse.Namespace) -> bool:
    """Puts what comes with the package in the place of what is not given.

    Returns:
        Whether nothing at all was given, and this is the demonstration.
    """
    from eamm_jax.checkpoint import BANK_NAME, stored_networks

    if flags.in_file and flags.text is not None:
        raise UserError("--in_file and --text are both given; a portrait says one of them")
    chosen = (flags.in_file, flags.text, flags.driving_video, flags.emotion, flags.pose_file)
    own_portrait = flags.source_image != bundled.PORTRAIT
    demo = not any((*chosen, flags.batch, own_portrait)) and flags.checkpoint == bundled.MODEL
    if demo:
        # A bundled model whose emotion network is not trained yet has no bank.
        flags.emotion = DEMO_EMOTION if (bundled.MODEL / BANK_NAME).is_file() else None
        flags.output = flags.output or make_folder(flags.result_path) / "demo.mp4"
        flags.contact_sheet = flags.contact_sheet or flags.output.with_suffix(".png")
    if not flags.in_file and flags.text is None:
        flags.in_file = bundled.SPEECH
    if not flags.pose_file and not own_portrait:
        flags.pose_file = bundled.POSE
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
        flags.in_file = folder / "text.wav"
        write_wav(flags.in_file, synthesise(flags.text, flags.voice).samples)
        yield


def main() -> None:
    """Parses the flags and animates."""
    words = sys.argv[1:]
    flags = flag_parser().parse_args(words)
    run(lambda: _animate(flags, words))
