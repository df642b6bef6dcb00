"""The tables of the reference: parameters, commands, figures and tables. `python -m docs.tables` updates them.

Names, types and defaults come from the code. The last column, what an entry means, is written by hand in the page and
is kept; a new entry appears without one, and a test (tests/project/test_docs.py) asks for it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, JsonValue
from pydantic_core import PydanticUndefined

from medstudy import cli, datasets, params, paths
from medstudy.report import figures, tables
from medstudy.report.pages import readme

PAGES = paths.ROOT / "docs" / "reference"
LIMITS = {Gt: ("above", "gt"), Ge: ("at least", "ge"), Lt: ("below", "lt"), Le: ("at most", "le")}
WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", dict: "mapping",
         JsonValue: "any value"}
HEAD = ("number", "title", "what it answers")
OWN = datasets.REGISTRY["local"].Params
Cells = Iterable[tuple[str, ...]]


def parts() -> dict[tuple[str, str], str]:
    """Every generated table, by its page and the name of its marks."""
    generated = {("parameters", name): parameters(name) for name in blocks()}
    for name, parser in commands().items():
        if len(parser._actions) > 1:  # more than --help
            generated["command-line", name] = command(name)
    for name, registry in (("figures", figures.REGISTRY), ("tables", tables.REGISTRY)):
        rows = ((str(int(entry.name[:2])), entry.title) for entry in registry.values())
        generated["figures-and-tables", name] = table(HEAD, rows, "figures-and-tables", name)
    return generated


def blocks() -> dict[str, type]:
    """Every block of a params file, by the heading that it has in the page."""
    study = params.Study
    blocks = {"study": study}
    for name in ("model", "training", "evaluation", "controls", "leakage", "intervals", "bounds", "probe"):
        blocks[name] = _block(study, name)
    policies = _blocks(study.model_fields["regimes"].annotation)
    policies += _blocks(blocks["controls"].model_fields["views"].annotation)
    for policy in policies:
        blocks[policy.model_fields["policy"].default] = policy
    for outer, name in (("model", "server"), ("server", "prices"), ("model", "trained_on"), ("model", "clip"),
                        ("clip", "yes_no"), ("training", "lora"), ("evaluation", "author"), ("leakage", "allow")):
        blocks[name] = _block(blocks[outer], name)
    for name in ("phantom", "atlas", "organs", "slake", "local", "hub"):
        blocks[name] = datasets.REGISTRY[name].Params
    for outer, name in (("local", "columns"), ("local", "reading"), ("hub", "splits")):
        blocks[name] = _block(blocks[outer], name)
    return blocks


def _block(outer: type[BaseModel], name: str) -> type:
    """The block that a parameter of another block holds."""
    return _blocks(outer.model_fields[name].annotation)[0]


def _blocks(kind: object) -> list[type]:
    """The blocks that a type is made of."""
    if isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(kind)):
        return [kind]
    return [model for part in get_args(kind) for model in _blocks(part)]


def parameters(name: str) -> str:
    """One row per parameter of a block: its name, type with limits, and default. Of `hub` only what `local` lacks."""
    rows = dict.fromkeys(_fields(blocks()[name]))
    if name == "hub":
        known = {row[0] for row in _fields(OWN)} - {"`name`", "`path`", "`split`"}
        rows = [row for row in rows if row[0] not in known]
    return table(("parameter", "type", "default", "meaning"), rows, "parameters", name)


def _fields(block: type) -> Cells:
    if issubclass(block, BaseModel):
        for name, field in block.model_fields.items():
            value = "required" if field.default is PydanticUndefined and not field.default_factory else field.default
            yield f"`{name}`", kind(field.annotation, field.metadata), _default(name, value)
    else:
        hints = get_type_hints(block)
        for field in fields(block):
            yield f"`{field.name}`", kind(hints[field.name]), _default(field.name, field.default)


def kind(annotation: object, limits: Sequence[object] = ()) -> str:
    """A type in words."""
    words = [f"{word} {getattr(limit, name):,}" for limit in limits for of, (word, name) in LIMITS.items()
             if isinstance(limit, of)]
    return f"{_kind(annotation)} {', '.join(words)}".strip()


def _kind(annotation: object) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(inner[0], inner[1:])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(kind(part) for part in inner if part is not NoneType))
    if origin is tuple:
        count = "list of" if inner[1:] == (Ellipsis,) else len(inner)
        return f"{count} {_kind(inner[0])}{'s' if _kind(inner[0]) in WORDS.values() else ''}"
    if origin is dict and inner[1] not in (str, JsonValue):
        return f"mapping to {_kind(inner[1])}"
    name = next((name for name, model in blocks().items() if model is annotation), None)
    if name is None or name in datasets.REGISTRY:
        return "[data set](#data-sets)" if _blocks(annotation) else WORDS[origin or annotation]
    return f"[{name}](#{name})"


def _default(name: str, value: object) -> str:
    if name == "root":
        return "the repository"
    if value in ("required", MISSING):
        return "required"
    if value is None or value is PydanticUndefined or _blocks(type(value)):
        return ""
    return f"`{json.dumps(value)}`"


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by its words, such as "data check"."""
    parsers = {}
    for name, parser in _subparsers(cli.parser()).items():
        inner = _subparsers(parser)
        parsers |= {f"{name} {word}": subparser for word, subparser in inner.items()} if inner else {name: parser}
    return parsers


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def command(name: str) -> str:
    """One row per argument or option of a command."""
    rows = []
    for action in commands()[name]._actions:
        if action.dest != "help":
            words = action.metavar if isinstance(action.metavar, tuple) else (action.metavar or action.dest.upper(),)
            value = "" if action.nargs == 0 else " ".join(words)
            flags = ", ".join(action.option_strings)
            rows.append((f"`{f'{flags} {value}'.strip()}`" if flags else f"`{words[0]}`",))
    return table(("argument", "meaning"), rows, "command-line", name)


def table(head: Sequence[str], rows: Cells, page: str, name: str) -> str:
    """A Markdown table whose last column is kept from the page."""
    kept = meanings(page, name)
    filled = [[*cells, kept.get(cells[0], "")] for cells in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *filled))


def meanings(page: str, name: str) -> dict[str, str]:
    """The last column of a table in a page, by its first column."""
    begin, end = readme.marks(name)
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.strip().splitlines()[2:]]
    return {row[0]: row[-1] for row in rows}


if __name__ == "__main__":
    for (page, name), text in parts().items():
        readme.replace(name, text, PAGES / f"{page}.md")
