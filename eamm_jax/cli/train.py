"""`train.py`, `eamm-train`: configuration + data -> a work directory with trained networks."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

import eamm_jax
from eamm_jax.cli.tool import OneLineParser, program, run, start_jax
from eamm_jax.errors import UserError

EXIT_DIVERGED = 3
"""Too many steps were not finite (`max_bad_steps`)."""

_PACKAGE = Path(eamm_jax.__file__).parent

_CONFIGURATIONS = next(
    folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir()
)
"""Those that come with the project: inside an installed package, beside it in a clone."""

DESCRIPTION = """\
Trains one stage of the system. If the work directory contains a checkpoint, training resumes
from it: run the same command again."""

EPILOG = """\
  --config.FIELD VALUE  any field of the configuration, such as --config.batch_size=32

example:
  %(prog)s --config=stage1 --config.data=lrw=/data/LRW \\
      --init_from=weights --workdir=runs/stage1

Configurations that come with the project: {configurations}.

Exit codes: 0 done, or stopped by SIGTERM with a checkpoint saved; 2 bad input; 3 too many steps
with a loss that is not finite; 130 interrupted; anything else is a failure of this process or of
a peer.
"""

_EXPECTED = {
    "invalid literal for int()": "a whole number",
    "could not convert string to float": "a number",
    "Non-boolean argument": "true or false",
}
"""What a value must be, by the words of the parser that refused it."""


def flag_parser() -> OneLineParser:
    """The flags of this command but for the fields of the configuration."""
    parser = OneLineParser(
        description=DESCRIPTION, epilog=EPILOG.format(configurations=_configurations())
    )
    parser.add_argument(
        "--config",
        required=True,
        metavar="NAME",
        help="what to train: the name of a configuration or a file, with :VARIANT if wanted",
    )
    parser.add_argument(
        "--workdir",
        required=True,
        metavar="DIR",
        help="where checkpoints, networks and metrics are saved, made if need be; may be on gs://",
    )
    parser.add_argument(
        "--init_from",
        metavar="DIR",
        help="networks trained before: a converted checkpoint or a work directory",
    )
    parser.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="of process 0, where nothing in the environment tells it",
    )
    parser.add_argument(
        "--num_processes", type=int, metavar="N", help="in the run (with --coordinator)"
    )
    parser.add_argument(
        "--process_id", type=int, metavar="N", help="of this one, from 0 (with --coordinator)"
    )
    return parser


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Reads the command line, the configuration file it names and the fields it overrides.

    Args:
        words: of the command line, without the program.

    Returns:
        The flags; `config` is the configuration.

    Raises:
        UserError: a file or a field that is wrong or missing.
    """
    given, fields = flag_parser().parse_known_args(words)
    defined, file = flags.FlagValues(), _file_of(given.config)
    command = ["train", f"--config={file}", *fields]
    config_flags.DEFINE_config_file("config", flag_values=defined, sys_argv=command)
    try:
        rest = defined(command)[1:]
        # A file that cannot be loaded is only reported where the value is used.
        config: Any = defined["config"].value
        config.get("stage")
    except flags.Error as error:
        raise UserError(_flag_error(str(error))) from error
    except OSError as error:
        raise UserError(
            f"Cannot read the configuration {given.config}; give a file, or one of "
            f"{_configurations()}"
        ) from error
    except (AttributeError, KeyError) as error:
        raise UserError(_field_error(str(error))) from error
    except UserError:
        raise
    except Exception as error:  # whatever the file did when it was run
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"The configuration {given.config} fails: {what}") from error
    if rest:
        raise UserError(f"{rest[0]!r} is not a flag; flags begin with -- (see {program()} --help)")
    given.config = config
    return given


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


def _file_of(config: str) -> str:
    """The file of a configuration that comes with the project; any other path as it is."""
    name, colon, variant = config.partition(":")
    file = _CONFIGURATIONS / f"{name}.py"
    if Path(name).name == name and file.is_file() and not Path(name).is_file():
        return f"{file}{colon}{variant}"
    return config


def _train(words: Sequence[str]) -> None:
    given = parse(words)
    from eamm_jax.training import distributed

    distributed.initialize(given.coordinator, given.num_processes, given.process_id)
    start_jax()

    from eamm_jax.training.loop import train
    from eamm_jax.training.metrics import DivergedError

    with distributed.ends_with_its_peers():
        try:
            train(given.config, given.workdir, given.init_from)
        except DivergedError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(EXIT_DIVERGED)


def main() -> None:
    """Parses the flags and trains."""
    run(lambda: _train(sys.argv[1:]))


if __name__ == "__main__":
    main()
