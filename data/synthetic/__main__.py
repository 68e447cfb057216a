"""`python -m data.synthetic --output ROOT --identities N --seed S`: draws the data set."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from data.synthetic.renderer import HEADS, add_renderer_flags
from eamm_jax.cli.tool import OneLineParser, run, whole_number
from eamm_jax.constants import EMOTIONS
from eamm_jax.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    """Draws the data set as the flags say."""
    parser = OneLineParser(
        prog="python -m data.synthetic",
        description=(
            "Draws talking, emotional faces with ground truth and writes them in the published "
            "folder layout. Run again after a stop, it goes on where it was; with more "
            "identities it adds them."
        ),
    )
    parser.add_argument("--output", required=True, help="folder to write to")
    parser.add_argument("--identities", type=whole_number(1), required=True, help="how many people")
    parser.add_argument("--seed", type=int, required=True, help="same seed, same data set")
    parser.add_argument(
        "--first_identity", type=int, default=0, help="number of the first person (default 0)"
    )
    parser.add_argument(
        "--size",
        type=whole_number(64, 512),
        default=128,
        help="rows and columns of the frames (default 128)",
    )
    parser.add_argument(
        "--takes",
        type=whole_number(1),
        default=1,
        help="recordings of each of the 7 emotions at each of its 3 levels (default 1); "
        "neutral, which has one level, has three times as many",
    )
    parser.add_argument(
        "--emotions",
        default=",".join(EMOTIONS),
        help="which are recorded, joined by commas (default: all)",
    )
    parser.add_argument(
        "--stills",
        type=int,
        default=0,
        metavar="N",
        help="draw an album of N unrelated frames of each person instead of clips: for stage 0, "
        "many people are worth more than much of each",
    )
    parser.add_argument(
        "--stride",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="write every N-th frame of a clip only (default 1), for training that would skip "
        "the others (config.frame_stride)",
    )
    add_renderer_flags(parser)
    parser.add_argument(
        "--workers",
        type=whole_number(1),
        default=os.cpu_count() or 1,
        help="processes that draw at once",
    )
    flags = parser.parse_args(argv)
    run(lambda: _draw(flags))


def _draw(flags: argparse.Namespace) -> None:
    emotions = tuple(flags.emotions.split(","))
    unknown = [emotion for emotion in emotions if emotion not in EMOTIONS]
    if unknown:
        raise UserError(
            f"--emotions names {unknown[0]!r}; choose from {', '.join(EMOTIONS)}, joined by commas"
        )
    from eamm_jax.io import speech

    speech.check_available()
    # Here and not above: they take seconds to load, and flags may be wrong.
    from data.parallel import progress_bar, run_parallel
    from data.synthetic import head_model, writer

    if flags.renderer == HEADS:
        head_model.load(flags.head_model)
    root = Path(flags.output)
    recipe = writer.Recipe(
        flags.seed,
        flags.size,
        flags.takes,
        emotions,
        flags.stills,
        flags.renderer,
        flags.stride,
    )
    writer.begin(root, recipe)
    numbers = range(flags.first_identity, flags.first_identity + flags.identities)
    jobs = writer.plan(root, recipe, numbers, flags.head_model)
    missing = [job for job in jobs if not job.frames.is_dir()]
    frames = 0
    drawing = closing(run_parallel(writer.write, missing, flags.workers))
    with progress_bar("drawing") as progress, drawing as written:
        task = progress.add_task("drawing", total=len(jobs), completed=len(jobs) - len(missing))
        for _, count in written:
            frames += count
            progress.advance(task)
    what = "albums" if flags.stills else "clips"
    print(f"{root}: {len(jobs)} {what} of {flags.identities} people, {frames} frames drawn now")


if __name__ == "__main__":
    main()
