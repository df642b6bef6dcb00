"""The meaning of code: a hash of its syntax tree without comments, layout and docstrings, and the modules it imports.

We write the tree out ourselves because the text of `ast.unparse` and `ast.dump` differs between versions of Python.
Empty fields, and fields that only some versions have, are left out, so that 3.11 to 3.13 agree. Every bare string is a
docstring here. The assignment of a `REGISTRY` is left out as well, with the imports that only it uses: a registered
module counts where it is used.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medstudy.errors import ParamsError

IGNORED = frozenset({"ctx", "kind", "type_comment", "type_ignores"})  # implied by the rest, or without effect
REGISTRY = "REGISTRY"
UNCOUNTED = frozenset({"parameters", "injected-parameters"})  # tags of cells that hold values, not code


@dataclass(frozen=True)
class Code:
    """digest: SHA-256 in hex of the tree. imports: (module, name or None) of each `import` and `from … import`."""

    digest: str
    imports: frozenset[tuple[str, str | None]]


def read(file: Path) -> Code:
    """The code of a Python file. Raises ParamsError if it is not valid Python."""
    try:
        return _code(ast.parse(file.read_bytes()).body)
    except (SyntaxError, ValueError) as error:
        raise ParamsError(f"{file.name} must be valid Python, but {error}. Undo the last change to it.") from None


def notebook(file: Path) -> Code:
    """The code of a notebook: its code cells in order, without parameters, outputs and text.

    A cell that is not plain Python (`%matplotlib inline`, `!ls`) counts as its text. Raises ParamsError if the file is
    not a notebook.
    """
    return _code([node for source in cells(file) for node in _statements(source)])


def cell(source: str) -> Code:
    """The code of one cell."""
    return _code(_statements(source))


def cells(file: Path) -> list[str]:
    """The sources of the cells of a notebook that count as its code; see `notebook`."""
    try:
        cells = json.loads(file.read_bytes())["cells"]
        return ["".join(cell["source"]) for cell in cells if _counts(cell)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ParamsError(
            f"{file.name} must be a notebook of format 4 (json with `cells`), but reading it failed "
            f"({type(error).__name__}: {error}). Save it again, or restore it: git checkout {file.name}"
        ) from None


def _counts(cell: dict) -> bool:
    return cell["cell_type"] == "code" and not UNCOUNTED & set(cell.get("metadata", {}).get("tags", ()))


def _statements(source: str) -> list[ast.stmt]:
    """The statements of a cell; its lines of text as values where only IPython understands it."""
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError):
        lines = [line.rstrip() for line in source.strip().splitlines()]
        return [ast.Return(ast.Constant(line)) for line in lines]


def _code(statements: list[ast.stmt]) -> Code:
    statements = list(_without_registry(statements))
    text: list[str] = []
    _write(statements, text)
    imports = frozenset(pair for node in statements for pair in _imports(node))
    return Code(hashlib.sha256("".join(text).encode()).hexdigest(), imports)


def _without_registry(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    rest = [node for node in statements if not _registers(node)]
    if len(rest) == len(statements):
        yield from statements
        return
    registries = [node for node in statements if _registers(node)]
    registered = _names(registries) - _names(rest)
    for node in rest:
        if isinstance(node, ast.Import | ast.ImportFrom):
            node.names = [alias for alias in node.names if (alias.asname or alias.name) not in registered]
            if not node.names:
                continue
        yield node


def _names(statements: Iterable[ast.stmt]) -> set[str]:
    return {node.id for statement in statements for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _registers(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id == REGISTRY for target in targets)


def _imports(statement: ast.stmt) -> Iterator[tuple[str, str | None]]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), alias.name) for alias in node.names)


def _write(node: object, text: list[str]) -> None:
    """Append a node, a list of nodes or a value to `text`."""
    if isinstance(node, ast.JoinedStr):
        node = ast.JoinedStr(list(_joined(node.values)))
    if isinstance(node, ast.AST):
        text.append(f"{type(node).__name__}(")
        for name in node._fields:
            value = getattr(node, name, None)
            if name not in IGNORED and value is not None and value != []:
                text.append(f"{name}=")
                _write(value, text)
        text.append(")")
    elif isinstance(node, list):
        text.append("[")
        for part in node:
            if not _docstring(part):
                _write(part, text)
        text.append("]")
    else:
        text.append(f"{ascii(node)},")


def _docstring(node: object) -> bool:
    """Whether a node is a string that is a whole statement, which has no effect."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _joined(parts: Iterable[ast.expr]) -> Iterator[ast.expr]:
    """The parts of an f-string with adjacent plain texts joined: versions of Python split them differently."""
    plain = ""
    for part in parts:
        if isinstance(part, ast.Constant):
            plain += part.value
            continue
        if plain:
            yield ast.Constant(plain)
        plain = ""
        yield part
    if plain:
        yield ast.Constant(plain)
