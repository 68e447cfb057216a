"""Which published tensor becomes which variable: names by rule, shapes from the networks.

Every variable of a network has one published tensor. Rules rename the path of its module
("hourglass.down_0" to "predictor.encoder.down_blocks.0"); the leaf says what kind of tensor it is,
and so how its axes move (`Layout`). Shapes are those of the network's own variables, so a table
cannot disagree with the network that it fills. Published names keep their spelling
(`audio_eocder`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from eamm_jax.checkpoint import variable_shapes
from eamm_jax.constants import AUDIO_WINDOW
from eamm_jax.models import lpips, vgg19
from eamm_jax.models.config import ModelConfig
from eamm_jax.ops.resizing import ANTIALIAS_SIGMA, gaussian_kernel

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """How the axes of a published tensor become ours.

    Attributes:
        axes: for each of our axes the published one.
        mirrored: height and width are reversed too. The published transposed convolution scatters
            each input over its kernel; ours correlates the dilated input.
        map: (channels, height, width) where the tensor's last axis runs over a flattened map:
            channels vary slowest there and fastest here.
    """

    axes: Shape
    mirrored: bool = False
    map: Shape | None = None

    def published_shape(self, shape: Shape) -> Shape:
        """The published shape of a variable of ours."""
        return tuple(shape[axis] for axis in np.argsort(self.axes))

    def convert(self, array: np.ndarray) -> np.ndarray:
        """Our array for a published one; may be a view."""
        if self.map is not None:
            kernel = array.reshape(-1, *self.map)
            array = kernel.transpose(0, 2, 3, 1).reshape(array.shape)
        if self.mirrored:
            array = array[:, :, ::-1, ::-1]
        return array.transpose(self.axes)


AS_IS = Layout((0,))
LINEAR = Layout((1, 0))
CONVOLUTION_1D = Layout((2, 1, 0))
CONVOLUTION = Layout((2, 3, 1, 0))
CONVOLUTION_3D = Layout((2, 3, 4, 1, 0))
TRANSPOSED_CONVOLUTION = Layout((2, 3, 0, 1), mirrored=True)

# Two poolings of 3x3 without padding, with strides (1, 2) and (2, 2).
AUDIO_MAP = tuple(
    ((n - 3) // first + 1 - 3) // 2 + 1 for n, first in zip(AUDIO_WINDOW, (1, 2), strict=True)
)
"""Rows and columns of the audio encoder's last map."""


class Entry(NamedTuple):
    """One tensor."""

    name: str  # published, below its network
    path: str  # of our variable, from the collection down, joined by dots
    shape: Shape  # of our variable
    layout: Layout  # from there to here

    @property
    def published_shape(self) -> Shape:
        """Its shape in the published file."""
        return self.layout.published_shape(self.shape)


class Unused(NamedTuple):
    """Tensors of published files that are not converted."""

    pattern: str  # regular expression for the whole published name
    reason: str  # why not, for the report
    constant: np.ndarray | None = None  # the values that they must have, where we compute them

    def problem(self, stored: ArrayLike) -> str | None:
        """What is wrong with such a tensor, if anything."""
        if self.constant is None:
            return None
        values = np.asarray(stored)
        fits = values.shape == self.constant.shape
        if fits and np.allclose(values, self.constant, rtol=0, atol=CONSTANT_TOLERANCE):
            return None
        return f"is not the gaussian of sigma {ANTIALIAS_SIGMA} for {len(self.constant)} channels"


CONSTANT_TOLERANCE = 1e-5
"""float32 rounding of the stored Gaussians, with a margin."""


class Table(NamedTuple):
    """All tensors of a network: those that are converted, and those that may be there besides."""

    entries: list[Entry]
    unused: list[Unused]


Rule = tuple[str, str | Callable[[re.Match[str]], str]]
"""A pattern in a module's path and what replaces it."""


def _hourglass(published: str) -> list[Rule]:
    return [
        (r"hourglass\.down_(\d+)", rf"{published}.encoder.down_blocks.\1"),
        (r"hourglass\.up_(\d+)", rf"{published}.decoder.up_blocks.\1"),
    ]


_HEADS: list[Rule] = [(r"(head\.)?heatmap", "kp"), (r"head\.jacobian", "jacobian")]
_DENSE: Rule = (r"\bdense_(\d+)", lambda m: f"{2 * int(m[1])}")
"""The layers between, without parameters, are counted too."""

_TRUNK: list[Rule] = [
    (r"^conv$", "conv1"),
    (r"^norm$", "bn1"),
    (r"^stage_(\d+)_(\d+)", lambda m: f"layer{int(m[1]) + 1}.{m[2]}"),
    (r"\.norm(\d)$", r".bn\1"),
    (r"\.shortcut_conv", ".downsample.0"),
    (r"\.shortcut_norm", ".downsample.1"),
]
"""Of a ResNet-18."""

