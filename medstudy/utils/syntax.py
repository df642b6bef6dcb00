"""What code says: its syntax tree without comments, layout and docstrings, and the modules that it imports.

The tree is written out here, not by `ast.unparse` or `ast.dump`, whose text differs between versions of Python: fields
that are empty or that only some versions have are left out, so that 3.11 to 3.13 agree. A bare string is a docstring
wherever it stands. The assignment of a `REGISTRY` is left out too, with the imports that only it uses: what is
registered counts by its own file, where it is used.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medstudy.errors import ParamsError

IGNORED = frozenset({"ctx", "kind", "type_comment", "type_ignores"})  # they follow from the rest, or change nothing
REGISTRY = "REGISTRY"
UNCOUNTED = frozenset({"parameters", "injected-parameters"})  # tags of the cells that hold values, not code


@dataclass(frozen=True)
class Code:
    """digest: SHA-256 in hex of the tree. imports: (module, name or None) of each `import` and `from … import`."""

    digest: str
    imports: frozenset[tuple[str, str | None]]


def read(file: Path) -> Code:
    """The code of a Python file. Raises ParamsError where it is not valid Python."""
    try:
        return _code(ast.parse(file.read_bytes()).body)
    except (SyntaxError, ValueError) as error:
        raise ParamsError(f"{file.name} must be valid Python, but {error}. Undo the last change to it.") from None


def notebook(file: Path) -> Code:
    """The code of a notebook: its code cells one after the other, without its parameters, outputs and words.

    A cell that is not plain Python (`%matplotlib inline`, `!ls`) counts by its text. Raises ParamsError where the file
    is no notebook.
    """
    return _code([node for source in cells(file) for node in _statements(source)])


def cell(source: str) -> Code:
    """The code of one cell."""
    return _code(_statements(source))


def cells(file: Path) -> list[str]:
    """The sources of the cells of a notebook that count as its code; see `notebook`."""
    try:
        every = json.loads(file.read_bytes())["cells"]
        return ["".join(one["source"]) for one in every if _counts(one)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ParamsError(
            f"{file.name} must be a notebook of format 4 (json with `cells`), but it cannot be read "
            f"({type(error).__name__}: {error}). Save it again, or restore it: git checkout {file.name}"
        ) from None


def _counts(cell: dict) -> bool:
    return cell["cell_type"] == "code" and not UNCOUNTED & set(cell.get("metadata", {}).get("tags", ()))


def _statements(source: str) -> list[ast.stmt]:
    """Of one cell; its text, as a value, where IPython alone understands it."""
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
    used = {node.id for one in rest for node in ast.walk(one) if isinstance(node, ast.Name)}
    registered = {node.id for one in statements if _registers(one) for node in ast.walk(one)
                  if isinstance(node, ast.Name)} - used
    for node in rest:
        if isinstance(node, ast.Import | ast.ImportFrom):
            node.names = [alias for alias in node.names if (alias.asname or alias.name) not in registered]
            if not node.names:
                continue
        yield node


def _registers(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id == REGISTRY for target in targets)


def _imports(node: ast.stmt) -> Iterator[tuple[str, str | None]]:
    for one in ast.walk(node):
        if isinstance(one, ast.Import):
            yield from ((alias.name, None) for alias in one.names)
        elif isinstance(one, ast.ImportFrom):
            yield from (("." * one.level + (one.module or ""), alias.name) for alias in one.names)


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
        for one in node:
            if not _docstring(one):
                _write(one, text)
        text.append("]")
    else:
        text.append(f"{ascii(node)},")


def _docstring(node: object) -> bool:
    """A string that stands alone as a statement does nothing but tell the reader."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _joined(parts: Iterable[ast.expr]) -> Iterator[ast.expr]:
    """The parts of an f-string, its plain texts in one piece each: versions of Python cut them differently."""
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
