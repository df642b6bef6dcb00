"""Reads and writes YAML: scalars by YAML 1.2's core schema, no repeated names, and a line number in every error.

PyYAML itself reads YAML 1.1 (`010` is eight, `1:30` ninety, `no` false, `1e-5` text, a date a date) and keeps the last
of two equal names. Here plain scalars follow https://yaml.org/spec/1.2.2/#103-core-schema, names are kept as they are
written, and tags outside the core schema are refused. Anchors, aliases and merges (`<<`) work; the size of what they
expand to is limited.
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

DEPTH, NODES = 50, 20_000  # limits, with every alias expanded; our files have about 200 nodes, 5 deep
CORE = "tag:yaml.org,2002:"
MERGE = f"{CORE}merge"
SCALARS = {  # kind: pattern; the first that matches counts, everything else is text
    "null": r"null|Null|NULL|~|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "merge": r"<<",
}
PATTERNS = {f"{CORE}{kind}": re.compile(rf"(?:{pattern})\Z") for kind, pattern in SCALARS.items()}


def load(file: Path, shown: str | Path | None = None) -> Any:
    """The content of a file: dict, list, str, int, float, bool, None. shown: its name in errors. Raises ParamsError."""
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
            f"{shown} must be valid yaml: line {line} holds the character U+{error.character:04X}, which text may "
            "not contain. Save it as UTF-8."
        ) from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{shown} must be valid yaml: {_explained(error)}") from None


def dump(content: Any) -> str:
    """YAML that both `load` and YAML 1.1 parsers read back unchanged: what either would misread is quoted."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _decoded(content: bytes, shown: str) -> str:
    """The text in UTF-8, or in UTF-16 if it begins with that byte-order mark. Raises ParamsError."""
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ParamsError(
            f"{shown} must be text in UTF-8, but line {line} holds the byte 0x{content[error.start]:02x}, which is "
            "not UTF-8 (Latin-1?). Save it as UTF-8."
        ) from None


def _explained(error: yaml.YAMLError) -> str:
    """The line and column of an error, and what is wrong."""
    parts = [getattr(error, "context", None), getattr(error, "problem", None) or str(error)]
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + ", ".join(part for part in parts if part) + "."


class _Loader(yaml.SafeLoader):
    """PyYAML's scanner, parser and composer; `_value` interprets the nodes."""

    def __init__(self, stream: str):
        super().__init__(stream)
        self.depth = 0

    def compose_document(self) -> Node:
        """Raises YAMLError for a file that states another version than 1.2."""
        start = self.peek_event()
        if start.version not in (None, (1, 2)):
            raise _fault("files are read as YAML 1.2, so remove the line `%YAML`", start)
        return super().compose_document()

    def compose_node(self, parent: Node | None, index: Any) -> Node:
        """Raises YAMLError for nesting deeper than `DEPTH`, before Python's stack overflows."""
        self.depth += 1
        if self.depth > DEPTH:
            raise _fault(f"lists and mappings nest at most {DEPTH} deep", self.peek_event())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def resolve(self, kind: type[Node], value: str, implicit: Any) -> str:
        """The tag of a plain scalar by `SCALARS`; for everything else PyYAML's own."""
        if kind is ScalarNode and implicit[0]:
            return next((tag for tag, pattern in PATTERNS.items() if pattern.match(value)), f"{CORE}str")
        return super().resolve(kind, value, implicit)


def _measure(node: Node, known: dict[int, int | None]) -> int:
    """Number of nodes, aliases expanded. Raises YAMLError for more than `NODES`, or an alias inside its own anchor."""
    if id(node) in known:
        if known[id(node)] is None:
            raise _fault("an alias must not be inside its own anchor", node)
        return known[id(node)]
    known[id(node)] = None
    parts = () if isinstance(node, ScalarNode) else node.value
    children = (child for part in parts for child in (part if isinstance(part, tuple) else (part,)))
    known[id(node)] = count = 1 + sum(_measure(child, known) for child in children)
    if count > NODES:
        raise _fault(f"a file holds at most {NODES:,} values, aliases expanded", node)
    return count


def _value(node: Node) -> Any:
    """A node's value. Raises YAMLError for a tag outside `VALUES`, or one that does not fit the node."""
    kind = node.tag.removeprefix(CORE)
    if isinstance(node, MappingNode) and kind == "map":
        return _mapping(node)
    if isinstance(node, SequenceNode) and kind == "seq":
        return [_value(part) for part in node.value]
    if not isinstance(node, ScalarNode) or kind not in VALUES:
        raise _fault(f"the tag {node.tag!r} is not supported, so remove it", node)
    if kind in SCALARS and not PATTERNS[node.tag].match(node.value):
        raise _fault(f"{node.value!r} is not a valid {kind}", node)
    try:
        return VALUES[kind](node.value)
    except ValueError as error:
        raise _fault(str(error), node) from None


def _mapping(node: MappingNode) -> dict[str, Any]:
    """A mapping, its names as written. Raises YAMLError for a repeated name, with both lines."""
    lines: dict[str, int] = {}
    merged: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for name, value in node.value:
        if not isinstance(name, ScalarNode):
            raise _fault("a name must be text, not a list or a mapping", name)
        if name.value in lines:
            raise _fault(f"{name.value!r} is given twice, first in line {lines[name.value]}", name)
        lines[name.value] = name.start_mark.line + 1
        if name.tag == MERGE:
            merged = _merged(value)
        else:
            own[name.value] = _value(value)
    return merged | own


def _merged(node: Node) -> dict[str, Any]:
    """The values that `<<` takes over; if several mappings have a name, the first counts."""
    parts = node.value if isinstance(node, SequenceNode) else [node]
    if not all(isinstance(part, MappingNode) for part in parts):
        raise _fault("`<<` takes over names and their values, so it needs an alias of a mapping", node)
    return {name: value for part in reversed(parts) for name, value in _mapping(part).items()}


def _fault(problem: str, at: Any) -> MarkedYAMLError:
    return MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def _text(text: str) -> str:
    """The text. Raises ValueError for characters that no path or name can contain, such as an escaped null."""
    if "\0" in text or any(0xD800 <= ord(character) < 0xE000 for character in text):
        raise ValueError(f"text must not contain a null character or half of a surrogate pair, got {text!r}")
    return text


def _int(text: str) -> int:
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


VALUES = {
    "null": lambda text: None, "bool": lambda text: text.lower() == "true", "int": _int, "float": _float, "str": _text,
    "merge": str,  # `<<` as a value
}


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would not read as text."""


for _tag, _pattern in PATTERNS.items():
    _Dumper.add_implicit_resolver(_tag, _pattern, None)
