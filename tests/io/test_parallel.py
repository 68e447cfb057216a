"""Jobs in a pool of processes: how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from eamm_jax.io.parallel import run_parallel
from tests.data.test_pack import REPOSITORY

SLEEPERS = textwrap.dedent(
    """
    import os, sys, time
    from contextlib import closing
    from pathlib import Path
    from eamm_jax.io.parallel import run_parallel
    from eamm_jax.cli.tool import run

    def sleep(path):
        Path(path).write_text(str(os.getpid()))
        time.sleep(600)

    def main():
        with closing(run_parallel(sleep, [f"{sys.argv[1]}/{n}" for n in range(9)], 2)) as done:
            list(done)

    if __name__ == "__main__":
        run(main)
    """
)


def fail_at_two(number: int) -> int:
    if number == 2:
        raise ValueError("two")
    return number


def test_results_come_with_their_items_and_a_failure_ends_all():
    assert sorted(run_parallel(abs, [-1, -2, -3], 2)) == [(-3, 3), (-2, 2), (-1, 1)]
    with pytest.raises(ValueError, match="two"):
        list(run_parallel(fail_at_two, range(9), 2))


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_jobs_that_have_long_to_go(tmp_path, name, code):
    script, pids = tmp_path / "sleepers.py", tmp_path / "pids"
    script.write_text(SLEEPERS)
    pids.mkdir()
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    # What is started in a shell's background ignores Ctrl-C, and so would its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, script, pids], env=env, stderr=subprocess.PIPE, text=True
    )
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 60
    while len(list(pids.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in said
    started = list(pids.iterdir())
    assert len(started) == 2
    for path in started:
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)
