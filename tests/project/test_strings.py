"""Strings that name a module or file of the package resolve; without this test a move would break them silently."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec

import pytest

from medstudy import paths
from medstudy.runs import stages
from medstudy.workflow import kernel_server

CODE = sorted(file for folder in ("medstudy", "tests", "benchmarks") for file in (paths.ROOT / folder).rglob("*.py"))
TEXTS = [
    *CODE, paths.SNAKEFILE, *(paths.ROOT / name for name in ("Makefile", "README.md", "CONTRIBUTING.md", ".ci/run")),
    *sorted((paths.ROOT / "docs").rglob("*.md")), *sorted(paths.NOTEBOOKS.rglob("*.ipynb")),
]
NO_MODULES = ("medstudy.json", "medstudy.wall", "medstudy.nothing", "medstudy.x")  # names of files, and of no module
IMPORT = re.compile(r"from (medstudy(?:\.\w+)*) import (\w[\w ]*(?:, *\w[\w ]*)*)")
OTHERS = {"interface.py"}  # of flash-attn
TEXTS.remove(paths.ROOT / "tests" / "utils" / "test_syntax.py")  # its code is a sample
IDS = [str(file.relative_to(paths.ROOT)) for file in TEXTS]


def resolves(name: str) -> bool:
    """Whether a dotted name is a module of the package, or what a module defines at its top level."""
    place, parts = paths.PACKAGE, name.split(".")[1:]
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    if not parts:
        return True
    file = place / f"{parts[0]}.py"
    file, attributes = (file, parts[1:]) if file.is_file() else (place / "__init__.py", parts)
    return not attributes or attributes[0] in top_level(file)


def top_level(file) -> set[str]:
    if not file.is_file():
        return set()
    names: set[str] = set()
    for node in ast.parse(file.read_bytes()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return names


def constants(file) -> list[str]:
    """Every string constant in a Python file, parts of f-strings too."""
    nodes = ast.walk(ast.parse(file.read_bytes()))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.mark.parametrize("file", TEXTS, ids=IDS)
def test_every_module_and_file_that_a_text_names_exists(file):
    """As in `python -m medstudy.x`, setattr("medstudy.x.y"), code in texts and paths of files."""
    text = file.read_text(encoding="utf-8")
    texts = constants(file) if file.suffix == ".py" else [text]
    names = {name for part in texts for name in re.findall(r"(?<![\w./-])medstudy(?:\.[a-z_]\w*)+", part)}
    imports = [(module, name) for module, names_ in IMPORT.findall(text) for name in names_.split(",")]
    names |= {f"{module}.{name.split()[0]}" for module, name in imports}
    assert not [name for name in names if not name.startswith(NO_MODULES) and not resolves(name)]
    files = set(re.findall(r"(?<![\w./-])medstudy/[\w/*-]+\.\w+", text))
    assert not [name for name in files if not list(paths.ROOT.glob(name))]


@pytest.mark.parametrize("file", [file for file in CODE if paths.PACKAGE in file.parents], ids=lambda file: file.stem)
def test_every_pattern_of_python_files_matches_one(file):
    """Such patterns define what a hash covers; most are read only where that hash is needed."""
    patterns = {text for text in constants(file) if re.fullmatch(r"[\w/*]+\.py", text)} - OTHERS
    assert not [pattern for pattern in patterns if not list(paths.PACKAGE.glob(pattern))]


def test_the_kernel_server_preloads_modules_that_exist():
    assert all(find_spec(name) for name in kernel_server.PRELOAD)


def test_every_figure_has_its_module():
    assert all(find_spec(f"medstudy.report.figures.{stages.module(name)}") for name in stages.FIGURES)


def test_every_template_exists():
    names = {name for file in CODE for text in constants(file) for name in re.findall(r"^\w+\.html\.jinja$", text)}
    assert names and all(list(paths.PACKAGE.rglob(name)) for name in names)
