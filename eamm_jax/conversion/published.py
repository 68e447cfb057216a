"""Converts the published files as a set (`contents` says what each brings).

Files are opened, identified and checked by names and shapes first; values are read when all is
known to fit, and written in one go.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eamm_jax import __version__
from eamm_jax.checkpoint import check_output_folder, flatten, parameter_count, save_networks
from eamm_jax.constants import NETWORKS
from eamm_jax.conversion.contents import ROLES, Contents, guess, sort_content
from eamm_jax.conversion.networks import (
    Converted,
    TensorLike,
    convert_network,
    find_problems,
    table,
    with_discriminator_of,
)
from eamm_jax.conversion.pickled_values import read_array_pickle
from eamm_jax.conversion.torch_reader import TorchFile, check_file, open_torch_file, walk_tensors
from eamm_jax.errors import UserError, named, printable
from eamm_jax.models.config import DiscriminatorConfig, ModelConfig, published
from eamm_jax.models.head_pose import OUTPUTS

STATISTICS_NAME = "param_mean_std_62d_120x120.pkl"
"""Mean and standard deviation of the head pose network's outputs; looked for beside the network."""

_STATISTICS = "statistics of the head pose network"


@dataclass
class SourceReport:
    """A file that was read.

    Attributes:
        role: what it was given as.
        name: of the file, without its folder.
        bytes: its size.
        layout: "zip" or "stream".
        values: numbers and text in it (epoch, step).
        skipped: optimizer states that were not read, with their numbers of tensors.
        sha256: of the whole file.
    """

    role: str
    name: str
    bytes: int
    layout: str
    values: dict[str, int | float | str]
    skipped: dict[str, int]
    sha256: str = ""


@dataclass
class Copy:
    """A copy of a network in another file, which was not taken.

    Attributes:
        source: that file's name.
        differing: names of tensors that are not the same there; none if it is identical.
    """

    source: str
    differing: list[str]


@dataclass
class NetworkReport:
    """A network that was converted.

    Attributes:
        source: name of the file it came from.
        tensors: number converted.
        parameters: trained values in them (statistics are not counted).
        bytes: size of all its variables.
        dtypes: number of tensors by stored type; all become float32.
        unused: names of tensors that were not converted, by the reason.
        copies: of the same network in other files.
    """

    source: str
    tensors: int
    parameters: int
    bytes: int
    dtypes: dict[str, int]
    unused: dict[str, list[str]]
    copies: list[Copy]


@dataclass
class Report:
    """A conversion.

    Attributes:
        sources: files read.
        networks: what was made of them.
        discriminator: which of the published ones it is, or None without one.
        seconds: how long it took.
    """

    sources: list[SourceReport]
    networks: dict[str, NetworkReport]
    discriminator: str | None
    seconds: float = 0.0

    def provenance(self) -> dict[str, Any]:
        """What is stored with the model: all but the time."""
        made = {"made_by": f"eamm_jax {__version__}", "kind": "conversion"}
        return made | {k: v for k, v in dataclasses.asdict(self).items() if k != "seconds"}


@dataclass
class _Source:
    """An open file and what was found in it."""

    role: str
    file: TorchFile
    contents: Contents
    report: SourceReport
    extra: dict[str, np.ndarray] = field(default_factory=dict)

    def tensors(self, network: str) -> dict[str, TensorLike]:
        """A network's tensors, with what a second file adds to them."""
        tensors: dict[str, TensorLike] = {}
        tensors.update(self.contents.networks[network])
        tensors.update(self.extra)
        return tensors


