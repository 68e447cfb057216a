"""Which published tensor becomes which parameter: one explicit table for each network.

A table is generated from the model configuration and names every tensor of a network with
its published name and shape, its place in our variables and the change of layout between
them (ARCHITECTURE.md sections 2 and 3). It is also what a checkpoint of ours is checked
against, since it knows the shape of every variable.

Published names keep their spelling (`audio_eocder`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eamm_jax.conversion.layouts import (
    AS_IS,
    CONVOLUTION,
    CONVOLUTION_1D,
    LINEAR,
    TRANSPOSED_CONVOLUTION,
    FlattenedKernel,
    Layout,
    LinearOnMap,
    Shape,
)
from eamm_jax.models import discriminator, vgg19
from eamm_jax.models.config import HourglassConfig, ModelConfig
from eamm_jax.models.emotion import JOINT_WIDTH, NUMBERS_PER_KEYPOINT
from eamm_jax.ops.resizing import ANTIALIAS_SIGMA, gaussian_kernel
from eamm_jax.types import AUDIO_WINDOW, POSE_NUMBERS

Path = tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One tensor.

    Attributes:
        name: published, below its network.
        published_shape: its shape there.
        path: in our variables, from the collection ("params", "batch_stats" or
            "spectral_stats") down.
        layout: from there to here.
    """

    name: str
    published_shape: Shape
    path: Path
    layout: Layout = AS_IS

    @property
    def shape(self) -> Shape:
        """Its shape here."""
        return self.layout.shape(self.published_shape)


@dataclass(frozen=True)
class Unused:
    """Tensors that published files hold and that are not converted.

    Attributes:
        pattern: regular expression on the whole published name.
        reason: why not, for the report.
        check: says what is wrong with such a tensor, or None; for those that we compute
            ourselves and that must agree.
    """

    pattern: str
    reason: str
    check: Callable[[np.ndarray], str | None] | None = None


@dataclass
class Table:
    """All of a network's tensors.

    Attributes:
        entries: those that are converted.
        unused: those that may be there besides.
    """

    entries: list[Entry] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)

    def add(self, name: str, shape: Shape, path: Path, layout: Layout = AS_IS) -> None:
        """One tensor."""
        self.entries.append(Entry(name, shape, path, layout))

    def conv(
        self, name: str, path: Path, n_in: int, n_out: int, kernel: int, *, bias: bool = True
    ) -> None:
        """A square convolution."""
        shape = (n_out, n_in, kernel, kernel)
        self.add(f"{name}.weight", shape, ("params", *path, "kernel"), CONVOLUTION)
        if bias:
            self.add(f"{name}.bias", (n_out,), ("params", *path, "bias"))

    def transposed_conv(self, name: str, path: Path, n_in: int, n_out: int, kernel: int) -> None:
        """A square transposed convolution."""
        shape = (n_in, n_out, kernel, kernel)
        self.add(f"{name}.weight", shape, ("params", *path, "kernel"), TRANSPOSED_CONVOLUTION)
        self.add(f"{name}.bias", (n_out,), ("params", *path, "bias"))

    def conv1d(self, name: str, path: Path, n_in: int, n_out: int, kernel: int) -> None:
        """A convolution along one axis."""
        shape = (n_out, n_in, kernel)
        self.add(f"{name}.weight", shape, ("params", *path, "kernel"), CONVOLUTION_1D)
        self.add(f"{name}.bias", (n_out,), ("params", *path, "bias"))

    def spectral_conv(self, name: str, path: Path, n_in: int, n_out: int, kernel: int) -> None:
        """A square convolution with spectral norm and its singular vectors."""
        shape = (n_out, n_in, kernel, kernel)
        self.add(f"{name}.weight_orig", shape, ("params", *path, "kernel"), CONVOLUTION)
        self.add(f"{name}.bias", (n_out,), ("params", *path, "bias"))
        self.add(f"{name}.weight_u", (n_out,), ("spectral_stats", *path, "u"))
        self.add(
            f"{name}.weight_v",
            (n_in * kernel**2,),
            ("spectral_stats", *path, "v"),
            FlattenedKernel(n_in, kernel, kernel),
        )

    def linear(self, name: str, path: Path, n_in: int, n_out: int, layout: Layout = LINEAR) -> None:
        """A linear layer."""
        self.add(f"{name}.weight", (n_out, n_in), ("params", *path, "kernel"), layout)
        self.add(f"{name}.bias", (n_out,), ("params", *path, "bias"))

    def dense_stack(self, name: str, path: Path, n_in: int, widths: tuple[int, ...]) -> None:
        """Linear layers with ReLU between, which have numbers of their own there."""
        for index, (n, width) in enumerate(zip((n_in, *widths), widths, strict=False)):
            self.linear(f"{name}.{2 * index}", (*path, f"dense_{index}"), n, width)

    def norm(self, name: str, path: Path, n: int, *, statistics: bool = True) -> None:
        """Batch norm, or instance norm (without statistics)."""
        self.add(f"{name}.weight", (n,), ("params", *path, "scale"))
        self.add(f"{name}.bias", (n,), ("params", *path, "bias"))
        if statistics:
            self.add(f"{name}.running_mean", (n,), ("batch_stats", *path, "mean"))
            self.add(f"{name}.running_var", (n,), ("batch_stats", *path, "var"))

    def block(self, name: str, path: Path, n_in: int, n_out: int, kernel: int = 3) -> None:
        """A `same`, `down` or `up` block."""
        self.conv(f"{name}.conv", (*path, "conv"), n_in, n_out, kernel)
        self.norm(f"{name}.norm", (*path, "norm"), n_out)

    def hourglass(self, name: str, path: Path, n_in: int, config: HourglassConfig) -> int:
        """An hourglass; returns its output channels."""
        width, blocks, max_width = config.width, config.blocks, config.max_width
        widths = [min(max_width, width * 2**level) for level in range(blocks + 1)]
        for level in range(blocks):
            below = n_in if level == 0 else widths[level]
            block = f"{name}.encoder.down_blocks.{level}"
            self.block(block, (*path, f"down_{level}"), below, widths[level + 1])
        for step, level in enumerate(reversed(range(blocks))):
            # Each but the first reads the level below beside its skip.
            below = widths[level + 1] * (1 if step == 0 else 2)
            block = f"{name}.decoder.up_blocks.{step}"
            self.block(block, (*path, f"up_{step}"), below, widths[level])
        return width + n_in


