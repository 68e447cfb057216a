"""`python -m eamm_jax.cli.train_reader`: trains the reader of synthetic faces."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eamm_jax.cli.tool import OneLineParser, run, start_jax
from eamm_jax.errors import UserError

DESCRIPTION = """\
Trains the small network that detects landmarks and emotions of synthetic faces for evaluation,
measures it, and writes its weights and card."""

EXAMPLE = """\
example:
  python -m data.synthetic --output album --identities 2400 --seed 0 --stills 24
  python -m data.synthetic --output clips --identities 12 --seed 7
  python -m eamm_jax.cli.train_reader --album album --clips clips
"""


def flag_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = OneLineParser(
        prog="python -m eamm_jax.cli.train_reader",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--album",
        type=Path,
        required=True,
        metavar="DIR",
        help="stills of many people (data.synthetic --stills), for training and, in the "
        "validation split, for testing",
    )
    parser.add_argument(
        "--clips",
        type=Path,
        required=True,
        metavar="DIR",
        help="clips of other people (data.synthetic with another seed), for testing",
    )
    parser.add_argument(
        "--steps",
        type=int,
        help="training steps; default: 1900; 0: only measure the reader in --output",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--output", type=Path, metavar="NPZ", help="default: the bundled reader")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Parses the flags and runs; exits with the codes of `cli.tool`."""
    flags = flag_parser().parse_args(argv)
    run(lambda: _train(flags))


def _train(flags: argparse.Namespace) -> None:
    import json

    from eamm_jax import bundled
    from eamm_jax.evaluation import face_reader, train_reader
    from eamm_jax.io.files import atomic_output, check_writable

    steps = train_reader.STEPS if flags.steps is None else flags.steps
    start_jax()
    output = check_writable(flags.output or bundled.FACE_READER)
    if output.suffix != ".npz":
        raise UserError(f"--output is {output}; it must end in .npz")
    with _bar("reading") as advance:
        held_out = train_reader.read_examples(flags.album, validation=True, advance=advance)
    trained = _fit(flags, steps, output) if steps else _of_before(output)
    reader = face_reader.FaceReader(face_reader.load_weights(output))  # as it will be used
    with _bar("measuring") as advance:
        measured = {
            "stills of people it has not seen": train_reader.measure_stills(reader, held_out),
            "clips of people it has not seen": train_reader.measure_clips(
                reader, flags.clips, advance=advance
            ),
        }
    card = {**trained, "bytes": output.stat().st_size, "measured": measured}
    text = json.dumps(card, indent=2)
    with atomic_output(output.with_suffix(".json")) as temporary:
        temporary.write_text(text + "\n")
    print(text)
    print(f"Wrote {output} and its card")


def _fit(flags: argparse.Namespace, steps: int, output: Path) -> dict[str, Any]:
    """Trains and writes the weights; returns that part of the card."""
    from eamm_jax.evaluation import face_reader, train_reader

    with _bar("reading") as advance:
        examples = train_reader.read_examples(flags.album, validation=False, advance=advance)
    start, processor = time.perf_counter(), time.process_time()
    with _bar("training") as advance:
        params = train_reader.train(examples, seed=flags.seed, steps=steps, advance=advance)
    face_reader.save_weights(output, params)
    return {
        "trained on": f"{len(examples.frames)} stills of the training split of an album",
        "steps": steps,
        "seed": flags.seed,
        "seconds": {
            "wall": round(time.perf_counter() - start),
            "processor": round(time.process_time() - processor),
        },
    }


def _of_before(output: Path) -> dict[str, Any]:
    """The training part of the existing card."""
    import json

    from eamm_jax.io.files import check_readable

    check_readable(output, "reader")
    card = json.loads(check_readable(output.with_suffix(".json"), "card").read_text())
    return {key: card[key] for key in ("trained on", "steps", "seed", "seconds")}


@contextmanager
def _bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; yields a function of the done and total counts."""
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Left

    console = Console(file=sys.stderr)
    columns = (TextColumn(description), BarColumn(), MofNCompleteColumn(), Left())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


if __name__ == "__main__":
    main()
