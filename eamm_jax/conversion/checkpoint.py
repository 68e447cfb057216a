"""Our checkpoints on disk: a folder with the weights, their configuration and the report.

    <folder>/model_config.json   the `ModelConfig`
    <folder>/weights/            an Orbax checkpoint, one item for each network
    <folder>/files.json          size and CRC-32 of every file in it
    <folder>/report.json         how it came to be (conversion or training); for people
    <folder>/head_pose.npz       the network that tells head poses, if it was converted too

The folder appears when it is complete and not before. Loading checks its files (Orbax notices
neither a flipped bit nor, always, a missing file), then the shape of every variable against
the configuration, and reads only the networks that are asked for. The only module, beside
the training loop's, that knows Orbax.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import signal
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from eamm_jax.conversion import head_pose, tables
from eamm_jax.conversion.contents import NETWORKS
from eamm_jax.conversion.wording import named, printable, shape_text
from eamm_jax.errors import UserError
from eamm_jax.io.files import atomic_output_dir, check_writable
from eamm_jax.models.config import ModelConfig

CONFIG_NAME = "model_config.json"
WEIGHTS_NAME = "weights"
FILES_NAME = "files.json"
REPORT_NAME = "report.json"

MAX_JSON_BYTES = 1 << 20
"""A configuration has about 1 kB, a list of files 20 kB."""

STORED_DTYPES = ("float32", "float16")
"""What numbers may be on the disk: half of the size where a model is shipped."""

_CHECK_BYTES = 1 << 20  # read at a time when a checksum is made

WRITE_BYTES = 64 << 20
"""How much is copied at a time, beside the weights themselves."""

_MAX_PATH_BYTES = 4096  # Linux's limit

_DISK_MARK = "os_error_code"  # in the message of whatever TensorStore could not write

_OUR_NAMES = (
    *(CONFIG_NAME, WEIGHTS_NAME, FILES_NAME, REPORT_NAME),
    *("emotion_bank.npz", head_pose.FILE_NAME),
)
"""What may stand in a checkpoint; a bank belongs to its emotion network, and goes with it."""

_SOURCES = {
    "kp_detector": "--checkpoint",
    "generator": "--checkpoint",
    "discriminator": "--checkpoint",
    "audio_feature": "--audio_checkpoint",
    "kp_detector_a": "--audio_checkpoint",
    "emo_detector": "--emotion_checkpoint",
    "vgg19": "--vgg",
}
"""The flag of convert_torch_weights.py that brings a network."""

Variables = dict[str, Any]


def save_checkpoint(
    folder: str | os.PathLike[str],
    config: ModelConfig,
    networks: Mapping[str, Variables],
    *,
    report: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    dtype: str = "float32",
    beside: Callable[[Path], None] | None = None,
) -> None:
    """Writes a checkpoint; whole or, after any failure or interrupt, not at all.

    In a run of many processes all must call this with the same arguments: Orbax has them
    wait for each other, and the first writes the rest.

    Args:
        folder: to be made.
        config: of the networks.
        networks: variables by network (`contents.NETWORKS`; any of them), from the collections
            ("params", ...) down; float32.
        report: JSON beside it.
        overwrite: replace a checkpoint that is there.
        dtype: on the disk; one of `STORED_DTYPES`. All are float32 again when they are loaded.
        beside: writes more of our files into the folder, before it appears.

    Raises:
        UserError: the folder cannot be made, is there already (with `overwrite`: and holds
            other things than a checkpoint), or the disk is full.
        ValueError: variables do not fit the configuration.
    """
    for network, variables in networks.items():
        problems = _differences(network, variables, config)
        if problems:
            raise ValueError(f"{network} does not fit its configuration: {'; '.join(problems)}")
    if dtype != "float32":
        networks = jax.tree.map(lambda array: array.astype(dtype), dict(networks))
    first = jax.process_index() == 0
    with _output_dir(Path(folder), overwrite=overwrite) as temporary:
        if first:
            write_json(temporary / CONFIG_NAME, config.to_dict())
            _check_space(temporary, networks)
        try:
            _save_weights(temporary / WEIGHTS_NAME, networks)
        except Exception as error:  # Orbax and TensorStore do not say which they raise
            if isinstance(error, OSError) or _DISK_MARK in str(error):
                raise UserError(
                    f"Cannot write {folder}: the disk is full or failed; nothing was kept"
                ) from error
            raise
        if first:
            write_json(temporary / FILES_NAME, _checksums(temporary / WEIGHTS_NAME))
            if report is not None:
                write_json(temporary / REPORT_NAME, report)
            if beside is not None:
                beside(temporary)


@contextlib.contextmanager
def _output_dir(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """`atomic_output_dir`, made by the first process of a run and used by all of them."""
    with contextlib.ExitStack() as stack:
        name = ""
        if jax.process_index() == 0:
            check_output_folder(folder, overwrite=overwrite)
            made = stack.enter_context(atomic_output_dir(folder, overwrite=overwrite))
            name = str(made)
        if jax.process_count() > 1:
            encoded = np.zeros(_MAX_PATH_BYTES, np.uint8)
            encoded[: len(name.encode())] = np.frombuffer(name.encode(), np.uint8)
            encoded = np.asarray(multihost_utils.broadcast_one_to_all(encoded))
            name = encoded.tobytes().rstrip(b"\0").decode()
        yield Path(name)
    if jax.process_count() > 1:
        # Nobody goes on before the folder is there.
        multihost_utils.sync_global_devices(f"complete: {folder}")


def _save_weights(path: Path, networks: Mapping[str, Variables]) -> None:
    context = ocp.Context()
    # Weights are noise to a compressor: 8 % smaller files for ten times the time.
    context.array.saving.use_compression = False
    context.memory.write_concurrent_bytes = WRITE_BYTES
    # Nothing changes the arrays while this call waits for them to be written.
    context.memory.deepcopy_host_arrays = False
    with context, _deferred_signals():
        ocp.save_checkpointables(path.absolute(), dict(networks))


def _check_space(folder: Path, networks: Mapping[str, Variables]) -> None:
    """Makes sure that weights fit on the disk: running out of it confuses Orbax.

    Raises:
        OSError: they do not, by free space, quota or limit.
    """
    size = sum(math.prod(a.shape) * 4 for _, a in tables.flatten(networks))
    if size and hasattr(os, "posix_fallocate"):
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)


@contextlib.contextmanager
def _deferred_signals() -> Iterator[None]:
    """Lets a call end before Ctrl-C or SIGTERM takes effect.

    Orbax writes in threads of its own, which would go on, and put files back, while an
    exception in this one removes them. It is a matter of seconds.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    previous = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        # Without a handler in Python the signal ends the process at once.
        if callable(signal.getsignal(number)):
            previous[number] = signal.signal(number, lambda n, _: received.append(n))
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])


