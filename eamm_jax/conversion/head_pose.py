"""3DDFA_V2's head pose network: its published files -> one file of ours.

    mb1_120x120.pth, mb05_120x120.pth   the network (stream or zip format, under `state_dict`)
    param_mean_std_62d_120x120.pkl      mean and deviation of its outputs

Ours is `head_pose.npz`: arrays by the paths of the network's variables. It stands in a folder
of its own or in a checkpoint's, beside the weights.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eamm_jax.conversion import tables
from eamm_jax.conversion.contents import strip_wrapper
from eamm_jax.conversion.networks import Converted, TensorLike, convert_by_table
from eamm_jax.conversion.numpy_pickle import read_array_pickle
from eamm_jax.conversion.tables import Table, Unused
from eamm_jax.errors import UserError
from eamm_jax.models.head_pose import BLOCKS, OUTPUTS

FILE_NAME = "head_pose.npz"

STATISTICS_NAME = "param_mean_std_62d_120x120.pkl"
"""Looked for beside the network's file."""

WIDTHS = range(4, 257)
"""Of the first convolution: 32 in mb1, 16 in mb05."""

MAX_BYTES = 256 << 20
"""The file of the widest network there is has 13 MB."""

_FIRST = "conv1.weight"
_STATISTICS = ("mean", "std")

Variables = dict[str, Any]


def table(width: int) -> Table:
    """Every tensor of the network.

    Args:
        width: channels of its first convolution.
    """
    result = Table(
        unused=[
            Unused(r"fc_lm\.(weight|bias)", "landmarks, an output of its training"),
            Unused(r"(.*\.)?num_batches_tracked", "counters of batch norm, not used"),
        ]
    )
    result.conv("conv1", ("conv1",), 3, width, 3, bias=False)
    result.norm("bn1", ("bn1",), width)
    n = width
    for name, multiple, _ in BLOCKS:
        result.conv(f"{name}.conv_dw", (name, "conv_dw"), 1, n, 3, bias=False)
        result.norm(f"{name}.bn_dw", (name, "bn_dw"), n)
        result.conv(f"{name}.conv_sep", (name, "conv_sep"), n, multiple * width, 1, bias=False)
        n = multiple * width
        result.norm(f"{name}.bn_sep", (name, "bn_sep"), n)
    result.linear("fc_param", ("fc_param",), n, OUTPUTS)
    for name in _STATISTICS:
        result.add(f"statistics.{name}", (OUTPUTS,), ("statistics", name))
    return result


def find_statistics(network: Path, given: Path | None) -> Path:
    """The file of mean and deviation: the one that is given, or the one beside the network.

    Raises:
        UserError: there is none.
    """
    path = given or network.with_name(STATISTICS_NAME)
    if not path.is_file():
        raise UserError(
            f"No such statistics of the head pose network: {path}; 3DDFA_V2 has them as "
            f"configs/{STATISTICS_NAME}: put that file beside {network.name}, or name it with "
            "--pose_statistics"
        )
    return path


def read_statistics(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Mean and deviation of the network's outputs, from 3DDFA_V2's pickle.

    Raises:
        UserError: it is no such file, or hostile; nothing in it is run.
    """
    what = "statistics of the head pose network"
    arrays = read_array_pickle(path, what)
    shapes = {name: array.shape for name, array in arrays.items()}
    if shapes != dict.fromkeys(_STATISTICS, (OUTPUTS,)):
        raise UserError(
            f"{path}: is not the {what}: it holds {shapes}, expected mean and std of {OUTPUTS} "
            "numbers each"
        )
    return arrays


def convert(tensors: Mapping[str, TensorLike], statistics: Mapping[str, np.ndarray]) -> Converted:
    """Converts the network.

    Args:
        tensors: by their published names, perhaps with `module.` before them.
        statistics: from `read_statistics`.

    Raises:
        UserError: tensors are missing, left over or misshapen, by name.
    """
    tensors = strip_wrapper(tensors)
    shape: tuple[int, ...] = tensors[_FIRST].shape if _FIRST in tensors else ()
    width = shape[0] if len(shape) == 4 and shape[0] in WIDTHS else WIDTHS[0]
    # Our names for the numbers of the other file, which no tensor has.
    added = {f"statistics.{name}": statistics[name] for name in _STATISTICS}
    return convert_by_table("head_pose", table(width), dict(tensors) | added)


def save(folder: Path, variables: Variables) -> None:
    """Writes the network into a folder that is being made."""
    flat = {"/".join(path): array for path, array in tables.flatten(variables)}
    with (folder / FILE_NAME).open("wb") as file:
        np.savez(file, allow_pickle=False, **flat)


def find(folder: str | os.PathLike[str]) -> Path | None:
    """The network's file in a folder, if there is one."""
    path = Path(folder) / FILE_NAME
    return path if path.is_file() else None


def require(folder: str | os.PathLike[str]) -> Path:
    """The network's file in a folder.

    Raises:
        UserError: there is none.
    """
    path = find(folder)
    if path is None:
        raise UserError(
            f"The folder {folder} holds no head pose network ({FILE_NAME}); make it with "
            "convert_torch_weights.py --pose_network mb1_120x120.pth"
        )
    return path


def load(folder: str | os.PathLike[str]) -> tuple[int, Variables]:
    """Reads a converted network.

    Args:
        folder: one that holds a `head_pose.npz`.

    Returns:
        Its width, and its variables as float32.

    Raises:
        UserError: there is none in the folder, or it is damaged.
    """
    path = require(folder)
    damaged = UserError(f"{path} is damaged; convert the head pose network again")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(item.file_size for item in archive.infolist()) > MAX_BYTES:
                raise damaged
        with np.load(path, allow_pickle=False) as stored:
            arrays = {tuple(name.split("/")): stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise damaged from error
    first = arrays.get(("params", "conv1", "kernel"), np.zeros(()))
    if first.ndim != 4 or first.shape[-1] not in WIDTHS:
        raise damaged
    width = first.shape[-1]
    expected = {entry.path: entry.shape for entry in table(width).entries}
    found = {place: array.shape for place, array in arrays.items()}
    if found != expected or not all(
        array.dtype == np.float32 and np.isfinite(array).all() for array in arrays.values()
    ):
        raise damaged
    return width, tables.nest(arrays.items())
