"""What the commands that write data sets share: flags of a recipe, and the writing itself."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from data.layout import remove_unfinished
from data.synthetic.renderer import Renderer, add_head_model_flag
from data.synthetic.voices import ESPEAK, VOICES, Voices, check_available
from eamm_jax.cli.tool import whole_number
from eamm_jax.constants import EMOTIONS
from eamm_jax.errors import UserError

if TYPE_CHECKING:
    from data.synthetic.writer import Recipe


def add_flags(parser: argparse.ArgumentParser, size: int) -> None:
    """Adds the flags that both commands have.

    Args:
        parser: of the command.
        size: default rows and columns of the frames.
    """
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--size",
        type=whole_number(64, 512),
        default=size,
        help="rows and columns of the frames (default %(default)s)",
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
        type=_names_among(EMOTIONS),
        default=EMOTIONS,
        help="which are recorded, joined by commas (default: all)",
    )
    parser.add_argument(
        "--stills",
        type=int,
        default=0,
        metavar="N",
        help="make an album of N unrelated frames of each person instead of clips: for stage 0, "
        "many people are worth more than much of each",
    )
    parser.add_argument(
        "--hold",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="render every N-th frame of a clip only and repeat it until the next (default 1), for "
        "training that skips the others (config.frame_stride); sound and truth are of every frame",
    )
    parser.add_argument(
        "--voices",
        type=_names_among(VOICES),
        default=(ESPEAK,),
        help=f"whose voices are heard, joined by commas: {', '.join(VOICES)} "
        f"(default: {ESPEAK}); each clip draws one of them",
    )
    parser.add_argument(
        "--recordings",
        metavar="FILE",
        help="made by `python -m data.synthetic.recordings` (default: in the cache folder)",
    )
    parser.add_argument(
        "--workers",
        type=whole_number(1),
        default=os.cpu_count() or 1,
        help="processes that work at once",
    )
    add_head_model_flag(parser)


def _names_among(choices: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """A flag's type: names, joined by commas."""

    def names(text: str) -> tuple[str, ...]:
        given = tuple(text.split(","))
        for name in given:
            if name not in choices:
                raise argparse.ArgumentTypeError(
                    f"{name!r} is none; choose from {', '.join(choices)}, joined by commas"
                )
        return given

    return names


def write_all(
    root: Path,
    recipe: Recipe,
    numbers: Sequence[int],
    renderer: Renderer,
    workers: int,
    recordings: str | None = None,
) -> None:
    """Writes what is missing of a data set, with a progress bar, and says what there is then.

    Raises:
        UserError: the folder holds another data set, or something that is needed is missing.
    """
    from data.progress import progress_bar
    from data.synthetic import writer
    from eamm_jax.io.parallel import run_parallel

    if recipe.stills and recipe.voices != (ESPEAK,):
        raise UserError("--stills makes albums without sound: leave --voices out")
    check_available(Voices(recipe.voices, recordings))
    writer.begin(root, recipe)
    jobs = writer.plan(root, recipe, numbers, renderer, recordings)
    missing = [job for job in jobs if not job.frames.is_dir()]
    frames = 0
    writing = closing(run_parallel(writer.write, missing, workers))
    try:
        with progress_bar("rendering") as progress, writing as written:
            task = progress.add_task(
                "rendering", total=len(jobs), completed=len(jobs) - len(missing)
            )
            for _, count in written:
                frames += count
                progress.advance(task)
    finally:
        remove_unfinished(root)
    what = "albums" if recipe.stills else "clips"
    print(f"{root}: {len(jobs)} {what} of {len(numbers)} people, {frames} frames rendered now")
