"""Converts published files, one or all of them, to one model (`contents` says what each brings).

A network is converted by its table, complete or not at all: a tensor that is missing, left over, of
another shape or not finite is named, since a network with one wrong layer runs and renders rubbish.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from eamm_jax import __version__
from eamm_jax.checkpoint import (
    DTYPES,
    MODEL_FILES,
    Variables,
    nest,
    parameter_count,
    save_networks,
    shape_problems,
)
from eamm_jax.constants import NETWORKS
from eamm_jax.conversion import tables
from eamm_jax.conversion.contents import ROLES, Contents, Tensors, sort_content, state_dict
from eamm_jax.conversion.restricted_pickle import PickledArray, PickleError, load
from eamm_jax.conversion.torch_reader import TorchFile, check_file, open_torch_file
from eamm_jax.conversion.torch_tensors import walk_tensors
from eamm_jax.errors import UserError, named, printable
from eamm_jax.io.files import check_output_folder, check_readable, packaged_file
from eamm_jax.models.config import ModelConfig, published
from eamm_jax.models.head_pose import OUTPUTS

STATISTICS_NAME = "param_mean_std_62d_120x120.pkl"
"""Mean and standard deviation of the head pose network's outputs; looked for beside the network."""

_STATISTICS = "statistics of the head pose network"
_MAX_STATISTICS_BYTES = 1 << 20  # it has some hundred numbers

LPIPS_SHARES = {"lpips_alex": "alex.pth", "lpips_vgg": "vgg.pth"}
"""How much each channel matters in LPIPS 0.1; in the package `lpips`, or beside the network."""

_FLOATS = {np.dtype(np.float64), *DTYPES.values()}

_HEAD_POSE_FIRST = "conv1.weight"  # its first axis tells the network's width
HEAD_POSE_WIDTHS = range(4, 257)
"""32 in mb1, 16 in mb05."""


@dataclasses.dataclass
class SourceReport:
    """A file that was read."""

    role: str  # what it was given as
    name: str  # of the file, without its folder
    bytes: int
    layout: str  # "zip" or "stream"
    values: dict[str, int | float | str]  # beside the networks (epoch, step)
    skipped: dict[str, int]  # optimizer states, with their numbers of tensors
    sha256: str


