"""The program of `animate/program.py`, compiled to stand alone: StableHLO for CPUs, GPUs and TPUs.

A folder holds it, for any number of frames at a time:

    parts/<part>.jaxexport   one function each, serialized by `jax.export`
    weights.npz              the variables, by network and path
    manifest.json            platforms, inputs and outputs of every part

It takes JAX and NumPy to run, not this package:

    weights = dict(numpy.load("weights.npz"))
    part = jax.export.deserialize(open("parts/encode_source.jaxexport", "rb").read())
    source = part.call(weights, {"image": image})

Inputs and outputs are dictionaries of arrays; `source/value` is the field `value` of the argument
`source`. State goes in and comes out; zeros are the state before the first frame.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jax import export as jax_export

from eamm_jax import __version__
from eamm_jax.animate import program
from eamm_jax.constants import AUDIO_WINDOW, POSE_NUMBERS
from eamm_jax.errors import UserError
from eamm_jax.io.files import atomic_output_dir
from eamm_jax.models import build
from eamm_jax.models.config import ModelConfig
from eamm_jax.types import Keypoints

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

PARTS_FOLDER, WEIGHTS_NAME, MANIFEST_NAME = "parts", "weights.npz", "manifest.json"
EXPORTED = (PARTS_FOLDER, WEIGHTS_NAME, MANIFEST_NAME)
SUFFIX = ".jaxexport"

Arrays = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Part:
    """A function of weights and named inputs to named outputs.

    Attributes:
        run: takes all weights and the inputs.
        inputs: their shapes.
    """

    run: Callable[[Arrays, Arrays], Arrays]
    inputs: Arrays


def make_parts(
    config: ModelConfig,
    variables: program.Variables,
    *,
    dtype: str = "float32",
    frames_at_a_time: int | None = None,
) -> dict[str, Part]:
    """The functions of the program on named arrays, by name.

    Args:
        config: of the model.
        variables: arrays or their shapes, by network name.
        dtype: what the networks compute in.
        frames_at_a_time: None is any number, `t`.
    """
    networks = build(config, jnp.dtype(dtype))
    (symbol,) = jax_export.symbolic_shape("t")
    t: Any = frames_at_a_time or symbol

    def struct(*shape: Any, dtype: Any = jnp.float32) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    def keypoints(count: Any) -> Keypoints:
        k = config.num_keypoints
        return Keypoints(struct(count, k, 2), struct(count, k, 2, 2))

    image = (config.image_size, config.image_size, config.num_channels)
    encode_source = partial(program.encode_source, networks)
    source = jax.eval_shape(encode_source, variables, struct(1, *image))
    lstm, motion = jax.eval_shape(partial(program.initial_state, networks, config))
    parts = {
        "encode_source": _part(encode_source, ["source"], image=struct(1, *image)),
        "audio_to_keypoints": _part(
            partial(program.audio_to_keypoints, networks),
            ["raw", "state"],
            embedding=source.embedding,
            audio=struct(t, *AUDIO_WINDOW),
            pose=struct(t, POSE_NUMBERS),
            state=lstm,
            audio_weight=struct(),
        ),
        "render": _part(
            partial(program.render, networks),
            ["frames"],
            features=source.features,
            source=keypoints(1),
            driving=keypoints(t),
        ),
    }
    if program.EMOTION_NETWORK in variables:
        parts["read_emotion"] = _part(
            partial(program.read_emotion, networks),
            ["emotion"],
            frames=struct(t, *image, dtype=jnp.uint8),
        )
        parts["combine"] = _part(
            partial(
                program.combine,
                networks,
                config,
                eyes=None,
                smooth=config.inference.smooth_motion,
                relative=config.inference.relative_motion,
            ),
            ["driving", "state"],
            source=keypoints(1),
            raw=keypoints(t),
            emotion=struct(t, config.emotion.stage_widths[-1]),
            weights=struct(len(config.moved_keypoints)),
            scale=struct(),
            state=motion,
        )
    return parts


def export_parts(
    config: ModelConfig,
    variables: program.Variables,
    platforms: Sequence[str],
    *,
    dtype: str = "float32",
) -> dict[str, jax_export.Exported]:
    """Lowers every part for all platforms; none of them need be there.

    Raises:
        UserError: a platform is unknown.
    """
    unknown = [name for name in platforms if name not in PLATFORMS]
    if unknown or not platforms:
        raise UserError(
            f"platforms are {', '.join(platforms) or 'none'}; allowed are {', '.join(PLATFORMS)}"
        )
    weights = jax.eval_shape(lambda: flatten(variables))
    return {
        name: jax_export.export(jax.jit(part.run), platforms=list(platforms))(weights, part.inputs)
        for name, part in make_parts(config, variables, dtype=dtype).items()
    }


def write(
    folder: str | Path,
    config: ModelConfig,
    variables: program.Variables,
    platforms: Sequence[str],
    *,
    dtype: str = "float32",
    overwrite: bool = False,
) -> dict[str, int]:
    """Writes the folder described above.

    Args:
        folder: to be made.
        config: of the model.
        variables: by network name; without the emotion network its parts are left out.
        platforms: of `PLATFORMS`.
        dtype: what the networks compute in.
        overwrite: replace an earlier export.

    Returns:
        Bytes by file.

    Raises:
        UserError: it cannot be written, a platform is unknown, or `flatbuffers` is not
            installed.
    """
    try:
        import flatbuffers  # noqa: F401  (what JAX serializes with)
    except ImportError:
        raise UserError(
            "exporting needs the package flatbuffers: pip install 'eamm_jax[export]'"
        ) from None
    variables = program.select_networks(variables)
    exported = export_parts(config, variables, platforms, dtype=dtype)
    with atomic_output_dir(folder, EXPORTED if overwrite else None) as temporary:
        (temporary / PARTS_FOLDER).mkdir()
        for name, part in exported.items():
            path = temporary / PARTS_FOLDER / f"{name}{SUFFIX}"
            path.write_bytes(bytes(part.serialize()))
        np.savez(temporary / WEIGHTS_NAME, **jax.device_get(flatten(variables)))
        manifest = _manifest(config, exported)
        (temporary / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2) + "\n")
        return {
            str(path.relative_to(temporary)): path.stat().st_size
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }


def flatten(tree: Any) -> Arrays:
    """The arrays of nested dictionaries and NamedTuples by their path, `network/params/...`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _part(function: Callable[..., Any], outputs: Sequence[str], **inputs: Any) -> Part:
    """A function of the program on named arrays.

    Args:
        function: takes the variables and the inputs by name; returns one output, or a tuple.
        outputs: their names.
        **inputs: trees of shapes.
    """
    structure, shapes = jax.tree.structure(inputs), flatten(inputs)

    def run(weights: Arrays, given: Arrays) -> Arrays:
        arguments = jax.tree.unflatten(structure, [given[name] for name in shapes])
        found = function(variables=unflatten_dict(weights, sep="/"), **arguments)
        return flatten(dict(zip(outputs, found if len(outputs) > 1 else [found], strict=True)))

    return Part(run, shapes)


def _manifest(config: ModelConfig, exported: Mapping[str, jax_export.Exported]) -> dict[str, Any]:
    def shapes(named: Mapping[str, Any]) -> dict[str, str]:
        return {name: f"{aval.dtype}{list(aval.shape)}" for name, aval in named.items()}

    parts = {}
    for name, part in exported.items():
        (_, given), _ = jax.tree.unflatten(part.in_tree, part.in_avals)
        found = jax.tree.unflatten(part.out_tree, part.out_avals)
        parts[name] = {"inputs": shapes(given), "outputs": shapes(found)}
    first = next(iter(exported.values()))
    return {
        "made_by": f"eamm_jax {__version__}, jax {jax.__version__}",
        "platforms": list(first.platforms),
        "calling_convention": first.calling_convention_version,
        "parts": parts,
        "model": config.to_dict(),
    }
