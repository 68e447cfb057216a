"""What is in a published file, by names alone: networks, optimizer states and the rest.

    checkpoint   124_52000.pth.tar  generator, discriminator, kp_detector; also the parent's
                                    vox-cpk.pth.tar and vox-adv-cpk.pth.tar
    audio        1-6000.pth.tar     audio_feature, kp_detector_a
    emotion      5-3000.pth.tar     emo_detector, and copies of the two above
    vgg          vgg19.pth          the features of torchvision's VGG-19, names at top level
    pose         mb1_120x120.pth    3DDFA_V2's head pose network, under `state_dict`
    syncnet      syncnet_v2.model   SyncNet, names at top level
    inception    pt_inception-2015-12-05-6726825d.pth
                                    Inception v3 of pytorch-fid, names at top level
    emotion_fan  self_relation-attention_61_84.3655
                                    Emotion-FAN of evaluation_eat, under `state_dict`
    lpips_alex   alexnet-owt-7be5be79.pth
    lpips_vgg    vgg16-397923af.pth torchvision's networks, names at top level; the shares of their
                                    channels in LPIPS are in another file

Needs neither JAX nor the models, so that inspecting a file is quick.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from eamm_jax.constants import NETWORKS
from eamm_jax.conversion.torch_reader import TorchFile, open_torch_file
from eamm_jax.conversion.torch_tensors import TorchTensor, walk_tensors
from eamm_jax.errors import UserError, named, printable

WRAPPER_PREFIX = "module."
"""What `DataParallel` puts before every name."""

OPTIMIZER_PREFIX = "optimizer"
"""Top-level entries that hold optimizer states; never read."""

MAX_VALUE = 2**63
"""Larger numbers (and not-a-number) beside the networks are not repeated in reports."""

_MARKS = {
    "features.3.weight": "lpips_alex",
    "features.17.weight": "lpips_vgg",  # VGG-19 has no convolution there
    "features.0.weight": "vgg19",
    "netcnnaud.0.weight": "syncnet",
    "Conv2d_1a_3x3.conv.weight": "inception",
}
_STATE, _STATE_MARKS = (
    "state_dict",
    {"fc_param.weight": "head_pose", "beta.0.weight": "emotion_fan"},
)
"""A tensor that tells which network its file holds: at top level, or under `state_dict`."""

Tensors = dict[str, TorchTensor | np.ndarray]


class Role(NamedTuple):
    """What a file is given as: its title in messages, and the networks that make it what it is."""

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
    "syncnet": Role("SyncNet (syncnet_v2.model)", ("syncnet",)),
    "inception": Role(
        "Inception v3 of pytorch-fid (pt_inception-2015-12-05-6726825d.pth)", ("inception",)
    ),
    "emotion_fan": Role(
        "Emotion-FAN of evaluation_eat (self_relation-attention_61_84.3655)", ("emotion_fan",)
    ),
    "lpips_alex": Role("AlexNet of torchvision (alexnet-owt-7be5be79.pth)", ("lpips_alex",)),
    "lpips_vgg": Role("VGG-16 of torchvision (vgg16-397923af.pth)", ("lpips_vgg",)),
}
"""Of two copies of a network, the one in the file that requires it is taken, so that the audio
checkpoint's win over those of the emotion checkpoint, as in the published demo."""


class Contents(NamedTuple):
    """What a file holds, by names alone."""

    networks: dict[str, Tensors]  # names without wrapper
    optimizers: dict[str, Any]  # states, which are skipped
    values: dict[str, int | float | str]  # beside the networks (epoch, step)
    unknown: dict[str, Any]  # other entries that hold tensors

    def guess(self) -> str:
        """What the file looks like, in words."""
        for role in reversed(ROLES.values()):  # the emotion checkpoint has the audio's networks
            if all(network in self.networks for network in role.required):
                return f"it looks like the {role.title}"
        names = [*self.networks, *self.unknown, *self.optimizers]
        return f"it holds {named(names)}" if names else "it holds no tensors"


def sort_content(file: TorchFile) -> Contents:
    """Sorts a file's content into networks, optimizer states and the rest.

    Raises:
        UserError: it is no dictionary by name, or a network's entry holds other things.
    """
    content, result = file.content, Contents({}, {}, {}, {})
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise UserError(f"{file.path}: it holds no networks by name")
    for mark, network in _MARKS.items():
        if _has(content, mark):
            content = {network: content}
    for mark, network in _STATE_MARKS.items():
        if _has(content.get(_STATE), mark):
            content = {network if key == _STATE else key: content[key] for key in content}
    for name, value in content.items():
        if name in NETWORKS:
            try:
                result.networks[name] = state_dict(value)
            except UserError as error:
                raise UserError(f"{file.path}: {name} in it {error}") from error
        elif name.startswith(OPTIMIZER_PREFIX):
            result.optimizers[name] = value
        elif next(walk_tensors(value), None) is not None:
            result.unknown[name] = value
        elif isinstance(value, str):
            result.values[printable(name)] = printable(value)
        elif isinstance(value, int | float):  # JSON has no number that is none
            result.values[printable(name)] = (
                value if abs(value) < MAX_VALUE else "not a usual number"
            )
    return result


def _has(tensors: Any, name: str) -> bool:
    return isinstance(tensors, dict) and (name in tensors or WRAPPER_PREFIX + name in tensors)


def state_dict(entry: Any) -> Tensors:
    """A network's tensors by name, without wrapper.

    Raises:
        UserError: it is no dictionary of tensors by name.
    """
    if not isinstance(entry, dict):
        raise UserError("is not a state dict")
    other = [
        str(name)
        for name, value in entry.items()
        if not (isinstance(name, str) and isinstance(value, TorchTensor))
    ]
    if other:
        raise UserError(f"has entries that are not tensors: {named(other)}")
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
            raise UserError(f"has {printable(short)} with and without '{WRAPPER_PREFIX}' before it")
        stripped[short] = tensor
    return stripped


def describe(path: str | os.PathLike[str]) -> tuple[TorchFile, Contents]:
    """What a file (closed on return) holds, without reading any values."""
    with open_torch_file(path) as file:
        return file, sort_content(file)
