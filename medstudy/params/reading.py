"""From a params file to a study. An error names every wrong entry, what arrived and what is valid."""

from __future__ import annotations

import difflib
import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from medstudy import paths
from medstudy.datasets import Params as DataParams
from medstudy.errors import ParamsError
from medstudy.params.server import VARIABLE
from medstudy.params.study import Study
from medstudy.utils import yaml_files


def load(path: str | Path) -> Study:
    """Read params/NAME.yaml. Raises ParamsError that names every wrong entry, what arrived and what is valid.

    A relative `path` is looked up in the current folder, then in the repository. Relative paths in the file (`path` and
    `images` of data, `id` of a model, `root`) are relative to the file's folder, and absolute in the result.
    """
    return parse(read(path), str(path), paths.resolve(path).resolve().parent)


def read(path: str | Path) -> dict:
    """The settings in a params file, as they are written. Raises ParamsError."""
    file = paths.resolve(path)
    if not file.is_file():
        raise ParamsError(
            f"A study is a yaml file, but there is none at {path} (looked for in {Path.cwd()} and {paths.ROOT}). See "
            "params/ for examples."
        )
    content = yaml_files.load(file, path)
    if not isinstance(content, dict):
        got = "an empty file" if content is None else type(content).__name__
        raise ParamsError(f"{path} must hold `name: value` lines, got {got}.")
    return content


def parse(content: dict, origin: str = "params", folder: Path | None = None) -> Study:
    """Validate a mapping as a study. Relative paths in it are relative to `folder`, if given; see `load`."""
    try:
        return Study.model_validate_json(json.dumps(content), context={"folder": folder})
    except ValidationError as error:
        raise ParamsError(f"{origin} is not a valid study:\n{_explain(error)}") from None


def data(content: dict, origin: str = "params", folder: Path | None = None) -> DataParams:
    """Validate a mapping as one data set of a study; see `parse`."""
    try:
        return TypeAdapter(DataParams).validate_json(json.dumps(content), context={"folder": folder})
    except ValidationError as error:
        raise ParamsError(f"{origin} do not describe a data set:\n{_explain(error, DataParams)}") from None


def _explain(error: ValidationError, root: object = Study) -> str:
    """One line for each wrong entry of a value of the type `root`."""
    return "\n".join(_line(entry, root) for entry in error.errors(include_url=False))


def _line(entry: dict, root: object) -> str:
    where = ".".join(map(str, entry["loc"])) or "study"
    if entry["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        names = _names(entry["loc"], root)
        close = difflib.get_close_matches(str(entry["loc"][-1]), names, 1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        return f"  {where}: no such parameter; valid names here: {', '.join(names)}{meant}"
    return f"  {where}: {entry['msg']} (got {_shown(entry.get('input'), entry['loc'][-1:])!r})"


def _shown(value: object, name: tuple = ()) -> object:
    """An entry as an error may repeat it: an address, and what stands for a variable's name, may hold a key."""
    if isinstance(value, dict):
        return {inner: _shown(part, (inner,)) for inner, part in value.items()}
    if not isinstance(value, str) or name not in (("key",), ("base_url",)) or VARIABLE.fullmatch(value):
        return value
    return "a text that is not shown"


def _names(location: tuple, root: object) -> list[str]:
    """The valid names at a location with an unknown name: of its fields, or the kinds of a union."""
    models = _models(root)
    for part in (part for part in location[:-1] if isinstance(part, str)):
        inner = (kind for model in models for name, kind in _fields(model).items() if name == part)
        of_kind = [model for model in models if part == _tag(model)]
        models = of_kind or [model for kind in inner for model in _models(kind)] or models  # else a mapping's own key
    return sorted({name for model in models for name in _fields(model)})


def _models(kind: object) -> list[type]:
    """The pydantic models and dataclasses in a type."""
    if isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(kind)):
        return [kind]
    return [model for part in get_args(kind) for model in _models(part)]


def _fields(model: type) -> dict[str, object]:
    if issubclass(model, BaseModel):
        return {name: field.annotation for name, field in model.model_fields.items()}
    return {field.name: field.type for field in fields(model)}


def _tag(model: type) -> object:
    """The value of `name` or `policy` that selects this model in a union."""
    known = getattr(model, "model_fields", {})
    return next((known[name].default for name in ("name", "policy") if name in known), None)
