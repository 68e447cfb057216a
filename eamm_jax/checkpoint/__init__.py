"""Networks on disk: one folder that holds all weights and says what they are.

    <folder>/model.safetensors   every network; a tensor is <network>.<collection>.<path>
    <folder>/config.json         the `ModelConfig`, provenance and checksums of the weights
    <folder>/README.md           model card, as the Hugging Face Hub reads it
    <folder>/emotion_bank.npz    emotion features (`emotion_bank`), where the model has them

Conversion, training, inference and evaluation all read and write this format. A folder appears when
it is complete and not before. Reading checks names, shapes, types, checksums and values, and needs
no device: variables are NumPy arrays, float32 unless asked otherwise, and the caller places them.

`python -m eamm_jax.checkpoint DIR` lists a model.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from eamm_jax.constants import NETWORKS
from eamm_jax.errors import UserError, named, printable, shape_text
from eamm_jax.io.files import atomic_output_dir, cannot_write, check_output_folder

if TYPE_CHECKING:
    from eamm_jax.models.config import ModelConfig

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
CARD_NAME = "README.md"
BANK_NAME = "emotion_bank.npz"

MODEL_FILES = (WEIGHTS_NAME, CONFIG_NAME, CARD_NAME, BANK_NAME)
"""What a model's folder holds; another model may replace it."""

WORKDIR_MODEL = "model"
"""Where a training work directory has its model."""

FORMAT_VERSION = 1
"""Raised when the variables of a network change, so that older models are checked anew."""

MAX_CONFIG_BYTES = 1 << 20
"""A configuration with its provenance has about 10 kB."""

DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
"""What weights may be on disk."""

_STORED_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # safetensors' names
_HEAD_POSE_WIDTH = "params.conv1.kernel"  # its last axis tells the network's width

SOURCES = {
    **dict.fromkeys(("kp_detector", "generator", "discriminator"), "124_52000.pth.tar"),
    **dict.fromkeys(("audio_feature", "kp_detector_a"), "1-6000.pth.tar"),
    **{"emo_detector": "5-3000.pth.tar", "vgg19": "vgg19-dcbb9e9d.pth"},
    "head_pose": "mb1_120x120.pth",
    "vgg16": "vgg_shift_tolerant.pth",
    "syncnet": "syncnet_v2.model",
    "inception": "pt_inception-2015-12-05-6726825d.pth",
    "emotion_fan": "self_relation-attention_61_84.3655",
    "lpips_alex": "alexnet-owt-7be5be79.pth",
    "lpips_vgg": "vgg16-397923af.pth",
}
"""The published file that brings a network."""

Variables = dict[str, Any]
Shapes = dict[str, tuple[int, ...]]


# --- variables, by dotted paths -----------------------------------------------------------


