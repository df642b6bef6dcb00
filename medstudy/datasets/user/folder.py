"""The user's own data: a folder of images with a table, or a table alone (docs/how-to/your-data.md).

Forms: a table of image, question and answer; rows of ms-swift; conversations of LLaVA. Files that are not plain
pictures (DICOM, TIFF, NIfTI, slides) are read as `reading` states and kept as PNGs, without their headers.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

from pydantic import model_validator

from medstudy import paths
from medstudy.data.example import SPLITS, Example
from medstudy.data.readers import conversations, files, image_marks
from medstudy.data.readers.cells import RowError, value
from medstudy.datasets.user import column_names, columns, examples, row_questions, tables
from medstudy.datasets.user.column_names import FoundColumns
from medstudy.datasets.user.columns import Columns
from medstudy.datasets.user.params import UserData
from medstudy.datasets.user.row_questions import RowQuestion
from medstudy.datasets.user.rows import Fault, Survey
from medstudy.datasets.user.rows import survey as surveyed
from medstudy.errors import DataError

VERSION = "2"
CORRECT = "Correct it; a relative path is relative to the folder of the params file."
NAME_MAX, PATH_MAX = 255, 1024  # bytes of a file's name, characters of a path
SHOWN = 80  # characters of a cell in an error or a report
TURNS = {"image": "images", "question": "question", "answer": "answer"}  # columns made of a conversation's turns


class Params(UserData):
    """See `UserData`. path: a folder or a table; a relative path is relative to the params file's folder.

    form: auto goes by the keys of the first row: `conversations` is llava, `messages` or `query` swift, else a table.
    images: the folder that contains all images; None is the table's own.
    strip: prefix to remove from image paths, such as the folder in which absolute paths were written.
    split: by the table's column `split`; by files or folders named train, val and test; or by shares of the groups,
    drawn by `seed`. auto: files if there are any, else the column if there is one, else shares.
    """

    name: Literal["local"] = "local"
    form: Literal["auto", "table", "swift", "llava"] = "auto"
    images: str | None = None
    strip: str = ""
    split: Literal["auto", "column", "files", "shares"] = "auto"

    @model_validator(mode="after")
    def _no_revision(self) -> Params:
        if self.revision is not None:
            raise ValueError("a folder has no revision: leave it out")
        return self


def load(params: Params, split: str) -> Iterator[Example]:
    """The examples of one split, one image at a time. Raises DataError; see `UserData.on_unreadable`."""
    return examples.load(params, survey(params), split, opener(params))


def version(params: Params) -> str:
    """Changes with the content of the tables, and with the name, size or modification time of any image they name."""
    return f"{VERSION}-{_hash(params.model_dump_json(), tuple(_state(file) for _, file in _tables(params)))}"


def survey(params: Params) -> Survey:
    """What all rows state, without decoding an image. Raises DataError if no table can be found or read."""
    result = Survey()
    stated_by = "the names of files or folders" if _split_by_files(_tables(params)) else "the column of the split"
    return surveyed(params, _rows(params, result), result, _image_id, stated_by)


def opener(params: Params) -> examples.Opener:
    """Reads an image of an entry; see `examples.encoded`."""
    return lambda file, reading: examples.encoded(Path(*file), file[1], reading)


def _rows(params: Params, result: Survey) -> Iterator[RowQuestion]:
    """The question of every usable row; its images as (folder, name) of existing files. Others are faults."""
    number = 0
    found_tables = _tables(params)
    for split, file in found_tables:
        rows = list(tables.rows(_relative(file)))
        if not rows:
            raise DataError(f"A table needs rows, but {_relative(file)} has none. Add some.")
        # the form, the columns of each role, and where images are
        form = params.form if params.form != "auto" else conversations.form_of(rows[0][1])
        names = dict.fromkeys(name for _, row in rows for name in row if name is not None)
        contents = [row for _, row in rows]
        roles = _find_columns(params, form, names, _relative(file), _split_by_files(found_tables), contents)
        root, base = _roots(params, file)
        inside = root.relative_to(base).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        result.note_columns(f"{prefix}{file.name}", roles)
        # each row, or each turn of a conversation, with its images found below `root`
        located: dict[str, str] = {}
        for where, row in rows:
            where = f"{prefix}{where}"
            try:
                roles.check(row)
                for turn, marks in _turns(row, form, roles.columns):
                    asked = row_questions.read(turn, where, number, roles.columns, params)
                    number += 1
                    places = (_located(_relative(root), name, params.strip, located) for name in asked.images)
                    joined = (posixpath.normpath(posixpath.join(inside, place)) for place in places)
                    images = tuple((str(_relative(base)), path) for path in joined)
                    result.note_marks(marks)
                    yield replace(asked, images=images, split=split or asked.split)
            except DataError as error:
                result.faults.append(Fault.of(error, where, split or "", _mentioned_images(row, roles.columns)))


def _roots(params: Params, file: Path) -> tuple[Path, Path]:
    """The folder of a table's images, and the folder to which their ids are relative. Raises DataError."""
    if params.images is None:
        top = paths.resolve(params.path)
        return file.parent, file.parent if file == top else top
    root = paths.resolve(params.images)
    if not root.is_dir():
        raise DataError(f"`images` must be a folder, but there is none at {params.images}. {CORRECT}")
    return root, root


