"""Writes clips in the published folder layout, and beside it what only a rendered clip knows.

<root>/fomm_crop/<identity>/<clip>/0.png ...     frames
<root>/fomm_pose_crop/<identity>/<clip>.npy      poses, (t, 7)
<root>/MFCC/<identity>/<clip>.npy                what each frame hears, (t, 28, 13)
<root>/landmarks/<identity>/<clip>.npy           68 landmarks, (t, 68, 2), within [-1, 1]
<root>/pupils/<identity>/<clip>.npy              pupils, (t, 2, 2), in the same units
<root>/regions/<identity>/<clip>.npy             what is seen, (t, 64, 64); of albums
<root>/flows/<identity>/<clip>.npy               where it is in each other still of the sitting,
                                                 (t, t, 64, 64, 2) within [-1, 1]; of albums
<root>/mouth/<identity>/<clip>.npy               gap between the lips, (t,), half frames
<root>/controls/<identity>/<clip>.npy            the face's controls, (t, controls)
<root>/sound/<identity>/<clip>.wav               16 kHz, mono
<root>/facts/<identity>/<clip>.json              emotion, level, strength, text, phonemes, ...
<root>/synthetic.json                            what the whole was made from

Of an album (`data.synthetic.album`) there is no sound; its rows belong to unrelated frames. Of a
clip, every n-th frame and its rows can be kept alone: training that skips frames needs no others.

The folder of frames appears last, by renaming, so that a clip with frames has everything.
"""

from __future__ import annotations

import io
import json
import os
import wave
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from data import layout
from data.synthetic import album, cast
from data.synthetic.clip import Clip, record_clip
from data.synthetic.controls import Control
from data.synthetic.folder import encode_png
from data.synthetic.renderer import HEADS, Renderer
from data.synthetic.script import Take, takes_of
from data.synthetic.voices import ESPEAK, Voices
from eamm_jax.constants import EMOTIONS, SAMPLE_RATE
from eamm_jax.errors import UserError
from eamm_jax.input_pipeline.clips import ALBUM, ClipName
from eamm_jax.input_pipeline.published import (
    FLOWS_FOLDER,
    LANDMARKS_FOLDER,
    POSE_FOLDER,
    PUPILS_FOLDER,
    REGIONS_FOLDER,
    SOUND_FOLDER,
)
from eamm_jax.io.files import cannot_write
from eamm_jax.types import Region

FORMAT = 12
"""Changes when the same seed no longer gives the same clips."""

MOUTH_FOLDER, CONTROLS_FOLDER = "mouth", "controls"
WAV_FOLDER, FACTS_FOLDER = "sound", "facts"
RECIPE_FILE = "synthetic.json"


@dataclass(frozen=True)
class Recipe:
    """What a data set is made from.

    Attributes:
        seed: of everything.
        size: rows and columns of the frames.
        takes: recordings of each emotion at each level.
        emotions: those that are recorded.
        stills: frames of each person's album, written instead of recordings; 0: no album.
        hold: every which frame of a clip is rendered; it is repeated until the next.
        voices: whose voices are heard; each clip draws one.
    """

    seed: int
    size: int
    takes: int = 1
    emotions: tuple[str, ...] = EMOTIONS
    stills: int = 0
    hold: int = 1
    voices: tuple[str, ...] = (ESPEAK,)


@dataclass(frozen=True)
class PhotoRecipe(Recipe):
    """What a data set of photographs is made from.

    Attributes:
        photos: SHA-256 of all of them, in order.
    """

    photos: str = ""


@dataclass(frozen=True)
class Job:
    """A clip or an album to be written: all that a worker needs to know."""

    root: str
    recipe: Recipe
    number: int
    take: Take | None = None
    renderer: Renderer = HEADS
    recordings: str | None = None

    @property
    def voices(self) -> Voices:
        """Whose voices are heard."""
        return Voices(self.recipe.voices, self.recordings)

    @property
    def name(self) -> ClipName:
        """Of the person and the clip, or the first of the album's."""
        return self.named(self.take.clip_name if self.take else ALBUM.format(1))

    def named(self, clip: str) -> ClipName:
        """A clip of the person."""
        return ClipName(cast.name_of(self.number), clip)

    @property
    def frames(self) -> Path:
        """Where the frames are when it is complete."""
        return layout.frames_of(self.root, self.name)


def plan(
    root: str | os.PathLike[str],
    recipe: Recipe,
    numbers: Iterable[int],
    renderer: Renderer = HEADS,
    recordings: str | None = None,
) -> list[Job]:
    """Lists the clips of some people, or their albums, written or not."""
    if recipe.stills:
        return [Job(str(root), recipe, number, None, renderer) for number in numbers]
    return [
        Job(str(root), recipe, number, take, renderer, recordings)
        for number in numbers
        for take in takes_of(number, recipe.takes, recipe.emotions)
    ]


