"""Converts published PyTorch checkpoints: `eamm-convert`, `python convert_torch_weights.py`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from eamm_jax.cli.tool import OneLineParser, add_shared, print_listing, run, start_jax
from eamm_jax.errors import UserError
from eamm_jax.io.files import InputFiles

if TYPE_CHECKING:
    from rich.console import Console

    from eamm_jax.conversion.contents import Tensors
    from eamm_jax.conversion.published import Report

MEGABYTE = 1e6

FLAGS = {
    "checkpoint": (
        "checkpoint",
        "appearance and motion: 124_52000.pth.tar, vox-cpk.pth.tar or vox-adv-cpk.pth.tar",
    ),
    "audio": ("audio_checkpoint", "1-6000.pth.tar"),
    "emotion": ("emotion_checkpoint", "5-3000.pth.tar"),
    "vgg": ("vgg", "VGG-19 weights of torchvision; for training only"),
    "pose": (
        "pose_network",
        "3DDFA_V2's head pose network: mb1_120x120.pth or mb05_120x120.pth",
    ),
    "syncnet": ("syncnet", "for evaluation: SyncNet of joonson/syncnet_python, syncnet_v2.model"),
    "inception": (
        "inception",
        "for evaluation: Inception v3 of pytorch-fid, pt_inception-2015-12-05-6726825d.pth",
    ),
    "emotion_fan": (
        "emotion_fan",
        "for evaluation: Emotion-FAN of evaluation_eat, self_relation-attention_61_84.3655",
    ),
    "lpips_alex": (
        "lpips_alex",
        "for evaluation: AlexNet of torchvision, alexnet-owt-7be5be79.pth; the weights of LPIPS, "
        "alex.pth, lie in the installed package lpips or beside it",
    ),
    "lpips_vgg": (
        "lpips_vgg",
        "for evaluation: VGG-16 of torchvision, vgg16-397923af.pth; the weights of LPIPS, "
        "vgg.pth, lie in the installed package lpips or beside it",
    ),
}
"""The flag that names the file of a role (`conversion.published.ROLES`), and its help."""

_EPILOG = """\
examples:
  %(prog)s --checkpoint 124_52000.pth.tar --audio_checkpoint 1-6000.pth.tar \\
      --emotion_checkpoint 5-3000.pth.tar --output checkpoints/eamm
  %(prog)s --checkpoint vox-adv-cpk.pth.tar --output checkpoints/vox-adv
  %(prog)s --pose_network mb1_120x120.pth --output checkpoints/head_pose
  %(prog)s --syncnet syncnet_v2.model --output checkpoints/metrics
  %(prog)s --inspect 1-6000.pth.tar

Files are read without PyTorch, and nothing in them is run. See docs/conversion.md.
"""


def flag_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = OneLineParser(
        description="Converts published PyTorch checkpoints to one checkpoint of eamm_jax.",
        epilog=_EPILOG,
    )
    files = parser.add_argument_group("files (any of them)")
    for flag, words in FLAGS.values():
        files.add_argument(f"--{flag}", metavar="FILE", help=words)
    files.add_argument(
        "--pose_statistics",
        type=Path,
        metavar="FILE",
        help="mean and deviation of its outputs; default: param_mean_std_62d_120x120.pkl beside it",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="folder to be made (required unless --inspect)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a checkpoint that is in --output"
    )
    parser.add_argument(
        "--inspect", metavar="FILE", help="list what a PyTorch checkpoint holds, and do no more"
    )
    add_shared(parser, "quiet")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Parses the flags and runs; exits with the codes of `cli.tool`."""
    arguments = flag_parser().parse_args(argv)
    run(lambda: _job(arguments))


def _job(arguments: argparse.Namespace) -> None:
    given = vars(arguments)
    paths = {role: given[flag] for role, (flag, _) in FLAGS.items() if given[flag] is not None}
    if arguments.inspect is not None:
        if paths or arguments.output is not None:
            raise UserError("--inspect stands alone: give it without files to convert and --output")
        _inspect(arguments.inspect)
    elif arguments.output is None:
        raise UserError("--output is missing: name the folder to be made, e.g. checkpoints/eamm")
    elif not paths:
        flags = ", ".join(f"--{flag}" for flag, _ in FLAGS.values())
        raise UserError(f"Nothing to convert: give at least one of {flags}")
    elif not arguments.overwrite and any(Path(arguments.output).glob("*")):
        raise UserError(
            f"Cannot write the folder {arguments.output}: it exists and is not empty; "
            "name another, or replace the model in it with --overwrite"
        )
    elif arguments.pose_statistics is not None and arguments.pose_network is None:
        raise UserError("--pose_statistics goes with --pose_network, which is missing")
    else:
        _convert(paths, arguments)


