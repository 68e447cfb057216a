"""All metrics of a rendered clip."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from eamm_jax.constants import EMOTIONS, FRAME_RATE
from eamm_jax.errors import UserError
from eamm_jax.evaluation import aligned, landmarks, pictures, sharpness
from eamm_jax.evaluation.cases import Case, Frames, changes, silent_frames
from eamm_jax.evaluation.identity import IDENTITY_EVERY, cosine_similarity
from eamm_jax.evaluation.readers import Reader, Reading, named_emotion
from eamm_jax.evaluation.sync import MAX_SHIFT
from eamm_jax.evaluation.tools import Tools

Values = dict[str, float]
"""Metrics by key; those that do not apply are absent. `RECOGNIZED`, beside them, is an emotion."""

RECOGNIZED = "recognized"
"""Key of the emotion that the reader recognizes in a clip, as an index into `EMOTIONS`."""

MAX_LAG = 5
"""Largest lag of the mouth, in frames (0.2 s)."""

SHARPNESS_EVERY = 5
"""Sharpness is measured on every fifth frame, because it is slow and changes slowly."""


class Metric(NamedTuple):
    """A row of the table.

    Attributes:
        label: its name.
        unit: its unit.
        better: 1 if higher is better, -1 if lower is, 0 if it should match the ground truth.
        digits: number of decimals.
    """

    label: str
    unit: str
    better: int
    digits: int


METRICS = {
    "psnr": Metric("PSNR", "dB", 1, 2),
    "psnr_worst": Metric("PSNR of the worst frame", "dB", 1, 2),
    "psnr_mouth": Metric("PSNR mouth", "dB", 1, 2),
    "psnr_eyes": Metric("PSNR eyes", "dB", 1, 2),
    "ssim": Metric("SSIM", "", 1, 3),
    "ssim_mouth": Metric("SSIM mouth", "", 1, 3),
    "ssim_eyes": Metric("SSIM eyes", "", 1, 3),
    "lpips": Metric("LPIPS", "", -1, 3),
    "lpips_alex": Metric("LPIPS, AlexNet", "", -1, 3),
    "lpips_vgg": Metric("LPIPS, VGG-16", "", -1, 3),
    "m_lmd": Metric("M-LMD", "px", -1, 2),
    "f_lmd": Metric("F-LMD", "px", -1, 2),
    "eat_psnr": Metric("PSNR, aligned", "dB", 1, 2),
    "eat_ssim": Metric("SSIM 7x7, aligned", "", 1, 3),
    "eat_m_lmd": Metric("M-LMD, aligned", "px of 128", -1, 2),
    "eat_f_lmd": Metric("F-LMD, aligned", "px of 128", -1, 2),
    "mouth_correlation": Metric("mouth, lag 0", "r", 1, 3),
    "mouth_correlation_near": Metric("mouth, lag ±1", "r", 1, 3),
    "mouth_correlation_best": Metric(f"mouth, lag ±{MAX_LAG}", "r", 1, 3),
    "mouth_lag": Metric("mouth lag", "frames", 0, 1),
    "mouth_amplitude": Metric("mouth amplitude", "of truth", 0, 2),
    "mouth_silence": Metric("mouth in silence", "", 0, 3),
    "lse_d": Metric("LSE-D", "", -1, 2),
    "lse_c": Metric("LSE-C", "", 1, 2),
    "sync_offset": Metric(f"SyncNet offset, ±{MAX_SHIFT}", "frames", 0, 1),
    "cpbd": Metric("sharpness", "CPBD", 0, 3),
    "jitter": Metric("jitter", "px", 0, 2),
    "flicker": Metric("flicker", "of 255", -1, 2),
    "blinks": Metric("blinks", "per minute", 0, 1),
    "identity": Metric("identity", "ΔE", -1, 2),
    "csim": Metric("CSIM", "", 1, 3),
    "emotion": Metric("emotion named", "", 1, 3),
    "neutral": Metric("named neutral", "", 0, 3),
}
"""In the order of the table; docs/evaluation.md defines them. Pixels refer to 256x256 frames."""


class Reference(NamedTuple):
    """A case with what all contestants share.

    Attributes:
        case: the case.
        seen: what the reader read in the ground-truth frames; None if it had not to.
        landmarks: ground-truth landmarks, from the data set or the reader; None without both.
        portrait: landmarks of the source image, or None.
        mouth: mouth region of the ground-truth frames, or None.
        eyes: eye region, likewise.
        identity: embedding of the source image, or None.
    """

    case: Case
    seen: Reading | None
    landmarks: Float[np.ndarray, "t 68 2"] | None
    portrait: Float[np.ndarray, "68 2"] | None
    mouth: Bool[np.ndarray, "t h w"] | None
    eyes: Bool[np.ndarray, "t h w"] | None
    identity: Float[np.ndarray, " n"] | None = None


def prepare(case: Case, tools: Tools) -> Reference:
    """Computes what all contestants of a case share.

    Raises:
        UserError: no face is seen in the ground truth.
    """
    track, portrait, seen, identity = case.landmarks, None, None, None
    reader, embedder = tools.reader, tools.embedder
    if reader is not None:
        portrait = reader.read(case.portrait[None]).landmarks[0]
        if embedder is not None:
            identity = embedder.embed(case.portrait[None], portrait[None])[0]
        if track is None:
            seen = _read(
                reader,
                case.truth,
                "crop the videos to the face (python -m data.prepare), or choose faces 'none'",
            )
            track = seen.landmarks
    if track is None:
        return Reference(case, None, None, None, None, None)
    height, width = case.truth.shape[1:3]
    mouth = landmarks.mouth_region(track, height, width)
    eyes = landmarks.eyes_region(track, height, width)
    return Reference(case, seen, track, portrait, mouth, eyes, identity)


def measure(
    reference: Reference,
    frames: Frames,
    tools: Tools,
    mfcc: Float[np.ndarray, "n 13"] | None = None,
) -> Values:
    """Computes all metrics of a contestant's frames but LPIPS, for which contestants share work.

    Args:
        reference: from `prepare`.
        frames: as many as the case has, of the same size.
        tools: those given to `prepare`.
        mfcc: of the sound under the frames, from `features.speech_mfcc`; None: there is none.

    Raises:
        UserError: no face is seen in the frames.
        ValueError: the frames and the ground truth differ in shape.
    """
    truth = reference.case.truth
    if frames.shape != truth.shape:
        raise ValueError(f"frames have shape {frames.shape}, the ground truth {truth.shape}")
    if frames is truth:  # not computed: it takes a while
        error, similarity = np.zeros(truth.shape[:3]), np.ones(truth.shape[:3])
        flicker = 0.0
    else:
        error, similarity = pictures.squared_error(frames, truth), pictures.ssim_map(frames, truth)
        flicker = pictures.flicker(frames, truth)
    values = {
        "psnr": _psnr(error, None).mean(),
        "psnr_worst": _psnr(error, None).min(),
        "ssim": pictures.ssim(similarity).mean(),
        "cpbd": _cpbd(frames[::SHARPNESS_EVERY]).mean(),
        "flicker": flicker,
    }
    for part, region in (("mouth", reference.mouth), ("eyes", reference.eyes)):
        if region is not None:
            values[f"psnr_{part}"] = _psnr(error, region).mean()
            values[f"ssim_{part}"] = pictures.ssim(similarity, region).mean()
    if tools.reader is not None:
        seen = reference.seen if frames is truth else None
        seen = seen or _read(tools.reader, frames, "metrics that need landmarks are left out")
        values |= _read_metrics(reference, frames, seen)
        values |= _tool_metrics(reference, frames, seen, tools, mfcc)
    return {key: float(values[key]) for key in (*METRICS, RECOGNIZED) if key in values}


def _read(reader: Reader, frames: Frames, advice: str) -> Reading:
    reading = reader.read(frames)
    if not reading.found:
        count, height, width = frames.shape[:3]
        raise UserError(
            f"no face was found in any of {count} frames of {width}x{height} pixels; {advice}"
        )
    return reading


def _psnr(
    error: Float[np.ndarray, "t h w"], region: Bool[np.ndarray, "t h w"] | None
) -> Float[np.ndarray, " t"]:
    # Identical frames count as rounding error, so that the mean stays finite.
    return np.minimum(pictures.psnr(error, region), pictures.EIGHT_BITS)


def _cpbd(frames: Frames) -> Float[np.ndarray, " t"]:
    new, number = changes(frames)
    return np.array([sharpness.cpbd(grey) for grey in sharpness.grey_levels(frames[new])])[number]


def _read_metrics(reference: Reference, frames: Frames, seen: Reading) -> Values:
    assert reference.landmarks is not None
    assert reference.portrait is not None
    case, track = reference.case, reference.landmarks
    new, number = changes(frames)
    drift = pictures.identity_drift(
        case.portrait, reference.portrait, frames[new], seen.landmarks[new]
    )[number]
    values: Values = {
        "m_lmd": landmarks.landmark_distance(seen.landmarks, track, landmarks.MOUTH).mean(),
        "f_lmd": landmarks.landmark_distance(seen.landmarks, track).mean(),
        "jitter": landmarks.jitter(seen.landmarks),
        "blinks": landmarks.blinks(seen.landmarks) * 60 * FRAME_RATE / len(frames),
        "identity": drift.mean(),
    }
    opening, wanted = landmarks.mouth_opening(seen.landmarks), landmarks.mouth_opening(track)
    if len(track) >= 3:
        timing = landmarks.timing(opening, wanted, MAX_LAG)
        values |= {
            "mouth_correlation": timing.correlation,
            "mouth_correlation_near": timing.near,
            "mouth_correlation_best": timing.best,
            "mouth_lag": timing.lag,
        }
    if np.ptp(wanted) > 0:
        values["mouth_amplitude"] = opening.std() / wanted.std()
    if case.sound is not None:
        silent = silent_frames(case.sound.mfcc)[: len(opening)]
        silent = np.pad(silent, (0, len(opening) - len(silent)))  # sound may end before the frames
        if silent.any():
            values["mouth_silence"] = opening[silent].mean()
    if seen.emotion is not None:
        named = named_emotion(seen.emotion)
        values[RECOGNIZED] = named
        values["neutral"] = float(named == EMOTIONS.index("neutral"))
        if case.emotion >= 0:
            values["emotion"] = float(named == case.emotion)
    return values


def _tool_metrics(
    reference: Reference,
    frames: Frames,
    seen: Reading,
    tools: Tools,
    mfcc: Float[np.ndarray, "n 13"] | None,
) -> Values:
    """Metrics by other tools, which need the landmarks."""
    values: Values = {}
    if tools.aligner is not None and reference.seen is not None:
        truth = tools.aligner.align(reference.case.truth, reference.seen.landmarks)
        alike = aligned.compare(tools.aligner.align(frames, seen.landmarks), truth)
        values |= {f"eat_{key}": value for key, value in alike._asdict().items()}
    if tools.embedder is not None and reference.identity is not None:
        some = slice(None, None, IDENTITY_EVERY)
        new, number = changes(frames[some])
        chosen, tracks = frames[some][new], seen.landmarks[some][new]
        vectors = np.tile(reference.identity, (len(chosen), 1))
        others = [not np.array_equal(frame, reference.case.portrait) for frame in chosen]
        if any(others):
            vectors[others] = tools.embedder.embed(chosen[others], tracks[others])
        values["csim"] = cosine_similarity(vectors[number], reference.identity).mean()
    if tools.sync is not None and mfcc is not None:
        sync = tools.sync.measure(frames, seen.landmarks, mfcc)
        if sync is not None:
            values |= {"lse_d": sync.distance, "lse_c": sync.confidence}
            values["sync_offset"] = sync.offset
    return values
