"""Files of a source that is not in the hub's format: paths inside its folder, and rows of json and jsonl."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medstudy.errors import DataError


def below(root: Path, name: str) -> Path:
    """The file `name` under `root`. Raises DataError if it is absolute, outside the folder, or missing."""
    file = (root / name).resolve()
    if Path(name).is_absolute() or not file.is_relative_to(root.resolve()):
        if link := _link_out(root, name):
            raise DataError(
                f"A data set's files must be in its folder {root}, but a row names {name!r}, and the symbolic link "
                f"{link!r} leads out of the folder. Copy the files there, or name the folder that holds them."
            )
        raise DataError(f"Files must be in their data set's folder {root}, but a row has {name!r}. Use relative paths.")
    if not file.is_file():
        raise DataError(f"A row names the file {name!r}, which is not in {root}. Copy it there, or remove the row.")
    return file


def _link_out(root: Path, name: str) -> str:
    """The first part of a relative path that is a symbolic link out of `root`; "" if there is none, or a ".." ."""
    place = Path(name)
    if place.is_absolute() or ".." in place.parts:
        return ""
    parts = (Path(*place.parts[: count + 1]) for count in range(len(place.parts)))
    outside = (part for part in parts if not (root / part).resolve().is_relative_to(root.resolve()))
    return next((part.as_posix() for part in outside if (root / part).is_symlink()), "")


def unrepeated(pairs: list[tuple]) -> dict:
    """The object of JSON pairs, for `object_pairs_hook`. Raises ValueError for a repeated name."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} is repeated in an object, and only one of its values could be read")
    return content


def unrepeated_columns(names: Sequence[str], where: str) -> list[str]:
    """The names of a table's columns. Raises DataError for a repeated name; blank ones may repeat."""
    if twice := [name for name in names if name.strip() and names.count(name) > 1]:
        raise DataError(
            f"A column's name must be unique, but {where} has {twice[0]!r} {names.count(twice[0])} times, and only one "
            "of them could be read. Rename or remove the others."
        )
    return list(names)


def jsonl(file: Path) -> Iterator[dict]:
    """The objects of a .jsonl file, or of a .json file that holds a list. Raises DataError naming the line."""
    text = _text(file)
    if file.suffix == ".json":
        content = _parsed(text, str(file))
        if not isinstance(content, list):
            raise DataError(f"{file} must hold a list of objects, got {type(content).__name__}. Save it so.")
        yield from content
        return
    for number, line in enumerate(text.split("\n"), 1):  # splitlines would also cut at U+2028 inside a text
        if line.strip():
            yield _parsed(line, f"{file} line {number}")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{file} cannot be opened ({error.strerror or error}).") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} must be in UTF-8, but is not ({error}). Save it as UTF-8.") from error


def listed(file: Path, name: str, columns: Mapping[str, str]) -> Iterator[dict]:
    """The objects of the list `name` in a .json file of one object of lists; as `rows`. Raises DataError."""
    content = _parsed(_text(file), str(file))
    found = content.get(name) if isinstance(content, dict) else None
    if not isinstance(found, list):
        has = ", ".join(content) if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{file} must hold an object with the list {name!r}, but has {has}. Fetch it again.")
    for number, row in enumerate(found):
        need(row, columns, f"{file.name} {name} row {number}")
        yield row


def rows(file: Path, columns: Mapping[str, str]) -> Iterator[dict]:
    """The objects of a .jsonl or .json file, each of which must have `columns`. Raises DataError naming the row."""
    for number, row in enumerate(jsonl(file)):
        need(row, columns, f"{file.name} row {number}")
        yield row


def need(row: Mapping, columns: Mapping[str, str], where: str) -> None:
    """Raise DataError if a row lacks one of `columns` (name -> meaning)."""
    if missing := [name for name in columns if name not in row]:
        wanted = "; ".join(f"{name}: {columns[name]}" for name in missing)
        raise DataError(f"{where} must have {', '.join(columns)}, but it has {', '.join(row)}. Missing: {wanted}.")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=unrepeated)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} must be valid json: {error}.") from error
