"""Trains and measures the reader of synthetic faces (`python -m data.synthetic.train_reader`).

It is trained on the training split of an album (many people, a few stills of each), and tested on
the people of the validation split and on clips of people in neither. Augmentation imitates the
blur, noise and colour shifts of generated frames.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Float32, Int, UInt8
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eamm_jax import bundled
from eamm_jax.cli.tool import OneLineParser, run, start_jax
from eamm_jax.constants import EMOTIONS
from eamm_jax.errors import UserError
from eamm_jax.evaluation import face_reader, landmarks, pictures
from eamm_jax.evaluation.face_reader import SIZE, FaceNetwork, FaceReader, Params, Seen
from eamm_jax.evaluation.readers import named_emotion
from eamm_jax.input_pipeline.clips import (
    KINDS,
    LANDMARKS,
    BadClip,
    decode_frames,
)
from eamm_jax.input_pipeline.dataset import DEFAULT_VALIDATION_FRACTION
from eamm_jax.input_pipeline.published import PublishedFolder
from eamm_jax.io.files import atomic_output, check_readable, check_writable
from eamm_jax.ops.grids import coordinate_grid, grid_sample
from eamm_jax.types import Array

EXAMPLE = """\
example:
  python -m data.synthetic --output album --identities 2400 --seed 0 --stills 24
  python -m data.synthetic --output clips --identities 12 --seed 7
  python -m data.synthetic.train_reader --album album --clips clips
"""


BATCH = 64
STEPS = 1900
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-4
WARM_UP = 0.05  # of the steps

PRIOR_WIDTH = 0.12
"""Standard deviation of the initial heatmaps, in coordinates."""

LANDMARK_WEIGHT = 10.0  # relative to the cross-entropy of the emotion
MOUTH_WEIGHT = 2.0  # of mouth landmarks, relative to the others
GAP_WEIGHT = 10.0  # of the gaps between opposite inner lip landmarks

NEUTRAL_SHARE = 0.2
"""Fraction of neutral examples; the other emotions share the rest equally."""

# Augmentation: standard deviations per example.
TURN, ZOOM, SHIFT = 0.05, 0.03, 0.03  # radians, share, units of coordinates
GAIN, BIAS, NOISE = 0.05, 0.03, 0.02  # of colours in [0, 1]

FACTS_FOLDER = "facts"
"""Folder of emotion labels in a synthetic data set, in `<identity>/<clip>.json`."""

Advance = Callable[[int, int], None]
"""Called with the done and total counts."""


class Examples(NamedTuple):
    """Frames with ground truth.

    Attributes:
        frames: 64x64, or the original size for clips.
        landmarks: in dlib's order, in [-1, 1].
        emotion: index into `EMOTIONS`.
        level: level of the emotion, 1 to 3.
        strength: strength of the emotion.
    """

    frames: UInt8[np.ndarray, "n h w 3"]
    landmarks: Float32[np.ndarray, "n 68 2"]
    emotion: Int[np.ndarray, " n"]
    level: Int[np.ndarray, " n"]
    strength: Float32[np.ndarray, " n"]


def read_examples(root: Path, *, validation: bool, advance: Advance) -> Examples:
    """Reads all frames of one split of an album.

    Args:
        root: folder of the album.
        validation: read the validation split instead of the training split.
        advance: called with the number of albums read and in total.

    Raises:
        UserError: it is not a synthetic data set, is damaged, or has nobody in the split.
    """
    folder = PublishedFolder(root, with_motion=False, with_truth=True)
    wanted = [
        index
        for index, name in enumerate(folder.names)
        if (KINDS["synthetic"].validation_share(name) < DEFAULT_VALIDATION_FRACTION) == validation
    ]
    if not wanted:
        split = "validation" if validation else "training"
        raise UserError(f"{root} has nobody in the {split} split; draw more identities")
    parts = []
    for done, index in enumerate(wanted):
        parts.append(read_clip(folder, index, SIZE))
        advance(done + 1, len(wanted))
    return Examples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def read_clip(folder: PublishedFolder, index: int, size: int | None) -> Examples:
    """Reads all frames of a clip or of somebody's album, with their truth.

    Args:
        folder: opened with truth.
        index: of the clip.
        size: rows and columns wanted; None leaves them as they are.

    Raises:
        UserError: something is missing or damaged.
    """
    name = folder.names[index]
    try:
        clip = folder.open(index)
        points = np.stack([clip.truth(n).points for n in range(clip.num_frames)])
        frames = np.stack(decode_frames(clip, range(clip.num_frames), size))
    except BadClip as fault:
        raise UserError(f"{folder.root}: {name}: {fault}") from fault
    labels = _read_labels(
        folder.root / FACTS_FOLDER / name.identity / f"{name.clip}.json", len(points)
    )
    return Examples(frames, points[:, :LANDMARKS], *labels)


def _read_labels(path: Path, frames: int) -> list[np.ndarray]:
    """Emotion, level and strength of each frame; scalar labels apply to all frames of the clip."""
    try:
        facts = json.loads(path.read_text())
        emotion, level, strength = (
            np.broadcast_to(facts[key], frames) for key in ("emotion", "level", "strength")
        )
        return [
            np.array([EMOTIONS.index(word) for word in emotion]),
            level.astype(int),
            strength.astype(np.float32),
        ]
    except OSError as error:
        raise UserError(f"{path} cannot be read; it is part of a synthetic data set") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} does not have emotion, level and strength of {frames} frames"
        ) from error


def sampling(emotion: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Sampling probability of each example, to balance the emotions."""
    counts = np.bincount(emotion, minlength=len(EMOTIONS))
    shares = np.full(len(EMOTIONS), (1 - NEUTRAL_SHARE) / (len(EMOTIONS) - 1))
    shares[EMOTIONS.index("neutral")] = NEUTRAL_SHARE
    chances = (shares / np.maximum(counts, 1))[emotion]
    return chances / chances.sum()