def flatten(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays by their paths, from the collections down, joined by dots."""
    from flax.traverse_util import flatten_dict

    return flatten_dict(variables, sep=".")


def nest(flat: Mapping[str, Any]) -> Variables:
    """The inverse of `flatten`."""
    from flax.traverse_util import unflatten_dict

    return unflatten_dict(dict(flat), sep=".")


def parameter_count(variables: Mapping[str, Any]) -> int:
    """Number of trained values; statistics are not counted."""
    return sum(math.prod(leaf.shape) for leaf in flatten(variables.get("params", {})).values())


@functools.lru_cache(maxsize=64)
def variable_shapes(network: str, config: ModelConfig, width: int | None = None) -> Shapes:
    """Shapes of a network's variables by dotted path, as its `init` makes them.

    Traces the network (up to seconds), without a device.

    Args:
        network: one of `NETWORKS`.
        config: of the networks.
        width: of the head pose network.
    """
    import jax

    from eamm_jax.models import METRICS, build, example_inputs
    from eamm_jax.models.head_pose import SIZE, HeadPoseNetwork

    def init() -> Variables:
        key = jax.random.key(0)
        if network == "head_pose":
            return HeadPoseNetwork(width or 32).init(key, np.zeros((1, SIZE, SIZE, 3), np.float32))
        if network in METRICS:
            module, shapes = METRICS[network]
            return module.init(key, *(np.zeros(shape, np.float32) for shape in shapes))
        return getattr(build(config), network).init(key, *example_inputs(config, network))

    return _shapes(flatten(jax.eval_shape(init)))


def _shapes(flat: Mapping[str, Any]) -> Shapes:
    return {path: tuple(leaf.shape) for path, leaf in flat.items()}


def shape_problems(found: Shapes, expected: Shapes) -> list[str]:
    """How the names and shapes of tensors differ from expected ones; a phrase for each kind."""
    kinds = {
        "missing": [name for name in expected if name not in found],
        "left over": [name for name in found if name not in expected],
        "misshapen": [
            f"{name} is {shape_text(found[name])}, expected {shape_text(shape)}"
            for name, shape in expected.items()
            if found.get(name, shape) != shape
        ],
    }
    return [f"{len(names)} {kind}: {named(names)}" for kind, names in kinds.items() if names]


def _differences(network: str, found: Shapes, config: ModelConfig) -> list[str]:
    """How shapes differ from those that the configuration asks for."""
    width = None
    if network == "head_pose":  # a width that no such network has differs from the default's
        width = next((n for n in found.get(_HEAD_POSE_WIDTH, ())[-1:] if 0 < n <= 256), None)
    return shape_problems(found, variable_shapes(network, config, width))


# --- writing ------------------------------------------------------------------------------


def save_networks(
    folder: str | os.PathLike[str],
    config: ModelConfig,
    networks: Mapping[str, Variables],
    *,
    provenance: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    overwrite: bool = False,
) -> None:
    """Writes a model; whole or, after any failure or interrupt, not at all.

    In a run of many processes only the first must call this.

    Args:
        folder: to be made.
        config: of the networks.
        networks: variables by network (any of `NETWORKS`), from the collections down.
        provenance: where they came from, as JSON; without dates, so that the same input gives the
            same files.
        dtype: on disk; one of `DTYPES`.
        overwrite: replace a model that is there.

    Raises:
        UserError: the folder cannot be made, exists (with `overwrite`: and holds other things
            than a model), or the disk is full; values are not finite in `dtype`.
        ValueError: variables do not fit the configuration.
    """
    replaces = MODEL_FILES if overwrite else None
    check_output_folder(folder, replaces)
    stored = {}
    for network in (name for name in NETWORKS if name in networks):
        flat = flatten(networks[network])
        problems = _differences(network, _shapes(flat), config)
        if problems:
            raise ValueError(f"{network} does not fit its configuration: {'; '.join(problems)}")
        with np.errstate(over="ignore"):  # what overflows is not finite, and said so
            arrays = {k: np.asarray(leaf, DTYPES[dtype], order="C") for k, leaf in flat.items()}
        for path, array in arrays.items():
            if not np.isfinite(array).all():
                raise UserError(f"{network}: {path} has values that are not finite in {dtype}")
        stored[network] = arrays
    shapes = {network: _shapes(arrays) for network, arrays in stored.items()}
    document = {
        "model_type": "eamm",
        "format_version": FORMAT_VERSION,
        "model": config.to_dict(),
        "provenance": dict(provenance or {}),
        "weights": {
            "crc32": {network: _checksum(arrays) for network, arrays in stored.items()},
            "shapes": _shapes_digest(config, shapes),
        },
    }
    with atomic_output_dir(folder, replaces) as temporary:
        weights = temporary / WEIGHTS_NAME
        try:
            save_file(flatten(stored), weights, {"format": "flax"})
        except SafetensorError as error:  # "...: I/O error: No space left on device (os error 28)"
            reason = str(error).rpartition("I/O error: ")[2].partition(" (os error")[0]
            raise cannot_write(Path(folder), OSError(None, reason)) from error
        described = temporary / CONFIG_NAME
        described.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
        (temporary / CARD_NAME).write_text(_card(networks, dtype, provenance or {}), "utf-8")
        weights.chmod(described.stat().st_mode)  # safetensors lets nobody else read it


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    crc = 0
    for path in sorted(arrays):
        crc = zlib.crc32(arrays[path].tobytes(), crc)
    return f"{crc:08x}"


def _shapes_digest(config: ModelConfig, shapes: Mapping[str, Shapes]) -> str:
    """Fingerprint of a configuration and the shapes that were found to fit it.

    Tracing all networks takes seconds. A file whose configuration and shapes have this fingerprint
    is what `save_networks` wrote, so it need not be checked by tracing again. Fields with their
    defaults do not count, so that fields to come leave it as it is.
    """
    listed = {network: sorted(found.items()) for network, found in sorted(shapes.items())}
    defaults = type(config)().flat()
    chosen = {name: value for name, value in config.flat().items() if value != defaults[name]}
    text = json.dumps([FORMAT_VERSION, chosen, listed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _card(networks: Mapping[str, Variables], dtype: str, provenance: Mapping[str, Any]) -> str:
    rows = "".join(
        f"| `{network}` | {parameter_count(networks[network]):,} |\n"
        for network in NETWORKS
        if network in networks
    )
    return f"""---
library_name: eamm_jax
pipeline_tag: image-to-video
license: {provenance.get("license", "other")}
tags:
- talking-head
- eamm
- flax
---

# EAMM in JAX: {len(networks)} networks

Weights of [EAMM](https://arxiv.org/abs/2205.15278) (audio-driven talking faces with emotions) for
`eamm_jax.checkpoint.load_networks`, stored as {dtype} in `{WEIGHTS_NAME}`. `{CONFIG_NAME}` has the
hyperparameters and where the weights came from.

| network | parameters |
|---|---|
{rows}"""


# --- reading ------------------------------------------------------------------------------


def model_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder of a model: the given one, or `model/` in it if it is a work directory."""
    folder = Path(folder)
    inner = folder / WORKDIR_MODEL
    is_workdir = not (folder / WEIGHTS_NAME).exists() and (inner / WEIGHTS_NAME).exists()
    return inner if is_workdir else folder


def load_config(folder: str | os.PathLike[str]) -> ModelConfig:
    """The configuration of a model, without its weights.

    Raises:
        UserError: no such folder, not a model, damaged, or of another version.
    """
    return _config(*_read_document(folder))


def load_provenance(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Where a model came from, as it was given to `save_networks`.

    Raises:
        UserError: as `load_config`.
    """
    return _read_document(folder)[1].get("provenance", {})


def stored_networks(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """The networks that a model holds; none if there is no model in the folder.

    Raises:
        UserError: its weights are damaged.
    """
    folder = model_folder(folder)
    if not (folder / WEIGHTS_NAME).is_file():
        return ()
    with _open_weights(folder) as (_, stored):
        return tuple(stored)


def check_networks(folder: str | os.PathLike[str], networks: Iterable[str]) -> None:
    """Makes sure, before long work, that a model holds some networks; values are not read.

    Raises:
        UserError: as `load_networks`.
    """
    folder, _ = _read_document(folder)
    with _open_weights(folder, networks):
        pass


def load_networks(
    folder: str | os.PathLike[str],
    networks: Iterable[str] | None = None,
    *,
    dtype: str | None = "float32",
) -> tuple[ModelConfig, dict[str, Variables]]:
    """Reads a model, or some of its networks.

    Args:
        folder: written by `save_networks`, or a work directory that holds a model.
        networks: those that are needed; by default all that are there.
        dtype: of the arrays; None keeps that of the file.

    Returns:
        The configuration, and NumPy arrays by network, from the collections down.

    Raises:
        UserError: no such folder, not a model, damaged, of another configuration, or without a
            network that is needed.
    """
    folder, document = _read_document(folder)
    config = _config(folder, document)
    # Another program that writes weights may leave checksums and fingerprint out.
    known = document.get("weights", {})
    wanted = None if networks is None else tuple(networks)
    loaded = {}
    with _open_weights(folder, wanted or ()) as (file, stored):
        is_ours = known.get("shapes") == _shapes_digest(config, stored)
        for network in stored if wanted is None else wanted:
            problems = [] if is_ours else _differences(network, stored[network], config)
            if problems:
                raise UserError(
                    f"The checkpoint {folder} does not fit its {CONFIG_NAME}: {network}: "
                    f"{'; '.join(problems)}; get or convert it again"
                )
            arrays = {path: file.get_tensor(f"{network}.{path}") for path in stored[network]}
            if known.get("crc32", {}).get(network) not in (None, _checksum(arrays)):
                raise _damaged(folder, f"{network} differs from its checksum")
            for path, array in arrays.items():
                if not np.isfinite(array).all():
                    raise _damaged(folder, f"{network}: {path} has values that are not finite")
                if dtype is not None:
                    arrays[path] = array.astype(DTYPES[dtype], copy=False)
            loaded[network] = nest(arrays)
    return config, loaded


@contextlib.contextmanager
def _open_weights(
    folder: Path, wanted: Iterable[str] = ()
) -> Iterator[tuple[Any, dict[str, Shapes]]]:
    """The open file, and shapes by network and path from its header; types are checked.

    Raises:
        UserError: it is damaged, lacks a network that is wanted, or holds tensors of no network
            of ours, or of a type that weights do not have.
    """
    with _readable(folder), safe_open(folder / WEIGHTS_NAME, framework="np") as file:
        found: dict[str, Shapes] = {network: {} for network in NETWORKS}
        wrong = []
        for name in file.keys():  # noqa: SIM118  (not a mapping)
            network, _, path = name.partition(".")
            tensor = file.get_slice(name)
            if network not in found or not path or tensor.get_dtype() not in _STORED_DTYPES:
                wrong.append(f"{name} ({tensor.get_dtype()})")
            else:
                found[network][path] = tuple(tensor.get_shape())
        if wrong:
            raise UserError(
                f"The checkpoint {folder} holds tensors that are of no network of ours or not "
                f"{', '.join(DTYPES)}: {named(wrong)}"
            )
        missing = [network for network in wanted if not found[network]]
        if missing:
            files = " and ".join(dict.fromkeys(SOURCES[network] for network in missing))
            raise UserError(
                f"The checkpoint {folder} holds no {', '.join(missing)}; the published weights "
                f"are in {files}: convert again, with that file too"
            )
        yield file, {network: shapes for network, shapes in found.items() if shapes}


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        reason = printable(str(error).rpartition("header: ")[2])
        raise _damaged(folder, f"{WEIGHTS_NAME}: {reason}") from error
    except PermissionError as error:
        raise UserError(f"The checkpoint {folder} cannot be read: permission denied") from error
    except OSError as error:
        raise _damaged(folder, f"{error.strerror or error}".lower()) from error


def _read_document(folder: str | os.PathLike[str]) -> tuple[Path, dict[str, Any]]:
    folder = model_folder(folder)
    if not folder.exists():
        raise UserError(f"No such checkpoint: {folder}; make one with eamm-convert or by training")
    if folder.is_file():
        raise UserError(
            f"The checkpoint {folder} is a file, a folder was expected; a PyTorch file is "
            "converted to one by eamm-convert"
        )
    absent = [name for name in (WEIGHTS_NAME, CONFIG_NAME) if not (folder / name).is_file()]
    if absent:
        raise UserError(
            f"The folder {folder} is not a checkpoint: it has no {' and no '.join(absent)}"
        )
    with _readable(folder), (folder / CONFIG_NAME).open("rb") as file:
        text = file.read(MAX_CONFIG_BYTES)
    try:
        document = json.loads(text)
        weights = document.get("weights", {})
        parts = (document["model"], document.get("provenance", {}), weights.get("crc32", {}))
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(folder, f"{CONFIG_NAME} is not JSON of a model configuration") from error
    if not all(isinstance(part, dict) for part in parts):
        raise _damaged(folder, f"{CONFIG_NAME} is not a model configuration")
    return folder, document


def _config(folder: Path, document: Mapping[str, Any]) -> ModelConfig:
    from eamm_jax.models.config import ModelConfig

    try:
        return ModelConfig.from_dict(document["model"])
    except UserError as error:
        raise UserError(f"The checkpoint {folder} cannot be used: {error}") from error
    except RecursionError as error:
        raise _damaged(folder, f"{CONFIG_NAME} is not a model configuration") from error


def _damaged(folder: Path, why: str) -> UserError:
    return UserError(f"The checkpoint {folder} is damaged ({why}); copy or convert it again")


# --- listing ------------------------------------------------------------------------------


def describe(folder: str | os.PathLike[str]) -> str:
    """A model for people: networks, tensors with shapes and types, sizes, provenance.

    Raises:
        UserError: as `load_config`.
    """
    folder, document = _read_document(folder)
    size = (folder / WEIGHTS_NAME).stat().st_size
    bank = ", with an emotion bank" if (folder / BANK_NAME).is_file() else ""
    lines = [f"{folder}: {size / 1e6:.1f} MB{bank}"]
    if document.get("provenance"):
        lines.append(f"came from: {json.dumps(document['provenance'], indent=2)}")
    with _open_weights(folder) as (file, stored):
        for network, shapes in stored.items():
            stored_as = (file.get_slice(f"{network}.{path}").get_dtype() for path in shapes)
            dtypes = [DTYPES[_STORED_DTYPES[dtype]] for dtype in stored_as]
            sizes = zip(shapes.values(), dtypes, strict=True)
            size = sum(math.prod(shape) * dtype.itemsize for shape, dtype in sizes)
            kinds = ", ".join(sorted({dtype.name for dtype in dtypes}))
            lines.append(f"{network}: {len(shapes)} tensors, {size / 1e6:.2f} MB, {kinds}")
            lines += [
                f"  {printable(path)}  {shape_text(shapes[path])}  {dtype.name}"
                for path, dtype in zip(shapes, dtypes, strict=True)
            ]
    return "\n".join(lines)