def begin(root: Path, recipe: Recipe) -> None:
    """Makes the folder, or makes sure that an existing one was made from the same recipe.

    Raises:
        UserError: it was made from another one, or cannot be made.
    """
    controls = [c.name.lower() for c in Control]
    facts = json.loads(json.dumps({"format": FORMAT, **asdict(recipe), "controls": controls}))
    path = root / RECIPE_FILE
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            layout.write_whole(path, json.dumps(facts, indent=2).encode())
        found = json.loads(path.read_text())
    except OSError as error:
        raise cannot_write(root, error) from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: remove it, or write to another folder") from error
    if isinstance(found, dict):
        # Made before there was such a choice.
        default = {f.name: f.default for f in fields(recipe) if f.default is not MISSING}
        found = json.loads(json.dumps(default)) | found
    if found != facts:
        del facts["controls"]
        was = {key: found.get(key) if isinstance(found, dict) else None for key in facts}
        raise UserError(
            f"{root} holds a synthetic data set made from {_words(was)}, not from "
            f"{_words(facts)}: give the same flags to go on, or another folder"
        )
    layout.remove_unfinished(root)


def _words(recipe: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in recipe.items())


def write(job: Job) -> int:
    """Records, renders and writes a clip or an album.

    Returns:
        The number of frames.

    Raises:
        UserError: the extra `speech` is not installed, or the disk is full.
    """
    try:
        return _write_clip(job, job.take) if job.take else _write_album(job)
    except OSError as error:
        raise cannot_write(job.frames, error) from error


def _write_clip(job: Job, take: Take) -> int:
    clip = record_clip(job.recipe.seed, take, job.renderer, job.voices)
    tracks = {
        POSE_FOLDER: clip.pose(),
        SOUND_FOLDER: clip.mfcc(),
        LANDMARKS_FOLDER: clip.landmarks(),
        PUPILS_FOLDER: clip.pupils(),
        MOUTH_FOLDER: clip.mouth_opening(),
        CONTROLS_FOLDER: clip.acting.performance,
    }
    wav = layout.parent(Path(job.root, WAV_FOLDER, job.name.identity, f"{job.name.clip}.wav"))
    layout.write_whole(wav, _wav(clip.sound))
    _write_parts(job, job.name, tracks, facts_of(clip), _pictures(clip, job.recipe))
    return clip.num_frames


def _pictures(clip: Clip, recipe: Recipe) -> Iterator[np.ndarray]:
    for first in range(0, clip.num_frames, recipe.hold):
        picture = clip.frame(first, recipe.size)
        yield from [picture] * min(recipe.hold, clip.num_frames - first)


def _write_album(job: Job) -> int:
    sittings = album.stills(job.recipe.seed, job.number, job.recipe.stills, job.renderer)
    # The first is written last: an album that has it has all.
    for number, stills in reversed([*enumerate(sittings, 1)]):
        shown = [still.shown(job.recipe.size) for still in stills]
        tracks = {
            POSE_FOLDER: [still.pose for still in stills],
            SOUND_FOLDER: [still.window for still in stills],
            LANDMARKS_FOLDER: [still.landmarks() for still in stills],
            PUPILS_FOLDER: [still.pupils() for still in stills],
            MOUTH_FOLDER: [still.opening() for still in stills],
            CONTROLS_FOLDER: [still.row for still in stills],
        }
        facts = {
            "emotion": [still.clip.take.emotion for still in stills],
            "level": [still.clip.take.level for still in stills],
            "strength": [round(float(still.strength), 4) for still in stills],
        }
        arrays = {name: np.array(rows, np.float32) for name, rows in tracks.items()}
        regions = arrays[REGIONS_FOLDER] = np.stack([one.regions for one in shown])
        flows = arrays[FLOWS_FOLDER] = album.flows(stills, job.recipe.size)
        for to_others, seen in zip(flows, regions, strict=True):
            to_others[:, seen == Region.BACKDROP] = np.nan  # between strands
        frames = (one.picture for one in shown)
        _write_parts(job, job.named(ALBUM.format(number)), arrays, facts, frames)
    return sum(map(len, sittings))


def _write_parts(
    job: Job,
    name: ClipName,
    tracks: Mapping[str, np.ndarray],
    facts: dict[str, Any],
    frames: Iterable[np.ndarray],
) -> None:
    root = Path(job.root)
    for folder, array in tracks.items():
        layout.write_track(root, folder, name, array)
    text = json.dumps(facts, ensure_ascii=False, indent=1).encode()
    layout.write_whole(
        layout.parent(root / FACTS_FOLDER / name.identity / f"{name.clip}.json"), text
    )
    with layout.unfinished_frames(root, name) as folder_of_frames:
        for n, frame in enumerate(frames):
            (folder_of_frames / f"{n}.png").write_bytes(encode_png(frame))


def facts_of(clip: Clip) -> dict[str, Any]:
    """What is known about a clip beyond its arrays."""
    return {
        "emotion": clip.take.emotion,
        "label": EMOTIONS.index(clip.take.emotion),
        "level": clip.take.level,
        "strength": [round(float(s), 4) for s in clip.acting.strength],
        "text": clip.script.text,
        "voice": clip.script.voice,
        "rate": clip.script.rate,
        "pitch": clip.script.pitch,
        "pitch_range": clip.script.pitch_range,
        "feminine": clip.person.feminine,
        "held_out": clip.person.held_out,
        "phonemes": [
            [p.symbol, round(p.start, 4), round(p.end, 4), p.stressed] for p in clip.phonemes
        ],
    }


def _wav(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples * 32767).round().astype("<i2").tobytes())
    return buffer.getvalue()