def check_output_folder(folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Says, before long work, what would keep a checkpoint from being written.

    Raises:
        UserError: as `save_checkpoint`.
    """
    folder = check_writable(folder)
    if folder.is_file():
        raise UserError(f"Cannot write the folder {folder}: there is a file of that name")
    present = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if present and not overwrite:
        raise UserError(
            f"Cannot write the folder {folder}: it exists and is not empty; "
            "name another, or say that it is to be overwritten (--overwrite)"
        )
    foreign = [name for name in present if name not in _OUR_NAMES]
    if foreign:
        raise UserError(
            f"Cannot overwrite the folder {folder}: only a checkpoint is replaced, and it also "
            f"holds {named(foreign)}; name another or remove it first"
        )


def load_checkpoint(
    folder: str | os.PathLike[str],
    networks: Iterable[str] | None = None,
    *,
    sharding: jax.sharding.Sharding | None = None,
) -> tuple[ModelConfig, dict[str, Variables]]:
    """Reads a checkpoint.

    Args:
        folder: written by `save_checkpoint`.
        networks: those that are needed; by default all that are there.
        sharding: where arrays are put; by default on the first device.

    Returns:
        The configuration, and the variables by network, from the collections down, as float32
        `jax.Array`s.

    Raises:
        UserError: no such folder, not a checkpoint, one of another configuration, truncated
            or damaged, or without a network that is needed.
    """
    folder = Path(folder)
    config = load_config(folder)
    networks = None if networks is None else tuple(networks)
    _check_files(folder, networks)
    present = stored_networks(folder)
    wanted = present if networks is None else networks
    missing = [network for network in wanted if network not in present]
    if missing:
        flags = ", ".join(dict.fromkeys(_SOURCES[network] for network in missing))
        raise UserError(
            f"The checkpoint {folder} holds no {', '.join(missing)}; "
            f"convert again with {flags} (see convert_torch_weights.py --help)"
        )
    for network in wanted:
        problems = _differences(network, _stored_shapes(folder, network), config)
        if problems:
            raise UserError(
                f"The checkpoint {folder} does not fit its {CONFIG_NAME}: "
                f"{network}: {'; '.join(problems)}; convert it again"
            )
    sharding = sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = {
        network: tables.nest(
            (path, jax.ShapeDtypeStruct(shape, np.float32, sharding=sharding))
            for path, shape in tables.flatten(tables.variable_shapes(network, config))
        )
        for network in wanted
    }
    try:
        with _quiet_orbax():
            loaded = ocp.load_checkpointables((folder / WEIGHTS_NAME).absolute(), abstract)
    except Exception as error:  # Orbax and TensorStore do not say which they raise
        raise _damaged(folder, f"{WEIGHTS_NAME} cannot be read") from error
    return config, {network: loaded[network] for network in wanted}


def stored_networks(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """The networks that a checkpoint holds; none if it is not one."""
    weights = Path(folder) / WEIGHTS_NAME
    return tuple(network for network in NETWORKS if (weights / network).is_dir())


def load_config(folder: str | os.PathLike[str]) -> ModelConfig:
    """The configuration of a checkpoint, without reading its weights.

    Raises:
        UserError: no such folder, not a checkpoint, or a configuration of another version.
    """
    folder = Path(folder)
    path = folder / CONFIG_NAME
    if not folder.exists():
        raise UserError(
            f"No such checkpoint: {folder}; make it with convert_torch_weights.py or by training"
        )
    if folder.is_file():
        raise UserError(
            f"The checkpoint {folder} is a file, a folder was expected; a PyTorch file is "
            "converted to one by convert_torch_weights.py"
        )
    if not path.is_file() or not (folder / WEIGHTS_NAME).is_dir():
        raise UserError(
            f"The folder {folder} is not a checkpoint: it has no {CONFIG_NAME} and {WEIGHTS_NAME}"
        )
    try:
        return ModelConfig.from_dict(_read_json(path))
    except UserError as error:
        raise UserError(f"The checkpoint {folder} cannot be used: {error}") from error
    except PermissionError as error:
        raise UserError(f"The checkpoint {folder} cannot be read: permission denied") from error
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(folder, f"{CONFIG_NAME} is no configuration") from error


def _checksums(weights: Path) -> dict[str, list[int]]:
    """[size, CRC-32] of every file below a folder, by its path there."""
    return {
        path.relative_to(weights).as_posix(): [path.stat().st_size, _crc32(path)]
        for path in sorted(weights.rglob("*"))
        if path.is_file()
    }


def _crc32(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHECK_BYTES):
            crc = zlib.crc32(chunk, crc)
    return crc


def _check_files(folder: Path, networks: Iterable[str] | None) -> None:
    """Compares the files of some networks, or of all, with their checksums.

    Raises:
        UserError: one is missing or is not what was written.
    """
    weights = folder / WEIGHTS_NAME
    try:
        expected = _read_json(folder / FILES_NAME)
        present = {path.relative_to(weights).as_posix() for path in weights.rglob("*")}
        for name, (size, crc) in expected.items():
            network, slash, _ = name.partition("/")
            if slash and networks is not None and network not in networks:
                continue
            # What stands in the list is only ever compared: it may name files elsewhere.
            if name not in present:
                raise _damaged(folder, f"{printable(name)} is missing")
            path = weights / name
            if path.stat().st_size != size or _crc32(path) != crc:
                raise _damaged(folder, f"{printable(name)} has changed")
    except PermissionError as error:
        raise UserError(f"The checkpoint {folder} cannot be read: permission denied") from error
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(folder, f"{FILES_NAME} cannot be read") from error


@contextlib.contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Keeps Orbax from logging what is about to be said in words."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _damaged(folder: Path, why: str) -> UserError:
    return UserError(
        f"The checkpoint {folder} is truncated or damaged ({why}); copy or convert it again"
    )


def _stored_shapes(folder: Path, network: str) -> Mapping[str, Any]:
    """What a stored network consists of, without reading values.

    Of this network alone: where Orbax is asked about all at once and one is damaged, it goes
    on reading the others after it has answered, and its threads complain into the void.
    """
    try:
        with _quiet_orbax():
            stored = ocp.metadata((folder / WEIGHTS_NAME).absolute(), network).metadata
    except Exception as error:  # Orbax does not say which it raises
        raise _damaged(folder, f"{WEIGHTS_NAME} cannot be read") from error
    if not isinstance(stored, Mapping):
        raise _damaged(folder, f"{WEIGHTS_NAME} cannot be read")
    return stored


def _differences(network: str, variables: Mapping[str, Any], config: ModelConfig) -> list[str]:
    """How variables differ from what the configuration asks for; arrays or their metadata."""
    expected = dict(tables.flatten(tables.variable_shapes(network, config)))
    found = dict(tables.flatten(variables))
    missing = ["/".join(path) for path in expected if path not in found]
    left_over = ["/".join(path) for path in found if path not in expected]
    misshapen = [
        f"{'/'.join(path)} is {found[path].dtype} {shape_text(found[path].shape)}, "
        f"expected {STORED_DTYPES[0]} {shape_text(shape)}"
        for path, shape in expected.items()
        if path in found
        and (tuple(found[path].shape) != shape or found[path].dtype not in STORED_DTYPES)
    ]
    kinds = {"missing": missing, "left over": left_over, "misshapen": misshapen}
    return [f"{len(names)} {kind}: {named(names)}" for kind, names in kinds.items() if names]


def parameter_count(variables: Mapping[str, Any], collection: str = "params") -> int:
    """Number of values in one collection of a network's variables."""
    leaves = tables.flatten(variables.get(collection, {}))
    return sum(math.prod(leaf.shape) for _, leaf in leaves)


def _read_json(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        values = json.loads(file.read(MAX_JSON_BYTES))
    if not isinstance(values, dict):
        raise TypeError(f"{path} holds no object")
    return values


def write_json(path: Path, values: Any) -> None:
    """JSON for people and programs, into a folder that is being made."""
    path.write_text(json.dumps(values, indent=2) + "\n")