def _kp_detector(config: ModelConfig) -> Table:
    table = Table(unused=[_antialias("down.weight", config)])
    features = table.hourglass(
        "predictor", ("hourglass",), config.num_channels, config.keypoint_detector
    )
    _keypoint_head(table, ("head",), features, config)
    return table


def _kp_detector_a(config: ModelConfig) -> Table:
    table = Table(
        unused=[
            Unused(r"predictor\..*", "of an image detector that is not used"),
            Unused(r"down\.weight", "of an image detector that is not used"),
        ]
    )
    _keypoint_head(table, (), config.feature_channels, config)
    return table


def _keypoint_head(table: Table, path: Path, features: int, config: ModelConfig) -> None:
    kernel, k = config.keypoint_detector.kernel, config.num_keypoints
    table.conv("kp", (*path, "heatmap"), features, k, kernel)
    table.conv("jacobian", (*path, "jacobian"), features, 4 * k, kernel)


def _generator(config: ModelConfig) -> Table:
    table = Table(unused=[_antialias("dense_motion_network.down.weight", config)])
    name, path = "dense_motion_network", ("dense_motion",)
    motions = config.num_keypoints + 1  # and the background
    features = table.hourglass(
        f"{name}.hourglass",
        (*path, "hourglass"),
        motions * (config.num_channels + 1),
        config.generator.dense_motion,
    )
    for head, n_out in (("mask", motions), ("occlusion", 1)):
        table.conv(
            f"{name}.{head}", (*path, head), features, n_out, config.generator.dense_motion.kernel
        )

    end, downs = config.generator.kernel, config.generator.downs
    widths = config.generator.widths
    pixels = config.generator.pixel_block**2
    table.block("first", ("first",), config.num_channels * pixels, widths[0], end)
    for i in range(downs):
        table.block(f"down_blocks.{i}", (f"down_{i}",), widths[i], widths[i + 1])
        n_in, n_out = widths[downs - i], widths[downs - i - 1]
        table.block(f"up_blocks.{i}", (f"up_{i}",), n_in, n_out)
    for i in range(config.generator.res_blocks):
        for part in ("1", "2"):
            name, path = f"bottleneck.r{i}", (f"res_{i}",)
            table.conv(f"{name}.conv{part}", (*path, f"conv{part}"), widths[-1], widths[-1], 3)
            table.norm(f"{name}.norm{part}", (*path, f"norm{part}"), widths[-1])
    if config.generator.motion_skip:
        # No published file has this: it is listed for our own checkpoints.
        table.block("join", ("join",), widths[0] + features, widths[0])
    drawn = (config.num_channels + config.generator.blend) * pixels
    table.conv("final", ("final",), widths[0], drawn, end)
    return table


def scale_name(scale: float) -> str:
    """How the published discriminator calls a scale: 1 -> "1", 0.5 -> "0-5"."""
    return f"{scale:g}".replace(".", "-")


