"""What every command shares: its parser, the devices it runs on, and how it ends.

Exit codes: 0 done; 1 some of many jobs failed; 2 bad input or a machine that cannot do it, said in
one line on standard error; 130 and 143 signals.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from eamm_jax import bundled
from eamm_jax.constants import DTYPES
from eamm_jax.errors import UserError, out_of_memory
from eamm_jax.io.runtime import enable_compilation_cache, keep_freed_memory

EXIT_SOME_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 128 + signal.SIGTERM

LARGEST_WHOLE_NUMBER = 2**63 - 1
"""Of seeds, counts and sizes: what a 64-bit integer holds."""

LARGEST_NUMBER = 1e6
"""Of weights, strengths and seconds; far beyond it float32 overflows."""

LARGEST_CHUNK = 10_000
"""Frames computed at a time; memory ends before."""

_SIGNAL_RETRY_SECONDS = 0.05


def program() -> str:
    """The command as the user typed it: `eamm-infer`, `python infer.py`, `python -m data.pack`."""
    module = sys.modules["__main__"].__spec__
    if module is not None:
        return f"python -m {module.name.removesuffix('.__main__')}"
    name = Path(sys.argv[0]).name
    return f"python {name}" if name.endswith(".py") else name


def whole_number(low: int = 0, high: int = LARGEST_WHOLE_NUMBER) -> Callable[[str], int]:
    """The type of a flag that takes a whole number within limits."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not low <= value <= high:
            most = "" if high == LARGEST_WHOLE_NUMBER else f" to {high}"
            raise argparse.ArgumentTypeError(
                f"{text} is out of range; give a whole number from {low}{most}"
            )
        return value

    return read


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not math.isfinite(value) or abs(value) > LARGEST_NUMBER:
        raise argparse.ArgumentTypeError(
            f"{text} is out of range; give a number from {-LARGEST_NUMBER:.0f} to "
            f"{LARGEST_NUMBER:.0f}"
        )
    return value


def on_or_off(text: str) -> bool:
    """The type of a flag that is on or off, where neither is the default."""
    if text not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither on nor off")
    return text == "on"


_SWITCH = {"action": "store_true", "default": False}

SHARED_FLAGS: dict[str, dict[str, Any]] = {
    "checkpoint": {
        "type": Path,
        "default": bundled.MODEL,
        "metavar": "DIR",
        "help": "model: folder written by eamm-convert or eamm-train; default: the one that "
        "comes with the package",
    },
    "overwrite": {**_SWITCH, "help": "replace what is in --output"},
    "chunk": {
        "type": whole_number(1, LARGEST_CHUNK),
        "default": 8,
        "metavar": "N",
        "help": "frames computed at a time; default: %(default)s",
    },
    "dtype": {
        "choices": DTYPES,
        "default": "float32",
        "help": "what the networks compute in; default: %(default)s",
    },
    "cpu": {**_SWITCH, "help": "use the CPU even if there is a GPU"},
    "quiet": {**_SWITCH, "help": "print errors only"},
}
"""Those that mean the same in several commands."""


class OneLineParser(argparse.ArgumentParser):
    """Answers a wrong flag with one line instead of the whole usage.

    Flags of type `int` take what `whole_number` takes, and those of type `float` finite numbers.
    """

    _raises = False

    def __init__(self, **options: Any):
        defaults = {
            "prog": program(),
            "formatter_class": argparse.RawDescriptionHelpFormatter,
            "allow_abbrev": False,
        }
        super().__init__(**{**defaults, **options})
        self.register("type", int, whole_number())
        self.register("type", float, _number)

    @property
    def flags(self) -> dict[str, argparse.Action]:
        """What each flag does, by its name without `--`."""
        return {
            option.removeprefix("--"): action
            for option, action in self._option_string_actions.items()
        }

    def parse_words(self, words: Sequence[str]) -> argparse.Namespace:
        """Parses words that are not the tool's own command line.

        Raises:
            UserError: a flag is wrong.
        """
        self._raises = True
        try:
            return self.parse_args(words)
        finally:
            self._raises = False

    def error(self, message: str) -> NoReturn:
        """Exits with the code for bad input."""
        if self._raises:
            raise UserError(message)
        self.exit(EXIT_BAD_INPUT, f"error: {message} (see {self.prog} --help)\n")


def add_shared(target: Any, *names: str) -> None:
    """Adds flags of `SHARED_FLAGS` to a parser or to one of its groups."""
    for name in names:
        target.add_argument(f"--{name}", **SHARED_FLAGS[name])


def fields_of(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that are fields of a dataclass; flags are called as they are."""
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: values[name] for name in names if name in values}


def start_jax(*, cpu: bool = False) -> None:
    """Has JAX find its devices before anything else could fail for want of them.

    Compiled programs are kept in the user's cache.

    Args:
        cpu: use the CPU even if there is an accelerator.

    Raises:
        UserError: there is no such backend or device here, or its driver does not work.
    """
    import jax

    if cpu:
        jax.config.update("jax_platforms", "cpu")
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts where no plugin is installed
        wanted = os.environ.get("JAX_PLATFORMS")
        asked = f" for JAX_PLATFORMS={wanted}" if wanted else ""
        reason = " ".join(str(error).split()) or "no plugin for it is installed"
        raise UserError(
            f"JAX finds no device{asked}: {reason}; set JAX_PLATFORMS=cpu to run on the CPU"
        ) from error
    if jax.default_backend() == "cpu":
        keep_freed_memory()
    enable_compilation_cache()


def print_listing(text: str) -> None:
    """Prints many lines, of which a reader such as `head` may see a part only."""
    try:
        print(text, flush=True)
    except OSError as error:
        # Keeps Python from complaining when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise UserError(f"Cannot write to standard output: {error.strerror}") from error


def _complain(words: str) -> None:
    """Prints to standard error, if anything can be written there."""
    with suppress(OSError):
        print(words, file=sys.stderr)


def run(job: Callable[[], int | None]) -> NoReturn:
    """Runs a command's job and exits with its code, 0 if it has none."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As on standard error: names of files need not be text in any encoding.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _ended_by_signals():
            code = job()
    except UserError as error:
        _complain(f"error: {error}")
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        _complain("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except (MemoryError, RuntimeError) as error:
        words = out_of_memory(error)
        if words is None:
            raise
        _complain(f"error: {words}")
        sys.exit(EXIT_BAD_INPUT)
    sys.exit(code or 0)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Has SIGTERM end the process by an exception while the block lasts."""
    handler, hook = signal.signal(signal.SIGTERM, _terminate), sys.unraisablehook
    sys.unraisablehook = _keep_signals
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, handler)


def _terminate(signum: int, _frame: FrameType | None) -> NoReturn:
    # As an exception, so that half-written files are removed on the way out.
    raise SystemExit(128 + signum)


def _keep_signals(unraisable: sys.UnraisableHookArgs) -> None:
    """Sends a signal again whose exception Python dropped.

    Handlers run between any two instructions. In a finalizer or a callback of the garbage
    collector Python reports an exception and goes on, and the process would not end.
    """
    error = unraisable.exc_value
    if isinstance(error, KeyboardInterrupt):
        dropped = signal.SIGINT
    elif isinstance(error, SystemExit) and error.code == EXIT_TERMINATED:
        dropped = signal.SIGTERM
    else:
        sys.__unraisablehook__(unraisable)
        return
    # Later and from elsewhere: here it would be dropped again.
    again = threading.Timer(_SIGNAL_RETRY_SECONDS, os.kill, (os.getpid(), dropped))
    again.daemon = True
    again.start()
