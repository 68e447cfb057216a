"""The networks as compiled programs that stand alone: StableHLO for CPUs, GPUs and TPUs.

What the animator compiles (`animate/animator.py`), in the plain algorithms, for any number of
frames at a time. A folder holds it:

    parts/<part>.jaxexport   what `jax.export` serialises: see, hear, read, feel, draw
    weights.npz              the parameters, by network and path
    manifest.json            platforms, inputs and outputs of every part

To run it takes JAX and NumPy, not this package:

    weights = dict(numpy.load("weights.npz"))
    see = jax.export.deserialize(open("parts/see.jaxexport", "rb").read())
    portrait = see.call(weights, {"image": image})

Inputs and outputs are dictionaries of arrays by name. State (of the LSTM, of the filters) goes
in and comes out; zeros are the state before the first frame.

    see    the portrait                           -> its features, keypoints, code
    hear   MFCC windows, head poses               -> raw keypoints
    read   aligned emotional frames               -> codes
    feel   raw keypoints, codes                   -> neutral and emotional keypoints, smoothed
    draw   the portrait's features, keypoints     -> frames
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from eamm_jax import __version__
from eamm_jax.animate.animator import Animator, FilterState
from eamm_jax.errors import UserError
from eamm_jax.io.files import atomic_output_dir
from eamm_jax.models.audio_to_motion import LSTMState
from eamm_jax.models.config import ModelConfig
from eamm_jax.models.generator import SourceFeatures
from eamm_jax.ops.smoothing import OneEuroState
from eamm_jax.types import AUDIO_WINDOW, POSE_NUMBERS, Keypoints

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

PARTS_FOLDER, WEIGHTS_NAME, MANIFEST_NAME = "parts", "weights.npz", "manifest.json"
SUFFIX = ".jaxexport"

Arrays = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Part:
    """A function of weights and named inputs to named outputs.

    Attributes:
        run: takes all weights and the inputs.
        inputs: their shapes; `t` frames are as many as one likes.
    """

    run: Callable[[Arrays, Arrays], Arrays]
    inputs: dict[str, jax.ShapeDtypeStruct]


def make_parts(animator: Animator, frames_at_a_time: int | None = None) -> dict[str, Part]:
    """The parts of an animator, as functions of named arrays, by name.

    Args:
        animator: with `fast` and `one_by_one` off, or what is exported is made for a CPU.
        frames_at_a_time: None is any number.
    """
    config, k = animator.config, animator.config.num_keypoints
    (symbol,) = jax_export.symbolic_shape("t")
    t: Any = frames_at_a_time or symbol
    keypoints = {"value": (k, 2), "jacobian": (k, 2, 2)}
    lstm = (config.audio_to_motion.lstm_layers, 1, config.audio_to_motion.lstm_width)
    frames = (t, config.image_size, config.image_size, config.num_channels)

    def struct(shape: tuple[Any, ...], dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    def many(prefix: str, count: Any) -> dict[str, jax.ShapeDtypeStruct]:
        return {f"{prefix}_{name}": struct((count, *shape)) for name, shape in keypoints.items()}

    def see(weights: Arrays, given: Arrays) -> Arrays:
        portrait = animator._see(_nested(weights), given["image"])
        seen = {
            "audio_code": portrait.audio_code,
            **_from_keypoints("portrait", portrait.keypoints),
            **portrait.code._asdict(),
        }
        return {name: value for name, value in seen.items() if value is not None}

    def hear(weights: Arrays, given: Arrays) -> Arrays:
        found, after = animator._hear(
            _nested(weights),
            given["audio_code"],
            given["audio"],
            given["pose"],
            LSTMState(given["lstm_hidden"], given["lstm_cell"]),
            given["audio_weight"],
        )
        return {
            **_from_keypoints("raw", found),
            "lstm_hidden": after.hidden,
            "lstm_cell": after.cell,
        }

    def read(weights: Arrays, given: Arrays) -> Arrays:
        return {
            "code": animator._read_emotion(
                _nested(weights), given["frames"], jax.random.key(0), 0, True, False
            )
        }

    def feel(weights: Arrays, given: Arrays) -> Arrays:
        filters = jax.tree.unflatten(
            filter_tree, [given[f"filter_{name}"] for name in filter_names]
        )
        (neutral, emotional), after = animator._feel(
            _nested(weights),
            _keypoints("portrait", given),
            _keypoints("raw", given),
            _keypoints("first", given),
            given["scale"],
            given["code"],
            given["emotion_weights"],
            filters,
            True,
            config.inference.relative_motion,
        )
        states = zip(filter_names, jax.tree.leaves(after), strict=True)
        return {
            **_from_keypoints("neutral", neutral),
            **_from_keypoints("emotional", emotional),
            **{f"filter_{name}": leaf for name, leaf in states},
        }

    def draw(weights: Arrays, given: Arrays) -> Arrays:
        code = SourceFeatures(given["features"], given["thumbnail"], given.get("image"))
        driving = _keypoints("driving", given)
        images = animator._draw(
            _nested(weights), code, _keypoints("portrait", given), driving, 0, True
        )
        return {"frames": images}

    seen = jax.eval_shape(animator._see, animator._variables, struct((1, *frames[1:])))
    code = {name: value for name, value in seen.code._asdict().items() if value is not None}
    code = {name: struct(value.shape, value.dtype) for name, value in code.items()}
    audio_code = struct(seen.audio_code.shape, seen.audio_code.dtype)
    _, filters = jax.eval_shape(animator._start)
    filter_tree = jax.tree.structure(filters)
    filter_names = _filter_names()
    filter_shapes = dict(zip(filter_names, jax.tree.leaves(filters), strict=True))
    moved = (len(config.moved_keypoints),)
    parts = {
        "see": Part(see, {"image": struct((1, *frames[1:]))}),
        "hear": Part(
            hear,
            {
                "audio_code": audio_code,
                "audio": struct((t, *AUDIO_WINDOW)),
                "pose": struct((t, POSE_NUMBERS)),
                "lstm_hidden": struct(lstm),
                "lstm_cell": struct(lstm),
                "audio_weight": struct(()),
            },
        ),
        "draw": Part(draw, {**code, **many("portrait", 1), **many("driving", t)}),
    }
    if "emo_detector" in animator._variables:
        parts["read"] = Part(read, {"frames": struct(frames, jnp.uint8)})
        parts["feel"] = Part(
            feel,
            {
                **many("portrait", 1),
                **many("raw", t),
                **many("first", 1),
                "scale": struct(()),
                "code": struct((t, config.emotion.stage_widths[-1])),
                "emotion_weights": struct(moved),
                **{f"filter_{name}": struct(x.shape, x.dtype) for name, x in filter_shapes.items()},
            },
        )
    return parts


def export_parts(animator: Animator, platforms: Sequence[str]) -> dict[str, jax_export.Exported]:
    """Lowers every part for all platforms; none of them need be there.

    Raises:
        UserError: a platform is unknown.
    """
    unknown = [name for name in platforms if name not in PLATFORMS]
    if unknown or not platforms:
        raise UserError(
            f"platforms are {', '.join(platforms) or 'none'}; allowed are {', '.join(PLATFORMS)}"
        )
    weights = {
        name: jax.ShapeDtypeStruct(value.shape, value.dtype)
        for name, value in flat_weights(animator._variables).items()
    }
    return {
        name: jax_export.export(jax.jit(part.run), platforms=list(platforms))(weights, part.inputs)
        for name, part in make_parts(animator).items()
    }


def write(
    folder: str | Path, animator: Animator, platforms: Sequence[str], *, overwrite: bool = False
) -> dict[str, int]:
    """Writes the folder described above.

    Args:
        folder: to be made.
        animator: with `fast` and `one_by_one` off.
        platforms: of `PLATFORMS`.
        overwrite: replace a folder that is there.

    Returns:
        Bytes by file.

    Raises:
        UserError: it cannot be written, a platform is unknown, or `flatbuffers` is not
            installed.
    """
    try:
        import flatbuffers  # noqa: F401  (what JAX serialises with)
    except ImportError:
        raise UserError(
            "exporting needs the package flatbuffers: pip install 'eamm_jax[export]'"
        ) from None
    exported = export_parts(animator, platforms)
    with atomic_output_dir(folder, overwrite=overwrite) as temporary:
        (temporary / PARTS_FOLDER).mkdir()
        for name, part in exported.items():
            path = temporary / PARTS_FOLDER / f"{name}{SUFFIX}"
            path.write_bytes(bytes(part.serialize()))
        weights = flat_weights(animator._variables)
        np.savez(temporary / WEIGHTS_NAME, **jax.device_get(weights))
        manifest = _manifest(animator.config, exported)
        (temporary / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2) + "\n")
        return {
            str(path.relative_to(temporary)): path.stat().st_size
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }


def _manifest(config: ModelConfig, exported: Mapping[str, jax_export.Exported]) -> dict[str, Any]:
    def shapes(tree: Any, avals: Sequence[Any]) -> dict[str, str]:
        named = jax.tree.unflatten(tree, avals)
        return {name: f"{aval.dtype}{list(aval.shape)}" for name, aval in named.items()}

    parts = {}
    for name, part in exported.items():
        (_, given), _ = jax.tree.unflatten(part.in_tree, part.in_avals)
        parts[name] = {
            "inputs": {key: f"{aval.dtype}{list(aval.shape)}" for key, aval in given.items()},
            "outputs": shapes(part.out_tree, part.out_avals),
        }
    first = next(iter(exported.values()))
    return {
        "made_by": f"eamm_jax {__version__}, jax {jax.__version__}",
        "platforms": list(first.platforms),
        "calling_convention": first.calling_convention_version,
        "parts": parts,
        "model": config.to_dict(),
    }


def flat_weights(variables: Mapping[str, Any]) -> Arrays:
    """Parameters and statistics by `network/collection/path`."""
    flat = jax.tree_util.tree_flatten_with_path(dict(variables))[0]
    return {"/".join(str(key.key) for key in path): leaf for path, leaf in flat}


def _nested(weights: Arrays) -> Arrays:
    tree: Arrays = {}
    for name, value in weights.items():
        *path, last = name.split("/")
        inner = tree
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return tree


def _keypoints(prefix: str, given: Arrays) -> Keypoints:
    return Keypoints(given[f"{prefix}_value"], given[f"{prefix}_jacobian"])


def _from_keypoints(prefix: str, keypoints: Keypoints) -> Arrays:
    return {f"{prefix}_value": keypoints.value, f"{prefix}_jacobian": keypoints.jacobian}


def _filter_names() -> list[str]:
    """Names of the leaves of a `FilterState`, in order."""
    return [
        f"{track}_{part}_{field}"
        for track in FilterState._fields
        for part in ("value", "jacobian")
        for field in OneEuroState._fields
    ]