_SHARES: Rule = (r"^shares_(\d)", lambda m: f"lin{int(m[1]) - 1}.model.1")
"""Of LPIPS."""

_ALEXNET_CONVOLUTIONS = (0, 3, 6, 8, 10)

_SYNCNET_CONVOLUTIONS = (0, 4, 8, 11, 14, 18)
"""Where they stand among the published layers of either half; batch norm follows each."""


def _syncnet(ours: str, published: str) -> list[Rule]:
    return [
        (
            rf"^{ours}\.(conv|norm)_(\d)",
            lambda m: f"netcnn{published}.{_SYNCNET_CONVOLUTIONS[int(m[2])] + (m[1] == 'norm')}",
        ),
        (rf"^{ours}_head\.dense_(\d)", lambda m: f"netfc{published}.{3 * int(m[1])}"),
        (rf"^{ours}_head\.norm_0", f"netfc{published}.1"),
    ]


def _vgg(published: str, stages: Sequence[tuple[int, int]], between: int) -> Rule:
    return (
        r"^conv(\d)_(\d)",
        lambda m: f"{published.format(m[1])}.{_vgg_layer(stages, between, int(m[1]), int(m[2]))}",
    )


RULES: dict[str, list[Rule]] = {
    "kp_detector": [*_hourglass("predictor"), *_HEADS],
    "kp_detector_a": _HEADS,
    "generator": [
        (r"^dense_motion\.", "dense_motion_network."),
        *_hourglass("hourglass"),
        (r"^(down|up)_(\d+)", r"\1_blocks.\2"),
        (r"^res_(\d+)", r"bottleneck.r\1"),
    ],
    "discriminator": [(r"\.(conv|norm)_(\d+)", r".down_blocks.\2.\1"), (r"\.score", ".conv")],
    "audio_feature": [
        (r"^image_encoder\.down_(\d+)", r"down_blocks.\1"),
        _DENSE,
        (r"^audio_encoder\.dense", "audio_eocder_fc"),
        # The third of the published layers is a pooling.
        (
            r"^audio_encoder\.(conv|norm)_(\d+)",
            lambda m: f"audio_eocder.{int(m[2]) + (int(m[2]) >= 2)}.{('conv', 'norm').index(m[1])}",
        ),
        (r"^decoder\.deconv_(\d+)", lambda m: f"decon.{3 * int(m[1])}"),
        (r"^decoder\.norm_(\d+)", lambda m: f"decon.{3 * int(m[1]) + 1}"),
    ],
    "emo_detector": [
        (r"^encoder\.", ""),
        *_hourglass("predictor"),
        *_TRUNK,
        (r"^classifier", "classify.last_fc"),
        _DENSE,
        (r"^keypoint_code", "fc_p"),
        (r"^keypoint_raw", "fc_n"),
        (r"^joint", "fc_all"),
        (r"^final_few\.conv_(\d)", lambda m: f"final.{(0, 3, 5)[int(m[1])]}"),
        (r"^final_all\.conv_(\d)", lambda m: f"final_10.{3 * int(m[1])}"),
        (r"^final_dense\.rows", "final_dense"),  # ours: no published file has it
    ],
    "vgg19": [_vgg("features", vgg19.STAGES, 1)],
    "head_pose": [],
    "syncnet": [*_syncnet("lip", "lip"), *_syncnet("audio", "aud")],
    "inception": [],
    "emotion_fan": [
        (r"^trunk\.", ""),
        *_TRUNK,
        (r"^(alpha|beta)", r"\1.0"),
        (r"^pred", "pred_fc2"),
    ],
    "vgg16": [_vgg("net.slice{}", lpips.STAGES, 2), _SHARES],
    "lpips_alex": [
        (r"^conv_(\d)", lambda m: f"features.{_ALEXNET_CONVOLUTIONS[int(m[1])]}"),
        _SHARES,
    ],
    "lpips_vgg": [_vgg("features", lpips.STAGES, 1), _SHARES],
}
"""From the paths of our modules to the published ones, applied in order."""

_LEAVES = {
    **{"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"},
    **{"u": "weight_u", "v": "weight_v"},
}

_LSTM = re.compile(r"layer_(\d+)_(input|hidden)_(kernel|bias)")


def _vgg_layer(stages: Sequence[tuple[int, int]], between: int, stage: int, index: int) -> int:
    """Number of a VGG's convolution among its layers.

    Args:
        stages: convolutions of each stage, and their width.
        between: layers between two stages: a pooling, or a pooling and a blur.
        stage: of the convolution, from 1.
        index: in its stage, from 1.
    """
    before = sum(2 * convolutions + between for convolutions, _ in stages[: stage - 1])
    return before + 2 * (index - 1)


