"""One network's published tensors -> its variables, by its table; complete or not at all.

Conversion fails, by name, on tensors that are missing, left over or of another shape, and on
values that are not numbers: a network with one wrong layer looks alive and draws rubbish.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from eamm_jax.conversion import tables
from eamm_jax.conversion.contents import strip_wrapper
from eamm_jax.conversion.wording import named, shape_text
from eamm_jax.errors import UserError
from eamm_jax.models.config import ModelConfig

_FLOATS = {np.dtype(t) for t in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16)}


class TensorLike(Protocol):
    """An array, or one that is still in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, in the published order."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the elements."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The values."""


@dataclass
class Converted:
    """A network's variables and what became of its tensors.

    Attributes:
        variables: nested dictionaries of float32 arrays, from the collections down.
        tensors: how many were converted.
        dtypes: how many of them were stored as what.
        unused: names of those that were not converted, by the reason.
    """

    variables: dict[str, Any]
    tensors: int = 0
    dtypes: dict[str, int] = field(default_factory=dict)
    unused: dict[str, list[str]] = field(default_factory=dict)


def find_problems(
    network: str, tensors: Mapping[str, TensorLike], config: ModelConfig
) -> list[str]:
    """What is wrong with a network's tensors, as far as names, shapes and types tell.

    Args:
        network: one of `contents.NETWORKS`.
        tensors: by their published names, without wrapper.
        config: the hyperparameters they should have.

    Returns:
        A phrase for each kind of problem; none if it can be converted.
    """
    return table_problems(tables.table(network, config), tensors)


def table_problems(table: tables.Table, tensors: Mapping[str, TensorLike]) -> list[str]:
    """As `find_problems`, of a network that is given by its table."""
    known = {entry.name: entry for entry in table.entries}
    missing = [name for name in known if name not in tensors]
    left_over = [name for name in tensors if name not in known and not _unused(table, name)]
    misshapen = [
        f"{name} is {shape_text(tensors[name].shape)}, expected {shape_text(entry.published_shape)}"
        for name, entry in known.items()
        if name in tensors and tuple(tensors[name].shape) != entry.published_shape
    ]
    mistyped = [
        f"{name} holds {tensors[name].dtype}"
        for name in known
        if name in tensors and tensors[name].dtype not in _FLOATS
    ]
    kinds = {
        "missing": missing,
        "left over": left_over,
        "misshapen": misshapen,
        "not floating-point": mistyped,
    }
    return [f"{len(names)} {kind}: {named(names)}" for kind, names in kinds.items() if names]


def convert_network(
    network: str, tensors: Mapping[str, TensorLike], config: ModelConfig
) -> Converted:
    """Converts a network.

    Args:
        network: one of `contents.NETWORKS`.
        tensors: by their published names, perhaps with `module.` before them; read one by
            one, so they may lie in a file.
        config: its hyperparameters.

    Raises:
        UserError: tensors are missing, left over, misshapen, not floating-point, not finite,
            or constants that differ from ours; by name.
    """
    return convert_by_table(network, tables.table(network, config), tensors)


def convert_by_table(
    network: str, table: tables.Table, tensors: Mapping[str, TensorLike]
) -> Converted:
    """As `convert_network`, of a network that is given by its table; the name is for messages."""
    tensors = strip_wrapper(tensors)
    problems = table_problems(table, tensors)
    if problems:
        raise UserError(f"{network}: tensors are wrong: {'; '.join(problems)}")
    dtypes: Counter[str] = Counter()
    leaves = []
    for entry in table.entries:
        tensor = tensors[entry.name]
        dtypes[str(tensor.dtype)] += 1
        leaves.append((entry.path, _convert_tensor(network, entry, np.asarray(tensor))))
    unused: dict[str, list[str]] = {}
    known = {entry.name for entry in table.entries}
    for name in tensors:
        if name in known:
            continue
        rule = _unused(table, name)
        assert rule is not None  # it would have been left over
        wrong = rule.check(np.asarray(tensors[name])) if rule.check else None
        if wrong:
            raise UserError(f"{network}: tensors are wrong: {name} {wrong}")
        unused.setdefault(rule.reason, []).append(name)
    return Converted(tables.nest(leaves), len(leaves), dict(dtypes), unused)


def _convert_tensor(network: str, entry: tables.Entry, values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is too large for float32 is not finite in it
        values = values.astype(np.float32, copy=False)
    finite = np.isfinite(values)
    if not finite.all():
        count = values.size - int(finite.sum())
        raise UserError(
            f"{network}: tensors are wrong: {entry.name} has {count} values that are not finite "
            "in float32"
        )
    converted = entry.layout.convert(values)
    return np.ascontiguousarray(converted).reshape(entry.shape)


def _unused(table: tables.Table, name: str) -> tables.Unused | None:
    return next((rule for rule in table.unused if re.fullmatch(rule.pattern, name)), None)


def with_discriminator_of(tensors: Mapping[str, TensorLike], config: ModelConfig) -> ModelConfig:
    """The configuration with the discriminator that these tensors are of.

    The published models differ in it: EAMM and vox-cpk use spectral norm, vox-adv-cpk gives
    it the keypoints instead. Names and shapes tell.

    Args:
        tensors: of the network `discriminator`, by their published names.
        config: all other hyperparameters.
    """
    tensors = strip_wrapper(tensors)
    name = re.compile(r"discs\.([^.]+)\.down_blocks\.(\d+)\.conv\.weight(_orig)?")
    found = [match for match in map(name.fullmatch, tensors) if match]
    if not found:
        return config
    scales = {match[1]: None for match in found}  # in the order of the file
    first = tensors[found[0][0]].shape
    n_out, n_in = first[:2] if len(first) > 1 else (0, 0)
    values = [_scale(scale) for scale in scales]
    if None in values or not n_out or n_out % 2:
        return config  # and the table says what is wrong
    return config.replace(
        {
            "discriminator.scales": tuple(value for value in values if value is not None),
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
