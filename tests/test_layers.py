"""Imports inside the package go one way: from whole jobs down to the vocabulary."""

import ast
from pathlib import Path

import eamm_jax

PACKAGE = Path(eamm_jax.__file__).parent

# Highest first. A module may import from its own layer and from those below it.
LAYERS = [
    {"cli"},
    {"app", "evaluation", "export"},
    {"animate", "emotion_bank"},
    {"training"},
    {"input_pipeline"},
    {"conversion"},
    {"checkpoint"},
    {"faces"},
    {"models"},
    {"features"},
    {"io"},
    {"ops"},
    {"types", "constants", "errors", "bundled"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def part_of(path: Path) -> str:
    """The layer's name for a file: its first folder or its stem below the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == "eamm_jax":
                names = [f"eamm_jax.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        parts |= {n.split(".")[1] for n in names if n.startswith("eamm_jax.")}
    return parts


def test_every_module_has_a_layer():
    parts = {part_of(p) for p in PACKAGE.rglob("*.py")} - {"__init__", "__main__"}
    assert parts <= set(RANK), f"no layer for {sorted(parts - set(RANK))}"


def test_imports_go_downwards():
    upwards = []
    for path in PACKAGE.rglob("*.py"):
        part = "cli" if path.name == "__main__.py" else part_of(path)
        for target in imported_parts(path) - {part, "__version__"}:
            if part in RANK and RANK[target] < RANK[part]:
                upwards.append(f"{path.relative_to(PACKAGE)} imports {target}")
    assert not upwards, "\n".join(upwards)
