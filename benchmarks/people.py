"""How well a model animates people of each sex, age and skin tone.

    python -m data.synthetic --output ALBUM --seed SEED --size 256 --stills 4 --identities 200
    python benchmarks/people.py --album ALBUM [--checkpoint DIR]

In an album of rendered people the first face of each sitting, a neutral one, is driven by the
keypoints of the others. The table has means and standard errors over people: how far keypoints are
from the points that they follow, relative to the distance between the pupils, and the PSNR of mouth
and eyes. What it says of people whom the model learned from is no news: take another seed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import track

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from data.synthetic import head_model  # noqa: E402
from data.synthetic.actor import look_of  # noqa: E402
from data.synthetic.heads.looks import Look  # noqa: E402
from data.synthetic.renderer import add_head_model_flag  # noqa: E402
from data.synthetic.writer import RECIPE_FILE  # noqa: E402
from eamm_jax.checkpoint import load_networks  # noqa: E402
from eamm_jax.cli.tool import OneLineParser, add_shared, run, start_jax  # noqa: E402
from eamm_jax.errors import UserError  # noqa: E402
from eamm_jax.evaluation import contestants  # noqa: E402
from eamm_jax.evaluation.cases import Case  # noqa: E402
from eamm_jax.evaluation.contestants import as_floats  # noqa: E402
from eamm_jax.input_pipeline.clips import decode_frames  # noqa: E402
from eamm_jax.input_pipeline.published import PublishedFolder, Tracks  # noqa: E402
from eamm_jax.models import build  # noqa: E402
from eamm_jax.training.bundled_config import KEYPOINTS  # noqa: E402
from eamm_jax.training.losses import peak_signal_to_noise  # noqa: E402
from eamm_jax.training.objectives.guided import (  # noqa: E402
    EYES,
    MOUTH,
    face_region,
    guided_values,
)
from eamm_jax.types import FaceTruth  # noqa: E402

METRICS = ("keypoints, %", "mouth, dB", "eyes, dB")

GROUPS = {
    "all": lambda look: True,
    "women": lambda look: look.feminine,
    "men": lambda look: not look.feminine,
    "under 42": lambda look: look.age < 1 / 3,
    "42 to 58": lambda look: 1 / 3 <= look.age < 2 / 3,
    "over 58": lambda look: look.age >= 2 / 3,
    "light skin": lambda look: look.tone < 2,
    "medium skin": lambda look: 2 <= look.tone < 4,
    "dark skin": lambda look: look.tone >= 4,
}
"""Who belongs to each: ages 0 to 1 are 25 to 75 years."""


def measure(folder: PublishedFolder, checkpoint: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The metrics of each sitting, with the person's name."""
    config, variables = load_networks(checkpoint)
    if config.num_keypoints != len(KEYPOINTS):
        raise UserError(
            f"{checkpoint} has {config.num_keypoints} keypoints: only those of the bundled model, "
            f"{len(KEYPOINTS)}, are known points of a face"
        )
    contestant = contestants.keypoints(config, variables)

    @jax.jit
    def compare(frames: jax.Array, rendered: jax.Array, truth: FaceTruth) -> jax.Array:
        images = as_floats(frames)
        found = build(config).kp_detector.apply(variables["kp_detector"], images)
        apart = jnp.linalg.norm(truth.points[:, 68] - truth.points[:, 69], axis=-1)
        wrong = jnp.linalg.norm(found.value - guided_values(truth, KEYPOINTS), axis=-1)
        values = [100 * (wrong / apart[:, None]).mean()]
        for parts in (MOUTH, EYES):
            region = face_region(truth, parts, config.image_size)[1:]
            values.append(peak_signal_to_noise(as_floats(rendered), images[1:], region))
        return jnp.stack(values)

    for index, name in enumerate(track(folder.names, description="animating")):
        clip = folder.open(index)
        stills = range(clip.num_frames)
        frames = np.stack(decode_frames(clip, stills, config.image_size))
        points, poses, *_ = zip(*(clip.truth(n) for n in stills), strict=True)
        sitting = Case(str(name), name.identity, portrait=frames[0], truth=frames[1:])
        truth = FaceTruth(np.stack(points), np.stack(poses))
        yield name.identity, np.asarray(compare(frames, contestant.frames(sitting), truth))


def table(
    measured: Mapping[str, np.ndarray], looks: Mapping[str, Look]
) -> dict[str, dict[str, list[float]]]:
    """Mean and standard error of each metric in each group, and how many people it has."""
    result = {}
    for group, belongs in GROUPS.items():
        rows = np.array([measured[name] for name, look in looks.items() if belongs(look)])
        if len(rows) > 1:
            errors = rows.std(axis=0, ddof=1) / np.sqrt(len(rows))
            pairs = np.stack([rows.mean(axis=0), errors], axis=1).tolist()
            result[group] = {"people": [len(rows)], **dict(zip(METRICS, pairs, strict=True))}
    return result


def seed_of(album: Path) -> int:
    """Which the people of an album follow from.

    Raises:
        UserError: it does not say.
    """
    path = album / RECIPE_FILE
    try:
        recipe = json.loads(path.read_text())
    except (OSError, ValueError):
        recipe = {}
    if not recipe.get("stills", 0) > 1 or "photos" in recipe:
        raise UserError(
            f"{path} is of no album of invented people, of whom sex, age and skin are known: make "
            "one with python -m data.synthetic --stills 4"
        )
    return recipe["seed"]


def benchmark(flags: argparse.Namespace) -> None:
    start_jax(cpu=flags.cpu)
    seed = seed_of(flags.album)
    folder = PublishedFolder(flags.album, Tracks(truth=True))
    model = head_model.load(flags.head_model)
    sittings: dict[str, list[np.ndarray]] = {}
    for name, values in measure(folder, flags.checkpoint):
        sittings.setdefault(name, []).append(values)
    looks = {name: look_of(model, seed, int(name[1:])) for name in sittings}
    rows = table({name: np.mean(values, axis=0) for name, values in sittings.items()}, looks)
    print("| people |", " | ".join(METRICS), "|\n|" + "---|" * (1 + len(METRICS)))
    for group, row in rows.items():
        cells = " | ".join("{:.1f} ± {:.1f}".format(*row[metric]) for metric in METRICS)
        print(f"| {group} ({row['people'][0]}) | {cells} |")


def main() -> None:
    parser = OneLineParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--album", type=Path, required=True, metavar="DIR")
    add_head_model_flag(parser)
    add_shared(parser, "checkpoint", "cpu")
    flags = parser.parse_args()
    run(lambda: benchmark(flags))


if __name__ == "__main__":
    main()
