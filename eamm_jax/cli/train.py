"""`train.py`, `eamm-train`: configuration + data -> a work directory with trained networks."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from absl import flags
from ml_collections import ConfigDict, config_flags

import eamm_jax
from eamm_jax.cli.tool import program, run, start_jax
from eamm_jax.errors import UserError

EXIT_DIVERGED = 3
"""Too many steps were not finite (`max_bad_steps`)."""

_PACKAGE = Path(eamm_jax.__file__).parent

_CONFIGURATIONS = next(
    folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir()
)
"""Those that come with the project: inside an installed package, beside it in a clone."""

HELP = """\
Trains one stage of the system. If the work directory contains a checkpoint, training resumes
from it: run the same command again.

  {program} --config=stage1 --config.data=lrw=/data/LRW \\
      --init_from=weights --workdir=runs/stage1

Configurations that come with the project: {configurations}.

Flags ({required} are required):
{flags}
  --config.FIELD: any field of the configuration, such as --config.batch_size=32

Exit codes: 0 done, or stopped by SIGTERM with a checkpoint saved; 2 bad input; 3 too many steps
with a loss that is not finite; 130 interrupted; anything else is a failure of this process or of
a peer.
"""

_REQUIRED = {
    "config": "what to train, such as --config=stage1",
    "workdir": "the folder for checkpoints, to resume from if it has one",
}

_EXPECTED = {
    "invalid literal for int()": "a whole number",
    "could not convert string to float": "a number",
    "Non-boolean argument": "true or false",
}
"""What a value must be, by the words of the parser that refused it."""


class Flags(NamedTuple):
    """What the command line said."""

    config: ConfigDict
    workdir: str
    init_from: str | None
    coordinator: str | None
    num_processes: int | None
    process_id: int | None


def _define() -> flags.FlagValues:
    defined = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config",
        None,
        "what to train: the name of a configuration or a file, with :VARIANT if wanted",
        flag_values=defined,
    )
    for name, words in (
        ("workdir", "where checkpoints, networks and metrics are saved; made if need be"),
        ("init_from", "networks trained before: a converted checkpoint or a work directory"),
        ("coordinator", "host:port of process 0, where nothing in the environment tells it"),
    ):
        flags.DEFINE_string(name, None, words, flag_values=defined)
    for name, words in (
        ("num_processes", "processes in the run (with --coordinator)"),
        ("process_id", "which of them this is, from 0 (with --coordinator)"),
    ):
        flags.DEFINE_integer(name, None, words, flag_values=defined)
    return defined


def parse(argv: Sequence[str]) -> Flags:
    """Reads the command line, the configuration file it names and the fields it overrides.

    Args:
        argv: the program and its arguments.

    Raises:
        UserError: a flag, a file or a field that is wrong or missing.
    """
    defined = _define()
    if {"--help", "-h", "-help"} & set(argv):
        _print_help(defined)
    try:
        rest = defined(_with_config_file(argv))
        if defined["config"].value is not None:
            # A file that cannot be loaded is only reported where the value is used.
            defined["config"].value.get("stage")
    except flags.Error as error:
        raise UserError(_flag_error(str(error))) from error
    except OSError as error:
        raise UserError(
            f"Cannot read the configuration {_config_path(argv)}; give a file, or one of "
            f"{_configurations()}"
        ) from error
    except (AttributeError, KeyError) as error:
        raise UserError(_field_error(str(error))) from error
    except UserError:
        raise
    except Exception as error:  # whatever the file did when it was run
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"The configuration {_config_path(argv)} fails: {what}") from error
    if len(rest) > 1:
        raise UserError(f"{rest[1]!r} is not a flag; flags begin with -- (see {program()} --help)")
    for name, words in _REQUIRED.items():
        if not defined[name].value:
            raise UserError(f"--{name} is required: {words} (see {program()} --help)")
    values: dict[str, Any] = {name: defined[name].value for name in Flags._fields}
    return Flags(**values)


def _print_help(defined: flags.FlagValues) -> NoReturn:
    lines = "\n".join(f"  --{name}: {defined[name].help}" for name in Flags._fields)
    required = " and ".join(f"--{name}" for name in _REQUIRED)
    shown = HELP.format(
        program=program(), configurations=_configurations(), flags=lines, required=required
    )
    print(shown, end="")
    sys.exit(0)


def _flag_error(message: str) -> str:
    wrong_value = re.match(r"flag --([\w.]+)=(.*?): (.*)", message, re.DOTALL)
    if not wrong_value:
        return f"{message} (see {program()} --help)"
    name, value, reason = wrong_value.groups()
    for words, expected in _EXPECTED.items():
        if words in reason:
            return f"--{name} is {value!r}; it must be {expected}"
    return f"--{name} is {value!r}: {' '.join(reason.split())}"


def _field_error(message: str) -> str:
    field = re.search(r"\w+", message)
    near = re.search(r'Did you mean "(\w+)"', message)
    hint = f"did you mean --config.{near[1]}?" if near else "see the configuration file"
    return f"--config.{field[0] if field else ''} is no field of the configuration; {hint}"


def _configurations() -> str:
    return ", ".join(sorted(path.stem for path in _CONFIGURATIONS.glob("*.py")))


def _config_place(argv: Sequence[str]) -> int | None:
    """Which argument holds the value of --config, with or without the flag's name."""
    for place, argument in enumerate(argv):
        if argument.startswith(("--config=", "-config=")):
            return place
        if argument in ("--config", "-config") and place + 1 < len(argv):
            return place + 1
    return None


def _config_path(argv: Sequence[str]) -> str:
    place = _config_place(argv)
    return "file" if place is None else argv[place].partition("=")[2] or argv[place]


def _with_config_file(argv: Sequence[str]) -> list[str]:
    """Replaces the name of a configuration that comes with the project by its file."""
    words, place = list(argv), _config_place(argv)
    if place is not None:
        value = _config_path(argv)
        name, colon, variant = value.partition(":")
        file = _CONFIGURATIONS / f"{name}.py"
        if Path(name).name == name and file.is_file() and not Path(name).is_file():
            flag = words[place].removesuffix(value)
            words[place] = f"{flag}{file}{colon}{variant}"
    return words


def _train(given: Flags) -> None:
    from eamm_jax.training import distributed

    distributed.initialize(given.coordinator, given.num_processes, given.process_id)
    start_jax()

    from eamm_jax.io.cache import enable_compilation_cache
    from eamm_jax.training.loop import train
    from eamm_jax.training.metrics import DivergedError

    enable_compilation_cache()
    with distributed.ends_with_its_peers():
        try:
            train(given.config, given.workdir, given.init_from)
        except DivergedError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(EXIT_DIVERGED)


def main() -> None:
    """Parses the flags and trains."""
    run(lambda: _train(parse(sys.argv)))