def convert_files(
    paths: Mapping[str, str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    config: ModelConfig | None = None,
    pose_statistics: Path | None = None,
    overwrite: bool = False,
    dtype: str = "float32",
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
        dtype: of the weights on disk.
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
    check_output_folder(output, overwrite=overwrite)
    extra = {}
    if "pose" in paths:
        extra["pose"] = read_statistics(Path(paths["pose"]), pose_statistics)
    config = config or published()
    with ExitStack() as stack:
        sources = [
            _examine(role, stack.enter_context(open_torch_file(paths[role])), extra.get(role, {}))
            for role in ROLES
            if role in paths
        ]
        chosen = _choose(sources)
        if "discriminator" in chosen:
            config = with_discriminator_of(chosen["discriminator"].tensors("discriminator"), config)
        for network, source in chosen.items():
            problems = find_problems(network, source.tensors(network), config)
            if problems:
                raise UserError(
                    f"{source.file.path}: {network}: tensors are wrong: {'; '.join(problems)}"
                )
        variables, reports = {}, {}
        for network, source in chosen.items():
            progress(f"converting {network}")
            try:
                converted = convert_network(network, source.tensors(network), config)
            except UserError as error:
                raise UserError(f"{source.file.path}: {error}") from error
            variables[network] = converted.variables
            copies = _compare_copies(network, source, sources, config)
            reports[network] = _report(source, converted, copies)
        for source in sources:
            progress(f"hashing {source.file.path.name}")
            with source.file.path.open("rb") as stream:
                source.report.sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    report = Report(
        [source.report for source in sources],
        reports,
        _describe(config.discriminator) if "discriminator" in chosen else None,
    )
    progress(f"writing {output}")
    save_networks(
        output,
        config,
        variables,
        provenance=report.provenance(),
        dtype=dtype,
        overwrite=overwrite,
    )
    report.seconds = time.monotonic() - started
    return report


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
    arrays = read_array_pickle(path, _STATISTICS)
    shapes = {name: array.shape for name, array in arrays.items()}
    if shapes != dict.fromkeys(("mean", "std"), (OUTPUTS,)):
        raise UserError(
            f"{path}: is not the {_STATISTICS}: it holds {shapes}, expected mean and std of "
            f"{OUTPUTS} numbers each"
        )
    return {f"statistics.{name}": array for name, array in arrays.items()}


def _examine(role: str, file: TorchFile, extra: dict[str, np.ndarray]) -> _Source:
    try:
        found = sort_content(file.content)
    except UserError as error:
        raise UserError(f"{file.path}: {error}") from error
    wanted = ROLES[role]
    missing = [network for network in wanted.required if network not in found.networks]
    if missing:
        raise UserError(
            f"{file.path}: is not the {wanted.title}: it holds no {' and no '.join(missing)}; "
            f"{guess(found)}"
        )
    if found.unknown:
        names = named(list(found.unknown))
        raise UserError(f"{file.path}: holds tensors that belong to no known network: {names}")
    report = SourceReport(
        role=role,
        name=file.path.name,
        bytes=file.path.stat().st_size,
        layout=file.layout,
        values=found.values,
        skipped={
            printable(name): len(list(walk_tensors(state)))
            for name, state in found.optimizers.items()
        },
    )
    return _Source(role, file, found, report, extra)


def _choose(sources: list[_Source]) -> dict[str, _Source]:
    """The source of each network: the file that requires it, or else the first that has it."""
    chosen: dict[str, _Source] = {}
    for network in NETWORKS:
        holders = [source for source in sources if network in source.contents.networks]
        own = [s for s in holders if network in ROLES[s.role].required]
        if holders:
            chosen[network] = (own or holders)[0]
    return chosen


def _report(source: _Source, converted: Converted, copies: list[Copy]) -> NetworkReport:
    return NetworkReport(
        source=source.file.path.name,
        tensors=converted.tensors,
        parameters=parameter_count(converted.variables),
        bytes=sum(array.nbytes for array in flatten(converted.variables).values()),
        dtypes=converted.dtypes,
        unused=converted.unused,
        copies=copies,
    )


def _compare_copies(
    network: str, source: _Source, sources: list[_Source], config: ModelConfig
) -> list[Copy]:
    """Whether the copies of a network that were not taken hold the same values."""
    copies = []
    ours = source.tensors(network)
    names = [entry.name for entry in table(network, ours, config).entries]
    for other in sources:
        theirs = other.contents.networks.get(network)
        if other is source or theirs is None:
            continue
        differing = [
            name
            for name in names
            if name not in theirs
            or theirs[name].shape != ours[name].shape
            or not np.array_equal(np.asarray(theirs[name]), np.asarray(ours[name]))
        ]
        copies.append(Copy(other.file.path.name, differing))
    return copies


def _describe(discriminator: DiscriminatorConfig) -> str:
    scales = ", ".join(f"{scale:g}" for scale in discriminator.scales)
    norm = "with" if discriminator.spectral_norm else "without"
    sees = "image and keypoints" if discriminator.use_keypoints else "image"
    return f"scales {scales}; {norm} spectral norm; sees {sees}"
