"""What is in a published file, by names alone: networks, optimizer states and the rest.

    checkpoint   124_52000.pth.tar  generator, discriminator, kp_detector; also the parent's
                                    vox-cpk.pth.tar and vox-adv-cpk.pth.tar
    audio        1-6000.pth.tar     audio_feature, kp_detector_a
    emotion      5-3000.pth.tar     emo_detector, and copies of the two above
    vgg          vgg19.pth          the features of torchvision's VGG-19, names at top level
    pose         mb1_120x120.pth    3DDFA_V2's head pose network, under `state_dict`

Needs neither JAX nor the models, so that inspecting a file is quick.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eamm_jax.constants import NETWORKS
from eamm_jax.conversion.torch_reader import TorchFile, TorchTensor, open_torch_file, walk_tensors
from eamm_jax.errors import UserError, named, printable

WRAPPER_PREFIX = "module."
"""What `DataParallel` puts before every name."""

Tensors = dict[str, TorchTensor]


@dataclass(frozen=True)
class Role:
    """What a file is given as.

    Attributes:
        title: in messages.
        required: networks that make the file what it is.
    """

    title: str
    required: tuple[str, ...]


ROLES = {
    "checkpoint": Role(
        "appearance and motion checkpoint (124_52000.pth.tar)", ("kp_detector", "generator")
    ),
    "audio": Role("audio checkpoint (1-6000.pth.tar)", ("audio_feature", "kp_detector_a")),
    "emotion": Role("emotion checkpoint (5-3000.pth.tar)", ("emo_detector",)),
    "vgg": Role("VGG-19 weights (vgg19.pth)", ("vgg19",)),
    "pose": Role("head pose network (mb1_120x120.pth)", ("head_pose",)),
}
"""Of two copies of a network, the one in the file that requires it is taken, so that the audio
checkpoint's win over those of the emotion checkpoint, as in the published demo."""

OPTIMIZER_PREFIX = "optimizer"
"""Top-level entries that hold optimizer states; never read."""

MAX_VALUE = 2**63
"""Larger numbers (and not-a-number) beside the networks are not repeated in reports."""

_VGG_MARK = "features.0.weight"
_POSE_KEY, _POSE_MARK = "state_dict", "fc_param.weight"


@dataclass(frozen=True)
class Contents:
    """What a file holds, by names alone.

    Attributes:
        networks: tensors by network, names without wrapper.
        optimizers: states by name, which are skipped.
        values: numbers and text beside them (epoch, step).
        unknown: other entries that hold tensors, by name.
    """

    networks: dict[str, Tensors]
    optimizers: dict[str, Any]
    values: dict[str, int | float | str]
    unknown: dict[str, Any]


def sort_content(content: Any) -> Contents:
    """Sorts a file's content into networks, optimizer states and the rest.

    Raises:
        UserError: it is no dictionary by name, or a network's entry holds other things.
    """
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise UserError("it holds no networks by name")
    if _VGG_MARK in strip_wrapper(content):
        return Contents({"vgg19": _tensors("vgg19", content)}, {}, {}, {})
    result = Contents({}, {}, {}, {})
    for name, value in content.items():
        if name == _POSE_KEY and isinstance(value, dict) and _POSE_MARK in _plain_names(value):
            result.networks["head_pose"] = _tensors("head_pose", value)
        elif name in NETWORKS:
            result.networks[name] = _tensors(name, value)
        elif name.startswith(OPTIMIZER_PREFIX):
            result.optimizers[name] = value
        elif next(walk_tensors(value), None) is not None:
            result.unknown[name] = value
        elif isinstance(value, int | float | str):
            result.values[printable(name)] = _plain(value)
    return result


def _plain_names(tensors: Mapping[Any, Any]) -> set[str]:
    return {name.removeprefix(WRAPPER_PREFIX) for name in tensors if isinstance(name, str)}


def _plain(value: float | str) -> int | float | str:
    """A value from a file, fit for a report: short, and a number that JSON has."""
    if isinstance(value, str):
        return printable(value)
    return value if abs(value) < MAX_VALUE else "not a usual number"


def _tensors(network: str, entry: Any) -> Tensors:
    if not isinstance(entry, dict):
        raise UserError(f"{network} in it is not a state dict")
    other = [
        str(name)
        for name, value in entry.items()
        if not (isinstance(name, str) and isinstance(value, TorchTensor))
    ]
    if other:
        raise UserError(f"{network} in it has entries that are not tensors: {named(other)}")
    return strip_wrapper(entry)


def strip_wrapper(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors with `module.` removed from the front of their names.

    Raises:
        UserError: two names become one.
    """
    stripped: dict[str, Any] = {}
    for name, tensor in tensors.items():
        short = name.removeprefix(WRAPPER_PREFIX)
        if short in stripped:
            raise UserError(
                f"tensors are wrong: {printable(short)} is there with and without "
                f"'{WRAPPER_PREFIX}' before it"
            )
        stripped[short] = tensor
    return stripped


def guess(found: Contents) -> str:
    """What a file may be that was given in another's place."""
    for role in reversed(ROLES.values()):  # the emotion checkpoint has the audio's networks, too
        if all(network in found.networks for network in role.required):
            return f"it looks like the {role.title}"
    names = [*found.networks, *found.unknown, *found.optimizers]
    return f"it holds {named(names)}" if names else "it holds no tensors"


def describe(path: str | os.PathLike[str]) -> tuple[TorchFile, Contents, str]:
    """What a file holds, without reading any values.

    Returns:
        The file (closed), its contents and what it looks like, in words.
    """
    with open_torch_file(path) as file:
        try:
            found = sort_content(file.content)
        except UserError as error:
            raise UserError(f"{file.path}: {error}") from error
        return file, found, guess(found)
