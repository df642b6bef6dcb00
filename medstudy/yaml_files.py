"""The one reader of YAML: scalars as YAML 1.2's core schema reads them, every name once, every error with its line.

PyYAML itself reads YAML 1.1 (`010` is eight, `1:30` ninety, `no` false, `1e-5` text, a date a date) and keeps the last
of two equal names. Here plain scalars follow https://yaml.org/spec/1.2.2/#103-core-schema, names are text as it is
written, and tags other than the core schema's are refused. Anchors, aliases and merges (`<<`) work; what they expand to
is bounded.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any

import yaml
from yaml.error import MarkedYAMLError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from medstudy.errors import ParamsError

DEPTH, NODES = 50, 20_000  # of a file with every alias written out; ours have about 200 nodes, 5 deep
CORE = "tag:yaml.org,2002:"
MERGE = f"{CORE}merge"
SCALARS = {  # kind: how it is written; the first that matches counts, anything else is text
    "null": r"null|Null|NULL|~|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "merge": r"<<",
}
PATTERNS = {f"{CORE}{kind}": re.compile(rf"(?:{pattern})\Z") for kind, pattern in SCALARS.items()}


def load(file: Path, shown: str | Path | None = None) -> Any:
    """The content of a file: dict, list, str, int, float, bool, None. shown: how errors name it. Raises ParamsError."""
    shown = shown or file
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ParamsError(f"{shown} cannot be read: {error.strerror}.") from None
    return loads(_decoded(content, str(shown)), str(shown))


def loads(text: str, shown: str = "this text") -> Any:
    """The value that a YAML document states; see `load`."""
    try:
        node = _Loader(text).get_single_node()
        if node is None:
            return None
        _measure(node, {})
        return _value(node)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ParamsError(
            f"{shown} must be valid yaml: line {line} holds the character U+{error.character:04X}, which no text has. "
            "Save it as UTF-8."
        ) from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{shown} must be valid yaml: {_explained(error)}") from None


def dump(content: Any) -> str:
    """YAML that `load` reads back as it was, and that YAML 1.1 reads alike: whatever either mistakes is quoted."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _decoded(content: bytes, shown: str) -> str:
    """UTF-8, or UTF-16 where the file begins with its mark. Raises ParamsError."""
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ParamsError(
            f"{shown} must be text in UTF-8, but line {line} holds the byte 0x{content[error.start]:02x}, which is "
            "another encoding's (Latin-1?). Save it as UTF-8."
        ) from None


def _explained(error: yaml.YAMLError) -> str:
    """What is wrong, and the line and column where it is."""
    parts = [getattr(error, "context", None), getattr(error, "problem", None) or str(error)]
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + ", ".join(part for part in parts if part) + "."


class _Loader(yaml.SafeLoader):
    """PyYAML's scanner, parser and composer; what its nodes mean is said by `_value`."""

    def __init__(self, stream: str):
        super().__init__(stream)
        self.depth = 0

    def compose_document(self) -> Node:
        """Raises YAMLError for a file that says that it is of another version."""
        start = self.peek_event()
        if start.version not in (None, (1, 2)):
            raise _fault("files are read as YAML 1.2, so take the line `%YAML` away", start)
        return super().compose_document()

    def compose_node(self, parent: Node | None, index: Any) -> Node:
        """Raises YAMLError below `DEPTH`, before Python's own stack ends."""
        self.depth += 1
        if self.depth > DEPTH:
            raise _fault(f"lists and names nest at most {DEPTH} deep", self.peek_event())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def resolve(self, kind: type[Node], value: str, implicit: Any) -> str:
        """The tag of a plain scalar by `SCALARS`; of all else PyYAML's own."""
        if kind is ScalarNode and implicit[0]:
            return next((tag for tag, pattern in PATTERNS.items() if pattern.match(value)), f"{CORE}str")
        return super().resolve(kind, value, implicit)


def _measure(node: Node, known: dict[int, int | None]) -> int:
    """Nodes below, aliases written out. Raises YAMLError for more than `NODES`, or for what holds itself."""
    if id(node) in known:
        if known[id(node)] is None:
            raise _fault("an alias cannot stand within what it names", node)
        return known[id(node)]
    known[id(node)] = None
    parts = () if isinstance(node, ScalarNode) else node.value
    inner = (one for part in parts for one in (part if isinstance(part, tuple) else (part,)))
    known[id(node)] = count = 1 + sum(_measure(one, known) for one in inner)
    if count > NODES:
        raise _fault(f"a file holds at most {NODES:,} values, aliases written out", node)
    return count


def _value(node: Node) -> Any:
    """What a node means. Raises YAMLError for a tag of no kind of `VALUES`, or not of its own."""
    kind = node.tag.removeprefix(CORE)
    if isinstance(node, MappingNode) and kind == "map":
        return _mapping(node)
    if isinstance(node, SequenceNode) and kind == "seq":
        return [_value(part) for part in node.value]
    if not isinstance(node, ScalarNode) or kind not in VALUES:
        raise _fault(f"the tag {node.tag!r} is not read here, so take it away", node)
    if kind in SCALARS and not PATTERNS[node.tag].match(node.value):
        raise _fault(f"{node.value!r} is no {kind}", node)
    try:
        return VALUES[kind](node.value)
    except ValueError as error:
        raise _fault(str(error), node) from None


def _mapping(node: MappingNode) -> dict[str, Any]:
    """Names as they are written. Raises YAMLError for a repeated one, with both lines."""
    lines: dict[str, int] = {}
    merged: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for name, value in node.value:
        if not isinstance(name, ScalarNode):
            raise _fault("a name is a text, not a list or names", name)
        if name.value in lines:
            raise _fault(f"{name.value!r} is given twice, first in line {lines[name.value]}", name)
        lines[name.value] = name.start_mark.line + 1
        if name.tag == MERGE:
            merged = _merged(value)
        else:
            own[name.value] = _value(value)
    return merged | own


def _merged(node: Node) -> dict[str, Any]:
    """What `<<` takes over; of several the first that has a name counts."""
    parts = node.value if isinstance(node, SequenceNode) else [node]
    if not all(isinstance(part, MappingNode) for part in parts):
        raise _fault("`<<` takes over names and their values, so aliases of these must follow", node)
    return {name: value for part in reversed(parts) for name, value in _mapping(part).items()}


def _fault(problem: str, at: Any) -> MarkedYAMLError:
    return MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def _text(text: str) -> str:
    """Raises ValueError for what no path or name can hold, as an escape in quotes may write it."""
    if "\0" in text or any(0xD800 <= ord(sign) < 0xE000 for sign in text):
        raise ValueError(f"a text holds neither a null character nor half of a surrogate pair, got {text!r}")
    return text


def _int(text: str) -> int:
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


VALUES = {
    "null": lambda text: None, "bool": lambda text: text.lower() == "true", "int": _int, "float": _float, "str": _text,
    "merge": str,  # `<<` where it is no name
}  # fmt: skip


class _Dumper(yaml.SafeDumper):
    """Resolves plain texts by both versions."""


for _tag, _pattern in PATTERNS.items():
    _Dumper.add_implicit_resolver(_tag, _pattern, None)
