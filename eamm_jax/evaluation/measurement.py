"""All metrics of a clip, for whoever made it, and their means over clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from eamm_jax.evaluation import landmarks, likeness, pictures, sharpness
from eamm_jax.evaluation.cases import Case, Frames
from eamm_jax.evaluation.readers import Reader, named_emotion
from eamm_jax.types import EMOTIONS

Values = dict[str, float]
"""Metrics by their keys; those that do not apply are absent."""

MAX_LAG = 5
"""Frames (0.2 s) within which the best lag of the mouth is looked for."""

SHARPNESS_EVERY = 5
"""Sharpness, which changes slowly and takes long, is measured on every fifth frame."""


class Metric(NamedTuple):
    """A row of the table.

    Attributes:
        label: what it is called.
        unit: of the values.
        better: 1 if more is better, -1 if less is, 0 if it is to be like the truth's.
        digits: after the point.
    """

    label: str
    unit: str
    better: int
    digits: int


METRICS = {
    "psnr": Metric("PSNR", "dB", 1, 2),
    "psnr_mouth": Metric("PSNR mouth", "dB", 1, 2),
    "psnr_eyes": Metric("PSNR eyes", "dB", 1, 2),
    "ssim": Metric("SSIM", "", 1, 3),
    "ssim_mouth": Metric("SSIM mouth", "", 1, 3),
    "ssim_eyes": Metric("SSIM eyes", "", 1, 3),
    "m_lmd": Metric("M-LMD", "px", -1, 2),
    "f_lmd": Metric("F-LMD", "px", -1, 2),
    "mouth_correlation": Metric("mouth, lag 0", "r", 1, 3),
    "mouth_correlation_near": Metric("mouth, lag ±1", "r", 1, 3),
    "mouth_correlation_best": Metric(f"mouth, lag ±{MAX_LAG}", "r", 1, 3),
    "mouth_lag": Metric("mouth lag", "frames", 0, 1),
    "cpbd": Metric("sharpness", "CPBD", 0, 3),
    "jitter": Metric("jitter", "px", 0, 2),
    "flicker": Metric("flicker", "of 255", -1, 2),
    "identity": Metric("identity", "ΔE", -1, 2),
    "emotion": Metric("emotion named", "", 1, 3),
    "neutral": Metric("named neutral", "", 0, 3),
}
"""In the order of the table; docs/evaluation.md defines them. Pixels are those of 256x256."""


class Reference(NamedTuple):
    """What is known of a case before anybody's frames are looked at.

    Attributes:
        case: the case.
        landmarks: of the true frames: known, or read; None if there is no reader either.
        portrait: landmarks read in the portrait, or None.
        mouth: pixels of the mouth in the true frames, or None.
        eyes: likewise.
    """

    case: Case
    landmarks: Float[np.ndarray, "t 68 2"] | None
    portrait: Float[np.ndarray, "68 2"] | None
    mouth: Bool[np.ndarray, "t h w"] | None
    eyes: Bool[np.ndarray, "t h w"] | None


def prepare(case: Case, reader: Reader | None) -> Reference:
    """Does once for a case what all contestants need."""
    track, portrait = case.landmarks, None
    if reader is not None:
        portrait = reader.read(case.portrait[None]).landmarks[0]
        if track is None:
            track = reader.read(case.truth).landmarks
    if track is None:
        return Reference(case, None, None, None, None)
    height, width = case.truth.shape[1:3]
    mouth = landmarks.mouth_region(track, height, width)
    eyes = landmarks.eyes_region(track, height, width)
    return Reference(case, track, portrait, mouth, eyes)


def measure(reference: Reference, frames: Frames, reader: Reader | None) -> Values:
    """Measures somebody's frames for a case.

    Args:
        reference: from `prepare`.
        frames: as many as the case has, of the same size.
        reader: the one that `prepare` was given.

    Raises:
        ValueError: the frames have another shape than the true ones.
    """
    truth = reference.case.truth
    if frames.shape != truth.shape:
        raise ValueError(f"frames have shape {frames.shape}, the true ones {truth.shape}")
    error, similarity = pictures.squared_error(frames, truth), pictures.ssim_map(frames, truth)
    values = {
        "psnr": _mean_psnr(error, None),
        "ssim": pictures.ssim(similarity).mean(),
        "cpbd": np.mean(
            [sharpness.cpbd(g) for g in sharpness.grey_levels(frames[::SHARPNESS_EVERY])]
        ),
        "flicker": pictures.flicker(frames, truth),
    }
    for part, region in (("mouth", reference.mouth), ("eyes", reference.eyes)):
        if region is not None:
            values[f"psnr_{part}"] = _mean_psnr(error, region)
            values[f"ssim_{part}"] = pictures.ssim(similarity, region).mean()
    if reader is not None:
        values |= _read_metrics(reference, frames, reader)
    return {key: float(values[key]) for key in METRICS if key in values}


def _mean_psnr(
    error: Float[np.ndarray, "t h w"], region: Bool[np.ndarray, "t h w"] | None
) -> float:
    # Frames that are identical count as if only rounded: infinity has no mean.
    return float(np.minimum(pictures.psnr(error, region), pictures.EIGHT_BITS).mean())


def _read_metrics(reference: Reference, frames: Frames, reader: Reader) -> Values:
    assert reference.landmarks is not None
    assert reference.portrait is not None
    case, track = reference.case, reference.landmarks
    seen = reader.read(frames)
    values: Values = {
        "m_lmd": landmarks.landmark_distance(seen.landmarks, track, landmarks.MOUTH).mean(),
        "f_lmd": landmarks.landmark_distance(seen.landmarks, track).mean(),
        "jitter": landmarks.jitter(seen.landmarks),
        "identity": likeness.identity_drift(
            case.portrait, reference.portrait, frames, seen.landmarks
        ).mean(),
    }
    if len(track) >= 3:
        timing = landmarks.timing(
            landmarks.mouth_opening(seen.landmarks), landmarks.mouth_opening(track), MAX_LAG
        )
        values |= {
            "mouth_correlation": timing.correlation,
            "mouth_correlation_near": timing.near,
            "mouth_correlation_best": timing.best,
            "mouth_lag": timing.lag,
        }
    if seen.emotion is not None:
        named = named_emotion(seen.emotion)
        values["neutral"] = float(named == EMOTIONS.index("neutral"))
        if case.emotion >= 0:
            values["emotion"] = float(named == case.emotion)
    return values


def mean_values(values: Sequence[Mapping[str, float]]) -> Values:
    """The mean of each metric over the clips that have it."""
    return {
        key: float(np.mean([clip[key] for clip in values if key in clip]))
        for key in METRICS
        if any(key in clip for clip in values)
    }
