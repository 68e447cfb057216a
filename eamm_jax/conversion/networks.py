"""One network's published tensors to its variables, by its table; complete or not at all.

Conversion fails, by name, on tensors that are missing, left over or of another shape, and on values
that are not finite: a network with one wrong layer runs and renders rubbish.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from eamm_jax.checkpoint import DTYPES, nest
from eamm_jax.conversion import tables
from eamm_jax.errors import UserError, named, shape_text
from eamm_jax.models.config import ModelConfig

_FLOATS = {np.dtype(np.float64), *DTYPES.values()}

_HEAD_POSE_FIRST = "conv1.weight"  # its first axis tells the network's width

HEAD_POSE_WIDTHS = range(4, 257)
"""32 in mb1, 16 in mb05."""


class TensorLike(Protocol):
    """An array, or one that is still in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, in the published order."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the elements."""

    def __array__(self, dtype: Any = None, /, *, copy: bool | None = None) -> np.ndarray:
        """The values."""


@dataclass
class Converted:
    """A network's variables and what became of its tensors.

    Attributes:
        variables: nested dictionaries of float32 arrays, from the collections down.
        tensors: number converted.
        dtypes: number of them by stored type.
        unused: names of those that were not converted, by the reason.
    """

    variables: dict[str, Any]
    tensors: int
    dtypes: dict[str, int]
    unused: dict[str, list[str]]


def table(network: str, tensors: Mapping[str, TensorLike], config: ModelConfig) -> tables.Table:
    """The table of a network; the head pose network's width follows from its tensors."""
    width = None
    if network == "head_pose":
        first = tensors[_HEAD_POSE_FIRST].shape if _HEAD_POSE_FIRST in tensors else ()
        width = first[0] if len(first) == 4 and first[0] in HEAD_POSE_WIDTHS else None
    return tables.table(network, config, width=width)


def find_problems(
    network: str, tensors: Mapping[str, TensorLike], config: ModelConfig
) -> list[str]:
    """What is wrong with a network's tensors, as far as names, shapes and types tell.

    Args:
        network: one of `constants.NETWORKS`.
        tensors: by their published names, without wrapper.
        config: the hyperparameters they should have.

    Returns:
        A phrase for each kind of problem; none if it can be converted.
    """
    entries, unused = table(network, tensors, config)
    known = {entry.name: entry for entry in entries}
    present = {name: tensors[name] for name in known if name in tensors}
    kinds = {
        "missing": [name for name in known if name not in tensors],
        "left over": [name for name in tensors if name not in known and not _rule(unused, name)],
        "misshapen": [
            f"{name} is {shape_text(tensor.shape)}, "
            f"expected {shape_text(known[name].published_shape)}"
            for name, tensor in present.items()
            if tuple(tensor.shape) != known[name].published_shape
        ],
        "not floating-point": [
            f"{name} holds {tensor.dtype}"
            for name, tensor in present.items()
            if tensor.dtype not in _FLOATS
        ],
    }
    return [f"{len(names)} {kind}: {named(names)}" for kind, names in kinds.items() if names]


def convert_network(
    network: str, tensors: Mapping[str, TensorLike], config: ModelConfig
) -> Converted:
    """Converts a network.

    Args:
        network: one of `constants.NETWORKS`.
        tensors: by their published names; read one by one, so they may lie in a file.
        config: its hyperparameters.

    Raises:
        UserError: tensors are missing, left over, misshapen, not floating-point, not finite,
            or constants that differ from ours; by name.
    """
    problems = find_problems(network, tensors, config)
    if problems:
        raise _wrong(network, "; ".join(problems))
    entries, rules = table(network, tensors, config)
    known = {entry.name for entry in entries}
    unused: dict[str, list[str]] = {}
    for name in (name for name in tensors if name not in known):
        rule = _rule(rules, name)
        assert rule is not None  # it would have been left over
        problem = rule.problem(np.asarray(tensors[name]))
        if problem:
            raise _wrong(network, f"{name} {problem}")
        unused.setdefault(rule.reason, []).append(name)
    return Converted(
        nest({entry.path: _convert_tensor(network, entry, tensors) for entry in entries}),
        len(entries),
        dict(Counter(str(tensors[entry.name].dtype) for entry in entries)),
        unused,
    )


def _convert_tensor(
    network: str, entry: tables.Entry, tensors: Mapping[str, TensorLike]
) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is too large for float32 is not finite in it
        values = np.asarray(tensors[entry.name]).astype(np.float32, copy=False)
    count = values.size - int(np.isfinite(values).sum())
    if count:
        raise _wrong(network, f"{entry.name} has {count} values that are not finite in float32")
    return np.ascontiguousarray(entry.layout.convert(values))


def _wrong(network: str, problems: str) -> UserError:
    return UserError(f"{network}: tensors are wrong: {problems}")


def _rule(unused: list[tables.Unused], name: str) -> tables.Unused | None:
    return next((rule for rule in unused if re.fullmatch(rule.pattern, name)), None)


def with_discriminator_of(tensors: Mapping[str, TensorLike], config: ModelConfig) -> ModelConfig:
    """The configuration with the discriminator that these tensors are of.

    The published models differ in it: EAMM and vox-cpk use spectral norm, vox-adv-cpk gives it the
    keypoints instead. Names and shapes tell.

    Args:
        tensors: of the network `discriminator`, by their published names.
        config: all other hyperparameters.
    """
    name = re.compile(r"discs\.([^.]+)\.down_blocks\.(\d+)\.conv\.weight(_orig)?")
    found = [match for match in map(name.fullmatch, tensors) if match]
    if not found:
        return config
    scales = [_scale(scale) for scale in dict.fromkeys(match[1] for match in found)]
    first = tensors[found[0][0]].shape
    n_out, n_in = first[:2] if len(first) > 1 else (0, 0)
    if None in scales or not n_out or n_out % 2:
        return config  # and the table says what is wrong
    return config.replace(
        {
            "discriminator.scales": tuple(scale for scale in scales if scale is not None),
            "discriminator.blocks": len({match[2] for match in found}),
            "discriminator.width": n_out // 2,
            "discriminator.spectral_norm": any(match[3] for match in found),
            "discriminator.use_keypoints": n_in == config.num_channels + config.num_keypoints,
        }
    )


def _scale(name: str) -> float | None:
    """0.5 for "0-5"."""
    try:
        scale = float(name.replace("-", "."))
    except ValueError:
        return None
    return scale if 0 < scale <= 1 and tables.scale_name(scale) == name else None