class Change(NamedTuple):
    """Augmentation parameters of a batch.

    Attributes:
        turn: rotation in radians.
        zoom: scale of the face.
        shift: translation, in coordinates.
        softness: weight of an image of half the resolution.
        gain: factor on each channel.
        bias: added to each channel.
        noise: added to each value.
    """

    turn: Array | np.ndarray  # (b,)
    zoom: Array | np.ndarray  # (b,)
    shift: Array | np.ndarray  # (b, 2)
    softness: Array | np.ndarray  # (b,)
    gain: Array | np.ndarray  # (b, 3)
    bias: Array | np.ndarray  # (b, 3)
    noise: Array | np.ndarray  # (b, h, w, 3)


def draw_changes(rng: np.random.Generator, batch: int) -> Change:
    """Samples the augmentation of a batch (on the host, because XLA compiles sampling slowly)."""

    def normal(scale: float, *shape: int) -> np.ndarray:
        return scale * rng.standard_normal((batch, *shape), np.float32)

    amount = rng.random((batch, 1, 1, 1), np.float32)
    return Change(
        turn=normal(TURN),
        zoom=np.exp(normal(ZOOM)),
        shift=normal(SHIFT, 2),
        softness=rng.random(batch, np.float32) ** 2,
        gain=1 + normal(GAIN, 3),
        bias=normal(BIAS, 3),
        noise=amount * normal(NOISE, SIZE, SIZE, 3),
    )


