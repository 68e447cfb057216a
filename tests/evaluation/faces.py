"""Landmarks of a plain face, and tiny data sets that know them, for tests of the evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eamm_jax.constants import EMOTIONS
from eamm_jax.evaluation.landmarks import BROWS, EYES, JAW, MOUTH, NOSE
from eamm_jax.evaluation.readers import Reading
from tests.published_layout import write_mead


def template() -> np.ndarray:
    """Landmarks of a plain face."""
    points = np.zeros((68, 2))
    angles = np.linspace(np.pi, 0, 17)
    points[JAW] = np.stack([0.6 * np.cos(angles), 0.1 + 0.6 * np.sin(angles)], -1)
    points[BROWS, 0] = [*np.linspace(-0.5, -0.1, 5), *np.linspace(0.1, 0.5, 5)]
    points[BROWS, 1] = -0.35
    points[NOSE] = [*((0, y) for y in (-0.2, -0.1, 0, 0.1)), *((x / 10, 0.2) for x in range(-2, 3))]
    eye = np.array(
        [(-0.1, 0), (-0.04, -0.04), (0.04, -0.04), (0.1, 0), (0.04, 0.04), (-0.04, 0.04)]
    )
    points[EYES] = np.concatenate([eye - np.array([0.3, 0.2]), eye + np.array([0.3, -0.2])])
    around = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    points[MOUTH] = np.stack([0.25 * np.cos(around), 0.42 + 0.08 * np.sin(around)], -1)
    return points


def talking(frames: int, phase: float = 0.0) -> np.ndarray:
    """Landmarks of a plain face whose mouth opens and closes."""
    track = np.repeat(template()[None], frames, axis=0)
    gap = 0.06 * (1 + np.sin(phase + np.arange(frames) / 2))
    track[:, [61, 62, 63], 1] = 0.42
    track[:, [65, 66, 67], 1] = 0.42 + gap[:, None]
    return track


class BrightnessReader:
    """Sees a plain face in every frame; the brighter, the wider its mouth is open."""

    name = "an imitation"

    def read(self, frames: np.ndarray) -> Reading:
        shift = frames.mean(axis=(1, 2, 3)) / 255
        track = np.repeat(template()[None], len(frames), axis=0)
        track[:, [65, 66, 67], 1] += 0.1 * shift[:, None]
        scores = -np.abs(np.linspace(0, 1, len(EMOTIONS)) - shift[:, None])
        return Reading(track.astype(np.float32), scores.astype(np.float32))


def write_rendered(root: Path, **options: object) -> Path:
    """A labelled data set (`write_mead`) with landmarks and pupils, as synthetic ones have."""
    write_mead(root, **options)
    for folder in (root / "fomm_crop").glob("*/*"):
        count = len(list(folder.glob("*.png")))
        track = talking(count, phase=len(folder.name))
        eyes = track[:, EYES].reshape(count, 2, 6, 2).mean(axis=2)
        for kind, points in (("landmarks", track), ("pupils", eyes)):
            path = root / kind / folder.parent.name / f"{folder.name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, points.astype(np.float32))
    return root
