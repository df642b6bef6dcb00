"""Any data set that `datasets` loads, by a hub id or a folder: the params say which of its columns is what.

Images are read twice, first to tell which rows ask about the same one, then as they are wanted: none is held.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from medstudy import paths
from medstudy.data.encoded_image import Picture
from medstudy.data.example import SPLITS, Example
from medstudy.data.readers import files, hub, image_marks
from medstudy.data.readers.cells import RowError
from medstudy.datasets.user import column_names, columns
from medstudy.datasets.user import rows as user_rows
from medstudy.datasets.user.columns import Asked
from medstudy.datasets.user.rows import Own, Survey
from medstudy.errors import DataError
from medstudy.imaging.read_options import Reading

VERSION = "2"
RENAMED = re.compile(r"(.+)\.\d+$")  # as pandas renames the second of two columns of one name


class Splits(BaseModel):
    """What the source calls each split; None: it has none. With `train` alone, the others are drawn from it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    train: str | None = "train"
    val: str | None = None
    test: str | None = "test"


class Params(Own):
    """See `Own`. config: of the hub's data set. splits: see `Splits`; a column `split` is not looked at.

    Classes of the hub's ClassLabel are taken by their names.
    """

    on_hub: ClassVar[bool] = True
    name: Literal["hub"] = "hub"
    config: str | None = None
    splits: Splits = Splits()


@dataclass(frozen=True)
class Key:
    """An image by the hash of its bytes, or by its path, and where it stood first: split, row, place in the row."""

    name: str
    at: tuple[str, int, int] = field(compare=False)


def load(params: Params, split: str) -> Iterator[Example]:
    """The examples of one split, an image at a time. Raises DataError; see `Own.on_unreadable`."""
    return user_rows.load(params, survey(params), split, opener(params))


def version(params: Params) -> str:
    """Changes with the name, size or time of change of any file, where the source is a folder."""
    folder = paths.resolve(params.path)
    found = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []
    about = [(file.relative_to(folder).as_posix(), file.stat().st_size, file.stat().st_mtime_ns) for file in found]
    return f"{VERSION}-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]}" if found else VERSION


def survey(params: Params) -> Survey:
    """What all rows say, none of their images decoded. Raises DataError where a split cannot be loaded."""
    found, by = Survey(), "the source's own splits"
    return user_rows.survey(params, _asked(params, found), found, lambda keys: "+".join(key.name for key in keys), by)


def opener(params: Params):
    """Called with an image of an entry, it reads it again; cheap as long as the order is that of the source."""
    held: dict = {"source": None, "row": -1}

    def picture(key: Key, reading: Reading) -> Picture:
        source, number, place = key.at
        if held["source"] != source or held["row"] > number:
            held.update(source=source, row=-1, rows=hub.each(_stream(params, source), source), known=None)
        while held["row"] < number:
            held.update(row=held["row"] + 1, content=next(held["rows"]))
        held["known"] = held["known"] or _bound(params, held["content"], source).columns
        shown = columns.images(held["content"], held["known"])
        return user_rows.encoded(_content(params, shown[place]), key.name, reading)

    return picture


def _asked(params: Params, found: Survey) -> Iterator[Asked]:
    """What every usable row asks; its images as keys. Others are faults of `found`."""
    number = 0
    sources = {split: name for split in SPLITS if (name := getattr(params.splits, split))}
    for split, source in sources.items():
        stated = split if len(sources) > 1 or split == "test" else None
        rows = _stream(params, source)
        names = {name: kind.int2str for name, kind in (rows.features or {}).items() if hasattr(kind, "int2str")}
        bound = None
        for index, row in enumerate(hub.each(rows, f"{_shown(params)} {source}")):
            where = f"{source} row {index + 1}"
            if bound is None:
                bound = _bound(params, row, source)
                found.bind(source, bound)
            known = bound.columns
            named = {name: _class(row[name], tell) for name, tell in names.items() if isinstance(row[name], int)}
            try:
                bound.check(row)
                asked = columns.read(row | named, where, number, known, params.label, params.kind, params.ask)
                keys = (_key(params, content, (source, index, place)) for place, content in enumerate(asked.images))
                text = columns.value(row, known.question)
                marked = image_marks.count(text) if isinstance(text, str) else 0
                found.marks.update(marks=marked, rows=int(marked > 0))
                yield replace(asked, images=tuple(keys), split=stated)
            except DataError as error:
                found.faults.append(user_rows.fault(error, where, stated or "", ""))
            number += 1


def _class(number: int, tell: Callable[[int], str]) -> str | None:
    """The name of a ClassLabel's number; None for -1, by which `datasets` marks a row without a label."""
    return None if number == -1 else tell(number)


def _bound(params: Params, row: Mapping, source: str) -> column_names.Bound:
    """The columns of a split. Raises DataError, also for one that was renamed because its name stands twice."""
    where = f"{_shown(params)} {source}"
    for name in row:
        if (twice := RENAMED.match(name)) and twice[1] in row:
            raise DataError(
                f"A column's name stands once in a table, but {where} has {twice[1]!r} twice (read as {name!r}). "
                "Rename one of them at the source."
            )
    return column_names.bound(params.columns, row, where, params.ask, unread=("split",), rows=[row])


def _stream(params: Params, source: str):
    return hub.stream(_shown(params), source, config=params.config, revision=params.revision)


def _shown(params: Params) -> str:
    """The hub's id, or the folder as seen from here."""
    folder = paths.resolve(params.path)
    return os.path.relpath(folder) if folder.is_dir() else params.path


def _key(params: Params, content, at: tuple[str, int, int]) -> Key:
    found = _content(params, content)
    if isinstance(found, Path):
        return Key(os.path.relpath(found, paths.resolve(params.path)), at)
    return Key(hashlib.sha256(found).hexdigest()[:16], at)


def _content(params: Params, content) -> bytes | Path:
    """An image's bytes, or its file, which lies in the data set's folder or where the hub's files are kept."""
    from datasets import config
    from huggingface_hub import constants

    if isinstance(content, (bytes, str)):
        content = {"bytes" if isinstance(content, bytes) else "path": content}
    if not isinstance(content, Mapping):
        raise RowError("no image", f"An image is its bytes or its path, got {type(content).__name__}. Mend `columns`.")
    if content.get("bytes"):
        return content["bytes"]
    name, folder = content.get("path") or "", paths.resolve(params.path)
    roots = (folder,) if folder.is_dir() else (Path(config.HF_DATASETS_CACHE), Path(constants.HF_HUB_CACHE))
    for root in roots:
        if Path(name).is_absolute() and Path(name).is_relative_to(root.resolve()):
            name = os.path.relpath(name, root.resolve())  # `datasets` makes absolute paths of a folder's own files
        if name and not Path(name).is_absolute() and (root / name).is_file():
            return files.below(root, name)
    where = _shown(params)
    if Path(name).is_absolute() or "://" in name:
        raise RowError("absolute path", f"An image lies in {where}, but a row names {name!r}. Use relative paths.")
    raise RowError("missing", f"A row names the image {name!r}, but {where} has none. Copy it there.")
