"""Converts the published files as a set (`contents` says what each brings).

Files are opened, told apart and checked by names and shapes first; values are read when all
is known to fit, and written in one go.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from eamm_jax.conversion import head_pose, tables
from eamm_jax.conversion.checkpoint import (
    REPORT_NAME,
    check_output_folder,
    parameter_count,
    save_checkpoint,
    write_json,
)
from eamm_jax.conversion.contents import NETWORKS, ROLES, Contents, guess, sort_content
from eamm_jax.conversion.networks import (
    Converted,
    convert_network,
    find_problems,
    with_discriminator_of,
)
from eamm_jax.conversion.report import Copy, NetworkReport, Report, SourceReport
from eamm_jax.conversion.torch_reader import TorchFile, open_torch_file, walk_tensors
from eamm_jax.conversion.wording import named, printable
from eamm_jax.errors import UserError
from eamm_jax.io.files import atomic_output_dir, check_readable
from eamm_jax.models.config import ModelConfig, published


@dataclass
class _Source:
    """An open file and what was found in it."""

    role: str
    file: TorchFile
    contents: Contents
    report: SourceReport


def convert_files(
    paths: Mapping[str, str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    config: ModelConfig | None = None,
    pose_statistics: Path | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Converts published files to one checkpoint of ours.

    Args:
        paths: files by role (`ROLES`); any of them.
        output: the folder to be made (see `checkpoint.save_checkpoint`).
        config: hyperparameters of the networks; by default the published ones. What the
            discriminator is follows from its tensors.
        pose_statistics: mean and deviation of the head pose network's outputs; by default the
            file of that name beside the network's.
        overwrite: replace what is there.
        progress: is told what is being done.

    Returns:
        What was done; the same stands in the folder.

    Raises:
        UserError: nothing was given; a file is missing, not a checkpoint, truncated, corrupt,
            hostile or of another kind; tensors are missing, left over or misshapen, by name;
            the output cannot be made.
    """
    started = time.monotonic()
    if not paths:
        flags = ", ".join(role.flag for role in ROLES.values())
        raise UserError(f"Nothing to convert: give at least one of {flags}")
    for role in paths:
        check_readable(paths[role], f"file for {ROLES[role].flag}")
    check_output_folder(output, overwrite=overwrite)
    statistics = None
    if "pose" in paths:
        statistics = head_pose.find_statistics(Path(paths["pose"]), pose_statistics)
    config = config or published()
    with ExitStack() as stack:
        sources = []
        for role in ROLES:
            if role in paths:
                file = stack.enter_context(open_torch_file(paths[role]))
                sources.append(_examine(role, file))
        chosen = _choose(sources)
        if "discriminator" in chosen:
            tensors = chosen["discriminator"].contents.networks["discriminator"]
            config = with_discriminator_of(tensors, config)
        for network, source in chosen.items():
            problems = find_problems(network, source.contents.networks[network], config)
            if problems:
                raise UserError(
                    f"{source.file.path}: {network}: tensors are wrong: {'; '.join(problems)}"
                )
        variables, reports = {}, {}
        for network, source in chosen.items():
            progress(f"converting {network}")
            converted = _convert(network, source, config)
            variables[network] = converted.variables
            copies = _compare_copies(network, source, sources, config)
            reports[network] = _report(source, converted, copies)
        pose: dict[str, Any] | None = None
        for source in sources:
            if source.role == "pose":
                assert statistics is not None
                converted = _convert_pose(source, statistics)
                pose = converted.variables
                reports["head_pose"] = _report(source, converted, [])
        for source in sources:
            progress(f"hashing {source.file.path.name}")
            source.report.sha256 = _sha256(source.file.path)
    report = Report(
        sources=[source.report for source in sources],
        networks=reports,
        discriminator=_describe_discriminator(config) if "discriminator" in chosen else None,
        seconds=0.0,
    )
    progress(f"writing {output}")
    # The time of writing cannot stand in what is written.
    report.seconds = time.monotonic() - started
    if pose is None:
        save_checkpoint(output, config, variables, report=report.to_dict(), overwrite=overwrite)
    elif variables:
        save_checkpoint(
            output,
            config,
            variables,
            report=report.to_dict(),
            overwrite=overwrite,
            beside=partial(head_pose.save, variables=pose),
        )
    else:
        with atomic_output_dir(output, overwrite=overwrite) as folder:
            head_pose.save(folder, pose)
            write_json(folder / REPORT_NAME, report.to_dict())
    report.seconds = time.monotonic() - started
    return report


def _examine(role: str, file: TorchFile) -> _Source:
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
    return _Source(role, file, found, report)


def _choose(sources: list[_Source]) -> dict[str, _Source]:
    """The source of each network: the file that requires it, or else the first that has it."""
    chosen: dict[str, _Source] = {}
    for network in NETWORKS:
        holders = [source for source in sources if network in source.contents.networks]
        own = [s for s in holders if network in ROLES[s.role].required]
        if holders:
            chosen[network] = (own or holders)[0]
    return chosen


def _convert(network: str, source: _Source, config: ModelConfig) -> Converted:
    try:
        return convert_network(network, source.contents.networks[network], config)
    except UserError as error:
        raise UserError(f"{source.file.path}: {error}") from error


def _convert_pose(source: _Source, statistics: Path) -> Converted:
    numbers = head_pose.read_statistics(statistics)
    try:
        return head_pose.convert(source.contents.networks["head_pose"], numbers)
    except UserError as error:
        raise UserError(f"{source.file.path}: {error}") from error


def _report(source: _Source, converted: Converted, copies: list[Copy]) -> NetworkReport:
    return NetworkReport(
        source=source.file.path.name,
        tensors=converted.tensors,
        parameters=parameter_count(converted.variables),
        bytes=_bytes(converted.variables),
        dtypes=converted.dtypes,
        unused=converted.unused,
        copies=copies,
    )


def _compare_copies(
    network: str, source: _Source, sources: list[_Source], config: ModelConfig
) -> list[Copy]:
    """Whether the copies of a network that were not taken hold the same values."""
    copies = []
    ours = source.contents.networks[network]
    names = [entry.name for entry in tables.table(network, config).entries]
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


def _describe_discriminator(config: ModelConfig) -> str:
    scales = ", ".join(f"{scale:g}" for scale in config.discriminator.scales)
    norm = "with" if config.discriminator.spectral_norm else "without"
    sees = "image and keypoints" if config.discriminator.use_keypoints else "image"
    return f"scales {scales}; {norm} spectral norm; sees {sees}"


def _bytes(variables: Mapping[str, Any]) -> int:
    return sum(array.nbytes for _, array in tables.flatten(variables))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
