"""Some seconds of mutated media files: read, or refused in one line, and never anything else."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import numpy as np
import pytest

from eamm_jax.errors import UserError
from eamm_jax.io.audio import read_audio
from eamm_jax.io.video import read_video
from tests.io.test_timing import write_film

MUTATIONS = 40


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("films")
    span = [(0, 0.6)]
    return {
        ending: write_film(folder / f"x.{ending}", [0.2], span, span).read_bytes()
        for ending in ("mp4", "mkv", "ts", "avi")
    }


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes changed, mostly in the headers; a piece lost, doubled, or cut off."""
    result = bytearray(content)
    for _ in range(rng.integers(1, 20)):
        end = len(result) if rng.random() < 0.4 else min(len(result), 800)
        start = 0 if rng.random() < 0.5 else max(0, len(result) - 2000)
        result[rng.integers(start, max(end, start + 1))] = rng.choice([0, 1, 0x7F, 0xFF, 0x41])
    at, size = rng.integers(len(result)), rng.integers(1, 400)
    change = rng.integers(5)
    if change == 0:
        del result[at : at + size]
    elif change == 1:
        result[at:at] = result[at : at + size]
    elif change == 2:
        del result[at:]
    return bytes(result)


def assert_read_or_refused(path: Path) -> None:
    for read in (
        lambda: read_audio(path).shape,
        lambda: [frame.shape for frame in itertools.islice(read_video(path, 16), 100)],
    ):
        with contextlib.suppress(UserError):
            read()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "avi"])
def test_mutated_media(tmp_path, films, ending):
    rng = np.random.default_rng(0)
    path = tmp_path / f"x.{ending}"
    for _ in range(MUTATIONS):
        path.write_bytes(mutated(films[ending], rng))
        assert_read_or_refused(path)
