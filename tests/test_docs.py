"""What the documentation names exists: links, commands, flags, modules, sections."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import os
import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from functools import cache
from io import StringIO
from pathlib import Path
from unittest import mock

import pytest

from eamm_jax.cli import train
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "eamm_jax/bundled/**/*.md")
    for path in ROOT.glob(pattern)
)
CURRENT_PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""The change log may name what is gone."""

SOURCES = ("eamm_jax", "data", "configs", "benchmarks", "tests")

OTHER_TOOLS = {
    *("--no-deps", "--gpus-per-task", "--signal", "--logdir"),
    "--allow-loopback-in-peer-connection",
}
"""Flags in the prose that belong to pip, SLURM, TensorBoard and Chromium."""

ANYTHING_ELSE = "..."
"""Stands in commands for flags that are left out."""


def text_of(page: Path) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def code_blocks(page: Path) -> list[tuple[str, str]]:
    """Fenced blocks with their languages, and indented ones."""
    text = text_of(page)
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"(?:^ {4}.*\n)+", rest, re.MULTILINE)
    return [*fenced, *(("", block) for block in indented)]


def inline_code(page: Path) -> list[str]:
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


def commands(page: Path) -> Iterator[list[str]]:
    """Command lines of this project that a page shows, as words."""
    programs = ("python ", *PROJECT["scripts"])
    shown = [block for language, block in code_blocks(page) if language in ("", "sh")]
    for block in [*shown, *inline_code(page)]:
        text = re.sub(r"\\\n", " ", block)
        for name, value in re.findall(r"^\s*(\w+)=[\"']?(.*?)[\"']?$", text, re.MULTILINE):
            text = re.sub(rf"\${name}\b", lambda _, value=value: value, text)
        for line in text.splitlines():
            for piece in re.split(r";|&&|\||\s#\s", line):
                start = min((piece.find(p) for p in programs if p in piece), default=-1)
                if start >= 0 and (start == 0 or piece[start - 1] in ' "'):
                    yield [*shlex.split(piece[start:].rstrip('" '))]


def all_commands() -> list[tuple[Path, str]]:
    found = {(page, shlex.join(words)) for page in CURRENT_PAGES for words in commands(page)}
    return sorted((page, command) for page, command in found if not command.startswith("python -c"))


class ParsedError(BaseException):
    """The flags were accepted; what they ask for is not done. No handler of errors stops it."""


@contextmanager
def stopped_after_parsing(words: list[str]) -> Iterator[None]:
    """A program that runs inside gets these words, and ends once it has parsed them."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, args=None, namespace=None):
        parse(parser, args, namespace)
        raise ParsedError

    with (
        mock.patch.dict(os.environ),
        mock.patch.object(sys, "path", [*sys.path]),
        mock.patch.object(sys, "argv", words),
        mock.patch.object(argparse.ArgumentParser, "parse_args", parse_and_stop),
    ):
        yield


def program_file(words: list[str]) -> tuple[Path, list[str]]:
    """The file that `python` would run, and its flags."""
    if words[0] in PROJECT["scripts"]:
        module = PROJECT["scripts"][words[0]].partition(":")[0]
        return ROOT / f"{module.replace('.', '/')}.py", words[1:]
    if words[1] != "-m":
        assert (ROOT / words[1]).is_file(), f"there is no file {words[1]}"
        return ROOT / words[1], words[2:]
    name = words[2]
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{name}.__main__")
    assert spec is not None, f"there is no module {name}"
    assert spec.origin is not None
    path = Path(spec.origin)
    assert "__main__" in path.read_text(encoding="utf-8") or path.name == "__main__.py", (
        f"python -m {name} does nothing"
    )
    return path, words[3:]


def run_program(words: list[str]) -> None:
    """Runs what a shell would run, until the flags are parsed."""
    path, flags = program_file(words)
    with stopped_after_parsing([path.name, *flags]):
        if words[0] in PROJECT["scripts"]:
            module, _, function = PROJECT["scripts"][words[0]].partition(":")
            getattr(importlib.import_module(module), function)()
        else:
            runpy.run_path(str(path), run_name="__main__")


def is_training(words: list[str]) -> bool:
    return words[:2] == ["python", "train.py"] or words[0] == "eamm-train"


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_and_pictures_resolve(page):
    text = re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    for target in targets:
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page.parent / name).resolve() if name else ROOT / page
        assert path.is_relative_to(ROOT), f"{target} leaves the repository"
        assert path.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in anchors(path), f"{target}: no such heading"


def anchors(path: Path) -> set[str]:
    """Those that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.filterwarnings("ignore:the load_module")  # of ml_collections
