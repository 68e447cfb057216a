"""Nothing heavy is imported before the flags are parsed: help and wrong flags come at once."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.conftest import ROOT

HEAVY = {
    "jax",
    "jaxlib",
    "flax",
    "numpy",
    "scipy",
    "av",
    "PIL",
    "orbax",
    "grain",
    "rich",
}

TOOLS = ("checkpoint", "infer", "convert", "emotion_bank", "evaluate", "export", "studio", "train")

PROGRAM = """
import contextlib, importlib, io, sys
tools = sys.argv[1:]
for tool in tools:
    main = importlib.import_module("eamm_jax.cli." + tool).main
    for flag in ("--help", "--no_such_flag"):
        sys.argv[1:] = [flag]
        shown = io.StringIO()
        try:
            with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
                main()
        except SystemExit as ended:
            print(tool, flag, ended.code, *sorted({m.partition(".")[0] for m in sys.modules}))
"""


def test_flags_are_parsed_before_anything_heavy_is_imported():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *TOOLS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 2 * len(TOOLS)
    for tool, flag, code, *modules in lines:
        assert code == {"--help": "0", "--no_such_flag": "2"}[flag]
        assert not HEAVY & set(modules), (tool, flag)


def test_install_hints_work_without_a_clone():
    hints = [
        f"{path.name}: {line.strip()}"
        for path in (ROOT / "eamm_jax").rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"pip install (-e|\.|--editable)|python \w+\.py", line)
        and not line.lstrip().startswith(("#", '"""'))
    ]
    assert not hints
