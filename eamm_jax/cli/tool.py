"""How every tool ends: 0 done, 2 bad input (one line on standard error), 130 and 143 signals.

Where one of many jobs failed and the others were done it is 1.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from eamm_jax.errors import UserError

EXIT_SOME_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 128 + signal.SIGTERM


def _terminate(signum: int, _frame: FrameType | None) -> NoReturn:
    # As an exception, so that half-written files are removed on the way out.
    raise SystemExit(128 + signum)


def program() -> str:
    """The command as the user typed it: `eamm-infer`, or `python infer.py` in a clone."""
    name = Path(sys.argv[0]).name
    return f"python {name}" if name.endswith(".py") else name


class OneLineParser(argparse.ArgumentParser):
    """Answers a wrong flag with one line instead of the whole usage."""

    _raises = False

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


def run(job: Callable[[], int | None]) -> NoReturn:
    """Runs a tool's job and exits with its code, 0 if it has none; users see words."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = job()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(code or 0)