@pytest.mark.parametrize(("page", "command"), all_commands(), ids=str)
def test_commands_parse(page, command, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = ["0" if word.startswith("$") else word for word in shlex.split(command)]
    complete = ANYTHING_ELSE not in words
    words = [word for word in words if word != ANYTHING_ELSE]
    if not any(word.startswith("--") for word in words):
        program_file(words)
        return
    if is_training(words):
        given = words[1:] if words[0] == "python" else words
        if not complete:
            for flag in ("--config=configs/stage1.py", "--workdir=runs"):
                given += [] if any(word.startswith(flag[:9]) for word in given) else [flag]
        train.parse(given[1:])
        return
    with pytest.raises((ParsedError, SystemExit)) as stopped:
        run_program(words)
    assert stopped.type is ParsedError or stopped.value.code == 0  # --help


@cache
def known_flags() -> frozenset[str]:
    """Flags of every program that the pages show."""
    flags = {f"--{name}" for name in train.flag_parser().flags}
    programs = set()
    for _, command in all_commands():
        words = shlex.split(command)
        if not is_training(words):
            programs.add(tuple(words[: 1 if words[0] != "python" else 3 if "-m" in words else 2]))
    for program in sorted(programs):
        with redirect_stdout(StringIO()) as shown, suppress(SystemExit):
            run_program([*program, "--help"])
        flags |= set(re.findall(r"--[a-z][\w-]*", shown.getvalue()))
    return frozenset(flags)


@cache
def config_fields() -> frozenset[str]:
    from configs import stage0, stage1, stage1_finetune, stage2

    stages = (stage0, stage1, stage1_finetune, stage2)
    return frozenset(name for stage in stages for name in stage.get_config())


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=str)
def test_flags_in_the_prose_exist(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for code in inline_code(page):
        for flag in re.findall(r"(?<![\w-])--[a-z][\w.-]*", code):
            if flag.startswith("--config."):
                assert flag.removeprefix("--config.") in {*config_fields(), "FIELD"}, code
            else:
                assert flag in known_flags() | OTHER_TOOLS, code


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=str)
def test_modules_in_the_prose_exist(page):
    paths = [f"/{path.relative_to(ROOT)}" for folder in SOURCES for path in python_files(folder)]
    paths += [f"/{path.name}" for path in ROOT.glob("*.py")]
    for code in inline_code(page):
        for name in re.findall(r"^[\w/]+\.py(?=$|:)", code):
            assert any(path.endswith(f"/{name}") for path in paths), code


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=str)
def test_python_snippets_import_what_exists(page):
    for language, block in code_blocks(page):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for name in node.names:
                    assert hasattr(module, name.name), f"{node.module} has no {name.name}"


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=str)
def test_extras_and_make_targets_exist(page):
    text = text_of(page)
    for extras in re.findall(r"pip install[^\n`]*?\[([\w,]+)\]", text):
        assert set(extras.split(",")) <= {*PROJECT["optional-dependencies"], "k8s"}, extras
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make ([a-z-]+)(?:`|$)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_readme_lists_every_extra_for_users():
    """Extras that the table of requirements leaves out cannot be found."""
    (row,) = [
        line for line in (ROOT / "README.md").read_text().splitlines() if "| extras |" in line
    ]
    accelerators = {"cuda", "cuda12", "tpu"}  # a row of their own
    expected = set(PROJECT["optional-dependencies"]) - accelerators - {"test", "dev"}
    assert expected == set(re.findall(r"`(\w+)`", row))


def test_cited_sections_of_the_architecture_page_exist():
    page = (ROOT / "docs/architecture.md").read_text()
    headings = set(re.findall(r"^## (\d+)\.", page, re.MULTILINE))
    cited = re.compile(r"docs/architecture\.md`?,?\s+sections?\s+(\d+)(?:\s+and\s+(\d+))?")
    for folder in SOURCES:
        for path in python_files(folder):
            for numbers in cited.findall(path.read_text(encoding="utf-8")):
                missing = set(filter(None, numbers)) - headings
                assert not missing, f"{path.relative_to(ROOT)} cites section {missing}"