def _convert(paths: dict[str, str], arguments: argparse.Namespace) -> None:
    # Nothing is computed; a GPU or TPU may be busy and need not be touched.
    start_jax(cpu=True)
    from rich.console import Console

    from eamm_jax.conversion.published import convert_files

    outputs = [Path(arguments.output)]
    InputFiles(Path(path) for path in paths.values()).check_kept(outputs, replaces_folders=True)
    console = Console(stderr=True, quiet=arguments.quiet)
    with console.status("reading") as status:
        report = convert_files(
            paths,
            arguments.output,
            pose_statistics=arguments.pose_statistics,
            overwrite=arguments.overwrite,
            progress=status.update,
        )
    if not arguments.quiet:
        _print_report(report, arguments.output, Console(soft_wrap=True))


def _print_report(report: Report, output: str, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    rows = [
        (name, network.source, network.tensors, network.parameters, network.bytes / MEGABYTE,
         sum(len(names) for names in network.unused.values()))
        for name, network in report.networks.items()
    ]  # fmt: skip
    totals = (sum(column) for column in list(zip(*rows, strict=True))[2:])
    table = Table("network", "from", title="Networks converted", title_justify="left")
    for column in ("tensors", "parameters", "MB", "unused"):
        table.add_column(column, justify="right")
    for name, source, tensors, parameters, size, unused in [*rows, ("total", "", *totals)]:
        cells = str(tensors), f"{parameters:,}", f"{size:.1f}", str(unused)
        table.add_row(name, Text(source), *cells, end_section=name == rows[-1][0])
    console.print(table)
    for line in _notes(report):
        console.print(line, markup=False, highlight=False)
    console.print(
        f"Wrote {output} in {report.seconds:.1f} s "
        f"(list it: python -m eamm_jax.checkpoint {shlex.quote(output)})",
        markup=False,
        highlight=False,
    )


def _notes(report: Report) -> list[str]:
    lines = []
    for source in report.sources:
        values = "".join(f", {name} {value}" for name, value in source.values.items())
        lines.append(
            f"{source.name}: {source.bytes / MEGABYTE:.1f} MB, {source.layout} format{values}"
        )
        lines.append(f"  sha256 {source.sha256}")
        for name, tensors in source.skipped.items():
            lines.append(f"  skipped {name} ({tensors} tensors)")
    for name, network in report.networks.items():
        for reason, names in network.unused.items():
            lines.append(f"{name}: tensors not used: {len(names)}, {reason}")
        for other, differing in network.copies.items():
            same = f"{len(differing)} tensors differ" if differing else "identical"
            lines.append(
                f"{name}: taken from {network.source}; the copy in {other} was left ({same})"
            )
    if report.discriminator is not None:
        lines.append(f"discriminator: {report.discriminator}")
    return lines


def _lines(tensors: Tensors) -> list[str]:
    from eamm_jax.errors import printable, shape_text

    return [
        f"  {printable(name)}  {shape_text(tensor.shape)}  {tensor.dtype}"
        for name, tensor in tensors.items()
    ]


def _inspect(path: str) -> None:
    # Lines and not a table: they are searched and piped, and names are long.
    from eamm_jax.conversion.contents import describe
    from eamm_jax.conversion.torch_tensors import walk_tensors
    from eamm_jax.errors import printable

    file, contents = describe(path)
    size = file.path.stat().st_size / MEGABYTE
    lines = [f"{path}: {size:.1f} MB, {file.layout} format; {contents.guess()}"]
    lines += [f"{name} = {value}" for name, value in contents.values.items()]
    for network, tensors in contents.networks.items():
        total = sum(tensor.size for tensor in tensors.values())
        lines.append(f"{network}: {len(tensors)} tensors, {total:,} values")
        lines += _lines(tensors)
    for name, state in contents.optimizers.items():
        lines.append(f"{printable(name)}: {len(list(walk_tensors(state)))} tensors, not converted")
    for name, value in contents.unknown.items():
        lines.append(f"{printable(name)}: not a known network")
        lines += _lines(dict(walk_tensors(value, name)))
    print_listing("\n".join(lines))


if __name__ == "__main__":
    main()
