"""Nothing heavy is imported before the flags are parsed: help and wrong flags come at once."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

HEAVY = {
    "jax",
    "jaxlib",
    "flax",
    "numpy",
    "scipy",
    "librosa",
    "av",
    "PIL",
    "orbax",
    "grain",
    "rich",
}

PROGRAM = """
import importlib, sys
tool = importlib.import_module(sys.argv.pop(1))
try:
    tool.main()
except SystemExit as ended:
    print(ended.code)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize(
    "tool",
    ["infer", "train", "convert", "emotion_bank", "evaluate", "export", "studio"],
)
@pytest.mark.parametrize(("flag", "code"), [("--help", 0), ("--no_such_flag", 2)])
def test_flags_are_parsed_before_anything_heavy_is_imported(tool, flag, code):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"eamm_jax.cli.{tool}", flag],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    *_, ended, modules = done.stdout.splitlines()
    assert ended == str(code)
    assert not HEAVY & set(modules.split())


def test_install_hints_work_without_a_clone():
    hints = [
        f"{path.name}: {line.strip()}"
        for path in (ROOT / "eamm_jax").rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"pip install (-e|\.|--editable)|python \w+\.py", line)
        and not line.lstrip().startswith(("#", '"""'))
    ]
    assert not hints