_VGG_END = _vgg_layer(vgg19.STAGES, 1, len(vgg19.STAGES) + 1, 1)


def _gaussian(num_channels: int) -> np.ndarray:
    row = gaussian_kernel(ANTIALIAS_SIGMA)
    return np.broadcast_to(np.outer(row, row), (num_channels, 1, row.size, row.size))


def _unused(network: str, config: ModelConfig) -> list[Unused]:
    gaussian = ("a constant gaussian, equal to ours", _gaussian(config.num_channels))
    classifier = Unused(r"classifier\.\d+\.(weight|bias)", "the classifier of ImageNet, not used")
    rules = {
        "kp_detector": [Unused(r"down\.weight", *gaussian)],
        "kp_detector_a": [
            Unused(r"predictor\..*|down\.weight", "of an image detector that is not used")
        ],
        "generator": [Unused(r"dense_motion_network\.down\.weight", *gaussian)],
        "audio_feature": [Unused(r"generator\..*", "of a StyleGAN2 that is not used")],
        "emo_detector": [
            Unused(r"down\.weight", *gaussian),
            Unused(r"fc\.(weight|bias)", "a classifier that is not used"),
            Unused(r"final_4\..*", "a head that is not used"),
        ],
        "vgg19": [
            Unused(
                rf"features\.({'|'.join(str(_VGG_END - 1 + i) for i in range(7))})\.(weight|bias)",
                "beyond relu5_1, the last layer used",
            ),
            classifier,
        ],
        "lpips_alex": [classifier],
        "lpips_vgg": [classifier],
        "vgg16": [Unused(r"scaling_layer\..*|.*\.filt", "constants, equal to ours")],
        "inception": [Unused(r"fc\.(weight|bias)", "the classifier of ImageNet, not used")],
        "emotion_fan": [Unused(r"pred_fc1\.(weight|bias)", "of self-attention alone, not used")],
        "head_pose": [Unused(r"fc_lm\.(weight|bias)", "landmarks, an output of its training")],
    }
    counters = Unused(r"(.*\.)?num_batches_tracked", "counters of batch norm, not used")
    return [*rules.get(network, []), counters]


def scale_name(scale: float) -> str:
    """The published discriminator's name for a scale: 1 -> "1", 0.5 -> "0-5"."""
    return f"{scale:g}".replace(".", "-")


def table(network: str, config: ModelConfig, *, width: int | None = None) -> Table:
    """The table of a network (`constants.NETWORKS`); `width` is that of the head pose network."""
    shapes = variable_shapes(network, config, width)
    rules = RULES[network]
    if network == "discriminator":
        scales = [f"discs.{scale_name(scale)}" for scale in config.discriminator.scales]
        rules = [(r"^scale_(\d+)", lambda match: scales[int(match[1])]), *rules]
    entries = [
        Entry(_published_name(path, rules, shapes), path, shape, _layout(path, shapes))
        for path, shape in shapes.items()
    ]
    return Table(entries, _unused(network, config))


def _published_name(path: str, rules: Sequence[Rule], shapes: dict[str, Shape]) -> str:
    collection, *modules, leaf = path.split(".")
    lstm = _LSTM.fullmatch(leaf)
    if lstm:
        kind = "weight" if lstm[3] == "kernel" else "bias"
        return f"lstm.{kind}_{'ih' if lstm[2] == 'input' else 'hh'}_l{lstm[1]}"
    if collection == "statistics":  # numbers of another file, under names of ours
        return f"statistics.{leaf}"
    name = ".".join(modules)
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    published = _LEAVES.get(leaf, leaf)
    spectral = path.replace("params.", "spectral_stats.", 1).removesuffix("kernel") + "u"
    if leaf == "kernel" and spectral in shapes:
        published = "weight_orig"
    return f"{name}.{published}"


def _layout(path: str, shapes: dict[str, Shape]) -> Layout:
    shape, leaf = shapes[path], path.rpartition(".")[2]
    if leaf == "v":
        kernel = path.replace("spectral_stats.", "params.", 1).removesuffix("v") + "kernel"
        height, width, n_in, _ = shapes[kernel]
        return Layout((0,), map=(n_in, height, width))
    if path == "params.audio_encoder.dense.dense_0.kernel":
        return Layout((1, 0), map=(shape[0] // math.prod(AUDIO_MAP), *AUDIO_MAP))
    if len(shape) == 4 and ".deconv_" in path:
        return TRANSPOSED_CONVOLUTION
    return {1: AS_IS, 2: LINEAR, 3: CONVOLUTION_1D, 4: CONVOLUTION, 5: CONVOLUTION_3D}[len(shape)]