def _discriminator(config: ModelConfig) -> Table:
    table = Table()
    convolve = table.spectral_conv if config.discriminator.spectral_norm else table.conv
    for index, scale in enumerate(config.discriminator.scales):
        name, path = f"discs.{scale_name(scale)}", (f"scale_{index}",)
        width = config.num_channels
        if config.discriminator.use_keypoints:
            width += config.num_keypoints
        for block in range(config.discriminator.blocks):
            below = width
            width = min(
                config.discriminator.max_width, config.discriminator.width * 2 ** (block + 1)
            )
            down = f"{name}.down_blocks.{block}"
            convolve(f"{down}.conv", (*path, f"conv_{block}"), below, width, discriminator.KERNEL)
            if block > 0:
                table.norm(f"{down}.norm", (*path, f"norm_{block}"), width, statistics=False)
        convolve(f"{name}.conv", (*path, "score"), width, 1, 1)
    return table


def _audio_feature(config: ModelConfig) -> Table:
    table = Table(unused=[Unused(r"generator\..*", "of a StyleGAN2 that is not used")])

    audio = config.audio_to_motion
    path: Path = ("image_encoder",)
    n = config.num_channels
    for level in range(int(math.log2(config.image_size))):
        below = n
        n = min(audio.image_max_width, audio.image_width * 2**level)
        table.block(f"down_blocks.{level}", (*path, f"down_{level}"), below, n)
    code = n

    table.dense_stack("pose_encoder", ("pose_encoder",), POSE_NUMBERS, audio.pose_widths)
    code += audio.pose_widths[-1]

    path, n = ("audio_encoder",), 1
    for index, width in enumerate(audio.conv_widths):
        name = f"audio_eocder.{index if index < 2 else index + 1}"  # 2 is a pooling
        table.conv(f"{name}.0", (*path, f"conv_{index}"), n, width, 3, bias=False)
        table.norm(f"{name}.1", (*path, f"norm_{index}"), width)
        n = width
    # Two poolings of 3 x 3 without padding, with strides (1, 2) and (2, 2).
    height, width = AUDIO_WINDOW[0] - 2, (AUDIO_WINDOW[1] - 3) // 2 + 1
    height, width = (height - 3) // 2 + 1, (width - 3) // 2 + 1
    layout: Layout = LinearOnMap(n, height, width)
    n *= height * width
    for index, n_out in enumerate(audio.dense_widths):
        name = f"audio_eocder_fc.{2 * index}"
        table.linear(name, (*path, "dense", f"dense_{index}"), n, n_out, layout)
        n, layout = n_out, LINEAR
    code += n

    _lstm(table, code, config)
    _map_decoder(table, audio.lstm_width, config)
    return table


def _lstm(table: Table, n: int, config: ModelConfig) -> None:
    path: Path = ("params", "lstm")
    gates, width = 4 * config.audio_to_motion.lstm_width, config.audio_to_motion.lstm_width
    for index in range(config.audio_to_motion.lstm_layers):
        for ours, theirs, n_in in (("input", "ih", n), ("hidden", "hh", width)):
            kernel, bias = f"layer_{index}_{ours}_kernel", f"layer_{index}_{ours}_bias"
            table.add(f"lstm.weight_{theirs}_l{index}", (gates, n_in), (*path, kernel), LINEAR)
            table.add(f"lstm.bias_{theirs}_l{index}", (gates,), (*path, bias))
        n = width


def _map_decoder(table: Table, n: int, config: ModelConfig) -> None:
    path, stages = ("decoder",), int(math.log2(config.feature_size)) - 1
    first, width = config.audio_to_motion.deconv_widths
    for index in range(stages):
        last = index == stages - 1
        n_out = config.feature_channels if last else first if index == 0 else width
        kernel = 6 if index == 0 else 4
        table.transposed_conv(f"decon.{3 * index}", (*path, f"deconv_{index}"), n, n_out, kernel)
        if not last:
            table.norm(f"decon.{3 * index + 1}", (*path, f"norm_{index}"), n_out)
        n = n_out


