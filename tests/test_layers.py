"""Imports go one way, from whole jobs down to the vocabulary, and take public names only."""

import ast
from pathlib import Path

import eamm_jax

PACKAGE = Path(eamm_jax.__file__).parent
ROOT = PACKAGE.parent

CHECKED = ("eamm_jax", "data", "configs", "benchmarks", "tests")
"""Folders whose modules use each other's public names only."""

PUBLIC_UNDERSCORES = {"_replace", "_asdict", "_fields", "_make", "_exit"}

# Highest first. A module may import from its own layer and from those below it.
LAYERS = [
    {"cli"},
    {"app", "evaluation", "export"},
    {"animate"},
    {"training"},
    {"input_pipeline"},
    {"conversion"},
    {"checkpoint"},
    {"faces"},
    {"models"},
    {"features"},
    {"provenance"},
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


def private_reaches(path: Path) -> list[str]:
    """Underscore names that a file takes from another: `x._name`, `from module import _name`.

    A file may use the private names of its own classes on any object. `NamedTuple` spells its
    public methods with an underscore, and `os._exit` is documented.
    """
    nodes = list(ast.walk(ast.parse(path.read_text())))
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    own = {
        node.attr
        for node in attributes
        if isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
    }
    own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    own |= {node.target.id for node in nodes
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}  # fmt: skip
    reaches = []
    for node in nodes:
        if isinstance(node, ast.Attribute):
            names = [] if node.attr in own | PUBLIC_UNDERSCORES else [node.attr]
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
        else:
            continue
        reaches += [
            f"{path.relative_to(ROOT)}:{node.lineno}: {name}"
            for name in names
            if name.startswith("_") and not name.startswith("__")
        ]
    return reaches


def test_no_module_uses_the_underscore_names_of_another():
    paths = [path for folder in CHECKED for path in sorted((ROOT / folder).rglob("*.py"))]
    reaches = [reach for path in paths for reach in private_reaches(path)]
    assert not reaches, "\n".join(reaches)


def test_a_private_use_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.test_layers.ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text(
        "from other import _hidden, shown\n"
        "class Own:\n"
        "    def __init__(self, other: 'Own'):\n"
        "        self._mine = other._mine + shown._theirs\n"
        "        self.pair = shown.pair._replace(a=1)\n"
    )
    assert private_reaches(path) == ["module.py:1: _hidden", "module.py:4: _theirs"]