def _find_columns(params: Params, form: str, names: Mapping, where: Path, split_by_files: bool,
                  rows: Sequence[Mapping]) -> FoundColumns:
    """The columns of a table by role; for conversations, those that their turns become."""
    stated = params.columns
    usual: tuple[str, ...] = ()
    if form != "table":
        if stated.model_fields_set & {"image", "images", "question", "answer", "options"}:
            raise DataError(f"{form} rows have fixed names for images and texts, so remove these from `columns`.")
        usual = conversations.KEYS[form]
        column_names.refuse_misspelt(names, usual, str(where), stated)
        names = [*names, *TURNS.values()]
        stated = stated.model_copy(update=TURNS | {"image": None, "images": TURNS["image"]})
    by_column = params.split == "column" or (params.split == "auto" and not split_by_files)
    unread = () if by_column else ("split",)
    roles = column_names.find(stated, names, str(where), params.ask, unread, usual, rows)
    if params.split == "column" and not roles.columns.split:
        raise DataError(f"split: column needs a column `split`, but {where} has {', '.join(names)}. State its name.")
    return roles if by_column else replace(roles, columns=roles.columns.model_copy(update={"split": None}))


def _turns(row: dict, form: str, known: Columns) -> Iterator[tuple[dict, int]]:
    """A table's row, or one for each question of a conversation; with its number of image marks. Raises DataError."""
    if form == "table":
        if None in row:
            raise RowError("cells", f"A row must have one cell per column, but this has {row[None]}. Quote its commas.")
        yield row, image_marks.count(value(row, known.question))
        return
    turns = conversations.turns(row, form)
    marks = iter(image_marks.count(question) for question in conversations.questions(row, form))
    for images, question, answer in turns:
        yield row | {"images": list(images), "question": question, "answer": answer}, next(marks, 0)


# --- Tables of a folder


def _tables(params: Params) -> list[tuple[str | None, Path]]:
    """(split or None, file) of every table. Raises DataError naming what there is instead."""
    path = paths.resolve(params.path)
    if path.is_file():
        return [(None, path)]
    if not path.is_dir():
        raise DataError(f"`path` must be a folder or a table, but there is none at {params.path}. {CORRECT}")
    by_split = _tables_by_split(path)
    if by_split and params.split in ("auto", "files"):
        return by_split
    if params.split == "files":
        raise DataError(f"split: files needs train, val or test.* in {params.path}, but there are {_listed(path)}.")
    if by_split:
        return [(None, file) for _, file in by_split]
    candidates = [file for file in sorted(path.iterdir()) if file.suffix in tables.SUFFIXES]
    chosen = [file for file in candidates if file.stem == "metadata"] or candidates
    if len(chosen) != 1:
        raise DataError(
            f"A folder must have one table (or metadata.*, or one each for train, val and test), a file of "
            f"{', '.join(tables.SUFFIXES)}, but {params.path} has {_listed(path)}. Add one, or give the table itself."
        )
    return [(None, chosen[0])]


def _split_by_files(found_tables: list[tuple[str | None, Path]]) -> bool:
    return any(split for split, _ in found_tables)