def _emo_detector(config: ModelConfig) -> Table:
    table = Table(
        unused=[
            _antialias("down.weight", config),
            Unused(r"fc\.(weight|bias)", "a classifier that is not used"),
            Unused(r"final_4\..*", "a head that is not used"),
        ]
    )
    path: Path = ("encoder",)
    n = table.hourglass("predictor", (*path, "hourglass"), config.num_channels, config.emotion)
    widths = config.emotion.stage_widths
    table.conv("conv1", (*path, "conv"), n, widths[0], 3, bias=False)
    table.norm("bn1", (*path, "norm"), widths[0])
    n = widths[0]
    for stage, width in enumerate(widths):
        for index in range(2):
            name, where = f"layer{stage + 1}.{index}", (*path, f"stage_{stage}_{index}")
            for part, n_in in (("1", n), ("2", width)):
                table.conv(
                    f"{name}.conv{part}", (*where, f"conv{part}"), n_in, width, 3, bias=False
                )
                table.norm(f"{name}.bn{part}", (*where, f"norm{part}"), width)
            if n != width or (stage > 0 and index == 0):
                shortcut = (*where, "shortcut_conv")
                table.conv(f"{name}.downsample.0", shortcut, n, width, 1, bias=False)
                table.norm(f"{name}.downsample.1", (*where, "shortcut_norm"), width)
            n = width
    table.linear("classify.last_fc", ("classifier",), n, config.emotion.num_emotions)

    numbers, k = NUMBERS_PER_KEYPOINT, config.num_keypoints
    coded = k * numbers * (1 + 2 * config.emotion.frequencies)
    table.dense_stack("fc_p", ("keypoint_code",), coded, config.emotion.code_widths)
    table.dense_stack("fc_n", ("keypoint_raw",), k * numbers, config.emotion.raw_widths)
    joined = n + config.emotion.code_widths[-1]
    table.dense_stack("fc_all", ("joint",), joined, (*config.emotion.joint_widths, JOINT_WIDTH))
    moved = len(config.emotion.keypoints)
    for name, index, n_in, n_out, kernel in (
        ("final.0", 0, 1, 2, 4),
        ("final.3", 1, 2, 4, 4),
        ("final.5", 2, 4, moved, 3),
    ):
        table.conv1d(name, ("final_few", f"conv_{index}"), n_in, n_out, kernel)
    for name, index, n_in, n_out in (("final_10.0", 0, 4, 8), ("final_10.3", 1, 8, k)):
        table.conv1d(name, ("final_all", f"conv_{index}"), n_in, n_out, 3)
    if config.emotion.head == "dense":  # ours: no published file has it
        table.linear("final_dense", ("final_dense", "rows"), JOINT_WIDTH, moved * numbers)
    return table


def _vgg19(config: ModelConfig) -> Table:
    del config  # as published elsewhere, whatever ours is
    table = Table()
    layer, n = 0, 3
    for stage, (convolutions, width) in enumerate(vgg19.STAGES, start=1):
        for index in range(1, convolutions + 1):
            table.conv(f"features.{layer}", (f"conv{stage}_{index}",), n, width, 3)
            layer += 2  # with its ReLU
            n = width
        layer += 1  # pooling
    beyond = layer - 1
    table.unused = [
        Unused(
            rf"features\.({'|'.join(str(i) for i in range(beyond, beyond + 7))})\.(weight|bias)",
            "beyond relu5_1, the last layer used",
        ),
        Unused(r"classifier\.\d+\.(weight|bias)", "the classifier of ImageNet, not used"),
    ]
    return table


ANTIALIAS_TOLERANCE = 1e-5
"""How far a stored gaussian may be from ours."""


def _antialias(name: str, config: ModelConfig) -> Unused:
    """The anti-aliasing gaussian, stored with the parameters though it is a constant."""
    row = gaussian_kernel(ANTIALIAS_SIGMA)
    expected = np.broadcast_to(np.outer(row, row), (config.num_channels, 1, row.size, row.size))

    def check(stored: np.ndarray) -> str | None:
        if stored.shape != expected.shape:
            return f"has shape {stored.shape}, expected {expected.shape}"
        difference = float(np.abs(stored.astype(np.float64) - expected).max())
        if difference <= ANTIALIAS_TOLERANCE:
            return None
        return f"is not the gaussian of sigma {ANTIALIAS_SIGMA} (differs by {difference:.2g})"

    return Unused(re.escape(name), "a constant gaussian, equal to ours", check)


_TABLES: dict[str, Callable[[ModelConfig], Table]] = {
    "kp_detector": _kp_detector,
    "generator": _generator,
    "discriminator": _discriminator,
    "audio_feature": _audio_feature,
    "kp_detector_a": _kp_detector_a,
    "emo_detector": _emo_detector,
    "vgg19": _vgg19,
}


def table(network: str, config: ModelConfig) -> Table:
    """The table of a network.

    Args:
        network: one of `contents.NETWORKS`.
        config: its hyperparameters.
    """
    result = _TABLES[network](config)
    result.unused.append(Unused(r"(.*\.)?num_batches_tracked", "counters of batch norm, not used"))
    return result


def nest(leaves: Iterable[tuple[Path, Any]]) -> dict[str, Any]:
    """Nested dictionaries from paths."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves:
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = leaf
    return tree


def flatten(tree: Mapping[str, Any], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Paths from nested dictionaries."""
    for name, node in tree.items():
        if isinstance(node, Mapping):
            yield from flatten(node, (*above, name))
        else:
            yield (*above, name), node


def variable_shapes(network: str, config: ModelConfig) -> dict[str, Any]:
    """The shape of every variable of a network, nested as its variables are."""
    return nest((entry.path, entry.shape) for entry in table(network, config).entries)
