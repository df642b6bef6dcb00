"""The order of the library: a folder imports only those above it in README's tree; no files import in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import medstudy

PACKAGE = Path(medstudy.__file__).parent
LAYERS = (
    "errors", "paths", "utils", "imaging", "resolution", "data", "datasets", "params", "engine", "models", "runs",
    "training", "pretraining", "evaluation", "statistics", "scoring", "bounds", "claims", "report", "costs", "workflow",
    "cli", "__main__",
)
FILES = sorted(path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
LONGEST = 350  # lines of a file


def module(path: Path) -> str:
    """medstudy/data/readers/__init__.py -> medstudy.data.readers"""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path) for path in FILES}


def imports(path: Path) -> set[str]:
    """The library's modules that a file imports, at its top and inside its functions."""
    modules = set()
    for node in ast.walk(ast.parse((PACKAGE.parent / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules |= {name if name in MODULES else node.module for name in names}
    return modules & MODULES - {module(path)}


def layer(name: str) -> int:
    return LAYERS.index(name.split(".")[1])


def test_every_file_has_a_layer():
    assert {name.split(".")[1] for name in MODULES} == set(LAYERS)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_imports_only_its_own_layer_and_those_above(path: Path):
    below = {name for name in imports(path) if layer(name) > layer(module(path))}
    assert not below, f"{path} imports {', '.join(sorted(below))}, which stand below it. Move the shared part up."


def test_no_files_import_each_other_in_a_circle():
    graph = {module(path): imports(path) for path in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"These files import each other in a circle: {' -> '.join(error.args[1])}.")


def test_no_file_is_too_long():
    lines = {str(path): len((PACKAGE.parent / path).read_text(encoding="utf-8").splitlines()) for path in FILES}
    long = {path: number for path, number in lines.items() if number > LONGEST}
    assert not long, f"A file of the library has at most {LONGEST} lines; split {long}."
