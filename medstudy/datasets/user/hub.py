"""Any data set that `datasets` loads, by a hub id or a folder; the params state which of its columns has which role.

Images are read twice: first to find the rows about the same image, then when they are used. None is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from medstudy import paths
from medstudy.data.encoded_image import Picture
from medstudy.data.example import SPLITS, Example
from medstudy.data.readers import files, image_marks
from medstudy.data.readers import hub as repository
from medstudy.data.readers.cells import RowError, value
from medstudy.datasets.user import column_names, examples, row_questions
from medstudy.datasets.user.column_names import FoundColumns
from medstudy.datasets.user.params import UserData
from medstudy.datasets.user.row_questions import RowQuestion
from medstudy.datasets.user.rows import Fault, Survey
from medstudy.datasets.user.rows import survey as surveyed
from medstudy.errors import DataError
from medstudy.imaging.read_options import ReadOptions

if TYPE_CHECKING:
    from datasets import IterableDataset

VERSION = "2"
RENAMED = re.compile(r"(.+)\.\d+$")  # how pandas renames the second of two columns with one name


class Splits(BaseModel):
    """The source's name for each split; None: it has none. If only `train` has one, the others are drawn from it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    train: str | None = "train"
    val: str | None = None
    test: str | None = "test"


class Params(UserData):
    """See `UserData`. config: of the hub's data set. splits: see `Splits`; a column `split` is ignored.

    Classes of the hub's ClassLabel are read by name.
    """

    on_hub: ClassVar[bool] = True
    name: Literal["hub"] = "hub"
    config: str | None = None
    splits: Splits = Splits()


@dataclass(frozen=True)
class Key:
    """An image by the hash of its bytes or by its path. at: where it first occurred: split, row, place in the row."""

    name: str
    at: tuple[str, int, int] = field(compare=False)


def load(params: Params, split: str) -> Iterator[Example]:
    """The examples of one split, one image at a time. Raises DataError; see `UserData.on_unreadable`."""
    return examples.load(params, survey(params), split, opener(params))


def version(params: Params) -> str:
    """Changes with the name, size or modification time of any file, if the source is a folder."""
    folder = paths.resolve(params.path)
    found = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []
    about = [(file.relative_to(folder).as_posix(), file.stat().st_size, file.stat().st_mtime_ns) for file in found]
    return f"{VERSION}-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]}" if found else VERSION


def survey(params: Params) -> Survey:
    """What all rows state, without decoding an image. Raises DataError if a split cannot be loaded."""
    result, stated_by = Survey(), "the source's own splits"
    return surveyed(params, _rows(params, result), result, lambda keys: "+".join(key.name for key in keys), stated_by)


def opener(params: Params) -> examples.Opener:
    """Reads an image of an entry again; cheap if entries come in the order of the source."""
    held: dict[str, Any] = {"source": None, "row": -1}

    def picture(key: Key, reading: ReadOptions) -> Picture:
        source, number, place = key.at
        if held["source"] != source or held["row"] > number:  # start the split's stream
            held.update(source=source, row=-1, rows=repository.each(_stream(params, source), source), known=None)
        while held["row"] < number:
            held.update(row=held["row"] + 1, content=next(held["rows"]))
        held["known"] = held["known"] or _find_columns(params, held["content"], source).columns
        images = row_questions.images(held["content"], held["known"])
        return examples.encoded(_content(params, images[place]), key.name, reading)

    return picture


def _rows(params: Params, result: Survey) -> Iterator[RowQuestion]:
    """The question of every usable row; its images as keys. Others are faults of `result`."""
    number = 0
    sources = {split: name for split in SPLITS if (name := getattr(params.splits, split))}
    for split, source in sources.items():
        stated = split if len(sources) > 1 or split == "test" else None
        rows = _stream(params, source)
        labels = {name: kind.int2str for name, kind in (rows.features or {}).items() if hasattr(kind, "int2str")}
        roles = None
        for index, row in enumerate(repository.each(rows, f"{_shown(params)} {source}")):
            where = f"{source} row {index + 1}"
            if roles is None:
                roles = _find_columns(params, row, source)
                result.note_columns(source, roles)
            # class labels by name, except -1, with which `datasets` marks a row without a label
            codes = {name: row[name] for name in labels if isinstance(row[name], int)}
            named = {name: None if code == -1 else labels[name](code) for name, code in codes.items()}
            try:
                roles.check(row)
                asked = row_questions.read(row | named, where, number, roles.columns, params)
                keys = (_key(params, image, (source, index, place)) for place, image in enumerate(asked.images))
                result.note_marks(image_marks.count(value(row, roles.columns.question)))
                yield replace(asked, images=tuple(keys), split=stated)
            except DataError as error:
                result.faults.append(Fault.of(error, where, stated or ""))
            number += 1


def _find_columns(params: Params, row: Mapping, source: str) -> FoundColumns:
    """The columns of a split. Raises DataError, also for one that was renamed because its name is repeated."""
    where = f"{_shown(params)} {source}"
    for name in row:
        if (match := RENAMED.match(name)) and match[1] in row:
            raise DataError(
                f"A column's name must be unique, but {where} has {match[1]!r} twice (read as {name!r}). Rename one of "
                "them at the source."
            )
    return column_names.find(params.columns, row, where, params.ask, unread=("split",), rows=[row])


def _stream(params: Params, source: str) -> IterableDataset:
    return repository.stream(_shown(params), source, config=params.config, revision=params.revision)


def _shown(params: Params) -> str:
    """The hub's id, or the folder relative to here."""
    folder = paths.resolve(params.path)
    return os.path.relpath(folder) if folder.is_dir() else params.path


def _key(params: Params, image: Any, at: tuple[str, int, int]) -> Key:
    content = _content(params, image)
    if isinstance(content, Path):
        return Key(os.path.relpath(content, paths.resolve(params.path)), at)
    return Key(hashlib.sha256(content).hexdigest()[:16], at)


def _content(params: Params, image: Any) -> bytes | Path:
    """An image's bytes, or its file, which must be in the data set's folder or in the hub's caches. Raises RowError."""
    from datasets import config
    from huggingface_hub import constants

    if isinstance(image, (bytes, str)):
        image = {"bytes" if isinstance(image, bytes) else "path": image}
    if not isinstance(image, Mapping):
        raise RowError("no image", f"An image must be bytes or a path, got {type(image).__name__}. Correct `columns`.")
    if image.get("bytes"):
        return image["bytes"]
    name, folder = image.get("path") or "", paths.resolve(params.path)
    roots = (folder,) if folder.is_dir() else (Path(config.HF_DATASETS_CACHE), Path(constants.HF_HUB_CACHE))
    for root in roots:
        if Path(name).is_absolute() and Path(name).is_relative_to(root.resolve()):
            name = os.path.relpath(name, root.resolve())  # `datasets` makes paths of a folder's own files absolute
        if name and not Path(name).is_absolute() and (root / name).is_file():
            return files.below(root, name)
    where = _shown(params)
    if Path(name).is_absolute() or "://" in name:
        raise RowError("absolute path", f"An image must be in {where}, but a row names {name!r}. Use relative paths.")
    raise RowError("missing", f"A row names the image {name!r}, which is not in {where}. Copy it there.")
