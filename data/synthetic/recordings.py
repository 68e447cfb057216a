"""Recordings of real voices with the time of every phoneme: packing, finding and loading them.

They are the telephone prompts of Asterisk at 16 kHz, which Debian packages with their
transcripts: five speakers in English, Spanish, French, Italian and Russian, about two hours. The
project does not ship them. English and Spanish (Allison Smith) and French (June Wallack) are
CC BY-SA 3.0, Italian (Carlo Flora) and Russian (Maxim Topal's ivrvoice.ru) CC BY 3.0: videos made
with them must name the speakers and, of the first three, be given under the same license.

    apt-get download asterisk-core-sounds-{en,es,fr,it,ru}{,-g722}
    for package in asterisk-core-sounds-*.deb; do dpkg-deb -x $package asterisk; done
    python -m data.synthetic.recordings --source asterisk

aligns them (`data.synthetic.alignment`) and packs those that fit their transcripts into one file.
Long prompts are cut at pauses.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from data import layout
from data.progress import progress_bar
from data.synthetic import cast
from data.synthetic.alignment import align
from data.synthetic.packed_file import PackedFile
from eamm_jax.cli.tool import OneLineParser, run, whole_number
from eamm_jax.constants import SAMPLE_RATE
from eamm_jax.errors import UserError
from eamm_jax.io.files import cannot_write
from eamm_jax.io.parallel import run_parallel
from eamm_jax.io.speech import Phoneme, synthesise

HOW_TO_GET_THEM = (
    "unpack Debian's asterisk-core-sounds-en and -en-g722 (also -es, -fr, -it, -ru) into a folder "
    "and run `python -m data.synthetic.recordings --source FOLDER`"
)

FILE = PackedFile("recordings.zip", "recordings", HOW_TO_GET_THEM)

_LANGUAGES = {"en_US": "en-us", "es_MX": "es-419", "fr_CA": "fr", "it_IT": "it", "ru_RU": "ru"}
"""The engine's language for the first letters of a speaker's folder."""

_INDEX = "index.json"
_SOUND_SUFFIX = ".g722"

_WORST_SCORE = -45.0
"""Of recordings that are kept: those of their text score -10 to -40, those of another below -50."""

_SHORT, _MOST_SHORT = 0.031, 0.4
"""A phoneme that the aligner has squeezed, in seconds, and the share of them in what is kept."""

_LONGEST = 6.0
"""Seconds of an utterance, from which on it is cut at a pause if there is one."""

_CUT = 0.15
"""Seconds of a pause at which a recording is cut."""

_MARGIN = 0.08
"""Seconds kept before and after the speech."""


class Utterance(NamedTuple):
    """A stretch of a recording.

    Attributes:
        speaker: as the folder is named, language, country, sex and name: "en_US_f_Allison".
        file: of the recording, within the pack.
        text: transcript of the whole recording.
        start: second of the recording at which it begins.
        phonemes: in order, without gaps, from 0 to its end.
    """

    speaker: str
    file: str
    text: str
    start: float
    phonemes: tuple[Phoneme, ...]

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return self.phonemes[-1].end

    @property
    def feminine(self) -> bool:
        """Whether the speaker's voice is a woman's."""
        return self.speaker.split("_")[2] == "f"

    @property
    def held_out(self) -> bool:
        """Whether it is kept for the people who say what nobody else says."""
        return cast.share(self.text) < cast.HELD_OUT


class Recordings:
    """A packed file of recordings."""

    def __init__(self, path: Path):
        """Reads the index.

        Raises:
            UserError: it is not a pack of recordings.
        """
        self._path = path
        try:
            with zipfile.ZipFile(path) as pack:
                rows = json.loads(pack.read(_INDEX))
            self.utterances = tuple(
                Utterance(speaker, file, text, start, tuple(Phoneme(*p) for p in phonemes))
                for speaker, file, text, start, phonemes in rows
            )
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is no pack of recordings: {HOW_TO_GET_THEM}") from error

    def samples(self, utterance: Utterance) -> Float32[np.ndarray, " n"]:
        """The sound of an utterance, mono, 16 kHz."""
        with zipfile.ZipFile(self._path) as pack:
            sound = decode(pack.read(utterance.file))
        start = round(utterance.start * SAMPLE_RATE)
        return sound[start : start + round(utterance.seconds * SAMPLE_RATE)]


def load(path: str | os.PathLike[str] | None = None) -> Recordings:
    """Opens packed recordings, once per process and file.

    Args:
        path: of the file; None looks in the user's cache folder.

    Raises:
        UserError: there is no such file, or it is no pack of recordings.
    """
    return _load(FILE.find(path))


@lru_cache(maxsize=2)
def _load(path: Path) -> Recordings:
    return Recordings(path)


def decode(content: bytes) -> Float32[np.ndarray, " n"]:
    """Decodes G.722, the telephone codec of 16 kHz."""
    import av

    with av.open(io.BytesIO(content), "r", format="g722") as container:
        pieces = [frame.to_ndarray().ravel() for frame in container.decode(audio=0)]
    return np.concatenate(pieces).astype(np.float32) / 32768


class Prompt(NamedTuple):
    """A recording of the source: its sound, speaker, name and transcript."""

    path: str
    speaker: str
    name: str
    text: str


def prompts(source: Path) -> list[Prompt]:
    """Lists the recordings of unpacked Debian packages that have a transcript.

    Raises:
        UserError: there are none.
    """
    result = []
    for folder in sorted((source / "usr/share/asterisk/sounds").glob("??_??_?_*")):
        language = folder.name[:2]
        package = f"asterisk-core-sounds-{language}"
        listing = source / "usr/share/doc" / package / f"core-sounds-{language}.txt.gz"
        if folder.name[:5] not in _LANGUAGES or not listing.is_file():
            continue
        for line in gzip.decompress(listing.read_bytes()).decode("utf-8-sig").splitlines():
            name, colon, text = line.partition(":")
            path = folder / f"{name}{_SOUND_SUFFIX}"
            # Comments begin with a semicolon; brackets describe tones, not words.
            spoken = colon and not name.startswith(";") and not set("[]<>#*") & set(text)
            if spoken and text.strip() and path.is_file():
                result.append(Prompt(str(path), folder.name, name, text.strip()))
    if not result:
        raise UserError(f"{source} holds no recordings with transcripts: {HOW_TO_GET_THEM}")
    return result


def utterances(prompt: Prompt) -> list[Utterance]:
    """The utterances of a recording; none if it does not fit its transcript."""
    try:
        said = synthesise(prompt.text, _LANGUAGES[prompt.speaker[:5]])
    except UserError:  # nothing to pronounce
        return []
    found = align(decode(Path(prompt.path).read_bytes()), said)
    if found is None or found.score < _WORST_SCORE:
        return []
    lengths = np.array([p.end - p.start for p in found.phonemes if p.symbol])
    if np.mean(lengths < _SHORT) > _MOST_SHORT:
        return []
    file = f"{prompt.speaker}/{prompt.name}{_SOUND_SUFFIX}"
    return [
        _utterance(prompt.speaker, file, prompt.text, piece) for piece in _pieces(found.phonemes)
    ]


def _pieces(phonemes: Sequence[Phoneme]) -> Iterator[Sequence[Phoneme]]:
    """Cuts the phonemes of a recording at pauses, where it would be too long."""
    piece: list[Phoneme] = []
    for n, phoneme in enumerate(phonemes):
        pause = not phoneme.symbol and phoneme.end - phoneme.start >= _CUT
        following = next((p.end for p in phonemes[n + 1 :] if not p.symbol), phonemes[-1].end)
        if pause and piece and following - piece[0].start > _LONGEST:
            yield [*piece, phoneme]
            piece = []
        if phoneme.symbol or piece:
            piece.append(phoneme)
    if piece:
        yield piece


def _utterance(speaker: str, file: str, text: str, phonemes: Sequence[Phoneme]) -> Utterance:
    """Trims the pauses at both ends of a piece, and counts its time from there."""
    spoken = [p for p in phonemes if p.symbol]
    start = max(0.0, spoken[0].start - _MARGIN)
    end = min(phonemes[-1].end, spoken[-1].end + _MARGIN)
    quiet = [Phoneme("", start, spoken[0].start)] if spoken[0].start > start else []
    inside = [*quiet, *(p for p in phonemes if p.start < end)]
    moved = (
        p._replace(start=round(p.start - start, 4), end=round(min(p.end, end) - start, 4))
        for p in inside
    )
    return Utterance(speaker, file, text, round(start, 4), tuple(moved))


def pack(source: Path, output: Path, workers: int = 1) -> None:
    """Aligns and packs the recordings of unpacked Debian packages.

    Raises:
        UserError: the extra `voices` is not installed, there are no recordings, or `output`
            cannot be written.
    """
    if importlib.util.find_spec("pocketsphinx") is None:
        raise UserError(
            "aligning recordings needs the optional package pocketsphinx: "
            'install the extra, pip install -e ".[voices]"'
        )
    everything = prompts(source)
    found: dict[Prompt, list[Utterance]] = {}
    with (
        progress_bar("aligning") as progress,
        closing(run_parallel(utterances, everything, workers)) as done,
    ):
        task = progress.add_task("aligning", total=len(everything))
        for prompt, result in done:
            found[prompt] = result
            progress.advance(task)
    rows: list[Any] = []
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for prompt in everything:
            rows += found[prompt]
            if found[prompt]:
                sound = Path(prompt.path).read_bytes()
                _add(file, found[prompt][0].file, sound)
        _add(file, _INDEX, json.dumps(rows, ensure_ascii=False).encode())
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        layout.write_whole(output, content.getvalue())
    except OSError as error:
        raise cannot_write(output, error) from error


def _add(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    # With a fixed time, so that the same recordings give the same file.
    file.writestr(zipfile.ZipInfo(name), content)


def main(argv: Sequence[str] | None = None) -> None:
    """Packs recordings as the flags say."""
    parser = OneLineParser(
        prog="python -m data.synthetic.recordings",
        description="Aligns Debian's Asterisk recordings with their transcripts and packs them.",
    )
    parser.add_argument(
        "--source", type=Path, required=True, help="folder into which the packages are unpacked"
    )
    parser.add_argument(
        "--output", type=Path, default=None, help="file to write (default: in the cache folder)"
    )
    parser.add_argument(
        "--workers",
        type=whole_number(1),
        default=os.cpu_count() or 1,
        help="processes that align at once",
    )
    flags = parser.parse_args(argv)

    def job() -> None:
        output = flags.output or FILE.default_path()
        pack(flags.source, output, flags.workers)
        kept = load(output).utterances
        minutes = sum(utterance.seconds for utterance in kept) / 60
        speakers = len({utterance.speaker for utterance in kept})
        print(
            f"{output}: {len(kept)} utterances of {speakers} speakers, {minutes:.0f} minutes, "
            f"{output.stat().st_size / 1e6:.1f} MB; pass it as --recordings"
        )

    run(job)


if __name__ == "__main__":
    main()