def augment(
    frames: Float[Array, "b h w 3"], points: Float[Array, "b 68 2"], change: Change
) -> tuple[Float[Array, "b h w 3"], Float[Array, "b 68 2"]]:
    """Rotates, scales and shifts images with their points; blurs and recolours the images."""
    batch, height, width, _ = frames.shape
    sine, cosine = jnp.sin(change.turn), jnp.cos(change.turn)
    turn = jnp.stack([cosine, -sine, sine, cosine], -1).reshape(batch, 2, 2)
    moved = jnp.einsum("bij,bkj->bki", turn, points) * change.zoom[:, None, None]
    moved += change.shift[:, None]
    # Each output pixel samples at its inverse transform.
    pixels = coordinate_grid(height, width, half_pixel=True)
    seen = (pixels - change.shift[:, None, None]) / change.zoom[:, None, None, None]
    seen = jnp.einsum("bji,bhwj->bhwi", turn, seen)
    images = grid_sample(frames, seen, padding="reflection")
    soft = jax.image.resize(images, (batch, height // 2, width // 2, 3), "linear")
    soft = jax.image.resize(soft, images.shape, "linear")
    images += change.softness[:, None, None, None] * (soft - images)
    images = images * change.gain[:, None, None] + change.bias[:, None, None] + change.noise
    return jnp.clip(images, 0, 1), moved


def initial_params(rng: np.random.Generator, usual: Float[np.ndarray, "68 2"]) -> Params:
    """Random kernels (He et al. 2015), and heatmaps around the mean landmarks."""
    image = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    shapes = jax.eval_shape(FaceNetwork().init, jax.random.key(0), image)

    def fill(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = path[-1].key
        if name == "prior":
            grid = np.asarray(coordinate_grid(*leaf.shape[:2], half_pixel=True))
            squares = ((grid[:, :, None] - usual) ** 2).sum(axis=-1)
            return (-squares / (2 * PRIOR_WIDTH**2)).astype(np.float32)
        if name == "kernel":
            scale = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return (scale * rng.standard_normal(leaf.shape)).astype(np.float32)
        return np.full(leaf.shape, name == "scale", np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def train(examples: Examples, *, seed: int, steps: int, advance: Advance) -> Params:
    """Trains a network.

    Args:
        examples: the training split.
        seed: seed of initialization, order and augmentation.
        steps: number of steps, of `BATCH` examples each.
        advance: called with the number of steps done and in total.
    """
    network = FaceNetwork()
    rng = np.random.default_rng(seed)
    params = initial_params(rng, examples.landmarks.mean(axis=0))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, LEARNING_RATE, max(1, int(WARM_UP * steps)), steps
    )
    optimizer = optax.adamw(schedule, weight_decay=WEIGHT_DECAY)

    def loss_of(params: Params, batch: Examples, change: Change) -> Array:
        frames = jnp.asarray(batch.frames, jnp.float32) / 255
        images, points = augment(frames, jnp.asarray(batch.landmarks), change)
        seen: Seen = network.apply(params, images)
        distances = jnp.linalg.norm(seen.landmarks - points + 1e-6, axis=-1)
        weights = jnp.ones(68).at[landmarks.MOUTH].set(MOUTH_WEIGHT)
        gaps = jnp.abs(_lip_gaps(seen.landmarks) - _lip_gaps(points)).mean()
        entropy = optax.softmax_cross_entropy_with_integer_labels(seen.logits, batch.emotion)
        places = LANDMARK_WEIGHT * (weights * distances).mean()
        return places + GAP_WEIGHT * gaps + entropy.mean()

    @jax.jit
    def step(
        params: Params, state: optax.OptState, batch: Examples, change: Change
    ) -> tuple[Params, optax.OptState]:
        grads = jax.grad(loss_of)(params, batch, change)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    chances = sampling(examples.emotion)
    state = optimizer.init(params)
    for number in range(steps):
        rows = rng.choice(len(chances), BATCH, p=chances)
        batch = Examples(*(column[rows] for column in examples))
        params, state = step(params, state, batch, draw_changes(rng, BATCH))
        advance(number + 1, steps)
    return params


def _lip_gaps(points: Float[Array, "b 68 2"]) -> Float[Array, "b 3 2"]:
    """Vectors from the upper to the lower lip, between opposite inner lip landmarks."""
    upper, lower = np.array(landmarks.INNER_LIPS).T
    return points[:, lower] - points[:, upper]


def measure_stills(reader: FaceReader, examples: Examples) -> dict[str, Any]:
    """Measures the reader on unrelated frames.

    Returns:
        Mean landmark errors in pixels of 256x256 (`landmark_error` absolute, `f_lmd` and `m_lmd`
        centred), mouth-opening correlation over all frames, and emotion accuracy by level.
    """
    seen = reader.read(examples.frames)
    assert seen.emotion is not None
    error = landmarks.PIXELS * np.linalg.norm(seen.landmarks - examples.landmarks, axis=-1)
    opening = [landmarks.mouth_opening(track) for track in (seen.landmarks, examples.landmarks)]
    right = seen.emotion.argmax(axis=-1) == examples.emotion
    return {
        "frames": len(error),
        "landmark_error": float(error.mean()),
        "f_lmd": float(landmarks.landmark_distance(seen.landmarks, examples.landmarks).mean()),
        "m_lmd": float(
            landmarks.landmark_distance(seen.landmarks, examples.landmarks, landmarks.MOUTH).mean()
        ),
        "mouth_correlation": landmarks.correlation(*opening),
        "frames_named": _shares(right, examples.emotion, examples.level),
    }


def measure_clips(reader: FaceReader, root: Path, *, advance: Advance) -> dict[str, Any]:
    """Measures the reader on clips.

    Args:
        reader: the reader.
        root: folder of a synthetic data set; all clips are used.
        advance: called with the number of clips done and in total.

    Returns:
        The mean mouth-opening correlation with ground truth and its 5th percentile, the jitter of
        the detected and of the ground-truth landmarks, emotion accuracy by level, and how well
        identity drift separates people.
    """
    folder = PublishedFolder(root, with_motion=False, with_truth=True)
    correlations, jitters, true_jitters, found, emotions, levels = [], [], [], [], [], []
    people: dict[str, list[Look]] = {}
    for index, name in enumerate(folder.names):
        clip = read_clip(folder, index, None)
        seen = reader.read(clip.frames)
        opening = [landmarks.mouth_opening(track) for track in (seen.landmarks, clip.landmarks)]
        correlations.append(landmarks.correlation(*opening))
        jitters.append(landmarks.jitter(seen.landmarks))
        true_jitters.append(landmarks.jitter(clip.landmarks))
        assert seen.emotion is not None
        found.append(named_emotion(seen.emotion))
        emotions.append(clip.emotion[0])
        levels.append(clip.level[0])
        middle = len(clip.frames) // 2
        look = Look(clip.frames[middle], seen.landmarks[middle])
        people.setdefault(name.identity, []).append(look)
        advance(index + 1, len(folder.names))
    right = np.array(found) == np.array(emotions)
    confusion = np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
    np.add.at(confusion, (np.array(emotions), np.array(found)), 1)
    return {
        "clips": len(right),
        "people": len(people),
        "mouth_correlation": float(np.mean(correlations)),
        "mouth_correlation_of_the_lowest_twentieth": float(np.quantile(correlations, 0.05)),
        "jitter_seen": float(np.mean(jitters)),
        "jitter_true": float(np.mean(true_jitters)),
        "clips_named": _shares(right, np.array(emotions), np.array(levels)),
        "confusion": confusion.tolist(),
        "identity_drift": tell_apart(list(people.values())),
    }


class Look(NamedTuple):
    """A frame and its landmarks."""

    frame: UInt8[np.ndarray, "h w 3"]
    landmarks: Float32[np.ndarray, "68 2"]


def tell_apart(people: Sequence[Sequence[Look]]) -> dict[str, float]:
    """Measures how well identity drift separates people.

    Args:
        people: several looks of each person; the first is the source image.

    Returns:
        Mean drift from each source image of the same person and of the next person, and how
        often the same person is closer than another.
    """
    same: list[float] = []
    other: list[float] = []
    for place, looks in enumerate(people):
        for drifts, compared in ((same, looks[1:]), (other, people[(place + 1) % len(people)][1:])):
            frames, points = (np.stack(column) for column in zip(*compared, strict=True))
            drifts.extend(pictures.identity_drift(*looks[0], frames, points))
    nearer = np.less.outer(same, other)
    return {
        "same person": float(np.mean(same)),
        "another person": float(np.mean(other)),
        "same is nearer": float(nearer.mean()),
    }


def _shares(right: np.ndarray, emotion: np.ndarray, level: np.ndarray) -> dict[str, float]:
    """Accuracy: the mean over emotions, by level, and for each emotion."""

    def share(rows: np.ndarray) -> float:
        return float(right[rows].mean()) if rows.any() else float("nan")

    neutral = emotion == EMOTIONS.index("neutral")
    by_emotion = {word: share(emotion == n) for n, word in enumerate(EMOTIONS)}
    by_level = {f"level {n}": share((level == n) & ~neutral) for n in (1, 2, 3)}
    return {"mean": float(np.mean(list(by_emotion.values()))), **by_level, **by_emotion}


def flag_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = OneLineParser(
        prog="python -m data.synthetic.train_reader",
        description=__doc__,
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
    """Trains as the flags say; exits with the codes of `cli.tool`."""
    flags = flag_parser().parse_args(argv)
    run(lambda: _train(flags))


def _train(flags: argparse.Namespace) -> None:
    steps = STEPS if flags.steps is None else flags.steps
    start_jax()
    output = check_writable(flags.output or bundled.FACE_READER)
    if output.suffix != ".npz":
        raise UserError(f"--output is {output}; it must end in .npz")
    with _bar("reading") as advance:
        held_out = read_examples(flags.album, validation=True, advance=advance)
    trained = _fit(flags, steps, output) if steps else _of_before(output)
    reader = face_reader.FaceReader(face_reader.load_weights(output))  # as it will be used
    with _bar("measuring") as advance:
        measured = {
            "stills of people it has not seen": measure_stills(reader, held_out),
            "clips of people it has not seen": measure_clips(reader, flags.clips, advance=advance),
        }
    card = {**trained, "bytes": output.stat().st_size, "measured": measured}
    text = json.dumps(card, indent=2)
    with atomic_output(output.with_suffix(".json")) as temporary:
        temporary.write_text(text + "\n")
    print(text)
    print(f"Wrote {output} and its card")


def _fit(flags: argparse.Namespace, steps: int, output: Path) -> dict[str, Any]:
    """Trains and writes the weights; returns that part of the card."""
    with _bar("reading") as advance:
        examples = read_examples(flags.album, validation=False, advance=advance)
    start, processor = time.perf_counter(), time.process_time()
    with _bar("training") as advance:
        params = train(examples, seed=flags.seed, steps=steps, advance=advance)
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
    check_readable(output, "reader")
    card = json.loads(check_readable(output.with_suffix(".json"), "card").read_text())
    return {key: card[key] for key in ("trained on", "steps", "seed", "seconds")}


@contextmanager
def _bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; yields a function of the done and total counts."""
    console = Console(file=sys.stderr)
    columns = (TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


if __name__ == "__main__":
    main()
