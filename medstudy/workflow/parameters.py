"""The parameters of a notebook, checked strictly: papermill only warns of unknown names and passes text for numbers.

`checked` works from outside, before a kernel starts; `check` inside a notebook that anything else opened.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from medstudy import paths
from medstudy.errors import ParamsError
from medstudy.utils import yaml_files

TYPES = {"str": str, "int": int, "float": float, "bool": bool}


@dataclass(frozen=True)
class Parameter:
    """One line `name: type = default  # help` of a notebook's parameters cell."""

    name: str
    type: type
    default: str | int | float | bool
    help: str


def declared(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook, from its cell tagged `parameters`. Raises ParamsError for any other line in it."""
    import nbformat  # importing it takes a second; a kernel that only checks does not need it

    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if "parameters" in _tags(cell)]
    if len(cells) != 1:
        raise ParamsError(f"{notebook.name} must have one cell tagged `parameters`, got {len(cells)}.")
    lines = cells[0].source.splitlines()
    nodes = ast.parse(cells[0].source).body
    return {name: value for name, value in (_parameter(notebook, node, lines) for node in nodes)}


def checked(notebook: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The values; text from a command line is read as the declared type. Raises ParamsError that lists all mistakes."""
    known = declared(notebook)
    wrong = [_unknown(name, known) for name in values if name not in known]
    typed = {name: _read(value, known[name].type) for name, value in values.items() if name in known}
    kinds = {name: known[name].type for name in typed}
    wrong += [_mistyped(name, value, kinds[name]) for name, value in typed.items() if not _is(value, kinds[name])]
    if wrong:
        raise ParamsError(f"{notebook.stem}: " + "; ".join(wrong))
    return typed


def check(namespace: dict[str, Any]) -> None:
    """Inside a notebook, after its parameters: `check(globals())`. Raises ParamsError.

    For bare `papermill notebooks/… -p name value` and for typing errors in JupyterLab, where nothing else checks the
    parameters: every name that papermill injected must be declared, and every value must have its type.
    """
    cells = namespace.get("In", [])
    known = {name: _annotated(kind) for name, kind in namespace.get("__annotations__", {}).items()}
    wrong = [_unknown(name, known) for name in _injected(cells) if name not in known]
    wrong += _slips(_by_hand(cells), namespace)
    wrong += [_mistyped(name, namespace[name], kind) for name, kind in known.items() if not _is(namespace[name], kind)]
    if wrong:
        raise ParamsError("; ".join(wrong))


def _tags(cell: dict) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def _parameter(notebook: Path, node: ast.stmt, lines: list[str]) -> tuple[str, Parameter]:
    rule = f"{notebook.name}: a parameter is a line `name: type = literal  # help` of type {', '.join(TYPES)}"
    if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
        raise ParamsError(f"{rule}, got {lines[node.lineno - 1]!r}.")
    kind = TYPES.get(ast.unparse(node.annotation))
    try:
        default = ast.literal_eval(node.value)
    except (ValueError, TypeError):
        kind = None
    if kind is None or not _is(default, kind):
        raise ParamsError(f"{rule}, got {lines[node.lineno - 1]!r}.")
    text = lines[node.end_lineno - 1][node.end_col_offset :]
    return node.target.id, Parameter(node.target.id, kind, default, text.partition("#")[2].strip())


def _read(value: Any, kind: type) -> Any:
    """Text from a command line as the declared type; as the value that it spells if that has another type."""
    if not isinstance(value, str) or kind is str:
        return value
    spelled = yaml_files.loads(value, f"A value on the command line, {value!r},")
    return float(spelled) if kind is float and type(spelled) is int else spelled


def _is(value: Any, kind: type) -> bool:
    return math.isfinite(value) if kind is float and type(value) in (int, float) else type(value) is kind


def _annotated(kind: Any) -> type:
    return TYPES[kind] if isinstance(kind, str) else kind


def _injected(cells: list[str]) -> list[str]:
    """The names that papermill set, from the last executed cell that starts as its injected cell does."""
    cell = next((cell for cell in reversed(cells) if cell.startswith("# Parameters\n")), "")
    return [target.id for node in ast.parse(cell).body for target in node.targets]


def _by_hand(cells: list[str]) -> list[str]:
    """The names in the parameters cell as last executed: the last cell of annotated assignments alone."""
    for cell in reversed(cells):
        try:
            nodes = ast.parse(cell).body
        except SyntaxError:  # a magic
            continue
        if nodes and all(isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) for node in nodes):
            return [node.target.id for node in nodes]
    return []


def _slips(names: list[str], namespace: dict[str, Any]) -> list[str]:
    """Mistakes in names typed by hand; the notebook whose parameters fit them best is taken as the open one."""
    if not names:
        return []
    known = max(_every(), key=lambda parameters: (len(set(parameters) & set(names)), -len(parameters)))
    missing = [f"{name} is missing from the parameters" for name in known if name not in namespace]
    return [_unknown(name, known) for name in names if name not in known] + missing


@cache
def _every() -> tuple[tuple[str, ...], ...]:
    """The parameters of each committed notebook, by name."""
    notebooks = []
    for file in sorted(paths.NOTEBOOKS.rglob("*.ipynb")):
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        source = next(("".join(cell["source"]) for cell in cells if "parameters" in _tags(cell)), "")
        notebooks.append(tuple(node.target.id for node in ast.parse(source).body if isinstance(node, ast.AnnAssign)))
    return tuple(notebooks)


def _unknown(name: str, known: Iterable[str]) -> str:
    return f"there is no parameter {name!r}; there are: {', '.join(known)}"


def _mistyped(name: str, value: Any, kind: type) -> str:
    needed = "a finite float" if kind is float else kind.__name__
    return f"{name} must be {needed}, got {type(value).__name__} {value!r}"
