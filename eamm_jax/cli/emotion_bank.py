"""`python -m eamm_jax.cli.emotion_bank`: emotions of labelled clips, stored beside the weights."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eamm_jax.cli.tool import OneLineParser, run, start_jax, whole_number
from eamm_jax.constants import EMOTIONS
from eamm_jax.errors import UserError
from eamm_jax.io.files import VIDEO_SUFFIXES

if TYPE_CHECKING:
    import numpy as np

MAX_FRAMES = 150
"""Six seconds of a clip are enough: what is longer is cut."""

STRONGEST = 3


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the bank as the flags say."""
    parser = OneLineParser(
        description=(
            "Reads labelled clips of emotional faces with a model's emotion network and keeps "
            "what it sees in the model's folder, so that eamm-infer --emotion needs no video."
        ),
    )
    parser.add_argument(
        "--clips",
        type=Path,
        required=True,
        metavar="DIR",
        help="data set in the published layout with MEAD's clip names, or a folder of aligned "
        "videos named by emotion (happy.mp4, sad_level_2.mp4, ...)",
    )
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="DIR", help="the model's folder"
    )
    parser.add_argument(
        "--clips_each",
        type=whole_number(1),
        default=8,
        help="at most so many clips of each emotion and level are read, and the most typical one "
        "is kept; default: %(default)s",
    )
    flags = parser.parse_args(argv)
    run(lambda: make(flags.clips, flags.checkpoint, clips_each=flags.clips_each))


def make(clips_folder: Path, checkpoint: Path, *, clips_each: int) -> None:
    """Reads labelled clips and writes the bank of a checkpoint.

    Args:
        clips_folder: data set in the published layout, or a folder of named videos.
        checkpoint: gets the bank.
        clips_each: at most so many of each emotion and level are read.

    Raises:
        UserError: there are no labelled clips, one is bad, or the checkpoint cannot be used.
    """
    found = _labelled(clips_folder)
    import numpy as np

    from eamm_jax.animate.animator import Animator
    from eamm_jax.animate.emotion_bank import EmotionBank, Entry
    from eamm_jax.checkpoint import BANK_NAME, model_folder

    start_jax()
    animator = Animator.from_checkpoint(checkpoint)
    size = animator.image_size

    def read() -> Iterator[tuple[str, int, Entry]]:
        total = sum(len(clips[:clips_each]) for clips in found.values())
        done = 0
        try:
            for (emotion, level), clips in sorted(found.items()):
                for clip in clips[:clips_each]:
                    frames = list(itertools.islice(_frames(clip, size), MAX_FRAMES))
                    mean = np.mean(frames, axis=0).round().astype(np.uint8)
                    yield emotion, level, Entry(animator.read_emotion(frames), mean)
                    done += 1
                    print(f"\r{done}/{total} clips", end="", file=sys.stderr, flush=True)
        finally:
            if done:
                print(file=sys.stderr)

    bank = EmotionBank.of_clips(read())
    folder = model_folder(checkpoint)
    bank.save(folder)
    kept = ", ".join(f"{emotion} {level}" for emotion, level in sorted(bank.entries))
    print(f"{folder / BANK_NAME}: {kept}")


def _labelled(folder: Path) -> dict[tuple[str, int], list[Path]]:
    """Clips by emotion and level: folders of frames, or videos."""
    from eamm_jax.input_pipeline.clips import KINDS, BadClip, Tracks
    from eamm_jax.input_pipeline.published import FRAMES_FOLDER, PublishedFolder

    if not folder.is_dir():
        raise UserError(f"No such folder of clips: {folder}")
    found: dict[tuple[str, int], list[Path]] = {}
    if (folder / FRAMES_FOLDER).is_dir():
        for name in PublishedFolder(folder, Tracks()).names:
            try:
                emotion = EMOTIONS[KINDS["mead"].emotion(name)]
            except BadClip as error:
                raise UserError(f"bad clip {name}: {error}") from error
            level = int(name.clip.split("_level_")[1][0])
            path = folder / FRAMES_FOLDER / name.identity / name.clip
            found.setdefault((emotion, level), []).append(path)
        return found
    for path in sorted(folder.iterdir()):
        named = re.match(rf"({'|'.join(EMOTIONS)})(?:_level_([123]))?(?:[_.]|$)", path.name.lower())
        if named and path.suffix.lower() in VIDEO_SUFFIXES:
            key = named[1], int(named[2] or STRONGEST)
            found.setdefault(key, []).append(path)
    if not found:
        raise UserError(
            f"{folder} holds no labelled clips: looked for {folder / FRAMES_FOLDER}, and for "
            f"videos named by emotion such as happy.mp4 or sad_level_2.mp4"
        )
    return found


def _frames(path: Path, size: int) -> Iterator[np.ndarray]:
    from eamm_jax.input_pipeline.clips import BadClip
    from eamm_jax.input_pipeline.published import frame_files
    from eamm_jax.io.image import read_image, to_uint8
    from eamm_jax.io.video import read_video

    if not path.is_dir():
        return iter(read_video(path, size))
    try:
        pictures = [path / name for name in frame_files(path)]
    except BadClip as error:
        raise UserError(f"bad clip {path}: {error}") from error
    return (to_uint8(read_image(picture, size)) for picture in pictures)


if __name__ == "__main__":
    main()