def _tables_by_split(path: Path) -> list[tuple[str, Path]]:
    """train.*, val.*, test.* in a folder, or metadata.* in folders with these names."""
    found = []
    for entry in sorted(path.iterdir()):
        split = columns.SPLITS.get((entry.name if entry.is_dir() else entry.stem).lower())
        inside = sorted(entry.glob("metadata.*")) if entry.is_dir() else [entry]
        found += [(split, file) for file in inside if split and file.suffix in tables.SUFFIXES]
    splits = [split for split, _ in found]
    if repeated := {split for split in splits if splits.count(split) > 1}:
        clash = [file.relative_to(path).as_posix() for split, file in found if split in repeated]
        raise DataError(f"A split must have one table, but {', '.join(clash)} belong to the same. Keep one of them.")
    return sorted(found, key=lambda pair: SPLITS.index(pair[0]))


def _listed(path: Path) -> str:
    names = [entry.name for entry in sorted(path.iterdir()) if entry.is_dir() or entry.suffix in tables.SUFFIXES]
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "") or "neither tables nor folders"


# --- Images of a row


def _located(root: Path, name: Any, strip: str, located: dict[str, str]) -> str:
    """The path of a row's image below `root`, remembered in `located`. Raises RowError."""
    if not isinstance(name, str):
        raise RowError("not a path", "A row must name an image by its path; for images in a table, use `name: hub`.")
    if len(name) > PATH_MAX or any(len(os.fsencode(part)) > NAME_MAX for part in PurePosixPath(name).parts):
        raise RowError(
            "not a path",
            f"A row must name an image by its path, but this cell has {len(name):,} characters, like an image in "
            f"base64: {name[:SHOWN]!r}…. Write each image to a file, and its path into the table.",
        )
    if name not in located:
        stripped = name.removeprefix(strip).lstrip("/") if strip and name.startswith(strip) else name
        located[name] = _existing(root, stripped)
    return located[name]


def _existing(root: Path, name: str) -> str:
    """The spelling of a path below `root` under which the file exists. Raises RowError."""
    if Path(name).is_absolute() or PureWindowsPath(name).drive or name.startswith("\\") or "://" in name:
        raise RowError(
            "absolute path",
            f"An image must be named by its path from {root}, but a row has {name!r}. Write the part after the folder, "
            f"or state what comes before it as `strip`.",
        )
    for spelling in _spellings(name):
        if (root / spelling).is_file():
            try:
                files.below(root, spelling)
            except DataError as error:
                raise RowError("outside the folder", str(error)) from error
            return spelling
    if (root / name).is_symlink():
        raise RowError("missing", f"{name!r} in {root} is a symbolic link to a file that is not there. Copy it there.")
    if ".." in Path(name).parts:
        raise RowError("outside the folder", f"An image must be below {root}, but a row has {name!r}. Copy it there.")
    raise RowError("missing", f"A row names the image {name!r}, which is not in {root}. Copy it there, or fix the row.")


def _spellings(name: str) -> Iterator[str]:
    """A name as written, with / for Windows' separators, and with accents composed or apart, as on macOS."""
    for separated in (name, name.replace("\\", "/")):
        yield separated
        yield unicodedata.normalize("NFC", separated)
        yield unicodedata.normalize("NFD", separated)


def _mentioned_images(row: Mapping, known: Columns) -> str:
    """The images that a faulty row names, as far as can be known."""
    content = next((row[name] for name in (known.images, known.image, "images", "image") if row.get(name)), "")
    return ", ".join(str(image)[:SHOWN] for image in (content if isinstance(content, list) else [content]))


def _image_id(images: tuple) -> str:
    return "+".join(Path(name).as_posix() for _, name in images)


def _relative(file: Path) -> Path:
    """A path relative to here, so that messages show no private folders."""
    return Path(os.path.relpath(file))


def _state(file: Path) -> tuple[str, int, int]:
    about = file.stat()
    return file.as_posix(), about.st_size, about.st_mtime_ns


@cache
def _hash(params: str, found_tables: tuple) -> str:
    """A hash of the tables' content and the state of their images; cached as long as the tables are unchanged."""
    digest = hashlib.sha256()
    for file, _, _ in found_tables:
        digest.update(hashlib.sha256(Path(file).read_bytes()).digest())
    entries = survey(Params.model_validate_json(params)).entries
    for root, name in sorted({image for entry in entries for image in entry.images}):
        _, size, changed = _state(Path(root, name))
        digest.update(json.dumps([name, size, changed]).encode())
    return digest.hexdigest()[:16]
