"""What each metric of the evaluation can tell, and what it cannot: known changes of real clips.

    python benchmarks/metric_sanity.py --output report [--clips DIR | --data KIND=DIR]

compares clips with themselves after a known change, and prints the mean of each metric for each
change; the folder `report` is that of an evaluation. The changes:

    late_1 .. late_5  later by so many frames; the sound stays
    other_sound       the sound of another clip
    still             the first frame
    blurred           a Gaussian of 2 pixels
    encoded           H.264 of poor quality
    other_person      another clip, of another person where there is one

Clips are videos of one person who talks: by default those of the installed package `pyfame`, which
are measured, not copied; or clips of a data set, which have no sound.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.real_faces import find_clips, prepare_clips  # noqa: E402
from eamm_jax.cli.tool import OneLineParser, add_shared, run, start_jax  # noqa: E402
from eamm_jax.errors import UserError  # noqa: E402
from eamm_jax.evaluation import job as evaluation  # noqa: E402
from eamm_jax.evaluation.cases import DataSet, Frames  # noqa: E402
from eamm_jax.evaluation.measurement import METRICS  # noqa: E402
from eamm_jax.evaluation.statistics import estimates, methods_of  # noqa: E402
from eamm_jax.input_pipeline.sources import Source, parse_sources  # noqa: E402
from eamm_jax.io.audio import read_audio, write_wav  # noqa: E402
from eamm_jax.io.decoding import start_time  # noqa: E402
from eamm_jax.io.files import InputFiles, atomic_output_dir  # noqa: E402
from eamm_jax.io.video_writer import video_writer  # noqa: E402

SIZE, LATEST = 256, 5
BLUR, POOR_QUALITY, BEST_QUALITY = 2.0, 40, 0


class Recorded(NamedTuple):
    """A clip.

    Attributes:
        person: who talks.
        frames: of the face.
        sound: its file, or None.
    """

    person: str
    frames: Frames
    sound: Path | None


def record(videos: Sequence[Path], folder: Path, max_frames: int) -> list[Recorded]:
    """Crops the faces of videos, and takes out their sound."""
    prepare_clips(videos, folder / "data")
    source = Source("voxceleb", str(folder / "data"))
    sounds = {}
    for video in videos:
        wav = folder / f"{len(sounds)}.wav"
        write_wav(wav, read_audio(video, start_time(video, "video")))
        sounds[f"{video.parent.name}/{video.stem}"] = wav
    clips = read_clips(source, count=0, max_frames=max_frames)
    return [clip._replace(sound=sounds[name]) for name, clip in clips.items()]


def read_clips(source: Source, *, count: int, max_frames: int) -> dict[str, Recorded]:
    """Clips of a data set, by name."""
    options = {"split": "all", "validation_fraction": 0.0, "with_motion": False}
    data = DataSet(source, size=SIZE, portrait_from="first", max_frames=max_frames, **options)
    cases = [data.case(name) for name in data.choose(count)]
    return {case.name: Recorded(case.identity, case.truth, None) for case in cases}


def write_changes(clips: Sequence[Recorded], pairs: Path) -> None:
    """Writes the folder of pairs."""
    for number, clip in enumerate(clips):
        others = [other for other in clips if other.person != clip.person] or clips
        other = next(x for x in others[number % len(others) :] + others if x is not clip)

        def write(
            change: str,
            frames: Frames,
            sound: Path | None = clip.sound,
            quality: int = BEST_QUALITY,
            name: str = f"{number}.mp4",
        ) -> None:
            (pairs / change).mkdir(parents=True, exist_ok=True)
            size = frames.shape[1]
            with video_writer(pairs / change / name, size, size, sound=sound, crf=quality) as video:
                for frame in frames:
                    video.write(frame)

        frames, length = clip.frames, len(clip.frames)
        write("truth", frames)
        for late in range(1, LATEST + 1):
            start = np.repeat(frames[:1], late, axis=0)
            write(f"late_{late}", np.concatenate([start, frames])[:length])
        if other.sound is not None:
            write("other_sound", frames, other.sound)
        blurred = [ndimage.gaussian_filter(frame, (BLUR, BLUR, 0)) for frame in frames]
        write("blurred", np.stack(blurred))
        write("encoded", frames, quality=POOR_QUALITY)
        turn = np.arange(length) % (2 * len(other.frames))  # there and back, if it is shorter
        write("other_person", other.frames[np.minimum(turn, 2 * len(other.frames) - 1 - turn)])


def as_markdown(by_clip: dict[str, dict[str, dict[str, float]]]) -> str:
    """Means: one row per metric, one column per change."""
    methods = methods_of(by_clip)
    methods.sort(key=lambda name: (name != "truth", not name.startswith("late"), name))
    found = estimates(by_clip, METRICS)
    lines = [f"| | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    for key, metric in METRICS.items():
        means = [found[method][key].mean if key in found[method] else None for method in methods]
        if any(mean is not None for mean in means):
            cells = ("-" if mean is None else f"{mean:.{metric.digits}f}" for mean in means)
            unit = f", {metric.unit}" if metric.unit else ""
            lines.append(f"| {metric.label}{unit} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = OneLineParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="to write")
    parser.add_argument("--clips", type=Path, metavar="DIR", help="videos; default: of pyfame")
    parser.add_argument("--data", metavar="KIND=DIR", help="data set, instead of videos")
    parser.add_argument(
        "--count", type=int, default=8, metavar="N", help="clips of a data set; default: 8"
    )
    parser.add_argument(
        "--max_frames", type=int, default=0, metavar="N", help="frames of each clip; default: all"
    )
    parser.add_argument(
        "--networks", type=Path, metavar="DIR", help="as in python -m eamm_jax.evaluation"
    )
    add_shared(parser, "overwrite", "cpu")
    flags = parser.parse_args(argv)
    run(lambda: _main(flags))


def _main(flags: argparse.Namespace) -> None:
    if flags.clips and flags.data:
        raise UserError("give either --clips or --data")
    inputs = [path for path in (flags.clips, flags.networks) if path]
    InputFiles(inputs).check_kept([flags.output], replaces_folders=True)
    start_jax(cpu=flags.cpu)
    with (
        atomic_output_dir(flags.output, evaluation.RESULTS if flags.overwrite else None) as report,
        tempfile.TemporaryDirectory() as temporary,
    ):
        folder = Path(temporary)
        if flags.data:
            (source,) = parse_sources(flags.data)
            clips = list(
                read_clips(source, count=flags.count, max_frames=flags.max_frames).values()
            )
        else:
            clips = record(find_clips(flags.clips), folder, flags.max_frames)
        if len(clips) < 2:
            raise UserError("two clips are needed, of two people if possible")
        write_changes(clips, folder / "pairs")
        shutil.rmtree(folder / "data", ignore_errors=True)
        # In the temporary folder, for what is unfinished lies beside the report.
        made = evaluation.Job(folder / "report", folder / "pairs", networks=flags.networks)
        result = evaluation.run(made)
        shutil.copytree(made.output, report, dirs_exist_ok=True)
    print(as_markdown(result.measured.by_clip))


if __name__ == "__main__":
    main()