@dataclasses.dataclass
class NetworkReport:
    """A network that was converted."""

    tensors: int  # that were converted
    parameters: int  # trained values in them; statistics are not counted
    bytes: int  # of all its variables
    dtypes: dict[str, int]  # number of tensors by stored type; all become float32
    unused: dict[str, list[str]]  # names of tensors that were not converted, by the reason
    source: str = ""  # name of the file it came from
    # Copies that were not taken: by file, the names of the tensors that are not the same there.
    copies: dict[str, list[str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Report:
    """A conversion."""

    sources: list[SourceReport]
    networks: dict[str, NetworkReport]
    discriminator: str | None  # which of the published ones it is
    seconds: float = 0.0

    def provenance(self) -> dict[str, Any]:
        """What is stored with the model: all but the time."""
        made = {"made_by": f"eamm_jax {__version__}", "kind": "conversion"}
        return made | {k: v for k, v in dataclasses.asdict(self).items() if k != "seconds"}


def convert_files(
    paths: Mapping[str, str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    config: ModelConfig | None = None,
    pose_statistics: Path | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Converts published files to one model of ours.

    Args:
        paths: files by role (`ROLES`); any of them.
        output: the folder to be made (see `checkpoint.save_networks`).
        config: hyperparameters of the networks; by default the published ones. What the
            discriminator is follows from its tensors.
        pose_statistics: mean and standard deviation of the head pose network's outputs; by default
            the file of that name beside the network's.
        overwrite: replace what is there.
        progress: is told what is being done.

    Returns:
        What was done; the same is stored as the model's provenance.

    Raises:
        UserError: nothing was given; a file is missing, not a checkpoint, truncated, corrupt,
            hostile or of another kind; tensors are missing, left over or misshapen, by name;
            the output cannot be made.
    """
    started = time.monotonic()
    if not paths:
        raise UserError("Nothing to convert: give at least one of the published files")
    for role in paths:
        check_file(paths[role], f"file for the {ROLES[role].title}")
    check_output_folder(output, MODEL_FILES if overwrite else None)
    config = config or published()
    with ExitStack() as stack:
        files = {
            role: stack.enter_context(open_torch_file(paths[role]))
            for role in ROLES
            if role in paths
        }
        found = {role: _identify(role, file) for role, file in files.items()}
        if "pose" in found:
            statistics = read_statistics(files["pose"].path, pose_statistics)
            found["pose"].networks["head_pose"].update(statistics)
        for role in LPIPS_SHARES.keys() & found.keys():
            shares = stack.enter_context(open_torch_file(find_shares(role, files[role].path)))
            try:
                found[role].networks[role].update(state_dict(shares.content))
            except UserError as error:
                raise UserError(f"{shares.path}: {error}") from error
        chosen = _choose(found)
        discriminator = None
        if "discriminator" in chosen:
            tensors = found[chosen["discriminator"]].networks["discriminator"]
            config, discriminator = with_discriminator_of(tensors, config)
        variables, networks = {}, {}
        for network, role in chosen.items():
            progress(f"converting {network}")
            tensors = found[role].networks[network]
            try:
                variables[network], report = convert_network(network, tensors, config)
            except UserError as error:
                raise UserError(f"{files[role].path}: {error}") from error
            report.source = files[role].path.name
            for other, contents in found.items():
                if other != role and network in contents.networks:
                    names = [entry.name for entry in tables.table(network, config).entries]
                    differing = _differing(names, tensors, contents.networks[network])
                    report.copies[files[other].path.name] = differing
            networks[network] = report
        sources = []
        for role, file in files.items():
            progress(f"hashing {file.path.name}")
            sources.append(_report_source(role, file, found[role]))
    result = Report(sources, networks, discriminator)
    progress(f"writing {output}")
    save_networks(output, config, variables, provenance=result.provenance(), overwrite=overwrite)
    result.seconds = time.monotonic() - started
    return result


def _identify(role: str, file: TorchFile) -> Contents:
    found, wanted = sort_content(file), ROLES[role]
    missing = [network for network in wanted.required if network not in found.networks]
    if missing:
        raise UserError(
            f"{file.path}: is not the {wanted.title}: it holds no {' and no '.join(missing)}; "
            f"{found.guess()}"
        )
    if found.unknown:
        names = named(list(found.unknown))
        raise UserError(f"{file.path}: holds tensors that belong to no known network: {names}")
    return found


def _choose(found: Mapping[str, Contents]) -> dict[str, str]:
    """The role of each network's file: the one that requires it, or else the first that has it."""
    chosen = {}
    for network in NETWORKS:
        holders = [role for role in found if network in found[role].networks]
        own = [role for role in holders if network in ROLES[role].required]
        if holders:
            chosen[network] = (own or holders)[0]
    return chosen


def _differing(names: list[str], ours: Tensors, theirs: Tensors) -> list[str]:
    """Names of the tensors that another copy of a network does not hold alike."""
    return [
        name
        for name in names
        if name not in theirs
        or not np.array_equal(np.asarray(theirs[name]), np.asarray(ours[name]))
    ]


def _report_source(role: str, file: TorchFile, found: Contents) -> SourceReport:
    with file.path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    skipped = {
        printable(name): len(list(walk_tensors(state))) for name, state in found.optimizers.items()
    }
    size = file.path.stat().st_size
    return SourceReport(role, file.path.name, size, file.layout, found.values, skipped, sha256)


def read_statistics(network: Path, given: Path | None = None) -> dict[str, np.ndarray]:
    """Mean and standard deviation of the head pose network's outputs, from 3DDFA_V2's pickle.

    Args:
        network: the network's file.
        given: the pickle; by default the one beside the network.

    Returns:
        The two arrays by names of ours, as tensors of the network.

    Raises:
        UserError: there is none, it is something else, or hostile; nothing in it is run.
    """
    path = given or network.with_name(STATISTICS_NAME)
    if not path.is_file():
        raise UserError(
            f"No such {_STATISTICS}: {path}; 3DDFA_V2 has them as configs/{STATISTICS_NAME}: put "
            f"that file beside {network.name}, or name it (pose_statistics)"
        )
    with check_readable(path, _STATISTICS).open("rb") as file:
        data = file.read(_MAX_STATISTICS_BYTES)
    try:
        content = load(io.BytesIO(data))
    except PickleError as error:
        raise UserError(
            f"{path}: is not the {_STATISTICS}: {error}; nothing in it was run"
        ) from error
    arrays = {}
    for name in ("mean", "std"):
        value = content.get(name) if isinstance(content, dict) else None
        array = value.values if isinstance(value, PickledArray) else None
        if array is None or array.shape != (OUTPUTS,) or len(content) != 2:
            raise UserError(
                f"{path}: is not the {_STATISTICS}: expected mean and std of {OUTPUTS} numbers "
                "each, and no more"
            )
        arrays[f"statistics.{name}"] = array
    return arrays


def find_shares(network: str, path: Path) -> Path:
    """The file that says how much the channels of an LPIPS network, which is in `path`, matter.

    Raises:
        UserError: there is none.
    """
    name = LPIPS_SHARES[network]
    beside = path.with_name(name)
    found = packaged_file("lpips", Path("weights", "v0.1", name)) or beside
    if not found.is_file():
        raise UserError(
            f"No such weights of LPIPS: {beside}; the package lpips has them: pip install "
            f"--no-deps lpips, or put its weights/v0.1/{name} beside {path.name}"
        )
    return found


# --- one network --------------------------------------------------------------------------


def convert_network(
    network: str, tensors: Tensors, config: ModelConfig
) -> tuple[Variables, NetworkReport]:
    """Converts a network.

    Args:
        network: one of `constants.NETWORKS`.
        tensors: by their published names; read one by one, so they may lie in a file.
        config: its hyperparameters.

    Returns:
        Its variables, float32, from the collections down, and what became of its tensors.

    Raises:
        UserError: tensors are missing, left over, misshapen, not floating-point, not finite,
            or constants that differ from ours; by name.
    """
    width = None
    if network == "head_pose" and _HEAD_POSE_FIRST in tensors:
        first = tensors[_HEAD_POSE_FIRST].shape[:1]
        width = next((n for n in first if n in HEAD_POSE_WIDTHS), None)
    entries, rules = tables.table(network, config, width=width)
    known = {entry.name: entry.published_shape for entry in entries}
    used: Tensors = {}
    unused: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        rule = next((rule for rule in rules if re.fullmatch(rule.pattern, name)), None)
        if rule is None:
            used[name] = tensor
            continue
        problem = rule.problem(tensor)
        if problem:
            raise _wrong(network, f"{name} {problem}")
        unused.setdefault(rule.reason, []).append(name)
    problems = shape_problems({name: tensor.shape for name, tensor in used.items()}, known)
    others = [f"{name} holds {x.dtype}" for name, x in used.items() if x.dtype not in _FLOATS]
    if others:
        problems.append(f"{len(others)} not floating-point: {named(others)}")
    if problems:
        raise _wrong(network, "; ".join(problems))
    flat = {entry.path: _convert_tensor(network, entry, tensors) for entry in entries}
    variables = nest(flat)
    report = NetworkReport(
        tensors=len(entries),
        parameters=parameter_count(variables),
        bytes=sum(array.nbytes for array in flat.values()),
        dtypes=dict(Counter(str(tensor.dtype) for tensor in used.values())),
        unused=unused,
    )
    return variables, report


def _convert_tensor(network: str, entry: tables.Entry, tensors: Tensors) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is too large for float32 is not finite in it
        values = np.asarray(tensors[entry.name]).astype(np.float32, copy=False)
    count = values.size - int(np.isfinite(values).sum())
    if count:
        raise _wrong(network, f"{entry.name} has {count} values that are not finite in float32")
    return np.ascontiguousarray(entry.layout.convert(values))


def _wrong(network: str, problems: str) -> UserError:
    return UserError(f"{network}: tensors are wrong: {problems}")


def with_discriminator_of(tensors: Tensors, config: ModelConfig) -> tuple[ModelConfig, str]:
    """The configuration with the discriminator that these tensors are of, and that in words.

    The published models differ in it: EAMM and vox-cpk use spectral norm, vox-adv-cpk gives it the
    keypoints instead. Names and shapes tell.
    """
    spectral_norm = any(name.endswith(".weight_orig") for name in tensors)
    use_keypoints = any(
        name.endswith(".down_blocks.0.conv.weight") and tensor.shape[1:2] > (config.num_channels,)
        for name, tensor in tensors.items()
    )
    norm = "with" if spectral_norm else "without"
    sees = "image and keypoints" if use_keypoints else "image"
    changes = {
        "discriminator.spectral_norm": spectral_norm,
        "discriminator.use_keypoints": use_keypoints,
    }
    return config.replace(changes), f"{norm} spectral norm; sees {sees}"
